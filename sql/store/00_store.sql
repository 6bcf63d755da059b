-- What a store records of itself.
CREATE TABLE @store@.store_version (
    version integer NOT NULL,
    extension_version text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);
-- A table of few rows needs no index as its identity.
ALTER TABLE @store@.store_version REPLICA IDENTITY FULL;
COMMENT ON TABLE @store@.store_version IS 'Versions of the tables of this store, one row per version; the highest is the current one.';
COMMENT ON COLUMN @store@.store_version.version IS 'Version of the tables.';
COMMENT ON COLUMN @store@.store_version.extension_version IS 'Version of pg_modelstore that installed it.';
COMMENT ON COLUMN @store@.store_version.installed_at IS 'Time of installation.';
