"""Stores that are not what create_store made: an ordinary role changes one of its own at random, then every function of the
extension is called on it, by that role, by another one and by a superuser.

A round is a transaction: changes, calls, rollback; one in 32 is committed, in a database of its own. It fails on

- `crash`: a process of the server dies
- `hang`: a call goes on for more than 20 seconds
- `address`: an answer holds a number that is an address in the process's memory
- `escalation`: code of the attacker runs as somebody else, from a function of the extension
- `internal`: XX000, or the text of a panic
- `stuck`: after the rollback, the store that is whole again is refused

Code that a role runs by itself (a view of the attacker that it selects from) is PostgreSQL's affair and not asked for here. What
leads to a finding is printed as statements; FUZZ_ROUND repeats a round.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import time
from collections.abc import Iterator

import pytest
from campaign import (
    PANIC,
    Addresses,
    Arguments,
    Findings,
    Outcome,
    Session,
    casts,
    functions,
    ident,
    operators,
    populate,
    rate,
    relations,
    views,
)
from harness import CRASH, FAST, Server, wait_until
from hostile import TRAPS, Hostile
from rounds import seed, size

ATTACKER, SECOND, PLAIN, OWNER = "campaign_attacker", "campaign_second", "campaign_plain", "campaign_owner"
TEMPLATE = "campaign_template"

SLOW = ("create_store", "drop_store", "upgrade_store", "add_module", "secure_atoms", "refresh_spatial_summary")
# Answers that are numbers of bytes, any number.
SIZES = re.compile("bytes|plan_gradient_checkpoints")
SLOWER = ("verify_atoms", "atoms_gc", "release")

ROLES = f"""
    CREATE ROLE {ATTACKER} LOGIN; CREATE ROLE {SECOND} LOGIN; CREATE ROLE {PLAIN} LOGIN; CREATE ROLE {OWNER} LOGIN;
    GRANT {SECOND} TO {ATTACKER};
    CREATE DATABASE {TEMPLATE};
    GRANT CREATE ON DATABASE {TEMPLATE} TO {ATTACKER}, {OWNER};
"""
FOREIGN = f"""
    CREATE FOREIGN DATA WRAPPER campaign_none;
    CREATE SERVER campaign_dummy FOREIGN DATA WRAPPER campaign_none;
    GRANT USAGE ON FOREIGN SERVER campaign_dummy TO {ATTACKER};
"""
LOOP = """
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER campaign_loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {host}, port {port}, dbname 'postgres');
    GRANT USAGE ON FOREIGN SERVER campaign_loop TO {role};
    CREATE USER MAPPING FOR PUBLIC SERVER campaign_loop OPTIONS (user {user}, password_required 'false');
"""
# What roles of a database with an attacker in it may have been given.
GRANTS = f"""
    GRANT USAGE ON SCHEMA modelstore TO PUBLIC;
    GRANT USAGE ON SCHEMA store TO {ATTACKER}, {PLAIN};
    GRANT SELECT, REFERENCES ON ALL TABLES IN SCHEMA store TO {ATTACKER};
    GRANT SELECT ON ALL TABLES IN SCHEMA store TO {PLAIN};
"""


@pytest.fixture(scope="module")
def arena(server: Server) -> Iterator[Server]:
    """A server of the campaign's own, with a template: the attacker installed the extension and has the store `ms`."""
    arena = Server(f"test-{os.getpid()}-arena", FAST + "max_locks_per_transaction = 256\nlog_statement = none\nautovacuum = off\n").start()
    try:
        arena.psql(ROLES)
        arena.psql(FOREIGN, TEMPLATE)
        try:
            arena.psql(LOOP.format(host=f"'{arena.socket}'", port=f"'{arena.port}'", role=ATTACKER, user=f"'{PLAIN}'"), TEMPLATE)
        except RuntimeError:
            print("no postgres_fdw")
        with arena.connect(TEMPLATE, user=ATTACKER, autocommit=True) as c:
            c.execute("CREATE EXTENSION pg_modelstore")
            failed = populate(c, "ms")
            c.execute(TRAPS)
            c.execute(f"GRANT USAGE ON SCHEMA ms TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA ms TO {PLAIN}, {SECOND}")
        with arena.connect(TEMPLATE, autocommit=True) as c:
            c.execute("GRANT USAGE ON SCHEMA modelstore TO PUBLIC")
        with arena.connect(TEMPLATE, user=OWNER, autocommit=True) as c:
            failed += populate(c, "store")
        arena.psql(GRANTS, TEMPLATE)
        assert len(failed) < 6, "most of the store cannot be made any more:\n" + "\n".join(failed)
        for line in failed:
            print("not made:", line)
        yield arena
    finally:
        arena.remove()


class Campaign:
    """Rounds until the time is over."""

    def __init__(self, arena: Server, findings: Findings) -> None:
        self.arena, self.findings = arena, findings
        self.calls = self.changes = self.rounds = 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.reached: set[str] = set()
        self.slow: collections.Counter[str] = collections.Counter()
        self.database = 0
        with arena.connect(TEMPLATE, autocommit=True) as c:
            self.functions = functions(c)
            self.tables = relations(c, "ms")
            self.views = views(c, "ms")
            self.operators, self.casts = operators(c), casts(c)
            self.pools = Arguments(random.Random(0), c, "ms")
            self.pools.learn_chunks(c, "ms")
        self.session: Session | None = None
        self.mark = arena.log_size()

    def new_database(self) -> str:
        self.database += 1
        name = f"campaign_{self.database}"
        with self.arena.connect(autocommit=True) as c:
            c.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
            c.execute(f"GRANT CREATE ON DATABASE {name} TO {ATTACKER}, {OWNER}")
        return name

    def connect(self, database: str, user: str = "postgres") -> Session:
        connection = self.arena.connect(database, user=user, autocommit=True, options="-c statement_timeout=50s")
        session = Session(connection)
        session.run("SET client_min_messages = notice")
        return session

    def one(self, number: int) -> None:
        """One round."""
        rng = random.Random(f"{seed()}:{number}")
        arguments = Arguments(rng, hostile=rng.choice([0.05, 0.2, 0.5]))
        for field in ("pools", "atoms", "large_objects"):
            setattr(arguments, field, getattr(self.pools, field))
        self.rounds += 1
        round_ = Round(self, number, rng, arguments)
        if number % 32 == 31:
            round_.committed()
        else:
            if self.session is None:
                self.session = self.connect(self.new_database())
            round_.rolled_back()
            if round_.gone:
                self.session = None

    def run(self, seconds: float) -> None:
        begun = time.monotonic()
        only = os.environ.get("FUZZ_ROUND")
        if only:
            self.one(int(only))
        number = 0
        while not only and time.monotonic() - begun < seconds and not self.findings.enough:
            self.one(number)
            number += 1
        print(f"seed {seed()}: {self.rounds} rounds, {self.changes} changes, {rate(self.calls, begun)},",
              f"{len(self.reached)} of {len({f.signature for f in self.functions})} functions went through at least once")  # fmt: skip
        print("seconds:", {name: round(t, 2) for name, t in self.slow.most_common(12)})
        print("outcomes:", dict(self.outcomes.most_common(25)))


class Round:
    def __init__(self, campaign: Campaign, number: int, rng: random.Random, arguments: Arguments) -> None:
        self.campaign, self.number, self.rng, self.arguments = campaign, number, rng, arguments
        self.hostile = Hostile(rng, campaign.tables, arguments, self.call)
        self.script: list[str] = []
        self.recent: collections.deque[str] = collections.deque(maxlen=8)
        self.gone = False

    def call(self) -> str:
        """A call of some function."""
        f = self.rng.choice(self.campaign.functions)
        # Those that ask a store come up more often, those that take half a second less.
        while self.rng.random() < (0.98 if f.name in SLOW else 0.8 if f.name in SLOWER else 0 if f.of_store else 0.85):
            f = self.rng.choice(self.campaign.functions)
        self.current = f
        return self.arguments.call(f)

    def statement(self) -> str:
        """A statement that uses the extension."""
        kind, c = self.rng.random(), self.campaign
        self.current = None
        if kind < 0.8:
            call = self.call()
            if self.current.kind == "p":
                return f"CALL {call}"
            form = self.rng.random()
            if form < 0.7:
                return f"SELECT * FROM {call} LIMIT 200"
            if form < 0.85 or not self.current.is_set:
                return f"SELECT {call} LIMIT 200"
            change = "; ".join(self.hostile.change()[:1] if self.rng.random() < 0.5 else ["SELECT 1"])
            return f"DECLARE c CURSOR FOR SELECT {call}; FETCH 1 FROM c; {change}; FETCH 50 FROM c; CLOSE c"
        table = self.rng.choice(sorted(c.tables))
        column, _ = self.rng.choice(c.tables[table])
        if kind < 0.85 and c.operators:
            name, left, right = self.rng.choice(c.operators)
            return f"SELECT {self.arguments.value(left)} OPERATOR(@ext@.{name}) {self.arguments.value(right)}"
        if kind < 0.9 and c.casts:
            source, target = self.rng.choice(c.casts)
            return f"SELECT ({self.arguments.value(source)})::{target}"
        if kind < 0.95 and c.views:
            return f"SELECT * FROM @s@.{ident(self.rng.choice(c.views))} LIMIT 50"
        return f"SELECT {ident(column)}::text, count(*) FROM @s@.{ident(table)} GROUP BY 1 LIMIT 20"

    def expand(self, sql: str) -> str:
        return sql.replace("@s@", self.hostile.schema).replace("@ext@", self.hostile.extension)

    def judge(self, session: Session, sql: str, outcome: Outcome, who: str) -> None:
        """What an outcome says of the extension."""
        c = self.campaign
        c.calls += 1
        c.outcomes[outcome.sqlstate] += 1
        c.slow[self.current.name if self.current else "sql"] += session.seconds
        if outcome.ok and self.current is not None:
            c.reached.add(self.current.signature)
        where = f"seed {seed()}, round {self.number}, as {who}"
        name = self.current.signature if self.current else sql[:60]
        script = [*self.script, f"SET SESSION AUTHORIZATION {who}", sql]
        if outcome.sqlstate == "GONE":
            self.gone = True
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: CRASH.search(c.arena.log_since(c.mark)) is not None, "the server's log tells why", 10)
            why = [line for line in c.arena.log_since(c.mark).splitlines() if CRASH.search(line) or "DETAIL:  Failed process" in line]
            c.arena.wait_ready()
            c.mark = c.arena.log_size()
            kind = "hang" if session.hung else "crash"
            c.findings.add(kind, name, "\n".join(why[:3]) or outcome.text, where, [*self.script, *self.recent, *script[-2:]])
            return
        if outcome.sqlstate == "57014" and "statement timeout" in outcome.message:
            c.findings.add("hang", name, outcome.text, where, script)
        # PostgreSQL's own answer where a rule or a trigger of the attacker's keeps a foreign key from its work.
        is_theirs = outcome.message.startswith("referential integrity query")
        if (outcome.sqlstate == "XX000" and not is_theirs) or PANIC.search(outcome.text):
            c.findings.add("internal", f"{name}: {outcome.message[:80]}", outcome.text[:1500], where, script)
        begun = time.monotonic()
        if (address := Addresses(session.pid).within(outcome, sql, (self.current is None or self.current.of_store) and not SIZES.search(sql + outcome.text))) is not None:
            c.findings.add("address", name, f"{address:#x} in {str(outcome.rows)[:300]} {outcome.text[:300]}", where, script)
        c.slow["addresses"] += time.monotonic() - begun
        # Between two rows of a cursor the role changes a table itself: it runs what its own change checks or computes.
        is_own_change = sql.startswith("DECLARE c CURSOR") and "; SELECT 1; " not in sql
        for ran, is_super in session.ran:
            if ran not in (ATTACKER, SECOND) and self.current is not None and not is_own_change:
                c.findings.add("escalation", name, f"code of the attacker ran as {ran} (super {is_super})", where, script)
        session.ran.clear()
        self.recent.append(sql)

    # In one transaction, which is rolled back

    def rolled_back(self) -> None:
        session = self.campaign.session
        session.run(f"BEGIN; SET LOCAL SESSION AUTHORIZATION {ATTACKER}; SET LOCAL modelstore.store = 'ms'; SAVEPOINT s")
        if self.rng.random() < 0.7:  # what the session keeps of the store is older than the changes
            self.ask(session, 3, ATTACKER)
        for _ in range(self.rng.choice([1, 1, 1, 2, 4])):
            self.apply(session, self.hostile.change())
            if self.gone:
                return
            self.ask(session, self.rng.randint(5, 15), ATTACKER)
            if self.gone:
                return
        for who in (PLAIN, "postgres"):
            # Back to the superuser, whose session it is, and from there to the next; the store stays the attacker's.
            reset = "SET LOCAL SESSION AUTHORIZATION DEFAULT" if who == "postgres" else f"SET LOCAL SESSION AUTHORIZATION {who}"
            if session.run(f"ROLLBACK TO s; {reset}; SAVEPOINT s").sqlstate == "GONE":
                self.gone = True
                return
            self.ask(session, self.rng.randint(5, 15), who)
            if self.gone:
                return
        session.run("ROLLBACK; RESET SESSION AUTHORIZATION")
        self.campaign.slow["rollback"] += session.seconds
        session.ran.clear()
        if self.rng.random() < 0.2:
            self.current = None
            session.run("SET modelstore.store = 'ms'")
            outcome = session.run("SELECT count(*) FROM modelstore.verify_store()")
            self.campaign.slow["healthy again"] += session.seconds
            if outcome.sqlstate == "GONE":
                self.judge(session, "SELECT count(*) FROM modelstore.verify_store()", outcome, "postgres")
            elif not outcome.ok or outcome.rows[0][0] != b"0":
                where = f"seed {seed()}, round {self.number}"
                self.campaign.findings.add("stuck", outcome.message[:60], f"{outcome.text} {outcome.rows}", where, [*self.script, "ROLLBACK"])
            session.run("RESET modelstore.store")

    def apply(self, session: Session, change: list[str]) -> None:
        """Statements of a change, those that go through."""
        statements = [self.expand(sql) for sql in change]
        if not statements:
            return
        # All at once, and one by one where that fails.
        self.current = None
        together = "; ".join(statements)
        outcome = session.run(f"ROLLBACK TO s; {together}; RELEASE s; SAVEPOINT s")
        self.campaign.slow["changes"] += session.seconds
        if outcome.ok:
            self.campaign.changes += len(statements)
            self.script += statements
        for sql in statements if not outcome.ok and outcome.sqlstate != "GONE" else []:
            outcome = session.run(f"ROLLBACK TO s; {sql}; RELEASE s; SAVEPOINT s")
            self.campaign.slow["changes"] += session.seconds
            if outcome.ok:
                self.campaign.changes += 1
                self.script.append(sql)
            elif outcome.sqlstate == "GONE":
                break
        if outcome.sqlstate == "GONE":
            self.judge(session, together, outcome, ATTACKER)
        session.ran.clear()

    def ask(self, session: Session, count: int, who: str) -> None:
        for _ in range(count):
            sql = self.expand(self.statement())
            session.ran.clear()
            outcome = session.run(f"ROLLBACK TO s; {sql}")
            self.campaign.slow["all calls"] += session.seconds
            self.judge(session, sql, outcome, who)
            if self.gone:
                return
        session.run("ROLLBACK TO s")

    # Committed, in a database of its own, whose sessions were there before

    def committed(self) -> None:
        begun = time.monotonic()
        database = self.campaign.new_database()
        self.campaign.slow["new database"] += time.monotonic() - begun
        sessions = {who: self.campaign.connect(database, who) for who in (ATTACKER, PLAIN, "postgres")}
        try:
            for session in sessions.values():
                session.run("SET modelstore.store = 'ms'")
                session.run("SELECT count(*) FROM modelstore.verify_store()")
                session.run("SELECT modelstore.find_model('m')")
            for _ in range(self.rng.choice([1, 2, 3])):
                for sql in map(self.expand, self.hostile.change()):
                    sql = sql.replace(", true)", ", false)") if "set_config" in sql else sql.replace("SET LOCAL", "SET")
                    outcome = sessions[ATTACKER].run(sql)
                    self.campaign.changes += outcome.ok
                    if outcome.ok:
                        self.script.append(sql)
                for who, session in sessions.items():
                    for _ in range(6):
                        sql = self.expand(self.statement())
                        session.ran.clear()
                        self.judge(session, sql, session.run(sql), who)
                        if self.gone:
                            return
        finally:
            for session in sessions.values():
                session.close()
            with self.campaign.arena.connect(autocommit=True) as c:
                c.execute(f"DROP DATABASE {database} WITH (FORCE)")
            self.campaign.slow["committed"] += time.monotonic() - begun


def test_hostile_stores(arena: Server) -> None:
    """Issue 10: the hostile-store fuzzer."""
    findings = Findings(size("FUZZ_FINDINGS", 1))
    campaign = Campaign(arena, findings)
    campaign.run(size("FUZZ_SECONDS", 20))
    findings.check()
    assert campaign.calls > 100
