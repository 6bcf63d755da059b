"""Fixtures: stores with atoms, and roles that may use them."""

from __future__ import annotations

import uuid

import pytest
from atom_grants import APART, GRANTS
from databases import make_template
from harness import EXTENSION, Server


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """Name of a database with the extension and a store with atoms, for others to be made from."""
    return make_template(server, "with_atoms", f"CREATE EXTENSION {EXTENSION}; SELECT modelstore.create_store(modules => ARRAY['atoms']);")


@pytest.fixture
def role(db):
    """role(): makes a role that may log in, and returns its name."""
    made = []

    def make(grants: str = GRANTS + APART) -> str:
        name = f"atoms_{uuid.uuid4().hex[:8]}"
        db.execute(f"CREATE ROLE {name} LOGIN")
        made.append(name)
        if grants:
            db.execute(grants.format(name))
        return name

    yield make
    for name in made:
        db.execute(f"DROP OWNED BY {name} CASCADE")
        db.execute(f"DROP ROLE {name}")
