"""Gradient checkpointing plans for a real model, from its files."""

from __future__ import annotations

import itertools
import re

import pytest
from checkpoints import checkpoint, register, start
from models import safetensors_bytes, tiny_llama
from transfer import import_model, refusal

PLAN = "SELECT * FROM modelstore.plan_gradient_checkpoints(%s{})"
LAYERS, HIDDEN, HEADS, INNER = 6, 384, 12, 1536


@pytest.fixture(scope="module")
def real(server, template, minilm):
    """Name of a database with MiniLM, and its key."""
    from databases import create_database

    create_database(server, "gradients", template)
    with server.connect("gradients", autocommit=True) as c:
        config = minilm.with_name("config.json").read_text()
        query = "SELECT model_id FROM modelstore.import_safetensors('minilm', '1', %b::bytea, %s::jsonb)"
        (model,) = c.execute(query, (minilm.read_bytes(), config)).fetchone()
    yield "gradients", model
    with server.connect(autocommit=True) as c:
        c.execute("DROP DATABASE gradients WITH (FORCE)")


@pytest.fixture
def minilm_db(connect, real):
    return connect(dbname=real[0]), real[1]


def plan(db, model, rest: str = "", *arguments: object) -> list[tuple]:
    return db.execute(PLAN.format(rest), (model, *arguments)).fetchall()


def layer_bytes(seq: int, batch: int, element: int) -> tuple[int, int]:
    """Activations and output of a layer, by Korthikanti et al. 2022: what each operation keeps."""
    hidden, inner, scores = seq * batch * HIDDEN, seq * batch * INNER, HEADS * seq * seq * batch
    return 8 * hidden * element + 2 * hidden + 2 * inner * element + 2 * scores * element + scores, hidden * element


def forward_flops(seq: int, batch: int) -> int:
    tokens = seq * batch
    return tokens * (8 * HIDDEN * HIDDEN + 4 * HIDDEN * INNER + 4 * seq * HIDDEN)


@pytest.mark.parametrize(("seq", "batch", "element"), [(512, 1, 2), (128, 32, 4), (1, 1, 1)])
def test_with_room_for_all_nothing_is_recomputed(seq: int, batch: int, element: int, minilm_db) -> None:
    rows = plan(*minilm_db, ", %s, %s, %s, %s", 1 << 40, batch, seq, element)
    assert [r[0] for r in rows] == list(range(LAYERS))
    assert [r[1] for r in rows] == [f"encoder.layer.{i}" for i in range(LAYERS)]
    assert {r[2] for r in rows} == {"store"}
    assert {r[5] for r in rows} == {0.0}
    activations, output = layer_bytes(seq, batch, element)
    # The formula of the paper, where the inner width is four times the hidden one and an element has two bytes.
    if element == 2:
        assert activations == seq * batch * HIDDEN * (34 + 5 * HEADS * seq / HIDDEN)
    assert {r[4] for r in rows} == {activations}
    assert {r[6] for r in rows} <= {LAYERS * activations + extra for extra in (0, output, 2 * output)}


def test_least_memory_without_a_budget(minilm_db) -> None:
    rows = plan(*minilm_db)
    activations, output = layer_bytes(512, 1, 2)
    (peak,) = {r[6] for r in rows}
    # Below what all layers keep, and not below one layer.
    assert activations < peak < LAYERS * activations / 2
    recomputed = [r for r in rows if r[2] == "recompute"]
    assert recomputed
    for row in recomputed:
        assert row[5] == forward_flops(512, 1)
    assert sum(r[4] for r in rows) <= peak
    # Layers of one segment stand together.
    segments = [r[3] for r in rows]
    assert segments == sorted(segments)
    assert set(segments) == set(range(len(set(segments))))


def test_a_budget_that_is_too_small_names_one_that_is_not(minilm_db) -> None:
    db, model = minilm_db
    error = refusal(db, PLAN.format(", 1000"), model)
    assert (error.sqlstate, error.message_primary) == ("53000", "memory budget of 1000 bytes is too small")
    smallest = int(re.fullmatch(r"The plan with the lowest memory use needs (\d+) bytes\.", error.message_detail)[1])
    rows = plan(db, model, ", %s", smallest)
    assert {r[6] for r in rows} == {smallest}
    assert {r[6] for r in plan(db, model)} == {smallest}
    assert refusal(db, PLAN.format(f", {smallest - 1}"), model).sqlstate == "53000"


def every_plan(seq: int, batch: int, element: int) -> set[tuple[int, int]]:
    """Peak and extra work of every way to cut six layers into segments that are stored or recomputed."""
    activations, output = layer_bytes(seq, batch, element)
    work, found = forward_flops(seq, batch), set()
    for cuts in itertools.product((False, True), repeat=LAYERS - 1):
        ends = [i + 1 for i, cut in enumerate(cuts) if cut] + [LAYERS]
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        for stored in itertools.product((False, True), repeat=len(lengths)):
            kept = peak = extra = 0
            for length, is_stored in zip(lengths, stored, strict=True):
                kept += length * activations if is_stored else output
                peak = max(peak, kept if is_stored else kept + length * activations)
                extra += 0 if is_stored else length * work
            found.add((peak, extra))
    return found


def test_no_plan_is_better(minilm_db) -> None:
    """By trying all; with more memory there is never more work."""
    db, model = minilm_db
    plans = every_plan(512, 1, 2)
    least, most = min(plans)[0], max(plans)[0]
    assert {r[6] for r in plan(db, model)} == {least}
    for part in range(21):
        budget = least + (most - least) * part // 20
        rows = plan(db, model, ", %s", budget)
        (peak,) = {r[6] for r in rows}
        assert (sum(r[5] for r in rows), peak) == min((extra, peak) for peak, extra in plans if peak <= budget)


def test_a_plan_is_recorded_for_a_run(minilm_db) -> None:
    db, model = minilm_db
    run, other = start(db, model), start(db, model)
    assert db.execute("SELECT modelstore.set_gradient_checkpoints(%s)", (run,)).fetchone() == (LAYERS,)
    assert db.execute("SELECT modelstore.set_gradient_checkpoints(%s, %s, 4, 128, 4)", (other, 1 << 40)).fetchone() == (LAYERS,)
    columns = "layer_index, policy, segment, kept_bytes, recompute_flops"
    recorded = f"SELECT {columns} FROM store.gradient_checkpoints WHERE session_id = %s ORDER BY 1"

    def planned(rest: str, *arguments: object) -> list[tuple]:
        query = f"SELECT {columns} FROM modelstore.plan_gradient_checkpoints(%s{rest}) ORDER BY 1"
        return db.execute(query, (model, *arguments)).fetchall()

    assert db.execute(recorded, (run,)).fetchall() == planned("")
    assert db.execute(recorded, (other,)).fetchall() == planned(", %s, 4, 128, 4", 1 << 40)
    # Another plan takes its place; one that cannot be leaves it.
    db.execute("SELECT modelstore.set_gradient_checkpoints(%s, %s)", (run, 1 << 40))
    assert db.execute(recorded, (run,)).fetchall() == planned(", %s", 1 << 40) != planned("")
    assert refusal(db, "SELECT modelstore.set_gradient_checkpoints(%s, 1)", run).sqlstate == "53000"
    assert db.execute(recorded, (run,)).fetchall() == planned(", %s", 1 << 40)


def test_what_is_not_positive(minilm_db) -> None:
    db, model = minilm_db
    for argument in ("memory_budget", "batch_size", "seq_len", "element_bytes"):
        for value in (0, -1):
            error = refusal(db, PLAN.format(f", {argument} => {value}"), model)
            assert (error.sqlstate, error.message_primary) == ("22023", f"{argument} {value} is not positive")
    assert refusal(db, PLAN.format(", seq_len => 2147483647, batch_size => 2147483647"), model).sqlstate == "22003"


def test_a_model_whose_layers_are_not_known(db) -> None:
    model = register(db)
    assert refusal(db, PLAN.format(""), model).sqlstate == "55000"
    assert refusal(db, "SELECT modelstore.set_gradient_checkpoints(%s)", start(db, model)).sqlstate == "55000"
    assert refusal(db, PLAN.format("").replace("%s", "gen_random_uuid()")).sqlstate == "42704"
    assert refusal(db, PLAN.format("").replace("%s", "NULL")).sqlstate == "22004"


LLAMA = {"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}


def test_a_config_alone_is_enough(db) -> None:
    """Planned before the first weight is there, as for the model with its weights."""
    bare = register(db, "bare", config=LLAMA)
    with_weights = import_model(db, safetensors_bytes(tiny_llama()), "weights", config=LLAMA).model_id
    for rest in ("", ", 1000000000", ", NULL, 4, 16, 4"):
        rows = plan(db, bare, rest)
        assert [r[1] for r in rows] == ["layer.0", "layer.1", "layer.2"]
        assert [(r[0], *r[2:]) for r in rows] == [(r[0], *r[2:]) for r in plan(db, with_weights, rest)]
    assert db.execute("SELECT modelstore.set_gradient_checkpoints(%s)", (start(db, bare),)).fetchone() == (3,)
    for missing in LLAMA.keys() - {"model_type", "num_key_value_heads", "intermediate_size"}:
        half = register(db, missing, config={k: v for k, v in LLAMA.items() if k != missing})
        assert refusal(db, PLAN.format(""), half).sqlstate == "55000", missing
    for layers in (4097, 10**18):
        huge = register(db, f"huge {layers}", config=LLAMA | {"num_hidden_layers": layers})
        assert refusal(db, PLAN.format(""), huge).sqlstate == "54000"


def test_the_newest_checkpoint_is_enough(db) -> None:
    """Layers by the names of its weights, which a config does not have."""
    config = {k: v for k, v in LLAMA.items() if k not in ("num_hidden_layers", "hidden_size")}
    model = register(db, config=config)
    assert refusal(db, PLAN.format(""), model).sqlstate == "55000"
    made = checkpoint(db, model, safetensors_bytes(tiny_llama())).checkpoint_id
    rows = plan(db, model)
    assert [r[1] for r in rows] == [f"model.layers.{i}" for i in range(3)]
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (made,)).fetchone()
    assert plan(db, restored) == rows
