"""The weights of a folder once more, in another form: kept byte for byte, and no weights of the model."""

from __future__ import annotations

import json
import pathlib
import uuid

import numpy as np
import pytest
from checkpoints import checkpoint, register
from folders import WAYS, add, folder
from malformed_files import INDEX_RULES
from models import random_tensor, safetensors_bytes
from observe import problems
from transfer import refusal

TENSORS = {"a.weight": random_tensor(1, 600, 700), "a.bias": random_tensor(2, 30), "empty": np.zeros((0, 3), "<f4"), "b.weight": random_tensor(3, 50, 30)}
ADD = "SELECT modelstore.add_file(%s, %s, %b::bytea)"


def form(dtype: str = "<f4", names: tuple[str, ...] = tuple(TENSORS), prefix: str = "") -> bytes:
    return safetensors_bytes({prefix + name: TENSORS[name].astype(dtype) for name in names})


def index(**files: tuple[str, ...]) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {name: file for file, names in files.items() for name in names}}).encode()


def shards(stem: str, dtype: str) -> dict[str, bytes]:
    parts = (("a.weight", "empty"), ("a.bias", "b.weight"))
    return {stem.format(n=f"-0000{n}-of-00002"): form(dtype, names) for n, names in enumerate(parts, 1)}


def index_of(files: dict[str, bytes]) -> bytes:
    parts = (("a.weight", "empty"), ("a.bias", "b.weight"))
    return index(**{pathlib.PurePath(file).name: names for file, names in zip(sorted(files), parts, strict=True)})


def weights(db, model: uuid.UUID) -> dict[str, set[str]]:
    rows = db.execute("SELECT file_name, weight_name FROM store.model_weights WHERE model_id = %s", (model,)).fetchall()
    return {file: {name for of, name in rows if of == file} for file, _ in rows}


def plain(db, model: uuid.UUID) -> set[str]:
    return {name for (name,) in db.execute("SELECT file_name FROM store.model_files WHERE model_id = %s AND format = 'file'", (model,))}


@pytest.mark.parametrize("way", WAYS)
def test_a_variant_is_kept_as_a_file(db, way) -> None:
    files = {
        "model.safetensors": form(),
        "model.fp16.safetensors": form("<f2"),
        "unet/diffusion_pytorch_model.safetensors": form(),
        "unet/diffusion_pytorch_model.non_ema.safetensors": form(),
        "consolidated.safetensors": form(prefix="layers.0."),
    }
    told: list[str] = []
    db.add_notice_handler(lambda diag: told.append(diag.message_primary) if diag.severity_nonlocalized == "NOTICE" else None)
    model = register(db)
    for name, data in files.items():
        way(db, model, name, data)
    assert folder(db, model) == files and problems(db) == []
    assert weights(db, model) == {
        "model.safetensors": set(TENSORS),
        "unet/diffusion_pytorch_model.safetensors": {f"unet/{name}" for name in TENSORS},
    }
    assert told[0] == 'file "model.fp16.safetensors" holds the weights of file "model.safetensors" in another form and is kept without them'
    assert len(told) == 3 and db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)
    # It can be deleted, and nothing but its content is lost.
    db.execute("SELECT modelstore.delete_file(%s, 'model.fp16.safetensors')", (model,))
    db.execute("SELECT modelstore.gc()")
    del files["model.fp16.safetensors"]
    assert folder(db, model) == files and problems(db) == []


def test_a_variant_alone_is_the_weights(db) -> None:
    """The first form that comes is; the one that comes after it is a file."""
    model = register(db)
    add(db, model, "model.fp16.safetensors", form("<f2"))
    assert weights(db, model) == {"model.fp16.safetensors": set(TENSORS)}
    add(db, model, "model.safetensors", form())
    assert plain(db, model) == {"model.safetensors"}
    assert folder(db, model) == {"model.fp16.safetensors": form("<f2"), "model.safetensors": form()}


def test_what_is_no_other_form_is_refused_as_before(db) -> None:
    model = register(db)
    add(db, model, "model.safetensors", form())
    for name in ("other.safetensors", "model-00001-of-00002.safetensors", "model.1.safetensors"):
        assert refusal(db, ADD, model, name, form("<f2")).sqlstate == "23505", name
    # Named as a variant, but of other weights: parts that someone cut by hand.
    add(db, model, "model.part.safetensors", form(prefix="part."))
    assert set(weights(db, model)) == {"model.safetensors", "model.part.safetensors"} and plain(db, model) == set()


def test_variants_in_shards(db) -> None:
    main, half = shards("model{n}.safetensors", "<f4"), shards("model.fp16{n}.safetensors", "<f2")
    model = register(db)
    for name, data in (main | half).items():
        add(db, model, name, data)
    # Not complete: shards that are neither weights nor files.
    missing = index(**{"model.fp16-00001-of-00002.safetensors": ("a.weight",), "model.fp16-00009-of-00002.safetensors": ("x",)})
    assert refusal(db, ADD, model, "model.safetensors.index.fp16.json", missing).sqlstate == INDEX_RULES["UnexpectedFile"]
    indexes = {"model.safetensors.index.json": index_of(main), "model.safetensors.index.fp16.json": index_of(half)}
    for name, data in indexes.items():
        add(db, model, name, data)
    assert folder(db, model) == main | half | indexes and problems(db) == []
    assert set(weights(db, model)) == set(main) and plain(db, model) == {*half, "model.safetensors.index.fp16.json"}


def hub_folder() -> dict[str, bytes]:
    main, half = shards("model{n}.safetensors", "<f4"), shards("model{n}.fp16.safetensors", "<f2")
    return (
        main
        | half
        | {
            "model.safetensors.index.json": index_of(main),
            "model.safetensors.index.fp16.json": index_of(half),
            "consolidated.safetensors": form(prefix="layers."),
            "unet/d.fp16.safetensors": form("<f2"),
            "unet/d.safetensors": form(),
            "vae/d.fp16.safetensors": form("<f2"),
            "config.json": b"{}",
        }
    )


def test_a_folder_of_a_hub(server, db) -> None:
    """Whichever name comes first: the form without a variant is the weights, the only form is, and all come back."""
    place = server.scratch / str(uuid.uuid4())
    place.mkdir()
    place.chmod(0o777)
    files = hub_folder()
    for name, data in files.items():
        (place / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "in" / name).write_bytes(data)
    model, counted = db.execute("SELECT model_id, weights FROM modelstore.import_folder('m', '1', %s)", (str(place / "in"),)).fetchone()
    assert counted == 12 and folder(db, model) == files and problems(db) == []
    assert set(weights(db, model)) == {
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "unet/d.safetensors", "vae/d.fp16.safetensors",
    }  # fmt: skip
    elements = sum(array.size for array in TENSORS.values())
    assert db.execute("SELECT parameters FROM modelstore.list_models()").fetchone() == (3 * elements,)
    db.execute("SELECT modelstore.export_folder(%s, %s)", (model, str(place / "out")))
    out = {str(file.relative_to(place / "out")): file.read_bytes() for file in (place / "out").rglob("*") if file.is_file()}
    assert out == files


def test_a_version_made_of_another_has_no_other_forms(db) -> None:
    """As it has no pytorch_model.bin: they would be the weights of the other model."""
    model = register(db)
    main, half = form(), form("<f2")
    files = {
        "model.safetensors": main,
        "model.fp16.safetensors": half,
        "model.safetensors.index.fp16.json": index(**{"model.fp16.safetensors": tuple(TENSORS)}),
        "notes.txt": b"x",
    }
    for name, data in files.items():
        add(db, model, name, data)
    assert folder(db, model) == files
    taken = checkpoint(db, model, main, 1).checkpoint_id
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (taken,)).fetchone()
    assert set(folder(db, restored)) == {"model.safetensors", "notes.txt"}
