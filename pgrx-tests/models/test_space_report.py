"""Compares space_report with the same figures computed here from the tables."""

from __future__ import annotations

import uuid
from collections import defaultdict

import models
import numpy as np
import pytest
from atoms import ingest
from checkpoints import checkpoint, file_of_weights, register
from psycopg.rows import dict_row
from transfer import Connection, import_model

pytestmark = pytest.mark.versioned

Chunks = dict[bytes, tuple[int, bytes | None]]


def expected(db: Connection) -> tuple[dict[uuid.UUID, dict[str, int]], dict[bytes, set]]:
    """The report by model, and the owners of each chunk."""
    chunks: Chunks = {
        bytes(hash): (stored, base and bytes(base))
        for hash, stored, base in db.execute("SELECT chunk_hash, stored_bytes, base_hash FROM store.tensor_chunks")
    }
    pieces: dict[uuid.UUID, list[bytes]] = defaultdict(list)
    for tensor, hash in db.execute("SELECT tensor_id, chunk_hash FROM store.tensor_data"):
        pieces[tensor].append(bytes(hash))
    raw = dict(db.execute("SELECT tensor_id, raw_bytes FROM store.tensor_metadata").fetchall())
    model_of = dict(db.execute("SELECT checkpoint_id, model_id FROM store.model_checkpoints").fetchall())

    def with_bases(hash: bytes | None) -> set[bytes]:
        found: set[bytes] = set()
        while hash:
            found.add(hash)
            hash = chunks[hash][1]
        return found

    weights: dict[object, set[bytes]] = defaultdict(set)
    states: dict[object, set[bytes]] = defaultdict(set)
    raw_bytes: dict[object, int] = defaultdict(int)
    weight_rows = db.execute("SELECT model_id, tensor_id, gradient_tensor_id FROM store.model_weights").fetchall()
    uses = [(weights, model, tensor) for model, *tensors in weight_rows for tensor in tensors if tensor]
    for table in ("checkpoint_weights", "optimizer_state"):
        rows = db.execute(f"SELECT checkpoint_id, tensor_id FROM store.{table}").fetchall()
        uses += [(states, model_of[id], tensor) for id, tensor in rows]
    for where, model, tensor in uses:
        raw_bytes[model] += raw[tensor]
        for hash in pieces[tensor]:
            where[model] |= with_bases(hash)
    owners: dict[bytes, set] = defaultdict(set)
    for where in (weights, states):
        for owner, hashes in where.items():
            for hash in hashes:
                owners[hash].add(owner)

    def size(hashes: set[bytes]) -> int:
        return sum(chunks[hash][0] for hash in hashes)

    report = {}
    for (model,) in db.execute("SELECT model_id FROM store.models").fetchall():
        used = weights[model] | states[model]
        unique = {hash for hash in used if owners[hash] == {model}}
        report[model] = {
            "raw_bytes": raw_bytes[model],
            "stored_bytes": size(used),
            "weight_bytes": size(weights[model]),
            "checkpoint_bytes": size(states[model] - weights[model]),
            "unique_bytes": size(unique),
            "shared_bytes": size(used - unique),
            "delta_bytes": size({hash for hash in used if chunks[hash][1]}),
            "saved_bytes": raw_bytes[model] - size(used),
        }
    return report, owners


def report(db: Connection) -> dict[uuid.UUID, dict[str, int]]:
    with db.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("SELECT * FROM modelstore.space_report()").fetchall()
    return {row.pop("model_id"): {k: v for k, v in row.items() if isinstance(v, int)} for row in rows}


def stored(db: Connection) -> int:
    return db.execute("SELECT coalesce(sum(stored_bytes), 0)::bigint FROM store.tensor_chunks").fetchone()[0]


def nudged(array: np.ndarray) -> np.ndarray:
    """Nearly the same: stored as a difference."""
    changed = array.copy()
    changed.reshape(-1)[::50] *= np.float32(1.001)
    return changed


@pytest.fixture
def filled(db) -> dict[str, uuid.UUID]:
    """Models that share tensors, differences, checkpoints and, with atoms, chunks."""
    shared, own, base = (models.random_tensor(i, 300, 200) for i in range(3))
    parent = import_model(db, models.safetensors_bytes({"a": shared, "b": base}), "parent").model_id
    child = import_model(db, models.safetensors_bytes({"a": shared, "b": nudged(base), "c": own}), "child", parent=parent).model_id
    # Only checkpoints: of two, the second mostly the first, with a part that the parent has as well.
    only = register(db, "only")
    state = {"w": models.random_tensor(7, 300, 200), "a": shared}
    moments = file_of_weights({"w.exp_avg": models.random_tensor(8, 300, 200)})
    checkpoint(db, only, file_of_weights(state), step=1, optimizer=moments)
    checkpoint(db, only, file_of_weights(state | {"w": nudged(state["w"])}), step=2)
    # Weights and a checkpoint of the same.
    both = import_model(db, models.safetensors_bytes({"x": models.random_tensor(9, 300, 200)}), "both").model_id
    checkpoint(db, both, file_of_weights({"x": models.random_tensor(9, 300, 200), "y": models.random_tensor(10, 300, 200)}), checks=[])
    db.execute("""UPDATE store.model_weights SET gradient_tensor_id = (
                    SELECT tensor_id FROM store.optimizer_state LIMIT 1) WHERE model_id = %s""", (both,))  # fmt: skip
    return {"parent": parent, "child": child, "only": only, "both": both, "empty": register(db, "empty")}


def test_every_figure_is_what_the_tables_say(db, filled) -> None:
    wanted, owners = expected(db)
    assert report(db) == wanted
    # All that is stored has an owner, and no chunk is counted in two places as unique.
    assert set(owners) == {bytes(h) for (h,) in db.execute("SELECT chunk_hash FROM store.tensor_chunks")}
    sizes = dict(db.execute("SELECT chunk_hash, stored_bytes FROM store.tensor_chunks").fetchall())
    shared = sum(size for hash, size in sizes.items() if len(owners[bytes(hash)]) > 1)
    assert sum(row["unique_bytes"] for row in wanted.values()) + shared == stored(db)
    only = wanted[filled["only"]]
    assert (only["weight_bytes"], only["delta_bytes"] > 0) == (0, True)
    assert only["checkpoint_bytes"] > only["unique_bytes"] > 0
    assert wanted[filled["child"]]["delta_bytes"] > 0
    assert set(wanted[filled["empty"]].values()) == {0}


def test_unique_bytes_are_what_deleting_frees(db, filled) -> None:
    for name in ("only", "both", "child", "parent"):
        before, unique = stored(db), report(db)[filled[name]]["unique_bytes"]
        db.execute("SELECT modelstore.delete_model(%s, cascade => true)", (filled[name],))
        db.execute("SELECT modelstore.gc()")
        assert before - stored(db) == unique, name


def test_atoms_are_no_part_of_it(db) -> None:
    """Leaves of atoms have bytes of their own."""
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    data = models.random_tensor(3, 64, 64).tobytes()
    model = import_model(db, models.raw_file({"w": ("F32", (64, 64), data)})).model_id
    before = report(db)[model]
    assert (before["unique_bytes"], before["shared_bytes"]) == (before["stored_bytes"], 0)
    ingest(db, data)
    assert report(db)[model] == before == expected(db)[0][model]
