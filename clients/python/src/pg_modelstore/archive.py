"""Models as one file: a tar archive with runs, metrics and checkpoints."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from typing import Any

import psycopg
from psycopg import sql

from . import uploads
from .client import Client
from .progress import Progress, show
from .safetensors import FileSource


def archive(
    client: Client, model: Any, path: os.PathLike[str] | str, *, with_checkpoints: bool = True, progress: Progress = False
) -> pathlib.Path:
    """Writes a model to a file, which appears under its name once it is complete."""
    target = pathlib.Path(path)
    total = _size(client, model, with_checkpoints)
    # Made with the rights that any new file gets, which a temporary file does not have.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    bar = show(progress, target.name, total)
    try:
        client.retry(lambda: _download(client, model, with_checkpoints, partial, bar))
        os.replace(partial, target)
    finally:
        bar.close()
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    return target


def _size(client: Client, model: Any, with_checkpoints: bool) -> int:
    """Bytes of its files: what an archive has besides is small."""
    files = sql.SQL("SELECT file_bytes FROM {} WHERE model_id = %(model)s::text::modelstore.regmodel::uuid").format(
        client.table("model_files")
    )
    if with_checkpoints:
        files += sql.SQL(
            " UNION ALL SELECT file_bytes FROM {} JOIN {} USING (checkpoint_id) WHERE model_id = %(model)s::text::modelstore.regmodel::uuid"
        ).format(client.table("checkpoint_files"), client.table("model_checkpoints"))
    query = sql.SQL("SELECT coalesce(sum(file_bytes), 0)::bigint FROM ({}) AS files").format(files)
    return client.value(query, {"model": str(model)})


def _download(client: Client, model: Any, with_checkpoints: bool, path: pathlib.Path, bar: Any) -> None:
    query = sql.SQL("COPY (SELECT modelstore.export_archive({}, {})) TO STDOUT (FORMAT binary)")
    with path.open("wb") as out, client.transaction() as connection, connection.cursor() as cursor:
        with cursor.copy(query.format(sql.Literal(str(model)), sql.Literal(with_checkpoints))) as copy:
            copy.set_types(["bytea"])
            for (part,) in copy.rows():
                out.write(part)
                bar.at(out.tell())
        out.flush()
        os.fsync(out.fileno())


def unarchive(
    client: Client, path: os.PathLike[str] | str, name: str | None = None, version: str | None = None, *, progress: Progress = False
) -> Any:
    """Sends a file in parts and imports it. Returns the row of modelstore.import_archive_upload()."""
    source = FileSource(path)
    bar = show(progress, source.path.name, source.size)
    started: list[Any] = []
    try:
        upload_id, _ = uploads.upload(client, source, started=started.append, progress=bar)
        query = "SELECT * FROM modelstore.import_archive_upload(%s, %s, %s)"
        return client.query(query, (upload_id, name, version))[0]
    except (psycopg.Error, OSError):
        for upload_id in started:
            # Without a connection it stays, for gc(abandoned_after => …).
            with contextlib.suppress(psycopg.Error):
                uploads.abort(client, upload_id)
        raise
    finally:
        bar.close()
