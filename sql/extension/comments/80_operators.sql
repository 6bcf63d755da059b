-- (operators)

COMMENT ON OPERATOR = (tensor, tensor) IS 'Returns whether dtype, shape and bits are equal: NaN equals the same NaN, 0 differs from -0.';
COMMENT ON OPERATOR <> (tensor, tensor) IS 'Returns whether dtype, shape or bits differ.';
COMMENT ON OPERATOR < (tensor, tensor) IS 'Returns whether the left tensor sorts before the right one: by dtype, number of dimensions, dimensions, then elements in row-major order, floats in the total order of IEEE 754.';
COMMENT ON OPERATOR <= (tensor, tensor) IS 'Returns whether the left tensor sorts before the right one or is equal.';
COMMENT ON OPERATOR > (tensor, tensor) IS 'Returns whether the left tensor sorts after the right one.';
COMMENT ON OPERATOR >= (tensor, tensor) IS 'Returns whether the left tensor sorts after the right one or is equal.';
COMMENT ON OPERATOR CLASS tensor_ops USING btree IS 'Sort order of tensors, for ORDER BY, DISTINCT, merge joins and indexes on small values.';
COMMENT ON OPERATOR FAMILY tensor_ops USING btree IS 'Sort order of tensors.';
COMMENT ON OPERATOR CLASS tensor_hash_ops USING hash IS 'Hashes tensors by dtype, shape and bits, for hash indexes, joins and GROUP BY.';
COMMENT ON OPERATOR FAMILY tensor_hash_ops USING hash IS 'Hashes tensors by dtype, shape and bits.';
