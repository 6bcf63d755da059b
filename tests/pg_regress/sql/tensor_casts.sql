-- Casts between tensor and arrays, bytea, jsonb.
SET search_path TO public, modelstore;
SET bytea_output TO hex;
SELECT format_type(castsource, NULL) AS source, format_type(casttarget, NULL) AS target, castcontext
FROM pg_cast WHERE 'tensor'::regtype IN (castsource, casttarget) ORDER BY 1, 2;

-- arrays
SELECT ARRAY[1.5, -2]::real[]::tensor, ARRAY[[1,2],[3,4]]::double precision[]::tensor, ARRAY[1,2]::tensor, ARRAY[1,2]::bigint[]::tensor;
SELECT '{}'::real[]::tensor, '{NaN,-Infinity,-0}'::real[]::tensor;
SELECT '[2:3][0:1]={{1,2},{3,4}}'::integer[]::tensor;
SELECT '[[1.5,2],[3,-0]]'::tensor::real[], '[1.5]'::tensor::double precision[], '[1.9,-1.9]'::tensor::integer[], 'u8:[255]'::tensor::bigint[];
SELECT '7'::tensor::real[], 'f32(0,3):[]'::tensor::real[], 'q8_0(32):\x003c0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20'::tensor::integer[];
SELECT '{1,NULL}'::real[]::tensor;
SELECT '{{NULL}}'::bigint[]::tensor;
SELECT '[[[[[[[1]]]]]]]'::tensor::real[];
SELECT '[1,3e9]'::tensor::integer[];
SELECT '[nan]'::tensor::bigint[];
SELECT 'u64:[9223372036854775808]'::tensor::bigint[];
SELECT 'c64(1):\x0000000000000000'::tensor::real[];
-- on assignment only, so no function call becomes ambiguous
CREATE TABLE t (v tensor);
INSERT INTO t VALUES (ARRAY[1,2]::real[]), (ARRAY[[1]]::bigint[]);
SELECT v FROM t;
SELECT norm(ARRAY[1,2]::real[]);
INSERT INTO t VALUES ('\x01'::bytea);
INSERT INTO t VALUES ('[1]'::jsonb);

-- bytea: the binary form
SELECT 'i16:[[1,-2]]'::tensor::bytea;
SELECT '\x01080200010000000000000002000000000000000100feff'::bytea::tensor;
SELECT '\x0106020001000000000000000200000000000000'::bytea::tensor;
SELECT '\x010602000100000000000000020000000000000001'::bytea::tensor;
SELECT '\x0105020001000000000000000200000000000000010002000300'::bytea::tensor;
SELECT '\x'::bytea::tensor;
SELECT '\x010e'::bytea::tensor;
SELECT '\x010e0100'::bytea::tensor;
SELECT '\x020e0000'::bytea::tensor;
SELECT '\x01000000'::bytea::tensor;
SELECT '\x010e2100'::bytea::tensor;
SELECT '\x010e0080'::bytea::tensor;
SELECT '\x010e0100ffffffffffffffff'::bytea::tensor;
SELECT '\x010e0100ffffffffffffff7f'::bytea::tensor;

-- jsonb
SELECT '[[1,2],[3,4.5]]'::tensor::jsonb, 'i8:5'::tensor::jsonb, 'f32(0,3):[]'::tensor::jsonb, 'bool:[t,f]'::tensor::jsonb;
SELECT '[NaN,nan(0x7fc00001),Infinity,-Infinity]'::tensor::jsonb, 'f4(2):\x12'::tensor::jsonb;
SELECT '[[1,2],[3,4.5]]'::jsonb::tensor, '[]'::jsonb::tensor, '{"dtype":"f64","shape":[],"data":0.1}'::jsonb::tensor;
SELECT '{"dtype":"i8","shape":[0,2],"data":[]}'::jsonb::tensor, '{"data":"\\x12","shape":[2],"dtype":"f4"}'::jsonb::tensor;
SELECT '{"dtype":"f32","shape":[2],"data":["NaN","-Infinity"]}'::jsonb::tensor;
SELECT 'null'::jsonb::tensor;
SELECT '1'::jsonb::tensor;
SELECT '"[1]"'::jsonb::tensor;
SELECT '[1,null]'::jsonb::tensor;
SELECT '[[1],[2,3]]'::jsonb::tensor;
SELECT '{"dtype":"f32"}'::jsonb::tensor;
SELECT '{"dtype":32,"shape":[1],"data":[1]}'::jsonb::tensor;
SELECT '{"dtype":"f33","shape":[1],"data":[1]}'::jsonb::tensor;
SELECT '{"dtype":"f32","shape":[2],"data":[1]}'::jsonb::tensor;
SELECT '{"dtype":"f32","shape":null,"data":[1]}'::jsonb::tensor;
SELECT '{"dtype":"i8","shape":[1],"data":[1.5]}'::jsonb::tensor;
