"""Databases in other encodings: CREATE EXTENSION refuses them, because text would not be stored as UTF-8."""

from __future__ import annotations

import pytest
from transfer import refusal

pytestmark = pytest.mark.versioned


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_only_databases_in_utf8(encoding: str, server, new_database) -> None:
    name = new_database()
    with server.connect(autocommit=True) as c:
        c.execute(f"DROP DATABASE {name}")
        c.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    with server.connect(name, autocommit=True) as db:
        diag = refusal(db, "CREATE EXTENSION pg_modelstore")
        assert (diag.sqlstate, diag.message_primary) == (
            "0A000",
            f"pg_modelstore does not support databases with encoding {encoding}",
        )
        assert diag.message_detail == "It reads and writes text as UTF8."
        assert db.execute("SELECT FROM pg_extension WHERE extname = 'pg_modelstore'").fetchall() == []
        # The HINT makes a database in which all of it works.
        db.execute(diag.message_hint.encode())
    try:
        with server.connect("models", autocommit=True) as db:
            db.execute("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store()")
            made = db.execute("SELECT modelstore.register_model('é', '模型')").fetchone()[0]
            assert db.execute("SELECT modelstore.find_model('é', '模型')").fetchone() == (made,)
            assert db.execute("SELECT modelstore.sparkline(ARRAY[1,2,3])").fetchone() == ("▁▅█",)
            # The check itself is not left behind.
            assert db.execute("SELECT FROM pg_proc WHERE proname LIKE 'require_utf8%'").fetchall() == []
    finally:
        with server.connect(autocommit=True) as c:
            c.execute("DROP DATABASE models")
