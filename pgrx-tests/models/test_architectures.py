"""Recognises a model from the names of its weights and its config: architecture, layers, heads, embeddings, parameters."""

from __future__ import annotations

import hashlib
import uuid

import models
import numpy as np
import psycopg
import pytest
import safetensors.numpy
from checkpoints import checkpoint
from databases import make_template
from harness import Server
from models import random_tensor, safetensors_bytes
from transfer import export_model, forever, import_model, upload_in_parts


@pytest.fixture(scope="module")
def minilm_database(server: Server, minilm) -> str:
    """A store with all-MiniLM-L6-v2 in it."""
    config = (minilm.parent / "config.json").read_text().replace("'", "''")
    path = server.scratch / "minilm.safetensors"
    path.write_bytes(minilm.read_bytes())
    sql = f"""CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store();
              SELECT modelstore.import_safetensors_file('minilm', '1', '{path}', '{config}')"""
    name = make_template(server, "with_minilm", sql)
    path.unlink()
    return name


def test_minilm(minilm_database, new_database, connect, minilm) -> None:
    db = connect(dbname=new_database(minilm_database))
    row = db.execute("""SELECT model_id, architecture, layers, attention_heads, hidden_size, vocab_size, parameters, trainable_parameters
                        FROM store.v_model_architecture""").fetchone()
    model = row[0]
    assert row[1:6] == ("bert", 6, 12, 384, 30522)
    tensors = safetensors.numpy.load_file(minilm)
    parameters = sum(a.size for a in tensors.values())
    frozen = sum(a.size for a in tensors.values() if a.dtype.kind != "f")
    assert row[6:] == (parameters, parameters - frozen) == (22713728, 22713216)
    totals = db.execute("SELECT * FROM modelstore.calculate_model_parameters(%s)", (model,)).fetchone()
    assert totals == (parameters, parameters - frozen, frozen, sum(a.nbytes for a in tensors.values()))
    embeddings = dict(db.execute("SELECT kind, weight_name FROM store.embeddings").fetchall())
    prefix = "embeddings."
    assert embeddings == {
        "token": f"{prefix}word_embeddings.weight",
        "position": f"{prefix}position_embeddings.weight",
        "segment": f"{prefix}token_type_embeddings.weight",
    }
    heads = db.execute("SELECT DISTINCT head_dim, kv_head_index = head_index FROM store.attention_heads").fetchall()
    assert heads == [(32, True)]
    out = export_model(db, model)
    assert hashlib.sha256(out).digest() == hashlib.sha256(minilm.read_bytes()).digest()
    assert db.execute("SELECT sha256 FROM store.model_files").fetchone() == (hashlib.sha256(out).digest(),)
    # Once more, in parts of 1 MiB: nothing new to store.
    upload = upload_in_parts(db, out, forever(1 << 20), len(out))
    again = db.execute("SELECT new_bytes, reused_bytes, raw_bytes FROM modelstore.finish_upload(%s, 'minilm', '2')", (upload,)).fetchone()
    assert again[0] == 0 and again[1] == again[2]
    stored, raw = db.execute("SELECT sum(stored_bytes), sum(raw_bytes) FROM store.tensor_chunks").fetchone()
    # The embedding tables of this file are trained further than usual and compress to this.
    assert stored <= 0.84 * raw


def recognised(db: psycopg.Connection, model: uuid.UUID) -> tuple:
    query = """SELECT architecture, layers, attention_heads, hidden_size, vocab_size, parameters
               FROM store.v_model_architecture WHERE model_id = %s"""
    return db.execute(query, (model,)).fetchone()


def test_gpt2_names(db) -> None:
    tensors = models.tiny_gpt2()
    model = import_model(db, safetensors_bytes(tensors), config=models.GPT2_CONFIG).model_id
    once = sum(a.size for n, a in tensors.items() if n != "lm_head.weight")
    assert recognised(db, model) == ("gpt2", 2, 4, 16, 40, once)
    kinds = dict(db.execute("SELECT kind, (row_count, dim)::text FROM store.embeddings").fetchall())
    assert kinds == {"token": "(40,16)", "position": "(12,16)"}
    tied = db.execute("SELECT weight_name, tied_to FROM store.model_weights WHERE tied_to IS NOT NULL").fetchall()
    assert tied == [("transformer.wte.weight", "lm_head.weight")]
    component = db.execute("SELECT component FROM store.model_weights WHERE weight_name = 'transformer.h.1.attn.c_attn.bias'")
    assert component.fetchone() == ("attention.qkv",)
    # Without a config the heads are not known; the rest is.
    bare = import_model(db, safetensors_bytes(tensors), version="bare").model_id
    assert recognised(db, bare) == ("gpt2", 2, None, 16, 40, once)


def test_llama_names(db) -> None:
    tensors = models.tiny_llama()
    model = import_model(db, safetensors_bytes(tensors), config=models.LLAMA_CONFIG | {"model_type": "mistral"}).model_id
    assert recognised(db, model) == ("mistral", 3, 4, 32, 50, sum(a.size for a in tensors.values()))
    heads = db.execute("SELECT head_index, kv_head_index, head_dim FROM store.attention_heads WHERE layer_index = 2 ORDER BY 1")
    assert heads.fetchall() == [(0, 0, 8), (1, 0, 8), (2, 1, 8), (3, 1, 8)]
    names = db.execute("SELECT layer_name, parameter_count FROM store.transformer_layers ORDER BY layer_index").fetchall()
    each = 2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32
    assert names == [(f"model.layers.{i}", each) for i in range(3)]


def test_tied_weights_count_once_and_equal_ones_each(db) -> None:
    shared = random_tensor(9, 30, 20)
    tensors = {
        "embed_tokens.weight": shared, "lm_head.weight": shared.copy(), "a.weight": shared.copy(), "b.weight": shared.copy(),
        "a.bias": np.zeros(20, "float32"), "b.bias": np.zeros(20, "float32"),
        "a.scale": np.ones((4, 5), "float32"), "b.scale": np.ones((4, 5), "float32"),
        "a.equal": random_tensor(10, 20), "b.equal": random_tensor(10, 20),
    }  # fmt: skip
    imported = import_model(db, safetensors_bytes(tensors))
    counted = 3 * 30 * 20 + 4 * 20 + 2 * 20
    assert (imported.weights, imported.parameters) == (10, counted)
    view = "SELECT parameters, trainable_parameters, raw_bytes FROM store.v_model_architecture"
    assert db.execute(view).fetchone() == (counted, counted, 4 * counted)
    totals = db.execute("SELECT total_parameters, total_bytes FROM modelstore.calculate_model_parameters(%s)", (imported.model_id,))
    assert totals.fetchone() == (counted, 4 * counted)
    assert db.execute("SELECT count(*) FROM store.tensor_metadata").fetchone() == (4,)


def test_a_config_of_nonsense_is_kept_and_ignored(db) -> None:
    data = safetensors_bytes(models.tiny_gpt2())
    for version, config in enumerate([{}, [], 1, "x", {"n_head": "4"}, {"n_head": -1}, {"n_head": 10**18}, {"n_head": 5, "text_config": []}]):
        model = import_model(db, data, version=str(version), config=config).model_id
        assert recognised(db, model)[:3] == ("gpt2", 2, None), config
        assert db.execute("SELECT config FROM store.models WHERE model_id = %s", (model,)).fetchone() == (config,)


def trainable(db: psycopg.Connection, model: uuid.UUID) -> list[str]:
    rows = db.execute("SELECT weight_name FROM store.model_weights WHERE model_id = %s AND trainable ORDER BY 1", (model,))
    return [name for (name,) in rows]


def test_buffers_are_not_trainable(db) -> None:
    tensors = {
        "bn.weight": random_tensor(1, 8), "bn.bias": random_tensor(2, 8),
        "bn.running_mean": random_tensor(3, 8), "bn.running_var": random_tensor(4, 8),
        "bn.num_batches_tracked": np.array(7, "int64"),
        "h.0.attn.bias": np.tril(np.ones((1, 1, 6, 6), "float32")), "h.0.attn.masked_bias": np.array(-1e4, "float32"),
        "h.0.attn.c_attn.bias": random_tensor(5, 24), "layers.0.self_attn.rotary_emb.inv_freq": random_tensor(6, 4),
    }  # fmt: skip
    model = import_model(db, safetensors_bytes(tensors)).model_id
    assert trainable(db, model) == ["bn.bias", "bn.weight", "h.0.attn.c_attn.bias"]
    counts = (sum(a.size for a in tensors.values()), 8 + 8 + 24)
    query = "SELECT total_parameters, trainable_parameters FROM modelstore.calculate_model_parameters(%s)"
    assert db.execute(query, (model,)).fetchone() == counts
    assert db.execute("SELECT parameters, trainable_parameters FROM store.v_model_architecture").fetchone() == counts
    buffers = db.execute("SELECT weight_name FROM store.model_weights WHERE component = 'buffer' ORDER BY 1").fetchall()
    assert len(buffers) == 6
    # A checkpoint that becomes a version says the same of its weights, also without a model that has said it.
    other = db.execute("SELECT modelstore.register_model('other', '1')").fetchone()[0]
    made = checkpoint(db, other, safetensors_bytes(tensors)).checkpoint_id
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (made,)).fetchone()
    assert trainable(db, restored) == trainable(db, model)
    assert db.execute(query, (restored,)).fetchone() == counts


def test_layers_are_those_that_the_config_counts(db) -> None:
    """One more at the end predicts a further token, as DeepSeek-V3 has it."""
    config = models.LLAMA_CONFIG | {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    tensors = models.tiny_llama()
    model = import_model(db, safetensors_bytes(tensors), config=config).model_id
    assert recognised(db, model) == ("llama", 2, 4, 32, 50, sum(a.size for a in tensors.values()))
    kinds = "SELECT layer_name, layer_type FROM store.transformer_layers ORDER BY layer_index"
    assert db.execute(kinds).fetchall()[1:] == [("model.layers.1", "transformer"), ("model.layers.2", "mtp")]
    plan = "SELECT layer_name FROM modelstore.plan_gradient_checkpoints(%s, 1 << 30, 1, 16)"
    assert len(db.execute(plan, (model,)).fetchall()) == 2
    layer = "SELECT DISTINCT layer_index FROM store.model_weights WHERE weight_name LIKE 'model.layers.2.%'"
    assert db.execute(layer).fetchall() == [(2,)]
