"""Values against numpy: tensors and slices out of the store, figures, differences, casts, the text and binary forms."""

from __future__ import annotations

import ast
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import models
import numpy as np
import psycopg
import pytest
from harness import Server
from models import from_bf16, random_tensor, raw_file, to_bf16
from psycopg.types.json import Jsonb
from transfer import import_model, refusal

# SQL's name and stored code of each dtype that numpy has as well, with numpy's.
NUMPY = {
    "bool": (1, "?"), "u8": (2, "u1"), "i8": (3, "i1"), "u16": (4, "<u2"), "i16": (5, "<i2"), "u32": (6, "<u4"),
    "i32": (7, "<i4"), "u64": (8, "<u8"), "i64": (9, "<i8"), "f16": (12, "<f2"), "f32": (14, "<f4"), "f64": (15, "<f8"),
}  # fmt: skip
# Those it does not have, as bits.
BITS = {"f8_e4m3": (10, "u1"), "f8_e5m2": (11, "u1"), "bf16": (13, "<u2")}
CODES = {code: dtype for _, (code, dtype) in (NUMPY | BITS).items()}


def pack(array: np.ndarray, name: str | None = None) -> bytes:
    """The binary form, as docs/formats.md has it: version, dtype, rank, flags, dimensions, elements."""
    if name is None:
        (name,) = (n for n, (_, d) in NUMPY.items() if np.dtype(d) == array.dtype)
    header = struct.pack("<BBBB", 1, (NUMPY | BITS)[name][0], array.ndim, 0)
    return header + struct.pack(f"<{array.ndim}q", *array.shape) + array.tobytes()


def unpack(data: bytes) -> np.ndarray:
    """An array that looks at the elements where they are."""
    version, code, rank, flags = struct.unpack_from("<BBBB", data)
    assert (version, flags) == (1, 0)
    shape = struct.unpack_from(f"<{rank}q", data, 4)
    return np.frombuffer(data, dtype=CODES[code], offset=4 + 8 * rank).reshape(shape)


@pytest.fixture
def db(connect) -> psycopg.Connection:
    """As everywhere, and it finds the operators of tensor."""
    return connect(options="-c search_path=public,modelstore")


def fetch(db: psycopg.Connection, query: str, *arguments: Any) -> np.ndarray:
    """One tensor in binary format."""
    (value,) = db.execute(query, arguments, binary=True).fetchone()
    return unpack(value)


def value(db: psycopg.Connection, query: str, *arguments: Any) -> Any:
    return db.execute(query, arguments).fetchone()[0]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal in shape, dtype and bits."""
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


# Tensors and slices of a model


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
    "[0": "22023", "0]": "22023", "..., ...": "22023", "None": "0A000", "[[0, 1]]": "0A000", "True": "0A000", "(0)": "0A000",
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
    query = "SELECT modelstore.embedding(%s, %s, %s::bigint[])"
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


# Figures


def figures() -> dict[str, tuple[str, np.ndarray]]:
    """Weights with something about them, by their dtype in the file."""
    rng = np.random.default_rng(21)
    odd = random_tensor(6, 400, 300)
    odd[5, 7], odd[399, 299], odd[0, 0] = np.nan, -np.nan, -0.0
    odd[200, 5:9] = [np.inf, -np.inf, np.inf, 1e30]
    nothing_but_nan = np.full(100, np.nan, "float32")
    return {
        "normal": ("F32", random_tensor(7, 1100, 500)),
        "half": ("F16", random_tensor(8, 600, 700, dtype="float16")),
        "bf16": ("BF16", to_bf16(random_tensor(9, 513, 1027))),
        "double": ("F64", rng.standard_normal((300, 301)) * 1e100),
        "shifted": ("F64", rng.standard_normal(5000) + 50),
        "int8": ("I8", rng.integers(-128, 128, (500, 1000), dtype="int8")),
        "int64": ("I64", rng.integers(-(2**52), 2**52, 100_000)),
        "uint64": ("U64", rng.integers(0, 2**64, 100, dtype="uint64")),
        "bool": ("BOOL", rng.integers(0, 2, 1000).astype(bool)),
        "finite": ("F32", np.abs(random_tensor(10, 1))),
        "odd": ("F32", odd),
        "nan": ("F32", nothing_but_nan),
        "zeros": ("F32", np.where(rng.random(1000) < 0.5, -0.0, 0.0).astype("float32")),
        "equal": ("F16", np.full((300, 1000), 0.25, "float16")),
        "all equal but one": ("F32", np.append(np.ones(200_000, "float32"), np.float32(2))),
        "infinite": ("F32", np.full(10, -np.inf, "float32")),
        "empty": ("F32", np.zeros((0, 3), "float32")),
        "huge": ("F64", np.full(200_000, 1e300)),
        "huge and tiny": ("F64", np.array([1e-200, -1e-200, 1e-200])),
    }


def numbers(dtype: str, array: np.ndarray) -> np.ndarray:
    return (from_bf16(array) if dtype == "BF16" else array).astype("float64")


@pytest.fixture(scope="module")
def weighed(server: Server, template: str) -> Iterator[tuple[psycopg.Connection, Any]]:
    """A store with the weights above, in chunks of 256 kB."""
    with server.connect(autocommit=True) as c:
        c.execute(f"CREATE DATABASE figures_of_a_model TEMPLATE {template} STRATEGY file_copy")
    with server.connect("figures_of_a_model", autocommit=True) as db:
        db.execute("SET modelstore.chunk_size = '256kB'")
        data = raw_file({n: (d, a.shape, a.tobytes()) for n, (d, a) in figures().items()})
        yield db, import_model(db, data).model_id


def close(got: float | None, expected: float | None, relative: float = 1e-9, absolute: float = 0.0) -> bool:
    if got is None or expected is None:
        return got is expected
    return bool(np.isclose(got, expected, rtol=relative, atol=absolute, equal_nan=True))


@pytest.mark.parametrize("name", figures())
def test_weight_statistics_are_numpys(name, weighed) -> None:
    db, _ = weighed
    dtype, array = figures()[name]
    query = """SELECT dtype, shape, element_count, min, max, mean, std, l2, absmax, zeros, nans, infs
               FROM store.v_weight_statistics WHERE weight_name = %s"""
    row = db.execute(query, (name,)).fetchone()
    assert row[:3] == (dtype.lower(), list(array.shape), array.size)
    all_numbers = numbers(dtype, array).reshape(-1)
    x = all_numbers[~np.isnan(all_numbers)]
    low, high, mean, std, l2, absmax = row[3:9]
    with np.errstate(all="ignore"):
        if x.size:
            assert (low, high, absmax) == (x.min(), x.max(), np.abs(x).max())
            assert close(mean, x.mean(), absolute=1e-12 * np.abs(x).max())
            # The square of a number above 1e154 is infinite; these figures then are infinite as well, and no error.
            if np.isfinite(np.sum(x * x)) or not np.isfinite(x).all():
                assert close(std, x.std(), 1e-6, absolute=1e-9 * np.abs(x).max())
                assert close(l2, np.sqrt(np.sum(x * x)))
        else:
            assert (low, high, mean, std, absmax) == (None,) * 5
    counts = ((all_numbers == 0).sum(), np.isnan(all_numbers).sum(), np.isinf(all_numbers).sum())
    assert row[9:] == (tuple(map(int, counts)) if array.size else (None,) * 3)


def test_statistics_of_all_weights_at_once(weighed) -> None:
    """One weight of extreme numbers must not cost the figures of all others."""
    db, _ = weighed
    assert len(db.execute("SELECT * FROM store.v_weight_statistics").fetchall()) == len(figures())


def test_reductions_are_numpys(weighed) -> None:
    db, model = weighed
    query = """SELECT modelstore.norm(t), modelstore.l1_norm(t), modelstore.linf_norm(t), modelstore.sum(t), modelstore.mean(t),
                      modelstore.std(t), modelstore.min(t), modelstore.max(t) FROM modelstore.get_tensor(%s, %s) t"""
    for name, (dtype, array) in figures().items():
        x = numbers(dtype, array).reshape(-1)
        norm, l1, linf, total, mean, std, low, high = db.execute(query, (model, name)).fetchone()
        if not x.size:
            assert (norm, l1, linf, total) == (0,) * 4 and (mean, std, low, high) == (None,) * 4
            continue
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scale = np.abs(x).max()
            # Scaled, so that numbers whose squares overflow do have a norm; numpy's own answer is as good.
            expected = scale * np.linalg.norm(x / scale) if np.isfinite(scale) and scale else np.linalg.norm(x)
            assert close(norm, expected) or close(norm, np.linalg.norm(x)), name
            assert close(l1, np.abs(x).sum()), name
            assert close(linf, scale) and close(low, x.min()) and close(high, x.max()), name
            assert close(total, x.sum(), absolute=1e-9 * np.abs(x).sum()), name
            assert close(mean, x.mean(), absolute=1e-12 * scale), name
            assert close(std, x.std(), 1e-6, absolute=1e-12 * scale) or not np.isfinite(x.std()), name
    opaque = "SELECT modelstore.norm('c64(1):\\x0000000000000000'::modelstore.tensor)"
    assert refusal(db, opaque).sqlstate == "0A000"


def test_find_weights_with(weighed) -> None:
    db, model = weighed

    def found(what: str, *arguments: Any) -> dict[str, int]:
        rows = db.execute("SELECT * FROM modelstore.find_weights_with(%s, %s)", (what, *(arguments or (None,)))).fetchall()
        assert all(row[0] == model for row in rows)
        return {name: count for _, name, count in rows}

    assert found("nan") == {"odd": 2, "nan": 100}
    assert found("inf") == {"odd": 3, "infinite": 10}
    constant = {"finite": 1, "zeros": 1000, "equal": 300_000, "infinite": 10, "huge": 200_000}
    assert found("constant") == constant
    assert found("constant", model) == constant
    assert refusal(db, "SELECT * FROM modelstore.find_weights_with('nan', gen_random_uuid())").sqlstate == "42704"
    diag = refusal(db, "SELECT * FROM modelstore.find_weights_with('zero')")
    assert diag.sqlstate == "22023" and db.execute(diag.message_hint)


def test_dead_rows(db) -> None:
    db.execute("SET modelstore.chunk_size = '256kB'")
    across = random_tensor(1, 4, 150_001)  # rows of 2.3 chunks
    across[1] = 0
    across[3] = -0.0
    nearly = random_tensor(2, 3, 150_001)
    nearly[1] = 0
    nearly[1, -1] = 1e-45
    signed = np.zeros((5, 3), "float16")
    signed[2, 1] = np.float16(6e-8)
    signed[4] = -0.0
    bf16 = np.array([[0, 0x8000], [0, 1], [0x8000, 0x8000]], "uint16")
    integers = np.array([[0, 0], [0, -128], [0, 1], [0, 0]], "int8")
    tensors = {
        "across": ("F32", across), "nearly": ("F32", nearly), "signed": ("F16", signed), "bf16": ("BF16", bf16), "integers": ("I8", integers),
        "cube": ("F64", np.zeros((3, 2, 2))), "vector": ("F32", np.zeros(9, "float32")), "empty": ("F32", np.zeros((3, 0), "float32")),
        "nan": ("F32", np.array([[np.nan, 0], [0, 0]], "float32")), "alive": ("F32", np.eye(7, dtype="float32")),
    }  # fmt: skip
    model = import_model(db, raw_file({n: (d, a.shape, a.tobytes()) for n, (d, a) in tensors.items()})).model_id
    rows = db.execute("SELECT weight_name, count FROM modelstore.find_weights_with('dead_rows', %s)", (model,)).fetchall()
    assert dict(rows) == {"across": 2, "signed": 4, "bf16": 2, "integers": 2, "cube": 3, "nan": 1}


# Differences


def test_diff_models(db) -> None:
    a = {
        "same": ("F32", random_tensor(1, 50, 60)),
        "changed": ("F32", random_tensor(2, 700, 800)),
        "other chunks": ("F32", random_tensor(3, 300, 400)),
        "dtype": ("F32", random_tensor(4, 333, 222)),
        "shape": ("F32", random_tensor(5, 6, 8)),
        "nan": ("F32", np.array([1, np.nan, 3], "float32")),
        "zero": ("F32", np.zeros(5, "float32")),
        "negated": ("F64", np.array([1.0, 2.0, 3.0])),
        "gone": ("F32", random_tensor(6, 3)),
        "opaque": ("C64", np.ones(8, "uint8")),
        "empty": ("F32", np.zeros((0, 2), "float32")),
    }
    changed = a["changed"][1].copy()
    changed[5, 6:20] += np.float32(0.5)
    b = dict(a) | {
        "changed": ("F32", changed),
        "other chunks": ("F32", random_tensor(33, 300, 400)),
        "dtype": ("BF16", to_bf16(a["dtype"][1])),
        "shape": ("F32", a["shape"][1].reshape(8, 6)),
        "nan": ("F32", np.array([1, 2, 3], "float32")),
        "zero": ("F32", np.ones(5, "float32")),
        "negated": ("F64", np.array([-1.0, -2.0, -3.0])),
        "added": ("F32", random_tensor(7, 3)),
        "opaque": ("C64", np.zeros(8, "uint8")),
        "empty": ("F64", np.zeros((0, 2))),
    }
    del b["gone"]
    ids = []
    for version, tensors in enumerate((a, b)):
        # Pieces of different sizes must still be compared element by element.
        db.execute(f"SET modelstore.chunk_size = '{256 + 256 * version}kB'")
        shapes = {n: (array.shape if dtype != "C64" else (1,)) for n, (dtype, array) in tensors.items()}
        data = raw_file({n: (d, shapes[n], x.tobytes()) for n, (d, x) in tensors.items()})
        ids.append(import_model(db, data, version=str(version)).model_id)
    rows = {row[0]: row[1:] for row in db.execute("SELECT * FROM modelstore.diff_models(%s, %s)", ids)}
    assert list(rows) == sorted(a.keys() | b.keys())
    assert rows["same"] == ("same", 0, 0, None, a["same"][1].nbytes)
    assert rows["gone"] == ("removed", None, None, None, 0)
    assert rows["added"] == ("added", None, None, None, 0)
    assert rows["shape"][:4] == ("changed", None, None, None) and rows["opaque"][:4] == ("changed", None, None, None)
    assert rows["empty"][:3] == ("changed", 0, 0)
    for name in ("changed", "other chunks", "dtype", "zero", "negated"):
        x, y = numbers(*a[name]), numbers(*b[name])
        status, l2, max_abs, cosine, _ = rows[name]
        assert status == "changed"
        assert close(l2, np.linalg.norm(y - x)) and close(max_abs, np.abs(y - x).max()), name
        with np.errstate(all="ignore"):
            expected = np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))
        assert close(cosine, expected if np.isfinite(expected) else None), name
    assert np.isnan(rows["nan"][1]) and np.isnan(rows["nan"][2])
    # The reverse order swaps what is added and removed and no number.
    reverse = {row[0]: row[1:] for row in db.execute("SELECT * FROM modelstore.diff_models(%s, %s)", ids[::-1])}
    assert reverse["gone"][0] == "added" and reverse["changed"] == rows["changed"]
    assert {row[1] for row in db.execute("SELECT * FROM modelstore.diff_models(%s, %s)", ids[:1] * 2)} == {"same"}


# Binary and text


def test_copy_binary_out_and_in(db) -> None:
    rng = np.random.default_rng(8)
    arrays = [rng.integers(0, 256, (2, 3, 8), dtype="uint8").view(d) for n, (_, d) in NUMPY.items() if n != "bool"]
    arrays += [np.array([True, False]), np.array(1.5), np.zeros((2, 0), "int32"), random_tensor(1, 700, 500), np.ones((1,) * 32, "u1")]
    db.execute("CREATE TABLE t (i integer, v modelstore.tensor); CREATE TABLE back (LIKE t)")
    (oid,) = db.execute("SELECT 'modelstore.tensor'::regtype::oid").fetchone()
    with db.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "bytea"])  # tensor's binary form is bytes like any
            for row in enumerate(map(pack, arrays)):
                copy.write_row(row)
        with cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copy:
            whole = b"".join(copy)
        with cursor.copy("COPY back FROM STDIN (FORMAT binary)") as copy:
            copy.write(whole)
    for row in db.execute("SELECT i, v FROM t", binary=True):
        assert same(unpack(row[1]), arrays[row[0]])
    assert value(db, "SELECT count(*) FROM t JOIN back USING (i, v)") == len(arrays)
    assert db.execute("SELECT v FROM t", binary=True).description[0].type_code == oid
    text = value(db, "SELECT string_agg(v::text, E'\\n' ORDER BY i) FROM t WHERE i < 12")
    assert len(text.splitlines()) == 12


GOOD = pack(random_tensor(1, 2, 3))
BAD_BINARY = {
    "nothing": b"", "no header": GOOD[:3], "no dimensions": GOOD[:19], "no elements": GOOD[:20], "short": GOOD[:-1], "long": GOOD + b"\0",
    "version 0": b"\0" + GOOD[1:], "version 2": b"\2" + GOOD[1:], "dtype 0": GOOD[:1] + b"\0" + GOOD[2:], "dtype 255": GOOD[:1] + b"\xff" + GOOD[2:],
    "flags": GOOD[:3] + b"\1" + GOOD[4:],
}  # fmt: skip


def test_bad_binary(db) -> None:
    db.execute("CREATE TABLE t (v modelstore.tensor)")

    def receive(data: bytes) -> str:
        with pytest.raises(psycopg.Error) as caught, db.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["bytea"])
            copy.write_row([data])
        return caught.value.sqlstate

    for name, data in BAD_BINARY.items():
        assert receive(data) == "22P03", name
        assert refusal(db, "SELECT %b::bytea::modelstore.tensor", data).sqlstate == "22P03", name
    assert receive(GOOD[:2] + b"\x21" + GOOD[3:]) == "54000"  # 33 dimensions
    assert receive(GOOD[:11] + b"\x80" + GOOD[12:]) == "22023"  # a negative one
    assert receive(GOOD[:10] + b"\xff\x7f" + GOOD[12:]) == "54000"
    assert value(db, "SELECT count(*) FROM t") == 0
    assert same(fetch(db, "SELECT %b::bytea::modelstore.tensor", GOOD), unpack(GOOD))
    assert value(db, "SELECT %b::bytea::modelstore.tensor::bytea", GOOD) == GOOD


@pytest.mark.parametrize("name", NUMPY | BITS)
def test_text_gives_the_same_bits_back(name, db) -> None:
    """Whatever the bits are: payloads of NaN, -0, subnormals."""
    _, dtype = (NUMPY | BITS)[name]
    width = np.dtype(dtype).itemsize
    rng = np.random.default_rng(sum(name.encode()))
    samples = [rng.integers(0, 2 if name == "bool" else 256, 4000 * width, dtype="uint8")]
    if width <= 2 and name != "bool":
        samples.append(np.arange(256**width, dtype=f"<u{width}").view("u1"))  # all there are
    if np.dtype(dtype).kind == "f":
        # Exponents of all ones, of zero, and around.
        bits = np.frombuffer(samples[0].tobytes(), f"<u{width}").copy()
        exponent = {2: 0x7C00, 4: 0x7F80_0000, 8: 0x7FF0 << 48}[width]
        top = np.array(exponent, bits.dtype)
        samples += [(bits | top).view("u1"), (bits & ~top).view("u1")]
        samples.append(np.array([0.0, -0.0, np.inf, -np.inf, 0.1, 1 / 3, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype).view("u1"))
    for sample in samples:
        sent = pack(np.frombuffer(sample.tobytes(), dtype).reshape(2, -1), name)
        row = db.execute("SELECT t::text::modelstore.tensor = t, t::text FROM (SELECT %b::bytea::modelstore.tensor AS t) _", (sent,))
        equal, text = row.fetchone()
        assert equal and text.startswith(f"{name}:[[")


@pytest.mark.parametrize("name", NUMPY | BITS)
def test_jsonb_gives_the_same_bits_back(name, db) -> None:
    _, dtype = (NUMPY | BITS)[name]
    bits = np.random.default_rng(sum(name.encode())).integers(0, 2 if name == "bool" else 256, 16000, dtype="uint8")
    array = np.frombuffer(bits.tobytes(), dtype)
    got = fetch(db, "SELECT %b::bytea::modelstore.tensor::jsonb::modelstore.tensor", pack(array, name))
    different = [(a, b) for a, b in zip(array, got, strict=True) if a.tobytes() != b.tobytes()]
    assert not different, f"{len(different)}, {different[:3]}"


def test_jsonb_keeps_the_sign_of_zero(db) -> None:
    """numeric, and so jsonb, has no -0: it has to be a string, as NaN is."""
    assert value(db, "SELECT 'f64:[-0,0]'::modelstore.tensor::jsonb::modelstore.tensor::text") == "f64:[-0,0]"


def test_text_is_what_numpy_prints(db) -> None:
    """As numbers, for those that both have."""
    for name in ("f16", "f32", "f64", "i64", "u64"):
        dtype = NUMPY[name][1]
        array = np.frombuffer(np.random.default_rng(2).bytes(800), dtype)
        if array.dtype.kind == "f":
            array = array[np.isfinite(array)]
        text = value(db, "SELECT %b::bytea::modelstore.tensor::text", pack(array))
        read = [np.dtype(dtype).type(word) for word in text.split(":")[1].strip("[]").split(",")]
        assert np.array(read, dtype).tobytes() == array.tobytes()
        printed = f"{name}:[" + ",".join(str(x) for x in array) + "]"
        assert same(fetch(db, "SELECT %s::text::modelstore.tensor", printed), array)


# Type modifiers


def test_type_modifiers_hold_everywhere(db) -> None:
    db.execute("""CREATE TABLE t (i integer, v modelstore.tensor(f32, 2), a modelstore.tensor(f32, '*', 2)[], w modelstore.tensor(i8));
                  CREATE TABLE loose (v modelstore.tensor);
                  INSERT INTO t (i, v) VALUES (1, '[1,2]'); INSERT INTO loose VALUES ('[1,2]'), ('f16:[1,2]'), ('[1,2,3]')""")
    wrong = [
        "INSERT INTO t (v) VALUES ('[1,2,3]')",
        "INSERT INTO t (v) VALUES ('f64:[1,2]')",
        "INSERT INTO t (v) VALUES ('[[1,2]]')",
        "INSERT INTO t (v) VALUES ('[1,2,3]'::text::modelstore.tensor)",
        "INSERT INTO t (v) SELECT v FROM loose",
        "INSERT INTO t (v) VALUES ('{1,2,3}'::real[])",
        "INSERT INTO t (v) VALUES (modelstore.reshape('[1,2]', '{2,1}'))",
        "INSERT INTO t (w) VALUES (modelstore.astype('[1,2]', 'i16'))",
        "UPDATE t SET v = '[1]'",
        "UPDATE t SET v = modelstore.slice(v, '0:1')",
        "UPDATE t SET a = ARRAY['[[1,2]]', '[[1,2,3]]']::modelstore.tensor[]",
        "UPDATE t SET a = '{\"[[1,2]]\",\"[1,2]\"}'",
        "UPDATE t SET a[1] = '[1,2]'",
        "ALTER TABLE loose ALTER v TYPE modelstore.tensor(f32)",
        "ALTER TABLE t ALTER v TYPE modelstore.tensor(f32, 3)",
        "SELECT modelstore.astype('[1,2]', 'f16')::modelstore.tensor(f32)",
        "SELECT '[1,2]'::modelstore.tensor(3)",
        "SELECT CAST('[1,2]'::modelstore.tensor AS modelstore.tensor(bf16))",
        "MERGE INTO t USING loose ON false WHEN NOT MATCHED THEN INSERT (v) VALUES (loose.v)",
        "INSERT INTO t (i, v) VALUES (1, '[3,4]'), (2, '[3,4,5]')",
    ]
    for statement in wrong:
        assert refusal(db, statement).sqlstate == "22000", statement
    with pytest.raises(psycopg.errors.DataException) as caught, db.cursor() as cursor, cursor.copy("COPY t (i, v) FROM STDIN") as copy:
        copy.write("2\t[5,6]\n3\t[5,6,7]\n")
    assert caught.value.sqlstate == "22000"
    with pytest.raises(psycopg.errors.DataException) as caught, db.cursor() as cursor, cursor.copy("COPY t (v) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["bytea"])
        copy.write_row([pack(np.ones(3, "float32"))])
    assert caught.value.sqlstate == "22000"
    right = [
        "UPDATE t SET v = '[3,4]', a = ARRAY['[[1,2]]', '[[1,2],[3,4]]']::modelstore.tensor[], w = 'i8:[[1]]'",
        "UPDATE t SET a[2] = 'f32(0,2):[]'",
        "DELETE FROM loose WHERE modelstore.dtype(v) <> 'f32'",
        "ALTER TABLE loose ALTER v TYPE modelstore.tensor(f32, '*')",
        "ALTER TABLE t ALTER v TYPE modelstore.tensor(2)",
        "ALTER TABLE t ALTER v TYPE modelstore.tensor",
        "INSERT INTO t (v) SELECT modelstore.astype(v, 'f16') FROM loose",
    ]
    for statement in right:
        db.execute(statement)
    types = db.execute("SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")
    assert dict(types.fetchall()) == {"i": "integer", "v": "tensor", "a": "tensor(f32,'*',2)[]", "w": "tensor(i8)"}


# Casts


ARRAYS = {"real[]": "f32", "double precision[]": "f64", "integer[]": "i32", "bigint[]": "i64"}


@pytest.mark.parametrize("array_type", ARRAYS)
def test_casts_of_arrays(array_type, db) -> None:
    name = ARRAYS[array_type]
    rng = np.random.default_rng(4)
    for shape in [(1,), (7,), (3, 5), (2, 3, 4), (1, 1, 1, 2, 1, 3), (1000,)]:
        array = rng.integers(-1000, 1000, shape).astype(NUMPY[name][1])
        assert same(fetch(db, f"SELECT %s::{array_type}::modelstore.tensor", array.tolist()), array)
        assert value(db, f"SELECT %b::bytea::modelstore.tensor::{array_type}", pack(array)) == array.tolist()
    assert same(fetch(db, f"SELECT '{{}}'::{array_type}::modelstore.tensor"), np.zeros(0, NUMPY[name][1]))
    assert value(db, f"SELECT 'f32(3,0):[]'::modelstore.tensor::{array_type}") == []
    assert value(db, f"SELECT 'i8:5'::modelstore.tensor::{array_type}") == [5]
    # Bounds that do not start at 1 mean nothing to a tensor.
    assert value(db, f"SELECT ('[5:6]={{1,2}}'::{array_type})::modelstore.tensor = ('{{1,2}}'::{array_type})::modelstore.tensor")
    for nulls in ("{NULL}", "{1,NULL,2}", "{{1,2},{3,NULL}}", "{" + ",".join(["0"] * 20) + ",NULL}"):
        assert refusal(db, f"SELECT '{nulls}'::{array_type}::modelstore.tensor").sqlstate == "22004"
    assert refusal(db, f"SELECT '[[[[[[[1]]]]]]]'::modelstore.tensor::{array_type}").sqlstate == "54000"
    assert refusal(db, f"SELECT 'c64(1):\\x0000000000000000'::modelstore.tensor::{array_type}").sqlstate == "42846"
    # A null bitmap without a NULL in it.
    assert value(db, f"SELECT modelstore.shape((array_replace('{{1,NULL,3}}'::{array_type}, NULL, 2))::modelstore.tensor)") == [3]
    # Through a table, so that the array comes out of TOAST and with a short header.
    db.execute(f"CREATE TABLE a (v {array_type}); INSERT INTO a VALUES ('{{1,2}}'), ((SELECT array_agg(i) FROM generate_series(1, 5000) i))")
    assert db.execute("SELECT modelstore.sum(v::modelstore.tensor) FROM a ORDER BY 1").fetchall() == [(3,), (5000 * 5001 / 2,)]


def test_casts_that_convert(db) -> None:
    cases = {
        "'[1.5,-2.5,1e10]'::modelstore.tensor::double precision[]": [1.5, -2.5, 1e10],
        "'[1.5,-2.5]'::modelstore.tensor::integer[]": [1, -2],
        "'u64:[9223372036854775807]'::modelstore.tensor::bigint[]": [2**63 - 1],
        "'bool:[true,false]'::modelstore.tensor::integer[]": [1, 0],
        "'f64:[0.1]'::modelstore.tensor::real[]::text": "{0.1}",
        "'f64:[1e300]'::modelstore.tensor::real[]::text": "{Infinity}",
        "'f16:[nan,inf]'::modelstore.tensor::real[]::text": "{NaN,Infinity}",
        "'i64:[9007199254740993]'::modelstore.tensor::double precision[]": [9007199254740992],
    }
    for expression, expected in cases.items():
        assert value(db, f"SELECT {expression}") == expected, expression
    for expression in ("'[3e9]'::modelstore.tensor::integer[]", "'[nan]'::modelstore.tensor::bigint[]", "'u64:[9223372036854775808]'::modelstore.tensor::bigint[]"):
        assert refusal(db, f"SELECT {expression}").sqlstate == "22003", expression


def test_astype_is_numpys(db) -> None:
    rng = np.random.default_rng(12)
    floats = np.concatenate([rng.standard_normal(500) * 10.0 ** rng.integers(-9, 6, 500), [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.9, 65520, 2.5, 3.5]])
    with np.errstate(all="ignore"):
        for source in ("f64", "f32", "f16"):
            array = floats.astype(NUMPY[source][1])
            for to in ("f64", "f32", "f16", "bool"):
                got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, %s)", pack(array), to)
                assert got.dtype == NUMPY[to][1] and np.array_equal(got, array.astype(NUMPY[to][1]), equal_nan=True), (source, to)
            finite = array[np.isfinite(array) & (np.abs(array) < 2**31)]
            for to in ("i32", "i64"):
                got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, %s)", pack(finite), to)
                assert same(got, finite.astype(NUMPY[to][1])), (source, to)
    singles = np.frombuffer(rng.bytes(40_000), "<f4")
    singles = singles[np.isfinite(singles) & (np.abs(singles) < 3e38)]
    got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, 'bf16')", pack(singles))
    assert np.array_equal(got, to_bf16(singles))
    for source in NUMPY:
        for to in NUMPY:
            array = np.array([0, 1, 1, 0, 1]).astype(NUMPY[source][1])
            got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, %s)", pack(array), to)
            assert same(got, array.astype(NUMPY[to][1])), (source, to)


def test_jsonb(db) -> None:
    cases = {
        "[1,2.5]": {"dtype": "f32", "shape": [2], "data": [1, 2.5]},
        "i8:[[1],[-2]]": {"dtype": "i8", "shape": [2, 1], "data": [[1], [-2]]},
        "bool:[true,false]": {"dtype": "bool", "shape": [2], "data": [True, False]},
        "f64:7": {"dtype": "f64", "shape": [], "data": 7},
        "f32(0,3):[]": {"dtype": "f32", "shape": [0, 3], "data": []},
        "u64:[18446744073709551615]": {"dtype": "u64", "shape": [1], "data": [18446744073709551615]},
        "[NaN,-Infinity]": {"dtype": "f32", "shape": [2], "data": ["NaN", "-Infinity"]},
        "c64(1):\\x0123456789abcdef": {"dtype": "c64", "shape": [1], "data": "\\x0123456789abcdef"},
    }
    for text, expected in cases.items():
        assert value(db, "SELECT %s::text::modelstore.tensor::jsonb", text) == expected
        assert value(db, "SELECT %s::jsonb::modelstore.tensor = %s::text::modelstore.tensor", Jsonb(expected), text), text
    assert value(db, "SELECT '[[1,2],[3,4]]'::jsonb::modelstore.tensor::text") == "f32:[[1,2],[3,4]]"
    bad = [["1,2"], [["1,2"], [3, 4]], {"dtype": "f32", "shape": [2], "data": "[1,2]"}, 1, None, "x", True, {}, {"dtype": "f32"}, [None], [[1], 2], [[1, 2], [3]], ["x"], [{}], {"dtype": 1, "shape": [1], "data": [1]},
           {"dtype": "f32", "shape": [2], "data": [1]}, {"dtype": "f32", "shape": "x", "data": [1]}, {"dtype": "f32", "shape": None, "data": [1]},
           {"dtype": "f32", "shape": [1.5], "data": [1]}, {"dtype": "f32", "shape": [-1], "data": [1]}, {"dtype": "f32", "shape": [1], "data": None},
           {"dtype": "f32", "shape": {}, "data": [1]}, {"dtype": "f32", "shape": [[1]], "data": [1]}, {"dtype": "f32:[7]", "shape": [1], "data": [1]}]  # fmt: skip
    for document in bad:
        assert refusal(db, "SELECT %s::jsonb::modelstore.tensor", Jsonb(document)).sqlstate in {"22P02", "42704"}, document


def test_frombuffer_reshape_tobytes(db) -> None:
    array = random_tensor(1, 6, 4)
    make = "SELECT modelstore.frombuffer(%b::bytea, %s, %s::bigint[])"
    assert same(fetch(db, make, array.tobytes(), "f32", [6, 4]), array)
    assert same(fetch(db, make, b"", "F32", [2, 0, 3]), np.zeros((2, 0, 3), "float32"))
    assert value(db, "SELECT modelstore.tobytes(%b::bytea::modelstore.tensor)", pack(array)) == array.tobytes()
    assert same(fetch(db, "SELECT modelstore.reshape(%b::bytea::modelstore.tensor, '{3,8}')", pack(array)), array.reshape(3, 8))
    for dims, state in {(6, 5): "22000", (): "22000", (-6, -4): "22023", (2**62, 4): "54000"}.items():
        assert refusal(db, make, array.tobytes(), "f32", list(dims)).sqlstate == state, dims
        assert refusal(db, "SELECT modelstore.reshape(%b::bytea::modelstore.tensor, %s::bigint[])", pack(array), list(dims)).sqlstate == state
    assert refusal(db, make, b"", "f33", [0]).sqlstate == "42704"
    assert refusal(db, make, b"abcd", "f32", [None]).sqlstate == "22004"


def test_a_shape_too_large_is_named_with_its_dtype(db) -> None:
    for statement in ("SELECT 'f32(4294967296,4294967296):[]'::tensor", "SELECT reshape('[1,2]', '{4611686018427387904,4}')"):
        diag = refusal(db, statement)
        assert diag.sqlstate == "54000" and "u8" not in diag.message_primary, diag.message_primary


# Equality, hashing


def test_equality_is_of_bits(db) -> None:
    db.execute("CREATE TABLE t (i int, v modelstore.tensor)")
    texts = ["[1,2]", "f32:[1.0,2e0]", "f64:[1,2]", "[[1,2]]", "[0]", "[-0]", "[nan]", "[nan(0x7fc00001)]", "[NaN]", "f32(0,2):[]", "f32(0):[]", None]
    for row in enumerate(texts):
        db.execute("INSERT INTO t VALUES (%s, %s)", row)
    pairs = db.execute("SELECT a.i, b.i FROM t a JOIN t b ON a.v = b.v WHERE a.i < b.i ORDER BY 1").fetchall()
    assert pairs == [(0, 1), (6, 8)]
    assert value(db, "SELECT count(*) FROM t a, t b WHERE a.v <> b.v") == 11 * 11 - 11 - 4
    for setting in ("on", "off"):
        db.execute(f"SET enable_hashagg = {setting}; SET enable_hashjoin = {setting}")
        if setting == "on":
            assert value(db, "SELECT count(*) FROM (SELECT v FROM t GROUP BY v) _") == 10
    db.execute("CREATE INDEX ON t USING hash (v); SET enable_seqscan = off")
    assert "Index" in "".join(row[0] for row in db.execute("EXPLAIN SELECT i FROM t WHERE v = '[1,2]'"))
    assert db.execute("SELECT i FROM t WHERE v = '[1,2]' ORDER BY i").fetchall() == [(0,), (1,)]
