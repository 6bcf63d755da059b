-- tensor casts
-- The self-cast is what enforces tensor(f32,768) on every assignment.
CREATE CAST (tensor AS tensor) WITH FUNCTION tensor_enforce_typmod(tensor, integer, boolean) AS IMPLICIT;

-- Arrays convert to the dtype of the type modifier where it names one.
CREATE CAST (real[] AS tensor) WITH FUNCTION tensor_from_real(real[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (double precision[] AS tensor) WITH FUNCTION tensor_from_double(double precision[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (smallint[] AS tensor) WITH FUNCTION tensor_from_smallint(smallint[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (integer[] AS tensor) WITH FUNCTION tensor_from_integer(integer[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (bigint[] AS tensor) WITH FUNCTION tensor_from_bigint(bigint[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (numeric[] AS tensor) WITH FUNCTION tensor_from_numeric(numeric[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (jsonb AS tensor) WITH FUNCTION tensor_from_jsonb(jsonb);
CREATE CAST (bytea AS tensor) WITH FUNCTION tensor_from_bytea(bytea);

CREATE CAST (tensor AS real[]) WITH FUNCTION tensor_to_real(tensor);
CREATE CAST (tensor AS double precision[]) WITH FUNCTION tensor_to_double(tensor);
CREATE CAST (tensor AS smallint[]) WITH FUNCTION tensor_to_smallint(tensor);
CREATE CAST (tensor AS integer[]) WITH FUNCTION tensor_to_integer(tensor);
CREATE CAST (tensor AS bigint[]) WITH FUNCTION tensor_to_bigint(tensor);
CREATE CAST (tensor AS jsonb) WITH FUNCTION tensor_to_jsonb(tensor);
CREATE CAST (tensor AS bytea) WITH FUNCTION tensor_to_bytea(tensor);
