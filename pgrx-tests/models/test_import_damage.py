"""Bytes are stored only under their own hash: sources that change while they are read, damaged chunks in the store, and
inserts that the server suppresses."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from atoms import ingest, large_object
from harness import wait_until
from models import random_tensor, safetensors_bytes
from observe import aside, is_blocked, problems, row_counts
from transfer import export_model, import_model, refusal

# Larger than what the first pass keeps of a file, and one weight that it does keep.
TENSORS = {f"w{i}": random_tensor(i, 300, 700) for i in range(4)} | {"small": random_tensor(9, 3)}
FILE = safetensors_bytes(TENSORS)


@contextlib.contextmanager
def held(db: psycopg.Connection, connect, table: str, session: psycopg.Connection, query: str, *arguments: object) -> Iterator[object]:
    """Runs a statement in `session` that stops before it first touches `table`; the block is what happens meanwhile."""
    holder = connect(autocommit=False)
    holder.execute(f"LOCK TABLE store.{table} IN ACCESS EXCLUSIVE MODE")
    running = aside(session, query, arguments)
    wait_until(lambda: is_blocked(db, session.info.backend_pid), "the statement waits")
    try:
        yield running
    finally:
        holder.rollback()
        running.join()


def overwrite(path: pathlib.Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def source(kind: str, server, db: psycopg.Connection) -> tuple[str, object, object, object]:
    """A statement that imports FILE, its argument, and what changes its bytes or takes the last ones away."""
    if kind == "server file":
        path = server.scratch / f"{uuid.uuid4()}.safetensors"
        path.write_bytes(FILE)
        path.chmod(0o644)
        query = "SELECT model_id FROM modelstore.import_safetensors_file('m', '1', %s)"
        return query, str(path), lambda at: overwrite(path, at, b"CHANGED"), lambda: os.truncate(path, len(FILE) - 100)
    oid = large_object(db, FILE[:1000])
    db.execute("SELECT lo_put(%s, 0, %b)", (oid, FILE))
    query = "SELECT model_id FROM modelstore.import_safetensors_large_object('m', '1', %s)"
    put = "SELECT lo_put(%s, %s, 'CHANGED')"
    cut = "SELECT lo_truncate64(lo_open(%s, 131072), %s)"
    return query, oid, lambda at: db.execute(put, (oid, at)), lambda: db.execute(cut, (oid, len(FILE) - 100))


KINDS = ["server file", "large object"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_changes_between_the_passes(kind: str, server, db, connect) -> None:
    query, argument, change, _ = source(kind, server, db)
    before = row_counts(db)
    session = connect()
    with held(db, connect, "tensor_metadata", session, query, argument) as running:
        change(len(FILE) - 100_000)
    assert running.error is not None, "the import succeeded"
    assert running.error.sqlstate == "55000" and "changed while it was read" in str(running.error)
    assert row_counts(db) == before
    # Nothing of it is in the way of the intact file.
    model = import_model(db, FILE, "intact").model_id
    assert export_model(db, model) == FILE
    assert problems(db) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_cut_between_the_passes(kind: str, server, db, connect) -> None:
    query, argument, _, cut = source(kind, server, db)
    before = row_counts(db)
    with held(db, connect, "tensor_metadata", connect(), query, argument) as running:
        cut()
    assert running.error is not None, "the import succeeded"
    assert running.error.sqlstate == "55000", running.error
    assert row_counts(db) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", [-100, 100])
def test_a_length_that_changes_while_everything_is_reused(kind: str, by: int, server, db, connect) -> None:
    """No byte is read a second time, as the store has all of them: the length alone tells."""
    model = import_model(db, FILE, "before").model_id
    query, argument, _, cut = source(kind, server, db)

    def longer() -> None:
        if kind == "server file":
            os.truncate(argument, len(FILE) + by)
        else:
            db.execute("SELECT lo_put(%s, %s, 'x')", (argument, len(FILE) + by))

    with held(db, connect, "tensor_metadata", connect(), query, argument) as running:
        cut() if by < 0 else longer()
    assert running.error is not None, "the import succeeded"
    assert running.error.sqlstate == "55000"
    assert db.execute("SELECT model_id FROM store.models").fetchall() == [(model,)]


def test_what_is_recorded_of_a_file_is_what_was_stored(server, db, connect) -> None:
    """A change before the first pass reads it is stored as it is, under hashes of what was read."""
    query, path, change, _ = source("server file", server, db)
    change(len(FILE) - 100_000)
    (model,) = db.execute(query, (path,)).fetchone()
    data = pathlib.Path(path).read_bytes()
    assert data != FILE and export_model(db, model) == data
    recorded = "SELECT file_bytes, sha256 = sha256(%b), (SELECT bool_and(problem IS NULL) FROM modelstore.verify_model(%s)) FROM store.model_files"
    assert db.execute(recorded, (data, model)).fetchone() == (len(data), True, None)


def test_leaves_of_atoms_that_change_between_the_passes(db, connect) -> None:
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    data = np.random.default_rng(1).bytes(300_000)
    oid = large_object(db, data)
    query = "SELECT status, error FROM modelstore.ingest_large_object(%s, 'other')"
    with held(db, connect, "atoms", connect(), query, oid) as running:
        db.execute("SELECT lo_put(%s, 200000, 'CHANGED')", (oid,))
    assert running.error is None
    ((status, error),) = running.rows
    assert status == "failed" and error.startswith("data changed while it was ingested")
    assert db.execute("SELECT (SELECT count(*) FROM store.atoms), (SELECT count(*) FROM store.tensor_chunks)").fetchone() == (0, 0)
    ingest(db, data)
    assert problems(db) == []


# Chunks that are there, but damaged


def warnings(db: psycopg.Connection) -> list[str]:
    """Collects the warnings of a session from now on."""
    messages: list[str] = []
    db.add_notice_handler(lambda d: messages.append(d.message_primary) if d.severity_nonlocalized == "WARNING" else None)
    return messages


DAMAGE = {
    "the bytes of another chunk": "chunk = (SELECT o.chunk FROM store.tensor_chunks o WHERE o.chunk_hash <> c.chunk_hash AND o.raw_bytes = c.raw_bytes LIMIT 1)",
    "other sizes recorded": "raw_bytes = raw_bytes + 1, stored_bytes = stored_bytes + 1",
    "another base recorded": "base_hash = (SELECT o.chunk_hash FROM store.tensor_chunks o WHERE o.chunk_hash <> c.chunk_hash ORDER BY 1 LIMIT 1), delta_depth = 1",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", ["w1", "tiny1"])
def test_an_import_mends_a_damaged_chunk(damage: str, which: str, db) -> None:
    data = safetensors_bytes(TENSORS | {"tiny1": random_tensor(20, 5), "tiny2": random_tensor(21, 5)})
    first = import_model(db, data)
    where = """WHERE chunk_hash = (SELECT d.chunk_hash FROM store.model_weights JOIN store.tensor_data d USING (tensor_id)
                                   WHERE weight_name = %s)"""
    (damaged,) = db.execute(f"UPDATE store.tensor_chunks c SET {DAMAGE[damage]} {where} RETURNING encode(chunk_hash, 'hex')", (which,)).fetchone()
    assert problems(db) != []
    messages = warnings(db)
    again = import_model(db, data, version="2")
    assert messages == [f"chunk {damaged} was damaged and has been replaced"]
    assert (again.new_chunks, again.reused_bytes) == (0, again.raw_bytes)
    assert problems(db) == []
    assert export_model(db, again.model_id) == export_model(db, first.model_id) == data
    messages.clear()
    import_model(db, data, version="3")
    assert messages == []


def test_a_damaged_chunk_is_mended_for_another_tensor_and_another_size_of_chunks(db) -> None:
    weight = random_tensor(1, 1200, 700)
    data = safetensors_bytes({"w": weight})
    first = import_model(db, data)
    chunks = db.execute("SELECT chunk_hash FROM store.tensor_data ORDER BY chunk_index").fetchall()
    assert len(chunks) > 2
    db.execute("UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks WHERE chunk_hash = %s) WHERE chunk_hash = %s",
               (chunks[0][0], chunks[1][0]))  # fmt: skip
    messages = warnings(db)
    # The same content cut in another way is the same tensor with the same chunks.
    db.execute("SET modelstore.chunk_size = '512kB'")
    import_model(db, data, version="2")
    assert len(messages) == 1 and problems(db) == []
    assert db.execute("SELECT count(*) FROM store.tensor_chunks").fetchone() == (len(chunks),)
    db.execute("RESET modelstore.chunk_size")
    # Another tensor that has the damaged chunk.
    db.execute("UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks WHERE chunk_hash = %s) WHERE chunk_hash = %s",
               (chunks[1][0], chunks[0][0]))  # fmt: skip
    longer = safetensors_bytes({"v": np.concatenate([weight, random_tensor(2, 10, 700)])})
    other = import_model(db, longer, version="3")
    assert len(messages) == 2 and problems(db) == []
    assert export_model(db, first.model_id) == data and export_model(db, other.model_id) == longer


def family(db: psycopg.Connection, generations: int) -> list[tuple[object, bytes]]:
    """Models that are each a difference to the one before."""
    weight, parent, made = random_tensor(50, 300, 600), None, []
    for generation in range(generations):
        data = safetensors_bytes({"w": weight})
        parent = import_model(db, data, version=str(generation), parent=parent).model_id
        made.append((parent, data))
        weight = weight.copy()
        weight[generation] *= np.float32(1.01)
    return made


def chunk_of(db: psycopg.Connection, model: object) -> bytes:
    query = "SELECT d.chunk_hash FROM store.model_weights JOIN store.tensor_data d USING (tensor_id) WHERE model_id = %s"
    return db.execute(query, (model,)).fetchone()[0]


def test_a_damaged_base_is_mended_and_its_deltas_with_it(db) -> None:
    models = family(db, 3)
    (first, data), other = models[0], import_model(db, safetensors_bytes({"w": random_tensor(77, 300, 600)}), "other")
    damage = "UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks WHERE chunk_hash = %s) WHERE chunk_hash = %s"
    db.execute(damage, (chunk_of(db, other.model_id), chunk_of(db, first)))
    # A new child of a damaged base is no difference to bytes that nobody will have once the base is mended.
    weight = np.frombuffer(data[-300 * 600 * 4 :], "float32").reshape(300, 600).copy()
    weight[7] *= np.float32(1.5)
    changed = safetensors_bytes({"w": weight})
    child = import_model(db, changed, "child", parent=first)
    assert db.execute("SELECT delta_depth FROM store.tensor_chunks WHERE chunk_hash = %s", (chunk_of(db, child.model_id),)).fetchone() == (0,)
    messages = warnings(db)
    import_model(db, data, version="again")
    assert len(messages) == 1 and problems(db) == []
    for model, file in [*models, (child.model_id, changed)]:
        assert export_model(db, model) == file


def test_a_damaged_delta_is_mended(db) -> None:
    models = family(db, 5)
    (_, before), (model, data) = models[2], models[3]
    damage = "UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks WHERE chunk_hash = %s) WHERE chunk_hash = %s"
    db.execute(damage, (chunk_of(db, models[0][0]), chunk_of(db, model)))
    assert problems(db) != [] and before != data
    import_model(db, data, version="again")
    assert problems(db) == []
    assert db.execute("SELECT base_hash, delta_depth FROM store.tensor_chunks WHERE chunk_hash = %s", (chunk_of(db, model),)).fetchone() == (None, 0)
    for model, file in models:
        assert export_model(db, model) == file
    # Deltas that refer to it are kept; those that no longer do can be collected.
    for model, _ in models[:4]:
        db.execute("SELECT modelstore.delete_model(%s, cascade => true)", (model,))
    db.execute("SELECT modelstore.gc()")
    assert problems(db) == [] and export_model(db, models[4][0]) == models[4][1]


def test_a_list_of_chunks_that_is_not_its_tensors_is_no_reuse(db) -> None:
    data = safetensors_bytes({"w": random_tensor(1, 1200, 700)})
    import_model(db, data)
    db.execute("UPDATE store.tensor_data SET chunk_hash = (SELECT d.chunk_hash FROM store.tensor_data d WHERE d.chunk_index = 0) WHERE chunk_index = 1")
    diag = refusal(db, "SELECT modelstore.import_safetensors('m', '2', %b::bytea)", data)
    assert diag.sqlstate == "XX001" and '"w"' in diag.message_primary


def test_a_leaf_of_an_atom_is_mended(db) -> None:
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    data = np.random.default_rng(2).bytes(300_000)
    first = ingest(db, data)
    (places,) = db.execute("SELECT array_agg(h_zm ORDER BY h_zm) FROM store.atom_chunks").fetchone()
    assert len(places) > 1
    damage = "UPDATE store.atom_chunks SET chunk = (SELECT chunk FROM store.atom_chunks WHERE h_zm = %s) WHERE h_zm = %s"
    verify = "SELECT * FROM modelstore.verify_atoms()"
    db.execute(damage, (places[0], places[1]))
    assert db.execute(verify).fetchall() != []
    messages = warnings(db)
    assert ingest(db, data)[2:5] == first[2:5]
    assert len(messages) == 1 and db.execute(verify).fetchall() == []
    # The same leaf in a composite that is new; and one that is gone.
    db.execute(damage, (places[1], places[0]))
    ingest(db, data + b"and more")
    assert len(messages) == 2 and db.execute(verify).fetchall() == []
    db.execute("DELETE FROM store.atom_chunks WHERE h_zm = %s", (places[0],))
    assert ingest(db, data)[2:5] == first[2:5]
    assert len(messages) == 3 and db.execute(verify).fetchall() == []


# Rows that do not come to be, and circles


@pytest.mark.parametrize("table", ["tensor_chunks", "tensor_metadata", "upload_parts"])
def test_a_trigger_that_keeps_rows_out_is_an_error(table: str, db) -> None:
    db.execute(f"""
        CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER nothing BEFORE INSERT ON store.{table} FOR EACH ROW EXECUTE FUNCTION public.nothing();
        SET statement_timeout = '20s'""")
    if table == "upload_parts":
        (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
        diag = refusal(db, "SELECT modelstore.append_upload(%s, 'abc')", upload)
    else:
        diag = refusal(db, "SELECT modelstore.import_safetensors('m', '1', %b::bytea)", FILE)
    assert diag.sqlstate == "55000" and "was not stored" in diag.message_primary
    assert ("nothing",) in db.execute(diag.message_hint).fetchall()


def test_a_chunk_that_is_its_own_base_ends_the_search_for_a_base(db) -> None:
    models = family(db, 5)
    assert db.execute("SELECT max(delta_depth) FROM store.tensor_chunks").fetchone() == (4,)
    circle = "UPDATE store.tensor_chunks SET base_hash = %s, delta_depth = 1 WHERE base_hash IS NULL"
    db.execute(circle, (chunk_of(db, models[4][0]),))
    db.execute("SET statement_timeout = '20s'")
    weight = np.frombuffer(models[4][1][-300 * 600 * 4 :], "float32").reshape(300, 600).copy()
    weight[9] += 1
    data = safetensors_bytes({"w": weight})
    child = import_model(db, data, version="child", parent=models[4][0])
    assert export_model(db, child.model_id) == data


def test_large_objects_have_functions_of_their_own(db) -> None:
    """An OID without a type is an integer: an overload would be open to whoever makes one of (text, text, integer)."""
    oid = large_object(db, safetensors_bytes({"a": random_tensor(1, 3)}))
    db.execute(f"SELECT modelstore.import_safetensors_large_object('m', '1', {oid})")
    (model,) = db.execute("SELECT modelstore.register_model('n', '1')").fetchone()
    db.execute(f"SELECT modelstore.add_file_large_object('{model}', 'f.safetensors', {oid})")
    assert refusal(db, f"SELECT modelstore.import_safetensors('m', '2', {oid})").sqlstate == "42883"
    assert refusal(db, f"SELECT modelstore.add_file('{model}', 'g', {oid}::oid)").sqlstate == "42883"


def test_null_for_an_argument_is_an_error_or_none(db) -> None:
    data = safetensors_bytes({"a": random_tensor(1, 3)})
    (model,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('m', '1', %b, NULL, NULL, NULL)", (data,)).fetchone()
    (upload,) = db.execute("SELECT modelstore.begin_upload(NULL)").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b, NULL)", (upload, data))
    assert export_model(db, model, None) == data
    for call in (
        "add_file(NULL, 'f', 'x')", "add_file(%s, NULL, 'x')", "add_file(%s, 'f', NULL)",
        "add_file_large_object(%s, 'f', NULL)", "add_file_upload(%s, 'f', NULL)", "add_file_upload(NULL, 'f', '{}')".format(upload),
        "append_upload(NULL, 'x')", "append_upload(%s, NULL)", "import_safetensors(NULL, '1', 'x')", "import_safetensors_file('m', '1', NULL)",
        "import_safetensors_large_object('m', '1', NULL)", "finish_upload(NULL, 'm', '1')", "export_safetensors(NULL)", "export_safetensors_file(%s, NULL)",
    ):  # fmt: skip
        diag = refusal(db, f"SELECT modelstore.{call.replace('%s', repr(str(model)))}")
        assert diag.sqlstate == "22004", (call, diag.message_primary)
    model = db.execute("SELECT model_id FROM modelstore.finish_upload(%s, 'm', '2', NULL, NULL, NULL)", (upload,)).fetchone()[0]
    assert export_model(db, model) == data


def test_a_file_that_the_server_cannot_read(server, db) -> None:
    load = "SELECT modelstore.import_safetensors_file('m', '1', %s)"
    path = server.scratch / f"{uuid.uuid4()}.safetensors"
    diag = refusal(db, load, str(path))
    assert diag.sqlstate == "58P01" and "server process" in diag.message_detail and "on the server's machine" in diag.message_detail
    path.write_bytes(FILE)
    path.chmod(0)
    os.chown(path, 0, 0)
    diag = refusal(db, load, str(path))
    assert diag.sqlstate == "42501" and "its user \"" in diag.message_detail
    diag = refusal(db, "SELECT modelstore.export_safetensors_file(%s, '/proc/none/file')", import_model(db, FILE).model_id)
    assert diag.sqlstate == "58P01" and "server process writes" in diag.message_detail
