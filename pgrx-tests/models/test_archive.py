"""A model as one tar file: out, in, read and packed by others, changed by hand."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import tarfile
import uuid
from typing import Any

import numpy as np
import pytest
from archives import WAYS, export_archive, import_archive, import_upload, manifest, pack, read, with_manifest
from checkpoints import checkpoint, exported, file_of_weights, start
from folders import export, folder, tiny_folder
from models import MIB, random_tensor, safetensors_bytes
from observe import problems, row_counts
from safetensors.numpy import load
from tensors import pack as packed
from transfer import import_model, refusal, upload_in_parts

WEIGHTS = {"w": random_tensor(1, 300, 1000), "v": random_tensor(2, 8)}


def tiny(db) -> uuid.UUID:
    model = db.execute("SELECT modelstore.register_model('tiny', '1', metadata => '{\"digits\": 1.00000000000000000000001}', derivation => 'made')").fetchone()[0]
    for name, data in tiny_folder().items():
        db.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, name, data))
    db.execute("SELECT modelstore.log_evaluation('tiny', 'glue', '{\"accuracy\": 0.9}'), modelstore.set_trainable('tiny', '%mlp%', false)")
    db.execute("SELECT modelstore.set_alias('tiny', 'production'), modelstore.set_alias('tiny', 'best')")
    return model


def trained(db) -> uuid.UUID:
    """A model with runs, metrics and checkpoints that continue one another."""
    weights = dict(WEIGHTS)
    model = import_model(db, safetensors_bytes(weights), "m").model_id
    run = start(db, model, "first", total_steps=10, config={"lr": 0.1})
    db.execute("SELECT modelstore.log_metrics(%s, 1, '{\"loss\": \"NaN\", \"lr\": 0.1, \"inf\": \"-Infinity\"}', epoch => 0.5), modelstore.log_metrics(%s, 2, '{\"loss\": 1e-300}')", (run, run))
    # More than a page of them, and several of one time.
    db.execute("SELECT modelstore.log_metric(%s, 'acc', array_agg(i), array_agg(i / 3.0)) FROM generate_series(1, 20000) i", (run,))
    db.execute("INSERT INTO store.training_metrics SELECT %s, i %% 7, i %% 3, 'same', i %% 5, '2026-01-01' FROM generate_series(1, 9000) i", (run,))
    made = []
    for step in range(4):
        weights["w"] = weights["w"].copy()
        weights["w"][step] += 1
        state = file_of_weights({"w.exp_avg": random_tensor(step, 300, 1000), "0.step": np.array([step], "float32")})
        options: dict[str, Any] = {"optimizer": state, "metrics": {"loss": 1.5}, "rng_state": b"\0\xff", "param_groups": {"lr": 0.1}} if step else {}
        made.append(checkpoint(db, model, file_of_weights(weights), step, run, 0.25 * step, **options).checkpoint_id)
    db.execute("SELECT modelstore.put_optimizer_state(%s, 'w', 'more', '[1,2]'), modelstore.put_optimizer_state(%s, 'w', 'most', 'i64:[[3]]')", (made[0], made[0]))
    db.execute("SELECT modelstore.put_gradient('m', 'v', '[1,2,3,4,5,6,7,8]'), modelstore.put_gradient('m', 'w', %b::modelstore.tensor)", (packed(random_tensor(9, 300, 1000)),))
    db.execute("SELECT modelstore.finish_training(%s, 'failed', 'out of luck')", (run,))
    second = start(db, model, resume_from=made[2])
    checkpoint(db, model, file_of_weights(weights), 3, second)
    db.execute("INSERT INTO store.gradient_checkpoints VALUES (%s, 0, 'store', 0, 10, 0.1::float8 + 0.2)", (second,))
    data = export_archive(db, "m")
    db.execute("SET extra_float_digits = -10")
    assert export_archive(db, "m") == data
    db.execute("RESET extra_float_digits")
    db.execute("UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = %s", (made[1],))
    return model


def use(db, store: str = "other") -> None:
    db.execute("SELECT modelstore.create_store(%s, if_not_exists => true)", (store,))
    db.execute("SELECT set_config('modelstore.store', %s, false)", (store,))


def test_others_read_it(db) -> None:
    model, files = tiny(db), tiny_folder()
    data = export_archive(db, "tiny")
    found = read(data)
    assert list(found)[0] == "manifest.json" and len(data) % 512 == 0
    assert {name.removeprefix("model/"): content for name, content in found.items() if name != "manifest.json"} == files
    done = subprocess.run(["tar", "-tvf", "-"], input=data, capture_output=True, check=True)
    assert done.stderr == b"" and len(done.stdout.splitlines()) == len(files) + 1
    described = json.loads(found["manifest.json"])
    assert {name: described["model"][name] for name in ("name", "version", "status", "derivation", "aliases", "lineage")} == {
        "name": "tiny", "version": "1", "status": "ready", "derivation": "made", "aliases": ["best", "production"], "lineage": [],
    }  # fmt: skip
    assert described["model"]["config"] == json.loads(files["config.json"])
    assert b"1.00000000000000000000001" in found["manifest.json"]
    assert [file["name"] for file in described["model"]["files"]] == sorted(files)
    # In parts as well as at once, whatever the settings of the session are.
    db.execute("SET extra_float_digits = -10; SET timezone = 'Asia/Kolkata'; SET datestyle = 'German'; SET intervalstyle = 'postgres_verbose'")
    with db.cursor() as cursor:
        assert b"".join(part for (part,) in cursor.stream("SELECT modelstore.export_archive(%s)", (model,), binary=True)) == data
    (oid,) = db.execute("SELECT modelstore.export_archive_large_object('tiny')").fetchone()
    assert db.execute("SELECT lo_get(%s)", (oid,)).fetchone() == (data,)


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_a_folder_comes_back(way, db) -> None:
    tiny(db)
    data = export_archive(db, "tiny")
    use(db)
    row = WAYS[way](db, data)
    assert (row.files, row.runs, row.checkpoints) == (len(tiny_folder()), 0, 0)
    assert {name: export(db, row.model_id, name) for name in tiny_folder()} == tiny_folder()
    assert problems(db) == []
    # All of it: its archive is the same.
    assert export_archive(db, "tiny@production") == data
    assert db.execute("SELECT count(*) FROM modelstore.gc()").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM other.uploads").fetchone() == (0,)
    assert refusal(db, "SELECT modelstore.import_archive(%b::bytea)", data).sqlstate == "23505"
    # Once more under other names: nothing is stored, and aliases of others stay.
    again = WAYS[way](db, data, "tiny", "2")
    assert (again.new_chunks, again.weights, again.parameters) == (0, row.weights, row.parameters)
    assert db.execute("SELECT alias, version FROM other.model_aliases JOIN other.models USING (model_id) ORDER BY 1").fetchall() == [("best", "1"), ("production", "1")]
    assert WAYS[way](db, data, "else").model_id == db.execute("SELECT 'else@best'::modelstore.regmodel::uuid").fetchone()[0]


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_checkpoints_come_back(way, db) -> None:
    trained(db)
    data = export_archive(db, "m")
    use(db)
    row = WAYS[way](db, data)
    assert (row.files, row.runs, row.checkpoints, row.weights) == (1, 2, 5, 2)
    assert problems(db) == []
    assert export_archive(db, "m") == data
    tables = {
        "training_sessions": "session_name, status, config, total_steps, loss_metric, host, error, created_at, started_at, ended_at",
        "model_checkpoints": "sequence, step, epoch, metrics, rng_state, param_groups, metadata, pinned, created_at, content_hash",
        "training_metrics": "metric_name, step, epoch, value::text, recorded_at",
        "gradient_checkpoints": "layer_index, policy, segment, kept_bytes, recompute_flops",
        "checkpoint_files": "file_name, header, file_bytes, sha256, blake3",
        "optimizer_state": "parameter_name, state_name, file_name, file_offset",
    }
    for table, columns in tables.items():
        here, there = (sorted(db.execute(f"SELECT {columns} FROM {store}.{table}").fetchall(), key=repr) for store in ("store", "other"))
        assert here and here == there, table
    parents = "SELECT k.sequence, p.sequence, s.session_name, s.created_at FROM {0}.model_checkpoints k LEFT JOIN {0}.model_checkpoints p ON p.checkpoint_id = k.parent_checkpoint_id LEFT JOIN {0}.training_sessions s ON s.session_id = k.session_id ORDER BY 1"
    assert db.execute(parents.format("store")).fetchall() == db.execute(parents.format("other")).fetchall()
    gradients = "SELECT weight_name, content_hash, dtype FROM {0}.model_weights w JOIN {0}.tensor_metadata t ON t.tensor_id = gradient_tensor_id ORDER BY 1"
    assert len(db.execute(gradients.format("other")).fetchall()) == 2
    assert db.execute(gradients.format("store")).fetchall() == db.execute(gradients.format("other")).fetchall()
    # Differences are stored as such.
    assert db.execute("SELECT max(delta_depth) > 0 FROM other.tensor_chunks").fetchone() == (True,)
    # Without them.
    bare = export_archive(db, "m", with_checkpoints=False)
    assert list(read(bare)) == ["manifest.json", "model/model.safetensors", "gradients.safetensors"]
    row = WAYS[way](db, bare, version="bare")
    assert (row.runs, row.checkpoints, row.new_chunks) == (0, 0, 0)


def test_files_of_checkpoints(db) -> None:
    trained(db)
    found = read(export_archive(db, "m"))
    ids = [id for (id,) in db.execute("SELECT checkpoint_id FROM store.model_checkpoints ORDER BY sequence")]
    assert found["checkpoints/000001-step-0/model.safetensors"] == exported(db, ids[0])
    assert found["checkpoints/000004-step-3/optimizer.safetensors"] == exported(db, ids[3], "optimizer.safetensors")
    assert {name: array.tolist() for name, array in load(found["checkpoints/000001-step-0/optimizer-added.safetensors"]).items()} == {"w.more": [1, 2], "w.most": [[3]]}
    assert np.array_equal(load(found["gradients.safetensors"])["w"], random_tensor(9, 300, 1000))
    lines = [json.loads(line) for line in found["runs/000001/metrics.jsonl"].splitlines()]
    assert len(lines) == 29_004
    assert [line["name"] for line in lines] == ["acc"] * 20_000 + ["inf"] + ["loss"] * 2 + ["lr"] + ["same"] * 9000
    assert [(line["step"], line["epoch"], line["value"]) for line in lines if line["name"] in ("inf", "loss")] == [(1, 0.5, "-Infinity"), (1, 0.5, "NaN"), (2, None, 1e-300)]
    assert lines[29_003]["recorded_at"] == "2026-01-01T00:00:00.000000Z"


def test_lineage(db) -> None:
    parent = import_model(db, safetensors_bytes(WEIGHTS), "base").model_id
    tuned = dict(WEIGHTS, w=WEIGHTS["w"].copy())
    tuned["w"][0, :5] += 1
    child = import_model(db, safetensors_bytes(tuned), "m", parent=parent).model_id
    db.execute("UPDATE store.models SET derivation = 'fine-tune' WHERE model_id = %s", (child,))
    data, of_parent = export_archive(db, "m"), export_archive(db, "base")
    lineage = manifest(data)["model"]["lineage"]
    assert [(a["name"], a["version"]) for a in lineage] == [("base", "1")]
    assert lineage[0]["content_hash"] == manifest(of_parent)["model"]["content_hash"]
    use(db)
    alone = import_archive(db, data).model_id
    assert db.execute("SELECT parent_model_id, derivation, metadata FROM other.models WHERE model_id = %s", (alone,)).fetchone() == (None, "fine-tune", {"lineage": lineage})
    use(db, "third")
    # Under another name: it is known by its weights, and the child is stored as a difference to it.
    held = import_archive(db, of_parent, "else").model_id
    new = import_archive(db, data)
    assert db.execute("SELECT parent_model_id, metadata FROM third.models WHERE model_id = %s", (new.model_id,)).fetchone() == (held, None)
    assert new.new_bytes < 5000
    assert problems(db) == []


def test_packed_again_by_others(db, tmp_path: pathlib.Path) -> None:
    """By GNU tar from a folder, by Python in other formats and another order."""
    trained(db)
    db.execute("DELETE FROM store.training_metrics WHERE step > 10 OR metric_name = 'same'")
    data = export_archive(db, "m")
    use(db)
    for number, form in enumerate([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]):
        import_archive(db, pack(reversed(read(data).items()), form), version=str(number))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(tmp_path, filter="data")
    for form in ("gnu", "posix", "ustar", "v7"):
        done = subprocess.run(["tar", f"--format={form}", "-C", tmp_path, "-c", "."], capture_output=True, check=True)
        import_archive(db, done.stdout, version=form)
    assert db.execute("SELECT count(DISTINCT content_hash), count(*) FROM other.models").fetchone() == (1, 7)
    assert db.execute("SELECT count(DISTINCT content_hash), count(*) FROM other.model_checkpoints").fetchone()[1] == 35
    assert problems(db) == []


def links(data: bytes, kind: bytes) -> bytes:
    out = io.BytesIO(data)
    with tarfile.open(fileobj=out, mode="a") as archive:
        member = tarfile.TarInfo("model/extra")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    return out.getvalue()


def flip(data: bytes) -> bytes:
    """Another last byte."""
    return data[:-1] + bytes([data[-1] ^ 1])


def test_any_file_that_differs_is_refused(db) -> None:
    tiny(db)
    data = export_archive(db, "tiny")
    files = read(data)
    use(db)
    before = row_counts(db, "other")
    for name in ("model/tokenizer.json", "model/README.md", "model/config.json", "model/sentencepiece.bpe.model"):
        changed = files[name].replace(b"t", b"T", 1) if name.endswith("json") else flip(files[name])
        assert changed != files[name]
        diag = refusal(db, "SELECT modelstore.import_archive(%b::bytea)", pack((files | {name: changed}).items()))
        assert (diag.sqlstate, name.removeprefix("model/") in diag.message_primary) == ("XX001", True), diag.message_primary
    assert row_counts(db, "other") == before


def test_what_is_wrong_is_refused(db) -> None:
    """Each with its own SQLSTATE, and nothing is left."""
    trained(db)
    db.execute("DELETE FROM store.training_metrics WHERE step > 10 OR metric_name = 'same'")
    data = export_archive(db, "m")
    files = read(data)
    weights = "model/model.safetensors"
    checkpoint_file, optimizer = (f"checkpoints/000002-step-1/{name}.safetensors" for name in ("model", "optimizer"))
    metrics = "runs/000001/metrics.jsonl"

    def model(**values: object) -> bytes:
        return with_manifest(data, lambda m: m["model"].update(values))

    def first(key: str, **values: object) -> bytes:
        return with_manifest(data, lambda m: m[key][0].update(values))

    def replaced(name: str, content: bytes) -> bytes:
        return pack((files | {name: content}).items())

    gradients = safetensors_bytes({"u": np.zeros(8, "float32")})
    cases: dict[str, tuple[bytes, str]] = {
        "nothing": (b"", "42809"),
        "another format": (b"PK\x03\x04" * 1000, "42809"),
        "truncated": (data[: len(data) // 2], "22026"),
        "no end": (data[:-1024], "22026"),
        "a checksum": (data[:3] + b"X" + data[4:], "XX001"),
        "a link": (links(data, tarfile.LNKTYPE), "42809"),
        "a symbolic link": (links(data, tarfile.SYMTYPE), "42809"),
        "a device": (links(data, tarfile.CHRTYPE), "42809"),
        "a name that leads out": (replaced("../x", b""), "42602"),
        "an absolute name": (replaced("/etc/passwd", b""), "42602"),
        "a file twice": (pack([*files.items(), (weights, b"")]), "58P02"),
        "a file too many": (replaced("model/extra", b""), "58P02"),
        "a file too few": (pack((n, c) for n, c in files.items() if n != weights), "58P01"),
        "no manifest": (pack((n, c) for n, c in files.items() if n != "manifest.json"), "58P01"),
        "another size": (replaced(weights, files[weights] + b"\0"), "22P03"),
        "other weights": (replaced(weights, flip(files[weights])), "XX001"),
        "other weights of a checkpoint": (replaced(checkpoint_file, flip(files[checkpoint_file])), "XX001"),
        "another optimizer state": (replaced(optimizer, flip(files[optimizer])), "XX001"),
        "no JSON": (replaced("manifest.json", b"{"), "22032"),
        "another JSON": (replaced("manifest.json", b'{"format": "else", "version": 1}'), "22032"),
        "a later version": (with_manifest(data, lambda m: m.update(version=2)), "0A000"),
        "an unknown key": (with_manifest(data, lambda m: m.update(extra=1)), "22032"),
        "another hash of the weights": (model(content_hash="00" * 32), "XX001"),
        "a name with a colon": (model(name="a:b"), "42602"),
        "an alias with a colon": (model(aliases=["a:b"]), "42602"),
        "evaluations that are none": (model(evaluations={}), "23514"),
        "a zero character": (model(metadata={"a": "\0"}), "22032"),
        "a time that is none": (model(created_at="yesterday's"), "22007"),
        "a run that is none": (first("checkpoints", run=9), "22032"),
        "a parent that comes later": (first("checkpoints", parent=0), "22032"),
        "another folder": (first("checkpoints", folder="../x"), "22032"),
        "a status that is none": (first("runs", status="else"), "23514"),
        "a negative number": (first("checkpoints", run=-1), "22032"),
        "a random state that is none": (first("checkpoints", rng_state="xyz"), "22032"),
        "gradients of another shape": (replaced("gradients.safetensors", safetensors_bytes({"v": np.zeros(9, "float32")})), "22P03"),
        "gradients of other weights": (with_manifest(replaced("gradients.safetensors", gradients), lambda m: m["model"].update(gradients_bytes=len(gradients))), "22000"),
        "gradients of another format": (replaced("gradients.safetensors", b"GGUF" + bytes(len(files["gradients.safetensors"]) - 4)), "42809"),
        "metrics that are none": (replaced(metrics, files[metrics].replace(b'"step"', b'"stop"', 1)), "22032"),
        "metrics without an end": (replaced(metrics, b"x" * len(files[metrics])), "22032"),
    }
    use(db)
    before = row_counts(db, "other")
    for case, (content, sqlstate) in cases.items():
        diag = refusal(db, "SELECT modelstore.import_archive(%b::bytea)", content)
        assert diag.sqlstate == sqlstate, f"{case}: {diag.sqlstate} {diag.message_primary}"
    assert row_counts(db, "other") == before
    upload = upload_in_parts(db, cases["other weights"][0], iter([MIB] * 1000))
    assert refusal(db, "SELECT modelstore.import_archive_upload(%s)", upload).sqlstate == "XX001"
    # After an error the upload still exists. Weights alone are no archive.
    assert db.execute("SELECT count(*) FROM other.uploads").fetchone() == (1,)
    upload = upload_in_parts(db, files[weights], iter([MIB] * 1000))
    assert refusal(db, "SELECT modelstore.import_archive_upload(%s)", upload).sqlstate == "42809"
    for query in ("import_archive(NULL)", "import_archive_large_object(NULL)", "import_archive_file(NULL)", "import_archive_upload(NULL)", "export_archive(NULL)", "export_archive('store', NULL)"):
        assert refusal(db, f"SELECT modelstore.{query}".replace("'store'", "gen_random_uuid()")).sqlstate == "22004", query
    assert refusal(db, "SELECT modelstore.export_archive(gen_random_uuid())").sqlstate == "42704"


def test_a_draft_and_a_model_without_weights(db) -> None:
    db.execute("SELECT modelstore.register_model('bare', '1', architecture => 'own', config => '{\"a\": 1}'), modelstore.register_model('draft', '1')")
    db.execute("SELECT modelstore.put_tensor('draft', 'w', '[1,2,3]')")
    assert refusal(db, "SELECT modelstore.export_archive('draft')").sqlstate == "55000"
    db.execute("SELECT modelstore.archive_model('bare')")
    data = export_archive(db, "bare:1")
    use(db)
    import_archive(db, data)
    assert db.execute("SELECT architecture, config, status FROM other.models").fetchone() == ("own", {"a": 1}, "archived")
    assert export_archive(db, "bare:1") == data


def test_on_the_server(db, server, connect) -> None:
    """Paths are absolute, files are new, and who may read and write files there does so."""
    model = trained(db)
    data = export_archive(db, "m")
    path = server.scratch / f"{uuid.uuid4()}.tar"
    assert db.execute("SELECT modelstore.export_archive_file(%s, %s)", (model, str(path))).fetchone() == (len(data),)
    assert path.read_bytes() == data
    assert refusal(db, "SELECT modelstore.export_archive_file(%s, %s)", model, str(path)).sqlstate == "58P02"
    db.execute("SELECT modelstore.import_archive_file(%s, version => '2')", (str(path),))
    (copy,) = db.execute("SELECT 'm:2'::modelstore.regmodel::uuid").fetchone()
    assert folder(db, copy) == folder(db, model)
    assert refusal(db, "SELECT modelstore.import_archive_file('x.tar')").sqlstate == "42602"
    assert refusal(db, "SELECT modelstore.import_archive_file(%s)", str(path) + ".none").sqlstate == "58P01"
    name = f"archivist_{os.getpid()}"
    db.execute(f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA store TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA store TO {name}")
    try:
        user = connect(user=name)
        assert refusal(user, "SELECT modelstore.import_archive_file(%s)", str(path)).sqlstate == "42501"
        assert refusal(user, "SELECT modelstore.export_archive_file(%s, %s)", model, str(path) + ".2").sqlstate == "42501"
        assert export_archive(user, "m:1") == data
        assert import_upload(user, data, version="3").checkpoints == 5
    finally:
        db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    path.unlink()


@pytest.mark.parametrize("order", [("model.fp16.safetensors", "model.safetensors"), ("model.safetensors", "model.fp16.safetensors"), ("consolidated.safetensors", "other.safetensors")])
def test_what_counts_as_weights_stays_so(order, db) -> None:
    """Which of two forms is the weights depends on which was added first."""
    (model,) = db.execute("SELECT modelstore.register_model('m', '1')").fetchone()
    contents = [safetensors_bytes({"w": random_tensor(1, 30, 40).astype(dtype)}) for dtype in ("<f4", "<f2")]
    if order[0].startswith("consolidated"):
        contents[1] = safetensors_bytes({"v": random_tensor(2, 8)})
    for name, content in zip(order, contents, strict=True):
        db.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, name, content))
    formats = "SELECT file_name, format FROM {}.model_files ORDER BY 1"
    data, expected = export_archive(db, "m"), db.execute(formats.format("store")).fetchall()
    use(db)
    model = import_archive(db, data).model_id
    assert db.execute(formats.format("other")).fetchall() == expected
    assert export_archive(db, "m") == data and problems(db) == []
    assert {name: export(db, model, name) for name, _ in expected} == {name.removeprefix("model/"): content for name, content in read(data).items() if name != "manifest.json"}


@pytest.mark.parametrize("key", ["license", "derivation", "architecture", "tags", "run"])
def test_no_text_has_a_zero_character(key, db) -> None:
    start(db, import_model(db, safetensors_bytes(WEIGHTS), "m").model_id)
    text = "a\\\0b"

    def change(described: dict[str, Any]) -> None:
        match key:
            case "tags":
                described["model"]["tags"] = [text]
            case "run":
                described["runs"][0]["host"] = text
            case _:
                described["model"][key] = text

    data = with_manifest(export_archive(db, "m"), change)
    use(db)
    failed = refusal(db, "SELECT modelstore.import_archive(%b::bytea)", data)
    assert failed.sqlstate == "22032" and "\\u0000" in (failed.message_detail or "")
    # The letters after a backslash are none.
    text = "a\\u0000b"
    import_archive(db, with_manifest(data, change))


@pytest.mark.parametrize("time", ["infinity", "9999-12-31 00:00:00+00"])
def test_a_model_of_the_future_is_not_the_newest_for_ever(time, db) -> None:
    import_model(db, safetensors_bytes(WEIGHTS), "m")
    data = with_manifest(export_archive(db, "m"), lambda m: m["model"].update(created_at=time))
    use(db)
    import_archive(db, data)
    later = import_model(db, safetensors_bytes({"w": random_tensor(3, 8)}), "m", version="later").model_id
    assert db.execute("SELECT modelstore.find_model('m')").fetchone() == (later,)
