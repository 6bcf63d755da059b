"""Models and checkpoints by name: regmodel and regcheckpoint."""

from __future__ import annotations

import uuid

import models
import psycopg
import pytest
from checkpoints import checkpoint, file_of_weights, register, start
from psycopg.types.json import Jsonb
from transfer import import_model, refusal

WEIGHTS = {"w": models.random_tensor(1, 20, 30), "b": models.random_tensor(2, 30)}
FILE = file_of_weights(WEIGHTS)
DATA = models.safetensors_bytes(WEIGHTS)


@pytest.fixture
def versions(db) -> dict[str, uuid.UUID]:
    """Two versions of a model, an archived third, an alias, and another model."""
    made = {version: register(db, "minilm", version) for version in ("1", "2.0", "3")}
    db.execute("SELECT modelstore.archive_model(%s)", (made["3"],))
    db.execute("SELECT modelstore.set_alias('minilm:1', 'production')")
    made["org/other name"] = register(db, "org/other name", "v 1")
    return made


def found(db: psycopg.Connection, text: object, type: str = "regmodel") -> uuid.UUID:
    return db.execute(f"SELECT %s::modelstore.{type}::uuid", (text,)).fetchone()[0]


def test_what_each_form_means(db, versions) -> None:
    for text, version in {
        "minilm": "2.0",
        "minilm:1": "1",
        "minilm:3": "3",
        "minilm@production": "1",
        "org/other name": "org/other name",
        "org/other name:v 1": "org/other name",
        str(versions["1"]): "1",
        str(versions["1"]).upper(): "1",
        f"{{{str(versions['1']).replace('-', '')}}}": "1",
    }.items():
        assert found(db, text) == versions[version], text
    # A key names a model that need not exist, and reads no table.
    nobody = uuid.uuid4()
    assert found(db, str(nobody)) == nobody
    db.execute("SET modelstore.store = 'nowhere'")
    assert found(db, str(nobody)) == nobody
    assert refusal(db, "SELECT 'minilm'::modelstore.regmodel").sqlstate == "3F000"


def test_every_kind_of_value_is_taken(db, versions) -> None:
    """Literals, unknown parameters, text, varchar and uuid; psycopg sends a str as unknown, JDBC as varchar."""
    key = versions["1"]
    label = "SELECT modelstore.model_label({})"
    for expression in ("'minilm:1'", f"'{key}'", f"'{key}'::uuid", "'minilm:1'::text", "'minilm:1'::varchar", "'minilm:1'::varchar(20)"):
        assert db.execute(label.format(expression)).fetchone() == ("minilm:1",), expression
    for value in (key, str(key), "minilm:1", "minilm@production"):
        for cast in ("", "::text", "::varchar"):
            if not (cast and isinstance(value, uuid.UUID)):
                assert db.execute(label.format("%s" + cast), (value,)).fetchone() == ("minilm:1",), (value, cast)
                assert db.execute(label.format("%b" + cast), (value,), binary=True).fetchone() == ("minilm:1",), (value, cast)
    assert db.execute("SELECT modelstore.model_label(model_name || ':' || version) FROM store.models WHERE version = '2.0'").fetchone() == ("minilm:2.0",)
    db.execute("PREPARE p AS SELECT modelstore.model_label($1)")
    assert db.execute("EXECUTE p('minilm:1')").fetchone() == ("minilm:1",)
    assert db.execute("SELECT modelstore.model_label(NULL)").fetchone() == (None,)
    # Compared with the column of keys, it uses the index: no function stands between.
    plan = db.execute("EXPLAIN SELECT * FROM store.models WHERE model_id = 'minilm:1'::modelstore.regmodel").fetchall()
    assert str(key) in str(plan)


def test_labels_are_read_back(db, versions) -> None:
    for key in versions.values():
        (label,) = db.execute("SELECT modelstore.model_label(%s)", (key,)).fetchone()
        assert found(db, label) == key
    assert refusal(db, "SELECT modelstore.model_label(%s)", uuid.uuid4()).sqlstate == "42704"


def test_what_does_not_exist(db, versions) -> None:
    """A name is told from a version and from an alias; what is similar is named, and the HINT runs."""
    for text, message, detail in (
        ("minlm", 'model "minlm" does not exist', 'Similar: "minilm".'),
        ("MiniLM:1", 'model "MiniLM" does not exist', 'Similar: "minilm".'),
        ("quite another", 'model "quite another" does not exist', 'Store "store" has none that is similar.'),
        ("minilm:2", 'model "minilm" has no version "2"', 'Similar: "1", "3".'),
        ("minilm@producton", 'model "minilm" has no alias "producton"', 'Similar: "production".'),
        ("org/other name@x", 'model "org/other name" has no alias "x"', 'Store "store" has none that is similar.'),
    ):
        diag = refusal(db, "SELECT %s::modelstore.regmodel", text)
        assert (diag.sqlstate, diag.message_primary) == ("42704", message)
        assert diag.message_detail == detail or text == "minilm:2" and diag.message_detail.startswith("Similar: ")
        db.execute(diag.message_hint)
    db.execute("SELECT modelstore.archive_model('minilm:1'), modelstore.archive_model('minilm:2.0')")
    diag = refusal(db, "SELECT 'minilm'::modelstore.regmodel")
    assert (diag.message_primary, diag.message_detail) == ('model "minilm" has no version that is not archived', "All its versions are archived: 3.")
    assert len(db.execute(diag.message_hint).fetchall()) == 3
    for text in ("", ":1", "minilm:", "minilm@", "minilm:1@production", "minilm#1"):
        diag = refusal(db, "SELECT %s::modelstore.regmodel", text)
        assert (diag.sqlstate, diag.message_detail[:15]) == ("42602", "Expected a UUID"), text


def test_names_that_references_need(db) -> None:
    key = register(db, "m", "1")
    of_names = ["register_model(%s, '1')", "find_or_register_model(%s, '1')", "rename_model('m', %s)", "import_safetensors(%s, '1', '\\x00')"]
    of_parts = ["register_model('x', %s)", "set_alias('m:1', %s)", "import_safetensors('x', %s, '\\x00')"]
    for name in ("a:b", "a@b", "a#b", ":", str(uuid.uuid4()), uuid.uuid4().hex):
        for statement in of_names + (of_parts if len(name) < 32 else []):
            diag = refusal(db, f"SELECT modelstore.{statement}", name)
            assert (diag.sqlstate, name in diag.message_primary) == ("42602", True), (name, statement)
    assert db.execute("SELECT array_agg(model_id) FROM store.models").fetchone() == ([key],)
    # A version or an alias may be one: it follows a name.
    version = uuid.uuid4().hex
    made = register(db, "run", version)
    assert found(db, f"run:{version}") == made


@pytest.mark.versioned
def test_soft_errors(db, versions) -> None:
    if db.info.server_version < 160000:
        pytest.skip("PostgreSQL 15 raises every error of an input function")
    valid = "SELECT pg_input_is_valid(%s, %s)"
    for text, is_valid in {"minilm": True, "nobody": False, "minilm:9": False, "a:b:c": False, str(uuid.uuid4()): True}.items():
        assert db.execute(valid, (text, "modelstore.regmodel")).fetchone() == (is_valid,)
    info = db.execute("SELECT message, sql_error_code FROM pg_input_error_info('minilm:9', 'modelstore.regmodel')").fetchone()
    assert info == ('model "minilm" has no version "9"', "42704")
    assert db.execute(valid, ("minilm:1#1", "modelstore.regcheckpoint")).fetchone() == (False,)


@pytest.mark.versioned
def test_values_outlive_names(db, versions, connect, new_database) -> None:
    """A literal in a view, a default, a function or a column is the key: renaming changes nothing, and a dump restores in any order."""
    db.execute("""
        CREATE VIEW public.label AS SELECT modelstore.model_label('minilm:1');
        CREATE TABLE public.pinned (model modelstore.regmodel DEFAULT 'minilm:1', checkpoint modelstore.regcheckpoint);
        INSERT INTO public.pinned DEFAULT VALUES;
        CREATE FUNCTION public.label() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT modelstore.model_label('minilm:1'); END;
    """)
    with db.cursor().copy("COPY public.pinned (model) FROM STDIN") as copy:
        copy.write_row(["minilm@production"])
    with db.cursor().copy("COPY public.pinned (model) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["uuid"])
        copy.write_row([versions["1"]])
    db.execute("SELECT modelstore.rename_model('minilm', 'renamed')")
    assert db.execute("SELECT * FROM public.label").fetchone() == ("renamed:1",)
    assert db.execute("SELECT public.label()").fetchone() == ("renamed:1",)
    assert db.execute("SELECT DISTINCT model::text FROM public.pinned").fetchall() == [(str(versions["1"]),)]
    assert db.execute("SELECT count(*) FROM public.pinned JOIN store.models ON model_id = model").fetchone() == (3,)
    assert "regmodel" in db.execute("SELECT pg_get_viewdef('public.label'::regclass)").fetchone()[0]


# Checkpoints


@pytest.fixture
def checkpoints(db) -> dict[str, uuid.UUID]:
    """A model with checkpoints of two runs; at step 20 each has one."""
    model = import_model(db, DATA, "m").model_id
    one, two = start(db, model, "one"), start(db, model, "two")
    made = {}
    for name, run, step, loss in (("10", one, 10, 2.0), ("20", one, 20, 1.0), ("also 20", two, 20, 0.5), ("30", two, 30, 0.75)):
        made[name] = checkpoint(db, model, FILE, step, run, metrics={"loss": loss}).checkpoint_id
    return made


def test_checkpoints_by_name(db, checkpoints) -> None:
    for text, name in {
        "m#10": "10", "m:1#30": "30", "m#latest": "30", "m:1#latest": "30", "m#best": "also 20", str(checkpoints["10"]): "10",
    }.items():  # fmt: skip
        assert found(db, text, "regcheckpoint") == checkpoints[name], text
        assert db.execute("SELECT modelstore.checkpoint_label(%s) LIKE 'm:1#%%'", (text,)).fetchone() == (True,)
    diag = refusal(db, "SELECT 'm#20'::modelstore.regcheckpoint")
    assert (diag.sqlstate, diag.message_primary) == ("42P08", 'model "m:1" has several checkpoints at step 20')
    assert diag.message_detail == f"They are {checkpoints['20']}, {checkpoints['also 20']}."
    assert {row[0] for row in db.execute(diag.message_hint)} == {checkpoints["20"], checkpoints["also 20"]}
    diag = refusal(db, "SELECT 'm#11'::modelstore.regcheckpoint")
    assert (diag.sqlstate, diag.message_primary) == ("42704", 'model "m:1" has no checkpoint at step 11')
    assert diag.message_detail == "Nearest steps: 10, 20, 30."
    assert len(db.execute(diag.message_hint).fetchall()) == 4
    for text, sqlstate in {"m": "42602", "m#": "42602", "m#-1": "42602", "m#last": "42602", "x#1": "42704", "m:2#1": "42704", "": "42602"}.items():
        assert refusal(db, "SELECT %s::modelstore.regcheckpoint", text).sqlstate == sqlstate, text
    bare = register(db, "bare")
    for text in ("bare#1", "bare#latest", "bare#best"):
        diag = refusal(db, "SELECT %s::modelstore.regcheckpoint", text)
        assert (diag.sqlstate, "bare:1" in diag.message_primary) == ("42704", True), text
    assert refusal(db, "SELECT modelstore.checkpoint_label(%s)", bare).sqlstate == "42704"


def test_calls_by_name(db, checkpoints) -> None:
    """The calls that a user writes first."""
    db.execute("SELECT modelstore.set_alias('m', 'production')")
    assert db.execute("SELECT modelstore.get_tensor('m@production', 'w') OPERATOR(modelstore.=) modelstore.get_checkpoint_tensor('m:1#latest', 'w')").fetchone() == (True,)
    assert db.execute("SELECT count(*) FROM modelstore.verify_model('m')").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM modelstore.diff_checkpoints('m#10', 'm#latest')").fetchone() == (2,)
    (child,) = db.execute("SELECT modelstore.restore_checkpoint('m#best', 'm', '2')").fetchone()
    assert found(db, "m:2") == child
    assert db.execute("SELECT modelstore.model_label(parent_model_id) FROM store.models WHERE model_id = 'm:2'::modelstore.regmodel").fetchone() == ("m:1",)
    assert refusal(db, "SELECT modelstore.get_checkpoint_tensor('m#10', 'nothing')").sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.get_checkpoint_tensor(%s, 'w')", child).sqlstate == "42704"


# Calls that no client finds ambiguous

# Not for calls by name: support of types, operators and triggers.
INTERNAL = "p.prorettype IN ('trigger'::regtype) OR 'internal'::regtype = ANY (p.proargtypes) OR 'cstring'::regtype IN (p.prorettype, coalesce(p.proargtypes[0], 0))"

FUNCTIONS = f"""
    SELECT p.oid::regprocedure::text, p.proname, p.proargtypes::oid[]::regtype[]::text[], p.pronargdefaults
    FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_modelstore'
    WHERE p.prokind = 'f' AND p.pronamespace = 'modelstore'::regnamespace AND NOT ({INTERNAL})
"""


@pytest.mark.versioned
def test_no_call_is_ambiguous(db) -> None:
    """Every function is found by parameters of no type (psycopg, asyncpg) and by those of the types that JDBC gives them."""
    functions = db.execute(FUNCTIONS).fetchall()
    assert len(functions) > 120
    jdbc = {"text": "varchar", "modelstore.regmodel": "varchar", "modelstore.regcheckpoint": "varchar", "bigint": "integer", "oid": "bigint", "real": "real"}
    typed = {"integer", "bigint", "double precision", "boolean", "bytea", "uuid", "text", "oid"}
    for signature, name, types, defaults in functions:
        for count in range(len(types) - defaults, len(types) + 1):
            call = f"SELECT modelstore.{psycopg.sql.Identifier(name).as_string(db)}({', '.join(f'${n + 1}' for n in range(count))})"
            db.execute(psycopg.sql.SQL(f"PREPARE p AS {call}"))  # type: ignore[arg-type]
            (resolved,) = db.execute("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'p'").fetchone()
            assert resolved == types[:count], signature
            db.execute("DEALLOCATE p")
            if count:
                given = [jdbc.get(kind, kind) if kind in typed or kind in jdbc else "unknown" for kind in types[:count]]
                db.execute(f"PREPARE p({', '.join(given)}) AS {call}")
                db.execute("DEALLOCATE p")


def test_json_and_numbers_as_psycopg_sends_them(db, checkpoints) -> None:
    """smallint, float and numeric from Python's numbers find the functions that take bigint and double precision."""
    run = start(db, found(db, "m"), "python")
    assert db.execute("SELECT modelstore.log_metrics(%s, %s, %s, %s)", (run, 1, Jsonb({"loss": 1}), 0.5)).fetchone() == (1,)
    assert db.execute("SELECT modelstore.create_checkpoint(%s, %s, %s)", ("m", 40, FILE)).fetchone() is not None
    assert found(db, "m#40", "regcheckpoint") == found(db, "m#latest", "regcheckpoint")


def test_a_draft_takes_the_place_of_no_model(db) -> None:
    ready = import_model(db, DATA, "m").model_id
    draft = register(db, "m", "2")
    assert found(db, "m") == ready == db.execute("SELECT modelstore.find_model('m')").fetchone()[0]
    assert found(db, "m:2") == draft
    db.execute("SELECT modelstore.archive_model('m:1')")
    assert found(db, "m") == draft == db.execute("SELECT modelstore.find_model('m')").fetchone()[0]


def test_the_latest_checkpoint_is_the_models_own(db, checkpoints) -> None:
    """get_latest_checkpoint says where to go on, which may be another model's; a name is of the model that it names."""
    db.execute("SELECT modelstore.restore_checkpoint('m:1#10', 'restored', '1')")
    assert db.execute("SELECT modelstore.get_latest_checkpoint('restored')").fetchone() == (checkpoints["10"],)
    for text in ("restored#latest", "restored#10", "restored#best"):
        assert refusal(db, "SELECT %s::modelstore.regcheckpoint", text).sqlstate == "42704", text


@pytest.mark.versioned
def test_a_missing_store_is_no_soft_error(db, versions) -> None:
    if db.info.server_version < 160000:
        pytest.skip("PostgreSQL 15 raises every error of an input function")
    db.execute("SET modelstore.store = 'nowhere'")
    assert refusal(db, "SELECT pg_input_is_valid('minilm', 'modelstore.regmodel')").sqlstate == "3F000"
