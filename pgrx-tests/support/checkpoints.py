"""Helpers for runs and checkpoints: create, export, and inspect the store."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import psycopg
from models import from_bf16, raw_file
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[Any]

# dtype and array: bfloat16 comes as its bits in uint16.
Tensors = Mapping[str, np.ndarray]


def file_of_weights(tensors: Tensors, bf16: bool = False) -> bytes:
    """A safetensors file of these; uint16 arrays are bfloat16 where `bf16` says so."""
    names = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "uint16": "BF16" if bf16 else "U16"}
    return raw_file({n: (names[str(a.dtype)], a.shape, np.ascontiguousarray(a).tobytes()) for n, a in tensors.items()})


def tensors_of_file(data: bytes) -> dict[str, np.ndarray]:
    """Its tensors; those of bfloat16 as f32."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    kinds = {"F32": "float32", "F64": "float64", "F16": "float16", "I64": "int64", "BF16": "uint16"}
    found = {}
    for name, t in header.items():
        if name != "__metadata__":
            array = np.frombuffer(body[slice(*t["data_offsets"])], kinds[t["dtype"]]).reshape(t["shape"])
            found[name] = from_bf16(array) if t["dtype"] == "BF16" else array
    return found


def register(db: Connection, name: str = "model", version: str = "1", config: object = None) -> uuid.UUID:
    """A model without weights."""
    query = "SELECT modelstore.register_model(%s, %s, config => %s)"
    return db.execute(query, (name, version, Jsonb(config) if config is not None else None)).fetchone()[0]


def start(db: Connection, model: uuid.UUID, name: str | None = None, **options: object) -> uuid.UUID:
    """Starts a run."""
    options = {k: Jsonb(v) if isinstance(v, dict) else v for k, v in ({"session_name": name} | options).items()}
    named = SQL("").join(SQL(", {} => %s").format(SQL(k)) for k in options)
    query = SQL("SELECT modelstore.start_training(%s{})").format(named)
    return db.execute(query, (model, *options.values())).fetchone()[0]


def checkpoint(
    db: Connection,
    model: uuid.UUID,
    weights: bytes,
    step: int = 0,
    session: uuid.UUID | None = None,
    epoch: float | None = None,
    optimizer: bytes | None = None,
    **options: object,
) -> Any:
    """Makes a checkpoint of bytes; returns the row that says what came of it."""
    options = {k: Jsonb(v) if isinstance(v, dict) else v for k, v in options.items()}
    named = SQL("").join(SQL(", {} => %s").format(SQL(k)) for k in options)
    query = SQL("SELECT * FROM modelstore.create_checkpoint(%s, session_id => %s, step => %s, epoch => %s, weights => %b::bytea, optimizer => %b::bytea{})").format(named)
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(query, (model, session, step, epoch, weights, optimizer, *options.values()))
        return cursor.fetchone()


def exported(db: Connection, id: uuid.UUID, file_name: str = "model.safetensors") -> bytes:
    """A file of a checkpoint."""
    with db.cursor() as cursor:
        query = "SELECT modelstore.export_checkpoint(%s, %s)"
        return b"".join(part for (part,) in cursor.stream(query, (id, file_name), binary=True))


def exported_sha256(db: Connection, id: uuid.UUID, file_name: str = "model.safetensors") -> str:
    """SHA-256 of that file."""
    return hashlib.sha256(exported(db, id, file_name)).hexdigest()


def latest(db: Connection, model: uuid.UUID, session: uuid.UUID | None = None) -> uuid.UUID | None:
    """What get_latest_checkpoint says."""
    return db.execute("SELECT modelstore.get_latest_checkpoint(%s, %s)", (model, session)).fetchone()[0]


def best(db: Connection, model: uuid.UUID, *arguments: object, session: uuid.UUID | None = None) -> uuid.UUID | None:
    """What get_best_checkpoint says."""
    query = f"SELECT modelstore.get_best_checkpoint(%s{', %s' * len(arguments)}, session_id => %s)"
    return db.execute(query, (model, *arguments, session)).fetchone()[0]


def parents(db: Connection) -> dict[uuid.UUID, uuid.UUID | None]:
    """The checkpoint that each continues."""
    return dict(db.execute("SELECT checkpoint_id, parent_checkpoint_id FROM store.model_checkpoints").fetchall())


def chunk_bytes(db: Connection) -> tuple[int, int]:
    """Number and stored bytes of all chunks."""
    return db.execute("SELECT count(*), coalesce(sum(stored_bytes), 0)::bigint FROM store.tensor_chunks").fetchone()


def needed_chunk_bytes(db: Connection) -> tuple[int, int]:
    """Number and stored bytes of the chunks that models and checkpoints need, with what these are deltas of."""
    return db.execute("""
        WITH RECURSIVE needed AS (
            SELECT d.chunk_hash FROM store.tensor_data d WHERE d.tensor_id IN (
                SELECT tensor_id FROM store.model_weights
                UNION SELECT tensor_id FROM store.checkpoint_weights
                UNION SELECT tensor_id FROM store.optimizer_state)
            UNION
            SELECT c.base_hash FROM needed n JOIN store.tensor_chunks c USING (chunk_hash) WHERE c.base_hash IS NOT NULL)
        SELECT count(*), coalesce(sum(c.stored_bytes), 0)::bigint FROM needed JOIN store.tensor_chunks c USING (chunk_hash)
    """).fetchone()  # fmt: skip


def checkpoint_problems(db: Connection, id: uuid.UUID) -> list[tuple[Any, ...]]:
    """What verify_checkpoint finds: objects and problems."""
    return db.execute("SELECT object, problem FROM modelstore.verify_checkpoint(%s)", (id,)).fetchall()
