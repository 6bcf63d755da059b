"""A push: the files of a model into the store, in streaming uploads and a last transaction that makes the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.rows import namedtuple_row

from . import uploads
from .client import Client
from .files import LAST, File, Files
from .progress import Progress, show
from .pull import stored_files


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
class _Totals:
    weights: int = 0
    parameters: int = 0
    new_bytes: int = 0
    reused_bytes: int = 0

    def add(self, row: Any) -> None:
        for name in ("weights", "parameters", "new_bytes", "reused_bytes"):
            setattr(self, name, getattr(self, name) + (getattr(row, name, None) or 0))


@dataclass(frozen=True)
class Details:
    """What a model is registered with."""

    name: str
    version: str
    parent: str | None
    metadata: Any
    derivation: str | None

    @property
    def label(self) -> str:
        """ "name:version"."""
        return f"{self.name}:{self.version}"

    def register(self, connection: psycopg.Connection[Any]) -> UUID:
        """Registers it."""
        row = connection.execute(
            "SELECT modelstore.register_model(%s, %s, parent => %s, metadata => %s, derivation => %s)",
            (self.name, self.version, self.parent, self.metadata, self.derivation),
        ).fetchone()
        assert row is not None
        return row[0]


class Push:
    """One push."""

    def __init__(self, client: Client, files: Files, details: Details, kept: uploads.State) -> None:
        self.client, self.files, self.details, self.kept = client, files, details, kept

    def run(self, given: Mapping[str, UUID], progress: Progress) -> Pushed:
        """Sends the files and makes the model. given: uploads begun elsewhere."""
        began = time.monotonic()
        for file in self.files:
            if file.small:
                file.read()
        try:
            self._try()
        except errors.UniqueViolation:
            if (made := self._made_before()) is None:
                raise
            model_id, totals = made
        else:
            for file in self.files:
                if not file.small:
                    self._send(file, given.get(file.name), progress)
            model_id, totals = self._finish()
        self.kept.forget()
        size = sum(file.source.size for file in self.files)
        return Pushed(
            model_id, self.details.label, len(self.files), totals.weights, totals.parameters, size, totals.new_bytes,
            totals.reused_bytes, time.monotonic() - began,
        )  # fmt: skip

    def _try(self) -> None:
        """Lets the server refuse name, version, parent and small files before large ones are sent."""
        # Not an index: it is checked against its shards.
        small = [file for file in self._in_order() if file.small and file.rank < LAST]

        def step() -> None:
            with self.client.transaction() as connection, connection.transaction() as inner:
                model_id = self.details.register(connection)
                if len(small) < len(self.files):
                    for file in small:
                        _add(connection, model_id, file)
                raise psycopg.Rollback(inner)

        self.client.retry(step)

    def _made_before(self) -> tuple[UUID, _Totals] | None:
        """The model, if this push was interrupted after its last commit: the uploads that it remembers have become its files."""
        if not self.kept.resumed:
            return None
        for file in self.files:
            if not file.small:
                file.sha256 = uploads.digest(file.source)

        def ask() -> tuple[UUID, _Totals] | None:
            with self.client.transaction() as connection:
                return self._done(connection)

        return self.client.retry(ask)

    def _send(self, file: File, given: UUID | None, progress: Progress) -> None:
        stale = self.kept.stale(file.name, file.stamp)
        if stale is not None:
            uploads.abort(self.client, stale)
        bar = show(progress, file.name, file.source.size)
        file.upload_id = given or self.kept.find(file.name, file.stamp)

        def started(upload_id: UUID) -> None:
            file.upload_id = upload_id
            self.kept.keep(file.name, file.stamp, upload_id)

        try:
            file.upload_id, file.sha256 = uploads.upload(
                self.client,
                file.source,
                upload_id=file.upload_id,
                parent=self.details.parent if file.name.endswith(".safetensors") else None,
                started=started,
                progress=bar,
            )
        except psycopg.Error as error:
            if _is_refusal(error):
                self._drop([file])
            raise
        finally:
            bar.close()

    def _drop(self, files: Files) -> None:
        """Deletes uploads that no later push can use."""
        for file in files:
            if file.upload_id is not None:
                uploads.abort(self.client, file.upload_id)
                self.kept.drop(file.name)

    def _finish(self) -> tuple[UUID, _Totals]:
        """One transaction that makes the model of its files."""
        attempts, at_fault = 0, self.files

        def make(connection: psycopg.Connection[Any]) -> tuple[UUID, _Totals]:
            nonlocal at_fault
            at_fault = self.files
            totals = _Totals()
            model_id = self.details.register(connection)
            for file in self._in_order():
                # Without a file that remembers them, nobody finds the other uploads again.
                at_fault = self.files if self.kept.path is None else [file]
                totals.add(_add(connection, model_id, file))
            at_fault = self.files
            if wrong := self._different(connection, model_id):
                at_fault, names = wrong, ", ".join(file.name for file in wrong)
                raise errors.DataException(f"the server has other bytes of {names}: did the file change while it was sent?")
            return model_id, totals

        def step() -> tuple[UUID, _Totals]:
            nonlocal attempts
            attempts += 1
            try:
                with self.client.transaction() as connection:
                    if attempts > 1 and (done := self._done(connection)) is not None:
                        return done
                    return make(connection)
            except errors.UniqueViolation:
                # A commit whose connection was lost may have come after the question.
                if attempts > 1:
                    with self.client.transaction() as connection:
                        if (done := self._done(connection)) is not None:
                            return done
                raise

        try:
            return self.client.retry(step)
        except psycopg.Error as error:
            if _is_refusal(error):
                self._drop(at_fault)
            raise

    def _done(self, connection: psycopg.Connection[Any]) -> tuple[UUID, _Totals] | None:
        """The model, if a commit whose answer was lost has made it."""
        query = sql.SQL("SELECT model_id, weights, parameters FROM {} WHERE model_name = %s AND version = %s")
        query = query.format(self.client.table("v_model_architecture"))
        row = connection.execute(query, (self.details.name, self.details.version)).fetchone()
        return None if row is None or self._different(connection, row[0]) else (row[0], _Totals(row[1], row[2]))

    def _different(self, connection: psycopg.Connection[Any], model_id: UUID) -> Files:
        """The files of which the server has other bytes."""
        stored = {file.file_name: file.sha256 for file in stored_files(self.client, connection, model_id)}
        return [file for file in self.files if stored.get(file.name) != file.sha256]

    def _in_order(self) -> Files:
        return sorted(self.files, key=_order)


def _order(file: File) -> tuple[int, bool, int, str]:
    """Of the forms of the same weights, the first becomes weights: the one without a variant in its name."""
    base = file.name.rpartition("/")[2]
    return (file.rank, base.startswith("consolidated."), base.count("."), file.name)


def _is_refusal(error: psycopg.Error) -> bool:
    """Whether the server will refuse the same again. Privileges (42501) can be granted."""
    sqlstate = error.sqlstate or ""
    return sqlstate[:2] in ("22", "23", "42", "54") and sqlstate != "42501"


def _add(connection: psycopg.Connection[Any], model_id: UUID, file: File) -> Any:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        if file.small:
            cursor.execute("SELECT * FROM modelstore.add_file(%s, %s, %b)", (model_id, file.name, file.data))
        else:
            cursor.execute("SELECT * FROM modelstore.add_file_upload(%s, %s, %s)", (model_id, file.name, file.upload_id))
        return cursor.fetchone()
