-- Tensor values

COMMENT ON FUNCTION dtype(tensor) IS 'Returns the name of the element type, for example bf16. Reads only the header of the value.';
COMMENT ON FUNCTION shape(tensor) IS 'Returns the dimensions, outermost first; empty for a scalar. Reads only the header of the value.';
COMMENT ON FUNCTION ndim(tensor) IS 'Returns the number of dimensions. Reads only the header of the value.';
COMMENT ON FUNCTION numel(tensor) IS 'Returns the number of elements. Reads only the header of the value.';
COMMENT ON FUNCTION nbytes(tensor) IS 'Returns the number of bytes of the elements. Reads only the header of the value.';
COMMENT ON FUNCTION slice(tensor, text) IS 'Returns a slice given in numpy''s notation (''0:10, :'', ''..., -1'', ''::2''): negative indices count from the end, bounds of ranges are clamped. Reads from the first to the last byte it needs. Raises 22023 for a malformed slice or a step below 1, 2202E for an index or a number of dimensions that is out of range for the tensor.';
COMMENT ON FUNCTION preview(tensor, integer, integer) IS 'Returns the elements as numpy prints an array: in columns, and of a tensor with more than max_elements elements (at most 100000) only three at each end of an axis. digits (at most 17) limits the digits after the point. It is for people to read, and is no input of a tensor. Raises 22023 for an argument out of range.';
COMMENT ON FUNCTION reshape(tensor, bigint[]) IS 'Returns the same elements with other dimensions. Raises 22000 if the product of the dimensions differs.';
COMMENT ON FUNCTION astype(tensor, text) IS 'Converts the tensor to another dtype, as numpy''s astype: floats round to nearest even, quantised types are dequantised. Raises 22003 for a number out of range of an integer type, 42846 to or from a dtype without arithmetic and to a quantised one, 42704 for an unknown dtype.';
COMMENT ON FUNCTION tobytes(tensor) IS 'Returns only the bytes of the elements: little-endian, row-major.';
COMMENT ON FUNCTION frombuffer(bytea, text, bigint[]) IS 'Returns a tensor of this dtype and shape from the bytes of its elements. Raises 22000 if the number of bytes does not match, 42704 for an unknown dtype.';
COMMENT ON FUNCTION norm(tensor) IS 'Returns the Euclidean norm; 0 for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION l1_norm(tensor) IS 'Returns the sum of the magnitudes; 0 for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION linf_norm(tensor) IS 'Returns the largest magnitude; 0 for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION sum(tensor) IS 'Returns the sum of the elements in double precision; 0 for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION mean(tensor) IS 'Returns the mean of the elements; NULL for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION std(tensor) IS 'Returns the population standard deviation of the elements; NULL for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION min(tensor) IS 'Returns the smallest element; NULL for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION max(tensor) IS 'Returns the largest element; NULL for no elements, NaN if an element is NaN. Raises 0A000 for a dtype without arithmetic.';
COMMENT ON FUNCTION enable_pgvector() IS 'Creates the missing casts between tensor and pgvector''s vector (f32) and halfvec (f16), and returns how many it created. The casts from tensor are explicit, the casts to tensor apply on assignment. Raises 42704 without pgvector. Creating a cast requires owning one of its types, so a superuser calls this function.';
