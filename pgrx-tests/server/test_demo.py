"""The demo, as `make demo` runs it after the build."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as tree

import psycopg
import pytest
from harness import MAJOR, ROOT, script

pytestmark = pytest.mark.skipif(MAJOR != 18, reason="one version is enough")
SERVER = f"test-{os.getpid()}-demo"


def demo(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("MODEL", "DB")}
    environment = inherited | {"SERVER": SERVER, "SERVER_IN_MEMORY": "yes"} | environment
    return subprocess.run([ROOT / "scripts" / "demo.sh"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_demo() -> None:
    try:
        done = demo(SKIP_BUILD="yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ERROR" not in done.stderr
        for words in ("104 tensors, 90.9 MB", "queen", "minilm:2", "cmp finds no difference", "make -s url"):
            assert words in done.stdout, done.stdout
        plot = re.search(r"draws it: (\S+)", done.stdout)
        assert plot, done.stdout
        assert tree.parse(plot[1]).getroot().tag.endswith("svg")
        with psycopg.connect(script("server.sh", "url", SERVER=SERVER).strip()) as db:
            assert db.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)
            assert db.execute("SELECT object, problem FROM modelstore.verify_store()").fetchall() == []
    finally:
        script("server.sh", "remove", SERVER=SERVER)


def test_a_failed_build_is_explained() -> None:
    done = demo(PROFILE="no_such_profile")
    script("server.sh", "remove", SERVER=SERVER)
    assert done.returncode != 0
    log = ROOT / ".local" / "demo" / "build.log"
    assert str(log) in done.stderr
    assert log.read_text().splitlines()[-1] in done.stderr
    assert "no_such_profile" in done.stderr


def test_a_model_that_is_no_file_is_refused_before_the_build() -> None:
    done = demo(MODEL="/nonexistent/model.safetensors", PROFILE="no_such_profile")
    assert done.returncode != 0
    assert "MODEL=/nonexistent/model.safetensors is not a file" in done.stderr
    assert "tools, build" not in done.stdout
