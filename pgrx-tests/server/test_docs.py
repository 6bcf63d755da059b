"""Executes the documentation: every ```sql block of README.md and docs/*.md, in order, one database a file; then all files
once more in one database, where only the errors are compared.

- An ```output block right after it is what psql prints. `…` in it stands for any text, and a line that is only `…` for any
  number of lines.
- A block that is not followed by one may print what it likes, but no error.
- ```sql no-run is not executed, and counted as skipped.
- <!-- sql … --> is executed like a block, and readers do not see it: for preparation.
- ```sh is executed in docs/operations.md, from the same session; `models`, `models_…` there stand for the page's database and others.

The files begin in an empty database, and psql in a folder with model.safetensors and config.json.
"""

from __future__ import annotations

import difflib
import pathlib
import re
import subprocess
import sys

import pytest
from databases import create_database
from doc_blocks import ERROR, Block, blocks_of, lines, matches
from harness import MAJOR, ROOT, Server

FILES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if p.exists()]
COMPLETE = re.compile(r"(;|^\s*\\.*|\\g\w*.*)\s*(--[^\n]*)?\Z", re.MULTILINE)


BLOCKS = {path: blocks_of(path, ("sql", "sh") if path.name == "operations.md" else ("sql",)) for path in FILES}


def script_of(block: Block, server: Server, database: str, folder: pathlib.Path) -> str:
    """What psql reads for a block: itself, or a call of the shell."""
    if block.language == "sql":
        return block.sql
    commands = re.sub(r"\bmodels(_\w+)?\b(?!\.)", rf"{database}\1", block.sql)
    (folder / f"{block.line}.sh").write_text(f"PATH='{server.bin}':$PATH\n{commands}")
    return f"\\! bash -euo pipefail {block.line}.sh </dev/null || echo 'ERROR:  the shell has failed'"


@pytest.fixture(scope="session")
def run_file(server: Server, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """run_file(path, database): what psql prints for each block, by its line. The whole file runs in one session."""

    def run(path: pathlib.Path, database: str) -> dict[int, str]:
        folder = tmp_path_factory.mktemp("docs")
        if "safetensors" in path.read_text():
            model = request.getfixturevalue("minilm")
            (folder / "model.safetensors").symlink_to(model)
            (folder / "config.json").symlink_to(model.with_name("config.json"))
        runnable = [b for b in BLOCKS[path] if b.run]
        done = server.run(
            "psql", "-X", "-q", "-v", "SHOW_CONTEXT=never", dbname=database, cwd=folder, stderr=subprocess.STDOUT,
            input="".join(f"\\echo \x01{b.line}\x02\n{script_of(b, server, database, folder)}\n" for b in runnable) + "\\echo \x01end\x02\n",
        )  # fmt: skip
        parts = re.split(r"\x01(\w+)\x02\n", done.stdout)
        return {int(line): text for line, text in zip(parts[1::2], parts[2::2], strict=True) if line != "end"}

    return run


@pytest.fixture(scope="session")
def printed(server: Server, run_file):
    """printed(block): what psql prints for it, in a database of its file."""
    seen: dict[pathlib.Path, dict[int, str]] = {}

    def of(block: Block) -> str:
        if block.path not in seen:
            database = f"docs_{FILES.index(block.path)}"
            create_database(server, database, "template1")
            seen[block.path] = run_file(block.path, database)
        return seen[block.path].get(block.line, "psql ended before this block")

    return of


def errors(text: str) -> list[str]:
    """The lines with errors, and those of psql that missed a row for \\gset."""
    return [line for line in lines(text) if ERROR.search(line) or line.startswith("psql ended")]


@pytest.mark.parametrize("block", [b for path in FILES for b in BLOCKS[path]], ids=str)
def test_documentation(block: Block, printed) -> None:
    if not block.run:
        pytest.skip("no-run")
    if block.language == "sql" and not COMPLETE.search(block.sql.rstrip()):
        pytest.fail(f"{block}: the last statement has no semicolon:\n{block.sql}", False)
    actual = printed(block)
    if block.output is None:
        if ERROR.search(actual):
            pytest.fail(f"{block}\n{block.sql}\n{actual}", False)
    elif not matches(expected := lines(block.output), lines(actual)):
        diff = difflib.unified_diff(expected, lines(actual), "documented", "printed", lineterm="")
        pytest.fail(f"{block}\n{block.sql}\n" + "\n".join(diff), False)


@pytest.mark.slow
def test_one_database_for_all_pages(server: Server, run_file) -> None:
    """A reader who runs page after page meets the documented errors and no other: names and objects of pages do not clash. No
    large object is left."""
    create_database(server, "docs_all", "template1")
    wrong = []
    for path in FILES:
        actual = run_file(path, "docs_all")
        for block in BLOCKS[path]:
            text = actual.get(block.line, "psql ended before this block") if block.run else ""
            if not matches(errors(block.output or ""), errors(text)):
                wrong.append(f"{block}\n{block.sql}\n{text}")
    assert not wrong, "\n".join(wrong)
    with server.connect("docs_all") as db:
        assert db.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)


def test_the_reference_is_what_the_catalog_says(server: Server, dbname: str) -> None:
    """docs/api.md is generated; who changes a comment or a signature runs `make docs`."""
    if MAJOR != 18:
        pytest.skip("docs/api.md is of PostgreSQL 18: others put other names in quotes")
    address = server.connect(dbname=dbname)
    url = f"host={address.info.host} port={address.info.port} user=postgres dbname={dbname}"
    if address.info.password:
        url += f" password={address.info.password}"
    address.close()
    script = [sys.executable, str(ROOT / "scripts" / "api_docs.py"), url, "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_lists_the_settings(db) -> None:
    db.execute("SELECT '1'::modelstore.tensor")  # loads the library
    settings = db.execute(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name LIKE 'modelstore.%'"
    ).fetchall()
    rows = re.findall(r"^\| `(modelstore\.\w+)` \| (\S*) ?\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted((name, value.strip("`")) for name, value in rows) == sorted(settings)
