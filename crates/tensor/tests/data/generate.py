"""Makes the golden data of this folder and of ../golden.

    python -m venv venv && venv/bin/pip install numpy ml_dtypes gguf && venv/bin/python generate.py

All numbers come from a fixed seed; the output changes only with this script.
"""

import itertools
import json
import pathlib
import struct
from fractions import Fraction

import gguf
import ml_dtypes
import numpy as np

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent / "golden"
GOLDEN.mkdir(exist_ok=True)
rng = np.random.default_rng(20)

SMALL = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2,
}


def ggml():
    """Two random blocks of each type with finite scales, and what gguf makes of them: `<name>.bin`, `<name>.f32`."""
    types = gguf.GGMLQuantizationType
    scales = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
              "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
    for name, offsets in scales.items():
        kind = types[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (2, size), dtype=np.uint8)
        for at in offsets:
            blocks[:, at:at + 2] = rng.normal(size=(2, 1)).astype(np.float16).view(np.uint8)
        values = gguf.quants.dequantize(blocks, kind).astype("<f4")
        (HERE / f"ggml_{name.lower()}.bin").write_bytes(blocks.tobytes())
        (HERE / f"ggml_{name.lower()}.f32").write_bytes(values.tobytes())


def slices():
    """Slices of small arrays with what numpy selects; `null` where it refuses."""
    items = ["0", "1", "-1", "-2", "3", ":", "1:", ":2", "::2", "1::3", "-2:", ":-1", "5:1", "-100:100", "2:2",
             "...", "0:9223372036854775807:2", "-99999999999999999999:", "1:4:99"]
    shapes = [(), (1,), (4,), (0,), (3, 4), (2, 1, 3), (2, 0, 3), (2, 3, 4)]
    cases = []
    for shape in shapes:
        texts = list(items)
        texts += [", ".join(p) for p in itertools.product(items, repeat=2)]
        triples = list(itertools.product(items, repeat=3))
        texts += [", ".join(triples[i]) for i in rng.choice(len(triples), 150, replace=False)]
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        for i, text in enumerate(texts):
            if i >= len(items) and rng.random() > 0.4:
                continue
            if text.count("...") > 1:
                continue
            try:
                # numpy answers a scalar where all dimensions are dropped.
                result = np.asarray(eval(f"array[{text}]"))
                answer = [list(result.shape), result.ravel().tolist()]
            except IndexError:
                answer = None
            cases.append([list(shape), text, answer])
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "numpy_slices.json").write_text(f"[\n{lines}\n]\n")


def singles():
    """Singles that matter for rounding to each small float: every middle of neighbours and one step beside it."""
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 3.4028235e38, 1e-45, 464.0, 65519.996, 65520.0, 61440.0, 3.39e38]
    picked = [np.array(special, np.float32)]
    for dtype in SMALL.values():
        width = np.dtype(dtype).itemsize * 8
        codes = np.arange(1 << (width - 1), dtype=f"u{width // 8}")
        values = codes.view(dtype).astype(np.float32)
        values = values[np.isfinite(values)]
        middles = (values[:-1].astype(np.float64) + values[1:]) / 2
        middles = middles.astype(np.float32)
        if len(middles) > 300:
            middles = rng.choice(middles, 300, replace=False)
        picked += [middles, -middles, np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(0))]
    bits = rng.integers(0, 1 << 32, 300, dtype=np.uint32)
    return np.concatenate(picked + [bits.view(np.float32)])


def casts():
    """`cast_source.f32` and what it is in each small dtype, `cast_<dtype>.bin`."""
    source = singles()
    (HERE / "cast_source.f32").write_bytes(source.astype("<f4").tobytes())
    with np.errstate(over="ignore", invalid="ignore"):
        for name, dtype in SMALL.items():
            (HERE / f"cast_{name}.bin").write_bytes(source.astype(dtype).tobytes())


def shortest(dtype, code):
    """The digits and power of ten of the shortest decimal that rounds to a code, by exact arithmetic."""
    width = np.dtype(dtype).itemsize

    def exact(c):
        return Fraction(float(np.array([c], f"u{width}").view(dtype)[0]))

    value, below = exact(code), exact(code - 1)
    above = np.array([code + 1], f"u{width}").view(dtype)[0]
    above = Fraction(float(above)) if np.isfinite(above) else 2 * value - below
    low, high = (value + below) / 2, (value + above) / 2
    power = 40
    while True:
        unit = Fraction(10) ** power
        first, last = -(-low // unit), high // unit
        if code % 2:
            first += first * unit == low
            last -= last * unit == high
        if first <= last:
            return min(max(round(value / unit), first), last), power
        power -= 1


def decimals():
    """Codes of the small floats with their shortest decimal, `[dtype, code, digits, power]`; for f16 it is what numpy
    prints."""
    rows = []
    for name, dtype in SMALL.items():
        width = np.dtype(dtype).itemsize
        codes = range(1, 127) if width == 1 else rng.choice(np.arange(1, 1 << 15), 400, replace=False)
        for code in map(int, codes):
            value = np.array([code], f"u{width}").view(dtype)[0]
            if not np.isfinite(value):
                continue
            digits, power = shortest(dtype, code)
            if name == "f16":
                assert Fraction(np.format_float_scientific(value)) == digits * Fraction(10) ** power, value
            rows.append([name, code, int(digits), power])
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (HERE / "decimals.json").write_text(f"[\n{lines}\n]\n")


def layout():
    """Values in the stored and wire layout, `../golden/<name>.bin`."""
    def write(name, code, dims, payload):
        header = struct.pack(f"<4B{len(dims)}q", 1, code, len(dims), 0, *dims)
        (GOLDEN / f"{name}.bin").write_bytes(header + payload)

    write("f32_scalar", 14, [], np.float32(3.5).tobytes())
    write("f32_2x3", 14, [2, 3], np.arange(6, dtype="<f4").tobytes())
    write("f32_0x3_empty", 14, [0, 3], b"")
    write("bf16_3", 13, [3], np.array([1, -0.0, np.inf]).astype(ml_dtypes.bfloat16).tobytes())
    write("i64_2", 9, [2], np.array([-1, 2**63 - 1], "<i8").tobytes())
    write("bool_2x1", 1, [2, 1], bytes([1, 0]))
    write("f4_2x4", 16, [2, 4], bytes([0x01, 0x23, 0x45, 0x67]))


for make in (ggml, slices, casts, decimals, layout):
    make()
