"""Calls every function of the extension with hostile arguments on an intact store: no crash, no XX000, no call of more than
20 seconds, and a store that verifies without problems afterwards."""

from __future__ import annotations

import collections
import random
import time

import psycopg
import pytest
from campaign import PANIC, Addresses, Arguments, Findings, Session, casts, functions, operators, populate, rate
from rounds import seed, size

# What would leave the store as none, or makes a thousand tables: tried, and rolled back.
UNDONE = ("create_store", "drop_store", "upgrade_store", "add_module", "secure_atoms", "enable_pgvector", "enable_postgis", "delete_model")
SLOW = ("create_store", "secure_atoms", "verify_atoms", "atoms_gc", "refresh_spatial_summary", "release")


def test_hostile_arguments(server, new_database, connect) -> None:
    """Issue 10: SQL fuzz of all functions."""
    name = new_database()
    with server.connect(autocommit=True) as c:
        c.execute("DO $$ BEGIN CREATE ROLE campaign_caller LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        c.execute(f"GRANT CREATE ON DATABASE {name} TO campaign_caller")
    db = connect(dbname=name)
    db.execute("CREATE EXTENSION pg_modelstore; GRANT USAGE ON SCHEMA modelstore TO PUBLIC")
    owner = connect(dbname=name, user="campaign_caller")
    assert len(populate(owner, "store")) < 4
    rng, findings = random.Random(f"{seed()}:sql"), Findings(size("FUZZ_FINDINGS", 1))
    found = functions(db)
    ops, conversions = operators(db), casts(db)
    arguments = learned(rng, owner)
    session = Session(connect(dbname=name, user="campaign_caller", options="-c statement_timeout=20s"))
    addresses = Addresses(session.pid)
    wanted, begun, outcomes, reached = size("SQL_CALLS", 1500), time.monotonic(), collections.Counter(), set()
    for number in range(wanted):
        if number % 500 == 499:
            # Models and runs that are gone come back, so that there is something to ask for.
            if owner.execute("SELECT count(*) FROM store.models").fetchone()[0] < 3:
                owner.execute("DELETE FROM store.model_aliases; DELETE FROM store.model_checkpoints; DELETE FROM store.models")
                populate(owner, "store", number)
            arguments = learned(rng, owner)
        f = rng.choice(found)
        while f.name in SLOW and rng.random() < 0.95:
            f = rng.choice(found)
        if rng.random() < 0.08 and ops:
            operator, left, right = rng.choice(ops)
            f, sql = None, f"SELECT {arguments.value(left)} OPERATOR(modelstore.{operator}) {arguments.value(right)}"
        elif rng.random() < 0.05 and conversions:
            source, target = rng.choice(conversions)
            f, sql = None, f"SELECT ({arguments.value(source)})::{target}"
        elif f.kind == "p":
            sql = f"CALL {arguments.call(f)}"
        else:
            sql = f"SELECT * FROM {arguments.call(f)} LIMIT 300" if rng.random() < 0.8 else f"SELECT {arguments.call(f)} LIMIT 300"
        sql = sql.replace("@ext@", "modelstore")
        if f and f.name in UNDONE:
            outcome = session.run(f"BEGIN; {sql}")
            if outcome.sqlstate != "GONE":
                session.run("ROLLBACK")
        else:
            outcome = session.run(sql)
        outcomes[outcome.sqlstate] += 1
        where, key = f"seed {seed()}, call {number}", f.signature if f else sql[:80]
        if outcome.ok:
            reached.add(key)
        if outcome.sqlstate == "GONE":
            findings.add("hang" if session.hung else "crash", key, outcome.text, where, [sql])
            break
        if outcome.sqlstate == "57014":
            findings.add("hang", key, outcome.text, where, [sql])
        if outcome.sqlstate.startswith("XX") or PANIC.search(outcome.text):
            findings.add("internal", f"{key}: {outcome.message[:80]}", outcome.text[:2000], where, [sql])
        if (address := addresses.within(outcome, sql, f is not None and f.of_store)) is not None:
            findings.add("address", key, hex(address), where, [sql])
        if findings.enough:
            break
    print(f"seed {seed()}: {rate(sum(outcomes.values()), begun)}, {len({r for r in reached})} kinds of calls went through; {dict(outcomes.most_common(20))}")
    findings.check()
    assert len(reached) > len(found) / 2, "most functions never went through: the arguments fit nothing any more"
    owner.execute("SET statement_timeout = 0")
    assert owner.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []
    assert owner.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []


def learned(rng: random.Random, owner) -> Arguments:
    arguments = Arguments(rng, owner, "store", hostile=0.4)
    arguments.learn_chunks(owner, "store")
    return arguments


def test_an_explicit_null_is_an_error_of_the_function_s_own(db) -> None:
    """Line 31: every argument of every function as NULL, the others as they may be."""
    arguments = Arguments(random.Random(seed()), db, "store", hostile=0)
    wrong = []
    for f in functions(db):
        if f.kind != "f" or f.name in SLOW:
            continue
        for at in range(len(f.types)):
            values = [f"NULL::{t}" if i == at else arguments.value(t, n) for i, (t, n) in enumerate(zip(f.types, f.names, strict=True))]
            sql = f"SELECT modelstore.{f.name}({', '.join(values)})".replace("@ext@", "modelstore")
            try:
                with db.transaction(force_rollback=True):
                    db.execute(sql.encode())
            except psycopg.Error as e:
                if (e.sqlstate or "XX000").startswith("XX"):
                    wrong.append(f"{f.signature}, argument {at + 1}: {e.sqlstate} {e}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["tensor", "tensor_chunk"])
def test_binary_input_of_the_types(kind: str, db) -> None:
    """Bytes in the binary format come from a client: any bytes are a value or an error."""
    rng, calls = random.Random(f"{seed()}:{kind}"), size("SQL_CALLS", 1500) // 5
    db.execute(f"CREATE TEMP TABLE t (v modelstore.{kind})")
    db.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (_a_file(),))
    good = [b for (b,) in db.execute(f"SELECT v FROM ({'SELECT chunk AS v FROM store.tensor_chunks' if kind == 'tensor_chunk' else VALUES}) x", binary=True)]
    states: collections.Counter[str] = collections.Counter()
    for _ in range(calls):
        data = bytearray(rng.choice(good))
        for _ in range(rng.choice([0, 1, 1, 3])):
            data[rng.randrange(min(len(data), 64))] = rng.randrange(256)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data) + 1)]
        if rng.random() < 0.1:
            data += rng.randbytes(rng.randint(1, 40))
        outcome = send_binary(db, kind, bytes(data))
        states[outcome[0]] += 1
        assert not outcome[0].startswith("XX0") and not PANIC.search(outcome[1]), (outcome, bytes(data).hex())
    print(dict(states))
    assert states["00000"] > 0
    assert len(states) > 1


VALUES = r"""
    SELECT unnest(ARRAY['[1,2,3]', 'f64:[[1],[2]]', 'bf16:[1,2]', 'f4(2):\x12', 'u8:[]', 'i64:7', 'bool:[true]']::modelstore.tensor[]) AS v
"""


def _a_file() -> bytes:
    from models import random_tensor, safetensors_bytes

    return safetensors_bytes({"a": random_tensor(1, 30, 20), "b": random_tensor(2, 50, dtype="float64")})


def send_binary(db, kind: str, data: bytes) -> tuple[str, str]:
    """Sends a parameter in binary and uses the value; SQLSTATE and message."""
    (oid,) = db.execute("SELECT %s::regtype::oid", (f"modelstore.{kind}",)).fetchone()
    use = "modelstore.decode($1)" if kind == "tensor_chunk" else "$1::text, modelstore.norm($1), modelstore.shape($1), modelstore.tobytes($1)"
    result = db.pgconn.exec_params(f"SELECT {use}".encode(), [data], param_types=[oid], param_formats=[1])
    state = result.error_field(ord("C"))
    return (state or b"00000").decode(), (result.error_field(ord("M")) or b"").decode()


def test_an_address_is_told_from_a_number(connect) -> None:
    """The campaigns' own check: a number that lies in memory the process has mapped, in digits or in bytes, and no other."""
    session = Session(connect())
    maps = open(f"/proc/{session.pid}/maps").read().splitlines()
    heap = next(int(line.split("-")[0], 16) for line in maps if "[heap]" in line) + 64
    addresses = Addresses(session.pid)
    stack = next(int(line.split("-")[0], 16) for line in maps if "[stack]" in line) + 64
    little = stack.to_bytes(8, "little").hex()
    for sql in (f"SELECT {heap}::bigint", f"SELECT 'x', ARRAY[1, {heap}]", f"SELECT '\\x00{little}00'::bytea", f"SELECT to_hex({heap})"):
        outcome = session.run(sql)
        assert outcome.ok
        assert addresses.within(outcome, "") in (heap, stack), sql
        if little in sql:
            continue
        assert addresses.within(outcome, f"{heap} {heap:x}") is None, sql
    for sql in ("SELECT 64::bigint", f"SELECT {heap - (1 << 40)}::bigint", "SELECT 9223372036854775807", "SELECT '0.123456789012345'", f"SELECT 'f32:[0.{heap},0.0{heap:x}]'"):
        assert addresses.within(session.run(sql), "") is None, sql
    outcome = session.run(f"DO $$ BEGIN RAISE EXCEPTION 'no atom {heap}'; END $$")
    assert addresses.within(outcome, "") == heap
