"""A model as one file, by the client and by its command."""

from __future__ import annotations

import json
import os
import stat
import tarfile

import psycopg
import pytest
from archives import export_archive
from models import random_tensor
from observe import problems, row_counts

WEIGHTS = {"w": random_tensor(1, 500, 1000), "b": random_tensor(2, 8)}


@pytest.fixture
def model(client):
    pushed = client.models.push(WEIGHTS, "m:1")
    with client.training("m:1", "first") as run:
        for step in range(3):
            run.log(step, {"loss": 1.0 / (step + 1)})
        run.checkpoint(2, WEIGHTS | {"b": WEIGHTS["b"] + 1})
    return pushed.model_id


def test_there_and_back(client, db, model, tmp_path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = client.models.archive("m", tmp_path / "m.tar", progress=lambda *at: seen.append(at))
    assert path.read_bytes() == export_archive(db, model)
    assert seen[-1][:2] == ("m.tar", path.stat().st_size) and 0 < seen[-1][2] < seen[-1][1]
    # The file is one like any other, and nothing else is left.
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["m.tar", "other"]
    with tarfile.open(path) as archive:
        assert archive.getnames()[0] == "manifest.json" and len(archive.getnames()) == 4
    row = client.models.unarchive(path, "n:2")
    assert (row.files, row.runs, row.checkpoints, row.new_bytes) == (1, 1, 1, 0)
    assert client.models.label(row.model_id) == "n:2"
    bare = client.models.archive(row.model_id, tmp_path / "other", with_checkpoints=False)
    with tarfile.open(bare) as archive:
        assert archive.getnames() == ["manifest.json", "model/model.safetensors"]
    # Where there is nothing of it.
    db.execute("SELECT modelstore.delete_model(m, cascade => true) FROM (VALUES ('m'), ('n')) AS v(m)")
    db.execute("SELECT modelstore.gc()")
    client.models.unarchive(path)
    assert export_archive(db, "m") == path.read_bytes()
    assert problems(db) == []


def test_a_refusal_leaves_nothing(client, db, model, tmp_path) -> None:
    path = client.models.archive("m", tmp_path / "m.tar")
    before = row_counts(db)
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.models.unarchive(path)
    (tmp_path / "broken.tar").write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(psycopg.Error) as caught:
        client.models.unarchive(tmp_path / "broken.tar", "n:1")
    assert caught.value.sqlstate == "22026"
    assert row_counts(db) == before
    with pytest.raises(psycopg.errors.UndefinedObject):
        client.models.archive("nothing", tmp_path / "nothing.tar")
    with pytest.raises(FileNotFoundError):
        client.models.archive("m", tmp_path / "nowhere" / "m.tar")
    assert sorted(os.listdir(tmp_path)) == ["broken.tar", "m.tar"]


def test_the_command(client, command, model, tmp_path) -> None:
    done = command("archive", "m", "m.tar")
    size = (tmp_path / "m.tar").stat().st_size
    assert (done.returncode, done.stdout, done.stderr) == (0, f"m.tar: {size / 1e6:.1f} MB\n", "")
    done = command("unarchive", "m.tar", "n:1")
    assert done.returncode == 0 and done.stdout.startswith("n:1 ") and "1 file, 1 run, 1 checkpoint; stored 0 B" in done.stdout
    done = command("archive", "n", "n.tar", "--no-checkpoints", "--json")
    assert json.loads(done.stdout) == {"path": "n.tar", "bytes": (tmp_path / "n.tar").stat().st_size}
    assert json.loads(command("unarchive", "n.tar", "n:2", "--json").stdout)["checkpoints"] == 0
    done = command("unarchive", "n.tar")
    assert done.returncode == 3 and done.stderr.startswith('error: model "n" version "1" already exists (23505)')
    assert command("unarchive", "none.tar").returncode == 3
