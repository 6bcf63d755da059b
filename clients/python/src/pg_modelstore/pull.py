"""A pull: the files of a model in a folder, byte for byte."""

from __future__ import annotations

import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.rows import namedtuple_row

from .client import Client, ModelName, Rows, name_text
from .progress import Progress, show

TEMPORARY = ".pg_modelstore-"
Paths = list[pathlib.Path]


def stored_files(client: Client, connection: psycopg.Connection[Any], model_id: UUID) -> Rows:
    """The files that the store has of a model: file_name, format, file_bytes, sha256."""
    query = sql.SQL('SELECT file_name, format, file_bytes, sha256 FROM {} WHERE model_id = %s ORDER BY file_name COLLATE "C"')
    with connection.cursor(binary=True, row_factory=namedtuple_row) as cursor:
        return cursor.execute(query.format(client.table("model_files")), (model_id,)).fetchall()


def stream(client: Client, model: ModelName, file_name: str, from_byte: int = 0) -> Iterator[bytes]:
    """The bytes of one file from `from_byte` on, in parts of about 1 MiB, as they arrive."""
    with client.transaction() as connection, connection.cursor() as cursor:
        query = sql.SQL("COPY (SELECT modelstore.export_file({}, {}, {})) TO STDOUT (FORMAT binary)")
        with cursor.copy(query.format(sql.Literal(name_text(model)), sql.Literal(file_name), sql.Literal(from_byte))) as copy:
            copy.set_types(["bytea"])
            for (part,) in copy.rows():
                yield part


def pull(client: Client, model_id: UUID, found: Rows, folder: os.PathLike[str] | str, progress: Progress) -> Paths:
    """Writes files of a model to a folder."""
    directory = pathlib.Path(folder)
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; a pull writes to a folder")
    directory.mkdir(parents=True, exist_ok=True)
    paths = [inside(directory, file.file_name) for file in found]
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, and the model has a file of this name")
    for file, path in zip(found, paths):
        if not _has(path, file.file_bytes, file.sha256):
            bar = show(progress, file.file_name, file.file_bytes)
            try:
                _download(client, model_id, file, path, bar)
            finally:
                bar.close()
    return paths


def chosen(found: Rows, model: ModelName, names: str | Iterable[str] | None) -> Rows:
    """Those of the files that are wanted; all by default."""
    if names is None:
        return found
    wanted = {names} if isinstance(names, str) else set(names)
    unknown = wanted - {file.file_name for file in found}
    if unknown:
        raise errors.UndefinedObject(f"model {model} has no file {', '.join(sorted(unknown))}")
    return [file for file in found if file.file_name in wanted]


def _download(client: Client, model_id: UUID, file: Any, path: pathlib.Path, bar: Any) -> None:
    sha256 = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:

            def receive() -> None:
                if out.tell() > 0:
                    _require_unchanged(client, model_id, file)
                for part in stream(client, model_id, file.file_name, out.tell()):
                    out.write(part)
                    sha256.update(part)
                    bar.at(out.tell())

            client.retry(receive, progressed=out.tell)
            out.flush()
            os.fsync(out.fileno())
        if sha256.digest() != file.sha256:
            raise psycopg.DataError(f"{file.file_name} has another SHA-256 than the store says: verify the model")
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _require_unchanged(client: Client, model_id: UUID, file: Any) -> None:
    """Before a download goes on: a file never changes, but one may have been deleted and another added under its name."""
    with client.transaction() as connection:
        if not any((now.file_name, now.sha256) == (file.file_name, file.sha256) for now in stored_files(client, connection, model_id)):
            raise errors.UndefinedObject(f"{file.file_name} of model {model_id} was deleted or replaced while it was pulled")


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where a file goes. A name from the server must not lead out of the folder, nor to where programs look for their settings."""
    parts = pathlib.PurePosixPath(name).parts
    drive = os.name == "nt" and ":" in name
    if not parts or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or drive:
        raise psycopg.DataError(f'file name "{name}" leads out of the folder')
    # As in a push. git~1, and dots and spaces at the end: other names of .git on Windows.
    if any(part.startswith(".") for part in parts[:-1]) or any(part.lower().rstrip(". ") in (".git", "git~1") for part in parts):
        raise psycopg.DataError(f'file name "{name}" is in a hidden folder: those are neither pushed nor pulled')
    path = folder.joinpath(*parts)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise psycopg.DataError(f'file name "{name}" leads out of the folder by a symbolic link')
    return path


def _has(path: pathlib.Path, size: int, sha256: bytes) -> bool:
    try:
        if path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            return _digest(file) == sha256
    except FileNotFoundError:
        return False


def _digest(file: Any) -> bytes:
    sha256 = hashlib.sha256()
    while part := file.read(1 << 20):
        sha256.update(part)
    return sha256.digest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
