"""Measures atoms ingested, reconstructed and looked up by key per second. atom_places.py measures searches."""

from __future__ import annotations

import statistics
import time

import numpy as np
import psycopg
from atom_places import LAST, bench_places, each, seconds
from real_text import real_text


def local(b) -> psycopg.Connection:
    """As a client on the same machine connects."""
    db = psycopg.connect(b.url, host=b.value("SHOW unix_socket_directories"), autocommit=True)
    db.execute("SET client_min_messages = warning")
    return db


def bench_hilbert(b) -> None:
    """The curve, arrays to an array: what the functions of arrays themselves take is the baseline."""
    count = 2_000_000
    b.db.execute("DROP TABLE IF EXISTS arrays")
    b.db.execute("CREATE TABLE arrays (xs bigint[], ys bigint[])")
    b.db.execute("ALTER TABLE arrays ALTER xs SET STORAGE EXTERNAL, ALTER ys SET STORAGE EXTERNAL")
    rng = np.random.default_rng(0)
    b.db.execute("INSERT INTO arrays VALUES (%s::bigint[], %s::bigint[])", [rng.integers(0, LAST + 1, count).tolist() for _ in range(2)])
    ours, plain = [], []
    for _ in range(b.rounds + 1):
        ours.append(b.timed("SELECT cardinality(modelstore.hilbert_encode_many(xs, ys, 28)) FROM arrays"))
        plain.append(b.timed("SELECT cardinality(xs || 1::bigint), cardinality(ys || 1::bigint) FROM arrays"))
    ours, plain = ours[1:], plain[1:]
    ratio = statistics.median(p / o for p, o in zip(plain, ours))
    rate = count / statistics.median(ours) / 1e6
    b.report("hilbert_encode of arrays", f"{rate:.1f} M codes/s", f"{ratio:.2f} of reading and copying the arrays", "20 M codes/s")


def bench_keys(b, db: psycopg.Connection, rng: np.random.Generator) -> None:
    """Rows by key, one at a time and many at once; the same keys of a plain table."""
    db.execute("DROP TABLE IF EXISTS plain_atoms")
    db.execute("CREATE TABLE plain_atoms AS SELECT * FROM store.atoms")
    db.execute("ALTER TABLE plain_atoms ADD PRIMARY KEY (h_xy, h_yz, h_zm)")
    db.execute("VACUUM ANALYZE plain_atoms")
    keys = db.execute("SELECT h_xy, h_yz, h_zm FROM plain_atoms TABLESAMPLE SYSTEM (20) REPEATABLE (1)").fetchall()
    keys = [keys[n] for n in rng.permutation(len(keys))[:100_000]]
    one = "SELECT * FROM {} WHERE h_xy = %s AND h_yz = %s AND h_zm = %s"
    ours, plain = [], []
    for _ in range(b.rounds):
        ours.append(each(db, one.format("store.atoms"), keys[:2000]))
        plain.append(each(db, one.format("plain_atoms"), keys[:2000]))
    figure = f"{statistics.median(ours):.0f} us (plain table {statistics.median(plain):.0f} us)"
    b.report("look-up by key, 1 M atoms", figure, f"{statistics.median(p / o for p, o in zip(plain, ours)):.2f} of a plain table's speed", "1 ms")
    # The arrays are in the server already: what a client takes to write them is not measured.
    db.execute("DROP TABLE IF EXISTS wanted")
    db.execute("CREATE TABLE wanted AS SELECT %s::bigint[] AS a, %s::bigint[] AS b, %s::bigint[] AS c", [list(column) for column in zip(*keys)])
    many = """SELECT count(a.content_hash) FROM wanted, unnest(wanted.a, wanted.b, wanted.c) k(h_xy, h_yz, h_zm)
              JOIN {} a USING (h_xy, h_yz, h_zm)"""
    ours, plain = [], []
    for _ in range(b.rounds):
        for table, times in (("store.atoms", ours), ("plain_atoms", plain)):
            begun = time.perf_counter()
            (found,) = db.execute(many.format(table)).fetchone()
            times.append(time.perf_counter() - begun)
            assert found == len(keys)
    b.report(
        "look-up of 100 000 keys in one statement",
        f"{len(keys) / statistics.median(ours):,.0f} atoms/s (plain table {len(keys) / statistics.median(plain):,.0f})",
        f"{statistics.median(p / o for p, o in zip(plain, ours)):.2f} of a plain table's speed",
        "100 000/s",
    )
    db.execute("DROP TABLE plain_atoms")


def bench_ingest(b, db: psycopg.Connection) -> None:
    """New contents of 32 bytes, against rows of a plain table with a hash as its key."""
    rng = np.random.default_rng(3)

    def contents(count: int) -> list[bytes]:
        data = rng.bytes(32 * count)
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def plain_table() -> None:
        db.execute("DROP TABLE IF EXISTS plain_contents")
        db.execute("CREATE TABLE plain_contents (hash bytea PRIMARY KEY, value bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now())")

    ours = "SELECT count(*) FROM modelstore.ingest_many(%b::bytea[])"
    plain = "INSERT INTO plain_contents SELECT sha256(c), c FROM unnest(%b::bytea[]) c ON CONFLICT DO NOTHING"
    b.fresh_store()
    plain_table()
    times: dict[str, list[float]] = {ours: [], plain: []}
    for _ in range(b.rounds * 10 + 3):
        batch = contents(1000)
        for sql in times:
            times[sql].append(seconds(lambda: db.execute(sql, (batch,), prepare=True)))
    a, p = (statistics.median(times[sql][3:]) * 1000 for sql in (ours, plain))
    b.report("1 000 atoms of 32 bytes", f"{a:.1f} ms (INSERT {p:.1f} ms)", f"{p / a:.2f} of INSERT's speed", "20 ms")
    rates: dict[str, list[float]] = {ours: [], plain: []}
    for _ in range(b.rounds):
        b.fresh_store()
        plain_table()
        spent = dict.fromkeys(rates, 0.0)
        for _ in range(50):
            batch = contents(10_000)
            for sql in rates:
                spent[sql] += seconds(lambda: db.execute(sql, (batch,), prepare=True))
        for sql, took in spent.items():
            rates[sql].append(500_000 / took)
    assert db.execute("SELECT count(*) FROM store.atoms").fetchone() == (500_000,)
    b.report(
        "ingest_many, 50 times 10 000 contents of 32 bytes",
        f"{statistics.median(rates[ours]):,.0f} atoms/s (INSERT {statistics.median(rates[plain]):,.0f})",
        f"{statistics.median(x / y for x, y in zip(rates[ours], rates[plain])):.2f} of INSERT's speed",
        "50 000/s",
    )
    db.execute("DROP TABLE plain_contents")


def bench_whole(b, db: psycopg.Connection) -> None:
    """A million bytes in and out: opaque ones, and text."""
    rng = np.random.default_rng(4)
    for name, modality, data, target in (("opaque", "other", rng.bytes(1_000_000), "5 ms"), ("text", "text", real_text(1_000_000), "")):
        cast = "bytea" if modality == "other" else "text"
        function = "ingest" if modality == "other" else "ingest_text"
        value = data if modality == "other" else data.decode()
        sql = f"SELECT i.h_xy, i.h_yz, i.h_zm, i.status FROM modelstore.{function}(%b::{cast}, %s) i"
        taken, put_together = [], []
        for _ in range(b.rounds):
            b.fresh_store()
            db.execute(sql, ("warm" if cast == "text" else b"warm" * 100, modality))
            begun = time.perf_counter()
            *key, status = db.execute(sql, (value, modality)).fetchone()
            taken.append(time.perf_counter() - begun)
            assert status == "completed"
            whole = "SELECT modelstore.reconstruct((%s, %s, %s))"
            assert db.execute(whole, key, binary=True).fetchone()[0] == data
            put_together.append(each(db, whole, [tuple(key)] * 20, warm=3))
        (atoms,) = db.execute("SELECT count(*) FROM store.atoms").fetchone()
        b.report(f"ingest of 1 MB, {name}", f"{len(data) / statistics.median(taken) / 1e6:.1f} MB/s, {atoms:,} atoms", "", "")
        b.report(f"reconstruct of 1 MB, {name}", f"{statistics.median(put_together) / 1000:.1f} ms", "", target)
    # From leaf to leaf of the text that is now in the store.
    ends = db.execute("SELECT h_xy, h_yz, h_zm FROM store.atom_chunks ORDER BY h_zm LIMIT 40").fetchall()
    pairs = [(*x, *y) for x, y in zip(ends[::2], ends[1::2])]
    for strategy in ("astar", "hops"):
        sql = f"SELECT * FROM modelstore.find_path((%s, %s, %s), (%s, %s, %s), 10, '{strategy}', '{{composition}}')"
        hops = [len(found) - 1 for pair in pairs if (found := db.execute(sql, pair).fetchall())]
        times = [each(db, sql, pairs, warm=2) for _ in range(b.rounds)]
        figure = f"{statistics.median(times) / 1000:.1f} ms, {len(hops)} of {len(pairs)} found, {statistics.median(hops or [0]):.0f} hops"
        b.report(f"find_path by composition, {strategy}, 1 MB of text", figure, "", "10 ms")


def bench_large_text(b, db: psycopg.Connection) -> None:
    """25 MB of source code: what it takes in tables, WAL and time, and what an edit of one line adds."""
    size = """SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
              WHERE c.relnamespace = 'store'::regnamespace AND relname ~ '^atom' AND relkind = 'r'"""
    wal = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
    b.fresh_store()
    data = real_text(25_000_000)
    (number,) = db.execute("SELECT lo_from_bytea(0, %b)", (data,)).fetchone()
    db.execute("CHECKPOINT")
    (empty,), (wal_before,) = db.execute(size).fetchone(), db.execute(wal).fetchone()
    begun = time.perf_counter()
    *key, atoms = db.execute("SELECT i.h_xy, i.h_yz, i.h_zm, i.created FROM modelstore.ingest_large_object(%s, 'code') i", (number,)).fetchone()
    taken = time.perf_counter() - begun
    (stored,), (wal_after,) = db.execute(size).fetchone(), db.execute(wal).fetchone()
    again = seconds(lambda: db.execute("SELECT octet_length(modelstore.reconstruct((%s, %s, %s)))", key).fetchone())
    figure = f"in {len(data) / taken / 1e6:.0f} MB/s, out {len(data) / again / 1e6:.0f} MB/s, {atoms:,} atoms"
    b.report(f"{len(data) / 1e6:.0f} MB of code", figure, f"{(stored - empty) / len(data):.2f} times its bytes in tables, {(wal_after - wal_before) / len(data):.2f} in WAL", "20, 100 MB/s, 3 times")
    lines = [(*key, line, line + 10) for line in range(1, data.count(b"\n"), 9973)]
    b.report("10 lines of it", f"{each(db, 'SELECT modelstore.reconstruct_lines((%s, %s, %s), %s, %s)', lines) / 1000:.2f} ms", "", "")
    edited = data[: len(data) // 2] + b"changed" + data[len(data) // 2 :]
    counted = "SELECT count(*), sum(pg_column_size(t.*)) FROM store.{} t"
    tables = ("atoms", "atom_parts", "atom_chunks")
    before = [db.execute(counted.format(table)).fetchone() for table in tables]
    root = db.execute("SELECT i.h_xy, i.h_yz, i.h_zm FROM modelstore.ingest(%b::bytea, 'code') i", (edited,)).fetchone()
    after = [db.execute(counted.format(table)).fetchone() for table in tables]
    rows, size_added = (sum(y[i] - x[i] for x, y in zip(before, after)) for i in (0, 1))
    b.report("one line of it changed", f"{rows} rows, {size_added / 1000:.1f} kB", "", "")
    db.execute("SELECT modelstore.release((%s, %s, %s)), modelstore.release((%s, %s, %s))", (*key, *root))
    b.report("atoms_gc of it", f"{seconds(lambda: db.execute('SELECT * FROM modelstore.atoms_gc()')):.1f} s", "", "")
    db.execute("SELECT lo_unlink(%s)", (number,))


def bench_atoms(b) -> None:
    bench_hilbert(b)
    b.fresh_store()
    db = local(b)
    bench_ingest(b, db)
    bench_whole(b, db)
    bench_large_text(b, db)
    bench_places(b, db)
    bench_keys(b, db, np.random.default_rng(6))
    db.close()
