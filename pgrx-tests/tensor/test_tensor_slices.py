"""Compares tensors of a model, slices of them and rows of its embeddings with numpy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import models
import numpy as np
import psycopg
import pytest
from harness import Server
from models import random_tensor, raw_file, to_bf16
from tensors import NUMPY, fetch, same, value
from transfer import import_model, refusal


def stored_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {
        "matrix": random_tensor(1, 1000, 300),
        "bf16": to_bf16(random_tensor(2, 900, 500)),
        "i64": rng.integers(-(2**63), 2**63, (300, 257), dtype="int64"),
        "cube": random_tensor(3, 37, 61, 83),
        "wide": random_tensor(4, 3, 70_001),  # a row is longer than a chunk of 256 kB
        "vector": random_tensor(5, 200_003),
        "small": rng.integers(0, 256, (4, 5, 6), dtype="uint8"),
        "scalar": np.array(-0.5, "float64"),
        "hollow": np.zeros((5, 0, 3), "float32"),
    }


@pytest.fixture(scope="module")
def stored(server: Server, template: str) -> Iterator[tuple[psycopg.Connection, Any, dict[str, np.ndarray]]]:
    """A store with the arrays above, in chunks of 256 kB."""
    with server.connect(autocommit=True) as c:
        c.execute(f"CREATE DATABASE values_of_a_model TEMPLATE {template} STRATEGY file_copy")
    with server.connect("values_of_a_model", autocommit=True) as db:
        db.execute("SET modelstore.chunk_size = '256kB'")
        names = {np.dtype(d): n.upper() for n, (_, d) in NUMPY.items()} | {np.dtype("uint16"): "BF16"}
        arrays = stored_arrays()
        data = raw_file({n: (names[a.dtype], a.shape, a.tobytes()) for n, a in arrays.items()})
        model = import_model(db, data).model_id
        chunks = dict(db.execute("SELECT weight_name, chunk_count FROM store.model_weights JOIN store.tensor_metadata USING (tensor_id)"))
        assert chunks["cube"] == 4 and chunks["wide"] == 4 and chunks["matrix"] == 5 and chunks["vector"] == 4
        yield db, model, arrays


SLICES = {
    "matrix": [
        "0", "-1", "999", "0:10", "0:10, :", ":10, 5", "-10:", "::100", "::7, ::11", "200:240, 100:110", "217:219", "218", "217, 299",
        ":, 0", ":, -1", ":, 3:7", "5:5", "10:5", "2000:", "-5000:3", "-3:-1, -3:-1", "...", "..., 0", "0, ...", ":, :", "998:5000:1000",
        "1:1000:217, 299:", "[3:5]", " 3 : 5 , 7 ", "3:5,", "0:1000:999", ":, 298::5", "::9999999999999999999, 0",
    ],
    "bf16": ["0", "100:300", "::13, ::17", ":, 499", "..., 2:499:3", "261:263, 499:"],
    "i64": ["0", ":, 256", "127:129", "-1, -1", "::50, ::50", "..., :3"],
    "cube": ["0", "-1", "..., 0", ":, 0", ":, :, 82", "5, 6, 7", "5, ..., 7", "10:14, 3:5, 80:", "::5, ::7, ::11", "12:14", "12, 50:",
             "3:3, :, :", "36:37, 60, 82", ":, 60, :", "..., 1:2, :", "-30:-2:9, ..., -1:", "20:20, 1, ::2"],
    "wide": ["0", "2", ":, 65535:65537", ":, ::10000", "1, 65530:65540", ":, -1", "1:, 70000", "0, ::35000"],
    "vector": ["0", "-1", "65530:65540", "::50001", "131071:131074", "199999:", ":3", "100000:200003:3"],
    "small": ["...", "1", "1, 2", "1, 2, 3", ":, ::2, 1:-1"],
    "scalar": ["..."],
    "hollow": ["...", "0", ":2", "..., 1", ":, :, ::2", "4:, :0"],
}  # fmt: skip


def indexed(array: np.ndarray, text: str) -> np.ndarray:
    """array[text], by Python's own reading of it."""
    text = text.strip().removeprefix("[").removesuffix("]")
    index = ast.parse(f"array[{text}]", mode="eval")
    return np.asarray(eval(compile(index, "slice", "eval"), {"array": array}))  # noqa: S307


@pytest.mark.parametrize("name", SLICES)
def test_slices_are_numpys(name, stored) -> None:
    db, model, arrays = stored
    for text in SLICES[name]:
        expected = indexed(arrays[name], text)
        got = fetch(db, "SELECT modelstore.get_tensor_slice(%s, %s, %s)", model, name, text)
        assert same(got, expected), (text, got.shape, expected.shape)
        got = fetch(db, "SELECT modelstore.slice(modelstore.get_tensor(%s, %s), %s)", model, name, text)
        assert same(got, expected), text


def test_random_slices_are_numpys(stored) -> None:
    db, model, arrays = stored
    rng = np.random.default_rng(3)

    def bound(size: int) -> str:
        return "" if rng.random() < 0.25 else str(rng.integers(-size - 3, size + 4))

    def item(size: int) -> str:
        if size and rng.random() < 0.25:
            return str(rng.integers(-size, size))
        step = "" if rng.random() < 0.5 else f":{rng.integers(1, max(size, 2))}"
        return f"{bound(size)}:{bound(size)}{step}"

    for _ in range(300):
        name = rng.choice(["matrix", "bf16", "cube", "wide", "small"])
        array = arrays[name]
        text = ", ".join(item(size) for size in array.shape[: rng.integers(1, array.ndim + 1)])
        got = fetch(db, "SELECT modelstore.get_tensor_slice(%s, %s, %s)", model, name, text)
        assert same(got, indexed(array, text)), (name, text)


REFUSED_SLICES = {
    "": "22023", "a": "22023", "1 2": "22023", "::0": "22023", "::-1": "22023", "1:2:3:4": "22023", "0, , 0": "22023",
    "[0": "22023", "0]": "22023", "..., ...": "22023", "None": "0A000", "[[0, 1]]": "0A000", "[0, 1]": "0A000", "[3]": "0A000", "[0, 1], 0": "0A000", "True": "0A000", "(0)": "0A000",
    "1000": "2202E", "-1001": "2202E", "0, 300": "2202E", "0, 0, 0": "2202E", "..., 0, 0, 0": "2202E", "99999999999999999999": "2202E",
    "1.5": "22023", "0x10": "22023", "0;1": "22023", ",": "22023", "0,,": "22023", "०": "22023",
}  # fmt: skip


def test_refused_slices(stored) -> None:
    db, model, _ = stored
    for text, state in REFUSED_SLICES.items():
        for query in ("get_tensor_slice(%s, %s, %s)", "slice(modelstore.get_tensor(%s, %s), %s)"):
            assert refusal(db, f"SELECT modelstore.{query}", model, "matrix", text).sqlstate == state, (query, text)


def test_whole_tensors(stored) -> None:
    db, model, arrays = stored
    for name, array in arrays.items():
        assert same(fetch(db, "SELECT modelstore.get_tensor(%s, %s)", model, name), array), name
    ids = db.execute("SELECT weight_name, tensor_id FROM store.model_weights").fetchall()
    assert len(ids) == len(arrays)
    for name, tensor in ids:
        assert same(fetch(db, "SELECT modelstore.reconstruct_tensor(%s)", tensor), arrays[name]), name
    unknown = refusal(db, "SELECT modelstore.get_tensor(%s, 'none')", model)
    assert unknown.sqlstate == "42704" and db.execute(unknown.message_hint).rowcount == len(arrays)
    assert refusal(db, "SELECT modelstore.get_tensor(gen_random_uuid(), 'matrix')").sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.reconstruct_tensor(gen_random_uuid())").sqlstate == "42704"


def test_slices_of_groups_smaller_than_a_byte(db) -> None:
    raw = models.random_raw(np.random.default_rng(1), "F4", 6, 8)
    model = import_model(db, raw_file({"w": raw})).model_id
    nibbles = np.frombuffer(raw[2], "u1").reshape(6, 4)
    get = "SELECT modelstore.tobytes(modelstore.get_tensor_slice(%s, 'w', %s))"
    for text, expected in {"2:4": nibbles[2:4], ":, 2:6": nibbles[:, 1:3], "1": nibbles[1], "::2": nibbles[::2], ":0": b""}.items():
        assert value(db, get, model, text) == bytes(expected.tobytes() if isinstance(expected, np.ndarray) else expected), text
    for text in ("0, 0", ":, 1:3", ":, ::2", ":, :3"):
        assert refusal(db, get, model, text).sqlstate == "0A000", text


def test_embedding(db) -> None:
    db.execute("SET modelstore.chunk_size = '256kB'")
    tensors = models.tiny_gpt2()
    table = random_tensor(77, 5000, 40)
    tensors = {n: a for n, a in tensors.items() if n != "lm_head.weight"} | {"transformer.wte.weight": table}
    model = import_model(db, models.safetensors_bytes(tensors)).model_id
    rng = np.random.default_rng(5)
    query = "SELECT modelstore.embedding(%s, kind => %s, ids => %s::bigint[])"
    cases = [
        [0], [4999], [4999, 0, 4999, 17], list(range(100)), list(range(99, -1, -1)), [], [1637, 1638, 1639], [7] * 50,
        rng.integers(0, 5000, 2000).tolist(), rng.permutation(5000).tolist(), list(range(0, 5000, 33)), list(range(0, 5000, 32)),
    ]  # fmt: skip
    for ids in cases:
        assert same(fetch(db, query, model, "token", ids), table[ids] if ids else np.zeros((0, 40), "float32")), ids[:5]
    assert same(fetch(db, query, model, "position", [11, 0]), tensors["transformer.wpe.weight"][[11, 0]])
    for ids, state in {(5000,): "2202E", (-1,): "2202E", (0, None): "22004", (2**62,): "2202E"}.items():
        assert refusal(db, query, model, "token", list(ids)).sqlstate == state
    assert refusal(db, query, model, "segment", [0]).sqlstate == "42704"
    assert refusal(db, query, model, "nonsense", [0]).sqlstate == "42704"


def test_a_slice_of_many_pieces_reads_a_few_of_them(db, connect) -> None:
    """As the server counts rows that an index leads to: those of the slice and the first, not all 80."""
    values = (np.arange(20 << 20, dtype="uint32") // 7).astype("uint8").reshape(20, 1 << 20)
    db.execute("SET modelstore.chunk_size = '256kB'")
    import_model(db, models.safetensors_bytes({"w": values}), "many")
    pieces = db.execute("SELECT chunk_count FROM store.tensor_metadata").fetchone()[0]
    assert pieces == 80
    other = connect(autocommit=False)
    read = "SELECT coalesce(sum(idx_tup_fetch), 0)::bigint FROM pg_stat_xact_user_tables WHERE relname = 'tensor_data'"
    for key, most in (("3, 100:200", 4), ("19, :", 8), ("0, 0:1", 4), ("7:9, 500000:600000", 12)):
        before = other.execute(read).fetchone()[0]
        (found,) = other.execute("SELECT modelstore.tobytes(modelstore.get_tensor_slice('many:1', 'w', %s))", (key,)).fetchone()
        fetched = other.execute(read).fetchone()[0] - before
        assert found == eval(f"values[{key}]").tobytes()
        assert 0 < fetched <= most, (key, fetched)
    # Without its first piece the tensor is damaged: an error, not an empty answer.
    db.execute("DELETE FROM store.tensor_data WHERE chunk_index = 0")
    with pytest.raises(psycopg.Error) as e:
        db.execute("SELECT modelstore.get_tensor_slice('many:1', 'w', '3, 100:200')")
    assert e.value.sqlstate == "XX001"
