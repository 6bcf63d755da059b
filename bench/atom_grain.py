"""Models what a grain of text costs: rows, bytes after deduplication, and the bytes that one edit adds.

    bench/atom_grain.py [CORPUS-FOLDER…]

Needs no server. The corpora are this repository's history, its documents, the licences of the system, and texts made of
shuffled paragraphs; each folder named adds one. The rows are costed as PostgreSQL stores them, indexes included.
"""

from __future__ import annotations

import hashlib
import pathlib
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Bytes of a row with its entries in the indexes, estimated from the layout of rows; a value or a chunk comes on top.
ATOM, PART, CHUNK = 330, 215, 125
INLINE = 64
Cut = Callable[[bytes], Iterator[bytes]]


def mixed(data: bytes, end: int) -> float:
    """A number from 0 to 1 that the 32 bytes before a position determine."""
    return int.from_bytes(hashlib.blake2b(data[max(0, end - 32) : end], digest_size=4).digest()) / 2**32


def lines(text: bytes) -> Iterator[bytes]:
    for line in text.splitlines(keepends=True):
        for at in range(0, len(line), INLINE):
            yield line[at : at + INLINE]


def paragraphs(text: bytes) -> Iterator[bytes]:
    piece: list[bytes] = []
    for line in text.splitlines(keepends=True):
        if piece and piece[-1].isspace() and not line.isspace():
            yield b"".join(piece)
            piece = []
        piece.append(line)
    yield b"".join(piece)


def groups(target: int, paragraph: float) -> Cut:
    """Whole lines, a quarter to four times the target; `paragraph` is the share of the ends of paragraphs that end a group."""
    least, most = target // 4, target * 4

    def cut(text: bytes) -> Iterator[bytes]:
        start = at = 0
        best = (2.0, 0)
        while at < len(text):
            end = text.find(b"\n", at) + 1 or len(text)
            if end - start > most:
                at = best[1] if best[1] > start else min(start + most, len(text))
                yield text[start:at]
                start, best = at, (2.0, 0)
                continue
            length, at = end - at, end
            if at - start < least:
                continue
            blank = text[at - length : at].isspace()
            following = text[at : text.find(b"\n", at) + 1 or len(text)]
            chance = length / (target - least)
            if blank and not following.isspace():
                chance = max(chance, paragraph)
            elif blank or following.isspace():
                chance /= 8
            draw = mixed(text, at)
            if draw < chance:
                yield text[start:at]
                start, best = at, (2.0, 0)
            elif at - start >= target:
                best = min(best, (draw / chance, at))
        if start < len(text):
            yield text[start:]

    return cut


class Store:
    """Rows and bytes of the distinct atoms of several texts."""

    def __init__(self, cut: Cut, bits: int) -> None:
        self.cut, self.bits = cut, bits
        self.seen: set[bytes] = set()
        self.leaves = self.atoms = self.bytes = 0

    def put(self, text: bytes) -> None:
        level = []
        for leaf in self.cut(text):
            name = hashlib.blake2b(leaf, digest_size=16).digest()
            level.append(name)
            if name not in self.seen:
                self.seen.add(name)
                self.leaves += 1
                self.atoms += 1
                self.bytes += ATOM
                self.bytes += len(leaf) if len(leaf) <= INLINE else CHUNK + min(len(leaf), len(zlib.compress(leaf, 1))) * 104 // 100
        depth = 0
        while len(level) > 1:
            above, group = [], []
            for child in level:
                group.append(child)
                word = int.from_bytes(child[8:16]) >> (self.bits * depth % 60)
                if len(group) > 1 and (len(group) == 128 or word % (1 << self.bits) == 0):
                    above.append(self.composite(group))
                    group = []
            if group:
                above.append(self.composite(group))
            level, depth = above, depth + 1

    def composite(self, group: list[bytes]) -> bytes:
        if len(group) == 1:
            return group[0]
        name = hashlib.blake2b(b"".join(group), digest_size=16).digest()
        if name not in self.seen:
            self.seen.add(name)
            self.atoms += 1
            self.bytes += ATOM + PART * len(group)
        return name


def history() -> list[bytes]:
    """Every version of the files that changed most often."""
    names = subprocess.run(["git", "log", "--format=", "--name-only"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    often = sorted(set(names), key=lambda name: (-names.count(name), name))[:16]
    versions = []
    for name in often:
        for commit in subprocess.run(["git", "log", "--format=%H", "--", name], cwd=ROOT, capture_output=True, text=True).stdout.split():
            versions.append(subprocess.run(["git", "show", f"{commit}:{name}"], cwd=ROOT, capture_output=True).stdout)
    return list(dict.fromkeys(v for v in versions if v and b"\0" not in v))


def files(folder: pathlib.Path, pattern: str) -> list[bytes]:
    found = [path.read_bytes() for path in sorted(folder.glob(pattern)) if path.is_file()]
    return list(dict.fromkeys(data for data in found if data and b"\0" not in data))


def shuffled(pool: list[bytes]) -> list[bytes]:
    """Texts of 20 paragraphs, each of which occurs in several texts."""
    rng = random.Random(1)
    pieces = list({piece for text in pool for piece in paragraphs(text) if len(piece) > 100})
    pieces.sort()
    return [b"".join(rng.sample(pieces, 20)) for _ in range(len(pieces) // 2)]


def edit(cut: Cut, bits: int, text: bytes) -> float:
    """Bytes that a change of one line adds, the mean of 24 places."""
    store = Store(cut, bits)
    store.put(text)
    before = store.bytes
    rng = random.Random(2)
    for _ in range(24):
        at = rng.randrange(len(text) - 100)
        store.put(text[:at] + b"changed" + text[at + 7 :])
    return (store.bytes - before) / 24


def main() -> None:
    docs = files(ROOT, "docs/*.md") + files(ROOT, "*.md")
    licences = files(pathlib.Path("/usr/share"), "common-licenses/*") + files(pathlib.Path("/usr/share/doc"), "*/copyright")[:300]
    code = files(ROOT, "src/**/*.rs") + files(ROOT, "crates/**/*.rs") + files(ROOT, "pgrx-tests/**/*.py")
    corpora = {"history": history(), "documents": docs, "licences": licences, "code": code, "shuffled": shuffled(docs + licences[:40])}
    for folder in sys.argv[1:]:
        corpora[folder] = files(pathlib.Path(folder), "**/*")
    big = b"".join(code)[:2_000_000]
    grains: dict[str, Cut] = {"line": lines, "paragraph": paragraphs}
    for kib in (0.5, 1, 2, 4, 8, 16):
        for share in (0, 0.25, 1):
            grains[f"{kib} KiB, {share}"] = groups(int(kib * 1024), share)
    print("corpora:", ", ".join(f"{name} {len(texts)} texts {sum(map(len, texts)) / 1e6:.1f} MB" for name, texts in corpora.items()))
    print(f"{'grain, share of paragraph ends':32}{'fan-out':>8}" + "".join(f"{name[:12]:>22}" for name in corpora) + f"{'edit':>10}")
    for name, cut in grains.items():
        for bits in (3, 4, 5):
            if bits != 4 and name not in ("line", "2 KiB, 0.25", "4 KiB, 0.25"):
                continue
            row = f"{name:32}{1 << bits:>8}"
            for texts in corpora.values():
                store = Store(cut, bits)
                for text in texts:
                    store.put(text)
                total = sum(map(len, texts))
                row += f"{store.bytes / total:>9.2f}x{store.atoms * 1000 / (total / 1024):>6.0f}/MB"
                row = row[:-3] + "/MB"
            print(f"{row}{edit(cut, bits, big):>10.0f}", flush=True)


if __name__ == "__main__":
    main()
