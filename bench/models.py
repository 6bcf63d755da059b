"""Models for measurements: the real one, and others derived from its weights."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import struct
import subprocess

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class Model:
    """A safetensors file and what to call it."""

    name: str
    path: pathlib.Path


def minilm_model() -> Model:
    """all-MiniLM-L6-v2, f32."""
    path = subprocess.run([ROOT / "scripts" / "model.sh"], check=True, capture_output=True, text=True).stdout.strip()
    return Model("MiniLM f32", pathlib.Path(path))


def read(path: pathlib.Path) -> tuple[dict, memoryview]:
    """Header and data of a safetensors file."""
    data = memoryview(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(bytes(data[8 : 8 + length])), data[8 + length :]


def write(path: pathlib.Path, tensors: list[tuple[str, str, list[int], bytes]]) -> None:
    """A safetensors file of (name, dtype, shape, bytes)."""
    header, at = {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for *_, data in tensors:
            f.write(data)


def to_bf16(values: np.ndarray) -> bytes:
    """Round to nearest, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def floats(model: Model) -> list[tuple[str, list[int], np.ndarray]]:
    header, data = read(model.path)
    return [
        (name, t["shape"], np.frombuffer(data[slice(*t["data_offsets"])], np.float32))
        for name, t in header.items()
        if name != "__metadata__" and t["dtype"] == "F32"
    ]


def cast_model(model: Model, dtype: str, work: pathlib.Path) -> Model:
    """The same weights in 16 bits."""
    path = work / f"minilm-{dtype}.safetensors"
    cast = to_bf16 if dtype == "bf16" else lambda v: v.astype(np.float16).tobytes()
    if not path.exists():
        write(path, [(name, dtype.upper(), shape, cast(values)) for name, shape, values in floats(model)])
    return Model(f"MiniLM {dtype}", path)


def bf16_model(model: Model, work: pathlib.Path, total_bytes: int) -> Model:
    """A larger bf16 model of 4096 x 576 matrices: the real weights in other places and scales, so that no two chunks
    are equal and the distribution of the values is the real one."""
    path = work / "large-bf16.safetensors"
    if not path.exists():
        rng = np.random.default_rng(1)
        pool = np.concatenate([values for _, _, values in floats(model)])
        shape, tensors = [4096, 576], []
        elements = shape[0] * shape[1]
        for i in range(total_bytes // (2 * elements)):
            start = int(rng.integers(0, pool.size - elements))
            values = pool[start : start + elements] * np.float32(rng.uniform(0.5, 2))
            tensors.append((f"model.layers.{i}.mlp.up_proj.weight", "BF16", shape, to_bf16(values)))
        write(path, tensors)
    return Model("bf16 model of 269 MB", path)


def partly_changed(model: Model, work: pathlib.Path, share: float) -> Model:
    """The model with new values in tensors that make up at most `share` of their number and of the bytes."""
    path = work / "minilm-changed.safetensors"
    header, data = read(model.path)
    names = [n for n in header if n != "__metadata__"]
    rng = np.random.default_rng(2)
    budget, changed = share * len(data), set()
    for name in sorted(names, key=lambda n: header[n]["data_offsets"][0] - header[n]["data_offsets"][1])[1:]:
        start, end = header[name]["data_offsets"]
        if len(changed) < share * len(names) and end - start <= budget:
            changed.add(name)
            budget -= end - start
    tensors = []
    for name in names:
        t = header[name]
        raw = bytes(data[slice(*t["data_offsets"])])
        if name in changed and t["dtype"] == "F32":
            values = np.frombuffer(raw, np.float32)
            raw = (values + rng.normal(0, 1e-3, values.shape)).astype(np.float32).tobytes()
        tensors.append((name, t["dtype"], t["shape"], raw))
    write(path, tensors)
    return Model(f"{model.name}, changed", path)


def write_copy_file(path: pathlib.Path, work: pathlib.Path, row: int = 1 << 20) -> pathlib.Path:
    """The bytes of a file as rows of one bytea column, in the binary form of COPY."""
    out = work / f"{path.stem}.copy"
    if not out.exists():
        data = path.read_bytes()
        with out.open("wb") as f:
            f.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
            for at in range(0, len(data), row):
                piece = data[at : at + row]
                f.write(struct.pack(">hi", 1, len(piece)) + piece)
            f.write(struct.pack(">h", -1))
    return out.resolve()
