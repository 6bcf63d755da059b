-- Type modifiers of tensor.
SET search_path TO public, modelstore;
CREATE TABLE t (
    any_one tensor, dtype tensor(bf16), rank1 tensor(3), rank2 tensor('*', 2), minus tensor(f32, -1, 768), scalarless tensor(i64, '*'),
    zero tensor(0, 5), many tensor(f16, '*', '*', '*', '*'), large tensor(30522), matrix tensor(f32, 1024, 4096), array_of tensor(f32, 2)[]
);
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum;
CREATE TABLE like_t (LIKE t);
SELECT count(*) FROM pg_attribute a JOIN pg_attribute b USING (attname, atttypmod)
WHERE a.attrelid = 't'::regclass AND b.attrelid = 'like_t'::regclass AND a.attnum > 0;

-- words that are none
SELECT '1'::tensor(f33);
SELECT '1'::tensor(-2);
SELECT '1'::tensor('x');
SELECT '1'::tensor('');
SELECT '1'::tensor(1.5);
SELECT '1'::tensor(2, f32);
SELECT '1'::tensor(9223372036854775807);
-- more than 31 bits hold
SELECT '1'::tensor(16777215);
SELECT '1'::tensor(f32, 30522, 384);
SELECT '1'::tensor('*', '*', '*', '*', '*', '*', '*');
SELECT '1'::tensor(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1);

-- what fits
INSERT INTO t (any_one, dtype, rank1, rank2, scalarless, zero, many, array_of)
VALUES ('1', 'bf16:[[1]]', '[1,2,3]', '[[1,2]]', 'i64:[]', 'f32(0,5):[]', 'f16:[[[[1]]]]', ARRAY['[1,2]', '[3,4]']::tensor[]);
UPDATE t SET rank2 = 'f16:[[1,2],[3,4],[5,6]]', rank1 = reshape('i8:[[1],[2],[3]]', '{3}'), array_of[2] = '[5,6]';
SELECT dtype, rank1, rank2, zero, many, array_of FROM t;
-- what does not
INSERT INTO t (dtype) VALUES ('[1]');
INSERT INTO t (rank1) VALUES ('[1,2]');
INSERT INTO t (rank1) VALUES ('[[1,2,3]]');
INSERT INTO t (rank2) SELECT slice('[[1,2,3]]', ':');
INSERT INTO t (scalarless) VALUES ('i64:5');
INSERT INTO t (zero) VALUES ('[]');
INSERT INTO t (array_of) VALUES (ARRAY['[1,2]', '[1]']::tensor[]);
UPDATE t SET dtype = astype(dtype, 'f16');
UPDATE t SET array_of[1] = 'f64:[1,2]';
ALTER TABLE t ALTER rank2 TYPE tensor(f32, '*', 2);
ALTER TABLE t ALTER any_one TYPE tensor(f32, 1);
SELECT astype('[1,2]', 'f64')::tensor(f32, 2);
COPY t (rank1) FROM STDIN;
[1,2,3]
[1,2,3,4]
\.
-- types that follow from it
CREATE DOMAIN vector3 AS tensor(f32, 3) CHECK (norm(VALUE) > 0);
SELECT '[1,2,3]'::vector3;
SELECT '[1,2]'::vector3;
SELECT '[0,0,0]'::vector3;
CREATE FUNCTION first_row(m tensor(f32, '*', 2)) RETURNS tensor(f32, 2) LANGUAGE sql AS $$ SELECT slice(m, '0') $$;
SELECT first_row('[[1,2],[3,4]]');
