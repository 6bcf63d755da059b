-- Statements of these functions find rows by key in one of many partitions. Their arrays of keys have no statistics: what
-- the planner knows no better than to hash or to scan is told here, and a plan is made once a session, not once a call.
ALTER FUNCTION ingest(bytea, text, text, uuid, jsonb) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION ingest_text(text, text, text, uuid, jsonb) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION ingest_large_object(oid, text, text, uuid, jsonb) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION ingest_many(bytea[], text, text, uuid, jsonb) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION run_queued_ingests(integer, uuid) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION reconstruct(atom) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION reconstruct_parts(atom) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION reconstruct_bytes(atom, bigint, bigint) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION reconstruct_lines(atom, bigint, bigint) SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION find_content(bytea, text) SET enable_seqscan = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION release(atom) SET enable_seqscan = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION nearest(atom, integer, text) SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION nearest_points(integer[], integer, text) SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION within_box(integer[], integer[], text) SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION within_radius(integer[], double precision, text) SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION find_path(atom, atom, integer, text, text[], integer) SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan;

-- They return one row: without this, a statement that calls them for each atom would be planned for a thousand times as
-- many rows.
ALTER FUNCTION find_atom(bytea, text) ROWS 1;
ALTER FUNCTION find_content(bytea, text) ROWS 1;
ALTER FUNCTION atom_key(text, integer, integer, integer, integer) ROWS 1;
ALTER FUNCTION atom_point(bigint, bigint, bigint) ROWS 1;
ALTER FUNCTION hilbert_decode(bigint, integer) ROWS 1;
ALTER FUNCTION hilbert_decode_many(bigint[], integer) ROWS 1;

-- To compile a plan for all partitions takes some seconds, ten times as long as to run it for 400,000 atoms.
ALTER FUNCTION refresh_spatial_summary() SET jit = off;
ALTER FUNCTION atoms_gc() SET jit = off;
ALTER FUNCTION verify_atoms() SET jit = off;
