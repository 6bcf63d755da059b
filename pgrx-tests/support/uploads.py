"""Uploads from a client: the calls, and what is staged of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import psycopg
from psycopg.rows import namedtuple_row

MIB = 1 << 20


def begin(db: psycopg.Connection, **arguments: object) -> uuid.UUID:
    given = ", ".join(f"{name} => %({name})s" for name in arguments)
    (upload,) = db.execute(f"SELECT modelstore.begin_upload({given})", arguments).fetchone()
    return upload


def append(db: psycopg.Connection, upload: uuid.UUID, data: bytes) -> int:
    return db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, data)).fetchone()[0]


def copy(db: psycopg.Connection, rows: Sequence[tuple]) -> None:
    """Rows of an upload, its data and perhaps their offset."""
    columns = ["upload_id", "data", "at_offset"][: len(rows[0]) if rows else 2]
    with db.cursor() as cursor, cursor.copy(f"COPY modelstore.upload ({', '.join(columns)}) FROM STDIN (FORMAT binary)") as out:
        out.set_types(["uuid", "bytea", "bigint"][: len(columns)])
        for row in rows:
            out.write_row(row)


def rows_of(upload: uuid.UUID, data: bytes, size: int = MIB) -> list[tuple[uuid.UUID, bytes]]:
    return [(upload, data[at : at + size]) for at in range(0, len(data), size)]


def placed(upload: uuid.UUID, data: bytes, start: int, end: int, size: int) -> list[tuple[uuid.UUID, bytes, int]]:
    """The same for a part of the data, each with its offset."""
    return [(upload, data[at : min(at + size, end)], at) for at in range(start, end, size)]


def finish(db: psycopg.Connection, upload: uuid.UUID, name: str = "m"):
    return row(db, "SELECT * FROM modelstore.finish_upload(%s, %s, '1')", upload, name)


def row(db: psycopg.Connection, sql: str, *arguments: object):
    with db.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(sql, arguments).fetchone()


def offset(db: psycopg.Connection, upload: uuid.UUID) -> int:
    return db.execute("SELECT modelstore.upload_offset(%s)", (upload,)).fetchone()[0]


def waiting(db: psycopg.Connection) -> int:
    """Bytes that are staged."""
    return db.execute("SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM store.upload_parts").fetchone()[0]
