"""Files of each modality: found on the machine, or generated deterministically."""

from __future__ import annotations

import base64
import io
import json
import math
import pathlib
import random
import struct
import sysconfig
import wave
import zlib

import numpy as np
from models import safetensors_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
# 16 x 16 pixels: python.jpg of CPython's tests of imghdr.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8QEBD/"
    "2wBDAQMDAwQDBAgEBAgQCwkLEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBD/wAARCAAQABADASIAAhEBAxEB/8QA"
    "FgABAQEAAAAAAAAAAAAAAAAABwQF/8QAJBAAAQQBBAICAwAAAAAAAAAAAQIDBAYFBwgSExEiABQJMTL/xAAVAQEBAAAAAAAAAAAAAAAAAAAABv/EACMRAAEC"
    "BQMFAAAAAAAAAAAAAAECEQMEBQYhABIxFRZhgeH/2gAMAwEAAhEDEQA/ABSm0mobc8HmExLUlRzzEWPkJWW+ulrsaUVAseUgslSlH9LKuPryIKuWPZdskzXm"
    "m3fX5m2nF4GlVxx/HOpx4ks51+MiU/Iaad7UcUo4tILoS4kqcWkezS0hO/HvuRp0rO6hWnWO1UisZVuFi4GFeyEpmGepa5S5SWVPuciFKRFLgSrwetnyPIB+"
    "Vb4N9mKhQMzo5po9XLdDs9d6ZVix2VEhiL9kuNPxw2gEKcDQ/rs8AuA8VAe0vdl7VOYn+27flGAUgmITjbhSmCg3BYlyeWDkMolvw4KOp1KM6iCNvngZHwet"
    "f//Z"
)


def real_text(size: int) -> bytes:
    """Prose and sources found on this machine, in UTF-8, without repetition."""
    found, seen = [], set()
    perl, python = pathlib.Path("/usr/share/perl"), pathlib.Path(sysconfig.get_paths()["stdlib"])
    for directory, pattern in ((pathlib.Path("/usr/share/common-licenses"), "*"), (perl, "*.pod"), (python, "*.py"), (perl, "*.pm")):
        for path in sorted(directory.rglob(pattern)) if directory.exists() else []:
            data = path.read_bytes() if path.is_file() else b""
            try:
                data.decode()
            except UnicodeDecodeError:
                continue
            if data and b"\0" not in data and data not in seen:
                seen.add(data)
                found.append(data)
                size -= len(data)
            if size <= 0:
                return b"".join(found)[:size or None]
    raise AssertionError("too little text on this machine")


def sound(seconds: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44_100)
        t = np.arange(seconds * 44_100)
        left = 12_000 * np.sin(t * 2 * math.pi * (220 + t / 4000) / 44_100)
        out.writeframes(np.stack([left, np.random.default_rng(1).normal(0, 900, len(t))], axis=1).astype("<i2").tobytes())
    return file.getvalue()


def picture(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(2).integers(0, 30, (height, width))
    return np.stack([x % 226 + noise, y % 226 + noise, (x ^ y) % 226], axis=2).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pnm(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return b"P6\n# made by a test\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def records(count: int) -> bytes:
    rng = random.Random(3)
    rows = ({"id": i, "name": f"sensor-{i % 97}", "place": [rng.uniform(-180, 180), rng.uniform(-90, 90)], "on": i % 3 == 0} for i in range(count))
    return json.dumps({"rows": list(rows)}, indent=1).encode()


def sources() -> bytes:
    return b"".join(path.read_bytes() for path in sorted((ROOT / "src").rglob("*.rs")))


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "text": ("text", lambda: real_text(2 << 20)),
    "wav": ("audio", lambda: sound(20)),
    "png": ("image", lambda: png(picture(900, 700))),
    "jpeg": ("image", lambda: JPEG),
    "pnm": ("image", lambda: pnm(picture(801, 603))),
    "safetensors": ("tensor", lambda: safetensors_bytes({f"w{i}": np.random.default_rng(i).standard_normal((64, 257), np.float32) for i in range(9)})),
    "code": ("code", sources),
    "json": ("structured", lambda: records(10_000)),
    "video": ("video", lambda: b"\0\0\0\x18ftypmp42" + noise(2 << 20, 5)),
    "noise": ("other", lambda: noise(10_000_000)),
    "mixed line ends": ("text", lambda: b"one\r\ntwo\rthree\n\n\n\r\n" * 500 + b"\xff\xfe\0 no UTF-8 \xc3" * 200),
    "a long line": ("text", lambda: b"x" * 300_000 + "äöü🙂".encode() * 30_000),
}  # fmt: skip
