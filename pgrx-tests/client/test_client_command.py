"""The command: what it prints, its exit codes, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import safetensors.numpy
from models import random_tensor
from pg_modelstore import cli


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    safetensors.numpy.save_file({"w": random_tensor(1, 200, 300), "b": np.zeros(3)}, path / "model.safetensors")
    (path / "config.json").write_text('{"model_type": "bert"}')
    return path


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


def test_there_and_back(command, folder, tmp_path) -> None:
    said = good(command("push", "tiny", "tiny:1", "--metadata", '{"license": "mit"}', "--alias", "production"))
    assert said.startswith("tiny:1 ") and "2 files, 2 weights, 240.2 kB in " in said and said.count("\n") == 1
    assert good(command("pull", "tiny@production", "out")).split() == ["out/config.json", "out/model.safetensors"]
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    safetensors.numpy.save_file({"w": random_tensor(2, 200, 300), "b": np.zeros(3)}, folder / "model.safetensors")
    pushed = json.loads(good(command("push", "tiny", "tiny:2", "--parent", "tiny:1", "--derivation", "fine-tune", "--json")))
    assert pushed["label"] == "tiny:2" and pushed["weights"] == 2 and pushed["reused_bytes"] >= 24

    listed = [json.loads(line) for line in good(command("ls", "--json")).splitlines()]
    assert sorted((row["model_name"], row["version"]) for row in listed) == [("tiny", "1"), ("tiny", "2")]
    table = good(command("ls", "tiny")).splitlines()
    assert len(table) == 3 and "version" in table[0].split()
    assert good(command("ls", "other")) == ""

    shown = good(command("show", "tiny:1"))
    assert shown.startswith("tiny:1\n") and "production" in shown and "model.safetensors" in shown
    assert json.loads(good(command("show", "tiny", "--json")))["parent"] == "tiny:1"

    assert [line.split()[:2] for line in good(command("diff", "tiny:1", "tiny:2")).splitlines()[1:]] == [["w", "changed"]]
    assert len(good(command("diff", "tiny:1", "tiny:2", "--all")).splitlines()) == 3
    assert command("diff", "tiny:1", "tiny:2", "--exit-code").returncode == 1
    assert command("diff", "tiny:1", "tiny:1", "--exit-code").returncode == 0

    assert good(command("verify")) == "no problems\n" == good(command("verify", "tiny:1"))
    assert good(command("gc", "--dry-run", "--abandoned-after", "1 day")).startswith("would delete 0 tensors")
    assert json.loads(good(command("gc", "--json")))["tensors"] == 0


def test_log(command, client, db) -> None:
    client.models.push({"w": np.ones(3)}, "m:1")
    client.models.push({"w": np.ones(3) * 2}, "m:2", parent="m:1", derivation="fine-tune")
    with client.training("m:1", "first try") as run:
        for step in range(1, 31):
            run.log(step, loss=1 / step, acc=step / 30, epoch=step / 10)
        run.log(30, loss=0.25)
        run.checkpoint(30, {"w": np.ones(3) * 3}, metrics={"loss": 0.25})
    said = good(command("log", "m"))
    assert [line.split()[1] for line in said.splitlines() if line.startswith("model ")] == ["m:2", "m:1"], "newest first"
    assert "    fine-tune\n" in said and "run first try: completed, step 30, loss 0.25, best 0.0344828" in said
    assert "checkpoint #30" in said and "loss 0.25" in said
    assert [len(json.loads(line)["runs"]) for line in good(command("log", "m", "--json")).splitlines()] == [0, 1]
    steps = good(command("log", "m:1", "first try")).splitlines()
    assert steps[0].split() == ["step", "epoch", "acc", "loss"] and len(steps) == 21
    assert steps[-1].split() == ["30", "3", "1", "0.25"], "the later record of a step counts"
    assert len(good(command("log", "m:1", str(run.session_id), "-n", "0")).splitlines()) == 31
    assert json.loads(good(command("log", "m:1", "first try", "-n", "1", "--json"))) == {
        "step": 30,
        "epoch": 3,
        "acc": 1,
        "loss": 0.25,
    }
    done = command("log", "m:1", "nothing")
    assert done.returncode == 3 and 'has no run "nothing"' in done.stderr


def test_problems_are_exit_code_1(command, client, db) -> None:
    client.models.push({"w": random_tensor(1, 100, 100)}, "m:1")
    db.execute("UPDATE store.tensor_data SET value_max = 100")
    done = command("verify", "m")
    assert done.returncode == 1 and "w" in done.stdout
    assert command("verify", "--json").returncode == 1


def test_errors_are_one_line(command, folder) -> None:
    good(command("push", "tiny", "tiny:1"))
    done = command("push", "tiny", "tiny:1")
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.startswith('error: model "tiny" version "1" already exists (23505) DETAIL: ') and " HINT: " in done.stderr
    assert done.stderr.count("\n") == 1
    for arguments in (["pull", "nobody", "out"], ["push", "nowhere", "m:1"], ["show", "tiny:9"], ["ls", "--store", "nowhere"]):
        done = command(*arguments)
        assert done.returncode == 3 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done
    done = command("ls", PGMODELSTORE_URL="postgresql://127.0.0.1:1/x")
    assert done.returncode == 3 and "Connection refused" in done.stderr and done.stderr.count("\n") == 1
    for arguments in ([], ["push", "tiny"], ["push", "tiny", "tiny"], ["fly"], ["gc", "--what"]):
        assert command(*arguments).returncode == 2, arguments


def test_where_the_server_is(command, home, dbname) -> None:
    libpq = {
        "PGHOST": home.server.socket,
        "PGPORT": str(home.server.port),
        "PGUSER": home.user,
        "PGDATABASE": dbname,
        "PGMODELSTORE_URL": "",
    }
    assert good(command("verify", **libpq)) == "no problems\n"
    assert (
        good(
            command(
                "verify",
                "--url",
                f"host={home.server.socket} port={home.server.port} user={home.user} dbname={dbname}",
                PGMODELSTORE_URL="host=/nowhere",
            )
        )
        == "no problems\n"
    )
    assert good(command("--version")) == "pg-modelstore 0.1.0.dev0\n"
    assert "exit codes" in good(command("--help")).lower()


def test_a_pipe_that_is_closed(command, url) -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m pg_modelstore verify --url '{url}' | true; exit 0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0


def test_control_characters_are_escaped(command, client, db, tmp_path) -> None:
    """A terminal would obey them: names, metadata and errors are written by others."""
    evil = "a\x1b]0;x\x07\n\x9b2J\x7f\u202eb"
    escaped = "a\\u001b]0;x\\u0007\\u000a\\u009b2J\\u007f\\u202eb"
    client.models.push({"w": np.ones(3)}, "m:1", derivation=evil, metadata={evil: evil})
    client.models.push({evil: np.ones(3)}, "m:2", parent="m:1")
    with client.training("m:1", "run") as run:
        run.log(1, {"loss": 2})
        run.checkpoint(1, {"w": np.ones(3)}, metrics={"loss": 1}, metadata={"x": evil})
    for arguments in (["ls"], ["show", "m:1"], ["log", "m:1"], ["log", "m:1", str(run.session_id)], ["diff", "m:1", "m:2", "--all"]):
        for more in ([], ["--json"]):
            said = good(command(*arguments, *more))
            assert not [c for c in said if c != "\n" and (unicodedata.category(c) in ("Cc", "Cf"))], arguments
            if more:
                assert [json.loads(line) for line in said.splitlines()]
    assert escaped in good(command("log", "m:1")) and escaped in good(command("diff", "m:1", "m:2"))
    assert json.loads(good(command("log", "m:1", "--json")))["derivation"] == evil
    done = command("show", "nobody\x1b[2J\x9b")
    assert done.returncode == 3 and "nobody\\u001b[2J\\u009b" in done.stderr and done.stderr.count("\n") == 1
    assert not {"\x1b", "\x9b"} & set(done.stderr)


def test_cells() -> None:
    assert [cli._size(n) for n in (0, 999, 1000, 2.5e6, 3e9, 5e12)] == ["0 B", "999 B", "1.0 kB", "2.5 MB", "3.0 GB", "5000.0 GB"]
    assert [cli._cell(v) for v in (None, True, 0.1 + 0.2, b"\x01\xff", {"a": 1})] == ["", "yes", "0.3", "01ff", '{"a": 1}']
