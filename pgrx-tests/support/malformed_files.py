"""Files that break a rule of safetensors, and the SQLSTATE of each rule."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import numpy as np
from models import file_of


def tensor(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets} | more


GOOD = {"a": tensor(), "b": tensor(shape=[2], offsets=[4, 12])}
DATA = bytes(range(12))
HUGE = 2**63 - 1


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, bytes(1000))
    return out.getvalue()


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


# Files of other formats, as people give them, and what the error calls them.
OTHER_FORMATS: list[tuple[bytes, str]] = [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 90868376\n", "a Git LFS pointer"),
    (b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "an HTML page"),
    (b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
    (b'{"model_type": "bert", "hidden_size": 384}', "JSON"),
    (b'{\n  "metadata": {"total_size": 1},\n  "weight_map": {}\n}', "JSON"),
    (b'[{"name": "a"}]', "JSON"),
    (pickle.dumps({"w": [1.0] * 1000}, protocol=2), "a Python pickle"),
    (pickle.dumps({"w": [1.0] * 1000}), "a Python pickle"),
    (zipped("archive/data.pkl"), "a PyTorch checkpoint"),
    (zipped("w.npy"), "a NumPy archive"),
    (zipped("model.safetensors"), "a ZIP archive"),
    (b"GGUF" + bytes([3, 0, 0, 0]) + bytes(2000), "a GGUF file"),
    (saved(np.zeros(1000)), "a NumPy array"),
    (gzip.compress(bytes(100_000)), "a gzip archive"),
    (b"\x89HDF\r\n\x1a\n" + bytes(1000), "an HDF5 file"),
    (b"MSDELTA\x01" + bytes(100), "a model delta"),
]

# Rule: SQLSTATE, files that break it.
MALFORMED: dict[str, tuple[str, list[bytes]]] = {
    "Truncated": ("22026", [b"", bytes(7), file_of(GOOD, DATA)[:-1], b"\x64" + bytes(7) + b"{}", file_of(GOOD)]),
    "HeaderTooLong": ("54000", [b"\xff" * 8, b"\xff" * 7 + b"\x7f{}", (100_000_001).to_bytes(8, "little") + b"{}"]),
    "NotAnObject": ("2203C", [bytes(8), file_of(b""), file_of(b"[]"), file_of(b" []"), file_of(b"null"), file_of(b"\xef\xbb\xbf{}"), file_of(b"\v{}"), file_of(b"  ")]),
    "InvalidUtf8": ("22021", [file_of(b'{"\xff":1}'), file_of(b'{"\xc0\x80":1}'), file_of(b'{"\xed\xa0\x80":1}'), file_of(b'{"\xe2\x82')]),
    "InvalidJson": ("22032", [
        file_of(b"{"), file_of(b"{]"), file_of(b"{'a':1}"), file_of(b"{}{}"), file_of(b"{} x"), file_of(b"{}\0"),
        file_of(b'{"a":NaN}'), file_of(b'{"\\ud800":1}'), file_of(b'{"a\nb":1}'), file_of(b"{" * 5000), file_of(b'{"__metadata__":{},}'),
        file_of(b'{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}', b"abcd"),
    ]),
    "WrongType": ("42804", [
        file_of({"a": 1}), file_of({"a": []}), file_of({"a": None}), file_of({"a": tensor(shape=1)}, DATA[:4]),
        file_of({"a": tensor(shape=["1"])}), file_of({"a": tensor() | {"dtype": 1}}), file_of({"__metadata__": 1}),
        file_of({"__metadata__": {"k": 1}}), file_of({"__metadata__": {"k": {}}}), file_of({"__metadata__": {"k": None}}),
        file_of(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"),
    ]),
    "DuplicateKey": ("22030", [
        file_of(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
        file_of(b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
        file_of(b'{"__metadata__":{},"__metadata__":{}}'), file_of(b'{"__metadata__":{"k":"1","k":"2"}}'),
        file_of(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
    ]),
    "UnknownField": ("42703", [file_of({"a": tensor(strides=[1])}, DATA[:4])]),
    "MissingField": ("2203A", [file_of({"a": {}})] + [file_of({"a": {k: v for k, v in tensor().items() if k != gone}}, DATA[:4]) for gone in tensor()]),
    "UnknownDtype": ("42704", [file_of({"a": tensor(dtype)}, DATA[:4]) for dtype in ("F33", "f32", "Q4_0", "", "F32 ")]),
    "InvalidNumber": ("22036", [
        file_of({"a": tensor(shape=[-1])}), file_of({"a": tensor(shape=[1.5])}), file_of({"a": tensor(shape=[1e300])}),
        file_of({"a": tensor(shape=[2**64])}), file_of({"a": tensor(offsets=[-4, 0])}), file_of({"a": tensor(offsets=[0, 2**64])}),
        file_of({"a": tensor(shape=[1.0])}, DATA[:4]),
    ]),
    "InvalidShape": ("2202E", [
        file_of({"a": tensor(shape=[1] * 33)}, DATA[:4]), file_of({"a": tensor(shape=[2**32, 2**32])}), file_of({"a": tensor(shape=[2**61])}),
        file_of({"a": tensor(shape=[2**63, 0], offsets=[0, 0])}),
    ]),
    "PartialByte": ("22023", [file_of({"a": tensor("F4", [3], [0, 2])}, b"ab"), file_of({"a": tensor("F6_E2M3", [2], [0, 2])}, b"ab")]),
    "OffsetCount": ("2203D", [file_of({"a": tensor(offsets=o)}, DATA[:4]) for o in ([], [0], [0, 4, 4], [0] * 1000)]),
    "OffsetOrder": ("22011", [file_of({"a": tensor(offsets=[4, 0])}, DATA[:4])]),
    "OffsetOverflow": ("22003", [file_of({"a": tensor("U8", [HUGE], [0, HUGE])}, DATA[:4])]),
    "WrongLength": ("22P03", [file_of({"a": tensor(offsets=[0, 8])}, DATA[:8]), file_of({"a": tensor(shape=[0])}, DATA[:4]), file_of({"a": tensor(offsets=[0, 2**64 - 1])}, DATA)]),
    "Hole": ("22P04", [
        file_of({"a": tensor(offsets=[4, 8])}, DATA[:8]), file_of({"a": tensor(), "b": tensor(offsets=[8, 12])}, DATA),
        file_of({"a": tensor("U8", [7], [2**64 - 8, 2**64 - 1])}), file_of({"a": tensor(shape=[0], offsets=[1, 1])}, b"a"),
    ]),
    "Overlap": ("23P01", [
        file_of({"a": tensor(), "b": tensor()}, DATA[:4]), file_of({"a": tensor(), "b": tensor("U8", [4], [3, 7])}, DATA[:7]),
        file_of({"a": tensor("U8", [8], [0, 8]), "b": tensor(offsets=[2, 6])}, DATA[:8]), file_of({"a": tensor(), "z": tensor(shape=[0], offsets=[2, 2])}, DATA[:4]),
    ]),
    "TrailingBytes": ("22001", [file_of(GOOD, DATA + b"x"), file_of({}, b"x"), file_of({"a": tensor(shape=[0], offsets=[0, 0])}, b"x")]),
    "EmptyName": ("2200F", [file_of({"": tensor()}, DATA[:4])]),
    "NulCharacter": ("22P05", [file_of({"a\0b": tensor()}, DATA[:4]), file_of({"__metadata__": {"k\0": "v"}}), file_of({"__metadata__": {"k": "\0"}})]),
    "OtherFormat": ("42809", [data for data, _ in OTHER_FORMATS]),
    "NameTooLong": ("42622", [file_of({"n" * 1025: tensor()}, DATA[:4])]),
}  # fmt: skip

# Rules of an index.json, which test_shards.py breaks.
INDEX_RULES = {
    "MissingKey": "42P02", "InvalidFileName": "42602", "MissingFile": "58P01", "UnexpectedFile": "58P02",
    "MissingTensor": "23503", "UnexpectedTensor": "23514", "MisplacedTensor": "23000",
}  # fmt: skip

# Only a writer of files could break these, or two files of one name, which model_files has no place for.
UNREACHABLE = {"UnsupportedDtype", "ReservedName", "RepeatedFile"}
