-- (types)

COMMENT ON TYPE tensor IS 'One tensor in one value: dtype, shape of rank 0 to 32, elements in row-major order, at most 512 MB. Text: bf16:[[1,2],[3,4]]; without a dtype in front, f32. Type modifier: an optional dtype, then dimensions, of which ''*'' or -1 is any: tensor(f32,''*'',768).';
COMMENT ON TYPE tensor_chunk IS 'One encoded piece of a stored tensor: codec, element width, raw length, payload. Text is \x and hexadecimal digits; binary is the stored form.';
COMMENT ON TYPE atom IS 'The key of an atom as one value: (h_xy, h_yz, h_zm). A row of three bigints becomes one where a function asks for it.';
