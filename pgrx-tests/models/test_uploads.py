"""Uploads store chunks as bytes arrive: what waits, how they resume, what the collector does, and who is in whose way."""

from __future__ import annotations

import hashlib
import struct
import uuid

import numpy as np
import psycopg
import pytest
from models import random_tensor, safetensors_bytes
from observe import exported_sha256, problems, row_counts
from transfer import export_model, import_model, refusal
from uploads import MIB, append, begin, copy, finish, offset, placed, row, rows_of, waiting

pytestmark = pytest.mark.versioned

@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """From nothing to several chunks, with one content twice."""
    tensors = {f"layer.{i}.weight": random_tensor(i, 700, 512) for i in range(4)}
    return tensors | {
        "again": tensors["layer.2.weight"],
        "empty": np.zeros((0, 3), "float32"),
        "small": np.arange(7, dtype="int64"),
        "zeros": np.zeros((600, 512), "float32"),
    }


def test_only_what_is_not_complete_waits(weights, db) -> None:
    data = safetensors_bytes(weights)
    (length,) = struct.unpack("<Q", data[:8])
    upload = begin(db)
    append(db, upload, data[: length // 2])
    assert waiting(db) == length // 2 and "tensor_chunks" not in row_counts(db)
    for end in (8 + length, 8 + length + 1000, 3 * MIB, 3 * MIB + 1, len(data) - 1):
        append(db, upload, data[offset(db, upload) : end])
        assert waiting(db) < MIB
        stored = db.execute("SELECT coalesce(sum(c.raw_bytes), 0)::bigint FROM store.upload_parts JOIN store.tensor_chunks c USING (chunk_hash)").fetchone()[0]
        assert 8 + length + stored + waiting(db) == end
        (seen,) = db.execute("SELECT (received_bytes, file_bytes, created_by, age > '0', bytes_per_second > 0)::text FROM store.v_uploads").fetchone()
        assert seen == f"({end},{len(data)},postgres,t,t)"
    append(db, upload, data[-1:])
    assert waiting(db) == 0
    before = row_counts(db)
    made = finish(db, upload)
    after = row_counts(db)
    assert after["tensor_chunks"] == before["tensor_chunks"], "finish_upload stored a chunk"
    assert made.raw_bytes == len(data) - 8 - length and made.new_chunks == after["tensor_chunks"]
    (bytes_of_chunks,) = db.execute("SELECT sum(raw_bytes)::bigint FROM store.tensor_chunks").fetchone()
    assert made.reused_bytes == made.raw_bytes - bytes_of_chunks >= weights["again"].nbytes
    assert not {"uploads", "upload_parts"} & after.keys()
    assert exported_sha256(db, made.model_id) == hashlib.sha256(data).hexdigest()
    assert problems(db) == []


def test_what_an_upload_makes_is_what_an_import_makes(weights, db) -> None:
    data = safetensors_bytes(weights)
    upload = begin(db)
    copy(db, rows_of(upload, data, 100_001))
    finish(db, upload, "uploaded")
    import_model(db, data, "imported")
    columns = {
        "models": "content_hash, architecture, hidden_size, status",
        "model_files": "file_name, format, header, file_bytes, sha256, blake3, manifest_hash",
        "model_weights": "weight_name, tensor_id, trainable, layer_index, component, tied_to, file_name, file_offset",
    }
    for table, names in columns.items():
        sql = f"SELECT {names} FROM store.{table} JOIN store.models o USING (model_id) WHERE o.model_name = %s ORDER BY 1, 2"
        sql = sql.replace("JOIN store.models o USING (model_id)", "o") if table == "models" else sql
        assert db.execute(sql, ("uploaded",)).fetchall() == db.execute(sql, ("imported",)).fetchall(), table
    # Zone maps were made while the bytes arrived: they are those of what is stored.
    assert problems(db) == []


def test_a_parent_makes_deltas(db) -> None:
    first = random_tensor(1, 1500, 512)
    parent = import_model(db, safetensors_bytes({"w": first}), "parent").model_id
    changed = first.copy()
    changed.view("uint32")[::9] ^= 1
    data = safetensors_bytes({"w": changed})
    upload = begin(db, parent=parent)
    copy(db, rows_of(upload, data))
    made = finish(db, upload, "child")
    assert made.new_bytes < 0.4 * made.raw_bytes
    assert db.execute("SELECT bool_and(base_hash IS NOT NULL) FROM store.tensor_chunks JOIN store.tensor_data USING (chunk_hash) JOIN store.model_weights USING (tensor_id) WHERE model_id = %s", (made.model_id,)).fetchone() == (True,)
    assert db.execute("SELECT parent_model_id FROM store.models WHERE model_id = %s", (made.model_id,)).fetchone() == (parent,)
    assert export_model(db, made.model_id) == data
    assert refusal(db, "SELECT modelstore.begin_upload(parent => gen_random_uuid())").sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.begin_upload(parent_checkpoint => gen_random_uuid())").sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.begin_upload(NULL, gen_random_uuid(), gen_random_uuid())").sqlstate == "22023"


def test_a_parent_that_goes_is_no_base(db) -> None:
    first = random_tensor(1, 1500, 512)
    parent = import_model(db, safetensors_bytes({"w": first}), "parent").model_id
    data = safetensors_bytes({"w": first + 1})
    upload = begin(db, parent=parent)
    append(db, upload, data[: 2 * MIB])
    db.execute("SELECT modelstore.delete_model(%s)", (parent,))
    db.execute("SELECT modelstore.gc()")
    append(db, upload, data[2 * MIB :])
    db.execute("SELECT modelstore.abort_upload(%s)", (upload,))
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db) == {}


def test_a_checkpoint_from_uploads_continues_the_one_before(db) -> None:
    w, m = random_tensor(1, 1200, 512), random_tensor(2, 1200, 512)
    (model,) = db.execute("SELECT modelstore.register_model('m', '1')").fetchone()
    create = "SELECT * FROM modelstore.create_checkpoint_upload(%s, %s, %s, %s)"

    def both(of: dict, **parent) -> list[uuid.UUID]:
        uploads = []
        for tensors in of:
            uploads.append(begin(db, **parent))
            copy(db, rows_of(uploads[-1], safetensors_bytes(tensors)))
        return uploads

    first = row(db, create, model, 1, *both([{"w": w}, {"w.exp_avg": m}]))
    for tensor in (w, m):
        tensor.view("uint32")[::17] ^= 1
    second = row(db, create, model, 2, *both([{"w": w}, {"w.exp_avg": m}], parent_checkpoint=first.checkpoint_id))
    assert second.new_bytes < 0.4 * second.raw_bytes == 0.4 * first.raw_bytes
    assert row_counts(db)["model_checkpoints"] == 2 and "uploads" not in row_counts(db)
    assert problems(db) == []


def test_the_collector_keeps_the_chunks_of_uploads(weights, db) -> None:
    data = safetensors_bytes(weights)
    upload = begin(db)
    append(db, upload, data[: 4 * MIB])
    before = row_counts(db)
    assert db.execute("SELECT chunks, uploads FROM modelstore.gc(abandoned_after => '1 hour')").fetchone() == (0, 0)
    assert row_counts(db) == before
    append(db, upload, data[4 * MIB :])
    assert exported_sha256(db, finish(db, upload).model_id) == hashlib.sha256(data).hexdigest()


def test_abandoned_uploads_are_collected(weights, db, connect) -> None:
    data = safetensors_bytes(weights)
    uploads = [begin(db) for _ in range(3)]
    for upload in uploads:
        append(db, upload, data[: 3 * MIB])
    db.execute("UPDATE store.uploads SET updated_at = updated_at - interval '2 days' WHERE upload_id = ANY (%s)", (uploads[:2],))
    # One that a session appends to is not abandoned.
    other = connect(autocommit=False)
    append(other, uploads[0], b"")
    append(other, uploads[0], data[3 * MIB : 4 * MIB])
    gc = "SELECT chunks > 0, uploads FROM modelstore.gc(%s, abandoned_after => '1 day')"
    assert db.execute(gc, (True,)).fetchone() == (False, 2)
    assert db.execute(gc, (False,)).fetchone() == (False, 1)
    other.commit()
    for upload in (uploads[0], uploads[2]):
        db.execute("SELECT modelstore.abort_upload(%s)", (upload,))
    assert db.execute(gc, (False,)).fetchone() == (True, 0)
    assert row_counts(db) == {}
    assert db.execute("SELECT uploads FROM modelstore.gc(abandoned_after => NULL)").fetchone() == (0,)


def test_uploads_that_take_turns(weights, db, connect) -> None:
    """What a session keeps of one upload's header is not taken for another's, nor for what another session has made of it."""
    files = [safetensors_bytes({name: tensor + number for name, tensor in weights.items()} | {str(number): weights["small"]}) for number in range(2)]
    uploads, sessions = [begin(db) for _ in files], [db, connect()]
    for turn, at in enumerate(range(0, max(map(len, files)), 700_001)):
        for upload, data in zip(uploads, files):
            append(sessions[turn % 3 == 2], upload, data[at : at + 700_001])
    for number, (upload, data) in enumerate(zip(uploads, files)):
        assert exported_sha256(db, finish(sessions[number], upload, str(number)).model_id) == hashlib.sha256(data).hexdigest()
    assert problems(db) == []


def test_parts_that_do_not_belong_there_are_refused(weights, db) -> None:
    data = safetensors_bytes(weights)
    upload = begin(db)
    copy(db, placed(upload, data, 0, 3 * MIB, 700_000))
    for again in (placed(upload, data, 0, 1000, 1000), placed(upload, data, 3 * MIB, 4 * MIB, 500_000)[1:], [(upload, b"x", -1)]):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as e:
            copy(db, again)
        assert str(offset(db, upload)) in e.value.diag.message_detail
    # The last row is wrong: those before it are not stored either.
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        copy(db, [*placed(upload, data, 3 * MIB, 4 * MIB, 500_000), (upload, b"x", 3 * MIB)])
    assert offset(db, upload) == 3 * MIB
    copy(db, placed(upload, data, 3 * MIB, len(data), 700_000))
    assert exported_sha256(db, finish(db, upload).model_id) == hashlib.sha256(data).hexdigest()


def test_an_error_in_a_copy_leaves_what_was_there(weights, db) -> None:
    data = safetensors_bytes(weights)
    upload = begin(db)
    append(db, upload, data[:MIB])
    before = row_counts(db)
    with pytest.raises(psycopg.errors.NotNullViolation):
        copy(db, [*rows_of(upload, data[MIB : 4 * MIB]), (None, b"x")])
    with db.transaction():
        with pytest.raises(psycopg.errors.UndefinedObject), db.transaction():
            copy(db, [*rows_of(upload, data[MIB : 4 * MIB]), (uuid.uuid4(), b"x")])
        assert offset(db, upload) == MIB
        copy(db, rows_of(upload, data[MIB : 2 * MIB]))
    assert offset(db, upload) == 2 * MIB
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        copy(db, [*rows_of(upload, data[2 * MIB :]), (upload, b"more")])
    assert offset(db, upload) == 2 * MIB and row_counts(db).keys() == before.keys() | {"tensor_chunks", "upload_parts"}
    copy(db, rows_of(upload, data[2 * MIB :]))
    assert exported_sha256(db, finish(db, upload).model_id) == hashlib.sha256(data).hexdigest()


def test_several_uploads_in_one_statement(db) -> None:
    files = [safetensors_bytes({"w": random_tensor(i, 900, 512), "v": random_tensor(9, 300, 512)}) for i in range(3)]
    uploads = [begin(db) for _ in files]
    parts = [rows_of(upload, data, 300_000) for upload, data in zip(uploads, files)]
    copy(db, [part for together in zip(*parts) for part in together])
    for name, (upload, data) in enumerate(zip(uploads, files)):
        assert export_model(db, finish(db, upload, str(name)).model_id) == data
    # From tables, and with what the statement returns: the data is not kept.
    db.execute("CREATE TABLE parts (n int, data bytea)")
    db.cursor().executemany("INSERT INTO parts VALUES (%s, %b)", [(n, data) for n, (_, data) in enumerate(parts[0])])
    upload = begin(db)
    returned = db.execute("INSERT INTO modelstore.upload SELECT %s, data FROM parts ORDER BY n RETURNING upload_id, data", (upload,)).fetchall()
    assert returned == [(upload, None)] * len(parts[0])
    assert export_model(db, finish(db, upload, "again").model_id) == files[0]


def test_an_upload_within_its_own_statement(db) -> None:
    """Whatever else the statement does to it: no byte is lost or taken twice."""
    data = safetensors_bytes({"w": random_tensor(1, 900, 512)})
    db.execute("CREATE TABLE parts (n int, data bytea)")
    db.cursor().executemany("INSERT INTO parts VALUES (%s, %b)", [(n, part) for n, (_, part) in enumerate(rows_of(uuid.uuid4(), data, 500_000))])
    db.execute("""
        CREATE FUNCTION directly(upload uuid, part bytea) RETURNS bytea LANGUAGE plpgsql AS $$
        BEGIN PERFORM modelstore.append_upload(upload, part); RETURN ''; END $$;
        CREATE FUNCTION in_a_block(upload uuid, part bytea) RETURNS bytea LANGUAGE plpgsql AS $$
        BEGIN PERFORM modelstore.append_upload(upload, part); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN RETURN part; END $$""")
    upload = begin(db)
    insert = "INSERT INTO modelstore.upload SELECT %s, CASE WHEN n %% 2 = 0 THEN data ELSE {}(%s, data) END FROM parts ORDER BY n"
    assert refusal(db, insert.format("in_a_block"), upload, upload).sqlstate == "55006"
    assert offset(db, upload) == 0
    db.execute(insert.format("directly"), (upload, upload))
    assert export_model(db, finish(db, upload).model_id) == data


def test_settings_that_change_between_parts(weights, db) -> None:
    data = safetensors_bytes(weights)
    upload = begin(db)
    for number, (_, part) in enumerate(rows_of(upload, data, 1_500_000)):
        db.execute("SELECT set_config('modelstore.chunk_size', %s, false)", (("1MB", "256kB", "4MB")[number % 3],))
        append(db, upload, part)
    assert exported_sha256(db, finish(db, upload).model_id) == hashlib.sha256(data).hexdigest()
    assert problems(db) == []


@pytest.mark.parametrize(
    ("json", "sqlstate"),
    [
        (b"{]", "22032"),
        (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}}', "22P03"),
        (b'{"w":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}', "42704"),
        (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', "22P04"),
    ],
)
def test_a_wrong_header_is_refused_when_it_is_complete(json: bytes, sqlstate: str, db) -> None:
    upload, head = begin(db), struct.pack("<Q", len(json)) + json
    append(db, upload, head[:-1])
    assert refusal(db, "SELECT modelstore.append_upload(%s, %b)", upload, head[-1:] + b"more").sqlstate == sqlstate
    assert offset(db, upload) == len(head) - 1


def test_a_file_of_no_tensors_and_sizes_that_disagree(db) -> None:
    for number, data in enumerate((safetensors_bytes({}), safetensors_bytes({"e": np.zeros((0, 2), "float32")}))):
        upload = begin(db, expected_bytes=len(data))
        for byte in data:
            append(db, upload, bytes([byte]))
        assert export_model(db, finish(db, upload, str(number)).model_id) == data
    data = safetensors_bytes({"w": random_tensor(1, 5, 5)})
    for expected in (len(data) - 1, len(data) + 1):
        upload = begin(db, expected_bytes=expected)
        assert refusal(db, "SELECT modelstore.append_upload(%s, %b)", upload, data[: len(data) - 4]).sqlstate in ("22001", "22026")
    upload = begin(db)
    append(db, upload, data)
    assert refusal(db, "SELECT modelstore.append_upload(%s, 'x')", upload).sqlstate == "22023"
    assert append(db, upload, b"") == len(data)


CHANGES = [
    ("UPDATE store.uploads SET hash_state = '\\x00'", "XX001"),
    ("UPDATE store.uploads SET hash_state = NULL", "XX001"),
    ("UPDATE store.uploads SET received_bytes = received_bytes - 1", "XX001"),
    ("UPDATE store.uploads SET header = substr(header, 1, 20)", "22032"),
    ("UPDATE store.uploads SET chunk_bytes = 262144", "XX001"),
    ("UPDATE store.uploads SET chunk_bytes = 1", "22023"),
    ("DELETE FROM store.upload_parts WHERE data IS NOT NULL", "XX001"),
    ("DELETE FROM store.upload_parts WHERE part_offset = (SELECT min(part_offset) FROM store.upload_parts)", "XX001"),
    ("UPDATE store.upload_parts SET part_offset = part_offset + 1 WHERE data IS NOT NULL", "XX001"),
    ("UPDATE store.upload_parts SET part_offset = part_offset + 1 WHERE part_offset = (SELECT min(part_offset) FROM store.upload_parts)", "XX001"),
    ("UPDATE store.upload_parts SET content_hash = NULL", "XX001"),
]


@pytest.mark.parametrize(("change", "sqlstate"), CHANGES)
def test_changed_rows_are_errors(change: str, sqlstate: str, db) -> None:
    data = safetensors_bytes({"w": random_tensor(1, 1200, 512), "v": random_tensor(2, 700, 512)})
    upload = begin(db)
    append(db, upload, data[: 3 * MIB])
    db.execute(change)
    found = None
    try:
        append(db, upload, data[3 * MIB :])
        finish(db, upload)
    except psycopg.Error as e:
        found = e.sqlstate
    assert found == sqlstate
    assert row_counts(db).get("models") is None
    assert db.execute("SELECT modelstore.abort_upload(%s) > 0", (upload,)).fetchone() == (True,)


def test_an_error_that_is_caught_loses_nothing(db) -> None:
    data = safetensors_bytes({"w": random_tensor(1, 900, 512)})
    db.execute("CREATE TABLE parts (n int, data bytea)")
    db.cursor().executemany("INSERT INTO parts VALUES (%s, %b)", [(n, part) for n, (_, part) in enumerate(rows_of(uuid.uuid4(), data, 500_000))])
    db.execute("""
        CREATE FUNCTION harmless() RETURNS bytea LANGUAGE plpgsql AS $$
        BEGIN PERFORM modelstore.abort_upload(gen_random_uuid()); RETURN '';
        EXCEPTION WHEN OTHERS THEN RETURN ''; END $$""")
    upload = begin(db)
    db.execute("INSERT INTO modelstore.upload SELECT %s, data || harmless() FROM (SELECT * FROM parts ORDER BY n OFFSET 0) p", (upload,))
    assert offset(db, upload) == len(data)
    assert export_model(db, finish(db, upload).model_id) == data


def test_the_append_of_one_role_is_not_finished_by_another(db, connect) -> None:
    """A trigger of mallory's on her own store must not run as the role of a function that she may call."""
    name = f"mallory_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name} LOGIN; GRANT CREATE ON DATABASE {db.info.dbname} TO {name}")
    try:
        db.execute("""
            CREATE FUNCTION admin_append(u uuid, d bytea) RETURNS bytea LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp SET modelstore.store = 'store'
            AS $$BEGIN PERFORM modelstore.append_upload(u, d); RETURN 'ok'; END$$""")
        admins = begin(db)
        her = connect(user=name)
        her.execute("SELECT modelstore.create_store('evil'); SET modelstore.store = 'evil'")
        her.execute("CREATE TABLE evil.ran (who text)")
        her.execute("""
            CREATE FUNCTION evil.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO evil.ran VALUES (current_user); RETURN NEW; END$$;
            GRANT ALL ON evil.ran TO PUBLIC;
            CREATE TRIGGER t BEFORE INSERT ON evil.upload_parts FOR EACH ROW EXECUTE FUNCTION evil.t()""")
        upload = begin(her)
        insert = "INSERT INTO modelstore.upload SELECT %s, CASE WHEN n = 2 THEN public.admin_append(%s, '123') ELSE 'abc' END FROM generate_series(1, 2) n"
        assert refusal(her, insert, upload, admins).sqlstate == "55006"
        copy(her, [(upload, b"abc")])
        assert her.execute("SELECT DISTINCT who FROM evil.ran").fetchall() == [(name,)]
        assert (offset(db, admins), offset(her, upload)) == (0, 3)
        her.close()
    finally:
        db.execute("DROP FUNCTION IF EXISTS admin_append")
        db.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def test_a_parent_that_was_deleted_is_left_out(db) -> None:
    parent = import_model(db, safetensors_bytes({"w": random_tensor(1, 10, 10)}), "parent").model_id
    data = safetensors_bytes({"w": random_tensor(2, 10, 10)})
    upload = begin(db, parent=parent)
    append(db, upload, data)
    db.execute("SELECT modelstore.delete_model(%s)", (parent,))
    model = finish(db, upload).model_id
    assert db.execute("SELECT parent_model_id FROM store.models WHERE model_id = %s", (model,)).fetchone() == (None,)
    assert export_model(db, model) == data


def test_an_upload_of_weights_is_no_index(db) -> None:
    upload = begin(db)
    append(db, upload, safetensors_bytes({"w": random_tensor(1, 10, 10)}))
    (model,) = db.execute("SELECT modelstore.register_model('m', '1')").fetchone()
    add = "SELECT modelstore.add_file_upload(%s, 'model.safetensors.index.json', %s)"
    assert refusal(db, add, model, upload).sqlstate == "2203C"


def test_a_stored_tensor_that_is_damaged_is_not_taken_for_the_upload(db) -> None:
    """Cut in another way, it has chunks that the upload has not looked at."""
    data = safetensors_bytes({"w": random_tensor(1, 1500, 512)})
    db.execute("SET modelstore.chunk_size = '512kB'")
    import_model(db, data, "old")
    db.execute("RESET modelstore.chunk_size")
    db.execute("""UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks ORDER BY chunk_hash DESC LIMIT 1)
                  WHERE chunk_hash = (SELECT min(chunk_hash::text)::bytea FROM store.tensor_chunks)""")
    upload = begin(db)
    copy(db, rows_of(upload, data))
    diag = refusal(db, "SELECT modelstore.finish_upload(%s, 'm', '1')", upload)
    assert diag.sqlstate == "XX001" and "is corrupted" in diag.message_primary


def test_a_piece_of_another_length_is_an_error(db) -> None:
    upload = begin(db)
    append(db, upload, safetensors_bytes({"v": random_tensor(1, 10, 10), "w": random_tensor(2, 1500, 512)}))
    db.execute("UPDATE store.upload_parts SET chunk_hash = (SELECT chunk_hash FROM store.tensor_chunks ORDER BY raw_bytes LIMIT 1)")
    assert refusal(db, "SELECT modelstore.finish_upload(%s, 'm', '1')", upload).sqlstate == "XX001"


def test_a_wanted_size_that_nothing_has(db) -> None:
    """Bytes are not collected without end because a row says so."""
    data = safetensors_bytes({"w": random_tensor(1, 6000, 512)})
    upload = begin(db)
    append(db, upload, data[: 2 * MIB])
    db.execute("UPDATE store.uploads SET wanted_bytes = 9223372036854775807")
    copy(db, rows_of(upload, data[2 * MIB :]))
    assert waiting(db) == 0
    assert export_model(db, finish(db, upload).model_id) == data


def test_the_collector_within_the_statement(db) -> None:
    data = safetensors_bytes({"w": random_tensor(1, 1500, 512)})
    db.execute("CREATE TABLE parts (n int, data bytea)")
    db.cursor().executemany("INSERT INTO parts VALUES (%s, %b)", [(n, part) for n, (_, part) in enumerate(rows_of(uuid.uuid4(), data))])
    upload = begin(db)
    db.execute("INSERT INTO modelstore.upload SELECT %s, data FROM parts WHERE (SELECT chunks FROM modelstore.gc() WHERE n >= 0) = 0 ORDER BY n", (upload,))
    assert export_model(db, finish(db, upload).model_id) == data


def test_a_file_of_another_format_waits_in_rows_that_can_be_made(db) -> None:
    upload, data = begin(db), b"GGUF" + bytes(70 * MIB)
    assert append(db, upload, data) == len(data) == waiting(db)
    assert db.execute("SELECT array_agg(part_offset ORDER BY 1) FROM store.upload_parts").fetchone() == ([0, 64 * MIB],)
    assert refusal(db, "SELECT modelstore.finish_upload(%s, 'm', '1')", upload).sqlstate == "42809"
