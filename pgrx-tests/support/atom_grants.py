"""Grants that a role needs to work with atoms."""

GRANTS = """
    GRANT USAGE ON SCHEMA store TO {0};
    GRANT SELECT, INSERT, UPDATE, DELETE ON store.atoms TO {0};
    GRANT SELECT, INSERT, DELETE ON store.atom_parts, store.atom_chunks, store.atom_meta_versions TO {0};
    GRANT SELECT, INSERT, UPDATE ON store.ingestion_log TO {0};
"""
"""What a role needs to ingest, release and atoms_gc(): none of them may be missing, and nothing on partitions."""
APART = """
    GRANT SELECT, INSERT ON store.atom_salts TO {0};
    GRANT UPDATE (is_public) ON store.atom_parts TO {0};
    GRANT UPDATE (is_public) ON store.atom_chunks TO {0};
"""
"""And where roles are kept apart: a secret of its own, and making atoms public."""
