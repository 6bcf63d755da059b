"""Damage to the tables of a checkpoint is detected and named."""

from __future__ import annotations

import pytest
from checkpoints import checkpoint, checkpoint_problems, exported, register
from models import random_tensor, safetensors_bytes
from observe import problems
from transfer import refusal

WEIGHTS = safetensors_bytes({"w": random_tensor(1, 500, 512), "v": random_tensor(2, 500, 512)})
MOMENTS = safetensors_bytes({"w.m": random_tensor(3, 50), "v.m": random_tensor(4, 50)})

# What is done, and what is said of which file or tensor.
DAMAGE = [
    ("UPDATE store.checkpoint_files SET blake3 = sha256('x')", "model.safetensors", "BLAKE3"),
    ("UPDATE store.checkpoint_files SET manifest_hash = sha256('x')", "optimizer.safetensors", "manifest"),
    ("UPDATE store.checkpoint_files SET header = header || ' '", "model.safetensors", "header"),
    ("UPDATE store.checkpoint_files SET file_bytes = 5", "optimizer.safetensors", "544 bytes, not 5"),
    ("DELETE FROM store.checkpoint_weights WHERE weight_name = 'v'", "model.safetensors", '"v" is missing'),
    ("DELETE FROM store.optimizer_state WHERE parameter_name = 'v'", "optimizer.safetensors", '"v.m" is missing'),
    ("UPDATE store.checkpoint_weights w SET tensor_id = v.tensor_id FROM store.checkpoint_weights v WHERE v.weight_name = 'v'", "model.safetensors", "BLAKE3"),
    ("UPDATE store.optimizer_state w SET tensor_id = v.tensor_id FROM store.optimizer_state v WHERE v.parameter_name = 'v'", "optimizer.safetensors", "BLAKE3"),
    ("UPDATE store.checkpoint_weights SET file_offset = file_offset + 4", "model.safetensors", '"w" is not that of the header'),
    ("UPDATE store.optimizer_state SET file_name = NULL, file_offset = NULL", "optimizer.safetensors", '"w.m" is missing'),
    ("DELETE FROM store.tensor_data", "w", "pieces have 0 elements"),
    ("INSERT INTO store.checkpoint_weights SELECT checkpoint_id, 'z', tensor_id, file_name, 0 FROM store.checkpoint_weights LIMIT 1",
     "model.safetensors", '"z" is not in the header'),
]  # fmt: skip


@pytest.fixture
def made(db):
    return checkpoint(db, register(db), WEIGHTS, 1, optimizer=MOMENTS).checkpoint_id


def test_damage_is_named(db, made) -> None:
    assert checkpoint_problems(db, made) == []
    for statement, object_, problem in DAMAGE:
        with db.transaction(force_rollback=True):
            db.execute(statement)
            found = checkpoint_problems(db, made)
            assert [p for o, p in found if o == object_ and problem in p], (statement, found)
    assert checkpoint_problems(db, made) == []


def test_a_chunk_that_is_not_what_its_hash_says_is_not_exported(db, made) -> None:
    """Chunks swapped: each is whole and decodes."""
    swap = """
        UPDATE store.tensor_chunks c SET chunk = o.chunk FROM store.tensor_chunks o
        WHERE c.raw_bytes = o.raw_bytes AND c.chunk_hash <> o.chunk_hash
    """
    with db.transaction(force_rollback=True):
        assert db.execute(swap).rowcount == 4
        assert checkpoint_problems(db, made)
        assert problems(db)
        for file_name in ("model.safetensors", "optimizer.safetensors"):
            query = "SELECT count(*) FROM modelstore.export_checkpoint(%s, %s)"
            assert refusal(db, query, made, file_name).sqlstate == "XX001"
        assert refusal(db, "SELECT modelstore.get_optimizer_state(%s, 'w', 'm')", made).sqlstate == "XX001"
    assert exported(db, made) == WEIGHTS
