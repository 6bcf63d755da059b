"""Text to measure with."""

from __future__ import annotations

import hashlib
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def real_text(size: int) -> bytes:
    """Documents and source code of this project, and of packages beside it, each once."""
    seen, parts, total = set(), [], 0
    for pattern in ("docs/*.md", "*.md", "src/**/*.rs", "crates/**/*.rs", "pgrx-tests/**/*.py", ".local/venv/lib/python3*/site-packages/**/*.py"):
        for path in sorted(ROOT.glob(pattern)):
            data = path.read_bytes()
            if (digest := hashlib.sha256(data).digest()) in seen or b"\0" in data:
                continue
            seen.add(digest)
            parts.append(data)
            total += len(data)
            if total >= size:
                return b"".join(parts)[:size].decode("utf-8", "ignore").encode()
    return b"".join(parts)
