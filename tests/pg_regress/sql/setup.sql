-- Runs first; the other files start from a copy of the database it leaves.
CREATE EXTENSION pg_modelstore;
