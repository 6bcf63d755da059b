"""A model as a folder: its files go in by any way, and come out again."""

from __future__ import annotations

import hashlib
import json
import pathlib
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from models import LLAMA_CONFIG, MIB, random_tensor, safetensors_bytes, tiny_llama
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL
from transfer import upload_in_parts

Connection = psycopg.Connection[Any]


def tiny_folder(seed: int = 0) -> dict[str, bytes]:
    """The files of a small model, of the kinds that such a folder has."""
    chance = random.Random(seed)
    vocabulary = {f"tok{n}": n for n in range(3000)}
    return {
        "config.json": json.dumps(LLAMA_CONFIG, indent=2).encode() + b"\n",
        "model.safetensors": safetensors_bytes(tiny_llama(seed)),
        "tokenizer.json": json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}).encode(),
        "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
        "README.md": "---\nlicense: mit\n---\n# Ein Modell für Tests\n".encode(),
        "sentencepiece.bpe.model": b"\x0a\x0e\x0a\x05<unk>\x15" + chance.randbytes(1 * MIB + 12_345),
        ".gitattributes": b"",
    }


def add(db: Connection, model: uuid.UUID, name: str, data: bytes) -> Any:
    """Adds a file by a parameter; returns the row that says what came of it."""
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute("SELECT * FROM modelstore.add_file(%s, %s, %b::bytea)", (model, name, data))
        return cursor.fetchone()


def add_large_object(db: Connection, model: uuid.UUID, name: str, data: bytes) -> None:
    (oid,) = db.execute("SELECT lo_from_bytea(0, %b)", (data,)).fetchone()
    db.execute("SELECT modelstore.add_file_large_object(%s, %s, %s)", (model, name, oid))
    db.execute("SELECT lo_unlink(%s)", (oid,))


def add_upload(db: Connection, model: uuid.UUID, name: str, data: bytes) -> None:
    """By an upload in parts of random sizes; small ones only at the start, as of a large file there would be too many."""
    chance = random.Random(len(data))
    sizes = (chance.choice([1, 7, 9, 300] if n < 20 else [65_537, 300_000]) for n in range(10_000))
    upload = upload_in_parts(db, data, sizes, chance.choice([None, len(data)]))
    db.execute("SELECT modelstore.add_file_upload(%s, %s, %s)", (model, name, upload))


def add_copy(db: Connection, model: uuid.UUID, name: str, data: bytes) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    with db.cursor() as cursor, cursor.copy("COPY modelstore.upload (upload_id, data) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["uuid", "bytea"])
        for at in range(0, len(data), MIB):
            copy.write_row((upload, data[at : at + MIB]))
    db.execute("SELECT modelstore.add_file_upload(%s, %s, %s)", (model, name, upload))


WAYS: list[Callable[[Connection, uuid.UUID, str, bytes], Any]] = [add, add_large_object, add_upload, add_copy]


def export(db: Connection, model: uuid.UUID, name: str) -> bytes:
    """A file, by COPY in binary format."""
    query = SQL("COPY (SELECT modelstore.export_file({}, {})) TO STDOUT (FORMAT binary)")
    with db.cursor() as cursor, cursor.copy(query.format(model, name)) as copy:
        copy.set_types(["bytea"])
        return b"".join(part for (part,) in copy.rows())


def names(db: Connection, model: uuid.UUID) -> list[str]:
    """The files of a model."""
    rows = db.execute("SELECT file_name FROM store.model_files WHERE model_id = %s", (model,))
    return sorted(name for (name,) in rows)


def folder(db: Connection, model: uuid.UUID) -> dict[str, bytes]:
    """All files of a model."""
    return {name: export(db, model, name) for name in names(db, model)}


def random_content(seed: int) -> bytes:
    """Bytes of any format: empty, text, numbers, noise, one byte more than a chunk."""
    chance = random.Random(seed)
    size = chance.choice([0, 1, 7, 8, 9, 16, 500, 4096, MIB - 1, MIB, MIB + 1, 2 * MIB + 77])
    match chance.randrange(4):
        case 0:
            return (b'{"token": %d}\n' % seed * (size // 12 + 1))[:size]
        case 1:
            return bytes(size)
        case 2:
            return random_tensor(seed, size // 4 + 1).tobytes()[:size]
        case _:
            return chance.randbytes(size)


def write_folder(folder: pathlib.Path, files: Mapping[str, bytes]) -> pathlib.Path:
    """Writes files, with the folders that their names have."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def contents(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of each file."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def sharded(folder: pathlib.Path, seed: int = 0, rows: int = 300) -> pathlib.Path:
    """Three shards with an index, as transformers writes them."""
    weight_map, files = {}, {}
    for n in range(3):
        name = f"model-{n + 1:05}-of-00003.safetensors"
        tensors = {
            f"model.layers.{n}.{part}.weight": random_tensor(seed + 10 * n + i, rows, 512) for i, part in enumerate(("up", "down"))
        }
        files[name] = safetensors_bytes(tensors, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 3 * 2 * rows * 512 * 4}, "weight_map": weight_map}
    files |= {"model.safetensors.index.json": json.dumps(index, indent=2).encode(), "config.json": b'{"model_type": "llama"}'}
    return write_folder(folder, files)
