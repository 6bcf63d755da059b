"""Streaming uploads that go on where they stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

from psycopg import errors

from .client import Client
from .progress import Silent
from .safetensors import Source

MIB = 1 << 20
# Rows of a COPY, and what is sent in one transaction: after a lost connection at most this much is sent again, and the locks
# on chunks are held for no longer.
PART_BYTES = MIB
BATCH_BYTES = 64 * MIB

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY = "COPY modelstore.upload (upload_id, data) FROM STDIN (FORMAT binary)"


class Hashing:
    """SHA-256 of a source whose bytes come in pieces that may come twice."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.at = 0

    def feed(self, offset: int, data: memoryview) -> None:
        """Takes bytes that stand at an offset; what it has seen counts once."""
        if offset <= self.at < offset + len(data):
            self._sha256.update(data[self.at - offset :])
            self.at = offset + len(data)

    def digest(self) -> bytes:
        """SHA-256 of what it has seen."""
        return self._sha256.digest()


def upload(
    client: Client,
    source: Source,
    *,
    upload_id: UUID | None = None,
    parent: Any = None,
    parent_checkpoint: Any = None,
    started: Callable[[UUID], None] = lambda _: None,
    progress: Any = None,
) -> tuple[UUID, bytes]:
    """Sends a source to an upload, a new one or that of the ID, and returns its ID and the SHA-256 of the source.

    An upload that the server does not know is started anew. `started` is called with the ID of a new upload. Repeats from
    upload_offset what fails with a lost connection or a conflict; three times without progress are the end.
    """
    progress = progress or Silent()
    hashing = Hashing()
    offset = None if upload_id is None else _offset(client, upload_id)
    if upload_id is None or offset is None or offset > source.size:
        upload_id, offset = begin(client, source.size, parent, parent_checkpoint), 0
        started(upload_id)
    position = [offset]

    def send() -> None:
        while True:
            current = _offset(client, upload_id)
            if current is None:
                raise errors.UndefinedObject(f"upload {upload_id} is gone: somebody has aborted it")
            position[0] = current
            progress.at(current)
            # An earlier process has sent these bytes, or a connection that was lost before its answer.
            for part in source.parts(hashing.at, current, PART_BYTES):
                hashing.feed(hashing.at, part)
            try:
                while position[0] < source.size:
                    position[0] = _send_batch(client, source, upload_id, position[0], hashing, progress)
                return
            except errors.ObjectNotInPrerequisiteState:
                # A transaction whose connection was lost has committed meanwhile.
                if _offset(client, upload_id) == position[0]:
                    raise

    client.retry(send, progressed=lambda: position[0])
    return upload_id, hashing.digest()


def digest(source: Source) -> bytes:
    """SHA-256 of a source that is not sent."""
    hashing = Hashing()
    for part in source.parts(0, source.size, PART_BYTES):
        hashing.feed(hashing.at, part)
    return hashing.digest()


def begin(client: Client, size: int | None = None, parent: Any = None, parent_checkpoint: Any = None) -> UUID:
    """Starts an upload."""
    return client.value("SELECT modelstore.begin_upload(%s, %s, %s)", (size, parent, parent_checkpoint))


def abort(client: Client, upload_id: UUID) -> None:
    """Deletes an upload, if it is there."""
    with contextlib.suppress(errors.UndefinedObject):
        client.query("SELECT modelstore.abort_upload(%s)", (upload_id,))


def _offset(client: Client, upload_id: UUID | None) -> int | None:
    try:
        return client.value("SELECT modelstore.upload_offset(%s)", (upload_id,))
    except errors.UndefinedObject:
        return None


def _send_batch(client: Client, source: Source, upload_id: UUID, offset: int, hashing: Hashing, progress: Any) -> int:
    """One transaction. Returns the offset behind it."""
    end = min(offset + BATCH_BYTES, source.size)
    with client.transaction() as connection, connection.cursor() as cursor:
        # Locks the upload and refuses if bytes have come from elsewhere: a backend whose client is gone may still commit.
        cursor.execute("SELECT modelstore.append_upload(%s, ''::bytea, %s)", (upload_id, offset))
        at = offset
        with cursor.copy(_COPY) as copy:
            copy.write(_SIGNATURE)
            for part in source.parts(offset, end, PART_BYTES):
                copy.write(struct.pack("!hi16si", 2, 16, upload_id.bytes, len(part)))
                copy.write(part)
                hashing.feed(at, part)
                at += len(part)
                progress.at(at)
            copy.write(b"\xff\xff")
    return end


class State:
    """The uploads of a push that has not ended, in a small JSON file; without a path, in memory."""

    def __init__(self, path: pathlib.Path | None, target: str) -> None:
        self.path = path
        self._content: dict[str, Any] = {"target": target, "uploads": {}}
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(path.read_text())
                known = isinstance(content, dict) and content.get("target") == target
                if known and isinstance(content.get("uploads"), dict):
                    self._content = content

    @property
    def resumed(self) -> bool:
        """Whether it remembers uploads."""
        return bool(self._content["uploads"])

    def find(self, name: str, stamp: list[int]) -> UUID | None:
        """The upload of a file that has not changed since."""
        return self._upload(name, lambda kept: kept == stamp)

    def stale(self, name: str, stamp: list[int]) -> UUID | None:
        """The upload of a file that has changed since."""
        return self._upload(name, lambda kept: kept != stamp)

    def _upload(self, name: str, wanted: Callable[[Any], bool]) -> UUID | None:
        with contextlib.suppress(TypeError, KeyError, ValueError):
            entry = self._content["uploads"][name]
            if wanted(entry["stamp"]):
                return UUID(entry["upload_id"])
        return None

    def keep(self, name: str, stamp: list[int], upload_id: UUID) -> None:
        """Remembers an upload."""
        self._content["uploads"][name] = {"upload_id": str(upload_id), "stamp": stamp}
        self._write()

    def drop(self, name: str) -> None:
        """Forgets the upload of a file."""
        if self._content["uploads"].pop(name, None) is not None:
            if self._content["uploads"]:
                self._write()
            else:
                self.forget()

    def _write(self) -> None:
        if self.path is not None:
            # A folder that cannot be written to is pushed all the same.
            with contextlib.suppress(OSError):
                temporary = self.path.with_name(self.path.name + ".new")
                temporary.write_text(json.dumps(self._content, indent=1))
                os.replace(temporary, self.path)

    def forget(self) -> None:
        """Ends the push."""
        self._content["uploads"] = {}
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
