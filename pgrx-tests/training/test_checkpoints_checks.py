"""Checks that a checkpoint must pass before it is stored. A failed check stores nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import checkpoint, exported, file_of_weights, latest, register, start
from models import random_tensor, raw_file, safetensors_bytes, to_bf16
from observe import problems, row_counts
from psycopg.types.json import Jsonb
from transfer import import_model, refusal

CREATE = "SELECT modelstore.create_checkpoint(%s, 1, %b::bytea)"
WITH_OPTIMIZER = "SELECT modelstore.create_checkpoint(%s, 1, %b::bytea, %b::bytea)"

GOOD = {"a.weight": random_tensor(1, 300, 70), "b.weight": random_tensor(2, 40, 30), "b.bias": random_tensor(3, 40)}


def with_value(dtype: str, value: float, name: str = "b.weight") -> bytes:
    """The good weights with one element that is not."""
    arrays = {n: a.copy() for n, a in GOOD.items()}
    arrays[name].flat[17] = value
    if dtype == "F32":
        return file_of_weights(arrays)
    # The bits of a NaN must not be rounded.
    bits = {n: (a.view("uint32") >> 16).astype("uint16") for n, a in arrays.items()}
    return file_of_weights(bits, bf16=True)


@pytest.fixture
def model(db):
    return register(db)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf], ids=["nan", "-nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_one_element_that_is_not_finite(dtype: str, value: float, db, model) -> None:
    before = row_counts(db)
    error = refusal(db, CREATE, model, with_value(dtype, value))
    assert error.sqlstate == "23514"
    assert 'tensor "b.weight"' in error.message_primary
    nans = int(np.isnan(value))
    assert error.message_detail == f"It contains {nans} NaN and {1 - nans} infinite elements."
    assert error.message_hint == "SET modelstore.checkpoint_checks = 'shape,parameters';"
    assert row_counts(db) == before
    assert latest(db, model) is None


@pytest.mark.parametrize("dtype", ["F16", "F64"])
def test_other_float_types(dtype: str, db, model) -> None:
    for value in (np.nan, np.inf):
        array = np.zeros(100, {"F16": "float16", "F64": "float64"}[dtype])
        array[-1] = value
        assert refusal(db, CREATE, model, safetensors_bytes({"w": array})).sqlstate == "23514"


@pytest.mark.parametrize(("dtype", "bits"), [("F8_E4M3", 0x7F), ("F8_E4M3", 0xFF), ("F8_E5M2", 0x7C), ("F8_E5M2", 0x7E)])
def test_floats_of_a_byte(dtype: str, bits: int, db, model) -> None:
    data = raw_file({"w": (dtype, (100,), bytes([1] * 99 + [bits]))})
    assert refusal(db, CREATE, model, data).sqlstate == "23514"
    # The largest finite number.
    data = raw_file({"w": (dtype, (100,), bytes([1] * 99 + [0x7E if dtype == "F8_E4M3" else 0x7B]))})
    assert checkpoint(db, model, data).tensors == 1


def test_integers_have_no_nan(db, model) -> None:
    """The bits of a NaN in a type that has none."""
    bits = np.full(50, np.nan, "float32").tobytes()
    assert checkpoint(db, model, raw_file({"ids": ("I32", (50,), bits), "bytes": ("U8", (200,), bits)})).tensors == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_state_of_the_optimizer(value: float, db, model) -> None:
    moments = random_tensor(9, 300, 70)
    moments[-1, -1] = value
    optimizer = safetensors_bytes({"a.weight.exp_avg": random_tensor(8, 300, 70), "a.weight.exp_avg_sq": moments})
    before = row_counts(db)
    error = refusal(db, WITH_OPTIMIZER, model, safetensors_bytes(GOOD), optimizer)
    assert (error.sqlstate, error.message_primary) == ("23514", 'tensor "a.weight.exp_avg_sq" of the checkpoint is not finite')
    assert row_counts(db) == before


def test_what_is_refused_leaves_the_checkpoint_before(db, model) -> None:
    first = checkpoint(db, model, safetensors_bytes(GOOD), 1).checkpoint_id
    before = row_counts(db)
    assert refusal(db, CREATE, model, with_value("F32", np.nan)).sqlstate == "23514"
    assert row_counts(db) == before
    assert latest(db, model) == first
    assert exported(db, first) == safetensors_bytes(GOOD)
    assert problems(db) == []


def test_switched_off(db, model) -> None:
    bad = with_value("F32", np.nan)
    for number, setting in enumerate(["", "shape", " shape , parameters "]):
        db.execute("SELECT set_config('modelstore.checkpoint_checks', %s, false)", (setting,))
        made = checkpoint(db, model, bad, number)
        assert exported(db, made.checkpoint_id) == bad
    # The argument goes before the setting, either way.
    assert refusal(db, CREATE.replace("::bytea)", "::bytea, checks => '{finite}')"), model, bad).sqlstate == "23514"
    db.execute("RESET modelstore.checkpoint_checks")
    assert checkpoint(db, model, bad, 8, checks=[]).tensors == 3
    assert checkpoint(db, model, bad, 9, checks=["shape"]).tensors == 3
    assert refusal(db, CREATE, model, bad).sqlstate == "23514"


def test_a_check_that_does_not_exist(db, model) -> None:
    data = safetensors_bytes(GOOD)
    error = refusal(db, CREATE.replace("::bytea)", "::bytea, checks => '{finite,norms}')"), model, data)
    assert (error.sqlstate, error.message_primary) == ("22023", 'unknown check "norms" for checkpoints')
    db.execute("SET modelstore.checkpoint_checks = 'finite, Shape'")
    assert refusal(db, CREATE, model, data).message_primary == 'unknown check "Shape" for checkpoints'


CHANGES = {
    "shape": ({"b.bias": random_tensor(3, 41)}, (), 'weight "b.bias"'),
    "rank": ({"b.bias": random_tensor(3, 40, 1)}, (), 'weight "b.bias"'),
    "transposed": ({"b.weight": random_tensor(2, 30, 40)}, (), 'weight "b.weight"'),
    "dtype": ({"b.bias": random_tensor(3, 40).astype("float16")}, (), 'weight "b.bias"'),
    "additional": ({"c": random_tensor(3, 40)}, (), 'weight "c"'),
    "missing": ({}, ("b.bias",), 'has no weight "b.bias"'),
}


@pytest.mark.parametrize("against", ["model", "checkpoint"])
@pytest.mark.parametrize("change", CHANGES)
def test_shapes_are_those_of_before(change: str, against: str, db, model) -> None:
    if against == "model":
        model = import_model(db, safetensors_bytes(GOOD), "weighty").model_id
    else:
        checkpoint(db, model, safetensors_bytes(GOOD), 0)
    added, removed, message = CHANGES[change]
    data = safetensors_bytes({n: a for n, a in (GOOD | added).items() if n not in removed})
    before = row_counts(db)
    error = refusal(db, CREATE, model, data)
    assert error.sqlstate == "23514"
    assert message in error.message_primary
    assert against in error.message_primary + (error.message_detail or "")
    assert row_counts(db) == before
    made = checkpoint(db, model, data, 2, checks=["finite", "parameters"])
    assert exported(db, made.checkpoint_id) == data


def test_another_layout_of_the_same_weights_passes(db, model) -> None:
    """Order and metadata of the file are not the weights'."""
    checkpoint(db, model, safetensors_bytes(GOOD), 0)
    turned = safetensors_bytes(dict(reversed(GOOD.items())), {"format": "pt"})
    made = checkpoint(db, model, turned, 1)
    assert made.new_bytes == 0
    assert exported(db, made.checkpoint_id) == turned


# BERT of one layer, with pooler: 30·8 + 16·8 + 2·8 + 2·8 and so on.
BERT = {
    "model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16,
    "vocab_size": 30, "max_position_embeddings": 16, "type_vocab_size": 2,
}  # fmt: skip


def bert() -> dict[str, np.ndarray]:
    h, f, layer = 8, 16, "encoder.layer.0."
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (30, h), "embeddings.position_embeddings.weight": (16, h),
        "embeddings.token_type_embeddings.weight": (2, h),
        "embeddings.LayerNorm.weight": (h,), "embeddings.LayerNorm.bias": (h,),
    }  # fmt: skip
    for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        shapes |= {f"{layer}{part}.weight": (h, h), f"{layer}{part}.bias": (h,)}
    shapes |= {f"{layer}intermediate.dense.weight": (f, h), f"{layer}intermediate.dense.bias": (f,)}
    shapes |= {f"{layer}output.dense.weight": (h, f), f"{layer}output.dense.bias": (h,)}
    for part in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{layer}{part}.weight": (h,), f"{layer}{part}.bias": (h,)}
    shapes |= {"pooler.dense.weight": (h, h), "pooler.dense.bias": (h,)}
    return {name: random_tensor(i, *shape) for i, (name, shape) in enumerate(shapes.items())}


def test_as_many_parameters_as_the_config_says(db) -> None:
    weights = bert()
    count = sum(a.size for a in weights.values())
    model = register(db, "bert", config=BERT)
    assert checkpoint(db, model, safetensors_bytes(weights), 1).parameters == count
    # A buffer of integers is no parameter.
    ids = weights | {"embeddings.position_ids": np.arange(16, dtype="int64").reshape(1, 16)}
    assert checkpoint(db, model, safetensors_bytes(ids), 2, checks=["parameters"]).tensors == len(ids)
    less = {n: a for n, a in weights.items() if n != "pooler.dense.bias"}
    error = refusal(db, CREATE.replace("::bytea)", "::bytea, checks => '{parameters}')"), model, safetensors_bytes(less))
    assert (error.sqlstate, error.message_primary) == ("23514", f"checkpoint has {count - 8} parameters, not {count}")
    larger = register(db, "larger", config=BERT | {"num_hidden_layers": 2})
    assert refusal(db, CREATE, larger, safetensors_bytes(weights)).sqlstate == "23514"
    assert checkpoint(db, larger, safetensors_bytes(weights), 1, checks=["finite", "shape"]).tensors == len(weights)


@pytest.mark.parametrize("key", ["num_parameters", "parameter_count"])
def test_a_config_that_gives_the_number_itself(key: str, db) -> None:
    count = sum(a.size for a in GOOD.values())
    right, wrong = register(db, "right", config={key: count}), register(db, "wrong", config={key: count + 1})
    assert checkpoint(db, right, safetensors_bytes(GOOD)).parameters == count
    assert refusal(db, CREATE, wrong, safetensors_bytes(GOOD)).sqlstate == "23514"
    # What no config says is not checked.
    for config in (None, {}, {"model_type": "mamba"}, json.loads('{"num_parameters": "many"}')):
        assert checkpoint(db, register(db, "m", str(config).replace(":", ""), config), safetensors_bytes(GOOD)).tensors == 3


def test_tied_matrices_count_once(db) -> None:
    shared = random_tensor(1, 20, 10)
    config = {"num_parameters": 200 + 10}
    tied = {"wte.weight": shared, "lm_head.weight": shared.copy(), "norm": random_tensor(2, 10)}
    made = checkpoint(db, register(db, "tied", config=config), safetensors_bytes(tied))
    assert (made.tensors, made.parameters) == (3, 210)
    apart = tied | {"lm_head.weight": random_tensor(3, 20, 10)}
    assert refusal(db, CREATE, register(db, "apart", config=config), safetensors_bytes(apart)).sqlstate == "23514"
    # The config may say that they are not, or that others are.
    no = register(db, "no", config={"num_parameters": 410, "tie_word_embeddings": False})
    assert checkpoint(db, no, safetensors_bytes(tied)).parameters == 410
    others = {"in.weight": shared, "out.weight": shared.copy()}
    named = register(db, "named", config={"num_parameters": 200, "tied_weights": [["in.weight", "out.weight"]]})
    assert checkpoint(db, named, safetensors_bytes(others)).parameters == 200
    # Equal vectors, such as norms that have not moved, are parameters of their own.
    norms = {"a": np.ones(10, "float32"), "b": np.ones(10, "float32")}
    assert checkpoint(db, register(db, "norms", config={"num_parameters": 20}), safetensors_bytes(norms)).tensors == 2


@pytest.mark.parametrize("names", [("net.fc.weight", "target_net.fc.weight"), ("wte.weight", "ema.wte.weight"), ("a", "b")])
def test_copies_are_parameters_of_their_own(names: tuple[str, str], db) -> None:
    """At step 0 an average or a target network is equal to what it is of; a step later it is not."""
    start, moved = random_tensor(1, 20, 10), random_tensor(2, 20, 10)
    model = register(db, config={"num_parameters": 400})
    made = checkpoint(db, model, safetensors_bytes(dict.fromkeys(names, start)), 0)
    assert (made.tensors, made.parameters, made.reused_bytes) == (2, 400, 800)
    assert checkpoint(db, model, safetensors_bytes({names[0]: moved, names[1]: start}), 1).parameters == 400
    # The same for the weights of a model.
    model = import_model(db, safetensors_bytes(dict.fromkeys(names, start)), "imported")
    counted = db.execute("SELECT parameters FROM store.v_model_architecture WHERE model_id = %s", (model.model_id,)).fetchone()
    assert (model.parameters, counted) == (400, (400,))


def test_parameters_are_counted_alike_everywhere(db) -> None:
    shared = random_tensor(1, 20, 10)
    data = safetensors_bytes({"lm_head.weight": shared, "model.embed_tokens.weight": shared, "ids": np.arange(7)})
    imported = import_model(db, data, "m")
    model = imported.model_id
    made = checkpoint(db, model, data)
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (made.checkpoint_id,)).fetchone()
    seen = [imported.parameters, made.parameters]
    for id in (model, restored):
        seen += db.execute("SELECT parameters FROM store.v_model_architecture WHERE model_id = %s", (id,)).fetchone()
        seen += db.execute("SELECT total_parameters FROM modelstore.calculate_model_parameters(%s)", (id,)).fetchone()
    (bare,) = db.execute("SELECT modelstore.register_model('bare', '1')").fetchone()
    seen += db.execute("SELECT parameters FROM modelstore.add_file(%s, 'a.safetensors', %b::bytea)", (bare, data)).fetchone()
    assert seen == [207] * 7


def mask(*values: float) -> np.ndarray:
    array = np.zeros((4, 4), "float32")
    array.flat[: len(values)] = values
    return array


@pytest.mark.parametrize("name", ["h.0.attn.mask", "causal_mask", "h.0.attn.masked_bias"])
def test_a_mask_may_be_infinitely_low(name: str, db, model) -> None:
    data = safetensors_bytes(GOOD | {name: mask(-np.inf, -np.inf)})
    assert exported(db, checkpoint(db, model, data).checkpoint_id) == data
    for bad in (mask(np.nan), mask(np.inf), mask(-np.inf, np.inf), mask(-np.inf, np.nan)):
        error = refusal(db, CREATE, model, safetensors_bytes(GOOD | {name: bad}))
        assert (error.sqlstate, error.message_primary) == ("23514", f'tensor "{name}" of the checkpoint is not finite')
    # The weights beside it are held to the rule as ever.
    low = GOOD["b.bias"].copy()
    low[0] = -np.inf
    assert refusal(db, CREATE, model, safetensors_bytes(GOOD | {name: mask(-np.inf), "b.bias": low})).sqlstate == "23514"


def test_a_mask_by_another_name(db, model) -> None:
    data = safetensors_bytes(GOOD | {"h.0.attn.future_bias": mask(-np.inf)})
    assert refusal(db, CREATE, model, data).sqlstate == "23514"
    db.execute("SET modelstore.mask_buffers = 'other, future_bias'")
    assert checkpoint(db, model, data).tensors == 4


def test_a_mask_is_no_parameter(db) -> None:
    count = sum(a.size for a in GOOD.values())
    model = register(db, config={"num_parameters": count})
    assert checkpoint(db, model, safetensors_bytes(GOOD | {"attn.mask": mask(-np.inf)})).tensors == 4


@pytest.mark.parametrize("figures", [{"loss": "low"}, {"loss": None}, {"loss": [1]}, {"loss": {"mean": 1}}, {"": 1}, [1], 3])
def test_metrics_follow_the_rules_of_log_metrics(figures: object, db, model) -> None:
    with_metrics = CREATE.replace("::bytea)", "::bytea, metrics => %s)")
    error = refusal(db, with_metrics, model, safetensors_bytes(GOOD), Jsonb(figures))
    logged = refusal(db, "SELECT modelstore.log_metrics(%s, 1, %s)", start(db, model), Jsonb(figures))
    seen = [(e.sqlstate, e.message_primary, e.message_detail) for e in (error, logged)]
    assert seen[0] == seen[1]
    assert error.sqlstate == "22023"
    assert refusal(db, with_metrics, model, safetensors_bytes(GOOD), '{"loss": 1e400}').sqlstate == "22003"
    good = {"loss": 0.5, "nan": "NaN", "inf": "-inf", "done": True}
    made = checkpoint(db, model, safetensors_bytes(GOOD), metrics=good)
    kept = db.execute("SELECT metrics FROM store.model_checkpoints WHERE checkpoint_id = %s", (made.checkpoint_id,)).fetchone()
    assert kept == (good,)


def test_bf16_of_good_weights_is_good(db, model) -> None:
    data = file_of_weights({n: to_bf16(a) for n, a in GOOD.items()}, bf16=True)
    assert exported(db, checkpoint(db, model, data).checkpoint_id) == data


def test_arguments_are_checked_before_files(db) -> None:
    (model,) = db.execute("SELECT modelstore.register_model('early', '1')").fetchone()
    call = "SELECT modelstore.create_checkpoint(%s, {}, 'no file'::bytea, checks => {})"
    assert refusal(db, call.format("NULL", "NULL"), model).sqlstate == "22004"
    assert refusal(db, call.format("1", "'{unknown}'"), model).sqlstate == "22023"
    assert refusal(db, call.format("1", "'{finite}'"), model).sqlstate == "22026"
