"""A store with something of everything, and what it must give back wherever it has got to: restored, recovered, promoted, upgraded."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid

import checkpoints
import psycopg
from atoms import ingest, key_of, reconstruct
from models import random_tensor, safetensors_bytes
from observe import dangling, exported_sha256, problems
from transfer import import_model


@dataclasses.dataclass
class Filled:
    """What was put in: files of models and checkpoints, contents of atoms, and an upload that is not finished."""

    number: int
    model: uuid.UUID
    session: uuid.UUID
    models: dict[str, bytes]
    checkpoints: list[tuple[uuid.UUID, bytes]]
    atoms: dict[tuple[int, int, int], bytes]
    upload: uuid.UUID
    file: bytes
    sent: int


def weights(number: int) -> bytes:
    """Of step `number`: a little apart from those of the step before, so that they are stored as a difference."""
    first = random_tensor(7, 400, 512)
    return safetensors_bytes({"w": first + random_tensor(8, 400, 512) * number / 1e4, "b": random_tensor(number, 512)})


def fill(db: psycopg.Connection, number: int = 1) -> Filled:
    """Fills a store that has atoms."""
    data = weights(0)
    model = import_model(db, data, f"m{number}").model_id
    child = safetensors_bytes({"w": random_tensor(number, 300, 512)})
    import_model(db, child, f"m{number}", "child", parent=model)
    db.execute("SELECT modelstore.set_alias(%s, 'production')", (model,))
    session = checkpoints.start(db, model, "run")
    db.execute("SELECT modelstore.log_metrics(%s, 1, '{\"loss\": 1.5}')", (session,))
    filled = Filled(number, model, session, {f"m{number}:1": data, f"m{number}:child": child}, [], {}, uuid.UUID(int=0), weights(9), 300_000)
    for step in (1, 2):
        train(db, filled, step)
    for content in (f"small {number}".encode(), f"some content of {number} ".encode() * 10_000):
        filled.atoms[key_of(ingest(db, content))] = content
    (filled.upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (filled.upload, filled.file[: filled.sent]))
    return filled


def train(db: psycopg.Connection, filled: Filled, step: int) -> uuid.UUID:
    """Makes the checkpoint of a step, and takes it into what is expected."""
    made = checkpoints.checkpoint(db, filled.model, weights(step), step, filled.session).checkpoint_id
    filled.checkpoints.append((made, weights(step)))
    return made


def check(db: psycopg.Connection, filled: Filled) -> None:
    """Everything is there, nothing else is newer, and nothing is damaged."""
    assert problems(db) == [] and dangling(db) == 0
    assert db.execute("SELECT count(*) FROM modelstore.verify_atoms()").fetchone() == (0,)
    for label, data in filled.models.items():
        assert exported_sha256(db, label) == hashlib.sha256(data).hexdigest(), label
    assert db.execute("SELECT modelstore.find_model(%s, 'production')", (f"m{filled.number}",)).fetchone() == (filled.model,)
    for made, data in filled.checkpoints:
        assert checkpoints.exported(db, made) == data
    assert checkpoints.latest(db, filled.model) == filled.checkpoints[-1][0]
    known = db.execute("SELECT checkpoint_id FROM store.model_checkpoints WHERE model_id = %s", (filled.model,)).fetchall()
    assert {row for (row,) in known} == {made for made, _ in filled.checkpoints}
    for key, content in filled.atoms.items():
        assert reconstruct(db, key) == content
    assert db.execute("SELECT modelstore.upload_offset(%s)", (filled.upload,)).fetchone() == (filled.sent,)


def go_on(db: psycopg.Connection, filled: Filled) -> None:
    """It is a store like any other: training continues, the upload is finished, models come and go, and all of it is sound."""
    step = 10 + len(filled.checkpoints)
    train(db, filled, step)
    db.execute("SELECT modelstore.log_metrics(%s, %s, '{\"loss\": 0.5}')", (filled.session, step))
    db.execute("SELECT modelstore.append_upload(%s, %b, %s)", (filled.upload, filled.file[filled.sent :], filled.sent))
    db.execute("SELECT modelstore.finish_upload(%s, 'uploaded', %s)", (filled.upload, str(filled.number)))
    assert exported_sha256(db, f"uploaded:{filled.number}") == hashlib.sha256(filled.file).hexdigest()
    (filled.upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    filled.sent = 0
    content = f"afterwards {filled.number}".encode() * 2000
    filled.atoms[key_of(ingest(db, content))] = content
    import_model(db, safetensors_bytes({"w": random_tensor(50 + filled.number, 300, 512)}), "gone")
    db.execute("SELECT modelstore.delete_model('gone')")
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (1,)
    check(db, filled)
