"""Executes docs/python.md and the package's README: ```python, ```sh and ```sql blocks, in order, one database a file; of the
project's README the ```python blocks, whose database has a store.

- An ```output block right after a block is what it prints, as in test_docs.py.
- ```python torch runs where torch is installed; ```python no-run is not executed.
- postgresql://localhost/models stands for the test's database. The folder has all-MiniLM-L6-v2/ with the model and its config.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from databases import create_database
from doc_blocks import Block, blocks_of, lines, matches
from harness import ROOT

README = ROOT / "README.md"
FILES = [ROOT / "docs" / "python.md", ROOT / "clients" / "python" / "README.md", README]
BLOCKS = {path: blocks_of(path, ("python",) if path == README else ("python", "sh", "sql")) for path in FILES}
HAS_TORCH = importlib.util.find_spec("torch") is not None

# Reads the blocks, runs them in one namespace and prints for each what it printed.
RUNNER = r"""
import contextlib, io, json, subprocess, sys, traceback
import psycopg
url, blocks, shown, names = sys.argv[1], json.load(sys.stdin), {}, {"__name__": "example"}
for number, language, code in blocks:
    out, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(out):
            if language == "python":
                exec(compile(code, f"line {number}", "exec"), names)
            elif language == "sh":
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
                print(done.stdout, end="")
                if done.returncode:
                    error = f"exit code {done.returncode}\n{done.stderr}"
            else:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(code)
    except BaseException:
        error = traceback.format_exc()
    shown[number] = [out.getvalue(), error]
json.dump(shown, sys.stdout)
"""


def runs(block: Block) -> bool:
    return block.run and ("torch" not in block.words or HAS_TORCH)


@pytest.fixture(scope="session")
def printed(server, template, minilm, tmp_path_factory):
    """printed(block): what it prints, and its error. The whole file runs at the first question."""
    seen: dict[pathlib.Path, dict[str, tuple[str, str | None]]] = {}

    def run(path: pathlib.Path) -> dict[str, tuple[str, str | None]]:
        database, folder = f"python_docs_{FILES.index(path)}", tmp_path_factory.mktemp("docs")
        (folder / "all-MiniLM-L6-v2").mkdir()
        for file in (minilm, minilm.with_name("config.json")):
            (folder / "all-MiniLM-L6-v2" / file.name).symlink_to(file)
        create_database(server, database, template if path == README else "template1")
        url = f"postgresql://postgres@/{database}?host={server.socket}&port={server.port}"
        blocks = [(b.line, b.language, b.sql.replace("postgresql://localhost/models", url)) for b in BLOCKS[path] if runs(b)]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT / "clients" / "python" / "src"),
            "PGTZ": "UTC",
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, url],
            input=json.dumps(blocks),
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def of(block: Block) -> tuple[str, str | None]:
        if block.path not in seen:
            seen[block.path] = run(block.path)
        return seen[block.path][str(block.line)]

    return of


@pytest.mark.parametrize("block", [b for path in FILES for b in BLOCKS[path]], ids=str)
def test_documentation(block: Block, printed) -> None:
    if not runs(block):
        pytest.skip("no-run" if not block.run else "torch is not installed")
    actual, error = printed(block)
    if error:
        pytest.fail(f"{block}\n{block.sql}\n{actual}{error}", False)
    if block.output is not None and not matches(expected := lines(block.output), lines(actual)):
        diff = difflib.unified_diff(expected, lines(actual), "documented", "printed", lineterm="")
        pytest.fail(f"{block}\n{block.sql}\n" + "\n".join(diff), False)
