"""Synthetic models: safetensors files generated cheaply and deterministically."""

from __future__ import annotations

import hashlib
import json
import pathlib
import struct
from collections.abc import Mapping

import numpy as np

MIB = 1 << 20

NAMES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file with these tensors, laid out in the order given."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at, data = 0, []
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": NAMES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *data])


def random_tensor(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    """Numbers spread like trained weights; the same for the same seed."""
    return (np.random.default_rng(seed).standard_normal(shape, dtype="float32") * 0.02).astype(dtype)


def write_large_file(path: pathlib.Path, mebibytes: int, seed: int = 0, dtype: str = "BF16", tensor_mib: int = 8) -> str:
    """Writes a file of matrices of `tensor_mib` MiB each and returns its SHA-256.

    One MiB of numbers spread like weights is written over and over, each time with another stamp in front: every chunk
    is different, compresses like the real thing and costs next to nothing to make.
    """
    width = {"BF16": 2, "F32": 4}[dtype]
    numbers = random_tensor(seed, MIB // width)
    block = bytearray((numbers.view("uint32") >> 16).astype("uint16").tobytes() if dtype == "BF16" else numbers.tobytes())
    count, rest = divmod(mebibytes, tensor_mib)
    sizes = [tensor_mib] * count + ([rest] if rest else [])
    header, at = {}, 0
    for i, size in enumerate(sizes):
        shape = [size * 256, 4096 // width]
        header[f"layer.{i}.weight"] = {"dtype": dtype, "shape": shape, "data_offsets": [at * MIB, (at + size) * MIB]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    sha256 = hashlib.sha256()
    with path.open("wb") as file:

        def put(part: bytes) -> None:
            file.write(part)
            sha256.update(part)

        put(struct.pack("<Q", len(text)) + text)
        for number in range(mebibytes):
            # Small finite numbers in every dtype: a pattern of 0x3c.. or 0x3d.. in each element.
            block[:16] = bytes(b for i in range(8) for b in ((seed * 31 + (number >> 3 * i & 7)) & 0xFF, 0x3C + (seed & 1)))
            put(bytes(block))
    path.chmod(0o644)
    return sha256.hexdigest()


# Files written by hand

# Elements and bytes of the smallest group of each of safetensors' 22 dtypes.
DTYPES = {
    "BOOL": (1, 1), "F4": (2, 1), "F6_E2M3": (4, 3), "F6_E3M2": (4, 3), "U8": (1, 1), "I8": (1, 1),
    "F8_E5M2": (1, 1), "F8_E4M3": (1, 1), "F8_E8M0": (1, 1), "F8_E4M3FNUZ": (1, 1), "F8_E5M2FNUZ": (1, 1),
    "I16": (1, 2), "U16": (1, 2), "F16": (1, 2), "BF16": (1, 2), "I32": (1, 4), "U32": (1, 4), "F32": (1, 4),
    "C64": (1, 8), "F64": (1, 8), "I64": (1, 8), "U64": (1, 8),
}  # fmt: skip

# dtype, shape, elements: what numpy has no dtype for is given as bytes.
Raw = tuple[str, tuple[int, ...], bytes]


def file_of(header: object, data: bytes = b"", padding: int = 0) -> bytes:
    """A file with this header, which may be wrong: an object that becomes JSON, or the bytes themselves."""
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    text += b" " * padding
    return struct.pack("<Q", len(text)) + text + data


def raw_file(
    tensors: Mapping[str, Raw], metadata: Mapping[str, str] | None = None, keys: list[str] | None = None, padding: int = 0
) -> bytes:
    """A file of raw tensors; their data come in the order given, the keys of the header in that of `keys`."""
    entries, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    header |= {name: entries[name] for name in (keys or entries)}
    return file_of(header, b"".join(data for _, _, data in tensors.values()), padding)


def random_raw(rng: np.random.Generator, dtype: str, *shape: int) -> Raw:
    """Random bits of any dtype."""
    elements, size = DTYPES[dtype]
    length = int(np.prod(shape, dtype=np.int64)) // elements * size
    return dtype, shape, rng.integers(0, 2 if dtype == "BOOL" else 256, length, dtype=np.uint8).tobytes()


# Models small enough to read

GPT2_CONFIG = {"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "vocab_size": 40, "n_positions": 12}
LLAMA_CONFIG = {
    "model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 3, "intermediate_size": 48, "vocab_size": 50,
}  # fmt: skip
BERT_CONFIG = {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "vocab_size": 30}


def tiny_gpt2(seed: int = 0) -> dict[str, np.ndarray]:
    """Two layers with GPT-2's names; the head is tied to the token embedding."""
    h, shapes = 16, {"wte.weight": (40, 16), "wpe.weight": (12, 16)}
    for i in range(2):
        shapes |= {
            f"h.{i}.ln_1.weight": (h,), f"h.{i}.ln_1.bias": (h,),
            f"h.{i}.attn.c_attn.weight": (h, 3 * h), f"h.{i}.attn.c_attn.bias": (3 * h,),
            f"h.{i}.attn.c_proj.weight": (h, h), f"h.{i}.attn.c_proj.bias": (h,),
            f"h.{i}.ln_2.weight": (h,), f"h.{i}.ln_2.bias": (h,),
            f"h.{i}.mlp.c_fc.weight": (h, 4 * h), f"h.{i}.mlp.c_fc.bias": (4 * h,),
            f"h.{i}.mlp.c_proj.weight": (4 * h, h), f"h.{i}.mlp.c_proj.bias": (h,),
        }  # fmt: skip
    shapes |= {"ln_f.weight": (h,), "ln_f.bias": (h,)}
    tensors = {f"transformer.{n}": random_tensor(seed + k, *s) for k, (n, s) in enumerate(shapes.items())}
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"].copy()}


def tiny_llama(seed: int = 0) -> dict[str, np.ndarray]:
    """Three layers with LLaMA's names, four query heads on two key heads, the head not tied."""
    h, kv, inner = 32, 16, 48
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (50, h)}
    for i in range(3):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "input_layernorm.weight": (h,), layer + "post_attention_layernorm.weight": (h,),
            layer + "self_attn.q_proj.weight": (h, h), layer + "self_attn.k_proj.weight": (kv, h),
            layer + "self_attn.v_proj.weight": (kv, h), layer + "self_attn.o_proj.weight": (h, h),
            layer + "mlp.gate_proj.weight": (inner, h), layer + "mlp.up_proj.weight": (inner, h),
            layer + "mlp.down_proj.weight": (h, inner),
        }  # fmt: skip
    shapes |= {"model.norm.weight": (h,), "lm_head.weight": (50, h)}
    return {n: random_tensor(seed + k, *s) for k, (n, s) in enumerate(shapes.items())}


# bfloat16, which numpy does not have, as its bits in uint16


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Bits of finite numbers rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, dtype="float32").view("uint32")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("uint16")


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """The numbers of these bits."""
    return (bits.astype("uint32") << 16).view("float32")
