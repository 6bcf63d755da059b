"""A store as it was dumped once: every build restores it, finds no damage, and exports what was imported.

`golden/store.sql.xz` is a dump of pg_dump 15 in plain format. It may be made anew, with a stated reason in its commit, until the first
release, and never changes after it: delete it and run this file with UPDATE_GOLDEN=1 and PG=15.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import pathlib
import re

import numpy as np
import psycopg
import pytest
from atoms import ingest
from checkpoints import checkpoint, start
from harness import MAJOR, Server
from models import raw_file
from observe import exported_sha256, problems
from transfer import import_model

pytestmark = pytest.mark.versioned

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "store.sql.xz"
TEXT = "".join(f"line {i % 17} of a text\n" + "\n" * (i % 5 == 0) for i in range(60))
LEAF = np.random.default_rng(9).bytes(20_000)
WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "U8": 1, "F8_E4M3": 1, "BOOL": 1}


def elements(dtype: str, count: int, seed: int) -> bytes:
    """Numbers of this type, of few exponents, from whole numbers: the same on every machine."""
    noise = np.random.default_rng(seed).integers(0, 1 << 20, (3, count)).sum(axis=0) - (3 << 19)
    match dtype:
        case "F64":
            return (noise / (1 << 24)).astype("<f8").tobytes()
        case "F32":
            return (noise / (1 << 24)).astype("<f4").tobytes()
        case "F16":
            return (noise / (1 << 24)).astype("<f2").tobytes()
        case "BF16":
            return ((noise / (1 << 24)).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        case "F8_E4M3":
            return ((noise >> 14) & 0xBF).astype("u1").tobytes()  # no exponent of only ones: no NaN
        case "BOOL":
            return (noise > 0).astype("u1").tobytes()
        case _:
            return (noise >> 12).astype(f"<i{WIDTHS[dtype]}").tobytes()


def file(seed: int, changed: int = 0) -> bytes:
    """A file with a weight of each type, constants and small ones; the first elements of some are others where `changed` says so."""
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for number, (dtype, width) in enumerate(WIDTHS.items()):
        raw = bytearray(elements(dtype, 6000, seed + number))
        raw[: changed * width] = elements(dtype, changed, seed + 100)
        tensors[f"planes.{dtype}"] = (dtype, (60, 100), bytes(raw))
        tensors[f"constant.{dtype}"] = (dtype, (500,), elements(dtype, 1, seed) * 500)
        tensors[f"raw.{dtype}"] = (dtype, (3,), elements(dtype, 3, seed + number))
    return raw_file(tensors)


FILES = {"base": file(1), "near": file(1, changed=40)}
OTHER_FILES = {"config.json": b'{"model_type": "golden"}\n', "1_Pooling/config.json": b"{}", "empty": b"", "tokenizer.model": bytes(range(256)) * 9}


def fill(db: psycopg.Connection) -> None:
    db.execute("SELECT modelstore.create_store()")
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    base = import_model(db, FILES["base"], "base").model_id
    import_model(db, FILES["near"], "near", parent=base)
    for name, data in OTHER_FILES.items():
        db.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (base, name, data))
    db.execute("SELECT modelstore.log_evaluation(%s, 'golden', '{\"accuracy\": 0.5}')", (base,))
    run = start(db, base, "run")
    db.execute("SELECT modelstore.log_metrics(%s, 1, '{\"loss\": 0.5}')", (run,))
    for step in (1, 2):
        checkpoint(db, base, FILES["near" if step == 2 else "base"], step, run)
    db.execute("SELECT modelstore.set_alias('base:1', 'production')")
    ingest(db, TEXT, "text", "text")
    ingest(db, LEAF, "other", "leaf")


def dumped(server: Server, dbname: str) -> bytes:
    done = server.run("pg_dump", "--no-owner", "--schema=store", dbname=dbname)
    assert done.returncode == 0, done.stderr
    # What only the psql of some releases understands.
    return re.sub(r"^\\(un)?restrict .*\n", "", done.stdout, flags=re.M).encode()


def contents(db: psycopg.Connection) -> dict[str, object]:
    """What must come back: hashes of what is exported and rebuilt, and figures that views compute."""
    models = {name: exported_sha256(db, id) for name, id in db.execute("SELECT model_name, model_id FROM store.models").fetchall()}
    checkpoints = db.execute("SELECT step, checkpoint_id FROM store.model_checkpoints ORDER BY step").fetchall()
    parts = "SELECT modelstore.export_checkpoint(%s, 'model.safetensors')"
    rebuilt = """SELECT source_uri, sha256(modelstore.reconstruct((h_xy, h_yz, h_zm))) FROM store.ingestion_log ORDER BY source_uri"""
    files = db.execute("SELECT file_name, (SELECT string_agg(part, '') FROM modelstore.export_file(model_id, file_name) part) FROM store.model_files WHERE format = 'file'")
    return {
        "models": models,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files},
        "evaluations": db.execute("SELECT evaluations -> 0 -> 'metrics' FROM store.models WHERE model_name = 'base'").fetchone(),
        "checkpoints": {step: hashlib.sha256(b"".join(p for (p,) in db.execute(parts, (id,)))).hexdigest() for step, id in checkpoints},
        "atoms": {uri: bytes(hash).hex() for uri, hash in db.execute(rebuilt)},
        "codecs": {row[0] for row in db.execute("SELECT DISTINCT modelstore.codec(chunk) FROM store.tensor_chunks")},
        "statistics": db.execute("SELECT count(*), sum(element_count), min(min), max(max) FROM store.v_weight_statistics").fetchone(),
        "production": db.execute("SELECT model_name FROM store.models WHERE model_id = modelstore.find_model('base', 'production')").fetchone(),
    }


def test_the_golden_store_is_restored_verified_and_exported(server: Server, new_database) -> None:
    if os.environ.get("UPDATE_GOLDEN") and not GOLDEN.exists():
        assert MAJOR == 15, "PG=15: later releases restore what it dumps"
        made = new_database()
        with server.connect(made, autocommit=True) as db:
            db.execute("CREATE EXTENSION pg_modelstore")
            fill(db)
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_bytes(lzma.compress(dumped(server, made), preset=9))
    name = new_database()
    server.psql("CREATE EXTENSION pg_modelstore;" + lzma.decompress(GOLDEN.read_bytes()).decode(), name)
    with server.connect(name, autocommit=True) as db:
        assert problems(db) == []
        assert db.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []
        found = contents(db)
        expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
        assert found["models"] == expected
        assert found["checkpoints"] == {1: expected["base"], 2: expected["near"]}
        assert found["atoms"] == {"leaf": hashlib.sha256(LEAF).hexdigest(), "text": hashlib.sha256(TEXT.encode()).hexdigest()}
        assert found["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in OTHER_FILES.items()}
        assert found["codecs"] == {"raw", "constant", "planes", "delta"}
        assert found["production"] == ("base",)
        # Views over what was dumped say what they say of a store that is made now.
        db.execute("ALTER SCHEMA store RENAME TO golden")
        fill(db)
        fresh = contents(db)
        assert {k: v for k, v in fresh.items() if k != "codecs"} == {k: v for k, v in found.items() if k != "codecs"}
