"""Compares statistics of weights with numpy: the view, reductions, and find_weights_with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from databases import fresh_copy
from harness import Server
from models import random_tensor, raw_file, to_bf16
from tensors import close, numbers
from transfer import import_model, refusal

pytestmark = pytest.mark.versioned


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
        "huge and spread": ("F64", rng.standard_normal(200_000) * 1e307),
        "huge of both signs": ("F64", np.tile([1.7e308, -1.7e308, 1.0, 0.0], 40_000)),
        "tiny": ("F64", np.array([1e-200, -1e-200, 1e-200])),
        "subnormal": ("F64", rng.integers(-1000, 1000, 100_000) * 5e-324),
        "huge and tiny": ("F64", np.tile([1e-200, 1e200, 1e-310, -3.0], 40_000)),
        "milliseconds": ("I64", 1_700_000_000_000 + rng.integers(0, 1000, 200_000)),
        "three milliseconds": ("I64", np.array([1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_002])),
        "near 1e8": ("F64", 1e8 + rng.integers(0, 3, 100_000) / 10),
        "far first": ("F64", np.append(np.full(70_000, 1e12), rng.standard_normal(200_000))),
        "far single": ("F32", (16_000_000 + rng.integers(0, 5, 200_000)).astype("float32")),
        "far half": ("F16", (30_000 + 16 * rng.integers(0, 3, 300_000)).astype("float16")),
        "far uint64": ("U64", 2**63 + 4096 * rng.integers(0, 3, 100_000).astype("uint64")),
    }


@pytest.fixture(scope="module")
def weighed(server: Server, template: str) -> Iterator[tuple[psycopg.Connection, Any]]:
    """A store with the weights above, in chunks of 256 kB."""
    with server.connect(fresh_copy(server, template, "figures_of_a_model"), autocommit=True) as db:
        db.execute("SET modelstore.chunk_size = '256kB'")
        data = raw_file({n: (d, a.shape, a.tobytes()) for n, (d, a) in figures().items()})
        yield db, import_model(db, data).model_id


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
            # numpy's doubles overflow and vanish where these do not, so it has more bits here.
            expected_mean, expected_std, expected_l2 = moments(x)
            assert close(mean, expected_mean, 1e-14, absolute=1e-15 * absmax)
            # Means of pieces are doubles, so a deviation is exact to their last bit.
            assert close(std, expected_std, 1e-12, absolute=2e-16 * absmax)
            # Of subnormal numbers a deviation has a few bits only, as any double of that size.
            assert close(l2, expected_l2, 1e-13, absolute=5e-324 * x.size**0.5)
            doubles = x.std(), np.linalg.norm(x)
            if np.isfinite(doubles).all() and (doubles[0] > 1e-150 or not x.any()):
                assert close(std, doubles[0], 1e-9, absolute=3e-16 * absmax) and close(l2, doubles[1], 1e-12)
        else:
            assert (low, high, mean, std, absmax) == (None,) * 5
    counts = ((all_numbers == 0).sum(), np.isnan(all_numbers).sum(), np.isinf(all_numbers).sum())
    assert row[9:] == (tuple(map(int, counts)) if array.size else (None,) * 3)


def moments(x: np.ndarray) -> tuple[float, float, float]:
    """Mean, deviation and norm of doubles with the exponents and digits of a longer type; infinite where a double is."""
    x = x.astype("longdouble")
    with np.errstate(all="ignore"):
        if not np.isfinite(x).all():
            return float(x.mean()), float("nan"), float("inf")
        mean = x.mean()
        mean += (x - mean).mean()
        return float(mean), float(np.sqrt(((x - mean) ** 2).mean())), float(np.sqrt((x * x).sum()))


def test_the_cases_of_issue_10(weighed) -> None:
    db, _ = weighed
    query = "SELECT std FROM store.v_weight_statistics WHERE weight_name = %s"
    (std,) = db.execute(query, ("three milliseconds",)).fetchone()
    assert close(std, (2 / 3) ** 0.5, 1e-7)
    for name in ("near 1e8", "milliseconds", "far single", "far half"):
        dtype, array = figures()[name]
        (std,) = db.execute(query, (name,)).fetchone()
        exact = moments(numbers(dtype, array).reshape(-1))[1]
        assert close(std, exact, 1e-6), (name, std, exact)
    for name in ("finite", "zeros", "equal", "huge"):
        assert db.execute(query, (name,)).fetchone() == (0,), name


def test_statistics_do_not_depend_on_threads(db) -> None:
    """Each piece is scanned by itself, whichever thread has it."""
    db.execute("SET modelstore.chunk_size = '256kB'")
    rows = []
    for threads in (1, 3):
        db.execute("SELECT set_config('modelstore.threads', %s, false)", (str(threads),))
        data = raw_file({"w": ("F64", (400_000,), (np.random.default_rng(threads).standard_normal(1) * 0 + random_tensor(4, 400_000)).astype("float64").tobytes())})
        model = import_model(db, data, version=str(threads)).model_id
        rows.append(db.execute("SELECT mean, std, l2 FROM store.v_weight_statistics WHERE model_id = %s", (model,)).fetchone())
        db.execute("SELECT modelstore.delete_model(%s)", (model,))
        db.execute("SELECT * FROM modelstore.gc()")
    assert rows[0] == rows[1]


def test_zone_functions(db) -> None:
    def value(expression: str) -> float | None:
        return db.execute(f"SELECT modelstore.{expression}").fetchone()[0]

    assert value("zone_mean('{1,3}', '{1,5}')") == 4 and value("zone_std('{1,1}', '{1,3}', '{0,0}')") == 1
    assert value("zone_l2('{1,1}', '{3,4}', '{0,0}')") == 5
    for name in ("zone_mean('{}', '{}')", "zone_std('{0,NULL}', '{1,2}', '{1,2}')", "zone_l2('{NULL}', '{NULL}', '{NULL}')", "zone_mean('{-1}', '{1}')"):
        assert value(name) is None, name
    assert value("zone_std(NULL, '{1}', '{1}')") is None
    assert value("zone_mean('{9223372036854775807,9223372036854775807}', '{1.7e308,1.7e308}')") == 1.7e308
    assert value("zone_l2('{2}', '{1.7e308}', '{0}')") == float("inf")
    assert np.isnan(value("zone_std('{1,1}', '{Infinity,1}', '{NaN,0}')")) and value("zone_mean('{1,1}', '{Infinity,1}')") == float("inf")
    assert value("zone_l2('{2,1}', '{NaN,1}', '{NaN,0}')") == float("inf")
    assert refusal(db, "SELECT modelstore.zone_std('{1}', '{1,2}', '{1}')").sqlstate == "2202E"


def test_statistics_of_all_weights_at_once(weighed) -> None:
    """One weight of extreme numbers must not cost the figures of all others."""
    db, model = weighed
    columns = "weight_name, dtype, shape, element_count, min, max, mean, std, l2, absmax, zeros, nans, infs"
    rows = db.execute(f"SELECT {columns} FROM store.v_weight_statistics ORDER BY weight_name").fetchall()
    assert len(rows) == len(figures())
    of_the_model = db.execute(f"SELECT {columns} FROM modelstore.weight_statistics(%s)", (model,)).fetchall()
    assert repr(of_the_model) == repr(rows)
    assert refusal(db, "SELECT * FROM modelstore.weight_statistics(gen_random_uuid())").sqlstate == "42704"


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
            assert close(l1, np.abs(x).sum()), name
            assert close(linf, scale) and close(low, x.min()) and close(high, x.max()), name
            assert close(total, x.sum(), absolute=1e-9 * np.abs(x).sum()), name
            if np.isnan(x).any():
                assert np.isnan([mean, std]).all(), name
            else:
                assert close(mean, moments(x)[0], 1e-14, absolute=1e-15 * scale), name
                assert close(std, moments(x)[1], 1e-12, absolute=2e-16 * scale), name
                assert close(norm, moments(x)[2], 1e-12, absolute=5e-324 * x.size**0.5), name
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
