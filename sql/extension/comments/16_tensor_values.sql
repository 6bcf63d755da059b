-- Tensor values

COMMENT ON FUNCTION dtype(tensor) IS 'Name of the element type, for example bf16. Reads only the head of the value.';
COMMENT ON FUNCTION shape(tensor) IS 'Dimensions, outermost first; empty for a scalar. Reads only the head of the value.';
COMMENT ON FUNCTION ndim(tensor) IS 'Number of dimensions. Reads only the head of the value.';
COMMENT ON FUNCTION numel(tensor) IS 'Number of elements. Reads only the head of the value.';
COMMENT ON FUNCTION nbytes(tensor) IS 'Bytes of the elements. Reads only the head of the value.';
COMMENT ON FUNCTION slice(tensor, text) IS 'A slice in numpy''s notation (''0:10, :'', ''..., -1'', ''::2''): negative indices count from the end, bounds of ranges are clamped. Reads from the first to the last byte it needs. 22023 for a malformed slice or a step below 1, 2202E for an index or a number of dimensions that the tensor does not have.';
COMMENT ON FUNCTION reshape(tensor, bigint[]) IS 'The same elements with other dimensions. 22000 when their product is another.';
COMMENT ON FUNCTION astype(tensor, text) IS 'The tensor in another dtype, as numpy''s astype: floats round to nearest even, quantised types are dequantised. 22003 for a number that an integer type does not have, 42846 to or from a dtype without arithmetic and to a quantised one, 42704 for an unknown dtype.';
COMMENT ON FUNCTION tobytes(tensor) IS 'The elements alone: little-endian, row-major.';
COMMENT ON FUNCTION frombuffer(bytea, text, bigint[]) IS 'A tensor of this dtype and shape from the bytes of its elements. 22000 when their number is another, 42704 for an unknown dtype.';
COMMENT ON FUNCTION norm(tensor) IS 'Euclidean norm; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION l1_norm(tensor) IS 'Sum of the magnitudes; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION linf_norm(tensor) IS 'Largest magnitude; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION sum(tensor) IS 'Sum of the elements, in double precision; 0 of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION mean(tensor) IS 'Mean of the elements; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION std(tensor) IS 'Standard deviation of the elements as a population; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION min(tensor) IS 'Smallest element; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION max(tensor) IS 'Largest element; NULL of no elements, NaN if an element is. 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION enable_pgvector() IS 'Makes the casts between tensor and pgvector''s vector (f32) and halfvec (f16) that are not there, and returns how many it made. From tensor explicit, to tensor on assignment. Error 42704 without pgvector. Casts belong to whoever owns a type, so a superuser calls it.';
