"""The registry: deleting, renaming and archiving models, concurrent sessions, and limits on names."""

from __future__ import annotations

import json
import uuid

import models
import numpy as np
import psycopg
import pytest
from checkpoints import checkpoint, file_of_weights, register, start
from harness import wait_until
from observe import aside, is_blocked, problems, row_counts
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from transfer import Connection, export_model, import_model, refusal

pytestmark = pytest.mark.any_server

WEIGHTS = {"w": models.random_tensor(1, 20, 30), "b": models.random_tensor(2, 30)}
DATA = models.safetensors_bytes(WEIGHTS)


def find(db: Connection, name: str, *version: str | None) -> uuid.UUID:
    return db.execute(f"SELECT modelstore.find_model(%s{', %s' * len(version)})", (name, *version)).fetchone()[0]


def delete(db: Connection, model: uuid.UUID, **options: bool) -> dict:
    """Deletes a model; the counts that are not zero."""
    named = "".join(f", {name} => {value}" for name, value in options.items())
    with db.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(f"SELECT * FROM modelstore.delete_model(%s{named})", (model,)).fetchone()
    return {name: count for name, count in row.items() if count}


# Deleting


def test_a_model_of_weights_and_files_is_deleted_at_once(db) -> None:
    model = import_model(db, DATA).model_id
    assert delete(db, model) == {"weights": 2, "files": 1}
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db) == {}
    bare = register(db)
    assert delete(db, bare) == {}
    diag = refusal(db, "SELECT modelstore.delete_model(%s)", bare)
    assert (diag.sqlstate, diag.message_primary) == ("42704", f"model {bare} does not exist")


def trained(db: Connection) -> tuple[uuid.UUID, uuid.UUID]:
    """A model with a run, metrics, checkpoints, one of them pinned, aliases and a child; returns both."""
    model = import_model(db, DATA, config={"note": 1}).model_id
    session = start(db, model)
    db.execute("SELECT modelstore.log_metrics(%s, 1, '{\"loss\": 1, \"lr\": 2}')", (session,))
    pinned = checkpoint(db, model, file_of_weights(WEIGHTS), step=1, session=session).checkpoint_id
    checkpoint(db, model, file_of_weights({**WEIGHTS, "b": WEIGHTS["b"] + 1}), step=2)
    db.execute("UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = %s", (pinned,))
    for alias in ("staging", "production"):
        db.execute("SELECT modelstore.set_alias('model:1', %s)", (alias,))
    child = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (pinned,)).fetchone()[0]
    return model, child


def test_deleting_a_model_that_was_trained_is_refused_and_says_what_would_go(db) -> None:
    model, child = trained(db)
    before = row_counts(db)
    diag = refusal(db, "SELECT * FROM modelstore.delete_model(%s)", model)
    assert diag.sqlstate == "2BP01"
    assert diag.message_primary == 'cannot delete model "model" version "1" because other data depends on it'
    assert diag.message_detail == (
        "It has models that lose their parent: 1; runs: 1; metrics: 2; checkpoints: 2; pinned checkpoints: 1; "
        'aliases: "production", "staging".'
    )
    assert row_counts(db) == before
    # The HINT is the statement that does it.
    with db.cursor(row_factory=dict_row) as cursor:
        gone = cursor.execute(diag.message_hint.encode()).fetchone()
    assert gone == {"weights": 2, "files": 1, "runs": 1, "metrics": 2, "checkpoints": 2, "aliases": 2, "orphans": 1}
    left = db.execute("SELECT model_id, parent_model_id FROM store.models").fetchall()
    assert left == [(child, None)]
    db.execute("SELECT modelstore.gc()")
    assert export_model(db, child, "model.safetensors") == file_of_weights(WEIGHTS)
    assert problems(db) == []
    assert delete(db, child) == {"weights": 2, "files": 1}
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db) == {}


def only_a_run(db: Connection, model: uuid.UUID) -> str:
    start(db, model)
    return "runs"


def only_a_checkpoint(db: Connection, model: uuid.UUID) -> str:
    checkpoint(db, model, file_of_weights(WEIGHTS))
    return "checkpoints"


def only_an_alias(db: Connection, model: uuid.UUID) -> str:
    db.execute("SELECT modelstore.set_alias('model:1', 'production')")
    return "aliases"


def only_a_child(db: Connection, model: uuid.UUID) -> str:
    db.execute("SELECT modelstore.register_model('child', '1', %s)", (model,))
    return "orphans"


@pytest.mark.parametrize("make", [only_a_run, only_a_checkpoint, only_an_alias, only_a_child])
def test_each_kind_alone_is_reason_enough(make, db) -> None:
    model = register(db)
    kind = make(db, model)
    assert refusal(db, "SELECT modelstore.delete_model(%s)", model).sqlstate == "2BP01"
    assert refusal(db, "SELECT modelstore.delete_model(%s, cascade => false)", model).sqlstate == "2BP01"
    assert delete(db, model, cascade=True) == {kind: 1}


def test_many_aliases_are_counted_and_not_all_named(db) -> None:
    register(db)
    for i in range(13):
        db.execute("SELECT modelstore.set_alias('model:1', %s)", (f"alias-{i:02}",))
    diag = refusal(db, "SELECT modelstore.delete_model(modelstore.find_model('model'))")
    assert diag.message_detail.endswith('"alias-08", "alias-09" and 3 more.')


def test_a_run_that_starts_at_the_same_time_is_not_lost(db, connect) -> None:
    """Who deletes waits for the run's transaction, and sees it then."""
    model, trainer, remover = register(db), connect(autocommit=False), connect()
    start(trainer, model)
    removing = aside(remover, "SELECT modelstore.delete_model(%s)", (model,))
    wait_until(lambda: is_blocked(db, remover.info.backend_pid), "the deletion waits", 10)
    trainer.commit()
    error = removing.join().error
    assert isinstance(error, psycopg.errors.DependentObjectsStillExist), error
    assert db.execute("SELECT count(*) FROM store.training_sessions").fetchone() == (1,)


FEW_ROWS = {
    # Two files of a checkpoint, three embeddings of a model: the primary key, which begins with these, is enough.
    ("whole.checkpoint_weights", "file_name"),
    ("whole.optimizer_state", "file_name"),
    ("whole.embeddings", "weight_name"),
    # A few files a model, in short rows.
    ("whole.model_files", "tensor_id"),
    # Few in the whole store, and read once per deleted model or checkpoint.
    ("whole.model_aliases", "model_id"),
    ("whole.models", "parent_model_id"),
    ("whole.models", "restored_checkpoint_id"),
    ("whole.training_sessions", "resumed_from_checkpoint_id"),
}


def test_every_foreign_key_of_a_store_has_an_index(db) -> None:
    """Without one, a delete reads the whole table once a row. Partial where the key is not NULL is enough."""
    db.execute("SELECT modelstore.create_store('whole', ARRAY['all'])")
    rows = db.execute("""
        SELECT c.conrelid::regclass::text, c.conname, array_agg(a.attname::text ORDER BY k.n)
        FROM pg_constraint c, unnest(c.conkey) WITH ORDINALITY AS k(attnum, n), pg_attribute a
        WHERE c.contype = 'f' AND c.connamespace = 'whole'::regnamespace AND c.conparentid = 0
          AND a.attrelid = c.conrelid AND a.attnum = k.attnum
        GROUP BY 1, 2 ORDER BY 1, 2
    """).fetchall()
    assert len(rows) > 20
    without = []
    for table, name, columns in rows:
        indexes = db.execute(
            """
            SELECT (SELECT array_agg(a.attname::text) FROM unnest(i.indkey[0:%s]) AS k(attnum)
                    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum),
                   coalesce(pg_get_expr(i.indpred, i.indrelid), '')
            FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisvalid
            """,
            (len(columns) - 1, table),
        ).fetchall()
        allowed = {"", *(f"({column} IS NOT NULL)" for column in columns)}
        if not any(set(leading or []) == set(columns) and predicate in allowed for leading, predicate in indexes):
            without.append((table, name, columns))
    assert {(table, columns[-1]) for table, _, columns in without} == FEW_ROWS, without


# Renaming, archiving, metadata


def test_renaming_takes_all_versions_and_aliases_along(db) -> None:
    first, second = register(db), register(db, version="2")
    other = register(db, "other")
    db.execute("SELECT modelstore.set_alias('model:1', 'production')")
    assert db.execute("SELECT modelstore.rename_model('model', 'better')").fetchone() == (2,)
    assert [find(db, "better", v) for v in ("1", "2", "production")] == [first, second, first]
    assert refusal(db, "SELECT modelstore.find_model('model')").sqlstate == "42704"
    assert db.execute("SELECT model_name FROM store.model_aliases").fetchall() == [("better",)]
    db.execute("SELECT modelstore.register_model('better', '3'), modelstore.set_alias('better:2', 'production')")
    assert find(db, "other") == other


def test_renaming_refuses_a_name_that_is_taken(db) -> None:
    register(db)
    register(db, "other", "2")
    for new, state in [("other", "23505"), ("", "22023"), ("a\nb", "42602"), ("x" * 1025, "42622"), (None, "22004")]:
        assert refusal(db, "SELECT modelstore.rename_model('model', %s)", new).sqlstate == state, new
    assert refusal(db, "SELECT modelstore.rename_model('nobody', 'x')").sqlstate == "42704"
    assert db.execute(refusal(db, "SELECT modelstore.rename_model('model', 'other')").message_hint.encode()).fetchall()
    assert db.execute("SELECT modelstore.rename_model('model', 'model')").fetchone() == (1,)
    assert db.execute("SELECT model_name FROM store.models ORDER BY 1").fetchall() == [("model",), ("other",)]


def test_metadata_is_replaced(db) -> None:
    model = register(db)
    for value in ({"license": "MIT", "n": 1.5}, [1], None):
        given = Jsonb(value) if value is not None else None
        assert db.execute("SELECT modelstore.set_model_metadata(%s, %s)", (model, given)).fetchone() == (model,)
        assert db.execute("SELECT metadata FROM store.models").fetchone() == (value,)
    exact = "123456789012345678901234567890.10"
    db.execute("SELECT modelstore.set_model_metadata(%s, %s)", (model, f'{{"n": {exact}}}'))
    assert db.execute("SELECT metadata ->> 'n' FROM store.models").fetchone() == (exact,)
    assert refusal(db, "SELECT modelstore.set_model_metadata(%s, '{}')", uuid.uuid4()).sqlstate == "42704"


def test_an_archived_version_is_not_the_latest(db) -> None:
    first, second = import_model(db, DATA).model_id, register(db, version="2")
    archive = "SELECT modelstore.archive_model(%s)"
    assert db.execute(archive, (second,)).fetchone() == ("archived",)
    assert (find(db, "model"), find(db, "model", "2")) == (first, second)
    assert db.execute(archive, (first,)).fetchone() == ("archived",)
    diag = refusal(db, "SELECT modelstore.find_model('model')")
    assert (diag.sqlstate, diag.message_detail) == ("42704", "All its versions are archived: 2.")
    # An alias that says so comes first.
    db.execute("SELECT modelstore.set_alias('model:2', 'latest')")
    assert find(db, "model") == second
    db.execute("SELECT modelstore.delete_alias('model', 'latest')")
    back = "SELECT modelstore.archive_model(%s, false)"
    assert db.execute(back, (first,)).fetchone() == ("ready",)
    assert db.execute(back, (second,)).fetchone() == ("registered",)
    # A version that is ready comes before one that is not.
    assert find(db, "model") == first
    assert refusal(db, archive, uuid.uuid4()).sqlstate == "42704"


# Found or made


def test_find_or_register_makes_one_model_and_gives_it_again(db) -> None:
    query = "SELECT modelstore.find_or_register_model('model', '1', config => %s, derivation => %s)"
    made = db.execute(query, (Jsonb({"a": 1}), "first")).fetchone()[0]
    assert db.execute(query, (Jsonb({"a": 2}), "second")).fetchone() == (made,)
    assert db.execute("SELECT config, derivation FROM store.models").fetchall() == [({"a": 1}, "first")]
    assert refusal(db, "SELECT modelstore.find_or_register_model('model', '2', %s)", uuid.uuid4()).sqlstate == "42704"
    # An alias of that name is no version.
    db.execute("SELECT modelstore.set_alias('model:1', 'x')")
    assert db.execute("SELECT modelstore.find_or_register_model('model', 'x')").fetchone() != (made,)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_two_sessions_get_the_same_model(level: str, db, connect) -> None:
    """The one waits for the other, and then finds what that has made."""
    query = "SELECT modelstore.find_or_register_model('model', '1')"
    one, two = connect(autocommit=False), connect(autocommit=False)
    two.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    two.execute("SELECT count(*) FROM store.models")
    made = one.execute(query).fetchone()[0]
    asking = aside(two, query)
    wait_until(lambda: is_blocked(db, two.info.backend_pid), "the second waits", 10)
    one.commit()
    asked = asking.join()
    if level == "READ COMMITTED":
        assert asked.rows == [(made,)]
    else:
        # With a snapshot from before, only a new transaction can see it.
        assert isinstance(asked.error, psycopg.errors.SerializationFailure)


# Names


def long_name(size: int) -> str:
    """Letters that no compression makes much shorter."""
    return bytes(np.random.default_rng(size).integers(97, 123, size, dtype="uint8")).decode()


def calls_with_names(db: Connection) -> dict[str, tuple[str, tuple]]:
    """A call for each kind of name, with %(name)s in its place."""
    model = import_model(db, DATA, "named").model_id
    session = start(db, model)
    made = checkpoint(db, model, file_of_weights(WEIGHTS), session=session).checkpoint_id
    values = {"m": model, "s": session, "c": made, "d": models.safetensors_bytes({"x": WEIGHTS["b"]})}
    statements = {
        "model name": "register_model(%(name)s, '1')",
        "model name or make": "find_or_register_model(%(name)s, '1')",
        "model version": "register_model('x', %(name)s)",
        "imported model": "import_safetensors(%(name)s::text, '1'::text, %(d)b::bytea)",
        "restored version": "restore_checkpoint(%(c)s, NULL, %(name)s)",
        "renamed model": "rename_model('named', %(name)s)",
        "alias": "set_alias('named:1', %(name)s)",
        "file name": "add_file(%(m)s, %(name)s, %(d)b::bytea)",
        "session name": "start_training(%(m)s, session_name => %(name)s)",
        "loss metric": "start_training(%(m)s, loss_metric => %(name)s)",
        "metric": "log_metric(%(s)s, %(name)s, '{1}', '{1}')",
        "metrics": "log_metrics(%(s)s, 1, jsonb_build_object(%(name)s::text, 1))",
        "weight": "create_checkpoint_tensors(%(m)s, 1, ARRAY[%(name)s], ARRAY['[1]']::modelstore.tensor[], checks => '{}')",
        "parameter": "put_optimizer_state(%(c)s, %(name)s, 'm', '[1]')",
        "state": "put_optimizer_state(%(c)s, 'w', %(name)s, '[1]')",
        "source URI": "ingest('x'::bytea, source_uri => %(name)s)",
    }
    return {kind: (f"SELECT * FROM modelstore.{call}", values) for kind, call in statements.items()}


def test_names_of_every_kind_have_one_limit(db) -> None:
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    tables_before = row_counts(db)
    calls = calls_with_names(db)
    before = row_counts(db)
    for kind, (query, values) in calls.items():
        for size in (1025, 3000, 100_000):
            diag = refused(db, query, values | {"name": long_name(size)})
            assert diag.sqlstate == "42622", (kind, size, diag.message_primary)
            assert len(diag.message_primary) < 150, kind
    assert row_counts(db) == before != tables_before
    # The longest that is allowed fits into every index; a parameter and its state share it with a dot, and a file system
    # takes less.
    assert refused(db, calls["file name"][0], calls["file name"][1] | {"name": long_name(256)}).sqlstate == "42622"
    for kind, (query, values) in calls.items():
        name = long_name({"parameter": 1022, "state": 1022, "file name": 255}.get(kind, 1024))
        with db.transaction(force_rollback=True):
            db.execute(query, values | {"name": name}).fetchall()


def test_a_name_and_a_version_may_both_be_long(db) -> None:
    name, version, alias = long_name(1024), long_name(1023), long_name(1020) + "éé"
    db.execute("SELECT modelstore.register_model(%s, %s)", (name, version))
    made = db.execute("SELECT modelstore.set_alias(%s, %s)", (f"{name}:{version}", alias)).fetchone()[0]
    assert find(db, name, alias) == made


def test_control_characters_are_no_part_of_names_that_users_choose(db) -> None:
    calls = calls_with_names(db)
    from_files = {"file name", "weight", "parameter", "state", "source URI"}
    for kind in calls.keys() - from_files:
        query, values = calls[kind]
        for name in ("a\nb", "\x1b[31m", "tab\t", "\x7f"):
            diag = refused(db, query, values | {"name": name})
            assert diag.sqlstate == "42602", (kind, name)
            assert name not in diag.message_primary, kind
        assert refused(db, query, values | {"name": ""}).sqlstate == "22023", kind


def test_a_weight_keeps_whatever_name_its_file_has(db) -> None:
    data = models.safetensors_bytes({"a\nb": WEIGHTS["b"], "tab\t": WEIGHTS["w"]})
    model = import_model(db, data, "odd").model_id
    assert export_model(db, model) == data


def refused(db: Connection, query: str, values: dict) -> psycopg.errors.Diagnostic:
    try:
        with db.transaction():
            db.execute(query, values)
    except psycopg.Error as error:
        return error.diag
    raise AssertionError(f"no error: {query}")


# NULL


@pytest.mark.parametrize(
    ("call", "state"),
    [
        ("register_model(NULL, '1')", "22004"),
        ("find_or_register_model(NULL, '1')", "22004"),
        ("find_or_register_model('x', NULL)", "22004"),
        ("find_model(NULL)", "22004"),
        ("delete_model(NULL)", "22004"),
        ("delete_model(gen_random_uuid(), NULL)", "22004"),
        ("set_alias(NULL, 'a')", "22004"),
        ("set_alias((SELECT model_id FROM store.models), NULL)", "22004"),
        ("set_alias(NULL, 'a')", "22004"),
        ("delete_alias(NULL, 'a')", "22004"),
        ("delete_alias('model', NULL)", "22004"),
        ("rename_model(NULL, 'x')", "22004"),
        ("set_model_metadata(NULL, '{}')", "22004"),
        ("archive_model(NULL)", "22004"),
        ("archive_model(gen_random_uuid(), NULL)", "22004"),
    ],
)
def test_a_null_says_which_argument_it_is(call: str, state: str, db) -> None:
    diag = refusal(db, f"SELECT * FROM modelstore.{call}")
    assert diag.sqlstate == state
    assert diag.message_primary.startswith('argument "')


def test_a_null_for_a_default_means_the_default(db) -> None:
    model = register(db)
    assert find(db, "model", None) == model
    made = db.execute("SELECT modelstore.register_model('x', '1', NULL, NULL, NULL, NULL, NULL)").fetchone()[0]
    assert find(db, "x") == made


def test_a_loop_in_the_lineage_ends(db) -> None:
    ids = [register(db, version=str(i)) for i in range(3)]
    for child, parent in zip(ids, [*ids[1:], ids[0]], strict=True):
        db.execute("UPDATE store.models SET parent_model_id = %s WHERE model_id = %s", (parent, child))
    rows = db.execute("SELECT depth, model_id FROM modelstore.lineage(%s)", (ids[0],)).fetchall()
    assert rows == list(enumerate(ids))


def test_json_of_the_config_is_what_heads_are_counted_by(db) -> None:
    """Heads in a layer, as config.json says: not the product with the layers."""
    data = models.safetensors_bytes(models.tiny_llama())
    model = import_model(db, data, config=json.loads(json.dumps(models.LLAMA_CONFIG))).model_id
    row = db.execute("SELECT layers, attention_heads, kv_heads FROM store.v_model_architecture WHERE model_id = %s", (model,))
    assert row.fetchone() == (3, 4, 2)


def test_two_renames_do_not_make_one_model(db, connect) -> None:
    for name, version in (("a", "1"), ("b", "2")):
        db.execute("SELECT modelstore.register_model(%s, %s)", (name, version))
    first, second = connect(), connect()
    first.execute("BEGIN")
    first.execute("SELECT modelstore.rename_model('a', 'c')")
    running = aside(second, "SELECT modelstore.rename_model('b', 'c')")
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second rename waits")
    first.execute("COMMIT")
    running.join()
    assert running.error is not None and running.error.sqlstate == "23505"


@pytest.mark.any_server("superuser", "defaults")
def test_a_model_that_a_policy_hides_is_an_error(db, connect) -> None:
    db.execute("SELECT modelstore.register_model('m', '1')")
    db.execute("DROP ROLE IF EXISTS half_blind; CREATE ROLE half_blind LOGIN")
    db.execute("GRANT USAGE ON SCHEMA store TO half_blind; GRANT SELECT, INSERT ON store.models TO half_blind")
    db.execute("ALTER TABLE store.models ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON store.models USING (created_by = current_user)")
    try:
        c = connect(user="half_blind")
        c.execute("SET statement_timeout = '20s'")
        diag = refusal(c, "SELECT modelstore.find_or_register_model('m', '1')")
        assert diag.sqlstate == "55000"
        assert c.execute(diag.message_hint).fetchall() == [("p",)]
    finally:
        db.execute("DROP OWNED BY half_blind; DROP ROLE half_blind")


def test_runs_of_other_models_are_counted_before_a_delete(db) -> None:
    m, n = (db.execute("SELECT modelstore.register_model(%s, '1')", (name,)).fetchone()[0] for name in ("m", "n"))
    file = models.safetensors_bytes({"w": models.random_tensor(1, 4)})
    (checkpoint,) = db.execute("SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, 1, %b::bytea)", (m, file)).fetchone()
    db.execute("SELECT modelstore.start_training(%s, resume_from => %s)", (n, checkpoint))
    diag = refusal(db, "SELECT modelstore.delete_model(%s)", m)
    assert diag.sqlstate == "2BP01" and "runs of other models resumed from its checkpoints: 1" in diag.message_detail
