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
    line_ends bigint CHECK (line_ends >= 0),
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
-- Each partition has its own: create_store sets it with the partition.
ALTER TABLE @store@.atoms REPLICA IDENTITY USING INDEX atoms_key_idx;
-- A row is a few hundred bytes: without TOAST tables, a store has 512 relations less.
ALTER TABLE @store@.atoms
    ALTER value SET STORAGE PLAIN,
    ALTER content_hash SET STORAGE PLAIN,
    ALTER meta SET STORAGE PLAIN,
    ALTER created_by SET STORAGE PLAIN,
    ALTER updated_by SET STORAGE PLAIN;
-- With the key in it, a search reads no row: that takes a third off its time.
CREATE INDEX atoms_place_idx ON @store@.atoms (modelstore.atom_place(h_xy, h_yz, h_zm)) INCLUDE (h_xy, h_yz, h_zm);
COMMENT ON TABLE @store@.atoms IS 'Each distinct content, stored once, ordered by the Hilbert curve through its first two coordinates. The partitions are ranges of eight modalities with 32 ranges each.';
COMMENT ON COLUMN @store@.atoms.h_xy IS 'Key: the modality in the high byte, the Hilbert code of (x, y) at order 28 below it.';
COMMENT ON COLUMN @store@.atoms.h_yz IS 'Key: the Hilbert code of (y, z).';
COMMENT ON COLUMN @store@.atoms.h_zm IS 'Key: the Hilbert code of (z, m).';
COMMENT ON COLUMN @store@.atoms.value IS 'Content of a leaf of at most 64 bytes; NULL for a larger leaf, whose content is in atom_chunks, and for a composite, whose parts are in atom_parts.';
COMMENT ON COLUMN @store@.atoms.modality IS '0 text, 1 audio, 2 image, 3 video, 4 tensor, 5 code, 6 structured, 7 other.';
COMMENT ON COLUMN @store@.atoms.probe IS 'Number of places, occupied by other contents, that it was moved past; 0 unless two contents collide.';
COMMENT ON COLUMN @store@.atoms.is_public IS 'Whether every role sees it while row-level security is on; set_atom_meta() keeps it in agreement with meta.';
COMMENT ON COLUMN @store@.atoms.content_hash IS 'BLAKE3-256 of the content.';
COMMENT ON COLUMN @store@.atoms.ref_count IS 'Number of its occurrences in atom_parts, plus the number of times it was ingested as a whole and not released.';
COMMENT ON COLUMN @store@.atoms.byte_length IS 'Length of the content in bytes.';
COMMENT ON COLUMN @store@.atoms.line_ends IS 'Number of line ends in the content of text, code and structured data; NULL for other modalities.';
COMMENT ON COLUMN @store@.atoms.meta IS 'User data; {"visibility": "public"}, set by set_atom_meta(), shows the atom to every role while row-level security is on.';
COMMENT ON COLUMN @store@.atoms.created_at IS 'Time it was first ingested.';
COMMENT ON COLUMN @store@.atoms.created_by IS 'Role that first ingested it.';
COMMENT ON COLUMN @store@.atoms.updated_at IS 'Time of the last change of meta.';
COMMENT ON COLUMN @store@.atoms.updated_by IS 'Role that changed it.';
COMMENT ON COLUMN @store@.atoms.version IS 'Number of the version of meta, from 1.';

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
COMMENT ON TABLE @store@.atom_parts IS 'Parts of composite atoms, in order.';
COMMENT ON COLUMN @store@.atom_parts.parent_h_xy IS 'Key of the composite.';
COMMENT ON COLUMN @store@.atom_parts.parent_h_yz IS 'Key of the composite.';
COMMENT ON COLUMN @store@.atom_parts.parent_h_zm IS 'Key of the composite.';
COMMENT ON COLUMN @store@.atom_parts.part_index IS 'Position of the part, from 0.';
COMMENT ON COLUMN @store@.atom_parts.h_xy IS 'Key of the part.';
COMMENT ON COLUMN @store@.atom_parts.h_yz IS 'Key of the part.';
COMMENT ON COLUMN @store@.atom_parts.h_zm IS 'Key of the part.';
COMMENT ON COLUMN @store@.atom_parts.is_public IS 'Same as in the composite''s row in atoms.';
COMMENT ON COLUMN @store@.atom_parts.created_by IS 'Same as in the composite''s row in atoms.';

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
COMMENT ON TABLE @store@.atom_chunks IS 'Contents of leaves larger than 64 bytes.';
COMMENT ON COLUMN @store@.atom_chunks.h_xy IS 'Key of the leaf.';
COMMENT ON COLUMN @store@.atom_chunks.h_yz IS 'Key of the leaf.';
COMMENT ON COLUMN @store@.atom_chunks.h_zm IS 'Key of the leaf.';
COMMENT ON COLUMN @store@.atom_chunks.is_public IS 'Same as in the leaf''s row in atoms.';
COMMENT ON COLUMN @store@.atom_chunks.created_by IS 'Same as in the leaf''s row in atoms.';
COMMENT ON COLUMN @store@.atom_chunks.chunk IS 'The encoded bytes; their hash is the leaf''s content_hash.';

CREATE TABLE @store@.atom_meta_versions (
    h_xy bigint NOT NULL,
    h_yz bigint NOT NULL,
    h_zm bigint NOT NULL,
    version integer NOT NULL,
    meta jsonb NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    created_by text NOT NULL DEFAULT current_user,
    CONSTRAINT modelstore_atoms CHECK (version > 0),
    PRIMARY KEY (h_xy, h_yz, h_zm, version)
);
COMMENT ON TABLE @store@.atom_meta_versions IS 'Earlier versions of the meta of atoms, written by set_atom_meta(); none for a version without meta. The parts that it shows or hides with an atom get a new version, and none here. While row-level security is on, a role sees those of its own atoms, also of public ones.';
COMMENT ON COLUMN @store@.atom_meta_versions.h_xy IS 'Key of the atom.';
COMMENT ON COLUMN @store@.atom_meta_versions.h_yz IS 'Key of the atom.';
COMMENT ON COLUMN @store@.atom_meta_versions.h_zm IS 'Key of the atom.';
COMMENT ON COLUMN @store@.atom_meta_versions.version IS 'Number of the version.';
COMMENT ON COLUMN @store@.atom_meta_versions.meta IS 'The meta of that version.';
COMMENT ON COLUMN @store@.atom_meta_versions.updated_at IS 'Time it was set.';
COMMENT ON COLUMN @store@.atom_meta_versions.updated_by IS 'Role that set it.';
COMMENT ON COLUMN @store@.atom_meta_versions.created_by IS 'Same as in the atom''s row in atoms.';

CREATE TABLE @store@.atom_salts (
    created_by text PRIMARY KEY DEFAULT current_user,
    salt uuid NOT NULL,
    CONSTRAINT modelstore_atoms CHECK (created_by <> '')
);
COMMENT ON TABLE @store@.atom_salts IS 'A secret of each role that ingested data while row-level security was on; the coordinate m of the role''s atoms depends on it. A role sees only its own.';
COMMENT ON COLUMN @store@.atom_salts.created_by IS 'The role.';
COMMENT ON COLUMN @store@.atom_salts.salt IS 'Random value. A role that knows it can find out whether the role has a content.';

CREATE TABLE @store@.ingestion_log (
    ingestion_id uuid PRIMARY KEY,
    modality smallint NOT NULL CHECK (modality BETWEEN 0 AND 7),
    source_uri text,
    batch_id uuid,
    meta jsonb,
    large_object oid,
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
    CONSTRAINT modelstore_atoms CHECK (status IN ('pending', 'running', 'completed', 'failed'))
);
-- The queue, and what ran or failed lately.
CREATE INDEX ingestion_log_status_started_at_idx ON @store@.ingestion_log (status, started_at);
CREATE INDEX ingestion_log_batch_id_idx ON @store@.ingestion_log (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX ingestion_log_source_uri_idx ON @store@.ingestion_log (source_uri) WHERE source_uri IS NOT NULL;
COMMENT ON TABLE @store@.ingestion_log IS 'Runs of ingest, including failed and queued ones.';
COMMENT ON COLUMN @store@.ingestion_log.ingestion_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.ingestion_log.modality IS 'Modality of the data, numbered as in atoms.';
COMMENT ON COLUMN @store@.ingestion_log.source_uri IS 'Source of the data, as given by the user.';
COMMENT ON COLUMN @store@.ingestion_log.batch_id IS 'The job that the run is part of, as given by the user.';
COMMENT ON COLUMN @store@.ingestion_log.meta IS 'User data.';
COMMENT ON COLUMN @store@.ingestion_log.large_object IS 'Large object of a queued ingest; NULL for one that was not queued.';
COMMENT ON COLUMN @store@.ingestion_log.source_hash IS 'BLAKE3-256 of the data; NULL for a run with several contents.';
COMMENT ON COLUMN @store@.ingestion_log.h_xy IS 'Key of the atom for the whole data; NULL for a run with several contents.';
COMMENT ON COLUMN @store@.ingestion_log.h_yz IS 'Key of the atom for the whole data.';
COMMENT ON COLUMN @store@.ingestion_log.h_zm IS 'Key of the atom for the whole data.';
COMMENT ON COLUMN @store@.ingestion_log.byte_length IS 'Length of the data in bytes.';
COMMENT ON COLUMN @store@.ingestion_log.atoms_created IS 'Number of distinct atoms that are new.';
COMMENT ON COLUMN @store@.ingestion_log.atoms_updated IS 'Number of distinct existing atoms that gained a reference.';
COMMENT ON COLUMN @store@.ingestion_log.atoms_skipped IS 'Number of distinct existing atoms that gained no reference, because they are parts of other existing atoms.';
COMMENT ON COLUMN @store@.ingestion_log.status IS 'pending (queued by queue_ingest()), running, completed or failed. Only the session that runs an ingest sees it running.';
COMMENT ON COLUMN @store@.ingestion_log.error IS 'Reason for a failure.';
COMMENT ON COLUMN @store@.ingestion_log.started_at IS 'Time it started; of a pending one, the time it was queued.';
COMMENT ON COLUMN @store@.ingestion_log.ended_at IS 'Time it ended.';
COMMENT ON COLUMN @store@.ingestion_log.created_by IS 'Role that ran it.';

-- A materialized view has no policies: where they are on, it is about public atoms.
CREATE MATERIALIZED VIEW @store@.atom_spatial_summary AS
    SELECT a.modality, p.modality AS modality_name, count(*) AS atoms, sum(a.byte_length) AS byte_length,
           sum(a.ref_count) AS ref_count,
           min(p.x) AS x_min, max(p.x) AS x_max, avg(p.x)::double precision AS x_mean,
           min(p.y) AS y_min, max(p.y) AS y_max, avg(p.y)::double precision AS y_mean,
           min(p.z) AS z_min, max(p.z) AS z_max, avg(p.z)::double precision AS z_mean,
           box(point(min(p.x), min(p.y)), point(max(p.x), max(p.y))) AS bounds,
           count(*) - count(s.parts) AS leaves,
           sum(a.byte_length) FILTER (WHERE s.parts IS NULL) AS leaf_bytes,
           avg(s.parts)::double precision AS parts_mean,
           -- A composite is as long as its parts, so what its references to them add is its own length.
           sum(a.ref_count * a.byte_length) - coalesce(sum(a.byte_length) FILTER (WHERE s.parts IS NOT NULL), 0) AS held_bytes,
           (sum(a.byte_length) FILTER (WHERE s.parts IS NULL)
            / nullif(sum(a.ref_count * a.byte_length) - coalesce(sum(a.byte_length) FILTER (WHERE s.parts IS NOT NULL), 0), 0))::double precision
               AS complexity
    FROM @store@.atoms a JOIN pg_catalog.pg_class c ON c.oid = a.tableoid
         LEFT JOIN (SELECT w.parent_h_xy, w.parent_h_yz, w.parent_h_zm, w.created_by, count(*) AS parts
                    FROM @store@.atom_parts w GROUP BY w.parent_h_xy, w.parent_h_yz, w.parent_h_zm, w.created_by) s
         ON s.parent_h_xy = a.h_xy AND s.parent_h_yz = a.h_yz AND s.parent_h_zm = a.h_zm AND s.created_by = a.created_by,
         modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p
    WHERE a.is_public OR NOT c.relrowsecurity
    GROUP BY a.modality, p.modality;
CREATE UNIQUE INDEX atom_spatial_summary_modality_idx ON @store@.atom_spatial_summary (modality);
COMMENT ON MATERIALIZED VIEW @store@.atom_spatial_summary IS 'Number of atoms and range of coordinates of each modality, as of the last refresh_spatial_summary(). While row-level security is on, only public atoms count.';
COMMENT ON COLUMN @store@.atom_spatial_summary.modality IS 'Modality, numbered as in atoms.';
COMMENT ON COLUMN @store@.atom_spatial_summary.modality_name IS 'Name of the modality.';
COMMENT ON COLUMN @store@.atom_spatial_summary.atoms IS 'Number of atoms.';
COMMENT ON COLUMN @store@.atom_spatial_summary.byte_length IS 'Sum of the lengths of their contents in bytes; composites and their parts count separately.';
COMMENT ON COLUMN @store@.atom_spatial_summary.ref_count IS 'Sum of their reference counts.';
COMMENT ON COLUMN @store@.atom_spatial_summary.x_min IS 'Smallest x.';
COMMENT ON COLUMN @store@.atom_spatial_summary.x_max IS 'Largest x.';
COMMENT ON COLUMN @store@.atom_spatial_summary.x_mean IS 'Mean x.';
COMMENT ON COLUMN @store@.atom_spatial_summary.y_min IS 'Smallest y.';
COMMENT ON COLUMN @store@.atom_spatial_summary.y_max IS 'Largest y.';
COMMENT ON COLUMN @store@.atom_spatial_summary.y_mean IS 'Mean y.';
COMMENT ON COLUMN @store@.atom_spatial_summary.z_min IS 'Smallest z.';
COMMENT ON COLUMN @store@.atom_spatial_summary.z_max IS 'Largest z.';
COMMENT ON COLUMN @store@.atom_spatial_summary.z_mean IS 'Mean z.';
COMMENT ON COLUMN @store@.atom_spatial_summary.bounds IS 'The smallest box in the plane of x and y that contains all of them.';
COMMENT ON COLUMN @store@.atom_spatial_summary.leaves IS 'Number of leaves; the other atoms are composites.';
COMMENT ON COLUMN @store@.atom_spatial_summary.leaf_bytes IS 'Sum of the lengths of the leaves: the distinct bytes, before compression.';
COMMENT ON COLUMN @store@.atom_spatial_summary.parts_mean IS 'Mean number of parts of a composite; NULL without composites.';
COMMENT ON COLUMN @store@.atom_spatial_summary.held_bytes IS 'Sum of the lengths of the contents that were ingested and not released, each as often as it was.';
COMMENT ON COLUMN @store@.atom_spatial_summary.complexity IS 'leaf_bytes divided by held_bytes: 1 if no leaf occurs twice, less the more of the data is repeated, more while released atoms await atoms_gc().';
