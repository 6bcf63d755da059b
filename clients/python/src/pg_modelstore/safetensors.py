"""Sources of bytes that can be read from any offset: files, and state_dicts laid out as a safetensors file."""

from __future__ import annotations

import json
import math
import os
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from . import dtypes, values
from .values import ArrayLike

# As the safetensors library sorts them: the widest first, so that all are aligned.
_ORDER = [
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
    "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64",
]  # fmt: skip


class Source(Protocol):
    """Bytes of known size that can be read more than once."""

    size: int

    def parts(self, offset: int, end: int, part_bytes: int) -> Iterator[memoryview]:
        """The bytes from an offset to an end, in parts of at most this size. A part is valid until the next one."""


class FileSource:
    """A file. What `same` returns changes when the file does."""

    def __init__(self, path: os.PathLike[str] | str) -> None:
        self.path = pathlib.Path(path)
        self.size = self.path.stat().st_size

    def parts(self, offset: int, end: int, part_bytes: int) -> Iterator[memoryview]:
        """See Source."""
        buffer = memoryview(bytearray(min(part_bytes, max(end - offset, 1))))
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            while offset < end:
                wanted, read = min(len(buffer), end - offset), 0
                while read < wanted:  # a read may return less than was asked for
                    more = file.readinto(buffer[read:wanted])
                    if not more:
                        raise EOFError(f"{self.path} has become shorter while it was read")
                    read += more
                yield buffer[:read]
                offset += read


class TensorsSource:
    """A state_dict as the safetensors file that the safetensors library would write of it."""

    def __init__(self, tensors: Mapping[str, ArrayLike], metadata: Mapping[str, str] | None = None) -> None:
        tensors = {name: values.array(value) for name, value in tensors.items()}
        for name, value in tensors.items():
            _check(name, value)
        if metadata is None and any(values.is_torch(value) for value in tensors.values()):
            metadata = {"format": "pt"}
        layouts = {name: values.layout(value) for name, value in tensors.items()}
        for name, (dtype, _) in layouts.items():
            if dtype.safetensors is None:
                raise TypeError(f"{name}: safetensors has no dtype {dtype.name}")
        names = sorted(tensors, key=lambda name: (-_ORDER.index(layouts[name][0].safetensors or ""), name))
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        self._segments: list[tuple[int, ArrayLike | bytes]] = []
        at = 0
        for name in names:
            dtype, shape = layouts[name]
            size = dtype.nbytes(math.prod(shape))
            header[name] = {"dtype": dtype.safetensors, "shape": list(shape), "data_offsets": [at, at + size]}
            self._segments.append((size, tensors[name]))
            at += size
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        head = struct.pack("<Q", len(text)) + text
        self._segments.insert(0, (len(head), head))
        self.size = len(head) + at

    def parts(self, offset: int, end: int, part_bytes: int) -> Iterator[memoryview]:
        """See Source."""
        at = 0
        for size, segment in self._segments:
            if at + size > offset and at < end and size:
                data = memoryview(segment) if isinstance(segment, bytes) else values.elements(segment)
                here = max(offset - at, 0)
                while here < min(size, end - at):
                    part = data[here : min(here + part_bytes, size, end - at)]
                    yield part
                    here += len(part)
            at += size

    def tobytes(self) -> bytes:
        """The whole file."""
        return b"".join(self.parts(0, self.size, self.size))


def _check(name: object, value: object) -> None:
    """Raises TypeError if this is no tensor by name."""
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name of a tensor; a state_dict maps text to arrays or torch tensors")
    try:
        values.layout(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"{name!r} cannot be stored: {error}") from None


def read(data: bytes | bytearray, framework: str = "numpy") -> dict[str, Any]:
    """The tensors of a safetensors file in memory, as views of it."""
    whole = memoryview(data)
    (length,) = struct.unpack_from("<Q", whole)
    header = json.loads(bytes(whole[8 : 8 + length]))
    header.pop("__metadata__", None)
    start, found = 8 + length, {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        value = values.view(dtypes.BY_SAFETENSORS[entry["dtype"]], tuple(entry["shape"]), whole[start + begin : start + end])
        found[name] = values.to_torch(value) if framework == "torch" else value
    return found
