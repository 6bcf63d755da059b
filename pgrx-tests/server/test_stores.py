"""Creating and dropping a store affects no other objects."""

from __future__ import annotations

import models
import pytest
from observe import problems
from transfer import import_model, refusal

pytestmark = pytest.mark.versioned


def test_dropping_a_store_keeps_what_is_not_its_own(db) -> None:
    db.execute("CREATE SCHEMA shared")
    db.execute("CREATE TABLE shared.mine AS SELECT 1 AS i")
    db.execute("SELECT modelstore.create_store('shared')")
    for options in ("", ", cascade => true"):
        db.execute(f"SELECT modelstore.drop_store('shared'{options})")
        assert db.execute("SELECT i FROM shared.mine").fetchall() == [(1,)]
        db.execute("SELECT modelstore.create_store('shared')")
    db.execute("DROP TABLE shared.mine; SELECT modelstore.drop_store('shared')")
    assert db.execute("SELECT to_regnamespace('shared')").fetchone() == (None,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW mine AS SELECT model_name FROM store.models",
        "CREATE TABLE mine (model_id uuid REFERENCES store.models)",
        "CREATE TABLE mine (m store.models)",
    ],
)
def test_dropping_a_store_keeps_what_depends_on_it(statement, db) -> None:
    db.execute(statement)
    assert refusal(db, "SELECT modelstore.drop_store('store')").sqlstate == "2BP01"
    db.execute("SELECT * FROM mine")
    db.execute("SELECT modelstore.drop_store('store', cascade => true)")


def test_no_store_in_a_schema_of_the_system(db) -> None:
    for name in ("pg_catalog", "pg_toast", "information_schema", "modelstore"):
        assert refusal(db, "SELECT modelstore.create_store(%s)", name).sqlstate == "42939", name


def test_the_hint_of_a_damaged_file_leads_to_the_damage(db) -> None:
    """What an export says to run must find what the export has met."""
    model = import_model(db, models.safetensors_bytes({"w": models.random_tensor(1, 20, 30)})).model_id
    db.execute("UPDATE store.model_files SET header = set_byte(header, 8, 32)")
    diag = refusal(db, "SELECT modelstore.export_safetensors(%s)", model)
    assert diag.sqlstate == "XX001"
    assert db.execute(diag.message_hint).fetchall(), diag.message_hint


def test_verifying_goes_on_after_a_tensor_whose_row_is_wrong(db) -> None:
    tensors = {name: models.random_tensor(i, 20, 30) for i, name in enumerate("abc")}
    model = import_model(db, models.safetensors_bytes(tensors)).model_id
    assert problems(db) == []
    db.execute("UPDATE store.tensor_metadata SET shape = '{5}' WHERE tensor_id = (SELECT tensor_id FROM store.model_weights WHERE weight_name = 'b')")
    assert problems(db)
    assert db.execute("SELECT * FROM modelstore.verify_model(%s)", (model,)).fetchall()
