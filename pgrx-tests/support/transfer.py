"""Imports and exports models, and inspects the store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL

Connection = psycopg.Connection[Any]


def import_model(
    db: Connection, data: bytes, name: str = "model", version: str = "1", config: object = None, parent: uuid.UUID | None = None
) -> Any:
    """Imports bytes; returns the row that says what came of it."""
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(
            "SELECT * FROM modelstore.import_safetensors(%b::text, %b::text, %b::bytea, %s, %s)",
            (name, version, data, json.dumps(config) if config is not None else None, parent),
        )
        return cursor.fetchone()


def export_model(db: Connection, model: uuid.UUID, file_name: str | None = None) -> bytes:
    """A file of a model, by COPY in binary format."""
    query = SQL("COPY (SELECT modelstore.export_safetensors({}, {})) TO STDOUT (FORMAT binary)")
    with db.cursor() as cursor, cursor.copy(query.format(model, file_name)) as copy:
        copy.set_types(["bytea"])
        return b"".join(part for (part,) in copy.rows())


def upload_in_parts(db: Connection, data: bytes, sizes: Iterator[int], expected: int | None = None) -> uuid.UUID:
    """Uploads bytes in parts of these sizes; the upload is left for the caller to finish."""
    (upload,) = db.execute("SELECT modelstore.begin_upload(%s)", (expected,)).fetchone()
    at, parts = 0, []
    while at < len(data):
        part = data[at : at + next(sizes)]
        parts.append((upload, part, at))
        at += len(part)
    with db.transaction(), db.cursor() as cursor:
        cursor.executemany("SELECT modelstore.append_upload(%s, %b, %s)", parts)
    return upload


def forever(size: int) -> Iterator[int]:
    """Sizes of parts that are all the same."""
    while True:
        yield size


def refusal(db: Connection, query: str, *arguments: object) -> psycopg.errors.Diagnostic:
    """The error that a statement must end with, in a transaction of its own."""
    try:
        with db.transaction():
            db.execute(query, arguments, prepare=False)
    except psycopg.Error as error:
        return error.diag
    raise AssertionError(f"no error: {query}")
