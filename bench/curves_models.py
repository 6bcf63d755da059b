"""Cost curves of models: by tensors, bytes, versions, models, ancestors, and the size of a tensor that a slice is read from."""

from __future__ import annotations

import json
import pathlib
import struct
from collections.abc import Iterator

import numpy as np
from growth import Curve, Figures
from models import to_bf16, write

MB = 1_000_000
ELEMENTS = 8 << 20
IMPORT = "SELECT model_id FROM modelstore.import_safetensors_file(%s, %s, %s)"


def many_tensors(path: pathlib.Path, count: int, seed: int) -> None:
    """Vectors of sixteen random numbers: tensors that take next to no bytes."""
    data = np.random.default_rng(seed).standard_normal((count, 16), dtype="float32")
    write(path, [(f"layers.{n // 8}.w{n % 8}", "F32", [16], row.tobytes()) for n, row in enumerate(data)])


def random_weights(path: pathlib.Path, size: int, dtype: str = "bf16", seed: int = 0) -> None:
    """Matrices with normally distributed weights, no chunk of which equals another: each has its own scale and place in a
    pool of random numbers."""
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal(2 * ELEMENTS, dtype="float32")
    of_tensor = ELEMENTS * {"bf16": 2, "f32": 4}[dtype]
    sizes = [of_tensor] * (size // of_tensor) + ([size % of_tensor & ~4095] if size % of_tensor >= 4096 else [])
    header, at = {}, 0
    for n, length in enumerate(sizes):
        shape = [length // (of_tensor // ELEMENTS) // 1024, 1024]
        header[f"model.layers.{n}.mlp.up_proj.weight"] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for length in sizes:
            start, scale = int(rng.integers(0, ELEMENTS)), np.float32(rng.uniform(0.01, 0.05))
            values = pool[start : start + length // (of_tensor // ELEMENTS)] * scale
            file.write(to_bf16(values) if dtype == "bf16" else values.tobytes())


def tensors(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Models of many small tensors, in and out, compared and deleted."""
    for size in sizes:
        for seed, name in enumerate(("a", "b")):
            many_tensors(b.file(f"{name}.safetensors"), size, seed + 2 * size)
        figures = b.once("import", IMPORT, f"a{size}", "1", str(b.file("a.safetensors")))
        b.db.execute(IMPORT, (f"b{size}", "1", str(b.file("b.safetensors"))))
        figures |= b.once("export", f"COPY (SELECT modelstore.export_safetensors('a{size}')) TO STDOUT (FORMAT binary)")
        figures |= b.once("verify_model", "SELECT count(*) FROM modelstore.verify_model(%s)", f"a{size}")
        figures |= b.once("diff_models", "SELECT count(*) FROM modelstore.diff_models(%s, %s)", f"a{size}", f"b{size}")
        figures |= b.once("publish_delta", f"COPY (SELECT modelstore.publish_delta('a{size}', 'b{size}')) TO STDOUT (FORMAT binary)")
        figures["gc of nothing [s]"] = b.median("SELECT chunks FROM modelstore.gc()", [()] * 3, warm=1)
        figures |= b.once("delete_model", "SELECT weights FROM modelstore.delete_model(%s)", f"b{size}")
        figures |= b.once("gc", "SELECT chunks FROM modelstore.gc()")
        yield size, figures


def file_bytes(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Models of random bf16 weights, in and out, by server files and by a client's COPY."""
    for size in sizes:
        path = b.file("weights.safetensors")
        random_weights(path, size * MB)
        figures = b.once("import", IMPORT, f"m{size}", "1", str(path))
        figures |= b.once("export", f"COPY (SELECT modelstore.export_safetensors('m{size}')) TO STDOUT (FORMAT binary)")
        figures |= b.once("verify_model", "SELECT count(*) FROM modelstore.verify_model(%s)", f"m{size}")
        figures |= b.once("import of a second version", IMPORT, f"m{size}", "2", str(path))
        path.unlink()
        yield size, figures
        b.db.execute("SELECT modelstore.delete_model(m.model_id) FROM store.models m")
        b.db.execute("SELECT modelstore.gc()")
        b.db.execute("VACUUM store.tensor_chunks")


def slices(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Ten rows of one tensor. It is zeros, from a file with a hole, in chunks of 256 kB, so that it has four times the chunks of
    other tensors of its size; what is looked up depends on their number alone."""
    b.db.execute("SET modelstore.chunk_size = '256kB'")
    for size in sizes:
        path, count = b.file("zeros.safetensors"), size * MB // 4096
        header = json.dumps({"w": {"dtype": "F32", "shape": [count, 1024], "data_offsets": [0, count * 4096]}}).encode()
        header += b" " * (-len(header) % 8)
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        with path.open("r+b") as file:
            file.truncate(8 + len(header) + count * 4096)
        id = b.value(IMPORT, "zeros", str(size), str(path))
        path.unlink()
        figures: Figures = {}
        for where, first in (("first", 0), ("middle", count // 2), ("last", count - 10)):
            asked = [(id, f"{first}:{first + 10}")] * 60
            figures[f"the {where} ten rows [s]"] = b.median("SELECT modelstore.get_tensor_slice(%s, 'w', %s)", asked, warm=10)
        yield size, figures


def one_model(name: str, version: str) -> str:
    """SQL that makes models of one small tensor each, for numbers i."""
    return f"""
        SELECT count(*) FROM generate_series(%s::int, %s) i,
            modelstore.create_model({name}, {version}, ARRAY['w'], ARRAY[('[' || i || ',1,2,3]')::modelstore.tensor])
    """


def grown(b, sizes: tuple[int, ...], sql: str, step: int = 500) -> Iterator[int]:
    """Makes as many as each of the sizes says, some in a transaction."""
    done = 0
    for size in sizes:
        while done < size:
            upto = min(done + step, size)
            b.db.execute(sql, (done + 1, upto))
            done = upto
        yield size


def versions(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Versions of one model."""
    for size in grown(b, sizes, one_model("'m'", "'v' || i")):
        create = "SELECT model_id FROM modelstore.create_model('m', %s, ARRAY['w'], ARRAY['[7,7,7]'::modelstore.tensor])"
        yield size, {
            "the next version [s]": b.median(create, [(f"next {size} {n}",) for n in range(13)]),
            "find_model(name) [s]": b.median("SELECT modelstore.find_model('m')", [()] * 23),
            "find_model(name, version) [s]": b.median("SELECT modelstore.find_model('m', %s)", [(f"v{n + 1}",) for n in range(23)]),
            "list_models('m') [s]": b.median("SELECT count(*) FROM modelstore.list_models('m')", [()] * 8),
            "v_model_architecture LIMIT 20 [s]": b.median("SELECT * FROM store.v_model_architecture LIMIT 20", [()] * 8),
        }


def models(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Models of one version each."""
    for size in grown(b, sizes, one_model("'m' || i", "'1'")):
        one = [(f"m{n + 1}",) for n in range(23)]
        yield size, {
            "find_model(name) [s]": b.median("SELECT modelstore.find_model(%s)", one),
            "list_models() LIMIT 20 [s]": b.median("SELECT * FROM modelstore.list_models() LIMIT 20", [()] * 8),
            "search_models('words') [s]": b.median("SELECT count(*) FROM modelstore.search_models('some words')", [()] * 8),
            "v_model_architecture LIMIT 20 [s]": b.median("SELECT * FROM store.v_model_architecture LIMIT 20", [()] * 8),
            "v_model_architecture of a name [s]": b.median("SELECT * FROM store.v_model_architecture WHERE model_name = %s", one),
            "space_report() [s]": b.median("SELECT count(*) FROM modelstore.space_report()", [()] * 3, warm=1),
        }


def ancestors(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """A line of models, each derived from the one before."""
    id, done = None, 0
    for size in sizes:
        while done < size:
            with b.db.transaction():
                for done in range(done + 1, min(done + 500, size) + 1):
                    id = b.value("SELECT modelstore.register_model('line', %s, %s)", str(done), id)
        figures = b.once("lineage", "SELECT count(*) FROM modelstore.lineage(%s)", id)
        figures["children [s]"] = b.median("SELECT count(*) FROM modelstore.children(%s)", [(id,)] * 8)
        yield size, figures


CURVES = [
    Curve("tensors", "tensors", (1000, 2000, 4000, 8000), (1000, 4000, 16_000, 50_000, 100_000), tensors),
    Curve("bytes", "MB", (25, 50, 100, 200), (100, 300, 1000, 3000), file_bytes),
    Curve("slice", "MB", (64, 256, 1024, 2048), (256, 1024, 4096, 16_384), slices),
    Curve("versions", "versions", (500, 1000, 2000, 4000), (1000, 3000, 9000, 27_000), versions),
    Curve("models", "models", (500, 1000, 2000, 4000), (1000, 3000, 9000, 27_000), models),
    Curve("ancestors", "ancestors", (500, 1000, 2000, 4000), (1000, 4000, 16_000, 64_000), ancestors),
]
