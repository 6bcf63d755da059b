-- Atoms: any data, split into content-addressed pieces.

-- By ranges of the curve: what lies together is together on disk. create_store makes the 256 partitions. There is no
-- foreign key between atoms and their parts: PostgreSQL would check it row by row, in two thirds of the time an ingest
-- takes; reference counts and the collector keep it instead.
CREATE TABLE @store@.atoms (
    h_xy bigint NOT NULL,
    h_yz bigint NOT NULL,
    h_zm bigint NOT NULL,
    value bytea CHECK (octet_length(value) <= 64),
    modality smallint NOT NULL CHECK (modality = h_xy >> 56),
    probe smallint NOT NULL DEFAULT 0 CHECK (probe >= 0),
    is_public boolean NOT NULL DEFAULT false,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    ref_count bigint NOT NULL DEFAULT 0 CHECK (ref_count >= 0),
    byte_length bigint NOT NULL CHECK (byte_length >= 0),
    meta jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT current_user,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT current_user,
    version integer NOT NULL DEFAULT 1 CHECK (version > 0),
    -- Of this name in each table of the module: by it a store tells them from others of their names.
    CONSTRAINT modelstore_atoms CHECK (value IS NULL OR octet_length(value) = byte_length)
) PARTITION BY RANGE (h_xy);
-- The key. As a PRIMARY KEY, pg_restore --clean would fail to drop it from the partitions.
CREATE UNIQUE INDEX atoms_key_idx ON @store@.atoms (h_xy, h_yz, h_zm);
-- A row is a few hundred bytes: without TOAST tables, a store has 512 relations less.
ALTER TABLE @store@.atoms
    ALTER value SET STORAGE PLAIN,
    ALTER content_hash SET STORAGE PLAIN,
    ALTER meta SET STORAGE PLAIN,
    ALTER created_by SET STORAGE PLAIN,
    ALTER updated_by SET STORAGE PLAIN;
-- With the key in it, a search reads no row: that takes a third off its time.
CREATE INDEX atoms_place_idx ON @store@.atoms (modelstore.atom_place(h_xy, h_yz, h_zm)) INCLUDE (h_xy, h_yz, h_zm);
COMMENT ON TABLE @store@.atoms IS 'Each distinct content once, in the order of the Hilbert curve through its first two coordinates; partitioned by eight modalities of 32 ranges each.';
COMMENT ON COLUMN @store@.atoms.h_xy IS 'Key: the modality in the high byte, below it the code of (x, y) on the curve of order 28.';
COMMENT ON COLUMN @store@.atoms.h_yz IS 'Key: the code of (y, z).';
COMMENT ON COLUMN @store@.atoms.h_zm IS 'Key: the code of (z, m).';
COMMENT ON COLUMN @store@.atoms.value IS 'The content, of at most 64 bytes; NULL for a larger leaf, which is in atom_chunks, and for a composite, whose parts are in atom_parts.';
COMMENT ON COLUMN @store@.atoms.modality IS '0 text, 1 audio, 2 image, 3 video, 4 tensor, 5 code, 6 structured, 7 other.';
COMMENT ON COLUMN @store@.atoms.probe IS 'How many places that other contents have it was moved past: 0 unless bits of two hashes are the same.';
COMMENT ON COLUMN @store@.atoms.is_public IS 'Whether every role sees it where row-level security is on: set_atom_meta() keeps it as meta says.';
COMMENT ON COLUMN @store@.atoms.content_hash IS 'BLAKE3-256 of the content.';
COMMENT ON COLUMN @store@.atoms.ref_count IS 'Places in atom_parts where it is, and times it was taken in as a whole and not released.';
COMMENT ON COLUMN @store@.atoms.byte_length IS 'Bytes of the content.';
COMMENT ON COLUMN @store@.atoms.meta IS 'Whatever its users keep with it; {"visibility": "public"}, set by set_atom_meta(), shows it to everybody where row-level security is on.';
COMMENT ON COLUMN @store@.atoms.created_at IS 'When it was first taken in.';
COMMENT ON COLUMN @store@.atoms.created_by IS 'Role that took it in first.';
COMMENT ON COLUMN @store@.atoms.updated_at IS 'When its meta was changed.';
COMMENT ON COLUMN @store@.atoms.updated_by IS 'Role that changed it.';
COMMENT ON COLUMN @store@.atoms.version IS 'Counts the changes of meta, from 1.';

CREATE TABLE @store@.atom_parts (
    parent_h_xy bigint NOT NULL,
    parent_h_yz bigint NOT NULL,
    parent_h_zm bigint NOT NULL,
    part_index integer NOT NULL,
    h_xy bigint NOT NULL,
    h_yz bigint NOT NULL,
    h_zm bigint NOT NULL,
    is_public boolean NOT NULL DEFAULT false,
    created_by text NOT NULL DEFAULT current_user,
    CONSTRAINT modelstore_atoms CHECK (part_index >= 0),
    PRIMARY KEY (parent_h_xy, parent_h_yz, parent_h_zm, part_index)
);
CREATE INDEX atom_parts_part_idx ON @store@.atom_parts (h_xy, h_yz, h_zm);
COMMENT ON TABLE @store@.atom_parts IS 'The parts of composite atoms, in order.';
COMMENT ON COLUMN @store@.atom_parts.parent_h_xy IS 'Key of the composite.';
COMMENT ON COLUMN @store@.atom_parts.parent_h_yz IS 'Key of the composite.';
COMMENT ON COLUMN @store@.atom_parts.parent_h_zm IS 'Key of the composite.';
COMMENT ON COLUMN @store@.atom_parts.part_index IS 'Place of the part, from 0.';
COMMENT ON COLUMN @store@.atom_parts.h_xy IS 'Key of the part.';
COMMENT ON COLUMN @store@.atom_parts.h_yz IS 'Key of the part.';
COMMENT ON COLUMN @store@.atom_parts.h_zm IS 'Key of the part.';
COMMENT ON COLUMN @store@.atom_parts.is_public IS 'As the composite''s in atoms.';
COMMENT ON COLUMN @store@.atom_parts.created_by IS 'As the composite''s in atoms.';

-- Not in tensor_chunks, where who may read one tensor may read all: policies cover these bytes as they do the rows of atoms.
CREATE TABLE @store@.atom_chunks (
    h_xy bigint NOT NULL,
    h_yz bigint NOT NULL,
    h_zm bigint NOT NULL,
    is_public boolean NOT NULL DEFAULT false,
    created_by text NOT NULL DEFAULT current_user,
    chunk modelstore.tensor_chunk NOT NULL,
    CONSTRAINT modelstore_atoms CHECK (h_xy >= 0),
    PRIMARY KEY (h_xy, h_yz, h_zm)
);
ALTER TABLE @store@.atom_chunks ALTER COLUMN chunk SET STORAGE EXTERNAL;
COMMENT ON TABLE @store@.atom_chunks IS 'Leaves of more than 64 bytes: the content of each.';
COMMENT ON COLUMN @store@.atom_chunks.h_xy IS 'Key of the leaf.';
COMMENT ON COLUMN @store@.atom_chunks.h_yz IS 'Key of the leaf.';
COMMENT ON COLUMN @store@.atom_chunks.h_zm IS 'Key of the leaf.';
COMMENT ON COLUMN @store@.atom_chunks.is_public IS 'As the leaf''s in atoms.';
COMMENT ON COLUMN @store@.atom_chunks.created_by IS 'As the leaf''s in atoms.';
COMMENT ON COLUMN @store@.atom_chunks.chunk IS 'The encoded bytes; their hash is the leaf''s content_hash.';

CREATE TABLE @store@.atom_salts (
    created_by text PRIMARY KEY DEFAULT current_user,
    salt uuid NOT NULL,
    CONSTRAINT modelstore_atoms CHECK (created_by <> '')
);
COMMENT ON TABLE @store@.atom_salts IS 'A secret of each role that took data in while row-level security was on: it decides where the role''s atoms lie. A role sees its own.';
COMMENT ON COLUMN @store@.atom_salts.created_by IS 'The role.';
COMMENT ON COLUMN @store@.atom_salts.salt IS 'Random. Whoever knows it can find out whether the role has a content.';

CREATE TABLE @store@.ingestion_log (
    ingestion_id uuid PRIMARY KEY,
    modality smallint NOT NULL CHECK (modality BETWEEN 0 AND 7),
    source_uri text,
    source_hash bytea CHECK (octet_length(source_hash) = 32),
    h_xy bigint,
    h_yz bigint,
    h_zm bigint,
    byte_length bigint,
    atoms_created bigint,
    atoms_updated bigint,
    atoms_skipped bigint,
    status text NOT NULL,
    error text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    created_by text NOT NULL DEFAULT current_user,
    CONSTRAINT modelstore_atoms CHECK (status IN ('running', 'completed', 'failed'))
);
CREATE INDEX ingestion_log_source_uri_idx ON @store@.ingestion_log (source_uri) WHERE source_uri IS NOT NULL;
COMMENT ON TABLE @store@.ingestion_log IS 'Runs of ingest, those that failed as well.';
COMMENT ON COLUMN @store@.ingestion_log.ingestion_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.ingestion_log.modality IS 'Modality of the data, as in atoms.';
COMMENT ON COLUMN @store@.ingestion_log.source_uri IS 'Where the data is from, as its user said.';
COMMENT ON COLUMN @store@.ingestion_log.source_hash IS 'BLAKE3-256 of the data; NULL where a run took in several contents.';
COMMENT ON COLUMN @store@.ingestion_log.h_xy IS 'Key of the atom of all the data.';
COMMENT ON COLUMN @store@.ingestion_log.h_yz IS 'Key of the atom of all the data.';
COMMENT ON COLUMN @store@.ingestion_log.h_zm IS 'Key of the atom of all the data.';
COMMENT ON COLUMN @store@.ingestion_log.byte_length IS 'Bytes of the data.';
COMMENT ON COLUMN @store@.ingestion_log.atoms_created IS 'Distinct atoms that were not there.';
COMMENT ON COLUMN @store@.ingestion_log.atoms_updated IS 'Distinct atoms that were there and are referred to once more.';
COMMENT ON COLUMN @store@.ingestion_log.atoms_skipped IS 'Distinct atoms that were there inside something that was.';
COMMENT ON COLUMN @store@.ingestion_log.status IS 'running, completed or failed.';
COMMENT ON COLUMN @store@.ingestion_log.error IS 'Why it failed.';
COMMENT ON COLUMN @store@.ingestion_log.started_at IS 'When it began.';
COMMENT ON COLUMN @store@.ingestion_log.ended_at IS 'When it was over.';
COMMENT ON COLUMN @store@.ingestion_log.created_by IS 'Role that ran it.';

-- A materialized view has no policies: where they are on, it is about public atoms.
CREATE MATERIALIZED VIEW @store@.atom_spatial_summary AS
    SELECT a.modality, p.modality AS modality_name, count(*) AS atoms, sum(a.byte_length) AS byte_length,
           sum(a.ref_count) AS ref_count,
           min(p.x) AS x_min, max(p.x) AS x_max, avg(p.x)::double precision AS x_mean,
           min(p.y) AS y_min, max(p.y) AS y_max, avg(p.y)::double precision AS y_mean,
           min(p.z) AS z_min, max(p.z) AS z_max, avg(p.z)::double precision AS z_mean
    FROM @store@.atoms a JOIN pg_catalog.pg_class c ON c.oid = a.tableoid, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p
    WHERE a.is_public OR NOT c.relrowsecurity
    GROUP BY a.modality, p.modality;
CREATE UNIQUE INDEX atom_spatial_summary_modality_idx ON @store@.atom_spatial_summary (modality);
COMMENT ON MATERIALIZED VIEW @store@.atom_spatial_summary IS 'How many atoms each modality has and where they lie, as of the last refresh_spatial_summary(). Where row-level security is on, public atoms only.';
COMMENT ON COLUMN @store@.atom_spatial_summary.modality IS 'Modality, as in atoms.';
COMMENT ON COLUMN @store@.atom_spatial_summary.modality_name IS 'Its name.';
COMMENT ON COLUMN @store@.atom_spatial_summary.atoms IS 'How many atoms it has.';
COMMENT ON COLUMN @store@.atom_spatial_summary.byte_length IS 'Bytes they stand for, those of composites and of their parts counted each.';
COMMENT ON COLUMN @store@.atom_spatial_summary.ref_count IS 'References to them.';
COMMENT ON COLUMN @store@.atom_spatial_summary.x_min IS 'Smallest x.';
COMMENT ON COLUMN @store@.atom_spatial_summary.x_max IS 'Largest x.';
COMMENT ON COLUMN @store@.atom_spatial_summary.x_mean IS 'Mean x.';
COMMENT ON COLUMN @store@.atom_spatial_summary.y_min IS 'Smallest y.';
COMMENT ON COLUMN @store@.atom_spatial_summary.y_max IS 'Largest y.';
COMMENT ON COLUMN @store@.atom_spatial_summary.y_mean IS 'Mean y.';
COMMENT ON COLUMN @store@.atom_spatial_summary.z_min IS 'Smallest z.';
COMMENT ON COLUMN @store@.atom_spatial_summary.z_max IS 'Largest z.';
COMMENT ON COLUMN @store@.atom_spatial_summary.z_mean IS 'Mean z.';
