"""Measures metrics per second on one connection against plain tables, and time and size of checkpoints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import psycopg
from models import Model, floats, write
from psycopg.types.json import Jsonb

STEPS, NAMES = 2000, [f"metric_{i}" for i in range(10)]


def rows_a_second(work: Callable[[], int]) -> float:
    begun = time.perf_counter()
    rows = work()
    return rows / (time.perf_counter() - begun)


def bench_metrics(b) -> None:
    """Ten metrics a step, a transaction for a hundred steps, in psycopg's pipeline mode; and a metric at many steps."""
    b.fresh_store()
    model = b.value("SELECT modelstore.register_model('m', '1')")
    run = b.value("SELECT modelstore.start_training(%s)", model)
    b.db.execute("DROP TABLE IF EXISTS plain_metrics")
    # The same columns, default and index, without partitions and foreign key.
    b.db.execute("""
        CREATE TABLE plain_metrics (session_id uuid NOT NULL, step bigint NOT NULL, epoch double precision, metric_name text NOT NULL,
                                    value double precision NOT NULL, recorded_at timestamptz NOT NULL DEFAULT clock_timestamp())
    """)
    b.db.execute("CREATE INDEX ON plain_metrics (session_id, metric_name, step)")
    db = psycopg.connect(b.url, host=b.value("SHOW unix_socket_directories"), autocommit=True)
    figures = [{name: step + i / 10 for i, name in enumerate(NAMES)} for step in range(STEPS)]
    steps = list(range(STEPS * len(NAMES)))
    values = [s / 10 for s in steps]

    def steps_of(sql: str, arguments: Callable[[int], tuple], pipeline: bool) -> int:
        for begin in range(0, STEPS, 100):
            with db.transaction():
                if pipeline:
                    with db.pipeline():
                        for step in range(begin, begin + 100):
                            db.execute(sql, arguments(step), prepare=True)
                else:
                    for step in range(begin, begin + 100):
                        db.execute(sql, arguments(step), prepare=True)
        return STEPS * len(NAMES)

    log = "SELECT modelstore.log_metrics(%s, %s, %s)"
    log_many = "SELECT modelstore.log_metric(%s, 'loss', %s::bigint[], %s::double precision[])"
    many_rows = ", ".join(["(%s, %s, %s, %s)"] * len(NAMES))
    insert = f"INSERT INTO plain_metrics (session_id, step, metric_name, value) VALUES {many_rows}"
    one = "INSERT INTO plain_metrics (session_id, step, metric_name, value) VALUES (%s, %s, %s, %s)"

    def ours(step: int) -> tuple:
        return run, step, Jsonb(figures[step])

    def plain(step: int) -> tuple:
        return tuple(x for name, value in figures[step].items() for x in (run, step, name, value))

    def single_rows() -> int:
        for begin in range(0, STEPS, 100):
            with db.transaction(), db.pipeline():
                for step in range(begin, begin + 100):
                    for name, value in figures[step].items():
                        db.execute(one, (run, step, name, value), prepare=True)
        return STEPS * len(NAMES)

    def arrays() -> int:
        with db.transaction():
            for begin in range(0, len(steps), 1000):
                part = slice(begin, begin + 1000)
                db.execute(log_many, (run, steps[part], values[part]), prepare=True)
        return len(steps)

    def copy() -> int:
        with db.transaction(), db.cursor() as cursor:
            with cursor.copy("COPY plain_metrics (session_id, step, metric_name, value) FROM STDIN (FORMAT binary)") as out:
                out.set_types(["uuid", "int8", "text", "float8"])
                for step, value in zip(steps, values):
                    out.write_row((run, step, "loss", value))
        return len(steps)

    jobs: dict[str, Callable[[], int]] = {
        "ours, pipeline": lambda: steps_of(log, ours, True),
        "ours, one by one": lambda: steps_of(log, ours, False),
        "ours, arrays": arrays,
        "INSERT of ten rows, pipeline": lambda: steps_of(insert, plain, True),
        "INSERT of ten rows, one by one": lambda: steps_of(insert, plain, False),
        "INSERT of a row, pipeline": single_rows,
        "COPY": copy,
    }
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(b.rounds):
        for name, job in jobs.items():
            b.db.execute("TRUNCATE plain_metrics, store.training_metrics")
            rates[name].append(rows_a_second(job))
    median = {name: statistics.median(r) for name, r in rates.items()}

    def ratio(a: str, c: str) -> str:
        return f"{statistics.median(x / y for x, y in zip(rates[a], rates[c])):.2f}"

    b.report(
        "log_metrics, ten metrics a step, pipeline",
        f"{median['ours, pipeline']:,.0f} rows/s (INSERT of ten rows {median['INSERT of ten rows, pipeline']:,.0f}, "
        f"of one {median['INSERT of a row, pipeline']:,.0f})",
        f"{ratio('ours, pipeline', 'INSERT of ten rows, pipeline')} of INSERT's speed",
        "50 000 rows/s",
    )
    b.report(
        "log_metrics, ten metrics a step, one by one",
        f"{median['ours, one by one']:,.0f} rows/s (INSERT of ten rows {median['INSERT of ten rows, one by one']:,.0f})",
        f"{ratio('ours, one by one', 'INSERT of ten rows, one by one')} of INSERT's speed",
        "",
    )
    b.report(
        "log_metrics, a thousand steps of one metric",
        f"{median['ours, arrays']:,.0f} rows/s (COPY {median['COPY']:,.0f})",
        f"{ratio('ours, arrays', 'COPY')} of COPY's speed",
        "50 000 rows/s",
    )
    db.close()


def bench_checkpoints(b, model: Model) -> None:
    """A first checkpoint, and one of which 5 % of the elements of each weight moved by a thousandth."""
    data = model.path.read_bytes()
    changed_path = b.work / "minilm-step.safetensors"
    rng = np.random.default_rng(5)
    tensors = []
    for name, shape, array in floats(model):
        step = np.where(rng.random(array.shape) < 0.05, 1e-3 * rng.standard_normal(array.shape), 0)
        tensors.append((name, "F32", shape, (array * (1 + step)).astype(np.float32).tobytes()))
    write(changed_path, tensors)
    changed = changed_path.read_bytes()
    write(changed_path, [(name, "F32", shape, array.tobytes()) for name, shape, array in floats(model)])
    data = changed_path.read_bytes()
    create = "SELECT new_bytes FROM modelstore.create_checkpoint(%s, %s, %b::bytea)"
    seconds: dict[str, list[float]] = {"first": [], "next": [], "same": [], "import": []}
    for _ in range(b.rounds):
        b.fresh_store()
        begun = time.perf_counter()
        b.db.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (data,))
        seconds["import"].append(time.perf_counter() - begun)
        b.fresh_store()
        id = b.value("SELECT modelstore.register_model('m', '1')")
        new = {}
        for step, (job, file) in enumerate({"first": data, "next": changed, "same": changed}.items()):
            begun = time.perf_counter()
            (new[job],) = b.db.execute(create, (id, step, file)).fetchone()
            seconds[job].append(time.perf_counter() - begun)
    for job, what in {"first": "first checkpoint", "next": "next, 5 % of the elements moved", "same": "the same again"}.items():
        ratio = statistics.median(i / o for i, o in zip(seconds["import"], seconds[job]))
        b.report(
            f"{model.name}: {what}",
            f"{len(data) / statistics.median(seconds[job]) / 1e6:.0f} MB/s, {new[job]:,} new bytes",
            f"{ratio:.2f} of import's speed",
            "",
        )


def bench_training(b, model: Model) -> None:
    bench_metrics(b)
    bench_checkpoints(b, model)
