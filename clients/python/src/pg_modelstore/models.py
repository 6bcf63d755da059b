"""Models: pushed and pulled as folders, listed, compared, deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from . import archive as archives
from . import uploads
from .client import Client, ModelName, Rows, name_text
from .files import PushSource, files_of, state_path
from .progress import Progress
from .pull import Paths, chosen, pull, stored_files, stream
from .push import Details, Push, Pushed


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
        exclude: str | Sequence[str] = (),
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
        details = _details(target, parent, metadata, derivation)
        exclude = [exclude] if isinstance(exclude, str) else exclude
        kept = uploads.State(state_path(source, state), f"{self.client.store or ''}/{target}")
        return Push(self.client, files_of(source, exclude), details, kept).run(upload_ids or {}, progress)

    def register(
        self,
        target: str,
        *,
        parent: ModelName | None = None,
        metadata: Mapping[str, Any] | None = None,
        derivation: str | None = None,
    ) -> UUID:
        """Registers a model without weights, a draft: `client.tensors.put` adds weights, `finish` finishes it."""
        details = _details(target, parent, metadata, derivation)
        with self.client.transaction() as connection:
            return details.register(connection)

    def finish(self, model: ModelName) -> Any:
        """Finishes a draft and returns the row of modelstore.finish_model(). It is then exported as one safetensors file."""
        return self.client.query("SELECT * FROM modelstore.finish_model(%s)", (name_text(model),))[0]

    # Out

    def pull(
        self, model: ModelName, folder: os.PathLike[str] | str, *, files: str | Iterable[str] | None = None, progress: Progress = False
    ) -> Paths:
        """Writes the files of a model to a folder, byte for byte as they were pushed, and returns their paths.

        A file appears under its name once it is complete and its SHA-256 matches. A file that is there and matches is kept. After a
        lost connection, or when a standby has cancelled the export, it goes on at the byte where it stopped.
        files: the names of those to write; all by default.
        """
        model_id = self.find(model)
        return pull(self.client, model_id, chosen(self.files(model_id), model, files), folder, progress)

    def stream(self, model: ModelName, file_name: str, from_byte: int = 0) -> Iterator[bytes]:
        """The bytes of one file from `from_byte` on, in parts of about 1 MiB, as they arrive."""
        return stream(self.client, model, file_name, from_byte)

    def read_file(self, model: ModelName, file_name: str) -> bytes:
        """One file, in memory: for small ones such as config.json."""
        return self.client.retry(lambda: b"".join(self.stream(model, file_name)))

    # As one file

    def archive(
        self, model: ModelName, path: os.PathLike[str] | str, *, with_checkpoints: bool = True, progress: Progress = False
    ) -> pathlib.Path:
        """Writes a model as one tar file: its files, runs, metrics, checkpoints and what the store says of it. Replaces a file."""
        return archives.archive(self.client, model, path, with_checkpoints=with_checkpoints, progress=progress)

    def unarchive(self, path: os.PathLike[str] | str, target: str | None = None, *, progress: Progress = False) -> Any:
        """Stores what `archive` has written, under its name and version or as `target`, "name:version".

        Returns the row of modelstore.import_archive_upload(): model_id, files, runs, checkpoints, weights, new_bytes, and so on.
        """
        name, version = (None, None) if target is None else split_target(target)
        return archives.unarchive(self.client, path, name, version, progress=progress)

    # The registry

    def find(self, model: ModelName) -> UUID:
        """UUID of a model. Raises psycopg.errors.UndefinedObject if it does not exist."""
        # The cast takes any UUID, as regclass takes any OID; model_label looks for the model.
        query = "SELECT m::uuid, modelstore.model_label(m) FROM (SELECT %s::modelstore.regmodel AS m) AS given"
        return self.client.value(query, (name_text(model),))

    def label(self, model: ModelName) -> str:
        """ "name:version" of a model."""
        return self.client.value("SELECT modelstore.model_label(%s)", (name_text(model),))

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
                return stored_files(self.client, connection, model_id)

        return self.client.retry(run)

    def _one(self, view: str, model_id: UUID) -> Any:
        query = sql.SQL("SELECT * FROM {} WHERE model_id = %s").format(self.client.table(view))
        return self.client.query(query, (model_id,))[0]

    def lineage(self, model: ModelName) -> Rows:
        """A model at depth 0, then its parent, and so on: rows of modelstore.lineage()."""
        return self.client.query("SELECT * FROM modelstore.lineage(%s)", (name_text(model),))

    def diff(self, a: ModelName, b: ModelName, *, changed_only: bool = False) -> Rows:
        """Compares the weights of two models: rows of modelstore.diff_models(), one for each weight."""
        rows = self.client.query("SELECT * FROM modelstore.diff_models(%s, %s)", (name_text(a), name_text(b)))
        return [row for row in rows if not changed_only or row.status != "same"]

    def alias(self, model: ModelName, alias: str) -> UUID:
        """Points an alias of the model's name at it: afterwards "name@alias" is this model."""
        return self.client.value("SELECT modelstore.set_alias(%s, %s)", (name_text(model), alias))

    def delete_alias(self, name: str, alias: str) -> bool:
        """Deletes an alias; whether there was one."""
        return self.client.value("SELECT modelstore.delete_alias(%s, %s)", (name, alias))

    def delete(self, model: ModelName, *, cascade: bool = False) -> Any:
        """Deletes a model and returns the row of modelstore.delete_model(). Raises psycopg.errors.DependentObjectsStillExist if it
        has runs, checkpoints or aliases, unless `cascade` is true. gc() frees the space."""
        return self.client.query("SELECT * FROM modelstore.delete_model(%s, %s)", (name_text(model), cascade))[0]

    def verify(self, model: ModelName | None = None) -> Rows:
        """Decodes and checks all of a model, or of the store; returns one row for each problem, none if all is well."""
        if model is None:
            return self.client.query("SELECT * FROM modelstore.verify_store()")
        return self.client.query("SELECT * FROM modelstore.verify_model(%s)", (name_text(model),))

    def gc(self, *, dry_run: bool = False, abandoned_after: str | None = None) -> Any:
        """Deletes what nothing uses and returns the row of modelstore.gc()."""
        return self.client.query(
            "SELECT * FROM modelstore.gc(dry_run => %s, abandoned_after => %s::interval)", (dry_run, abandoned_after)
        )[0]


def split_target(target: str) -> tuple[str, str]:
    """Name and version of "name:version"."""
    if not isinstance(target, str):
        raise TypeError(f'a target is text, "name:version", not {type(target).__name__}; the source comes before it')
    name, separator, version = target.partition(":")
    if not (name and separator and version):
        raise ValueError(f'"{target}" is no name and version: write name:version, for example minilm:1')
    return name, version


def _details(target: str, parent: ModelName | None, metadata: Mapping[str, Any] | None, derivation: str | None) -> Details:
    given = None if parent is None else name_text(parent)
    if metadata is not None:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is a mapping, which becomes a JSON object, not {type(metadata).__name__}")
        try:
            json.dumps(metadata)
        except (TypeError, ValueError) as error:
            raise TypeError(f"metadata cannot become JSON: {error}") from error
    return Details(*split_target(target), given, None if metadata is None else Jsonb(metadata), derivation)
