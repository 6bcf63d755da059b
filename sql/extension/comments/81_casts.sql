-- (casts)

COMMENT ON CAST (tensor AS tensor) IS 'Enforces the type modifier, such as tensor(f32,768), on assignment. Raises 22000 if dtype or shape differs.';
COMMENT ON CAST (real[] AS tensor) IS 'Returns an f32 tensor with the dimensions of the array; the empty array gives shape (0). Raises 22004 for an array with a NULL.';
COMMENT ON CAST (double precision[] AS tensor) IS 'Returns an f64 tensor with the dimensions of the array. Raises 22004 for an array with a NULL.';
COMMENT ON CAST (numeric[] AS tensor) IS 'Returns a tensor with the dimensions of the array, of the dtype in the type modifier, or f64; each number is rounded once, for an integer dtype toward zero. Raises 22004 for an array with a NULL, 22003 for a number out of range of an integer dtype.';
COMMENT ON CAST (smallint[] AS tensor) IS 'Returns an i16 tensor with the dimensions of the array. Raises 22004 for an array with a NULL.';
COMMENT ON CAST (integer[] AS tensor) IS 'Returns an i32 tensor with the dimensions of the array. Raises 22004 for an array with a NULL.';
COMMENT ON CAST (bigint[] AS tensor) IS 'Returns an i64 tensor with the dimensions of the array. Raises 22004 for an array with a NULL.';
COMMENT ON CAST (jsonb AS tensor) IS 'Converts nested lists of numbers to f32, or an object with "dtype", "shape" and "data". Raises 22P02 for anything else.';
COMMENT ON CAST (bytea AS tensor) IS 'Reads the binary form with its header, as produced by the cast to bytea. Raises 22P03 if it is invalid.';
COMMENT ON CAST (tensor AS real[]) IS 'Returns the elements as real, converted as by astype. Raises 54000 above 6 dimensions.';
COMMENT ON CAST (tensor AS double precision[]) IS 'Returns the elements as double precision, converted as by astype. Raises 54000 above 6 dimensions.';
COMMENT ON CAST (tensor AS smallint[]) IS 'Returns the elements as smallint, converted as by astype. Raises 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS integer[]) IS 'Returns the elements as integer, converted as by astype. Raises 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS bigint[]) IS 'Returns the elements as bigint, converted as by astype. Raises 54000 above 6 dimensions, 22003 for a number out of range.';
COMMENT ON CAST (tensor AS jsonb) IS 'Returns an object with "dtype", "shape" and "data"; values that JSON numbers cannot express, such as NaN, are strings.';
COMMENT ON CAST (tensor AS bytea) IS 'Returns the binary form with its header, see docs/formats.md; tobytes returns only the elements.';
COMMENT ON CAST (uuid AS regmodel) IS 'The same value.';
COMMENT ON CAST (regmodel AS uuid) IS 'The same value.';
COMMENT ON CAST (text AS regmodel) IS 'Finds a model by its text, as to_regmodel does.';
COMMENT ON CAST (varchar AS regmodel) IS 'Finds a model by its text, as to_regmodel does.';
COMMENT ON CAST (uuid AS regcheckpoint) IS 'The same value.';
COMMENT ON CAST (regcheckpoint AS uuid) IS 'The same value.';
COMMENT ON CAST (text AS regcheckpoint) IS 'Finds a checkpoint by its text, as to_regcheckpoint does.';
COMMENT ON CAST (varchar AS regcheckpoint) IS 'Finds a checkpoint by its text, as to_regcheckpoint does.';
