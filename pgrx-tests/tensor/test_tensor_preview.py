"""preview prints what numpy prints."""

from __future__ import annotations

import numpy as np
import pytest
from tensors import NUMPY, pack, value
from transfer import refusal

PREVIEW = "SELECT modelstore.preview(%b::bytea::modelstore.tensor)"


def random_array(rng: np.random.Generator, dtype: str) -> np.ndarray:
    """Of any rank and size: small ones in full, large ones of which only the corners are shown."""
    rank = int(rng.integers(0, 6))
    longest = {0: 1, 1: 3000, 2: 60, 3: 14, 4: 8, 5: 5}[rank]
    shape = tuple(int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, longest + 1, rank))
    kind = NUMPY[dtype][1]
    size = int(np.prod(shape))
    if dtype == "bool":
        return rng.random(size).reshape(shape) < 0.5
    if np.dtype(kind).kind in "iu":
        limits = np.iinfo(kind)
        low, high = (limits.min, limits.max) if rng.random() < 0.5 else (max(limits.min, -9), 120)
        return rng.integers(low, high, size, dtype=kind, endpoint=True).reshape(shape)
    match rng.integers(6):
        case 0:
            values = rng.standard_normal(size)
        case 1:
            values = rng.integers(-50, 50, size).astype("f8")
        case 2:
            values = rng.standard_normal(size) * 10.0 ** rng.integers(-12, 12, size)
        case 3:
            values = np.round(rng.standard_normal(size) * 100, int(rng.integers(0, 4)))
        case 4:
            values = rng.standard_normal(size) * 10.0 ** float(rng.integers(-300, 300))
        case _:
            values = np.frombuffer(rng.bytes(size * np.dtype(kind).itemsize), kind)
    with np.errstate(all="ignore"):
        values = values.astype(kind)
    if rng.random() < 0.3:
        values[rng.random(size) < 0.2] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0])
    return values.reshape(shape)


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bool", "i64", "u64", "i32", "u8", "i8"])
def test_as_numpy_prints(db, dtype) -> None:
    rng = np.random.default_rng(len(dtype) * 7 + ord(dtype[0]))
    summaries = 0
    for _ in range(150):
        array = random_array(rng, dtype)
        printed = value(db, PREVIEW, pack(array))
        assert printed == str(array), (array.shape, array.tobytes())
        summaries += "..." in printed
    assert summaries > 15


def test_arguments(db) -> None:
    array = np.random.default_rng(1).standard_normal((9, 9))
    for threshold, digits in [(1000, 4), (80, 8), (0, 0), (81, 17), (10, 1)]:
        with np.printoptions(threshold=threshold, precision=digits):
            expected = str(array)
        assert value(db, "SELECT modelstore.preview(%b::bytea::modelstore.tensor, %s, %s)", pack(array), threshold, digits) == expected
    for arguments in ("-1", "100001", "10, -1", "digits => 18"):
        assert refusal(db, f"SELECT modelstore.preview('[1]', {arguments})").sqlstate == "22023"


def test_dtypes_that_numpy_lacks(db) -> None:
    """Digits are those that tell elements of the dtype apart; what has no numbers is hexadecimal."""
    for tensor, expected in {
        "bf16:[0.1,2,1e-30]": "[1.e-01 2.e+00 1.e-30]",
        "bf16:[0.1,2]": "[0.1 2. ]",
        "f8_e4m3:[0.5,-448]": "[   0.5 -450. ]",
        "c64(2):\\x" + "01" * 16: "c64(2):\\x" + "01" * 16,
        "c64(9):\\x" + "01" * 72: "c64(9):\\x" + "01" * 16 + "..." + "01" * 16,
        "bool(2):\\x0005": "[False  True]",
    }.items():
        assert value(db, "SELECT modelstore.preview(%s::text::modelstore.tensor)", tensor) == expected, tensor
    # A block of 32 elements: scale 1 and nibbles of 8, which are zeros.
    assert value(db, "SELECT modelstore.preview(%s::text::modelstore.tensor)", "q4_0(32):\\x003c" + "88" * 16) == str(np.zeros(32))


def test_it_is_no_input(db) -> None:
    """A summary has dots, which no tensor has; numbers stand without commas."""
    for size in (2, 2000):
        printed = value(db, "SELECT modelstore.preview(array_agg(i)::modelstore.tensor) FROM generate_series(1, %s) i", size)
        assert refusal(db, "SELECT %s::text::modelstore.tensor", printed).sqlstate == "22P02"
