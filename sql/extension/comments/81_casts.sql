-- (casts)

COMMENT ON CAST (tensor AS tensor) IS 'Enforces the type modifier, such as tensor(f32,768), on assignment. 22000 when dtype or shape is another.';
COMMENT ON CAST (real[] AS tensor) IS 'An f32 tensor with the dimensions of the array; the empty array is of shape (0). 22004 for an array with a NULL.';
COMMENT ON CAST (double precision[] AS tensor) IS 'An f64 tensor with the dimensions of the array. 22004 for an array with a NULL.';
COMMENT ON CAST (numeric[] AS tensor) IS 'A tensor with the dimensions of the array, of the dtype that the type modifier names, or f64; each number is rounded once. 22004 for an array with a NULL, 22003 for a number that an integer dtype does not have.';
COMMENT ON CAST (integer[] AS tensor) IS 'An i32 tensor with the dimensions of the array. 22004 for an array with a NULL.';
COMMENT ON CAST (bigint[] AS tensor) IS 'An i64 tensor with the dimensions of the array. 22004 for an array with a NULL.';
COMMENT ON CAST (jsonb AS tensor) IS 'Nested lists of numbers as f32, or an object with "dtype", "shape" and "data". 22P02 for anything else.';
COMMENT ON CAST (bytea AS tensor) IS 'The binary form with its header, as the cast to bytea gives it. 22P03 when it is not one.';
COMMENT ON CAST (tensor AS real[]) IS 'The elements as real, converted as by astype. 54000 above 6 dimensions.';
COMMENT ON CAST (tensor AS double precision[]) IS 'The elements as double precision, converted as by astype. 54000 above 6 dimensions.';
COMMENT ON CAST (tensor AS integer[]) IS 'The elements as integer, converted as by astype. 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS bigint[]) IS 'The elements as bigint, converted as by astype. 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS jsonb) IS 'An object with "dtype", "shape" and "data"; what JSON numbers cannot say, such as NaN, is a string.';
COMMENT ON CAST (tensor AS bytea) IS 'The binary form with its header, as in docs/formats.md; tobytes gives the elements alone.';
