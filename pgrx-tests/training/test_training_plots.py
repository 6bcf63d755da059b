"""Plots of metrics: SVG for a browser, and a line of block characters."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from checkpoints import register, start
from transfer import refusal

SVG = "{http://www.w3.org/2000/svg}"
LOG = "SELECT modelstore.log_metric(%s, %s, %s::bigint[], %s::double precision[])"
PLOT = "SELECT modelstore.metric_plot(%s::uuid, %s{})"
SEVERAL = "SELECT modelstore.metric_plots(%s::uuid[], %s{})"


@pytest.fixture
def model(db):
    return register(db, "tiny")


@pytest.fixture
def run(db, model):
    return start(db, model, "first run")


def picture(db, run, metric: str = "loss", rest: str = "") -> ET.Element:
    (svg,) = db.execute((SEVERAL if isinstance(run, list) else PLOT).format(rest), (run, metric)).fetchone()
    return ET.fromstring(svg)


def texts(root: ET.Element) -> list[str]:
    return ["".join(e.itertext()).strip() for e in root.iter(f"{SVG}text")]


def lines(root: ET.Element) -> list[list[tuple[float, float]]]:
    """Points of each line that is drawn."""
    found = []
    for e in root.iter(f"{SVG}polyline"):
        found.append([tuple(map(float, p.split(","))) for p in e.get("points").split()])
    return found


def curves(root: ET.Element) -> list[list[tuple[float, float]]]:
    """Those of data: grid and axes have two points."""
    return [line for line in lines(root) if len(line) > 2]


def test_a_plot_is_a_document_with_names_and_ticks(db, run) -> None:
    db.execute(LOG, (run, "loss", list(range(0, 1001, 10)), [3 - step / 500 for step in range(0, 1001, 10)]))
    root = picture(db, run)
    assert root.tag == f"{SVG}svg"
    assert (root.get("width"), root.get("height")) == ("800", "400")
    shown = texts(root)
    assert {"tiny 1, first run", "step", "loss"} <= set(shown)
    ticks = {t.replace(",", "") for t in shown}
    assert {"0", "1000"} <= ticks
    assert any(t in ticks for t in ("1", "1.0", "1.00"))
    assert any(t in ticks for t in ("3", "3.0", "3.00"))
    (curve,) = curves(root)
    # To the right, and down as the loss does.
    assert curve == sorted(curve)
    assert [y for _, y in curve] == sorted(y for _, y in curve)


def test_a_gap_is_not_bridged(db, run) -> None:
    values = [1.0, 2.0, 1.5, math.nan, 2.5, 1.0, 1.2]
    db.execute(LOG, (run, "loss", list(range(7)), values))
    assert len(curves(picture(db, run))) == 2
    db.execute(LOG, (run, "infinite", list(range(7)), [v if v == v else math.inf for v in values]))
    assert len(curves(picture(db, run, "infinite"))) == 2
    db.execute(LOG, (run, "whole", list(range(7)), [v if v == v else 2.0 for v in values]))
    assert len(curves(picture(db, run, "whole"))) == 1
    # A point between two gaps is a dot.
    db.execute(LOG, (run, "dot", [1, 2, 3], [math.nan, 1.0, math.nan]))
    root = picture(db, run, "dot")
    assert not curves(root)
    assert len(list(root.iter(f"{SVG}circle"))) == 1
    # Nothing at all is a picture too.
    db.execute(LOG, (run, "nothing", [1, 2], [math.nan, math.inf]))
    assert not curves(picture(db, run, "nothing"))


def test_a_step_that_was_run_again(db, run) -> None:
    """The later row counts, in whatever order the steps came."""
    db.execute(LOG, (run, "loss", [0, 1, 2, 3], [5.0, 100.0, 5.0, 5.0]))
    db.execute(LOG, (run, "loss", [1], [5.0]))
    (curve,) = curves(picture(db, run))
    assert len({y for _, y in curve}) == 1


def test_a_logarithmic_scale(db, run) -> None:
    db.execute(LOG, (run, "loss", list(range(7)), [10.0**-i for i in range(7)]))
    (straight,) = curves(picture(db, run, "loss", ", log_scale => true"))
    steps = [b[1] - a[1] for a, b in zip(straight, straight[1:], strict=False)]
    assert max(steps) - min(steps) < 2
    (bent,) = curves(picture(db, run))
    falls = [b[1] - a[1] for a, b in zip(bent, bent[1:], strict=False)]
    assert falls[0] > 50 * max(falls[-1], 0.1)
    # What has no logarithm is a gap.
    db.execute(LOG, (run, "signs", list(range(7)), [1.0, 2.0, 3.0, 0.0, 3.0, 2.0, 1.0]))
    assert len(curves(picture(db, run, "signs", ", true"))) == 2
    assert len(curves(picture(db, run, "signs", ", false"))) == 1


def test_several_runs_and_metrics_have_a_legend(db, model, run) -> None:
    second = start(db, model, "second run")
    nameless = start(db, model)
    for number, session in enumerate((run, second, nameless)):
        for metric in ("loss", "val"):
            db.execute(LOG, (session, metric, list(range(20)), [number + i / 20 for i in range(20)]))
    shown = texts(picture(db, [run, second], ["loss", "val"]))
    assert {"first run: loss", "first run: val", "second run: loss", "second run: val", "tiny 1"} <= set(shown)
    root = picture(db, [run, second], ["loss"])
    assert {"first run", "second run", "loss"} <= set(texts(root))
    assert len(curves(root)) == 2
    colours = {e.get("stroke") for e in root.iter(f"{SVG}polyline") if len(e.get("points").split()) > 2}
    assert len(colours) == 2
    root = picture(db, [run], ["loss", "val"])
    assert {"loss", "val", "tiny 1, first run"} <= set(texts(root))
    assert any(t.startswith(f"run {str(nameless)[:8]}…") for t in texts(picture(db, [run, nameless], ["loss"])))


def test_names_are_escaped(db, model) -> None:
    for name in ('<b>&"quoted\'</b>', "]]>", "&amp;", "<script>", "schön ∇", "\u0001\u000b tab\t"):
        run = start(db, model, name if name.isprintable() else "odd")
        for metric in (name, name + "2") if name.isprintable() else ("odd",):
            db.execute(LOG, (run, metric, [1, 2, 3], [1.0, 2.0, 1.5]))
        if not name.isprintable():  # functions refuse it, tables may hold it
            db.execute("UPDATE store.training_sessions SET session_name = %s WHERE session_id = %s", (name, run))
            db.execute("UPDATE store.training_metrics SET metric_name = %s WHERE session_id = %s", (name, run))
        shown = texts(picture(db, [run], [name, name + "2"] if name.isprintable() else [name]))
        if name.isprintable():
            assert name in shown, (name, shown)
            assert name in texts(picture(db, run, name))


def test_size(db, run) -> None:
    db.execute(LOG, (run, "loss", [1, 2, 3], [1.0, 2.0, 1.5]))
    root = picture(db, run, "loss", ", width => 640, height => 64")
    assert (root.get("width"), root.get("height")) == ("640", "64")
    for rest in (", width => 63", ", width => 8193", ", height => 0", ", height => -1", ", height => 2147483647"):
        error = refusal(db, PLOT.format(rest), run, "loss")
        assert (error.sqlstate, error.message_detail) == ("22023", "Width and height are 64 to 8192 pixels."), rest
    # Many points make no larger picture.
    query = "SELECT modelstore.log_metric(%s, 'many', array_agg(i), array_agg(sin(i / 100.0))) FROM generate_series(1, 200000) i"
    db.execute(query, (run,))
    assert len(db.execute(PLOT.format(""), (run, "many")).fetchone()[0]) < 200_000


@pytest.mark.parametrize(
    "values",
    [
        [5e-324, 1.7e308, 1.0], [-1.7e308, 1.7e308, 0.0], [1e308] * 3, [0.0] * 3, [-5e-324, 5e-324, 0.0], [-1.0, -2.0, -3.0],
        [1.0, 1.0, 1.0000000000000002], [9007199254740992.0, 9007199254740994.0, 9007199254740996.0],
    ],
)  # fmt: skip
def test_figures_at_the_ends_of_what_there_is(values: list[float], db, run) -> None:
    db.execute(LOG, (run, "loss", [-(2**63), 0, 2**63 - 1], values))
    for log_scale in ("false", "true"):
        root = picture(db, run, "loss", f", {log_scale}")
        points = [p for line in lines(root) for p in line]
        _, _, width, height = map(float, root.get("viewBox").split())
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points), points
    assert len(db.execute("SELECT modelstore.sparkline(%s::float8[])", (values,)).fetchone()[0]) == 3


def test_what_cannot_be_plotted(db, run) -> None:
    assert refusal(db, PLOT.format(""), run, "nothing").sqlstate == "42704"
    assert refusal(db, PLOT.format(""), None, "loss").sqlstate == "22004"
    assert refusal(db, PLOT.format(""), run, None).sqlstate == "22004"
    assert refusal(db, SEVERAL.format(""), [], ["loss"]).sqlstate == "22023"
    assert refusal(db, SEVERAL.format(""), [run], []).sqlstate == "22023"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("'{0,1,2,3,4,5,6,7}'", "▁▂▃▄▅▆▇█"),
        ("'{2,1,3}'", "▅▁█"),
        ("'{7,7,7}'", "▄▄▄"),
        ("'{1,NaN,2,NULL,3}'", "▁ ▅ █"),
        ("'{-Infinity,5,Infinity}'", "▁▄█"),
        ("'{NaN,NULL}'", "  "),
        ("'{}'", ""),
        ("NULL", None),
        ("'{0,0,7,7}', 2", "▁█"),
        ("'{0,1,2,3,4,5,6,7}', 20", "▁▂▃▄▅▆▇█"),
        ("'{0,1,2,3,4,5,6,7}', 4", "▁▃▆█"),
        ("'{1,NaN,3,NaN}', 2", "▁█"),
        ("'{{0,7},{7,0}}'", "▁██▁"),
        ("(SELECT array_agg(i) FROM generate_series(1, 1000) i), 8", "▁▂▃▄▅▆▇█"),
    ],
)
def test_sparkline(arguments: str, line: str | None, db) -> None:
    assert db.execute(f"SELECT modelstore.sparkline({arguments})").fetchone() == (line,)


@pytest.mark.parametrize("width", [0, -1])
def test_a_sparkline_has_a_width(width: int, db) -> None:
    assert refusal(db, "SELECT modelstore.sparkline('{1,2}', %s)", width).sqlstate == "22023"


def dots(root: ET.Element) -> list[ET.Element]:
    return list(root.iter(f"{SVG}circle"))


def test_a_pair_without_data_is_left_out(db, model, run) -> None:
    other = start(db, model, "other")
    db.execute(LOG, (run, "loss", [1, 2, 3], [3.0, 2.0, 1.0]))
    db.execute(LOG, (other, "accuracy", [1, 2, 3], [0.1, 0.2, 0.3]))
    root = picture(db, [run, other], ["loss", "accuracy"])
    assert len(curves(root)) == 2
    assert {"first run: loss", "other: accuracy"} <= set(texts(root)) and "other: loss" not in texts(root)
    diag = refusal(db, SEVERAL.format(""), [run, other], ["nothing", "neither"])
    assert (diag.sqlstate, diag.message_primary) == ("42704", 'no training session has metric "nothing" or "neither"')
    db.execute(diag.message_hint)


def test_other_axes(db, run) -> None:
    """Epochs and hours along the axis; records without an epoch have no place on it."""
    for step, epoch in ((10, 0.5), (20, 1.0), (30, 1.5), (40, None)):
        db.execute("SELECT modelstore.log_metrics(%s, %s, %s::jsonb, %s)", (run, step, '{"loss": %d}' % step, epoch))
    db.execute("UPDATE store.training_metrics SET recorded_at = (SELECT started_at FROM store.training_sessions) + step * interval '6 minutes'")
    ticks = {axis: set(texts(picture(db, run, rest=f", x_axis => '{axis}'"))) for axis in ("step", "epoch", "time")}
    assert "epoch" in ticks["epoch"] and {"0.5", "1.5"} <= ticks["epoch"]
    assert "hours since the start" in ticks["time"] and {"1", "4"} <= {t.removesuffix(".0") for t in ticks["time"]}
    assert "step" in ticks["step"]
    (curve,) = curves(picture(db, run, rest=", x_axis => 'epoch'"))
    assert len(curve) == 3
    assert refusal(db, PLOT.format(", x_axis => 'days'"), run, "loss").sqlstate == "22023"
    db.execute("UPDATE store.training_metrics SET epoch = NULL")
    diag = refusal(db, PLOT.format(", x_axis => 'epoch'"), run, "loss")
    assert (diag.sqlstate, diag.message_detail) == ("42704", "Only records with an epoch have a place on this axis.")


def test_smoothing_limits_and_the_best_point(db, run) -> None:
    """Smoothing is that of numpy below; a limit cuts off; the best point of the curve as drawn has a dot."""
    noisy = [5 + (-1) ** i * (i % 7) for i in range(60)]
    db.execute(LOG, (run, "loss", list(range(60)), noisy))
    mean, smoothed = 0.0, []
    for i, value in enumerate(noisy, 1):
        mean = 0.9 * mean + 0.1 * value
        smoothed.append(mean / (1 - 0.9**i))
    (curve,) = curves(picture(db, run, rest=", smoothing => 0.9"))
    ys = [-y for _, y in curve]
    place = [(y - min(ys)) / (max(ys) - min(ys)) for y in ys]
    expected = [(v - min(smoothed)) / (max(smoothed) - min(smoothed)) for v in smoothed]
    assert len(place) == len(expected) and max(abs(a - b) for a, b in zip(place, expected)) < 0.01
    root = picture(db, run, rest=", mark_best => 'min'")
    (dot,), (curve,) = dots(root), curves(root)
    assert abs(float(dot.get("cy")) - max(y for _, y in curve)) < 0.6
    (dot,) = dots(picture(db, run, rest=", mark_best => 'max'"))
    assert abs(float(dot.get("cy")) - min(y for _, y in curve)) < 0.6
    assert dots(picture(db, run)) == []
    limited = picture(db, run, rest=", y_min => 4, y_max => 6")
    values = {float(t) for t in texts(limited) if t.replace(".", "").isdigit()} - {float(step) for step in range(0, 61, 10)}
    assert values and all(4 <= value <= 6 for value in values)
    for rest in (", smoothing => 1", ", smoothing => -0.1", ", smoothing => 'NaN'", ", y_min => 3, y_max => 3", ", y_min => 'Infinity'", ", mark_best => 'middle'", ", log_scale => true, y_min => 0"):
        assert refusal(db, PLOT.format(rest), run, "loss").sqlstate == "22023", rest
