"""Data changed by a role with write access to the tables is detected by every reader, which names the chunk and the tensor."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import psycopg
import pytest
from models import random_tensor, safetensors_bytes
from observe import exported_sha256, problems

FILE = {
    "planes": random_tensor(1, 1200, 512),  # f32 numbers: planes
    "raw": np.random.default_rng(2).integers(0, 256, (1500, 1024), dtype="uint8"),  # noise: raw
    "constant": np.full((700, 512), 3.0, dtype="float32"),
    "one chunk": random_tensor(3, 100, 100),
}


@pytest.fixture
def model(db):
    """A model with a weight for each codec."""
    data = safetensors_bytes(FILE)
    (model, *_) = db.execute("SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,)).fetchone()
    assert problems(db) == []
    return model


def chunks_of(db, model, weight: str) -> list[bytes]:
    sql = """SELECT d.chunk_hash FROM store.model_weights w JOIN store.tensor_data d USING (tensor_id)
             WHERE w.model_id = %s AND w.weight_name = %s ORDER BY d.chunk_index"""
    return [h for (h,) in db.execute(sql, (model, weight))]


def codec(db, chunk: bytes) -> str:
    return db.execute(
        "SELECT modelstore.codec(chunk) FROM store.tensor_chunks WHERE chunk_hash = %s", (chunk,)
    ).fetchone()[0]


def flip_a_bit(db, chunk: bytes, generator: random.Random) -> int:
    """Changes one bit of a chunk such that it still is one; returns which."""
    (text,) = db.execute("SELECT chunk::text FROM store.tensor_chunks WHERE chunk_hash = %s", (chunk,)).fetchone()
    encoded = bytes.fromhex(text[2:])
    for _ in range(200):
        bit = (
            generator.randrange(16 * 8, len(encoded) * 8)
            if len(encoded) > 16
            else generator.randrange(len(encoded) * 8)
        )
        changed = bytearray(encoded)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(psycopg.errors.DataError):
            db.execute(
                "UPDATE store.tensor_chunks SET chunk = %s::text::modelstore.tensor_chunk WHERE chunk_hash = %s",
                ("\\x" + changed.hex(), chunk),
            )
            return bit
    raise AssertionError("no bit can be changed")


def assert_found(db, model, weight: str, chunk: bytes | None) -> None:
    """Every reader that promises a check finds the tampering and names it; other weights are as they were."""
    for sql in (
        "SELECT * FROM modelstore.verify_model(%s)",
        "SELECT * FROM modelstore.verify_store() WHERE %s IS NOT NULL",
    ):
        found = db.execute(sql, (model,)).fetchall()
        assert found, sql
        if chunk is not None:
            assert [f for f in found if f[2] == chunk and chunk.hex() in f[3]], found
    (tensor,) = db.execute(
        "SELECT tensor_id FROM store.model_weights WHERE model_id = %s AND weight_name = %s", (model, weight)
    ).fetchone()
    for sql, arguments, label in (
        ("SELECT modelstore.get_tensor(%s, %s)", (model, weight), weight),
        ("SELECT modelstore.reconstruct_tensor(%s)", (tensor,), str(tensor)),
        ("SELECT modelstore.export_safetensors(%s)", (model,), weight),
        (f"COPY (SELECT modelstore.export_safetensors('{model}')) TO STDOUT (FORMAT binary)", None, weight),
        ("SELECT count(*) FROM modelstore.export_safetensors(%s)", (model,), weight),
        ("SELECT modelstore.export_safetensors_large_object(%s)", (model,), weight),
    ):
        with pytest.raises(psycopg.Error) as e:
            if arguments is None:
                with db.cursor().copy(sql) as copy:
                    for _ in copy:
                        pass
            else:
                db.execute(sql, arguments)
        assert e.value.sqlstate == "XX001", (sql, e.value)
        # An export that cannot even begin names the file, the others and verify_model() the tensor.
        assert label in str(e.value) or (chunk is None and "model.safetensors" in str(e.value)), (sql, e.value)
        if chunk is not None:
            assert chunk.hex() in str(e.value), (sql, e.value)
        assert "modelstore.verify_" in (e.value.diag.message_hint or ""), (sql, e.value)
    for other in set(FILE) - {weight}:
        db.execute("SELECT modelstore.get_tensor(%s, %s)", (model, other))


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("weight", ["planes", "raw", "constant", "one chunk"])
def test_one_bit(weight: str, place: str, db, model) -> None:
    chunks = chunks_of(db, model, weight)
    assert (len(chunks) == 1) == (weight == "one chunk")
    chunk = {"first": chunks[0], "middle": chunks[len(chunks) // 2], "last": chunks[-1]}[place]
    assert codec(db, chunk) == {"one chunk": "planes"}.get(weight, weight)
    flip_a_bit(db, chunk, random.Random(place))
    assert_found(db, model, weight, chunk)


def test_another_chunk_in_its_place(db, model) -> None:
    first, second, *_ = chunks_of(db, model, "raw")
    db.execute(
        """UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks WHERE chunk_hash = %s)
           WHERE chunk_hash = %s""",
        (second, first),
    )
    assert_found(db, model, "raw", first)


def test_a_missing_chunk(db, model) -> None:
    chunk = chunks_of(db, model, "raw")[-1]
    db.execute("SET session_replication_role = replica")
    db.execute("DELETE FROM store.tensor_chunks WHERE chunk_hash = %s", (chunk,))
    db.execute("RESET session_replication_role")
    assert_found(db, model, "raw", chunk)
    # A slice needs it too; elsewhere the tensor can still be read.
    with pytest.raises(psycopg.errors.DataCorrupted, match=chunk.hex()):
        db.execute("SELECT modelstore.get_tensor_slice(%s, 'raw', '-1')", (model,))
    db.execute("SELECT modelstore.get_tensor_slice(%s, 'raw', '0')", (model,))


def test_chunks_in_the_wrong_order(db, model) -> None:
    """Each chunk is what its hash says, but it stands at another's place."""
    first, second, *_ = chunks_of(db, model, "planes")
    (tensor,) = db.execute("SELECT tensor_id FROM store.model_weights WHERE weight_name = 'planes'").fetchone()
    db.execute(
        """UPDATE store.tensor_data SET chunk_hash = CASE chunk_hash WHEN %s THEN %s ELSE %s END
           WHERE tensor_id = %s AND chunk_hash IN (%s, %s)""",
        (first, second, first, tensor, first, second),
    )
    # The tensor and its pieces, and the file they come from.
    assert {p[1] for p in problems(db)} == {tensor, None}
    found = db.execute("SELECT object FROM modelstore.verify_model(%s)", (model,)).fetchall()
    assert ("planes",) in found
    with pytest.raises(psycopg.errors.DataCorrupted):
        exported_sha256(db, model)
    # A reader of the tensor alone has only its own hash to go by.
    with pytest.raises(psycopg.errors.DataCorrupted, match="planes"):
        db.execute("SELECT modelstore.get_tensor(%s, 'planes')", (model,))


def test_the_numbers_of_pieces_do_not_fit(db, model) -> None:
    (tensor,) = db.execute("SELECT tensor_id FROM store.model_weights WHERE weight_name = 'planes'").fetchone()
    db.execute("DELETE FROM store.tensor_data WHERE tensor_id = %s AND chunk_index = 1", (tensor,))
    assert_found(db, model, "planes", None)


def test_another_tensor_under_the_name(db, model) -> None:
    """Two weights of one shape exchanged: each tensor is whole, the file is not what it was."""
    data = safetensors_bytes({"a": random_tensor(5, 64, 64), "b": random_tensor(6, 64, 64)})
    (model, *_) = db.execute("SELECT * FROM modelstore.import_safetensors('ab', '1', %b::bytea)", (data,)).fetchone()
    db.execute(
        """UPDATE store.model_weights w SET tensor_id = o.tensor_id FROM store.model_weights o
           WHERE w.model_id = %s AND o.model_id = w.model_id AND o.weight_name <> w.weight_name""",
        (model,),
    )
    assert db.execute("SELECT count(*) FROM modelstore.verify_model(%s)", (model,)).fetchone()[0] >= 1
    with pytest.raises(psycopg.errors.DataCorrupted, match="model.safetensors"):
        exported_sha256(db, model)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE store.model_files SET header = set_byte(header, 20, get_byte(header, 20) # 1)",
        "UPDATE store.model_files SET header = header || ' '",
        "UPDATE store.model_files SET blake3 = set_byte(blake3, 5, get_byte(blake3, 5) # 4)",
        "UPDATE store.model_files SET manifest_hash = set_byte(manifest_hash, 5, get_byte(manifest_hash, 5) # 4)",
        "UPDATE store.model_files SET file_bytes = file_bytes + 1",
        "UPDATE store.model_weights SET file_offset = file_offset + 1 WHERE weight_name = 'raw'",
        "UPDATE store.tensor_metadata SET dtype = 'i8' WHERE dtype = 'u8'",
        "DELETE FROM store.model_weights WHERE weight_name = 'constant'",
    ],
)
def test_a_file_that_is_not_what_it_was(change: str, db, model) -> None:
    db.execute(change)
    assert db.execute("SELECT count(*) > 0 FROM modelstore.verify_model(%s)", (model,)).fetchone() == (True,)
    if "dtype" not in change and "blake3" not in change:  # those do not change a byte of the export
        with pytest.raises(psycopg.errors.DataCorrupted):
            exported_sha256(db, model)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE store.tensor_metadata SET content_hash = set_byte(content_hash, 0, get_byte(content_hash, 0) # 1)",
        "UPDATE store.tensor_metadata SET raw_bytes = raw_bytes + 1",
        "UPDATE store.tensor_metadata SET chunk_count = chunk_count + 1",
        "UPDATE store.tensor_metadata SET shape = shape || 2::bigint WHERE dtype = 'u8'",
        "UPDATE store.tensor_metadata SET dtype = 'nonsense' WHERE dtype = 'u8'",
        "UPDATE store.tensor_data SET first_element = first_element + 1",
        "UPDATE store.tensor_data SET element_count = element_count + 1",
        "UPDATE store.tensor_chunks SET raw_bytes = raw_bytes + 1",
        "UPDATE store.tensor_chunks SET stored_bytes = stored_bytes + 1",
    ],
)
def test_figures_that_are_not_what_they_were(change: str, db, model) -> None:
    """What the tables say beside the data. verify_store() answers with a row, whatever it finds."""
    db.execute(change)
    assert problems(db)


def test_a_base_that_was_changed(db) -> None:
    """A difference is only as good as what it is a difference to."""
    weight = random_tensor(20, 600, 512)
    near = weight.copy()
    near.view("uint32")[:] ^= 1
    first = safetensors_bytes({"w": weight})
    second = safetensors_bytes({"w": near})
    (parent, *_) = db.execute("SELECT * FROM modelstore.import_safetensors('p', '1', %b::bytea)", (first,)).fetchone()
    (child, *_) = db.execute(
        "SELECT * FROM modelstore.import_safetensors('c', '1', %b::bytea, parent => %s)", (second, parent)
    ).fetchone()
    (base, delta) = (chunks_of(db, parent, "w")[0], chunks_of(db, child, "w")[0])
    assert codec(db, delta) == "delta"
    flip_a_bit(db, base, random.Random(1))
    with pytest.raises(psycopg.errors.DataCorrupted, match=delta.hex()):
        db.execute("SELECT modelstore.get_tensor(%s, 'w')", (child,))
    found = {f[2] for f in problems(db)}
    assert {base, delta} <= found
    # Deleting the parent keeps the base: the child needs it.
    db.execute("SELECT modelstore.delete_model(%s, true)", (parent,))
    db.execute("SELECT modelstore.gc()")
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE chunk_hash = %s", (base,)).fetchone() == (1,)


def test_deltas_in_a_circle(db) -> None:
    """A chain of differences that never ends is an error, not a session that never ends."""
    weight = random_tensor(20, 100, 512)
    near = weight.copy()
    near.view("uint32")[:] ^= 1
    (parent, *_) = db.execute(
        "SELECT * FROM modelstore.import_safetensors('p', '1', %b::bytea)", (safetensors_bytes({"w": weight}),)
    ).fetchone()
    (child, *_) = db.execute(
        "SELECT * FROM modelstore.import_safetensors('c', '1', %b::bytea, parent => %s)",
        (safetensors_bytes({"w": near}), parent),
    ).fetchone()
    delta, base = chunks_of(db, child, "w")[0], chunks_of(db, parent, "w")[0]
    # The base becomes the delta itself, which is a difference to the base.
    db.execute(
        """UPDATE store.tensor_chunks b SET chunk = d.chunk, base_hash = d.base_hash, delta_depth = 1,
                                            stored_bytes = d.stored_bytes
           FROM store.tensor_chunks d WHERE b.chunk_hash = %s AND d.chunk_hash = %s""",
        (base, delta),
    )
    db.execute("SET statement_timeout = '10s'")
    with pytest.raises(psycopg.errors.DataCorrupted, match="base of itself"):
        db.execute("SELECT modelstore.get_tensor(%s, 'w')", (child,))
    with pytest.raises(psycopg.errors.DataCorrupted, match="base of itself"):
        db.execute("SELECT modelstore.get_tensor_slice(%s, 'w', '0')", (child,))
    assert problems(db)
