-- (types)

COMMENT ON TYPE tensor IS 'A tensor as one value: dtype, shape of rank 0 to 32, elements in row-major order, at most 512 MB. Text form: bf16:[[1,2],[3,4]]; the default dtype is f32. Type modifier: an optional dtype, then dimensions, where ''*'' or -1 means any: tensor(f32,''*'',768).';
COMMENT ON TYPE tensor_chunk IS 'One encoded chunk of a stored tensor: codec, element width, raw length, payload. The text form is \x and hexadecimal digits; the binary form is the stored one.';
COMMENT ON TYPE atom IS 'The key of an atom as one value: (h_xy, h_yz, h_zm). A row of three bigints is converted where a function expects an atom.';
