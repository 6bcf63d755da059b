"""An export that goes on at a byte: `from_byte` gives the tail of what the whole export gives, and reads no chunk before it."""

from __future__ import annotations

import random
import uuid

import numpy as np
import psycopg
import pytest
from checkpoints import checkpoint, file_of_weights, start
from models import DTYPES, random_raw, random_tensor, raw_file, safetensors_bytes
from rounds import seed
from transfer import import_model, refusal

pytestmark = pytest.mark.versioned


def parts(db: psycopg.Connection, function: str, *arguments: object) -> list[bytes]:
    """What export_… returns for its arguments, the last of which is from_byte."""
    given = ", ".join(["%s"] * (len(arguments) - 1) + ["from_byte => %s"])
    rows = db.execute(f"SELECT modelstore.{function}({given})", arguments, binary=True)
    return [part for (part,) in rows]


def places(data: bytes, chance: random.Random) -> list[int]:
    """Offsets that are special, and others: in the header, between tensors and chunks, in the middle of elements, behind the end."""
    n = len(data)
    header = min(8 + int.from_bytes(data[:8], "little"), n // 2)
    special = [0, 1, 7, 8, header - 1, header, header + 1, n - 1, n, n + 1, n + (1 << 40), 2**63 - 1]
    special += [header + chunks * (1 << 18) + more for chunks in range(1, 4) for more in (-1, 0, 1)]
    return special + [chance.randrange(n) for _ in range(20)] + [chance.randrange(header) for _ in range(5)]


def check_tails(db: psycopg.Connection, data: bytes, function: str, *arguments: object) -> None:
    chance = random.Random(seed())
    assert b"".join(parts(db, function, *arguments, 0)) == data
    for at in places(data, chance):
        found = parts(db, function, *arguments, at)
        assert b"".join(found) == data[at:], (function, at)
        if at >= len(data) > 0:
            assert found == [], (function, at)


@pytest.fixture
def small_chunks(db) -> psycopg.Connection:
    db.execute("SELECT modelstore.version()")
    db.execute("SET modelstore.chunk_size = '256kB'")
    return db


def test_tensors_of_every_type(small_chunks) -> None:
    """Some with less than a chunk, some with several, empty ones between them, and groups of less than a byte."""
    db, rng = small_chunks, np.random.default_rng(seed())
    tensors = {}
    for number, dtype in enumerate(DTYPES):
        tensors[f"small.{dtype}"] = random_raw(rng, dtype, 3, 8)
        tensors[f"empty.{number}"] = random_raw(rng, dtype, 0, 8)
    for dtype in ("F32", "BF16", "F4", "F6_E2M3", "C64"):
        elements, size = DTYPES[dtype]
        tensors[f"large.{dtype}"] = random_raw(rng, dtype, 3, 300_000 // size * elements)
    data = raw_file(tensors, {"made": "here"})
    model = import_model(db, data).model_id
    check_tails(db, data, "export_safetensors", model, None)
    check_tails(db, data, "export_safetensors", model, "model.safetensors")
    check_tails(db, data, "export_file", model, "model.safetensors")


def test_other_files_and_checkpoints(small_chunks) -> None:
    db = small_chunks
    first = {"w": random_tensor(1, 700, 512), "b": random_tensor(2, 512)}
    model = import_model(db, safetensors_bytes(first)).model_id
    other = random.Random(seed()).randbytes(900_000)
    for name, data in (("tokens.bin", other), ("short.txt", b"some text"), ("empty.txt", b"")):
        db.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, name, data))
    check_tails(db, other, "export_file", model, "tokens.bin")
    for at in range(12):
        assert b"".join(parts(db, "export_file", model, "short.txt", at)) == b"some text"[at:]
    # An empty file has one part, unless one asks for what is behind its end.
    assert parts(db, "export_file", model, "empty.txt", 0) == [b""]
    assert parts(db, "export_file", model, "empty.txt", 1) == []
    # The second checkpoint is stored as a difference to the first.
    session = start(db, model)
    for step in (1, 2):
        weights = file_of_weights({**first, "w": first["w"] + np.float32(step * 1e-5)})
        optimizer = file_of_weights({"0.exp_avg": random_tensor(step, 700, 512)})
        made = checkpoint(db, model, weights, step, session, optimizer=optimizer).checkpoint_id
        check_tails(db, weights, "export_checkpoint", made, "model.safetensors")
        check_tails(db, optimizer, "export_checkpoint", made, "optimizer.safetensors")


def test_arguments(db) -> None:
    model = import_model(db, safetensors_bytes({"w": random_tensor(1, 3)})).model_id
    for function, name in (("export_safetensors", None), ("export_file", "model.safetensors")):
        query = f"SELECT modelstore.{function}(%s, %s, %s)"
        assert (e := refusal(db, query, model, name, -1)).sqlstate == "22023" and e.message_primary == "from_byte -1 is negative"
        e = refusal(db, query, model, name, None)
        assert e.sqlstate == "22004" and e.message_primary == 'argument "from_byte" must not be null'
        assert refusal(db, query, uuid.uuid4(), name, 1).sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.export_checkpoint(%s, from_byte => -1)", uuid.uuid4()).sqlstate == "22023"


def test_nothing_before_it_is_read(small_chunks) -> None:
    """Every chunk in front of the one with the byte is damaged: the tail comes all the same, and one byte more does not."""
    db = small_chunks
    data = safetensors_bytes({"a": random_tensor(1, 512, 512), "b": random_tensor(2, 512, 512)})
    header = 8 + int.from_bytes(data[:8], "little")
    model = import_model(db, data).model_id
    wanted = header + (1 << 20) + 2 * (1 << 18)  # the third chunk of b
    with db.transaction(force_rollback=True):
        done = db.execute(
            """WITH pieces AS (SELECT weight_name, chunk_index, chunk_hash FROM store.tensor_data JOIN store.model_weights USING (tensor_id)),
            other AS (SELECT chunk FROM store.tensor_chunks JOIN pieces USING (chunk_hash) WHERE weight_name = 'b' AND chunk_index = 3)
            UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM other)
            WHERE chunk_hash IN (SELECT chunk_hash FROM pieces WHERE weight_name = 'a' OR chunk_index < 2)"""
        )  # fmt: skip
        assert done.rowcount == 6
        for at in (wanted, wanted + 1, wanted + (1 << 18), len(data)):
            assert b"".join(parts(db, "export_safetensors", model, None, at)) == data[at:]
        for at in (wanted - 1, 0):
            assert refusal(db, "SELECT modelstore.export_safetensors(%s, from_byte => %s)", model, at).sqlstate == "XX001"


@pytest.mark.parametrize("altered", ["element_count = element_count + 1, first_element = first_element", "first_element = first_element + 1"])
def test_altered_pieces_do_not_move_the_tail(altered: str, small_chunks) -> None:
    """The store's tables are not trusted: pieces of other sizes than their chunks are an error, not other bytes."""
    db = small_chunks
    data = safetensors_bytes({"a": random_tensor(1, 512, 512)})
    model = import_model(db, data).model_id
    query = "SELECT modelstore.export_safetensors(%s, from_byte => %s)"
    with db.transaction(force_rollback=True):
        db.execute(f"UPDATE store.tensor_data SET {altered} WHERE chunk_index = 1".encode())
        assert refusal(db, query, model, len(data) - 1).sqlstate == "XX001"
    # Consistent with each other, and with what the tensor has in all.
    with db.transaction(force_rollback=True):
        db.execute("UPDATE store.tensor_data SET element_count = element_count + 10 WHERE chunk_index = 1")
        db.execute("UPDATE store.tensor_data SET element_count = element_count - 10, first_element = first_element + 10 WHERE chunk_index = 2")
        e = refusal(db, query, model, len(data) - (1 << 18) - 1)
        assert e.sqlstate == "XX001" and "do not have the recorded sizes" in e.message_primary
        assert b"".join(parts(db, "export_safetensors", model, None, len(data) - 5)) == data[-5:]
    # The byte is behind the end of the chunk that should have it.
    with db.transaction(force_rollback=True):
        db.execute("UPDATE store.tensor_data SET element_count = element_count + 30000 WHERE chunk_index = 1")
        db.execute("UPDATE store.tensor_data SET element_count = element_count - 30000, first_element = first_element + 30000 WHERE chunk_index = 2")
        header = 8 + int.from_bytes(data[:8], "little")
        assert refusal(db, query, model, header + (2 << 18) + 60_000).sqlstate == "XX001"
