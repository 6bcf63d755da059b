"""BLAKE3 written from its specification: slow, and independent of the code under test."""

from __future__ import annotations

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def _rotate(word: int, by: int) -> int:
    return (word >> by | word << 32 - by) & 0xFFFFFFFF


def _compress(value: tuple[int, ...], block: tuple[int, ...], counter: int, length: int, flags: int) -> tuple[int, ...]:
    v = [*value, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    words = list(block)
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(QUARTERS):
            for word, by_d, by_b in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                v[d] = _rotate(v[d] ^ v[a], by_d)
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                v[b] = _rotate(v[b] ^ v[c], by_b)
        words = [words[i] for i in ORDER]
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def _chunk(data: bytes, number: int, root: int) -> tuple[int, ...]:
    value, blocks = IV, [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        flags = CHUNK_START * (i == 0) | (CHUNK_END | root) * (i == len(blocks) - 1)
        value = _compress(value, struct.unpack("<16I", block.ljust(64, b"\0")), number, len(block), flags)
    return value


def _tree(data: bytes, number: int, root: int) -> tuple[int, ...]:
    if len(data) <= 1024:
        return _chunk(data, number, root)
    left = 1024
    while 2 * left < len(data):
        left *= 2
    children = _tree(data[:left], number, 0) + _tree(data[left:], number + left // 1024, 0)
    return _compress(IV, children, 0, 64, PARENT | root)


def blake3(data: bytes) -> bytes:
    """The hash of 32 bytes."""
    return struct.pack("<8I", *_tree(data, 0, ROOT))
