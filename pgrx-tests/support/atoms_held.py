"""Keys of atoms that a test ingests, releases and counts."""

from __future__ import annotations

import psycopg
from atoms import TABLES

Key = tuple[int, int, int]


def ingest(db: psycopg.Connection, data: str | bytes, modality: str | None = None) -> Key:
    """Takes in text or bytes as a whole; the key. A run that fails is an error here."""
    kind = "text" if isinstance(data, str) else "bytea"
    function = "ingest_text" if kind == "text" else "ingest"
    row = db.execute(
        f"SELECT h_xy, h_yz, h_zm, status, error FROM modelstore.{function}(%b::pg_catalog.{kind}, %b::pg_catalog.text)",
        (data, modality or ("text" if kind == "text" else "other")),
    ).fetchone()
    assert row[3] == "completed", row
    return row[:3]


def release(db: psycopg.Connection, key: Key) -> int:
    return db.execute("SELECT modelstore.release((%s, %s, %s))", key).fetchone()[0]


def rows(db: psycopg.Connection, store: str = "store") -> dict[str, int]:
    return {t: n for t in TABLES if (n := db.execute(f"SELECT count(*) FROM {store}.{t}").fetchone()[0])}
