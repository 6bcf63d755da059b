"""Invalid arguments of any kind raise an SQLSTATE that describes the error, and the session continues. XX000 (internal error)
is never one of them."""

from __future__ import annotations

import os
import uuid

import psycopg
import pytest
from databases import create_database
from models import random_tensor, safetensors_bytes
from observe import aside, row_counts

NOBODY = "'00000000-0000-7000-8000-000000000000'"
FILE = {
    "embeddings.word_embeddings.weight": random_tensor(1, 40, 8),
    "encoder.layer.0.attention.self.query.weight": random_tensor(2, 8, 8),
}


@pytest.fixture(scope="module")
def careless(server, template):
    """A connection to a store with one small model, for tests that change nothing."""
    create_database(server, "careless", template)
    with server.connect("careless", autocommit=True) as c:
        c.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (safetensors_bytes(FILE),))
        yield c
    with server.connect(autocommit=True) as c:
        c.execute("DROP DATABASE careless WITH (FORCE)")


def sqlstate(c: psycopg.Connection, sql: str) -> str:
    """The SQLSTATE of a statement; 00000 when it is fine. Its message names something and is in PostgreSQL's style."""
    try:
        with c.transaction():
            c.execute(sql.encode())
    except psycopg.Error as e:
        message = e.diag.message_primary or ""
        assert not message.endswith("."), message
        assert message[:1].islower() or not message[:1].isalpha(), message
        for word in ("panicked", "unwrap", "Err(", "None", "src/"):
            assert word not in message, message
        if e.diag.message_hint and e.diag.message_hint.startswith("SELECT"):
            assert e.diag.message_hint.endswith(";")
        assert e.sqlstate is not None, "the connection is gone"
        return e.sqlstate
    return "00000"


M = "modelstore.find_model('m')"
W = "'embeddings.word_embeddings.weight'"

# Statement and SQLSTATE; the functions of schema modelstore.
CASES = [
    # NULL where something is needed
    ("register_model(NULL, '1')", "22004"),
    ("register_model('x', NULL)", "22004"),
    ("import_safetensors(NULL, '1', ''::bytea)", "22004"),
    ("import_safetensors('x', NULL, ''::bytea)", "22004"),
    ("import_safetensors('x', '1', NULL::bytea)", "22004"),
    ("import_safetensors_large_object('x', '1', NULL)", "22004"),
    ("import_safetensors_file(NULL, '1', '/x')", "22004"),
    ("import_safetensors_file('x', '1', NULL)", "22004"),
    ("export_safetensors(NULL)", "22004"),
    ("export_safetensors_large_object(NULL)", "22004"),
    ("export_safetensors_file(NULL, '/tmp/x')", "22004"),
    (f"export_safetensors_file({M}, NULL)", "22004"),
    ("append_upload(NULL, 'x'::bytea)", "22004"),
    (f"append_upload({NOBODY}, NULL)", "22004"),
    ("finish_upload(NULL, 'x', '1')", "22004"),
    ("find_weights_with(NULL)", "22004"),
    ("find_model(NULL)", "22004"),
    ("set_alias(NULL, 'a')", "22004"),
    ("delete_model(NULL)", "22004"),
    (f"embedding({M}, '{{NULL}}')", "22004"),
    ("add_file(NULL, 'f', ''::bytea)", "22004"),
    (f"add_file({M}, NULL, ''::bytea)", "22004"),
    (f"add_file({M}, 'f', NULL::bytea)", "22004"),
    (f"export_file({M}, NULL)", "22004"),
    (f"delete_file({M}, NULL)", "22004"),
    ("delete_file(NULL, 'f')", "22004"),
    # … and strict functions, which give NULL or nothing
    ("get_tensor(NULL, 'x')", "00000"),
    (f"get_tensor({M}, NULL)", "00000"),
    ("lineage(NULL)", "00000"),
    ("verify_model(NULL)", "00000"),
    ("diff_models(NULL, NULL)", "00000"),
    ("create_store(NULL)", "22004"),
    ("drop_store(NULL)", "22004"),
    # Models, versions and weights that are not there
    ("find_model('nobody')", "42704"),
    ("find_model('m', '2')", "42704"),
    ("find_model('')", "42704"),
    (f"get_tensor({NOBODY}, 'x')", "42704"),
    (f"get_tensor({M}, 'x')", "42704"),
    (f"get_tensor({M}, '')", "42704"),
    ("get_tensor('no such model', 'x')", "42704"),
    ("get_tensor('m', 'x')", "42704"),
    ("get_tensor('m:1:2', 'x')", "42602"),
    (f"get_tensor_slice({NOBODY}, 'x', '0')", "42704"),
    (f"reconstruct_tensor({NOBODY})", "42704"),
    (f"embedding({NOBODY}, '{{0}}')", "42704"),
    (f"embedding({M}, '{{0}}', 'position')", "42704"),
    (f"embedding({M}, '{{0}}', 'words')", "42704"),
    (f"diff_models({NOBODY}, {M})", "42704"),
    (f"diff_models({M}, {NOBODY})", "42704"),
    (f"find_weights_with('nan', {NOBODY})", "42704"),
    (f"weight_statistics({NOBODY})", "42704"),
    (f"verify_model({NOBODY})", "42704"),
    (f"lineage({NOBODY})", "42704"),
    (f"calculate_model_parameters({NOBODY})", "42704"),
    (f"delete_model({NOBODY})", "42704"),
    (f"export_safetensors({NOBODY})", "42704"),
    (f"export_safetensors({M}, 'other.safetensors')", "42704"),
    (f"export_safetensors({M}, '')", "42704"),
    (f"export_safetensors_large_object({NOBODY})", "42704"),
    (f"add_file({NOBODY}, 'f', ''::bytea)", "42704"),
    (f"export_file({NOBODY}, 'f')", "42704"),
    (f"export_file({M}, 'f')", "42704"),
    (f"delete_file({NOBODY}, 'f')", "42704"),
    (f"delete_file({M}, 'f')", "42704"),
    (f"delete_file({M}, 'model.safetensors')", "2BP01"),
    (f"register_model('x', '1', {NOBODY})", "42704"),
    ("set_alias('m:2', 'a')", "42704"),
    ("set_alias('nobody:1', 'a')", "42704"),
    ("delete_alias('nobody', 'a')", "00000"),
    (f"upload_offset({NOBODY})", "42704"),
    (f"append_upload({NOBODY}, 'x'::bytea)", "42704"),
    (f"finish_upload({NOBODY}, 'x', '1')", "42704"),
    (f"abort_upload({NOBODY})", "42704"),
    ("import_safetensors_large_object('x', '1', 999999)", "42704"),
    # Taken, empty, wrong names
    ("register_model('m', '1')", "23505"),
    ("register_model('', '1')", "22023"),
    ("register_model('x', '')", "22023"),
    ("set_alias('m:1', '')", "22023"),
    (f"add_file({M}, '', ''::bytea)", "42602"),
    (f"add_file({M}, '../f', ''::bytea)", "42602"),
    (f"add_file({M}, 'f.safetensors', ''::bytea)", "22026"),
    (f"add_file({M}, 'config.json', ''::bytea)", "22032"),
    ("create_store('')", "42602"),
    ("create_store('modelstore')", "42939"),
    ("create_store('pg_mine')", "42939"),
    ("create_store(repeat('x', 64))", "42602"),
    ("create_store('store')", "42P06"),
    ("drop_store('nowhere')", "3F000"),
    ("drop_store('')", "3F000"),
    ("drop_store('public')", "3F000"),
    ("store_version('nowhere')", "3F000"),
    ("upgrade_store('nowhere')", "3F000"),
    ("begin_upload(-1)", "22023"),
    ("begin_upload(9223372036854775807)", "00000"),
    ("find_weights_with('foo')", "22023"),
    ("find_weights_with('')", "22023"),
    # Files
    ("import_safetensors('x', '1', ''::bytea)", "22026"),
    ("import_safetensors('x', '1', '\\x0000000000000000'::bytea)", "2203C"),
    # As a length its first bytes are too large.
    ("import_safetensors('x', '1', 'not a safetensors file'::bytea)", "54000"),
    ("import_safetensors_file('x', '1', '')", "42602"),
    ("import_safetensors_file('x', '1', 'model.safetensors')", "42602"),
    ("import_safetensors_file('x', '1', '/nowhere/model.safetensors')", "58P01"),
    ("import_safetensors_file('x', '1', '/')", "42809"),
    ("import_safetensors_file('x', '1', '/dev/null')", "42809"),
    ("import_safetensors_file('x', '1', '/etc/passwd/x')", "58030"),
    ("import_safetensors_file('x', '1', '/etc/shadow')", "42501"),
    (f"export_safetensors_file({M}, 'out')", "42602"),
    (f"export_safetensors_file({M}, '/nowhere/out')", "58P01"),
    (f"export_safetensors_file({M}, '/etc/passwd')", "58P02"),
    (f"export_safetensors_file({M}, '/etc/out')", "42501"),
    # Slices
    (f"get_tensor_slice({M}, {W}, '')", "22023"),
    (f"get_tensor_slice({M}, {W}, 'a:b')", "22023"),
    (f"get_tensor_slice({M}, {W}, '::-1')", "22023"),
    (f"get_tensor_slice({M}, {W}, '::0')", "22023"),
    (f"get_tensor_slice({M}, {W}, '0,0,0')", "2202E"),
    (f"get_tensor_slice({M}, {W}, '40')", "2202E"),
    (f"get_tensor_slice({M}, {W}, '-41')", "2202E"),
    (f"get_tensor_slice({M}, {W}, '...,...')", "22023"),
    (f"get_tensor_slice({M}, {W}, '0:999999999999')", "00000"),
    (f"get_tensor_slice({M}, {W}, '0:99999999999999999999999999')", "00000"),
    (f"get_tensor_slice({M}, {W}, '99999999999999999999999999')", "2202E"),
    (f"get_tensor_slice({M}, {W}, '::99999999999999999999999999')", "00000"),
    (f"get_tensor_slice({M}, {W}, repeat('0,', 100000))", "54000"),
    (f"embedding({M}, '{{40}}')", "2202E"),
    (f"embedding({M}, '{{-1}}')", "2202E"),
    (f"embedding({M}, '{{}}')", "00000"),
    # ids that would make a value above 512 MB
    (f"embedding({M}, array_fill(0::bigint, ARRAY[20000000]))", "54000"),
    # Values
    ("astype('[1,2]', 'float99')", "42704"),
    ("astype('[1,2]', '')", "42704"),
    ("frombuffer('\\x00', 'nonsense', '{1}')", "42704"),
    ("frombuffer('\\x00', 'f32', '{1}')", "22000"),
    ("frombuffer('\\x00', 'u8', '{-1}')", "22023"),
    ("frombuffer('\\x00', 'u8', '{NULL}')", "22004"),
    ("frombuffer('\\x00', 'u8', '{9223372036854775807,9223372036854775807}')", "54000"),
    ("reshape('[1,2]', '{3}')", "22000"),
    ("reshape('[1,2]', '{NULL}')", "22004"),
    ("reshape('[1,2]', array_fill(1::bigint, ARRAY[33]))", "54000"),
    ("shape('[1,[2]]')", "22P02"),
    ("shape('')", "22P02"),
    ("shape('nonsense')", "22P02"),
    ("shape('[1e999999]')", "22003"),
    ("shape(('u8:[' || repeat('300', 1) || ']')::modelstore.tensor)", "22003"),
    ("shape(repeat('[', 100000)::modelstore.tensor)", "54000"),
    ("slice('[1,2]', 'x')", "22023"),
    ("norm('f8_e8m0:[1]')", "22P02"),
    ("decode('\\x00')", "22P03"),
    ("codec('\\x')", "22P03"),
]


@pytest.mark.parametrize(
    ("call", "expected"), CASES, ids=[c for c, _ in (x if len(x[0]) < 70 else (x[0][:67] + "…", x[1]) for x in CASES)]
)
def test_what_a_function_says(call: str, expected: str, careless) -> None:
    careless.execute("SET statement_timeout = '20s'")
    before = row_counts(careless)
    got = sqlstate(careless, f"SELECT * FROM modelstore.{call}")
    if got == "00000":
        # begin_upload and the like have done what they should; away with it.
        careless.execute("DELETE FROM store.uploads")
    assert got == expected
    assert row_counts(careless) == before


FUNCTIONS = [
    "gc()", "gc(true)", "verify_store()", "space_report()", "find_weights_with('nan')", "find_model('m')",
    "begin_upload()",     "register_model('m', '1')", "import_safetensors('m', '1', ''::bytea)",
    f"get_tensor({NOBODY}, 'w')",
    "store_version()",     "upgrade_store()", f"export_safetensors({NOBODY})", f"delete_model({NOBODY})",
    f"upload_offset({NOBODY})",
    f"append_upload({NOBODY}, 'x'::bytea)", f"lineage({NOBODY})", f"embedding({NOBODY}, '{{0}}')",
    "set_alias('m:1', 'a')", "delete_alias('m', 'a')", f"diff_models({NOBODY}, {NOBODY})", f"verify_model({NOBODY})",
]  # fmt: skip


def test_before_there_is_a_store(server, new_database) -> None:
    with server.connect(new_database(), autocommit=True) as c:
        c.execute("CREATE EXTENSION pg_modelstore")
        assert c.execute("SELECT * FROM modelstore.stores()").fetchall() == []
        for function in FUNCTIONS:
            with pytest.raises(psycopg.Error) as e:
                c.execute(f"SELECT * FROM modelstore.{function}")
            assert e.value.sqlstate == "3F000", (function, e.value)
            assert e.value.diag.message_hint == "SELECT modelstore.create_store('store');"
        with (
            pytest.raises(psycopg.errors.InvalidSchemaName),
            c.cursor().copy("COPY modelstore.upload (upload_id, data) FROM STDIN") as copy,
        ):
            copy.write_row((uuid.uuid4(), b"x"))
        # A schema of that name that is none does not pass for one.
        c.execute("CREATE SCHEMA store")
        assert sqlstate(c, "SELECT modelstore.gc()") == "3F000"


def test_an_upload_is_not_lost_by_a_wrong_name(db) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    data = safetensors_bytes(FILE)
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, data))
    for arguments, expected in (
        ("NULL, '1'", "22004"),
        ("'x', NULL", "22004"),
        ("'', '1'", "22023"),
        (f"'x', '1', NULL, {NOBODY}", "42704"),
    ):
        assert sqlstate(db, f"SELECT modelstore.finish_upload('{upload}', {arguments})") == expected, arguments
    assert db.execute("SELECT modelstore.upload_offset(%s)", (upload,)).fetchone() == (len(data),)
    assert sqlstate(db, f"SELECT modelstore.finish_upload('{upload}', 'x', '1')") == "00000"
    assert sqlstate(db, f"SELECT modelstore.finish_upload('{upload}', 'y', '1')") == "42704"


def test_settings_say_what_they_take(db) -> None:
    db.execute("SELECT modelstore.store_version()")  # until the library is loaded, PostgreSQL takes any setting
    for setting, value, expected in (
        ("threads", "0", "22023"),
        ("threads", "65", "22023"),
        ("threads", "'many'", "22023"),
        ("chunk_size", "'100kB'", "22023"),
        ("chunk_size", "'8MB'", "22023"),
        ("nonsense", "1", "42602"),
    ):
        assert sqlstate(db, f"SET modelstore.{setting} = {value}") == expected, setting
    assert db.execute("SHOW modelstore.chunk_size").fetchone() == ("1MB",)


def test_types_refuse_what_they_cannot_hold(db) -> None:
    db.execute("CREATE TABLE t (v modelstore.tensor(f32,2,'*'))")
    for value, expected in (
        ("'[[1],[2]]'", "00000"),
        ("'[1,2]'", "22000"),
        ("'bf16:[[1],[2]]'", "22000"),
        ("'[[1],[2],[3]]'", "22000"),
        ("NULL", "00000"),
        ("'{1,2}'::real[]", "22000"),
    ):
        assert sqlstate(db, f"INSERT INTO t VALUES ({value})") == expected, value
    for modifier, expected in (("f99", "42704"), ("f32,-2", "22023"), ("f32,x", "22023"), ("1,f32", "22023"), ("99999999999999999999", "22023")):
        assert sqlstate(db, f"CREATE TABLE u (v modelstore.tensor({modifier}))") == expected, modifier
    assert sqlstate(db, "SELECT v FROM t ORDER BY v") == "00000"


def test_a_pipe_does_not_hold_a_session_up_for_ever(server, db) -> None:
    """Opening one waits for somebody to write to it; that must not be where a session stops answering."""
    path = server.scratch / "pipe.safetensors"
    os.mkfifo(path, 0o666)
    path.chmod(0o666)
    db.execute("SET statement_timeout = '2s'")
    running = aside(db, "SELECT modelstore.import_safetensors_file('x', '1', %s)", (str(path),))
    assert running.thread is not None
    running.thread.join(6)
    try:
        assert not running.running, "the session waits for the pipe and hears nothing else"
        assert running.error is not None
        assert running.error.sqlstate == "42809"
    finally:
        if running.running:  # let it go
            os.close(os.open(path, os.O_WRONLY))
        path.unlink()


def test_transactions_are_left_as_they_should_be(db) -> None:
    """After an error in a block nothing of the block is left; a savepoint saves the rest."""
    data = safetensors_bytes(FILE)
    with pytest.raises(psycopg.errors.UniqueViolation), db.transaction():
        for _ in range(2):
            db.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (data,))
    assert row_counts(db) == {}
    with db.transaction():
        db.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (data,))
        with pytest.raises(psycopg.errors.StringDataLengthMismatch), db.transaction():
            db.execute("SELECT modelstore.import_safetensors('n', '1', %b::bytea)", (data[:-1],))
        with pytest.raises(psycopg.errors.UniqueViolation), db.transaction():
            db.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (data,))
    assert row_counts(db)["models"] == 1
    assert db.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []


def test_a_read_only_transaction_says_so(db) -> None:
    db.execute("SET default_transaction_read_only = on")
    for function in ("register_model('x', '1')", "begin_upload()", "gc()", "create_store('second')",
                     "delete_alias('a', 'b')",                      f"append_upload({NOBODY}, 'x'::bytea)",
                     "drop_store('store')"):  # fmt: skip
        assert sqlstate(db, f"SELECT * FROM modelstore.{function}") == "25006", function
    assert (
        sqlstate(
            db,
            "SELECT * FROM modelstore.import_safetensors('x', '1', '\\x{}'::bytea)".format(
                safetensors_bytes(FILE).hex()
            ),
        )
        == "25006"
    )
