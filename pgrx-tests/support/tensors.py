"""Tensors as numpy arrays: conversion to and from the binary form, and comparison of statistics."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import psycopg
from models import from_bf16

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


def fetch(db: psycopg.Connection, query: str, *arguments: Any) -> np.ndarray:
    """One tensor in binary format."""
    (value,) = db.execute(query, arguments, binary=True).fetchone()
    return unpack(value)


def value(db: psycopg.Connection, query: str, *arguments: Any) -> Any:
    return db.execute(query, arguments).fetchone()[0]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal in shape, dtype and bits."""
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def numbers(dtype: str, array: np.ndarray) -> np.ndarray:
    return (from_bf16(array) if dtype == "BF16" else array).astype("float64")


def close(got: float | None, expected: float | None, relative: float = 1e-9, absolute: float = 0.0) -> bool:
    if got is None or expected is None:
        return got is expected
    return bool(np.isclose(got, expected, rtol=relative, atol=absolute, equal_nan=True))
