"""copy_model: from a store to another one, and within one."""

from __future__ import annotations

import threading
import uuid

import numpy as np
import psycopg
import pytest
from checkpoints import checkpoint, exported, file_of_weights, start
from folders import export, tiny_folder
from harness import wait_until
from models import MIB, random_tensor, safetensors_bytes
from observe import aside, is_blocked, problems
from tensors import pack
from transfer import export_model, import_model, refusal

WEIGHTS = {"a.weight": random_tensor(1, 600, 1000), "a.bias": random_tensor(2, 1000), "b": random_tensor(3, 40, 10)}
COPY = "SELECT modelstore.copy_model(%s, %s, new_name => %s, new_version => %s, with_checkpoints => %s)"


@pytest.fixture
def other(db) -> str:
    """A second store."""
    return db.execute("SELECT modelstore.create_store('other')").fetchone()[0]


def copy(db, model: object, to: str = "other", name: str | None = None, version: str | None = None, checkpoints: bool = False) -> uuid.UUID:
    return db.execute(COPY, (model, to, name, version, checkpoints)).fetchone()[0]


def use(db, store: str) -> None:
    db.execute("SELECT set_config('modelstore.store', %s, false)", (store,))


def chunks(db, store: str) -> set[bytes]:
    return {hash for (hash,) in db.execute(f"SELECT chunk_hash FROM {store}.tensor_chunks").fetchall()}


def test_a_folder_is_copied_byte_for_byte(db, other) -> None:
    files = tiny_folder()
    model = db.execute("SELECT modelstore.register_model('tiny', '1', metadata => '{\"digits\": 1.00000000000000000000001}')").fetchone()[0]
    for name, data in files.items():
        db.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, name, data))
    db.execute("SELECT modelstore.log_evaluation('tiny', 'glue', '{\"accuracy\": 0.9}'), modelstore.set_trainable('tiny', '%norm%', false)")
    db.execute("SELECT modelstore.put_gradient('tiny', 'model.norm.weight', %b::modelstore.tensor)", (pack(random_tensor(5, 32)),))
    new = copy(db, "tiny")
    tables = {
        "models": "model_name, version, architecture, config, metadata, evaluations, status, content_hash, hidden_size, vocab_size, attention_heads, kv_heads",
        "model_files": "file_name, format, header, file_bytes, sha256, blake3, manifest_hash",
        "transformer_layers": "layer_index, layer_name, layer_type, parameter_count, attention_heads, kv_heads, head_dim",
        "embeddings": "kind, weight_name, row_count, dim",
        "model_weights": "weight_name, layer_index, component, trainable, tied_to, gradient_tensor_id IS NULL, file_name, file_offset",
        "v_weight_statistics": "weight_name, dtype, shape, element_count, min, max, mean, std, l2, absmax, zeros, nans, infs",
        "attention_heads": "*",
    }
    for table, columns in tables.items():
        columns = "layer_index, head_index, kv_head_index, head_dim" if columns == "*" else columns
        here, there = (db.execute(f"SELECT {columns} FROM {store}.{table} WHERE model_id = %s ORDER BY 1, 2", (id,)).fetchall() for store, id in (("store", model), ("other", new)))
        assert here and here == there, table
    db.execute("SELECT modelstore.drop_store('store', cascade => true)")
    use(db, "other")
    assert {name: export(db, new, name) for name in files} == files
    assert db.execute("SELECT * FROM modelstore.verify_model('tiny')").fetchall() == []
    assert db.execute("SELECT modelstore.gc()").fetchone() is not None
    assert db.execute("SELECT count(*) FROM modelstore.verify_store()").fetchone() == (0,)
    (gradient,) = db.execute("SELECT gradient_tensor_id FROM other.model_weights WHERE gradient_tensor_id IS NOT NULL").fetchone()
    assert db.execute("SELECT modelstore.shape(modelstore.reconstruct_tensor(%s))", (gradient,)).fetchone() == ([32],)


def test_a_store_that_has_the_parent_gets_what_is_new(db, other) -> None:
    parent = import_model(db, safetensors_bytes(WEIGHTS), "m").model_id
    tuned = dict(WEIGHTS, b=WEIGHTS["b"] + 1)
    # A small change: its chunk is a delta of the parent's.
    tuned["a.weight"] = WEIGHTS["a.weight"].copy()
    tuned["a.weight"][0, :7] += 1
    child = import_model(db, safetensors_bytes(tuned), "m", "2", parent=parent).model_id
    db.execute("SELECT modelstore.set_alias('m:2', 'production')")
    copied = copy(db, parent)
    before = chunks(db, "other")
    new = copy(db, child)
    own = {h for (h,) in db.execute("SELECT chunk_hash FROM store.model_weights JOIN store.tensor_data USING (tensor_id) WHERE model_id = %s", (child,))}
    assert chunks(db, "other") - before == own - before != set()
    rows = "SELECT chunk_hash, raw_bytes, stored_bytes, base_hash, delta_depth FROM {}.tensor_chunks ORDER BY 1"
    assert db.execute(rows.format("other")).fetchall() == db.execute(rows.format("store")).fetchall()
    assert db.execute("SELECT max(delta_depth) FROM other.tensor_chunks").fetchone() == (1,)
    assert db.execute("SELECT parent_model_id, metadata FROM other.models WHERE model_id = %s", (new,)).fetchone() == (copied, None)
    assert db.execute("SELECT count(*) FROM other.model_aliases").fetchone() == (0,)
    # Without the parent, it stands alone and says where it comes from.
    db.execute("SELECT modelstore.create_store('third')")
    alone = copy(db, child, "third")
    assert db.execute("SELECT max(delta_depth) FROM third.tensor_chunks").fetchone() == (0,)
    assert chunks(db, "third") == own
    (hash,) = db.execute("SELECT encode(content_hash, 'hex') FROM store.models WHERE model_id = %s", (parent,)).fetchone()
    lineage = [{"name": "m", "version": "1", "content_hash": hash, "derivation": None}]
    assert db.execute("SELECT parent_model_id, metadata FROM third.models WHERE model_id = %s", (alone,)).fetchone() == (None, {"lineage": lineage})
    for store, id in (("other", new), ("third", alone)):
        use(db, store)
        assert export_model(db, id) == safetensors_bytes(tuned)
        assert problems(db) == []


def test_within_a_store(db, other) -> None:
    parent = import_model(db, safetensors_bytes(WEIGHTS), "m").model_id
    child = import_model(db, safetensors_bytes(dict(WEIGHTS, b=WEIGHTS["b"] + 1)), "m", "2", parent=parent).model_id
    before = chunks(db, "store")
    new = copy(db, child, "store", "n")
    assert chunks(db, "store") == before
    assert db.execute("SELECT model_name, version, parent_model_id FROM store.models WHERE model_id = %s", (new,)).fetchone() == ("n", "2", parent)
    assert export_model(db, new) == export_model(db, child)
    assert copy(db, child, "store", version="3") != child
    for arguments, sqlstate in {
        (child, "store", None, None, False): "23505",
        (new, "store", "m", None, False): "23505",
        (child, "nowhere", None, None, False): "3F000",
        (child, "public", None, None, False): "3F000",
        (uuid.uuid4(), "other", None, None, False): "42704",
        (child, "other", "a:b", None, False): "42602",
        (child, "other", "", None, False): "22023",
        (None, "other", None, None, False): "22004",
        (child, None, None, None, False): "22004",
        (child, "other", None, None, None): "22004",
    }.items():
        assert refusal(db, COPY, *arguments).sqlstate == sqlstate, arguments
    diag = refusal(db, COPY, child, "store", None, None, False)
    assert 'FROM store.models' in diag.message_hint
    assert db.execute(diag.message_hint).fetchall()
    assert db.execute("SELECT count(*) FROM other.models").fetchone() == (0,)
    assert chunks(db, "other") == set()


def test_a_draft_and_a_model_without_weights(db, other) -> None:
    db.execute("SELECT modelstore.register_model('bare', '1', architecture => 'own'), modelstore.register_model('draft', '1')")
    db.execute("SELECT modelstore.put_tensor('draft', 'w', '[1,2,3]')")
    copy(db, "bare"), copy(db, "draft")
    use(db, "other")
    assert db.execute("SELECT architecture, status FROM other.models WHERE model_name = 'bare'").fetchone() == ("own", "registered")
    assert db.execute("SELECT weights FROM modelstore.finish_model('draft')").fetchone() == (1,)
    assert problems(db) == []


def test_training_is_copied(db, other) -> None:
    weights = {"w": random_tensor(1, 300, 1000), "v": random_tensor(2, 8)}
    model = import_model(db, safetensors_bytes(weights), "m").model_id
    run = start(db, model, "first", total_steps=10, config={"lr": 0.1})
    db.execute("SELECT modelstore.log_metrics(%s, 1, '{\"loss\": \"NaN\", \"lr\": 0.1}', epoch => 0.5), modelstore.log_metrics(%s, 2, '{\"loss\": 1e-300}')", (run, run))
    made = []
    for step in range(6):
        weights["w"] = weights["w"].copy()
        weights["w"][step] += 1
        state = {f"w.{name}": random_tensor(step, 300, 1000) for name in ("exp_avg",)} | {"0.step": np.array([step], "float32")}
        made.append(checkpoint(db, model, file_of_weights(weights), step, run, optimizer=file_of_weights(state), metrics={"loss": 1.5}, rng_state=b"\0\xff", param_groups={"lr": 0.1}).checkpoint_id)
    db.execute("SELECT modelstore.put_optimizer_state(%s, 'w', 'extra', '[1,2]')", (made[0],))
    db.execute("SELECT modelstore.finish_training(%s)", (run,))
    second = start(db, model, "second", resume_from=made[2])
    branch = checkpoint(db, model, file_of_weights(weights), 3, second).checkpoint_id
    db.execute("UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = %s", (made[1],))
    new = copy(db, "m", checkpoints=True)
    tables = {
        "training_sessions": ("session_name, status, config, total_steps, loss_metric, host, error, created_at, started_at, ended_at", "model_id = %s"),
        "model_checkpoints": ("sequence, step, epoch, metrics, rng_state, param_groups, metadata, pinned, created_at, content_hash", "model_id = %s"),
        "v_training_progress": ("session_name, step, newest_loss, best_loss, best_step, last_checkpoint_step", "model_id = %s"),
        "training_metrics": ("step, epoch, metric_name, value::text, recorded_at", "session_id IN (SELECT session_id FROM {}.training_sessions WHERE model_id = %s)"),
        "checkpoint_files": ("file_name, header, file_bytes, sha256, blake3, manifest_hash", "checkpoint_id IN (SELECT checkpoint_id FROM {}.model_checkpoints WHERE model_id = %s)"),
    }
    for table, (columns, where) in tables.items():
        here, there = (db.execute(f"SELECT {columns} FROM {store}.{table} WHERE {where.format(store)} ORDER BY 1, 2, 3", (id,)).fetchall() for store, id in (("store", model), ("other", new)))
        assert here and here == there, table
    parents = "SELECT k.sequence, p.sequence, s.session_name FROM {0}.model_checkpoints k LEFT JOIN {0}.model_checkpoints p ON p.checkpoint_id = k.parent_checkpoint_id LEFT JOIN {0}.training_sessions s ON s.session_id = k.session_id ORDER BY 1"
    assert db.execute(parents.format("store")).fetchall() == db.execute(parents.format("other")).fetchall()
    resumed = "SELECT k.step FROM {0}.training_sessions s JOIN {0}.model_checkpoints k ON k.checkpoint_id = s.resumed_from_checkpoint_id"
    assert db.execute(resumed.format("other")).fetchall() == [(2,)]
    # Nothing was encoded anew: the differences stay differences.
    rows = "SELECT chunk_hash, stored_bytes, base_hash, delta_depth FROM {}.tensor_chunks ORDER BY 1"
    assert db.execute(rows.format("other")).fetchall() == db.execute(rows.format("store")).fetchall()
    assert db.execute("SELECT max(delta_depth) FROM other.tensor_chunks").fetchone()[0] > 1
    files = {(k, f): exported(db, id, f) for k, id in enumerate(made) for f in ("model.safetensors", "optimizer.safetensors")}
    assert branch
    db.execute("SELECT modelstore.drop_store('store', cascade => true)")
    use(db, "other")
    copies = [id for (id,) in db.execute("SELECT checkpoint_id FROM other.model_checkpoints ORDER BY sequence")]
    for (k, name), data in files.items():
        assert exported(db, copies[k], name) == data
    assert db.execute("SELECT modelstore.get_optimizer_state(%s, 'w', 'extra')::text", (copies[0],)).fetchone() == ("f32:[1,2]",)
    assert problems(db) == []
    # A copy within the store, and one more run with a checkpoint.
    again = copy(db, "m", "other", version="2", checkpoints=True)
    run = start(db, again, "third")
    assert checkpoint(db, again, file_of_weights(weights), 9, run).new_chunks == 0
    assert problems(db) == []


def test_rights(db, other, connect) -> None:
    """To read the one store and to write to the other, and nothing else."""
    import_model(db, safetensors_bytes(WEIGHTS), "m")
    for name in ("reader", "writer", "both"):
        db.execute(f"CREATE ROLE copy_{name} LOGIN")
    try:
        for name in ("reader", "both"):
            db.execute(f"GRANT USAGE ON SCHEMA store TO copy_{name}; GRANT SELECT ON ALL TABLES IN SCHEMA store TO copy_{name}")
        for name in ("writer", "both"):
            db.execute(f"GRANT USAGE ON SCHEMA other TO copy_{name}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA other TO copy_{name}")
        (model,) = db.execute("SELECT 'm'::modelstore.regmodel").fetchone()
        for name in ("reader", "writer"):
            assert refusal(connect(user=f"copy_{name}"), COPY, model, "other", None, None, False).sqlstate == "42501", name
        assert chunks(db, "other") == set()
        user = connect(user="copy_both")
        new = copy(user, model)
        use(user, "other")
        assert export_model(user, new) == safetensors_bytes(WEIGHTS)
        # Code of the owner of either store does not run as somebody else.
        db.execute("CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$ran$$; END'")
        db.execute("CREATE ROLE copy_owner; GRANT ALL ON SCHEMA public TO copy_owner; ALTER FUNCTION spy() OWNER TO copy_owner")
        for store in ("store", "other"):
            db.execute(f"CREATE TRIGGER spy BEFORE INSERT ON {store}.models FOR EACH ROW EXECUTE FUNCTION spy()")
            user = connect(user="copy_both")
            diag = refusal(user, COPY, model, "other", "again", None, False)
            assert (diag.sqlstate, f'store "{store}"' in diag.message_primary) == ("42501", True), diag.message_primary
            db.execute(f"DROP TRIGGER spy ON {store}.models")
        assert copy(connect(user="copy_both"), model, "other", "again")
    finally:
        db.rollback()
        db.execute("DROP FUNCTION IF EXISTS spy()")
        for name in ("reader", "writer", "both", "owner"):
            db.execute(f"DO $$ BEGIN IF to_regrole('copy_{name}') IS NOT NULL THEN DROP OWNED BY copy_{name} CASCADE; DROP ROLE copy_{name}; END IF; END $$")


def test_damage(db, other) -> None:
    """What is wrong where it comes from goes nowhere; what is damaged where it goes is replaced."""
    model = import_model(db, safetensors_bytes(WEIGHTS), "m").model_id
    copy(db, model)
    spoil = "UPDATE {0}.tensor_chunks SET chunk = (SELECT chunk FROM {0}.tensor_chunks WHERE raw_bytes = 1600) WHERE raw_bytes = 4000"
    db.execute(spoil.format("other"))
    with psycopg.connect(db.info.dsn, autocommit=True) as c:
        notices = []
        c.add_notice_handler(lambda diag: notices.append(diag.message_primary))
        new = copy(c, model, version="2")
        assert len(notices) == 1 and "was damaged and has been replaced" in notices[0]
        use(c, "other")
        assert export_model(c, new) == safetensors_bytes(WEIGHTS)
        assert problems(c) == []
    db.execute(spoil.format("store"))
    db.execute("SELECT modelstore.create_store('third')")
    assert refusal(db, COPY, model, "third", None, None, False).sqlstate == "XX001"
    assert chunks(db, "third") == set()
    db.execute("INSERT INTO third.store_version VALUES (99, 'x')")
    assert refusal(db, COPY, model, "third", None, None, False).sqlstate == "0A000"
    db.execute("DELETE FROM third.store_version")
    diag = refusal(db, COPY, model, "third", None, None, False)
    assert (diag.sqlstate, diag.message_hint) == ("55000", "SELECT modelstore.upgrade_store('third');")


def test_collectors_of_both_stores(db, other, connect) -> None:
    """Models are deleted, and their chunks collected, in both stores while others are copied."""
    files = {n: safetensors_bytes({"shared": WEIGHTS["a.weight"], "own": random_tensor(10 + n, 30, 1000)}) for n in range(4)}
    stop, errors = threading.Event(), []

    def collect(store: str) -> None:
        try:
            c = connect()
            use(c, store)
            while not stop.is_set():
                c.execute("SELECT modelstore.gc()")
        except Exception as e:  # noqa: BLE001
            errors.append(e)

    def move(n: int) -> None:
        try:
            here, there = connect(), connect()
            use(there, "other")
            for round in range(6):
                name = f"m{n}.{round}"
                model = import_model(here, files[n], name).model_id
                with here.transaction():
                    # The source is deleted by another session once this statement has its snapshot, at the latest after it.
                    new = copy(here, model)
                here.execute("SELECT modelstore.delete_model(%s)", (model,))
                assert export_model(there, new) == files[n]
                assert there.execute("SELECT * FROM modelstore.verify_model(%s)", (new,)).fetchall() == []
                there.execute("SELECT modelstore.delete_model(%s)", (new,))
        except Exception as e:  # noqa: BLE001
            errors.append(e)

    collectors = [threading.Thread(target=collect, args=(store,)) for store in ("store", "other")]
    movers = [threading.Thread(target=move, args=(n,)) for n in files]
    for thread in collectors + movers:
        thread.start()
    for thread in movers:
        thread.join()
    stop.set()
    for thread in collectors:
        thread.join()
    assert errors == []
    for store in ("store", "other"):
        use(db, store)
        assert problems(db) == []


def test_copies_and_imports_of_one_model_at_once(db, other, connect) -> None:
    """Chunks are inserted in one order by all: nobody waits for one who waits."""
    data = safetensors_bytes({f"w{n}": random_tensor(n, 40, 1000) for n in range(60)})
    import_model(db, data, "m")
    gate = threading.Barrier(6)
    errors: list[Exception] = []

    def run(n: int) -> None:
        try:
            c = connect()
            gate.wait()
            if n % 2:
                copy(c, "m", name=f"copy{n}")
            else:
                use(c, "other")
                import_model(c, data, f"import{n}")
        except Exception as e:  # noqa: BLE001
            errors.append(e)

    for _ in range(3):
        threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert chunks(db, "other") == chunks(db, "store")
        assert db.execute("SELECT count(*), count(DISTINCT content_hash) FROM other.models").fetchone() == (6, 1)
        use(db, "other")
        assert problems(db) == []
        db.execute("SELECT modelstore.delete_model(model_id) FROM other.models")
        db.execute("SELECT modelstore.gc()")
        use(db, "store")
        assert chunks(db, "other") == set()


def test_the_source_is_dropped_by_another_session_meanwhile(db, other, connect) -> None:
    """The copy sees what its statement saw, although the rows are gone when it reads them."""
    model = import_model(db, safetensors_bytes(WEIGHTS), "m").model_id
    blocker, copier, killer = connect(autocommit=False), connect(), connect()
    # The copy waits for the same name and version.
    use(blocker, "other")
    blocker.execute("SELECT modelstore.register_model('m', '1')")
    waiting = aside(copier, COPY, (model, "other", None, None, False))
    wait_until(lambda: is_blocked(killer, copier.info.backend_pid), "the copy waits")
    killer.execute("SELECT modelstore.delete_model(%s)", (model,))
    killer.execute("SELECT modelstore.gc()")
    assert killer.execute("SELECT count(*) FROM store.tensor_chunks").fetchone() == (0,)
    blocker.rollback()
    assert waiting.join().error is None
    use(db, "other")
    assert export_model(db, "m") == safetensors_bytes(WEIGHTS)
    assert problems(db) == []


def test_cancel(db, other, connect) -> None:
    """A large copy is answered at once when it is cancelled, and leaves nothing."""
    rng = np.random.default_rng(1)
    model = import_model(db, safetensors_bytes({f"w{n}": rng.integers(0, 256, (2, MIB), dtype="uint8") for n in range(8)}), "m").model_id
    blocker, copier = connect(autocommit=False), connect()
    (hash,) = db.execute("SELECT max(chunk_hash) FROM store.tensor_chunks").fetchone()
    # In the middle of the inserts: another transaction has inserted the last chunk.
    blocker.execute("INSERT INTO other.tensor_chunks SELECT * FROM store.tensor_chunks WHERE chunk_hash = %s", (hash,))
    waiting = aside(copier, COPY, (model, "other", None, None, False))
    wait_until(lambda: is_blocked(db, copier.info.backend_pid), "the copy waits for the last chunk")
    db.execute("SELECT pg_cancel_backend(%s)", (copier.info.backend_pid,))
    error = waiting.join().error
    blocker.rollback()
    assert error.sqlstate == "57014"
    assert chunks(db, "other") == set()
    assert db.execute("SELECT count(*) FROM other.models").fetchone() == (0,)


def test_numbers_keep_their_digits(db, other) -> None:
    """Whatever a session wants to see of them."""
    model = import_model(db, safetensors_bytes(WEIGHTS), "m").model_id
    run = start(db, model)
    checkpoint(db, model, file_of_weights(WEIGHTS), 1, run, 0.1 + 0.2)
    db.execute("INSERT INTO store.gradient_checkpoints VALUES (%s, 0, 'store', 0, 10, 0.1::float8 + 0.2), (%s, 1, 'store', 0, 10, 'Infinity')", (run, run))
    db.execute("SET extra_float_digits = -10")
    copy(db, "m", checkpoints=True)
    db.execute("RESET extra_float_digits")
    for of in ("epoch FROM {}.model_checkpoints", "recompute_flops FROM {}.gradient_checkpoints ORDER BY layer_index"):
        here, there = (db.execute(f"SELECT {of.format(store)}").fetchall() for store in ("store", "other"))
        assert here == there and here[0] == (0.1 + 0.2,)
