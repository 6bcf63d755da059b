"""What is read of large values: heads, slices and rows cost a few blocks, whatever the size of the value.

A block is one of 8 kB in shared buffers; EXPLAIN (ANALYZE, BUFFERS) counts each access to one, of tables, their TOAST
tables and indexes, also in the queries that functions run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import models
import numpy as np
import psycopg
import pytest
from harness import Server
from models import random_tensor
from transfer import import_model

pytestmark = pytest.mark.versioned

SIDE = 4096  # of a matrix of 64 MiB of f32
WHOLE = SIDE * SIDE * 4 // 8192  # blocks that its elements fill at least


@pytest.fixture(scope="module")
def big(server: Server, template: str) -> Iterator[psycopg.Connection]:
    """A database with the matrix in the only row of table t, and as weight w of the only model."""
    with server.connect(autocommit=True) as c:
        c.execute(f"CREATE DATABASE big_values TEMPLATE {template} STRATEGY file_copy")
    with server.connect("big_values", autocommit=True, options="-c search_path=public,modelstore") as db:
        # 16 MiB of random bits in each quarter, so that nothing compresses and no two chunks are equal.
        quarter = np.random.default_rng(1).integers(0, 2**31, SIDE * SIDE // 4, dtype="uint32")
        matrix = np.concatenate([quarter + np.uint32(i) for i in range(4)]).view("float32").reshape(SIDE, SIDE)
        file = models.raw_file({"w": ("F32", matrix.shape, matrix.tobytes())})
        model = import_model(db, file).model_id
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, v modelstore.tensor)")
        db.execute("INSERT INTO t SELECT 1, get_tensor(%s, 'w')", (model,))
        db.execute("CREATE TABLE ids AS SELECT %s::uuid AS model_id", (model,))
        for table in ("t", "store.tensor_data", "store.tensor_chunks"):
            db.execute(f"VACUUM (ANALYZE) {table}")
        yield db


def blocks(db: psycopg.Connection, query: str, warm: bool = True) -> int:
    """Blocks that a query asks for. The first run in a session also reads the catalogues, so it is not counted."""
    if warm:
        db.execute(query)
    (plan,) = db.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF, FORMAT json) {query}").fetchone()
    top = plan[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


@pytest.fixture
def measured(big, record_property) -> Callable[[str, int], int]:
    """measured(query, most): counts, notes the number in the report, and fails above `most`."""

    def measure(query: str, most: int) -> int:
        count = blocks(big, query)
        record_property(query, count)
        print(f"{count:6} blocks (at most {most}): {query}")
        assert count <= most, query
        return count

    return measure


@pytest.mark.parametrize("function", ["dtype", "shape", "ndim", "numel", "nbytes"])
def test_the_head_of_a_toasted_tensor(function, measured) -> None:
    measured(f"SELECT {function}(v) FROM t", 8)


def test_the_whole_of_a_toasted_tensor(big) -> None:
    """What the others are small against; and that the counting sees TOAST at all."""
    assert blocks(big, "SELECT linf_norm(v) FROM t", warm=False) >= WHOLE


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("0, :10", 9), ("0", 13), ("0:10", 32), ("2000", 13), ("-1", 13), ("-1, -1", 9), ("5, 6", 9), ("4095, 100:200", 9), ("0:0", 9),
        ("..., 0:0", 9),
    ],
)  # fmt: skip
def test_a_slice_of_a_toasted_tensor(text, most, measured) -> None:
    measured(f"SELECT sum(slice(v, '{text}')) FROM t", most)


def test_a_type_modifier_that_does_not_fit_reads_only_the_head(big) -> None:
    before = toast_blocks(big)
    with pytest.raises(psycopg.errors.DataException):
        big.execute("SELECT v::tensor(f64) FROM t")
    with pytest.raises(psycopg.errors.DataException):
        big.execute("ALTER TABLE t ALTER v TYPE tensor(f32, '*', 512)")
    assert toast_blocks(big) - before <= 4


def toast_blocks(db: psycopg.Connection) -> int:
    """By the server's own statistics, flushed first."""
    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT toast_blks_hit + toast_blks_read FROM pg_statio_all_tables WHERE relid = 't'::regclass"
    return db.execute(query).fetchone()[0]


def test_the_statistics_agree(big) -> None:
    before = toast_blocks(big)
    big.execute("SELECT shape(v) FROM t")
    head = toast_blocks(big) - before
    big.execute("SELECT linf_norm(v) FROM t")
    whole = toast_blocks(big) - before - head
    assert 1 <= head <= 2 and whole >= WHOLE, (head, whole)


@pytest.mark.parametrize(
    ("text", "most"),
    [("0:10, :", 80), ("0", 45), ("2000, 5", 45), ("-1", 45), ("0:0", 20), ("0:1024:256, :4", 150)],
)  # fmt: skip
def test_a_slice_of_a_stored_tensor(text, most, measured) -> None:
    measured(f"SELECT sum(get_tensor_slice(model_id, 'w', '{text}')) FROM ids", most)


def test_the_whole_of_a_stored_tensor(big) -> None:
    assert blocks(big, "SELECT linf_norm(get_tensor(model_id, 'w')) FROM ids") >= WHOLE


def test_statistics_decode_nothing(measured) -> None:
    measured("SELECT * FROM store.v_weight_statistics", 20)


@pytest.mark.parametrize("function", ["codec", "raw_size", "base_hash"])
def test_the_head_of_a_chunk(function, big, measured) -> None:
    (chunks,) = big.execute("SELECT count(*) FROM store.tensor_chunks").fetchone()
    assert chunks == 64
    measured(f"SELECT count({function}(chunk)) FROM store.tensor_chunks", 64 * 4 + 20)


def test_the_size_of_a_chunk_is_in_its_pointer(measured) -> None:
    measured("SELECT sum(stored_size(chunk)) FROM store.tensor_chunks", 20)


def test_rows_of_an_embedding(server, dbname) -> None:
    """Ten rows far apart in a table of 24 MiB whose chunks are compressed: each costs a few blocks of one chunk."""
    with server.connect(dbname, autocommit=True, options="-c search_path=public,modelstore") as db:
        tensors = models.tiny_gpt2() | {"transformer.wte.weight": random_tensor(3, 16384, 384)}
        model = import_model(db, models.safetensors_bytes(tensors)).model_id
        db.execute("VACUUM (ANALYZE) store.tensor_chunks")
        db.execute("VACUUM (ANALYZE) store.tensor_data")
        ids = list(range(5, 16384, 1638))[:10]
        few = blocks(db, f"SELECT linf_norm(embedding('{model}', ARRAY{ids}))")
        whole = blocks(db, f"SELECT linf_norm(get_tensor('{model}', 'transformer.wte.weight'))")
        print(f"{few} blocks for ten rows, {whole} for all")
        assert few <= 10 * 40 and whole > 2000
