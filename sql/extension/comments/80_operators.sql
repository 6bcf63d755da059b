-- (operators)

COMMENT ON OPERATOR = (tensor, tensor) IS 'Equal in dtype, shape and bits: NaN equals the same NaN, 0 differs from -0.';
COMMENT ON OPERATOR <> (tensor, tensor) IS 'Different in dtype, shape or bits.';
COMMENT ON OPERATOR < (tensor, tensor) IS 'Comes first by dtype, number of dimensions, dimensions, then elements in row-major order; floats in the total order of IEEE 754.';
COMMENT ON OPERATOR <= (tensor, tensor) IS 'Comes first, or is equal.';
COMMENT ON OPERATOR > (tensor, tensor) IS 'Comes later.';
COMMENT ON OPERATOR >= (tensor, tensor) IS 'Comes later, or is equal.';
COMMENT ON OPERATOR CLASS tensor_ops USING btree IS 'The order of tensors, for ORDER BY, DISTINCT, merge joins and indexes of small values.';
COMMENT ON OPERATOR FAMILY tensor_ops USING btree IS 'The order of tensors.';
COMMENT ON OPERATOR CLASS tensor_hash_ops USING hash IS 'Hashing of tensors by dtype, shape and bits, for hash indexes, joins and GROUP BY.';
COMMENT ON OPERATOR FAMILY tensor_hash_ops USING hash IS 'Hashing of tensors by dtype, shape and bits.';
