"""A PostgreSQL server that tests may restart, crash and copy. scripts/server.sh does the work; this is its handle."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAJOR = int(os.environ.get("PG") or 18)
EXTENSION = "pg_modelstore"

# A test's data may vanish with the machine. Nothing here weakens what a killed process may lose.
FAST = "fsync = off\nfull_page_writes = off\n"

CRASH = re.compile(r"PANIC: |was terminated by signal|terminating connection because of crash")


def script(name: str, *arguments: str, **environment: str) -> str:
    """Runs a script of the project and returns what it prints."""
    done = subprocess.run(
        [ROOT / "scripts" / name, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"scripts/{name} {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


class Server:
    """One server. `bin`, `data`, `log`, `socket`, `port` and `scratch` (a directory the server may write) are facts."""

    def __init__(self, name: str, conf: str = FAST, major: int = MAJOR) -> None:
        self.name = name
        self.conf = conf
        self.major = major
        self._forgiven: list[tuple[int, int]] = []

    def _script(self, *arguments: str) -> str:
        return script("server.sh", *arguments, SERVER=self.name, SERVER_CONF=self.conf, SERVER_IN_MEMORY="yes", PG=str(self.major))

    def _learn(self) -> None:
        facts = dict(line.split("=", 1) for line in self._script("show").splitlines())
        self.bin = pathlib.Path(facts["pg_config"]).parent
        self.data = pathlib.Path(facts["data"])
        self.log = pathlib.Path(facts["log"])
        self.scratch = pathlib.Path(facts["scratch"])
        self.socket, self.port, self.pid = facts["socket"], int(facts["port"]), int(facts["pid"])

    # Life

    def start(self) -> Server:
        self._script("start")
        self._learn()
        return self

    def stop(self, mode: str = "fast") -> None:
        self._script("stop", mode)

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        self._script("remove")

    def crash(self) -> None:
        """Kills every process of the server at once, then starts it again: it has to recover from WAL."""
        with self.crash_expected():
            os.kill(self.pid, signal.SIGSTOP)  # so that it cannot start new ones meanwhile
            processes = [self.pid, *_children(self.pid)]
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            wait_until(lambda: not any(alive(process) for process in processes), "the killed server is gone")
            self.start()

    def kill_backend(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Kills one backend; the server restarts all others and recovers. Use inside `crash_expected()`."""
        os.kill(pid, number)

    def wait_ready(self) -> None:
        """Waits until it accepts connections again."""

        def accepts() -> bool:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(accepts, "the server accepts connections")

    @contextlib.contextmanager
    def standby(self) -> Iterator[Server]:
        """A hot standby of this server, streaming."""
        standby = Server(f"{self.name}-standby", self.conf)
        standby._script("standby", self.name)
        try:
            standby._learn()
            yield standby
        finally:
            standby.remove()

    @contextlib.contextmanager
    def recovered(self, backup: pathlib.Path, conf: str) -> Iterator[Server]:
        """A server made from a base backup of this one, which has recovered as `conf` says and takes writes."""
        other = Server(f"{self.name}-recovered", self.conf + conf, self.major)
        try:
            other._script("restore", str(backup))
            other._learn()
            with other.connect(autocommit=True) as c:
                wait_until(lambda: c.execute("SELECT pg_is_in_recovery()").fetchone() == (False,), "the server has recovered")
            yield other
        finally:
            other.remove()

    def catch_up(self, standby: Server) -> None:
        """Waits until the standby has replayed all that was committed here."""
        with self.connect() as here, standby.connect() as there:
            here.autocommit = there.autocommit = True
            (position,) = here.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            behind = "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0') < %s::pg_lsn"
            wait_until(lambda: not there.execute(behind, (position,)).fetchone()[0], "the standby has caught up")

    # Clients

    def connect(self, dbname: str = "postgres", user: str = "postgres", **options) -> psycopg.Connection:
        """A connection over the socket, without a password for any role."""
        return psycopg.connect(host=self.socket, port=self.port, dbname=dbname, user=user, **options)

    def run(self, tool: str, *arguments: str, dbname: str = "postgres", **options) -> subprocess.CompletedProcess[str]:
        """Runs a program of this PostgreSQL (psql, pg_dump, pg_restore, pgbench) against it. Text in, text out."""
        environment = os.environ | {
            "PGHOST": self.socket,
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGDATABASE": dbname,
            "PGTZ": "UTC",
            "PGCLIENTENCODING": "UTF8",
            "PSQL_HISTORY": "/dev/null",
        }
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 900} | options
        return subprocess.run([self.bin / tool, *arguments], env=environment, check=False, **options)

    def run_as_owner(self, tool: str, *arguments: str) -> str:
        """Runs a program of this PostgreSQL that works on files of servers, as the user who owns them, in `scratch`. What it prints."""
        done = subprocess.run(
            ["bash", "-c", '. scripts/lib.sh; as_server bash -c \'cd "$0" && "$@"\' "$0" "$@"', self.scratch, self.bin / tool, *arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{tool} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def psql(self, sql: str, dbname: str = "postgres", *arguments: str) -> str:
        """What psql prints for a script; an error in it is an error here."""
        done = self.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments, dbname=dbname, input=sql)
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout

    # Log

    def log_size(self) -> int:
        return self.log.stat().st_size

    def log_since(self, mark: int = 0) -> str:
        """What the server has logged since `log_size()` was `mark`."""
        with self.log.open("rb") as file:
            file.seek(mark)
            return file.read().decode(errors="replace")

    @contextlib.contextmanager
    def crash_expected(self) -> Iterator[None]:
        """Processes that die in this block are the test's own doing. Leaves when connections work again."""
        mark = self.log_size()
        try:
            yield
            self.wait_ready()
        finally:
            self._forgiven.append((mark, self.log_size()))

    def crashes(self) -> list[str]:
        """Lines of the log that tell of a crash no test has asked for."""
        found, position = [], 0
        for line in self.log.read_bytes().splitlines(keepends=True):
            text = line.decode(errors="replace").rstrip()
            if CRASH.search(text) and not any(start <= position < end for start, end in self._forgiven):
                found.append(text)
            position += len(line)
        return found


def wait_until(condition, what: str, seconds: float = 60) -> None:
    """Waits for a condition, and fails by its name."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
        return [int(p) for p in done.stdout.split()]
