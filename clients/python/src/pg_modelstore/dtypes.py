"""The dtypes of tensors: their codes, and what they are in numpy, ml_dtypes, torch and safetensors."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dtype:
    """One dtype. A group of `group` elements takes `width` bytes."""

    name: str
    code: int
    group: int
    width: int
    numpy: str | None = None
    ml_dtypes: str | None = None
    torch: str | None = None
    safetensors: str | None = None

    def nbytes(self, elements: int) -> int:
        """Bytes that this many elements take."""
        if elements % self.group:
            raise ValueError(f"{elements} elements are not whole groups of {self.group} {self.name}")
        return elements // self.group * self.width


_PLAIN = [
    # name, code, bytes, numpy, torch, safetensors
    ("bool", 1, 1, "?", "bool", "BOOL"),
    ("u8", 2, 1, "u1", "uint8", "U8"),
    ("i8", 3, 1, "i1", "int8", "I8"),
    ("u16", 4, 2, "<u2", "uint16", "U16"),
    ("i16", 5, 2, "<i2", "int16", "I16"),
    ("u32", 6, 4, "<u4", "uint32", "U32"),
    ("i32", 7, 4, "<i4", "int32", "I32"),
    ("u64", 8, 8, "<u8", "uint64", "U64"),
    ("i64", 9, 8, "<i8", "int64", "I64"),
    ("f16", 12, 2, "<f2", "float16", "F16"),
    ("f32", 14, 4, "<f4", "float32", "F32"),
    ("f64", 15, 8, "<f8", "float64", "F64"),
    ("c64", 22, 8, "<c8", "complex64", "C64"),
]
_ML = [
    # name, code, bytes, ml_dtypes, torch, safetensors
    ("f8_e4m3", 10, 1, "float8_e4m3fn", "float8_e4m3fn", "F8_E4M3"),
    ("f8_e5m2", 11, 1, "float8_e5m2", "float8_e5m2", "F8_E5M2"),
    ("bf16", 13, 2, "bfloat16", "bfloat16", "BF16"),
    ("f8_e8m0", 19, 1, "float8_e8m0fnu", "float8_e8m0fnu", "F8_E8M0"),
    ("f8_e4m3fnuz", 20, 1, "float8_e4m3fnuz", "float8_e4m3fnuz", "F8_E4M3FNUZ"),
    ("f8_e5m2fnuz", 21, 1, "float8_e5m2fnuz", "float8_e5m2fnuz", "F8_E5M2FNUZ"),
]
_BITS = [
    # name, code, elements of a group, its bytes, safetensors
    ("f4", 16, 2, 1, "F4"),
    ("f6_e2m3", 17, 4, 3, "F6_E2M3"),
    ("f6_e3m2", 18, 4, 3, "F6_E3M2"),
    ("q4_0", 32, 32, 18, None),
    ("q4_1", 33, 32, 20, None),
    ("q5_0", 34, 32, 22, None),
    ("q5_1", 35, 32, 24, None),
    ("q8_0", 36, 32, 34, None),
    ("q2_k", 37, 256, 84, None),
    ("q3_k", 38, 256, 110, None),
    ("q4_k", 39, 256, 144, None),
    ("q5_k", 40, 256, 176, None),
    ("q6_k", 41, 256, 210, None),
]

ALL: tuple[Dtype, ...] = (
    *(Dtype(n, c, 1, w, numpy=np_, torch=t, safetensors=s) for n, c, w, np_, t, s in _PLAIN),
    *(Dtype(n, c, 1, w, ml_dtypes=m, torch=t, safetensors=s) for n, c, w, m, t, s in _ML),
    *(Dtype(n, c, g, w, safetensors=s) for n, c, g, w, s in _BITS),
)
BY_NAME = {d.name: d for d in ALL}
BY_CODE = {d.code: d for d in ALL}
BY_SAFETENSORS = {d.safetensors: d for d in ALL if d.safetensors}
BY_TORCH = {d.torch: d for d in ALL if d.torch}
_BY_NUMPY = {np.dtype(d.numpy).str.lstrip("<|"): d for d in ALL if d.numpy}
_BY_ML = {d.ml_dtypes: d for d in ALL if d.ml_dtypes}


@functools.cache
def numpy_dtype(dtype: Dtype) -> np.dtype | None:
    """The numpy dtype, little-endian; None if there is none, or if it takes ml_dtypes and that is not installed."""
    if dtype.numpy:
        return np.dtype(dtype.numpy)
    if dtype.ml_dtypes:
        try:
            import ml_dtypes
        except ImportError:
            return None
        scalar = getattr(ml_dtypes, dtype.ml_dtypes, None)
        return None if scalar is None else np.dtype(scalar)
    return None


def of_numpy(dtype: np.dtype) -> Dtype:
    """The dtype of a numpy array, whatever its byte order. Raises TypeError if tensors do not have it."""
    found = _BY_ML.get(dtype.name) or _BY_NUMPY.get(dtype.str.lstrip("<>|="))
    if found is None:
        hint = ", which holds Python objects: convert it with astype" if dtype.hasobject else ""
        raise TypeError(f"a tensor cannot have numpy dtype {dtype}{hint}")
    return found
