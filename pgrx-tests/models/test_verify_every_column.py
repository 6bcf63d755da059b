"""Changes one value of each column of each table of a store: verify_* names the object, unless the column holds user data."""

from __future__ import annotations

import json
import random

import numpy as np
import psycopg
import pytest
from atoms import ingest
from models import random_tensor, safetensors_bytes

USERS = "its user's: any value is as good as another"
TIME = "when or by whom, which nothing else knows"
DERIVED = "derived from names and config for display; nothing reads data by it"
RUN = "what a run says of itself"
MARK = "follows from the values; where it is wrong, only the lowest loss that is shown is"
UPLOAD = "unfinished: checked as a file when it is finished"

FLIP = "set_byte({0}, 3, get_byte({0}, 3) # 4)"
"""One bit of a hash."""
MODEL, CHECKPOINT, STORE, ATOMS = "verify_model", "verify_checkpoint", "verify_store", "verify_atoms"

# table.column: (what becomes of it, who finds it, what is said), or why it is nobody's to find. {0} is the column.
COLUMNS: dict[str, tuple[str, str, str] | str] = {
    "store_version.version": "upgrade_store() and every function see it",
    "store_version.extension_version": TIME,
    "store_version.installed_at": TIME,
    "models.model_id": ("gen_random_uuid()", STORE, "table model_weights"),
    "models.model_name": USERS,
    "models.version": USERS,
    "models.parent_model_id": ("gen_random_uuid()", STORE, "table models"),
    "models.derivation": USERS,
    "models.architecture": DERIVED,
    "models.config": USERS,
    "models.metadata": USERS,
    "models.license": USERS,
    "models.tags": USERS,
    "models.card": DERIVED,
    "models.card_words": DERIVED,
    "models.evaluations": USERS,
    "models.status": USERS,
    "models.content_hash": (FLIP, STORE, "model "),
    "models.hidden_size": DERIVED,
    "models.vocab_size": DERIVED,
    "models.created_at": TIME,
    "models.created_by": TIME,
    "model_aliases.model_name": ("'other'", STORE, "model "),
    "model_aliases.alias": USERS,
    "model_aliases.model_id": ("gen_random_uuid()", STORE, "table model_aliases"),
    "model_aliases.updated_at": TIME,
    "model_files.model_id": ("gen_random_uuid()", STORE, "table model_files"),
    "model_files.file_name": ("{0} || 'x'", STORE, "model.safetensorsx"),
    "model_files.format": ("'safetensors_index'", STORE, "model.safetensors"),
    "model_files.tensor_id": ("(SELECT min(tensor_id::text)::uuid FROM store.tensor_metadata)", STORE, "notes.txt"),
    "model_files.header": ("set_byte({0}, 20, get_byte({0}, 20) # 1)", STORE, "model.safetensors"),
    "model_files.file_bytes": ("{0} + 1", MODEL, "model.safetensors"),
    "model_files.sha256": (FLIP, MODEL, "model.safetensors"),
    "model_files.blake3": (FLIP, MODEL, "model.safetensors"),
    "model_files.manifest_hash": (FLIP, STORE, "model.safetensors"),
    "model_files.imported_at": TIME,
    "transformer_layers.model_id": ("gen_random_uuid()", STORE, "table transformer_layers"),
    "transformer_layers.layer_index": ("{0} + 100", STORE, "table model_weights"),
    "transformer_layers.layer_name": DERIVED,
    "transformer_layers.layer_type": DERIVED,
    "transformer_layers.parameter_count": DERIVED,
    "transformer_layers.attention_heads": DERIVED,
    "transformer_layers.kv_heads": DERIVED,
    "transformer_layers.head_dim": DERIVED,
    "tensor_chunks.chunk_hash": (FLIP, STORE, "table tensor_data"),
    "tensor_chunks.chunk": ("(SELECT chunk FROM store.tensor_chunks ORDER BY raw_bytes LIMIT 1)", STORE, "chunk "),
    "tensor_chunks.raw_bytes": ("{0} + 1", STORE, "chunk "),
    "tensor_chunks.stored_bytes": ("{0} + 1", STORE, "chunk "),
    "tensor_chunks.base_hash": (FLIP, STORE, "chunk "),
    "tensor_chunks.delta_depth": ("{0} + 1", STORE, "chunk "),
    "tensor_chunks.created_at": TIME,
    "tensor_metadata.tensor_id": ("gen_random_uuid()", STORE, "table tensor_data"),
    "tensor_metadata.content_hash": (FLIP, STORE, "{id}"),
    "tensor_metadata.dtype": ("'i32'", STORE, "{id}"),
    "tensor_metadata.shape": ("{0} || 2::bigint", STORE, "{id}"),
    "tensor_metadata.element_count": ("{0} + 1", STORE, "{id}"),
    "tensor_metadata.raw_bytes": ("{0} + 1", STORE, "{id}"),
    "tensor_metadata.chunk_count": ("{0} + 1", STORE, "{id}"),
    "tensor_metadata.created_at": TIME,
    "tensor_data.tensor_id": ("gen_random_uuid()", STORE, "table tensor_data"),
    "tensor_data.chunk_index": ("{0} + 7", STORE, "{id}"),
    "tensor_data.chunk_hash": (FLIP, STORE, "{id}"),
    "tensor_data.first_element": ("{0} + 1", STORE, "{id}"),
    "tensor_data.element_count": ("{0} - 1", STORE, "{id}"),
    "tensor_data.nan_count": ("{0} + 1", STORE, "{id}"),
    "model_weights.model_id": ("gen_random_uuid()", STORE, "table model_weights"),
    "model_weights.weight_name": ("{0} || 'x'", STORE, "model.safetensors"),
    "model_weights.tensor_id": ("(SELECT max(o.tensor_id::text)::uuid FROM store.tensor_metadata o WHERE o.tensor_id <> model_weights.tensor_id)", STORE, "model.safetensors"),
    "model_weights.layer_index": ("100", STORE, "table model_weights"),
    "model_weights.component": DERIVED,
    "model_weights.trainable": USERS,
    "model_weights.tied_to": ("(SELECT weight_name FROM store.model_weights o WHERE o.tensor_id <> model_weights.tensor_id AND o.model_id = model_weights.model_id LIMIT 1)", STORE, "model "),
    "model_weights.gradient_tensor_id": ("gen_random_uuid()", STORE, "table model_weights"),
    "model_weights.file_name": ("'other'", STORE, "table model_weights"),
    "model_weights.file_offset": ("{0} + 1", STORE, "model.safetensors"),
    "embeddings.model_id": ("gen_random_uuid()", STORE, "table embeddings"),
    "embeddings.kind": DERIVED,
    "embeddings.weight_name": ("'other'", STORE, "table embeddings"),
    "embeddings.row_count": ("{0} + 1", STORE, "model "),
    "embeddings.dim": ("{0} + 1", STORE, "model "),
    "uploads.upload_id": ("gen_random_uuid()", STORE, "table upload_parts"),
    **{f"uploads.{column}": UPLOAD for column in (
        "expected_bytes", "file_bytes", "received_bytes", "wanted_bytes", "header", "hash_state", "chunk_bytes", "parent_model_id",
        "parent_checkpoint_id", "new_chunks", "new_bytes", "new_raw_bytes")},
    "uploads.created_at": TIME,
    "uploads.created_by": TIME,
    "uploads.updated_at": TIME,
    "upload_parts.upload_id": ("gen_random_uuid()", STORE, "table upload_parts"),
    "upload_parts.chunk_hash": (FLIP, STORE, "table upload_parts"),
    **{f"upload_parts.{column}": UPLOAD for column in (
        "part_offset", "data", "content_hash", "value_min", "value_max", "value_mean", "value_std", "abs_max", "zero_count",
        "nan_count", "inf_count")},
    "training_sessions.session_id": ("gen_random_uuid()", STORE, "table training_metrics"),
    "models.attention_heads": DERIVED,
    "models.kv_heads": DERIVED,
    "models.restored_checkpoint_id": ("gen_random_uuid()", STORE, "table models"),
    "training_sessions.resumed_from_checkpoint_id": ("gen_random_uuid()", STORE, "table training_sessions"),
    "training_sessions.model_id": ("gen_random_uuid()", STORE, "table training_sessions"),
    "training_metrics.session_id": "the key of its partition: it cannot be changed where it lies, and its foreign key is that of the partition",
    "model_checkpoints.checkpoint_id": ("gen_random_uuid()", STORE, "table checkpoint_weights"),
    "model_checkpoints.model_id": ("gen_random_uuid()", STORE, "table model_checkpoints"),
    "model_checkpoints.session_id": ("gen_random_uuid()", STORE, "table model_checkpoints"),
    "model_checkpoints.parent_checkpoint_id": ("gen_random_uuid()", STORE, "table model_checkpoints"),
    "model_checkpoints.content_hash": (FLIP, STORE, "checkpoint "),
    "checkpoint_files.checkpoint_id": ("gen_random_uuid()", STORE, "table checkpoint_files"),
    "checkpoint_files.file_name": ("{0} || 'x'", STORE, "safetensorsx"),
    "checkpoint_files.format": "safetensors and nothing else, by a CHECK",
    "checkpoint_files.header": ("set_byte({0}, 20, get_byte({0}, 20) # 1)", STORE, ".safetensors"),
    "checkpoint_files.file_bytes": ("{0} + 1", CHECKPOINT, ".safetensors"),
    "checkpoint_files.sha256": (FLIP, CHECKPOINT, ".safetensors"),
    "checkpoint_files.blake3": (FLIP, CHECKPOINT, ".safetensors"),
    "checkpoint_files.manifest_hash": (FLIP, STORE, ".safetensors"),
    "checkpoint_files.imported_at": TIME,
    "checkpoint_weights.checkpoint_id": ("gen_random_uuid()", STORE, "table checkpoint_weights"),
    "checkpoint_weights.weight_name": ("{0} || 'x'", STORE, "model.safetensors"),
    "checkpoint_weights.tensor_id": ("(SELECT max(o.tensor_id::text)::uuid FROM store.tensor_metadata o WHERE o.tensor_id <> checkpoint_weights.tensor_id)", STORE, "model.safetensors"),
    "checkpoint_weights.file_name": ("'other'", STORE, "table checkpoint_weights"),
    "checkpoint_weights.file_offset": ("{0} + 1", STORE, "model.safetensors"),
    "optimizer_state.checkpoint_id": ("gen_random_uuid()", STORE, "table optimizer_state"),
    "optimizer_state.parameter_name": ("{0} || 'x'", STORE, "optimizer.safetensors"),
    "optimizer_state.state_name": ("{0} || 'x'", STORE, "optimizer.safetensors"),
    "optimizer_state.tensor_id": ("(SELECT max(o.tensor_id::text)::uuid FROM store.tensor_metadata o WHERE o.tensor_id <> optimizer_state.tensor_id)", STORE, "optimizer.safetensors"),
    "optimizer_state.file_name": ("'other'", STORE, "table optimizer_state"),
    "optimizer_state.file_offset": ("{0} + 1", STORE, "optimizer.safetensors"),
    "gradient_checkpoints.session_id": ("gen_random_uuid()", STORE, "table gradient_checkpoints"),
    "atoms.h_xy": ("{0} # 1", ATOMS, ""),
    "atoms.h_yz": ("{0} # 1", ATOMS, ""),
    "atoms.h_zm": ("{0} # 1", ATOMS, ""),
    "atoms.value": ("set_byte({0}, 0, get_byte({0}, 0) # 1)", ATOMS, "value does not match"),
    "atoms.modality": "a CHECK ties it to the key",
    "atoms.probe": ("{0} + 1", ATOMS, "place is not that of the hash"),
    "atoms.is_public": ("NOT {0}", ATOMS, "public"),
    "atoms.content_hash": (FLIP, ATOMS, "hash"),
    "atoms.ref_count": ("0", ATOMS, "references"),
    "atoms.byte_length": ("{0} + 1", ATOMS, "bytes"),
    "atoms.line_ends": ("{0} + 1", ATOMS, "line ends"),
    "atoms.meta": USERS,
    "atoms.created_at": TIME,
    "atoms.created_by": ("'other'", ATOMS, "other roles"),
    "atoms.updated_at": TIME,
    "atoms.updated_by": TIME,
    "atoms.version": TIME,
    "atom_parts.parent_h_xy": ("{0} + 1", ATOMS, "parts"),
    "atom_parts.parent_h_yz": ("{0} + 1", ATOMS, "parts"),
    "atom_parts.parent_h_zm": ("{0} + 1", ATOMS, "parts"),
    "atom_parts.part_index": ("{0} + 1000", ATOMS, "parts, the last is number"),
    "atom_parts.h_xy": ("{0} + 1", ATOMS, "do not exist"),
    "atom_parts.h_yz": ("{0} + 1", ATOMS, "do not exist"),
    "atom_parts.h_zm": ("{0} + 1", ATOMS, "do not exist"),
    "atom_parts.is_public": ("NOT {0}", ATOMS, "other roles"),
    "atom_parts.created_by": ("'other'", ATOMS, "other roles"),
    "atom_chunks.h_xy": ("{0} + 1", ATOMS, "chunk of an atom that does not exist"),
    "atom_chunks.h_yz": ("{0} + 1", ATOMS, "chunk of an atom that does not exist"),
    "atom_chunks.h_zm": ("{0} + 1", ATOMS, "chunk of an atom that does not exist"),
    "atom_chunks.is_public": ("NOT {0}", ATOMS, "other roles"),
    "atom_chunks.created_by": ("'other'", ATOMS, "other roles"),
    "atom_chunks.chunk": ("(SELECT chunk FROM store.atom_chunks ORDER BY modelstore.raw_size(chunk) LIMIT 1)", ATOMS, "chunk"),
    "atom_meta_versions.h_xy": ("{0} + 1", ATOMS, "meta of an atom that does not exist"),
    "atom_meta_versions.h_yz": ("{0} + 1", ATOMS, "meta of an atom that does not exist"),
    "atom_meta_versions.h_zm": ("{0} + 1", ATOMS, "meta of an atom that does not exist"),
    "atom_meta_versions.created_by": ("'other'", ATOMS, "another role"),
    "atom_meta_versions.version": TIME,
    "atom_meta_versions.meta": USERS,
    "atom_meta_versions.updated_at": TIME,
    "atom_meta_versions.updated_by": TIME,
    "atom_salts.created_by": "test_atoms_verify.py: a role without its salt",
    "atom_salts.salt": "test_atoms_verify.py",
}
COLUMNS |= {f"tensor_data.{c}": ("coalesce({0}, 0) + 1", STORE, "{id}") for c in ("value_min", "value_max", "abs_max", "zero_count", "inf_count")}
COLUMNS |= {f"tensor_data.{c}": ("{0} * 1.0000001 + 1e-9", STORE, "{id}") for c in ("value_mean", "value_std")}
for table, why, columns in (
    ("training_sessions", RUN, "session_name status config total_steps loss_metric host error created_at created_by started_at ended_at"),
    ("training_metrics", RUN, "step epoch metric_name value recorded_at"),
    ("training_metrics", MARK, "may_be_lowest"),
    ("model_checkpoints", RUN, "step epoch sequence metrics rng_state param_groups metadata pinned created_at created_by"),
    ("gradient_checkpoints", "a plan, made again by set_gradient_checkpoints()", "layer_index policy segment kept_bytes recompute_flops"),
    ("ingestion_log", RUN, "ingestion_id modality source_uri batch_id meta large_object source_hash h_xy h_yz h_zm byte_length atoms_created atoms_updated atoms_skipped status error started_at ended_at created_by"),
):
    COLUMNS |= {f"{table}.{column}": why for column in columns.split()}

WHICH = {
    "tensor_chunks.delta_depth": "base_hash IS NULL",
    "tensor_chunks.base_hash": "base_hash IS NOT NULL",
    "tensor_chunks.chunk": "raw_bytes > 100000",
    "atoms.value": "octet_length(value) > 5",
    "atoms.created_by": "value IS NULL",
    "atoms.byte_length": "value IS NULL",
    "atoms.line_ends": "line_ends IS NOT NULL",
    "atoms.ref_count": "ref_count > 0 AND value IS NOT NULL",
    "atom_parts.part_index": "part_index = 0",
    "atom_chunks.chunk": "modelstore.raw_size(chunk) > 10000",
    "embeddings.kind": "kind = 'token'",
    "model_weights.layer_index": "layer_index IS NOT NULL",
    "model_weights.tensor_id": "weight_name LIKE '%query%'",
    "model_files.format": "format = 'safetensors'",
    "model_files.tensor_id": "format = 'file'",
    "model_files.header": "format = 'safetensors'",
}
"""Which row, where it matters."""

LAYER = "encoder.layer.0.attention.self."
WEIGHTS = {
    "embeddings.word_embeddings.weight": random_tensor(1, 600, 512),  # several chunks
    LAYER + "query.weight": random_tensor(2, 32, 32),
    LAYER + "key.weight": random_tensor(3, 32, 32),
    LAYER + "value.weight": np.full((32, 32), 2.5, "float32"),
    "encoder.layer.0.output.dense.weight": random_tensor(4, 32, 32),
}


def fill(db: psycopg.Connection) -> None:
    """A model with layers, heads and an embedding, one that is a difference to it, a run with checkpoints, atoms, an upload."""
    config = {"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 600}
    data = safetensors_bytes(WEIGHTS)
    sql = "SELECT model_id FROM modelstore.import_safetensors(%s, '1', %b::bytea, config => %s, parent => %s)"
    (model,) = db.execute(sql, ("m", data, json.dumps(config), None)).fetchone()
    near = {name: weight.copy() for name, weight in WEIGHTS.items()}
    near["embeddings.word_embeddings.weight"].view("uint32")[:] ^= 1
    db.execute(sql, ("near", safetensors_bytes(near), json.dumps(config), model))
    db.execute("SELECT modelstore.set_alias('m:1', 'best')")
    db.execute("SELECT modelstore.add_file(%s, 'notes.txt', 'some text'::bytea)", (model,))
    db.execute("SELECT modelstore.append_upload(modelstore.begin_upload(), %b)", (data[:-1],))
    (run,) = db.execute("SELECT modelstore.start_training(%s)", (model,)).fetchone()
    db.execute("""SELECT modelstore.log_metrics(%s, 1, '{"loss": 1}')""", (run,))
    state = safetensors_bytes({f"{name}.exp_avg": weight for name, weight in list(WEIGHTS.items())[1:3]})
    for step in (1, 2):
        db.execute("SELECT modelstore.create_checkpoint(%s, session_id => %s, step => %s, epoch => 0.5, weights => %b::bytea, optimizer => %b::bytea)", (model, run, step, data, state))
    db.execute("INSERT INTO store.gradient_checkpoints VALUES (%s, 0, 'store', 0, 1, 1)", (run,))
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    # A long line begins a leaf and ends one: the line before it is a leaf in its row.
    text = ingest(db, f"one line of text\n{'x' * 9000}\nand one more\n", "text")
    assert text.status == "completed"
    for meta in ("[1]", "[2]"):
        db.execute("SELECT modelstore.set_atom_meta((%s, %s, %s), %s)", (text.h_xy, text.h_yz, text.h_zm, meta))
    assert ingest(db, random.Random(1).randbytes(100_000)).status == "completed"


@pytest.fixture(scope="module")
def filled(server, template):
    """One store for all of them: each undoes what it does."""
    from databases import create_database

    create_database(server, "every_column", template)
    with server.connect("every_column", autocommit=True) as db:
        fill(db)
        yield db
    with server.connect(autocommit=True) as c:
        c.execute("DROP DATABASE every_column WITH (FORCE)")


def verify(db: psycopg.Connection, by: str) -> list[str]:
    """The problems that one of them, or all models' and all checkpoints', finds."""
    sql = {
        STORE: "SELECT v::text FROM modelstore.verify_store() v",
        ATOMS: "SELECT v::text FROM modelstore.verify_atoms() v",
        MODEL: "SELECT v::text FROM store.models m, modelstore.verify_model(m.model_id) v",
        CHECKPOINT: "SELECT v::text FROM store.model_checkpoints c, modelstore.verify_checkpoint(c.checkpoint_id) v",
    }[by]
    return [problem for (problem,) in db.execute(sql)]


def test_nothing_is_wrong(filled) -> None:
    for by in (STORE, MODEL, CHECKPOINT, ATOMS):
        assert verify(filled, by) == [], by


def test_no_column_is_left_out(filled) -> None:
    there = filled.execute("""
        SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'store'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND a.attnum > 0 AND NOT a.attisdropped""").fetchall()
    assert {column for (column,) in there} - COLUMNS.keys() == set(), "say who finds damage in it, or why nobody does"


@pytest.mark.parametrize("column", [column for column, what in COLUMNS.items() if not isinstance(what, str)])
def test_damage_in_one_value_is_found(column: str, filled) -> None:
    value, by, named = COLUMNS[column]
    table, name = column.split(".")
    checks = "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'"
    with filled.transaction(force_rollback=True):
        filled.execute("SET LOCAL session_replication_role = replica")
        for (check,) in filled.execute(checks, (f"store.{table}",)).fetchall():
            filled.execute(f'ALTER TABLE store.{table} DROP CONSTRAINT "{check}"')
        key = "tensor_id" if table.startswith("tensor_") and table != "tensor_chunks" else "NULL"
        condition = WHICH.get(column, "true")
        if table == "atoms":  # its expression refuses what is no key
            filled.execute("DROP INDEX store.atoms_place_idx")
        changed = filled.execute(
            f"""WITH one AS (SELECT ctid AS row, tableoid AS part, {key}::text AS id FROM store.{table} WHERE {condition} ORDER BY {table}::text LIMIT 1)
                UPDATE store.{table} SET {name} = {value.format(name)} FROM one WHERE {table}.ctid = one.row AND {table}.tableoid = one.part
                RETURNING one.id"""
        ).fetchall()
        assert len(changed) == 1
        problems = verify(filled, by)
        assert any(named.format(id=changed[0][0]) in problem for problem in problems), problems


@pytest.mark.parametrize("by", [MODEL, CHECKPOINT])
def test_a_zone_map_is_compared_by_whoever_reads_the_chunks(by: str, filled) -> None:
    with filled.transaction(force_rollback=True):
        sql = "UPDATE store.tensor_data SET nan_count = nan_count + 1 WHERE tensor_id = ANY (SELECT tensor_id FROM store.{}) RETURNING tensor_id::text"
        changed = filled.execute(sql.format("model_weights" if by == MODEL else "checkpoint_weights")).fetchall()
        problems = verify(filled, by)
        assert all(any(tensor in problem and "nan_count" in problem for problem in problems) for (tensor,) in changed)


def test_a_chunk_that_only_differences_use(db) -> None:
    """No tensor has it any more, and every difference to it is lost with it."""
    fill(db)
    sql = """SELECT c.chunk_hash FROM store.tensor_chunks c JOIN store.tensor_chunks d ON d.base_hash = c.chunk_hash LIMIT 1"""
    (base,) = db.execute(sql).fetchone()
    db.execute("SET session_replication_role = replica")
    db.execute("DELETE FROM store.tensor_data WHERE chunk_hash = %s", (base,))
    db.execute("UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks ORDER BY raw_bytes LIMIT 1) WHERE chunk_hash = %s", (base,))
    found = db.execute("SELECT object, chunk_hash FROM modelstore.verify_store()").fetchall()
    assert ("(no tensor)", base) in found


def test_the_third_chunk_of_a_stream(db) -> None:
    """Each chunk by its place, and the tensor it is of."""
    names = [f"w{n}" for n in range(3)]
    data = safetensors_bytes({name: random_tensor(50 + n, 1200, 512) for n, name in enumerate(names)})
    (model, *_) = db.execute("SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,)).fetchone()
    (tensor, third) = db.execute("""
        SELECT d.tensor_id, d.chunk_hash FROM store.model_weights JOIN store.tensor_data d USING (tensor_id)
        WHERE weight_name = 'w1' AND chunk_index = 2""").fetchone()
    db.execute("UPDATE store.tensor_chunks c SET chunk = o.chunk FROM store.tensor_chunks o WHERE c.chunk_hash = %s AND o.chunk_hash <> c.chunk_hash AND o.raw_bytes = c.raw_bytes", (third,))
    of_model = db.execute("SELECT object, tensor_id, chunk_hash FROM modelstore.verify_model(%s)", (model,)).fetchall()
    assert of_model == [("w1", tensor, third)]
    of_store = db.execute("SELECT object, tensor_id, chunk_hash FROM modelstore.verify_store()").fetchall()
    assert (str(tensor), tensor, third) in of_store and {c for *_, c in of_store} == {third}


def test_an_index_of_shards(db) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": {f"w{n}": random_tensor(n, 4, 4)} for n in (1, 2)}
    index = {"metadata": {}, "weight_map": {weight: file for file, weights in shards.items() for weight in weights}}
    (model,) = db.execute("SELECT modelstore.register_model('m', '1')").fetchone()
    for file, weights in shards.items():
        db.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, file, safetensors_bytes(weights)))
    db.execute("SELECT modelstore.add_file(%s, 'model.safetensors.index.json', %b::bytea)", (model, json.dumps(index).encode()))
    for column, value in (("header", "header || ' '"), ("sha256", FLIP), ("blake3", FLIP), ("manifest_hash", FLIP), ("file_bytes", "{0} + 1")):
        with db.transaction(force_rollback=True):
            db.execute(f"UPDATE store.model_files SET {column} = {value.format(column)} WHERE format = 'safetensors_index'")
            for by in (STORE, MODEL):
                assert any("model.safetensors.index.json" in problem for problem in verify(db, by)), (column, by)
    assert verify(db, STORE) == verify(db, MODEL) == []
