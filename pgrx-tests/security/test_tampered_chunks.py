"""Tampers with chunks, tensor_data and tensor_metadata thousands of times: each reader returns the correct bytes or an error,
none crashes, and readers that check hashes never return wrong bytes."""

from __future__ import annotations

import collections
import random
import time

import numpy as np
from campaign import PANIC, Addresses, Findings, Session, rate
from models import random_tensor, safetensors_bytes, to_bf16
from rounds import seed, size

CHUNK = "modelstore.tensor_chunk"
# Errors that say what is wrong. XX001 is damage; the others come from a value that contradicts another.
CLEAR = {"XX001", "22P03", "22P02", "22000", "22003", "22004", "22023", "22026", "2202E", "42704", "54000", "42P01", "22032", "0A000", "55000", "23514"}


def store(db) -> dict[str, object]:
    """A model with a weight for each codec, its successor as deltas, and a checkpoint."""
    rng = np.random.default_rng(7)
    base = {
        "planes": random_tensor(1, 60, 50), "half": random_tensor(2, 40, 40).astype("float16"), "double": random_tensor(3, 30, 30, dtype="float64"),
        "noise": rng.integers(0, 256, 3000, dtype="uint8"), "constant": np.full((70, 50), 3.0, dtype="float32"), "tiny": random_tensor(4, 3),
        "numbers": rng.integers(-100, 100, (40, 30), dtype="int64"), "long": random_tensor(5, 500, 300), "embeddings.word_embeddings.weight": random_tensor(6, 40, 16),
        "encoder.layer.0.attention.self.query.weight": random_tensor(8, 16, 16),
    }  # fmt: skip
    near = {n: a.copy() for n, a in base.items()}
    near["planes"][::9] += 0.001
    near["long"][::100] += 0.001
    sql = "SELECT model_id FROM modelstore.import_safetensors('m', %s, %b::bytea, parent => %s)"
    db.execute("SET modelstore.chunk_size = '256kB'")
    (a,) = db.execute(sql, ("1", safetensors_bytes(base), None)).fetchone()
    (b,) = db.execute(sql, ("2", safetensors_bytes(near), a)).fetchone()
    state = safetensors_bytes({"planes.exp_avg": random_tensor(9, 60, 50)})
    (c,) = db.execute(
        "SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, 1, %b::bytea, %b::bytea)",
        (a, safetensors_bytes(near), state),
    ).fetchone()
    assert to_bf16(base["tiny"]).shape == (3,)
    return {"a": a, "b": b, "c": c}


def readers(ids: dict[str, object], weights: list[str], tensors: list[str]) -> dict[str, tuple[str, bool]]:
    """Statements that read, and whether they promise that what they give is what was stored."""
    found: dict[str, tuple[str, bool]] = {}
    for m in "ab":
        i = f"'{ids[m]}'"
        found[f"export {m}"] = f"SELECT md5(string_agg(e::text, '')) FROM modelstore.export_safetensors({i}) e", True
        for w in weights:
            found[f"get_tensor {m} {w}"] = f"SELECT md5(modelstore.tobytes(modelstore.get_tensor({i}, '{w}'))::text)", True
            found[f"slice {m} {w}"] = f"SELECT md5(modelstore.get_tensor_slice({i}, '{w}', '1:3')::text)", False
        found[f"embedding {m}"] = f"SELECT md5(modelstore.embedding({i}, '{{0,39,7}}')::text)", False
        found[f"verify_model {m}"] = f"SELECT count(*) FROM modelstore.verify_model({i})", False
    for t in tensors:
        found[f"reconstruct_tensor {t}"] = f"SELECT md5(modelstore.tobytes(modelstore.reconstruct_tensor('{t}'))::text)", True
    i, c = f"'{ids['a']}'", f"'{ids['c']}'"
    return found | {
        "verify_store": ("SELECT count(*) FROM modelstore.verify_store()", False),
        "diff": (f"SELECT md5(string_agg(d::text, '')) FROM modelstore.diff_models({i}, '{ids['b']}') d", False),
        "publish_delta": (f"SELECT count(*) FROM modelstore.publish_delta({i}, '{ids['b']}')", False),
        "export_checkpoint": (f"SELECT md5(string_agg(e::text, '')) FROM modelstore.export_checkpoint({c}) e", True),
        "optimizer": (f"SELECT md5(modelstore.tobytes(modelstore.get_optimizer_state({c}, 'planes', 'exp_avg'))::text)", True),
        "restore": (f"SELECT md5(string_agg(e::text, '')) FROM modelstore.export_safetensors(modelstore.restore_checkpoint({c}, NULL, 'back')) e", True),
        "find_weights_with": ("SELECT count(*) FROM modelstore.find_weights_with('nan')", False),
        "decode": ("SELECT count(modelstore.decode(chunk)) FROM store.tensor_chunks WHERE modelstore.base_hash(chunk) IS NULL", False),
        "statistics": ("SELECT count(*) FROM store.v_weight_statistics", False),
        "import again": (
            f"SELECT count(*) FROM modelstore.import_safetensors('again', '1', (SELECT string_agg(e, '') FROM modelstore.export_safetensors({i}) e))", False,
        ),
    }  # fmt: skip


class Tamper:
    """Statements that damage a store."""

    def __init__(self, rng: random.Random, db) -> None:
        self.rng = rng
        rows = db.execute("SELECT chunk_hash, chunk::text FROM store.tensor_chunks ORDER BY chunk_hash").fetchall()
        self.chunks = {bytes(h): bytes.fromhex(t[2:]) for h, t in rows}
        self.small = [h for h, b in self.chunks.items() if len(b) < 30_000]
        self.touched: set[str] = set()
        self.uses: dict[bytes, list[str]] = collections.defaultdict(list)
        for h, t in db.execute("SELECT DISTINCT chunk_hash, tensor_id::text FROM store.tensor_data ORDER BY 1, 2"):
            self.uses[bytes(h)].append(t)
        self.tensors = [t for (t,) in db.execute("SELECT tensor_id FROM store.tensor_metadata ORDER BY content_hash")]

    def statement(self) -> tuple[str, bool]:
        """A statement, and whether it changes chunks alone: what is in them is checked against their hash."""
        kind = self.rng.random()
        if kind < 0.75:
            return self.chunk(), True
        tensor = self.rng.choice(self.tensors)
        self.touched.add(str(tensor))
        t = f"'{tensor}'"
        if kind < 0.88:
            return self.rng.choice([
                f"DELETE FROM store.tensor_data WHERE tensor_id = {t}", f"UPDATE store.tensor_data SET element_count = element_count {self.rng.choice(['+', '-'])} 1 WHERE tensor_id = {t}",
                f"UPDATE store.tensor_data SET first_element = first_element + {self.rng.choice([1, -1, 4611686018427387904])} WHERE tensor_id = {t}",
                f"UPDATE store.tensor_data SET chunk_index = chunk_index + {self.rng.choice([1, 2147483646])} WHERE tensor_id = {t}",
                f"UPDATE store.tensor_data SET chunk_hash = '\\x{self.rng.choice(self.small).hex()}' WHERE tensor_id = {t}",
                f"UPDATE store.tensor_data SET element_count = {self.rng.choice([1, 9223372036854775807])} WHERE tensor_id = {t}",
                f"UPDATE store.tensor_data SET value_min = 'NaN', value_max = 'Infinity' WHERE tensor_id = {t}",
            ]), False  # fmt: skip
        return self.rng.choice([
            f"UPDATE store.tensor_metadata SET dtype = '{self.rng.choice(['f32', 'f64', 'u8', 'i32', 'f4', 'nonsense', 'bool'])}' WHERE tensor_id = {t}",
            f"UPDATE store.tensor_metadata SET shape = '{self.rng.choice(['{}', '{0}', '{1}', '{-1}', '{3,1000}', '{9223372036854775807,9223372036854775807}', '{{1,2},{3,4}}'])}' WHERE tensor_id = {t}",
            f"UPDATE store.tensor_metadata SET raw_bytes = {self.rng.choice([0, 1, 9223372036854775807])} WHERE tensor_id = {t}",
            f"UPDATE store.tensor_metadata SET chunk_count = {self.rng.choice([0, 7, 2147483647])} WHERE tensor_id = {t}",
            f"UPDATE store.tensor_metadata SET element_count = {self.rng.choice([0, 1, 9223372036854775807])} WHERE tensor_id = {t}",
            f"UPDATE store.tensor_metadata SET content_hash = decode(repeat('{self.rng.randrange(10, 99)}', 32), 'hex') WHERE tensor_id = {t}",
        ]), False  # fmt: skip

    def chunk(self) -> str:
        rng = self.rng
        victim = rng.choice(self.small) if rng.random() < 0.97 else rng.choice(list(self.chunks))
        self.touched.update(self.uses[victim])
        where = f"WHERE chunk_hash = '\\x{victim.hex()}'"
        data = bytearray(self.chunks[victim])
        kind = rng.random()
        if kind < 0.5:
            for _ in range(rng.choice([1, 1, 2, 8])):
                at = rng.randrange(16, len(data)) if len(data) > 16 and rng.random() < 0.8 else rng.randrange(len(data))
                data[at] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            data = data[: rng.randrange(len(data))]
        elif kind < 0.67:
            data += rng.randbytes(rng.randint(1, 60))
        elif kind < 0.77:
            data = bytearray(self.chunks[rng.choice(self.small)])
        elif kind < 0.83:
            data = data[:16] + bytearray(self.chunks[rng.choice(self.small)])[16:]
        elif kind < 0.88:
            at, length = rng.randrange(len(data)), rng.randint(1, 40)
            data[at : at + length] = rng.randbytes(length)
        elif kind < 0.92:
            base = rng.choice(self.small)
            return f"UPDATE store.tensor_chunks SET base_hash = '\\x{base.hex()}', delta_depth = {rng.randint(1, 4)} {where}"
        elif kind < 0.95:
            return f"UPDATE store.tensor_chunks SET base_hash = NULL, delta_depth = 0 {where}"
        elif kind < 0.97:
            return f"UPDATE store.tensor_chunks SET raw_bytes = {rng.choice([1, 2147483647])} {where}"
        return f"UPDATE store.tensor_chunks SET chunk = '\\x{data.hex()}'::{CHUNK} {where}"


def test_tampered_chunks(connect, dbname: str) -> None:
    """Issue 10: tampered chunks."""
    db = connect()
    ids = store(db)
    rng, findings = random.Random(f"{seed()}:tamper"), Findings(size("FUZZ_FINDINGS", 1))
    weights = [w for (w,) in db.execute("SELECT weight_name FROM store.model_weights WHERE model_id = %s ORDER BY 1", (ids["a"],))]
    tensors = [t for (t,) in db.execute("SELECT tensor_id::text FROM store.tensor_metadata ORDER BY content_hash")]
    ways = readers(ids, weights, tensors)
    session = Session(connect(options="-c statement_timeout=20s -c client_min_messages=warning"))
    session.run("SELECT modelstore.store_version()")
    right = {}
    for name, (sql, _) in ways.items():
        outcome = session.run(f"BEGIN; {sql}")
        session.run("ROLLBACK")
        assert outcome.ok, (name, outcome)
        right[name] = outcome.rows
    assert right["verify_store"] == [(b"0",)]
    # Foreign keys and CHECKs are the owner's to drop; what the type itself refuses stays refused.
    drop = """DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE connamespace = 'store'::regnamespace
              AND contype IN ('c', 'f') AND conparentid = 0 AND conrelid::regclass::text ~ 'tensor_|model_weights|checkpoint_weights|optimizer_state'
              LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', c.t, c.conname); END LOOP; END $$"""
    db.execute(drop)
    tamper, addresses = Tamper(rng, db), Addresses(session.pid)
    begun, calls, wanted, refused = time.monotonic(), 0, size("TAMPER_CALLS", 1000), 0
    outcomes: collections.Counter[str] = collections.Counter()
    detected = 0
    while calls < wanted and not findings.enough:
        statements, chunks_alone = [], True
        tamper.touched.clear()
        session.run("BEGIN; SAVEPOINT s")
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            statement, alone = tamper.statement()
            outcome = session.run(f"ROLLBACK TO s; {statement}; RELEASE s; SAVEPOINT s")
            if outcome.ok:
                statements.append(statement)
                chunks_alone &= alone
            else:
                refused += 1
                assert outcome.sqlstate in CLEAR | {"23505", "23502"}, (outcome, statement[:300])
        asked = rng.sample(sorted(ways), 7) + [f"reconstruct_tensor {t}" for t in sorted(tamper.touched)[:3]]
        for name in asked if statements else []:
            sql, checked = ways[name]
            outcome = session.run(f"ROLLBACK TO s; {sql}")
            calls += 1
            outcomes[outcome.sqlstate] += 1
            where, script = f"seed {seed()}, call {calls}", [s if len(s) < 3000 else s[:3000] + "…" for s in [*statements, sql]]
            kind = name.split()[0]
            if outcome.sqlstate == "GONE":
                findings.add("crash", name, outcome.text, where, script)
                break
            if outcome.sqlstate == "57014":
                findings.add("hang", kind, outcome.text, where, script)
            elif not outcome.ok and (outcome.sqlstate not in CLEAR or PANIC.search(outcome.text)):
                findings.add("unclear", f"{kind}: {outcome.sqlstate} {outcome.message[:60]}", outcome.text[:1500], where, script)
            elif (address := addresses.within(outcome, sql)) is not None:
                findings.add("address", kind, hex(address), where, script)
            elif outcome.ok and checked and outcome.rows != right[name]:
                if chunks_alone or kind == "export":
                    findings.add("wrong bytes", kind, f"{outcome.rows} and not {right[name]}", where, script)
                else:
                    check = session.run("ROLLBACK TO s; SELECT count(*) FROM modelstore.verify_store()")
                    if check.ok and check.rows == [(b"0",)]:
                        findings.add("wrong bytes that verify does not find", kind, str(outcome.rows), where, script)
            detected += not outcome.ok
        if session.connection.closed or outcome.sqlstate == "GONE":
            break
        session.run("ROLLBACK")
    print(f"seed {seed()}: {rate(calls, begun)}, {detected} errors, {refused} changes refused; {dict(outcomes.most_common(12))}")
    findings.check()
    assert detected > calls / 20
    assert db.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []
