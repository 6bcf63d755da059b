"""Metrics of runs: kept bit for bit, written by concurrent sessions, and dropped without affecting other runs."""

from __future__ import annotations

import math
import struct
import threading

import numpy as np
import psycopg
import pytest
from checkpoints import checkpoint, register, start
from models import random_tensor, safetensors_bytes
from psycopg.types.json import Jsonb
from transfer import refusal

pytestmark = pytest.mark.any_server

LOG = "SELECT modelstore.log_metrics(%s, %s, %s)"
LOG_MANY = "SELECT modelstore.log_metric(%s, %s, %s::bigint[], %s::double precision[])"


@pytest.fixture
def run(db):
    return start(db, register(db), "first")


def metrics(db, session, name: str) -> list[tuple[int, float]]:
    query = "SELECT step, value FROM store.training_metrics WHERE session_id = %s AND metric_name = %s ORDER BY step, recorded_at"
    return db.execute(query, (session, name)).fetchall()


def test_figures_are_kept_bit_for_bit(db, run) -> None:
    figures = [0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 0.0, 9007199254740993.0, 1e-7]
    for step, figure in enumerate(figures):
        assert db.execute(LOG, (run, step, Jsonb({"loss": figure}))).fetchone() == (1,)
    special = {"nan": "NaN", "inf": "Infinity", "minus": "-Infinity", "short": "inf", "signed": "-inf", "yes": True, "no": False}
    assert db.execute(LOG, (run, 100, Jsonb(special))).fetchone() == (7,)
    assert db.execute(LOG_MANY, (run, "many", list(range(9)), figures)).fetchone() == (9,)
    odd = [math.nan, math.inf, -math.inf]
    assert db.execute(LOG_MANY, (run, "odd", [1, 2, 3], odd)).fetchone() == (3,)

    def bits(rows):
        return [struct.pack("<d", value) for _, value in rows]

    expected = [struct.pack("<d", f) for f in figures]
    assert bits(metrics(db, run, "many")) == expected
    # jsonb's numbers have no negative zero.
    expected[5] = struct.pack("<d", 0.0)
    assert bits(metrics(db, run, "loss")) == expected
    assert [str(v) for _, v in metrics(db, run, "odd")] == ["nan", "inf", "-inf"]
    rows = db.execute("SELECT metric_name, value::text FROM store.training_metrics WHERE step = 100 ORDER BY 1").fetchall()
    assert dict(rows) == {
        "nan": "NaN", "inf": "Infinity", "minus": "-Infinity", "short": "Infinity", "signed": "-Infinity", "yes": "1", "no": "0",
    }  # fmt: skip


def test_steps_epochs_and_repetition(db, run) -> None:
    db.execute("SELECT modelstore.log_metrics(%s, 5, %s, epoch => 1.5)", (run, Jsonb({"loss": 3})))
    db.execute(LOG, (run, 5, Jsonb({"loss": 2})))
    db.execute(LOG, (run, -1, Jsonb({"loss": 1})))
    db.execute(LOG, (run, 2**62, Jsonb({"loss": 4})))
    rows = db.execute("SELECT step, epoch, value FROM store.training_metrics ORDER BY step, recorded_at").fetchall()
    assert rows == [(-1, None, 1), (5, 1.5, 3), (5, None, 2), (2**62, None, 4)]
    # The later row of a step counts.
    db.execute("SELECT modelstore.delete_metrics(%s)", (run,))
    db.execute(LOG_MANY, (run, "loss", [1, 2, 2], [9.0, 8.0, 7.0]))
    assert db.execute(LOG, (run, 2, Jsonb({"loss": 6}))).fetchone() == (1,)
    assert db.execute("SELECT newest_loss, step FROM store.v_training_progress").fetchone() == (6, 2)


def test_what_is_no_figure_is_refused(db, run) -> None:
    for wrong in ([1, 2], 5, "loss", None, True):
        error = refusal(db, LOG, run, 1, Jsonb(wrong))
        assert (error.sqlstate, error.message_primary) == ("22023", "metrics must be a JSON object"), wrong
    for wrong in ("low", None, [1], {"mean": 1}, "", "1.5"):
        error = refusal(db, LOG, run, 1, Jsonb({"a": 1, "loss": wrong}))
        assert error.sqlstate == "22023", wrong
        assert error.message_primary.startswith('metric "loss" is not a number: ')
    assert refusal(db, LOG, run, 1, Jsonb({"": 1})).sqlstate == "22023"
    assert refusal(db, LOG_MANY, run, "", [1], [1.0]).sqlstate == "22023"
    assert refusal(db, LOG_MANY, run, "loss", [1, 2], [1.0]).sqlstate == "2202E"
    for arguments in [(None, 1, Jsonb({})), (run, None, Jsonb({})), (run, 1, None)]:
        assert refusal(db, LOG, *arguments).sqlstate == "22004", arguments
    for arguments in [
        (None, "a", [1], [1.0]), (run, None, [1], [1.0]), (run, "a", None, [1.0]), (run, "a", [1], None),
        (run, "a", [None], [1.0]), (run, "a", [1], [None]),
    ]:  # fmt: skip
        assert refusal(db, LOG_MANY, *arguments).sqlstate == "22004", arguments
    assert db.execute("SELECT count(*) FROM store.training_metrics").fetchone() == (0,)
    assert db.execute(LOG, (run, 1, Jsonb({}))).fetchone() == (0,)
    assert db.execute(LOG_MANY, (run, "a", [], [])).fetchone() == (0,)


def test_an_unknown_run(db) -> None:
    for query in (
        "SELECT modelstore.log_metrics(gen_random_uuid(), 1, '{\"loss\": 1}')",
        "SELECT modelstore.log_metric(gen_random_uuid(), 'loss', ARRAY[1], ARRAY[1.0])",
        "SELECT modelstore.delete_metrics(gen_random_uuid())",
        "SELECT modelstore.finish_training(gen_random_uuid())",
        "SELECT modelstore.metric_plot(gen_random_uuid(), 'loss')",
        "SELECT modelstore.set_gradient_checkpoints(gen_random_uuid())",
    ):
        assert refusal(db, query).sqlstate == "42704", query
    assert refusal(db, "SELECT modelstore.start_training(gen_random_uuid())").sqlstate == "42704"


def state_of_others(db, session) -> list:
    """Where and of which transaction the rows of other runs are."""
    return db.execute("SELECT ctid::text, xmin::text, xmax::text FROM store.training_metrics WHERE session_id <> %s ORDER BY 1", (session,)).fetchall()


def test_dropping_the_metrics_of_a_run_touches_no_other(db, run) -> None:
    model = db.execute("SELECT model_id FROM store.models").fetchone()[0]
    others = [start(db, model) for _ in range(40)]
    for session in (run, *others):
        db.execute(LOG_MANY, (session, "loss", list(range(200)), [0.5] * 200))
    before = state_of_others(db, run)
    assert len(before) == 40 * 200
    db.execute("SELECT pg_stat_force_next_flush()")
    changed = "SELECT schemaname || '.' || relname FROM pg_stat_user_tables WHERE n_tup_del > 0 OR n_tup_upd > 0"
    assert db.execute("SELECT modelstore.delete_metrics(%s)", (run,)).fetchone() == (200,)
    assert state_of_others(db, run) == before
    db.execute("SELECT pg_stat_force_next_flush()")
    assert {name for (name,) in db.execute(changed)} == {"store.training_metrics"}
    # The run is still there, and may go on.
    assert db.execute("SELECT modelstore.delete_metrics(%s)", (run,)).fetchone() == (0,)
    assert db.execute(LOG, (run, 1, Jsonb({"loss": 1}))).fetchone() == (1,)


def test_many_sessions_log_at_once(db, connect, run) -> None:
    errors: list[psycopg.Error] = []
    second = start(db, db.execute("SELECT model_id FROM store.models").fetchone()[0])

    def work(number: int) -> None:
        session = connect()
        try:
            for block in range(10):
                with session.transaction():
                    for step in range(20):
                        figures = Jsonb({f"m{number}": block * 20 + step, "common": number})
                        session.execute(LOG, ((run, second)[number % 2], block * 20 + step, figures))
        except psycopg.Error as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    for number in range(6):
        assert metrics(db, (run, second)[number % 2], f"m{number}") == [(i, i) for i in range(200)]
    for session in (run, second):
        assert len(metrics(db, session, "common")) == 600


def test_progress(db, run) -> None:
    db.execute("UPDATE store.training_sessions SET total_steps = 400")
    db.execute(LOG_MANY, (run, "loss", [0, 50, 100], [3.0, math.nan, 1.5]))
    db.execute("UPDATE store.training_metrics SET recorded_at = '2026-01-01'::timestamptz + step * interval '0.1 s'")
    db.execute(LOG_MANY, (run, "val", [300], [0.0]))
    query = "SELECT step, progress, newest_loss, best_loss, best_step, steps_per_second, eta::text FROM store.v_training_progress"
    assert db.execute(query).fetchone() == (100, 0.25, 1.5, 1.5, 100, 10.0, "00:00:30")
    (took,) = db.execute("SELECT modelstore.finish_training(%s, 'failed', 'out of memory')", (run,)).fetchone()
    assert took.total_seconds() > 0
    row = db.execute("SELECT status, eta, ended_at >= started_at FROM store.v_training_progress").fetchone()
    assert row == ("failed", None, True)
    assert db.execute("SELECT error FROM store.training_sessions").fetchone() == ("out of memory",)
    assert refusal(db, "SELECT modelstore.finish_training(%s)", run).sqlstate == "55000"
    assert refusal(db, "SELECT modelstore.finish_training(%s, 'running')", run).sqlstate == "22023"


PROGRESS = "SELECT step, newest_loss, best_loss, best_step, steps_per_second, eta::text FROM store.v_training_progress"


def record(db, run, records: list[tuple[float, int, float]], name: str = "loss") -> None:
    """Records with the time they were made at, in seconds."""
    with db.cursor() as cursor:
        query = """INSERT INTO store.training_metrics (session_id, step, metric_name, value, recorded_at)
                   VALUES (%s, %s, %s, %s, '2026-01-01'::timestamptz + %s * interval '1 s')"""
        cursor.executemany(query, [(run, step, name, value, at) for at, step, value in records])


def test_what_a_resumed_run_replaced_does_not_count(db, run) -> None:
    """Steps 1 to 4, killed; resumed from 2, where the losses are higher."""
    record(db, run, [(1, 1, 4.0), (2, 2, 3.0), (3, 3, 0.1), (4, 4, 0.2)])
    assert db.execute(PROGRESS).fetchone()[:4] == (4, 0.2, 0.1, 3)
    record(db, run, [(100, 3, 2.5), (101, 4, 2.0)])
    assert db.execute(PROGRESS).fetchone()[:4] == (4, 2.0, 2.0, 4)
    (svg,) = db.execute("SELECT modelstore.metric_plot(%s, 'loss')", (run,)).fetchone()
    db.execute("SELECT modelstore.delete_metrics(%s)", (run,))
    record(db, run, [(1, 1, 4.0), (2, 2, 3.0), (100, 3, 2.5), (101, 4, 2.0)])
    assert db.execute("SELECT modelstore.metric_plot(%s, 'loss')", (run,)).fetchone() == (svg,)


def rows_of_metrics(db) -> int:
    """Rows of the table and of its indexes that the session has read, as far as it has not reported them."""
    db.execute("SELECT pg_stat_force_next_flush()")
    relations = "SELECT 'store.training_metrics'::regclass::oid AS id UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = 'store.training_metrics'::regclass"
    return db.execute(f"SELECT sum(pg_stat_get_tuples_returned(id))::bigint FROM ({relations}) r").fetchone()[0]


@pytest.mark.parametrize("seed", range(6))
def test_the_best_is_what_all_records_say(db, run, seed) -> None:
    """Logged one by one, many at once and inserted by hand, with NaN, equal values and returns to lower steps."""
    rng = np.random.default_rng(seed)
    latest: dict[int, float] = {}
    step = 0
    for _ in range(25):
        if rng.random() < 0.2:
            step = int(rng.integers(0, step + 1))
        count = int(rng.integers(1, 8))
        steps = [step + i for i in range(count)]
        values = [float(v) for v in rng.integers(0, 60, count)]
        values = [float("nan") if rng.random() < 0.1 else v for v in values]
        way = rng.integers(0, 3)
        if way == 0:
            db.execute(LOG_MANY, (run, "loss", steps, values))
        for at, value in zip(steps, values, strict=True):
            if way == 1:
                db.execute("SELECT modelstore.log_metrics(%s, %s, %s)", (run, at, Jsonb({"loss": "NaN" if math.isnan(value) else value, "other": -1})))
            elif way == 2:
                db.execute("INSERT INTO store.training_metrics (session_id, step, metric_name, value) VALUES (%s, %s, 'loss', %s)", (run, at, value))
            latest[at] = value
        step += count
        numbers = [(value, at) for at, value in latest.items() if not math.isnan(value)]
        best = min(numbers) if numbers else (None, None)
        assert db.execute("SELECT best_loss, best_step FROM store.v_training_progress").fetchone() == best


@pytest.mark.parametrize("times", [[0], [0, 0], [0, 3600], [0, 5e11], [-5e10, 2e11]])
def test_one_step_and_any_time(db, run, times) -> None:
    """Records of one step say nothing of speed; whatever their times, the view shows every run."""
    record(db, run, [(seconds, 7, 1.5) for seconds in times])
    assert db.execute(PROGRESS).fetchone()[:4] == (7, 1.5, 1.5, 7)
    db.execute("INSERT INTO store.training_metrics (session_id, step, metric_name, value, recorded_at) SELECT session_id, 8, 'loss', 0.5, 'infinity' FROM store.training_sessions")
    assert db.execute(PROGRESS).fetchone()[:4] == (8, 0.5, 0.5, 8)


def test_the_best_without_a_marked_record(db, run) -> None:
    """What another session has logged while the metrics were deleted: higher than a value that is gone."""
    db.execute(LOG_MANY, (run, "loss", [1, 2], [0.1, 0.5]))
    db.execute("DELETE FROM store.training_metrics WHERE step = 1")
    assert db.execute(PROGRESS).fetchone()[:4] == (2, 0.5, 0.5, 2)


def test_a_metric_that_falls_is_compared_once(db, run) -> None:
    """All of its records are marked. A call looks at the lowest one, and not at each for each value."""
    db.execute(LOG_MANY, (run, "lr", list(range(3000)), [1 / (1 + i) for i in range(3000)]))
    db.execute("ANALYZE store.training_metrics")
    before = rows_of_metrics(db)
    db.execute(LOG_MANY, (run, "lr", list(range(3000, 3200)), [1 / (1 + i) for i in range(3000, 3200)]))
    assert rows_of_metrics(db) - before < 10_000
    assert db.execute("SELECT bool_and(may_be_lowest) FROM store.training_metrics").fetchone() == (True,)


def test_few_values_may_be_the_lowest(db, run) -> None:
    """The lowest so far: about ln(n) of n random ones, in one array or in many calls."""
    values = np.random.default_rng(5).random(3000)
    db.execute(LOG_MANY, (run, "at once", list(range(3000)), values.tolist()))
    for at in range(0, 3000, 100):
        db.execute(LOG_MANY, (run, "in parts", list(range(at, at + 100)), values[at : at + 100].tolist()))
    lows = int((values == np.minimum.accumulate(values)).sum())
    marked = "SELECT metric_name, count(*) FROM store.training_metrics WHERE may_be_lowest GROUP BY 1 ORDER BY 1"
    assert db.execute(marked).fetchall() == [("at once", lows), ("in parts", lows)]


def test_records_of_one_microsecond(db, run) -> None:
    """Whatever the order of the rows, the same one counts, in the view and in the plot."""
    seen = set()
    for values in ([0.5, 0.75, 0.25], [0.25, 0.5, 0.75], [0.75, 0.25, 0.5]):
        db.execute("SELECT modelstore.delete_metrics(%s)", (run,))
        record(db, run, [(1, 1, 9.0), *((2, 2, v) for v in values)])
        (svg,) = db.execute("SELECT modelstore.metric_plot(%s, 'loss')", (run,)).fetchone()
        seen.add((svg, *db.execute(PROGRESS).fetchone()[:4]))
    assert [s[1:] for s in seen] == [(2, 0.75, 0.75, 2)]


def test_the_order_of_an_array_is_that_of_time(db, run) -> None:
    steps = [step for step in range(500) for _ in range(4)]
    db.execute(LOG_MANY, (run, "loss", steps, [float(i % 4) for i in range(2000)]))
    counts = """SELECT count(DISTINCT recorded_at), (SELECT array_agg(DISTINCT value) FROM (
        SELECT DISTINCT ON (step) value FROM store.training_metrics ORDER BY step, recorded_at DESC) AS last) FROM store.training_metrics"""
    assert db.execute(counts).fetchone() == (2000, [3.0])


def test_a_pause_is_no_speed(db, run) -> None:
    """Two steps a second, a night of ten hours in the middle and another near the end."""
    db.execute("UPDATE store.training_sessions SET total_steps = 300")
    record(db, run, [(0.5 * s + 36000 * (s > 50) + 36000 * (s > 95), s, 1.0) for s in range(1, 101)])
    row = db.execute(PROGRESS).fetchone()
    assert (row[0], row[4], row[5]) == (100, pytest.approx(2.0), "00:01:40")


def test_a_run_resumed_from_a_lower_step_shows_where_it_is(db, run) -> None:
    db.execute("UPDATE store.training_sessions SET total_steps = 500")
    record(db, run, [(0.5 * s, s, 2.0) for s in range(1, 401)])
    record(db, run, [(9000 + 0.25 * s, 300 + s, 1.5) for s in range(1, 11)])
    row = db.execute(PROGRESS).fetchone()
    assert row == (310, 1.5, 1.5, 301, pytest.approx(2.0), "00:01:35")


def test_the_speed_of_steps_that_are_logged_at_once(db, run) -> None:
    """Fifty calls in a pipeline every ten seconds: five steps a second, not fifty in a few milliseconds."""
    record(db, run, [(10 * (s // 50) + 0.0001 * (s % 50), s, 1.0) for s in range(1000)])
    assert db.execute(PROGRESS).fetchone()[4] == pytest.approx(5.0)
    # One report alone tells nothing.
    db.execute("SELECT modelstore.delete_metrics(%s)", (run,))
    db.execute(LOG_MANY, (run, "loss", list(range(1000)), [1.0] * 1000))
    assert db.execute(PROGRESS).fetchone()[4:] == (None, None)


def test_last_seen(db, run) -> None:
    seen = "SELECT last_seen FROM store.v_training_progress"
    (started,) = db.execute("SELECT started_at FROM store.training_sessions").fetchone()
    assert db.execute(seen).fetchone() == (started,)
    db.execute("SELECT modelstore.log_metrics(%s, 1, %s)", (run, Jsonb({"lr": 1, "loss": 2, "z": 3})))
    db.execute("UPDATE store.training_metrics SET recorded_at = now() - interval '1 day' WHERE metric_name <> 'z'")
    newest = "SELECT max(recorded_at) FROM store.training_metrics"
    assert db.execute(seen).fetchone() == db.execute(newest).fetchone()
    (model,) = db.execute("SELECT model_id FROM store.models").fetchone()
    made = checkpoint(db, model, safetensors_bytes({"w": random_tensor(1, 4)}), 1, run).checkpoint_id
    query = "SELECT created_at FROM store.model_checkpoints WHERE checkpoint_id = %s"
    assert db.execute(seen).fetchone() == db.execute(query, (made,)).fetchone()


def test_the_host_is_the_clients_address(server, dbname, db, run) -> None:
    model = db.execute("SELECT model_id FROM store.models").fetchone()[0]
    assert db.execute("SELECT host FROM store.training_sessions").fetchone() == (None,)
    assert start(db, model, host="node-7", total_steps=3, loss_metric="ppl", config={"lr": 1e-4})
    row = db.execute("SELECT host, total_steps, loss_metric, config FROM store.training_sessions WHERE host IS NOT NULL").fetchone()
    assert row == ("node-7", 3, "ppl", {"lr": 1e-4})
    for wrong in ("total_steps => 0", "loss_metric => ''"):
        assert refusal(db, f"SELECT modelstore.start_training(%s, {wrong})", model).sqlstate == "22023", wrong
