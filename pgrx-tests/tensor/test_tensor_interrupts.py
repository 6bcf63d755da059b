"""Long operations on one value end when their statement is canceled. src/in_server_tests/interrupts.rs shows that each loop
checks for interrupts; here, that the error is that of a canceled statement and the session continues."""

from __future__ import annotations

import pytest
from tensors import value
from transfer import refusal

pytestmark = pytest.mark.alone

# Each takes far longer than the 20 ms it gets, on values of 30 MB and more.
LONG = {
    "jsonb": "SELECT ndim(v::tensor) FROM t, LATERAL (SELECT j AS v) _",
    "text in": "SELECT ndim(s::tensor) FROM t",
    "text out": "SELECT length(e::text) FROM t",
    "to jsonb": "SELECT length(e::jsonb::text) FROM t",
    "numeric": "SELECT ndim(n::tensor) FROM t",
    "astype": "SELECT sum(ndim(astype(e, 'f16'))) FROM t, generate_series(1, 50)",
    "l1_norm": "SELECT count(l1_norm(e)) FROM t, generate_series(1, 50)",
}


@pytest.fixture(scope="module")
def text() -> str:
    return "[" + ",".join(str(i % 1000 / 8) for i in range(5_000_000)) + "]"


def test_statements_end_in_time(db, text) -> None:
    db.execute("CREATE TABLE t (j jsonb, s text, e tensor, n numeric[])")
    db.execute("ALTER TABLE t ALTER s SET STORAGE EXTERNAL, ALTER j SET STORAGE EXTERNAL")
    db.execute("INSERT INTO t (s, e) SELECT s, s::tensor FROM (SELECT %s::text AS s) _", (text,))
    db.execute("UPDATE t SET j = s::jsonb, n = e::double precision[]::numeric[]")
    assert value(db, "SELECT j::tensor = e AND n::tensor(f32) = e FROM t")
    db.execute("SET statement_timeout = 20")
    for name, statement in LONG.items():
        assert refusal(db, statement).sqlstate == "57014", name
    db.execute("RESET statement_timeout")
    assert value(db, "SELECT numel(e) FROM t") == 5_000_000
