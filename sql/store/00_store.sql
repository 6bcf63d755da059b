-- What a store records of itself.
CREATE TABLE @store@.store_version (
    version integer PRIMARY KEY,
    extension_version text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE @store@.store_version IS 'Versions this store has been through, one row each; the highest is what it has now.';
COMMENT ON COLUMN @store@.store_version.version IS 'Version of the tables.';
COMMENT ON COLUMN @store@.store_version.extension_version IS 'Version of pg_modelstore that made it.';
COMMENT ON COLUMN @store@.store_version.installed_at IS 'When.';
