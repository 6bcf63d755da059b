"""From a client and into the store: uploads against plain COPY of the same bytes by the same client."""

from __future__ import annotations

import pathlib
import re
import resource
import statistics
import time
from collections.abc import Callable

MIB = 1 << 20


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def peak_memory(pid: int) -> float:
    """The most memory of its own that a process has had, in MB: shared buffers are left out as far as they are mapped."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024


def copy(b, sql: str, parts: list[memoryview], upload) -> None:
    with b.db.cursor() as cursor, cursor.copy(sql) as out:
        out.set_types(["uuid", "bytea"])
        for part in parts:
            out.write_row((upload, part))


def plain_rows(b, parts, data) -> None:
    copy(b, "COPY plain (id, data) FROM STDIN (FORMAT binary)", parts, b.value("SELECT gen_random_uuid()"))


def by_copy(b, parts, data) -> None:
    upload = b.value("SELECT modelstore.begin_upload()")
    copy(b, "COPY modelstore.upload (upload_id, data) FROM STDIN (FORMAT binary)", parts, upload)
    b.db.execute("SELECT * FROM modelstore.finish_upload(%s, 'm', '1')", (upload,))


def by_appends(b, parts, data) -> None:
    upload = b.value("SELECT modelstore.begin_upload()")
    for at in range(0, len(data), 8 * MIB):
        b.db.execute("SELECT modelstore.append_upload(%s, %b, %s)", (upload, data[at : at + 8 * MIB], at))
    b.db.execute("SELECT * FROM modelstore.finish_upload(%s, 'm', '1')", (upload,))


def by_parameter(b, parts, data) -> None:
    b.db.execute("SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,))


WAYS: dict[str, Callable] = {"COPY": by_copy, "appends of 8 MiB": by_appends, "import_safetensors with a parameter": by_parameter}
TARGETS = {"COPY": "1.20", "appends of 8 MiB": "1.20", "import_safetensors with a parameter": "1.50"}


def bench_uploads(b, model) -> None:
    """Times as multiples of plain COPY's, with the processor time of client and backend, and the WAL."""
    data = memoryview(model.path.read_bytes())
    parts = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    backend = b.db.info.backend_pid
    figures: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ("plain", *WAYS)}

    def measure(name: str, run: Callable) -> None:
        b.db.execute("CHECKPOINT")
        before = b.value("SELECT pg_current_wal_lsn()")
        begun, server, client = time.perf_counter(), cpu_seconds(backend), resource.getrusage(resource.RUSAGE_SELF)
        run(b, parts, data)
        seconds = time.perf_counter() - begun
        used = resource.getrusage(resource.RUSAGE_SELF)
        own = used.ru_utime + used.ru_stime - client.ru_utime - client.ru_stime
        wal = float(b.value("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", before))
        figures[name].append((seconds, cpu_seconds(backend) - server, own, wal))

    for _ in range(b.rounds):
        b.db.execute("DROP TABLE IF EXISTS plain")
        b.db.execute("CREATE TABLE plain (id uuid, data bytea)")
        b.db.execute("ALTER TABLE plain ALTER data SET STORAGE EXTERNAL")
        measure("plain", plain_rows)
        for name, run in WAYS.items():
            b.fresh_store()
            measure(name, run)
    stored = b.value("SELECT sum(stored_bytes)::bigint FROM store.tensor_chunks")
    plain = figures.pop("plain")
    for name, rows in figures.items():
        ratio = statistics.median(row[0] / base[0] for row, base in zip(rows, plain))
        seconds, server, client, wal = (statistics.median(column) for column in zip(*rows))
        base = [statistics.median(column) for column in zip(*plain)]
        b.report(
            f"upload {model.name} by {name}",
            f"{len(data) / seconds / 1e6:.0f} MB/s (COPY {len(data) / base[0] / 1e6:.0f}); backend {server:.2f} s of CPU (COPY {base[1]:.2f}), "
            f"client {client:.2f} ({base[2]:.2f}); WAL {wal / stored:.2f} of the bytes stored",
            f"{ratio:.2f} of COPY's time",
            TARGETS[name],
        )
    b.report(f"memory of the backend after them", f"{peak_memory(backend):.0f} MB", "", "")
