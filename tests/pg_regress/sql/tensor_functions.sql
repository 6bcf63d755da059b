-- Functions and operators of tensor values.
SET search_path TO public, modelstore;
SET bytea_output TO hex;
CREATE TABLE t (i integer PRIMARY KEY, v tensor);
INSERT INTO t VALUES (1, '[[1,2,3],[4,5,6]]'), (2, 'bf16:-2.5'), (3, 'i64(0,4):[]'), (4, 'f4(2,2):\x1234'), (5, '[NaN,1]'), (6, NULL);
SELECT i, dtype(v), shape(v), ndim(v), numel(v), nbytes(v) FROM t ORDER BY i;
SELECT i, norm(v), l1_norm(v), linf_norm(v), sum(v), mean(v), std(v), min(v), max(v) FROM t WHERE i <> 4 ORDER BY i;
SELECT norm(v) FROM t WHERE i = 4;
SELECT modelstore.sum('u8:[255,255]'), modelstore.max('i64:[9223372036854775807]'), mean('bool:[t,f,f,f]'), norm('[3,4]'), modelstore.min('[-inf,1]'),
       modelstore.sum('[inf,-inf]');

-- slices
SELECT s, slice(v, s) FROM t, unnest(ARRAY['0', '-1, -1', ':, 1', '1:', '::2', '..., 0', '5:', ':, -2:', '[1, 0:2]', '0,']) s WHERE i = 1;
SELECT slice('5', '...'), slice('f4(2,2):\x1234', '1');
SELECT slice('[1,2]', '');
SELECT slice('[1,2]', 'a');
SELECT slice('[1,2]', '1.5');
SELECT slice('[1,2]', '::-1');
SELECT slice('[1,2]', '::0');
SELECT slice('[1,2]', '0, 0');
SELECT slice('[1,2]', '2');
SELECT slice('[1,2]', '-3');
SELECT slice('[1,2]', '..., ...');
SELECT slice('[1,2]', 'None');
SELECT slice('[1,2]', '[0,1]');
SELECT slice('[1,2]', '[[0,1]]');
SELECT slice('f4(2,2):\x1234', '0, 0');
SELECT slice('5', '0');

-- other shapes, other dtypes, bytes
SELECT reshape(v, '{3,2}'), reshape(v, '{6}'), reshape(v, '{1,6,1}') FROM t WHERE i = 1;
SELECT reshape('5', '{}'), reshape('[5]', '{}'), reshape('f32(0,4):[]', '{7,0}');
SELECT reshape('[1,2]', '{3}');
SELECT reshape('[1,2]', '{-1}');
SELECT reshape('u8:[1,2]', '{4611686018427387904,4}');
SELECT astype('[1.5,2.5,-0,1e6]', 'f16'), astype('[1.9,-1.9]', 'i8'), astype('[0,0.5]', 'bool'), astype('i8:[3]', 'F64');
SELECT astype('[300]', 'i8');
SELECT astype('[nan]', 'i8');
SELECT astype('[1]', 'q4_0');
SELECT astype('[1]', 'c64');
SELECT astype('f4(2,2):\x1234', 'f32');
SELECT astype('[1]', 'int');
SELECT tobytes('i16:[1,-2]'), tobytes('f32(0):[]'), tobytes('f4(2,2):\x1234');
SELECT frombuffer('\x0000803f00000040', 'f32', '{2}'), frombuffer('\x', 'i8', '{3,0}'), frombuffer('\x0000803f', 'F32', '{}');
SELECT frombuffer('\x0000803f', 'f32', '{2}');
SELECT frombuffer('\x00', 'f33', '{1}');
SELECT frombuffer('\x00', 'i8', '{-1}');

-- equality is of dtype, shape and bits
SELECT '[1,2]'::tensor = '[1.0,2]' AS same, '[1,2]'::tensor = 'f64:[1,2]' AS dtype, '[1,2]'::tensor = '[[1,2]]' AS shape, '[0]'::tensor = '[-0]' AS zero,
       '[nan]'::tensor = '[NaN]' AS nan, '[nan]'::tensor <> '[nan(0x7fc00001)]' AS payload, '[1]'::tensor = NULL AS unknown;
SELECT count(*), v FROM (VALUES ('[1]'::tensor), ('[1.0]'), ('[2]'), (NULL), (NULL)) x (v) GROUP BY v ORDER BY v::text;
CREATE INDEX ON t USING hash (v);
CREATE INDEX ON t (v);
SELECT v FROM t ORDER BY v;
-- NULL in, NULL out
SELECT dtype(NULL), slice(NULL, '0'), slice('[1]', NULL), norm(NULL), reshape('[1]', NULL), astype('[1]', NULL), frombuffer(NULL, 'f32', '{1}');
