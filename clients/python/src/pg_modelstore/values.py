"""Tensor values: between their bytes in PostgreSQL and arrays.

The bytes are those of docs/formats.md: version, dtype code, rank, flags, dimensions, elements; all little-endian.
"""

from __future__ import annotations

import math
import struct
import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from . import dtypes
from .dtypes import Dtype

if TYPE_CHECKING:
    import torch

Buffer: TypeAlias = Union[bytes, bytearray, memoryview]
ArrayLike: TypeAlias = Union[np.ndarray, "Tensor", "torch.Tensor"]

_HEADER = struct.Struct("<4B")


class Tensor:
    """Dtype, shape and raw bytes of a tensor that numpy has no dtype for.

    Values arrive as this class if their dtype is packed (f4, f6, the q types of ggml), or if it is bf16 or an 8-bit float
    and ml_dtypes is not installed. It can be sent wherever an array can.
    """

    __slots__ = ("data", "dtype", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], data: Buffer) -> None:
        if dtype not in dtypes.BY_NAME:
            raise TypeError(f'unknown dtype "{dtype}"')
        self.dtype = dtype
        self.shape = tuple(int(n) for n in shape)
        self.data = memoryview(data).cast("B")
        expected = dtypes.BY_NAME[dtype].nbytes(math.prod(self.shape))
        if len(self.data) != expected:
            raise ValueError(f"{dtype}{self.shape} takes {expected} bytes, not {len(self.data)}")

    @classmethod
    def of(cls, value: ArrayLike) -> Tensor:
        """A numpy array or torch tensor as a Tensor; a copy only of what is not little-endian and in C order."""
        dtype, shape = layout(value)
        return cls(dtype.name, shape, elements(value))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return len(self.data)

    def numpy(self) -> np.ndarray:
        """The tensor as a numpy array. Raises TypeError if its dtype takes ml_dtypes, or has no form in numpy."""
        dtype = dtypes.BY_NAME[self.dtype]
        found = dtypes.numpy_dtype(dtype)
        if found is not None:
            return np.frombuffer(self.data, found).reshape(self.shape)
        if dtype.ml_dtypes:
            raise TypeError(f"numpy has no {self.dtype} without ml_dtypes: pip install 'pg-modelstore[ml_dtypes]'")
        raise TypeError(f"numpy has no {self.dtype}; dequantise it in SQL")

    def torch(self) -> torch.Tensor:
        """The tensor as a torch tensor over the same memory. Raises TypeError if torch has no such dtype."""
        return to_torch(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return (self.dtype, self.shape, self.data) == (other.dtype, other.shape, other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tensor({self.dtype!r}, {self.shape}, {self.nbytes} bytes)"


def is_torch(value: object) -> bool:
    """Whether this is a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def need_torch(what: str) -> Any:
    """The module torch. Raises ImportError that names the extra."""
    try:
        import torch
    except ImportError:
        raise ImportError(f"{what} takes torch: pip install 'pg-modelstore[torch]'") from None
    return torch


def _bits_of_torch(value: torch.Tensor) -> tuple[Dtype, tuple[int, ...], np.ndarray]:
    """Dtype, shape and bits, on the CPU and in C order; without a copy where the tensor is so already."""
    torch = sys.modules["torch"]
    dtype = dtypes.BY_TORCH.get(str(value.dtype).removeprefix("torch."))
    if dtype is None or value.layout is not torch.strided:
        raise TypeError(f"a tensor cannot have torch dtype {value.dtype}, layout {value.layout}")
    value = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    shape = tuple(value.shape)
    return dtype, shape, value.reshape(-1).view(torch.uint8).numpy()


def array(value: Any) -> Any:
    """A scalar of numpy, as sum() returns, as an array of rank 0. Not for drivers: asyncpg takes arrays in a list apart."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def layout(value: ArrayLike) -> tuple[Dtype, tuple[int, ...]]:
    """Dtype and shape of what can be sent as a tensor. Raises TypeError for anything else."""
    if isinstance(value, Tensor):
        return dtypes.BY_NAME[value.dtype], value.shape
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a tensor has no place for the mask of a masked array: give value.filled(…)")
    if isinstance(value, np.ndarray):
        return dtypes.of_numpy(value.dtype), value.shape
    if is_torch(value):
        dtype = dtypes.BY_TORCH.get(str(value.dtype).removeprefix("torch."))
        if dtype is None:
            raise TypeError(f"a tensor cannot have torch dtype {value.dtype}")
        return dtype, tuple(value.shape)
    raise TypeError(f"cannot store {type(value).__name__} as a tensor: give a numpy array, a torch tensor or a Tensor")


def elements(value: ArrayLike) -> memoryview:
    """The elements as stored: little-endian, row-major. A copy only of what is laid out otherwise."""
    if isinstance(value, Tensor):
        return value.data
    if is_torch(value):
        return memoryview(_bits_of_torch(value)[2])
    dtypes.of_numpy(value.dtype)
    array = np.asarray(value)
    if array.dtype.kind != "V" and array.dtype.byteorder == (">" if sys.byteorder == "little" else "="):
        array = array.astype(array.dtype.newbyteorder("<"))
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def encode(value: ArrayLike) -> bytearray:
    """The bytes of a tensor value, in one copy of the elements."""
    dtype, shape = layout(value)
    start = 4 + 8 * len(shape)
    out = bytearray(start + dtype.nbytes(math.prod(shape)))
    _HEADER.pack_into(out, 0, 1, dtype.code, len(shape), 0)
    struct.pack_into(f"<{len(shape)}q", out, 4, *shape)
    if isinstance(value, np.ndarray):
        target = np.frombuffer(out, dtypes.numpy_dtype(dtype), offset=start).reshape(shape)
        np.copyto(target, value, casting="equiv")
    else:
        memoryview(out)[start:] = elements(value)
    return out


def encode_text(value: ArrayLike) -> bytes:
    """The text form, with the elements in hexadecimal: "f32(2,3):\\x…"."""
    dtype, shape = layout(value)
    return f"{dtype.name}({','.join(map(str, shape))}):\\x{elements(value).hex()}".encode()


def decode(data: Buffer) -> np.ndarray | Tensor:
    """The array in the bytes of a tensor value: a read-only view of them, or a Tensor where numpy has no such dtype."""
    data = memoryview(data).toreadonly()
    version, code, rank, flags = _HEADER.unpack_from(data)
    dtype = dtypes.BY_CODE.get(code)
    if version != 1 or flags != 0 or dtype is None:
        raise ValueError(
            f"unknown form of a tensor: version {version}, dtype {code}, flags {flags}; a newer pg_modelstore reads it"
        )
    shape = struct.unpack_from(f"<{rank}q", data, 4)
    return view(dtype, shape, data[4 + 8 * rank :])


def view(dtype: Dtype, shape: tuple[int, ...], data: memoryview) -> np.ndarray | Tensor:
    """Elements in a buffer as an array, without a copy."""
    found = dtypes.numpy_dtype(dtype)
    if found is None:
        return Tensor(dtype.name, shape, data)
    return np.frombuffer(data, found).reshape(shape)


def to_torch(value: ArrayLike) -> torch.Tensor:
    """A torch tensor over the memory of an array. Values from the server are read-only: clone() what you want to change."""
    torch = need_torch("converting to torch.Tensor")
    if is_torch(value):
        return value
    dtype, shape = layout(value)
    if dtype.torch is None or not hasattr(torch, dtype.torch):
        raise TypeError(f"torch has no {dtype.name}")
    bits = elements(value)
    if len(bits) == 0:
        return torch.empty(shape, dtype=getattr(torch, dtype.torch))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        flat = torch.frombuffer(bits, dtype=getattr(torch, dtype.torch))
    return flat.reshape(shape)
