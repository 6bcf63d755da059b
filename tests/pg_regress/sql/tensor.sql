-- The text form of tensor: what it refuses first, then what it reads and how it prints it.
SET search_path TO public, modelstore;

-- nothing, or not enough
SELECT ''::tensor;
SELECT '   '::tensor;
SELECT '['::tensor;
SELECT '[[1,2],[3'::tensor;
SELECT '[1,'::tensor;
SELECT 'f32'::tensor;
SELECT 'f32:'::tensor;
SELECT 'f32(2'::tensor;
-- too much
SELECT '[1]]'::tensor;
SELECT '[1] [2]'::tensor;
SELECT '1 2'::tensor;
SELECT '[1,2],'::tensor;
-- brackets that make no shape
SELECT '[[1,2],[3]]'::tensor;
SELECT '[1,[2]]'::tensor;
SELECT '[[1],2]'::tensor;
SELECT '[[],[1]]'::tensor;
SELECT '[[[1],[2]],[[3]]]'::tensor;
SELECT ('[' || repeat('[', 32) || '1')::tensor;
SELECT repeat('[', 1000000)::tensor;
-- commas
SELECT '[1,,2]'::tensor;
SELECT '[,1]'::tensor;
SELECT '[1,]'::tensor;
SELECT '[1 2]'::tensor;
-- dtypes and shapes
SELECT 'float:[1]'::tensor;
SELECT 'f128:[1]'::tensor;
SELECT 'f32(3):[1,2]'::tensor;
SELECT 'f32(2,1):[1,2]'::tensor;
SELECT 'f32(-1):[]'::tensor;
SELECT 'f32(1.5):[]'::tensor;
SELECT 'f32(a):[1]'::tensor;
SELECT 'f32(99999999999999999999):[]'::tensor;
SELECT 'u8(9223372036854775808,0):[]'::tensor;
SELECT 'u8(4294967296,4294967296):[]'::tensor;
SELECT 'f32(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1):1'::tensor;
-- elements
SELECT '[one]'::tensor;
SELECT '[1e]'::tensor;
SELECT '[0x10]'::tensor;
SELECT '[1_000]'::tensor;
SELECT '[nan(1)]'::tensor;
SELECT 'f64:[nan(0x7f800001)]'::tensor;
SELECT 'f16:[65520]'::tensor;
SELECT '[3.5e38]'::tensor;
SELECT 'f8_e4m3:[480]'::tensor;
SELECT 'f8_e4m3:[inf]'::tensor;
SELECT 'i8:[128]'::tensor;
SELECT 'i8:[1.0]'::tensor;
SELECT 'u8:[-1]'::tensor;
SELECT 'u64:[18446744073709551616]'::tensor;
SELECT 'bool:[yes]'::tensor;
SELECT '[null]'::tensor;
SELECT '["1"]'::tensor;
SELECT '[1;2]'::tensor;
SELECT U&'[\FF11]'::tensor;
-- dtypes without a text of their own
SELECT 'c64:[1]'::tensor;
SELECT 'c64:\x0000000000000000'::tensor;
SELECT 'i8:\x01'::tensor;
SELECT 'c64(1):\x00'::tensor;
SELECT 'c64(1):\x000000000000000'::tensor;
SELECT 'c64(1):\x000000000000000g'::tensor;
SELECT 'f4(3):\x0000'::tensor;
SELECT 'q4_0(31):\x00'::tensor;
SELECT 'q8_0(2,16):\x0000000000000000000000000000000000000000000000000000000000000000000000'::tensor;

-- what is read
CREATE TABLE texts (i serial, t text);
INSERT INTO texts (t) VALUES
    ('1'), ('[]'), ('[[],[]]'), ('f32(0,3):[]'), ('[1,2,3]'), (E' [ [ 1 , 2 ] ,\n\t[ 3 , 4 ] ] '), ('F32:[1]'), ('BF16(2,1):[[1],[2]]'),
    ('[0,-0,+1,.5,5.,1e3,-1E-3]'), ('[nan,NaN,NAN,nan(0x7fc00001),inf,-inf,Infinity,-INFINITY]'),
    ('f16:[65504,65519,6e-8,-1e-9]'), ('f8_e4m3:[448,0.015625,-0]'), ('f8_e5m2:[57344,inf]'), ('bf16:[3.140625,1e-40]'),
    ('f64:[0.1,1e308,5e-324,123456789012345678]'), ('[0.1,16777216,16777217,3.4028235e38,1e-45,1e-46]'),
    ('i64:[-9223372036854775808,9223372036854775807]'), ('u64:[18446744073709551615]'), ('bool:[t,f,true,false,1,0]'),
    ('bool(2):\x0002'), ('c64(1):\x0123456789ABCDEF'), ('f4(2,2):\x1234'), ('i8(2):\x01ff'), ('i8(0):\x'), ('i8():5'), ('i8():\x05'),
    ('[[[[[[[[1]]]]]]]]');
SELECT i, t::tensor FROM texts ORDER BY i;
SELECT count(*) FILTER (WHERE t::tensor::text::tensor = t::tensor) AS read_back, count(*) FROM texts;
