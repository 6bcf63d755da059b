"""The package as pip installs it: a wheel, in a fresh environment."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pg_modelstore
from harness import ROOT

PACKAGE = ROOT / "clients" / "python"


def run(*arguments: object, **options) -> str:
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_in_a_fresh_environment(url: str, tmp_path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == "pg_modelstore-0.1.0.dev0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = email.message_from_bytes(archive.read("pg_modelstore-0.1.0.dev0.dist-info/METADATA"))
    assert "pg_modelstore/py.typed" in names and any(name.endswith("licenses/LICENSE") for name in names)
    assert metadata["Version"] == pg_modelstore.__version__ and metadata["License-Expression"] == "PostgreSQL"
    assert set(metadata.get_all("Provides-Extra")) == {"asyncpg", "binary", "ml-dtypes", "sqlalchemy", "torch", "tqdm"}

    fresh = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", fresh)
    python = fresh / "bin" / "python"
    # The dependencies are those of the tests, so that no network is needed; pip checks that they satisfy the wheel's.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    with open(f"{site}/dependencies.pth", "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", wheel)
    where = run(python, "-c", "import pg_modelstore; print(pg_modelstore.__file__)", cwd=tmp_path)
    assert where.startswith(str(fresh))
    assert run(fresh / "bin" / "pg-modelstore", "verify", "--url", url, cwd=tmp_path) == "no problems\n"
    assert run(python, "-m", "pg_modelstore", "--version", cwd=tmp_path) == "pg-modelstore 0.1.0.dev0\n"


def test_optional_packages_are_imported_when_they_are_used(tmp_path) -> None:
    script = "import sys, pg_modelstore, pg_modelstore.cli; print([m for m in ('torch', 'asyncpg', 'sqlalchemy', 'ml_dtypes', 'tqdm') if m in sys.modules])"
    assert run(sys.executable, "-c", script, env={"PYTHONPATH": str(PACKAGE / "src")}, cwd=tmp_path) == "[]\n"
