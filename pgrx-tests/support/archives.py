"""Archives of models: out and in by any way, and read by Python's tarfile."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL
from transfer import forever, upload_in_parts

Connection = psycopg.Connection[Any]


def export_archive(db: Connection, model: object, with_checkpoints: bool = True) -> bytes:
    """An archive, by COPY in binary format."""
    query = SQL("COPY (SELECT modelstore.export_archive({}, {})) TO STDOUT (FORMAT binary)")
    with db.cursor() as cursor, cursor.copy(query.format(str(model), with_checkpoints)) as copy:
        copy.set_types(["bytea"])
        return b"".join(part for (part,) in copy.rows())


def import_archive(db: Connection, data: bytes, name: str | None = None, version: str | None = None) -> Any:
    """Imports a parameter; returns the row that says what came of it."""
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute("SELECT * FROM modelstore.import_archive(%b::bytea, %b::text, %b::text)", (data, name, version))
        return cursor.fetchone()


def import_large_object(db: Connection, data: bytes, name: str | None = None, version: str | None = None) -> Any:
    (oid,) = db.execute("SELECT lo_from_bytea(0, %b)", (data,)).fetchone()
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute("SELECT * FROM modelstore.import_archive_large_object(%s, %s, %s)", (oid, name, version))
        row = cursor.fetchone()
    db.execute("SELECT lo_unlink(%s)", (oid,))
    return row


def import_upload(db: Connection, data: bytes, name: str | None = None, version: str | None = None) -> Any:
    upload = upload_in_parts(db, data, forever(100_003))
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute("SELECT * FROM modelstore.import_archive_upload(%s, %s, %s)", (upload, name, version))
        return cursor.fetchone()


WAYS: list[Callable[..., Any]] = [import_archive, import_large_object, import_upload]


def read(data: bytes) -> dict[str, bytes]:
    """The files of an archive, in order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def manifest(data: bytes) -> dict[str, Any]:
    """Its manifest."""
    return json.loads(read(data)["manifest.json"])


def pack(files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def with_manifest(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """An archive with a manifest that was changed."""
    files = read(data)
    described = json.loads(files["manifest.json"])
    change(described)
    return pack((files | {"manifest.json": json.dumps(described).encode()}).items())
