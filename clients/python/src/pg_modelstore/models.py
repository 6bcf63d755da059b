"""Models: pushed and pulled as folders, listed, compared, deleted."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import pathlib
import pickle
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from . import uploads
from .client import Client
from .progress import Progress, show
from .safetensors import FileSource, Source, TensorsSource
from .values import ArrayLike, need_torch

ModelName = Union[str, UUID]
Rows = list[Any]
PushSource = Union[str, "os.PathLike[str]", Mapping[str, ArrayLike]]

STATE = ".pg_modelstore-push.json"
TEMPORARY = ".pg_modelstore-"
# Files up to this size are sent with the statement that adds them; larger ones by an upload.
SMALL = 1 << 20
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_BIN = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin")
_BIN_INDEX = "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class Pushed:
    """What a push has stored. new_bytes: encoded bytes of new chunks; reused_bytes: raw bytes that the store had."""

    model_id: UUID
    label: str
    files: int
    weights: int
    parameters: int
    bytes: int
    new_bytes: int
    reused_bytes: int
    seconds: float


@dataclass
class _File:
    """A file of a push."""

    name: str
    source: Source
    stamp: list[int]
    small: bool
    upload_id: UUID | None = None
    sha256: bytes = b""
    data: bytes = b""


Files = list[_File]
Paths = list[pathlib.Path]


@dataclass
class _Totals:
    weights: int = 0
    parameters: int = 0
    new_bytes: int = 0
    reused_bytes: int = 0

    def add(self, row: Any) -> None:
        for name in ("weights", "parameters", "new_bytes", "reused_bytes"):
            setattr(self, name, getattr(self, name) + (getattr(row, name, None) or 0))


class ModelRepository:
    """The models of a store. Wherever a model is expected: its UUID, "name", "name:version" or "name@alias"."""

    def __init__(self, client: Client) -> None:
        self.client = client

    # In

    def push(
        self,
        source: PushSource,
        target: str,
        *,
        parent: ModelName | None = None,
        metadata: Mapping[str, Any] | None = None,
        derivation: str | None = None,
        exclude: Sequence[str] = (),
        progress: Progress = False,
        state: os.PathLike[str] | str | bool = True,
        upload_ids: Mapping[str, UUID] | None = None,
    ) -> Pushed:
        """Stores a folder, a file or a state_dict as the model `target`, "name:version".

        source: a folder, all of whose files become files of the model, also .env, except those in hidden folders (.git, .cache)
            and those that `exclude` matches; a safetensors file; a file by torch.save (.bin, .pt, .pth, .ckpt), which is converted if torch is installed; or a
            mapping of names to arrays or torch tensors, which becomes the file model.safetensors.
        parent: the model it was derived from; weights are stored as differences to those of the same names.
        progress: True for a bar, or a function that is called with file name, bytes sent and size of the file.
        state: file that remembers the uploads, so that the same push goes on where it was interrupted; True for one in the
            folder or beside the file, False for none.
        upload_ids: uploads begun elsewhere, by file name.

        Large files are sent by streaming uploads, small ones with the last transaction, which makes the model: it appears with all
        its files, or not at all. The server's SHA-256 of each file is compared with the client's.
        """
        began = time.monotonic()
        name, version = split_target(target)
        files, folder = self._files(source, exclude)
        kept = uploads.State(_state_path(source, folder, state), self._state_target(target))
        details = (name, version, parent, Jsonb(metadata) if metadata is not None else None, derivation)
        for file in files:
            if file.small:
                # Copies: a part is valid until the next one.
                file.data = b"".join(bytes(part) for part in file.source.parts(0, file.source.size, SMALL))
                file.sha256 = hashlib.sha256(file.data).digest()
        self._try(files, details)
        for file in files:
            if not file.small:
                self._send(file, kept, (upload_ids or {}).get(file.name), parent, progress)
        model_id, totals = self._finish(files, details, kept)
        kept.forget()
        size = sum(file.source.size for file in files)
        return Pushed(
            model_id, f"{name}:{version}", len(files), totals.weights, totals.parameters, size, totals.new_bytes,
            totals.reused_bytes, time.monotonic() - began,
        )  # fmt: skip

    def _files(self, source: PushSource, exclude: Sequence[str]) -> tuple[Files, pathlib.Path | None]:
        if isinstance(source, Mapping):
            tensors = TensorsSource(source)
            return [_File("model.safetensors", tensors, [tensors.size], small=False)], None
        path = pathlib.Path(source)
        if path.is_dir():
            return list(_folder(path, exclude)), path
        if path.suffix in PICKLES:
            return [_converted(path, "model.safetensors")], None
        return [_file(path, path.name)], None

    def _state_target(self, target: str) -> str:
        return f"{self.client.store or ''}/{target}"

    def _try(self, files: Files, details: tuple[Any, ...]) -> None:
        """Lets the server refuse name, version, parent and small files before large ones are sent."""
        # Not an index: it is checked against its shards.
        small = [file for file in sorted(files, key=_order) if file.small and _order(file)[0] < 2]

        def step() -> None:
            with self.client.transaction() as connection, connection.transaction() as inner:
                model_id = _register(connection, details)
                if len(small) < len(files):
                    for file in small:
                        _add(connection, model_id, file)
                raise psycopg.Rollback(inner)

        self.client.retry(step)

    def _send(self, file: _File, kept: uploads.State, given: UUID | None, parent: Any, progress: Progress) -> None:
        stale = kept.stale(file.name, file.stamp)
        if stale is not None:
            uploads.abort(self.client, stale)
        bar = show(progress, file.name, file.source.size)
        file.upload_id = given or kept.find(file.name, file.stamp)

        def started(upload_id: UUID) -> None:
            file.upload_id = upload_id
            kept.keep(file.name, file.stamp, upload_id)

        try:
            file.upload_id, file.sha256 = uploads.upload(
                self.client,
                file.source,
                upload_id=file.upload_id,
                parent=parent if file.name.endswith(".safetensors") else None,
                started=started,
                progress=bar,
            )
        except psycopg.Error as error:
            if _is_refusal(error):
                self._drop([file], kept)
            raise
        finally:
            bar.close()

    def _drop(self, files: Files, kept: uploads.State) -> None:
        """Deletes uploads that no later push can use."""
        for file in files:
            if file.upload_id is not None:
                uploads.abort(self.client, file.upload_id)
                kept.drop(file.name)

    def _finish(self, files: Files, details: tuple[Any, ...], kept: uploads.State) -> tuple[UUID, _Totals]:
        """One transaction that makes the model of its files."""
        attempts, at_fault = 0, files

        def make(connection: psycopg.Connection[Any]) -> tuple[UUID, _Totals]:
            nonlocal at_fault
            at_fault = files
            totals = _Totals()
            model_id = _register(connection, details)
            # The config first: it says what the names of the weights do not. An index last: it is checked against its shards.
            for file in sorted(files, key=_order):
                # Without a file that remembers them, nobody finds the other uploads again.
                at_fault = files if kept.path is None else [file]
                totals.add(_add(connection, model_id, file))
            at_fault = files
            if wrong := self._different(connection, model_id, files):
                at_fault, names = wrong, ", ".join(file.name for file in wrong)
                raise errors.DataException(f"the server has other bytes of {names}: did the file change while it was sent?")
            return model_id, totals

        def step() -> tuple[UUID, _Totals]:
            nonlocal attempts
            attempts += 1
            try:
                with self.client.transaction() as connection:
                    if attempts > 1 and (done := self._done(connection, files, details)) is not None:
                        return done, _Totals()
                    return make(connection)
            except errors.UniqueViolation:
                # A commit whose connection was lost may have come after the question.
                if attempts > 1:
                    with self.client.transaction() as connection:
                        if (done := self._done(connection, files, details)) is not None:
                            return done, _Totals()
                raise

        try:
            return self.client.retry(step)
        except psycopg.Error as error:
            if _is_refusal(error):
                self._drop(at_fault, kept)
            raise

    def _done(self, connection: psycopg.Connection[Any], files: Files, details: tuple[Any, ...]) -> UUID | None:
        """The model, if a commit whose answer was lost has made it."""
        query = sql.SQL("SELECT model_id FROM {} WHERE model_name = %s AND version = %s").format(self.client.table("models"))
        row = connection.execute(query, details[:2]).fetchone()
        return None if row is None or self._different(connection, row[0], files) else row[0]

    def _different(self, connection: psycopg.Connection[Any], model_id: UUID, files: Files) -> Files:
        """The files of which the server has other bytes."""
        stored = {file.file_name: file.sha256 for file in self._model_files(connection, model_id)}
        return [file for file in files if stored.get(file.name) != file.sha256]

    def register(
        self,
        target: str,
        *,
        parent: ModelName | None = None,
        metadata: Mapping[str, Any] | None = None,
        derivation: str | None = None,
    ) -> UUID:
        """Registers a model without weights, a draft: `client.tensors.put` adds weights, `finish` finishes it."""
        details = (*split_target(target), parent, Jsonb(metadata) if metadata is not None else None, derivation)
        with self.client.transaction() as connection:
            return _register(connection, details)

    def finish(self, model: ModelName) -> Any:
        """Finishes a draft and returns the row of modelstore.finish_model(). It is then exported as one safetensors file."""
        return self.client.query("SELECT * FROM modelstore.finish_model(%s)", (str(model),))[0]

    # Out

    def pull(
        self, model: ModelName, folder: os.PathLike[str] | str, *, files: Iterable[str] | None = None, progress: Progress = False
    ) -> Paths:
        """Writes the files of a model to a folder, byte for byte as they were pushed, and returns their paths.

        A file appears under its name once it is complete and its SHA-256 matches. A file that is there and matches is kept.
        files: the names of those to write; all by default.
        """
        model_id = self.find(model)
        found = self.files(model_id)
        if files is not None:
            wanted = set(files)
            unknown = wanted - {file.file_name for file in found}
            if unknown:
                raise errors.UndefinedObject(f"model {model} has no file {', '.join(sorted(unknown))}")
            found = [file for file in found if file.file_name in wanted]
        directory = pathlib.Path(folder)
        directory.mkdir(parents=True, exist_ok=True)
        paths = [_inside(directory, file.file_name) for file in found]
        for file, path in zip(found, paths):
            if not _has(path, file.file_bytes, file.sha256):
                bar = show(progress, file.file_name, file.file_bytes)
                try:
                    self.client.retry(lambda: self._download(model_id, file, path, bar))  # noqa: B023
                finally:
                    bar.close()
        return paths

    def _download(self, model_id: UUID, file: Any, path: pathlib.Path, bar: Any) -> None:
        sha256, at = hashlib.sha256(), 0
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                for part in self.stream(model_id, file.file_name):
                    out.write(part)
                    sha256.update(part)
                    at += len(part)
                    bar.at(at)
                out.flush()
                os.fsync(out.fileno())
            if sha256.digest() != file.sha256:
                raise psycopg.DataError(f"{file.file_name} has another SHA-256 than the store says: verify the model")
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def stream(self, model: ModelName, file_name: str) -> Iterator[bytes]:
        """The bytes of one file in parts of about 1 MiB, as they arrive."""
        with self.client.transaction() as connection, connection.cursor() as cursor:
            query = sql.SQL("COPY (SELECT modelstore.export_file({}, {})) TO STDOUT (FORMAT binary)")
            with cursor.copy(query.format(sql.Literal(str(model)), sql.Literal(file_name))) as copy:
                copy.set_types(["bytea"])
                for (part,) in copy.rows():
                    yield part

    def read_file(self, model: ModelName, file_name: str) -> bytes:
        """One file, in memory: for small ones such as config.json."""
        return self.client.retry(lambda: b"".join(self.stream(model, file_name)))

    # The registry

    def find(self, model: ModelName) -> UUID:
        """UUID of a model. Raises psycopg.errors.UndefinedObject if it does not exist."""
        # The cast takes any UUID, as regclass takes any OID; model_label looks for the model.
        query = "SELECT m::uuid, modelstore.model_label(m) FROM (SELECT %s::modelstore.regmodel AS m) AS given"
        return self.client.value(query, (str(model),))

    def label(self, model: ModelName) -> str:
        """ "name:version" of a model."""
        return self.client.value("SELECT modelstore.model_label(%s)", (str(model),))

    def list(self, pattern: str | None = None) -> Rows:
        """Models whose names are LIKE a pattern, or all: rows of modelstore.list_models(), by name and age."""
        return self.client.query("SELECT * FROM modelstore.list_models(%s)", (pattern,))

    def show(self, model: ModelName) -> Any:
        """One model: the row of the view v_model_architecture."""
        return self._one("v_model_architecture", self.find(model))

    def files(self, model: ModelName) -> Rows:
        """The files of a model: file_name, format, file_bytes, sha256."""
        model_id = self.find(model)

        def run() -> Rows:
            with self.client.transaction() as connection:
                return self._model_files(connection, model_id)

        return self.client.retry(run)

    def _model_files(self, connection: psycopg.Connection[Any], model_id: UUID) -> Rows:
        query = sql.SQL('SELECT file_name, format, file_bytes, sha256 FROM {} WHERE model_id = %s ORDER BY file_name COLLATE "C"')
        with connection.cursor(binary=True, row_factory=namedtuple_row) as cursor:
            return cursor.execute(query.format(self.client.table("model_files")), (model_id,)).fetchall()

    def _one(self, view: str, model_id: UUID) -> Any:
        query = sql.SQL("SELECT * FROM {} WHERE model_id = %s").format(self.client.table(view))
        return self.client.query(query, (model_id,))[0]

    def lineage(self, model: ModelName) -> Rows:
        """A model at depth 0, then its parent, and so on: rows of modelstore.lineage()."""
        return self.client.query("SELECT * FROM modelstore.lineage(%s)", (str(model),))

    def diff(self, a: ModelName, b: ModelName, *, changed_only: bool = False) -> Rows:
        """Compares the weights of two models: rows of modelstore.diff_models(), one for each weight."""
        rows = self.client.query("SELECT * FROM modelstore.diff_models(%s, %s)", (str(a), str(b)))
        return [row for row in rows if not changed_only or row.status != "same"]

    def alias(self, model: ModelName, alias: str) -> UUID:
        """Points an alias of the model's name at it: afterwards "name@alias" is this model."""
        return self.client.value("SELECT modelstore.set_alias(%s, %s)", (str(model), alias))

    def delete_alias(self, name: str, alias: str) -> bool:
        """Deletes an alias; whether there was one."""
        return self.client.value("SELECT modelstore.delete_alias(%s, %s)", (name, alias))

    def delete(self, model: ModelName, *, cascade: bool = False) -> Any:
        """Deletes a model and returns the row of modelstore.delete_model(). Raises psycopg.errors.DependentObjectsStillExist if it
        has runs, checkpoints or aliases, unless `cascade` is true. gc() frees the space."""
        return self.client.query("SELECT * FROM modelstore.delete_model(%s, %s)", (str(model), cascade))[0]

    def verify(self, model: ModelName | None = None) -> Rows:
        """Decodes and checks all of a model, or of the store; returns one row for each problem, none if all is well."""
        if model is None:
            return self.client.query("SELECT * FROM modelstore.verify_store()")
        return self.client.query("SELECT * FROM modelstore.verify_model(%s)", (str(model),))

    def gc(self, *, dry_run: bool = False, abandoned_after: str | None = None) -> Any:
        """Deletes what nothing uses and returns the row of modelstore.gc()."""
        return self.client.query(
            "SELECT * FROM modelstore.gc(dry_run => %s, abandoned_after => %s::interval)", (dry_run, abandoned_after)
        )[0]


def split_target(target: str) -> tuple[str, str]:
    """Name and version of "name:version"."""
    name, separator, version = target.partition(":")
    if not (name and separator and version):
        raise ValueError(f'"{target}" is no name and version: write name:version, for example minilm:1')
    return name, version


def _is_refusal(error: psycopg.Error) -> bool:
    """Whether the server will refuse the same again. Privileges (42501) can be granted."""
    sqlstate = error.sqlstate or ""
    return sqlstate[:2] in ("22", "23", "42", "54") and sqlstate != "42501"


def _register(connection: psycopg.Connection[Any], details: tuple[Any, ...]) -> UUID:
    name, version, parent, metadata, derivation = details
    row = connection.execute(
        "SELECT modelstore.register_model(%s, %s, parent => %s, metadata => %s, derivation => %s)",
        (name, version, None if parent is None else str(parent), metadata, derivation),
    ).fetchone()
    assert row is not None
    return row[0]


def _add(connection: psycopg.Connection[Any], model_id: UUID, file: _File) -> Any:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        if file.small:
            cursor.execute("SELECT * FROM modelstore.add_file(%s, %s, %b)", (model_id, file.name, file.data))
        else:
            cursor.execute("SELECT * FROM modelstore.add_file_upload(%s, %s, %s)", (model_id, file.name, file.upload_id))
        return cursor.fetchone()


def _order(file: _File) -> tuple[int, str]:
    index = ".index." in file.name and file.name.endswith(".json")
    return (0 if file.name == "config.json" else 2 if index else 1, file.name)


def _folder(folder: pathlib.Path, exclude: Sequence[str]) -> Iterator[_File]:
    names = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        ours = relative.name == STATE or (relative.name.startswith(".") and relative.name.endswith((STATE, ".part")))
        hidden = any(part.startswith(".") for part in relative.parts[:-1])
        name = relative.as_posix()
        if path.is_file() and not ours and not hidden and not any(fnmatch.fnmatch(name, pattern) for pattern in exclude):
            names.append(name)
    if not names:
        raise FileNotFoundError(f"{folder} has no files to push")
    convert = not any(name.endswith(".safetensors") for name in names) and any(_BIN.fullmatch(name) for name in names)
    for name in names:
        if convert and _BIN.fullmatch(name):
            yield _converted(folder / name, _renamed(name))
        elif convert and name == _BIN_INDEX:
            index = json.loads((folder / name).read_text())
            index["weight_map"] = {weight: _renamed(shard) for weight, shard in index["weight_map"].items()}
            yield _File("model.safetensors.index.json", _Bytes(json.dumps(index, indent=2).encode()), [], small=True)
        else:
            yield _file(folder / name, name)


def _renamed(name: str) -> str:
    return name.removeprefix("pytorch_").removesuffix(".bin") + ".safetensors"


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def parts(self, offset: int, end: int, part_bytes: int) -> Iterator[memoryview]:
        yield memoryview(self.data)[offset:end]


def _file(path: pathlib.Path, name: str) -> _File:
    stat = path.stat()
    return _File(name, FileSource(path), [stat.st_size, stat.st_mtime_ns], small=stat.st_size <= SMALL)


def _converted(path: pathlib.Path, name: str) -> _File:
    """A file by torch.save as a safetensors file. Only tensors are unpickled, never code."""
    torch = need_torch(f"{path.name} was written by torch.save; converting it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} holds something other than tensors, which only running its code would read") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise TypeError(f"{path.name} holds a {type(state).__name__}, not a state_dict")
    source = TensorsSource(state)
    return _File(name, source, [source.size, path.stat().st_mtime_ns], small=False)


def _state_path(source: PushSource, folder: pathlib.Path | None, state: os.PathLike[str] | str | bool) -> pathlib.Path | None:
    if state is False:
        return None
    if state is not True:
        return pathlib.Path(state)
    if folder is not None:
        return folder / STATE
    if isinstance(source, Mapping):
        return None
    path = pathlib.Path(source)
    name = path.name if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f".{name}{STATE}")


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path:
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
