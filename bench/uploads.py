"""From a client and into the store: uploads against plain COPY of the same bytes by the same client."""

from __future__ import annotations

import pathlib
import re
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from safetensors.numpy import save

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


def by_appends(mib: int) -> Callable:
    size = mib * MIB

    def upload(b, parts, data) -> None:
        id = b.value("SELECT modelstore.begin_upload()")
        for at in range(0, len(data), size):
            b.db.execute("SELECT modelstore.append_upload(%s, %b, %s)", (id, data[at : at + size], at))
        b.db.execute("SELECT * FROM modelstore.finish_upload(%s, 'm', '1')", (id,))

    return upload


def by_parameter(b, parts, data) -> None:
    b.db.execute("SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,))


def received(b, parts, data) -> None:
    """The parameter arrives, and nothing is done with it."""
    b.db.execute("SELECT octet_length(%b::bytea)", (data,))


def inserted(b, parts, data) -> None:
    """What users do without the extension."""
    b.db.execute("INSERT INTO plain (data) VALUES (%b)", (data,))


WAYS: dict[str, Callable] = {
    "COPY": by_copy,
    "appends of 8 MiB": by_appends(8),
    "appends of 32 MiB": by_appends(32),
    "import_safetensors with a parameter": by_parameter,
}
TARGETS = {"import_safetensors with a parameter": "1.50"}


def bench_uploads(b, model) -> None:
    """Times as multiples of plain COPY's, with the processor time of client and backend, and the WAL."""
    data = memoryview(model.path.read_bytes())
    parts = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    backend = b.db.info.backend_pid
    figures: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ("plain", "received", "inserted", *WAYS)}

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
        b.db.execute("CREATE TABLE plain (id uuid, data bytea) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)")
        b.db.execute("ALTER TABLE plain ALTER data SET STORAGE EXTERNAL")
        measure("plain", plain_rows)
        measure("received", received)
        measure("inserted", inserted)
        for name, run in WAYS.items():
            b.fresh_store()
            measure(name, run)
    stored = b.value("SELECT sum(stored_bytes)::bigint FROM store.tensor_chunks")
    plain = figures.pop("plain")
    of_parameter = [statistics.median(row[0] / base[0] for row, base in zip(figures.pop(name), plain)) for name in ("received", "inserted")]
    for name, rows in figures.items():
        ratio = statistics.median(row[0] / base[0] for row, base in zip(rows, plain))
        seconds, server, client, wal = (statistics.median(column) for column in zip(*rows))
        base = [statistics.median(column) for column in zip(*plain)]
        b.report(
            f"upload {model.name} by {name}",
            f"{len(data) / seconds / 1e6:.0f} MB/s (COPY {len(data) / base[0] / 1e6:.0f}); backend {server:.2f} s of CPU (COPY {base[1]:.2f}), "
            f"client {client:.2f} ({base[2]:.2f}); WAL {wal / stored:.2f} of the bytes stored",
            f"{ratio:.2f} of COPY's time",
            TARGETS.get(name, "1.20"),
        )
    b.report(
        f"{model.name} as a parameter, plain",
        f"INSERT takes {of_parameter[1]:.2f} of COPY's time, receiving it alone {of_parameter[0]:.2f}",
        "",
        "",
    )
    b.report("memory of the backend after them", f"{peak_memory(backend):.0f} MB", "", "")


def training_files(seed: int, before: dict[str, np.ndarray] | None = None) -> tuple[dict, dict]:
    """Weights of ten matrices, a step of training away from those before, and the state of AdamW."""
    rng = np.random.default_rng(seed)
    normal = lambda scale: (rng.standard_normal((512, 512)) * scale).astype("float32")
    weights = {f"layer.{i}": normal(0.02) if before is None else before[f"layer.{i}"] + normal(1e-5) for i in range(10)}
    moments = {f"{name}.exp_avg": normal(1e-3) for name in weights}
    moments |= {f"{name}.exp_avg_sq": normal(1e-3) ** 2 for name in weights}
    return weights, moments


def bench_checkpoints(b) -> None:
    """A checkpoint with AdamW's state from a client, against a plain INSERT of its two files."""
    first = training_files(1)
    steps = [[save(tensors) for tensors in first], [save(tensors) for tensors in training_files(2, first[0])]]
    times: dict[str, list[float]] = {"parameters": [], "uploads": []}
    plain: list[float] = []

    def upload(data: bytes, parent) -> object:
        id = b.db.execute("SELECT modelstore.begin_upload(parent_checkpoint => %s)", (parent,)).fetchone()[0]
        view = memoryview(data)
        copy(b, "COPY modelstore.upload (upload_id, data) FROM STDIN (FORMAT binary)", [view[at : at + MIB] for at in range(0, len(data), MIB)], id)
        return id

    for _ in range(b.rounds):
        b.db.execute("DROP TABLE IF EXISTS plain")
        b.db.execute("CREATE TABLE plain (weights bytea, optimizer bytea) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)")
        b.db.execute("ALTER TABLE plain ALTER weights SET STORAGE EXTERNAL, ALTER optimizer SET STORAGE EXTERNAL")
        b.db.execute("CHECKPOINT")
        plain.append(b.timed("INSERT INTO plain VALUES (%b, %b)", *steps[0]))
        for way, taken in times.items():
            b.fresh_store()
            model, parent = b.value("SELECT modelstore.register_model('m', '1')"), None
            for step, files in enumerate(steps):
                begun = time.perf_counter()
                if way == "uploads":
                    create, files = "create_checkpoint_upload(%s, %s, %s, %s)", [upload(data, parent) for data in files]
                else:
                    create = "create_checkpoint(%s, %s, %b::bytea, %b::bytea)"
                parent = b.value(f"SELECT checkpoint_id FROM modelstore.{create}", model, step, *files)
                taken.append(time.perf_counter() - begun)
    for way, taken in times.items():
        for name, some in (("the first", taken[::2]), ("the next", taken[1::2])):
            ratio = statistics.median(own / base for own, base in zip(some, plain))
            b.report(f"checkpoint of 31 MB by {way}, {name}", f"{1000 * statistics.median(some):.0f} ms", f"{ratio:.2f} of a plain INSERT's time", "1.20")
