"""What the campaigns of this folder share: functions found in the catalog, arguments for them, sessions that survive
whatever they are told, and findings with the statements that lead to them.

Sizes come from the environment, so that `make soak` runs at full size what the suite runs small:

    CAMPAIGN_SEED      the seed; printed by each campaign
    FUZZ_SECONDS       hostile stores (20)
    FUZZ_ROUND         one round of the hostile stores alone, to repeat a finding
    FUZZ_FINDINGS      go on after a finding, up to this many different ones (1)
    SQL_CALLS          functions with hostile arguments (1500)
    TAMPER_CALLS       tampered chunks (1000)
    TURMOIL_OPERATIONS sessions side by side (400)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import struct
import threading
import time
from collections.abc import Iterable

import psycopg
from models import file_of, random_tensor, safetensors_bytes, tiny_gpt2
from psycopg import pq

PANIC = re.compile(
    r"called `|panicked|index out of bounds|out of range for slice|already (mutably )?borrowed|not a char boundary"
    r"|attempt to \w+ with overflow|unreachable code|assertion .*failed|\.rs:\d+",
)
CODE, MESSAGE, DETAIL, HINT, CONTEXT = (ord(c) for c in "CMDHW")
RAN = re.compile(r"^RAN AS (\S+) super (\w+)")


def quote(text: str) -> str:
    """A literal."""
    text = text.replace("\0", "")
    return ("E'" if "\\" in text else "'") + text.replace("\\", "\\\\").replace("'", "''") + "'"


def ident(name: str) -> str:
    """A quoted name."""
    return '"' + name.replace('"', '""') + '"'


# Findings


@dataclasses.dataclass
class Finding:
    kind: str
    key: str
    what: str
    where: str
    script: list[str]

    def __str__(self) -> str:
        return f"--- {self.kind}: {self.key} ({self.where})\n{self.what}\n" + "".join(f"{s};\n" for s in self.script)


class Findings:
    """Each kind of finding once."""

    def __init__(self, most: int = 1) -> None:
        self.most, self.found, self.again = most, {}, 0

    def add(self, kind: str, key: str, what: str, where: str, script: Iterable[str]) -> None:
        if (kind, key) in self.found:
            self.again += 1
            return
        self.found[kind, key] = finding = Finding(kind, key, what, where, list(script))
        print(finding, flush=True)

    @property
    def enough(self) -> bool:
        return len(self.found) >= self.most

    def check(self) -> None:
        """Fails when there are any."""
        if self.found:
            kinds: dict[str, int] = {}
            for kind, _ in self.found:
                kinds[kind] = kinds.get(kind, 0) + 1
            text = "\n".join(str(f)[:6000] for f in list(self.found.values())[:5])
            raise AssertionError(f"{len(self.found)} findings, {self.again} repeated: {kinds}\n{text}")


# Sessions


@dataclasses.dataclass
class Outcome:
    """What a statement came to: an SQLSTATE (00000 when it went through, GONE when the session did not) and its rows."""

    sqlstate: str
    message: str = ""
    detail: str = ""
    context: str = ""
    rows: list[tuple[bytes | None, ...]] = dataclasses.field(default_factory=list)
    types: list[int] = dataclasses.field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.sqlstate == "00000"

    @property
    def text(self) -> str:
        return " | ".join(t for t in (self.sqlstate, self.message, self.detail, self.context) if t)


class Session:
    """A connection below psycopg: one round trip a statement, errors are values. `ran` is what code of the attacker
    said of itself. A thread kills what does not come back."""

    def __init__(self, connection: psycopg.Connection, patience: float = 120) -> None:
        self.connection, self.patience = connection, patience
        self.pid = connection.info.backend_pid
        self.ran: list[tuple[str, str]] = []
        self.hung = False
        self.calls = 0
        connection.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if found := RAN.match(diagnostic.message_primary or ""):
            self.ran.append((found[1], found[2]))

    def run(self, sql: str) -> Outcome:
        """Runs statements as one; the outcome is the last one's."""
        WATCH.begin(self)
        begun = time.monotonic()
        try:
            result = self.connection.pgconn.exec_(sql.encode("utf-8", "surrogateescape"))
        except psycopg.OperationalError as e:
            return Outcome("GONE", str(e))
        finally:
            WATCH.end(self)
            self.seconds = time.monotonic() - begun
        self.calls += 1
        if self.connection.pgconn.status != pq.ConnStatus.OK:
            return Outcome("GONE", self.connection.pgconn.error_message.decode(errors="replace"))
        if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
            fields = [(result.error_field(f) or b"").decode(errors="replace") for f in (CODE, MESSAGE, DETAIL, CONTEXT)]
            return Outcome(fields[0] or "GONE", *fields[1:])
        if result.status != pq.ExecStatus.TUPLES_OK:
            return Outcome("00000")
        columns = range(result.nfields)
        rows = [tuple(result.get_value(r, c) for c in columns) for r in range(min(result.ntuples, 300))]
        return Outcome("00000", rows=rows, types=[result.ftype(c) for c in columns])

    def kill(self) -> None:
        """Ends the process: it does not listen."""
        self.hung = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self.connection.close()


class Watch:
    """Kills the processes of sessions whose statement goes on for too long."""

    def __init__(self) -> None:
        self.since: dict[Session, float] = {}
        self.thread: threading.Thread | None = None

    def begin(self, session: Session) -> None:
        self.since[session] = time.monotonic()
        if self.thread is None:
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()

    def end(self, session: Session) -> None:
        self.since.pop(session, None)

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            for session, since in list(self.since.items()):
                if time.monotonic() - since > session.patience:
                    session.kill()


WATCH = Watch()


class Addresses:
    """Finds addresses of a process in what it has answered: numbers that lie in memory it has mapped, in digits or in bytes.

    A program that is not position-independent has its heap at small numbers; of these only those in the heap count that memory is
    given out at, which multiples of eight are, and not in bytes, where any four may look like one."""

    # Neither a part of a word or a UUID nor of a fraction.
    NUMBER = re.compile(rb"(?<![\w.-])(\d{8,15})(?![\w.-])")
    HEX = re.compile(rb"^(?=.*[0-9])(?:0x)?([0-9a-f]{7,12})$|0x([0-9a-f]{7,12})\b")
    KNOWN = {0x3FFFFFFB, 0x3FFFFFFF, 0x7FFFFFFF}  # the longest bytea, limits of memory
    LOW, HIGH, HEAP = 0x550000000000, 0x7FFFFFFFFFFF, 1 << 24

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def _mapped(self) -> list[tuple[int, int]]:
        """Ranges of memory."""
        found = []
        for line in pathlib.Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            start, end = (int(x, 16) for x in line.split(" ", 1)[0].split("-"))
            if start >= self.LOW or line.endswith("[heap]"):
                found.append((max(start, self.HEAP), end))
        return found

    def within(self, outcome: Outcome, given: str, heap: bool = True) -> int | None:
        """An address in an outcome that was not in the statement. Without `heap`, for what gives any numbers such as hashes, only those that
        are too large for these."""
        texts = [v for row in outcome.rows for v in row if v]
        texts += [t.encode() for t in (outcome.message, outcome.detail) if t]
        candidates: set[int] = set()
        for text in texts:
            if text.startswith(b"\\x"):
                raw = bytes.fromhex(text[2:100_002][: (len(text) - 2) // 2 * 2].decode())
                at = raw.find(b"\0\0")
                while at >= 0:
                    if at >= 6:
                        number = struct.unpack("<Q", raw[at - 6 : at + 2])[0]
                        candidates |= {number} if number >= self.LOW else set()
                    at = raw.find(b"\0\0", at + 1)
            else:
                candidates |= {int(n) for n in self.NUMBER.findall(text[:20000]) if int(n) % 100_000 and int(n) not in self.KNOWN}
                candidates |= {int(a or b, 16) for a, b in self.HEX.findall(text[:200])}
        candidates = {c for c in candidates if c >= self.LOW or c % 8 == 0}
        candidates = {c for c in candidates if (self.HEAP if heap else self.LOW) <= c <= self.HIGH and not 1 << 33 <= c < self.LOW}
        if candidates:
            mapped = self._mapped()
            for number in candidates:
                if any(start <= number < end for start, end in mapped) and str(number) not in given and f"{number:x}" not in given:
                    return number
        return None


# Functions and their arguments


@dataclasses.dataclass
class Function:
    name: str
    types: list[str]
    names: list[str]
    optional: int
    kind: str
    volatile: bool
    is_set: bool
    of_store: bool

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(self.types)})"


def functions(db: psycopg.Connection, extension: str = "pg_modelstore") -> list[Function]:
    """Functions, aggregates and procedures of the extension that SQL can call."""
    rows = db.execute(
        """
        SELECT p.proname::text, p.proargtypes::oid[]::regtype[]::text[], p.proargnames[1:p.pronargs], p.pronargdefaults,
               p.prokind::text, p.provolatile = 'v', p.proretset, p.provolatile <> 'i'
        FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        JOIN pg_proc p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
        WHERE e.extname = %s AND d.deptype = 'e' AND p.prorettype <> 'trigger'::regtype
          AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[]::regtype[])
          AND p.prokind <> 'w'
        ORDER BY p.proname, p.oid""",
        (extension,),
    ).fetchall()
    found = []
    for name, types, names, optional, kind, volatile, is_set, of_store in rows:
        # The types of the extension are named with whatever schema it is in.
        types = [re.sub(r'^(?:"[^"]+"|\w+)\.(tensor_chunk|tensor|atom)\b', r"@ext@.\1", t) for t in types]
        found.append(
            Function(name, types, names or [""] * len(types), optional, kind, volatile, is_set, of_store)
        )
    return found


INTEGERS = [0, 1, -1, 2, 3, 7, 31, 32, 33, 63, 64, 100, 127, 128, 255, 256, 1000, 4096, 65535, 65536]
EDGES = {
    "smallint": [-32768, 32767],
    "integer": [-(1 << 31), (1 << 31) - 1, 1 << 28, (1 << 28) - 1, 1 << 20],
    "bigint": [-(1 << 63), (1 << 63) - 1, 1 << 62, 1 << 31, 1 << 32, (1 << 40) + 1, 1 << 56, -(1 << 56)],
}
FLOATS = ["0", "1", "-1", "0.5", "'NaN'", "'Infinity'", "'-Infinity'", "1e-310", "1e308", "-1e308", "1e38", "-0.0"]
DTYPES = (
    "f32 f64 f16 bf16 i8 i16 i32 i64 u8 u16 u32 u64 bool c64 f4 f6_e2m3 f6_e3m2 f8_e4m3 f8_e5m2 f8_e8m0 f8_e4m3fnuz "
    "f8_e5m2fnuz"
).split()
WORDS = (
    "text audio image video tensor code structured other token position type loss min max nan inf zero dead_rows dead_columns "
    "constant astar dijkstra bfs composition neighbour latest completed failed running safetensors model.safetensors "
    "optimizer.safetensors model.safetensors.index.json exp_avg exp_avg_sq finite shape parameters none ready archived"
).split()
SLICES = [":", "0", "-1", "0:2", "::2", "...", "..., 0", "0:2, :3", ":, -1", "99999999999999999999", "1:0", "::-1", "a", ""]
TENSORS = [
    "[1,2,3]", "[]", "[[1,2],[3,4]]", "1.5", "f64:[1,2]", "bf16:[1,NaN]", "i64:[9223372036854775807]", "u8:[]", "bool:[true,false]",
    "c64:[1+2i]", "f4(2):\\x12", "f8_e8m0:[1]", "f16:[65504,-Infinity]", "u64:[18446744073709551615]", "[[[[[[[[1]]]]]]]]", "i8:[[-128],[127]]",
]  # fmt: skip
JSONS = [
    "null", "{}", "[]", "1", '"x"', "true", '{"loss": 0.5}', '{"loss": null}', '{"loss": "x"}', '{"a": {"b": [1, {"c": null}]}}', "[1e400]",
    '[[1,2],[3,4]]', '[[1],[2,3]]', '{"dtype":"f32","shape":[2],"data":[1,2]}', '{"dtype":"f32","shape":[-1],"data":[]}', '{"visibility":"public"}',
    '{"hidden_size": -5, "num_attention_heads": 0}', '{"model_type":"bert","hidden_size":9223372036854775807,"num_hidden_layers":1000000000}',
    '{"weight_map":{"w":"a.safetensors"}}', '{"": ""}', '[{"lr": 0.1, "params": [0]}]',
]  # fmt: skip
LITERALS = {
    "boolean": ["true", "false"],
    "interval": ["'1 day'", "'-100000 years'", "'0'"],
    "timestamp with time zone": ["now()", "'infinity'", "'-infinity'", "'4713-01-01 BC'"],
    "timestamp without time zone": ["'infinity'", "'2020-01-01'"],
    "date": ["'infinity'", "'2020-01-01'"],
    "numeric": ["'NaN'", "0", "1e1000", "-1"],
    "regclass": ["'pg_class'", "0"],
    "regrole": ["'postgres'"],
    "character": ["'x'"],
    '"char"': ["'x'"],
    "xid": ["'1'"],
    "inet": ["'127.0.0.1'"],
    "void": ["NULL"],
}


class Arguments:
    """Plausible and implausible arguments. `pools` holds values that a store has, by the name of their column."""

    def __init__(self, rng: random.Random, db: psycopg.Connection | None = None, store: str | None = None, hostile: float = 0.3) -> None:
        self.rng, self.hostile = rng, hostile
        self.pools: dict[tuple[str, str], list[str]] = {}
        self.files = _files()
        if db is not None and store is not None:
            self._learn(db, store)

    def _learn(self, db: psycopg.Connection, store: str) -> None:
        wanted = ("uuid", "text", "bigint", "integer", "bytea", "name")
        columns = db.execute(
            """SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL) FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = %s::regnamespace AND a.attnum > 0
               AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1, a.attnum""",
            (ident(store),),
        ).fetchall()
        tables = {t for t, _, _ in columns}
        for table, column, kind in columns:
            if kind in wanted:
                limit = "" if kind in ("uuid", "bigint", "integer") else f" AND length({ident(column)}::text) < 300"
                rows = db.execute(
                    f"SELECT DISTINCT {ident(column)}::text FROM {ident(store)}.{ident(table)} "
                    f"WHERE {ident(column)} IS NOT NULL{limit} ORDER BY 1 LIMIT 12"
                ).fetchall()
                self.pools.setdefault((kind, column), []).extend(v for (v,) in rows)
        self.atoms = []
        if "atoms" in tables:
            rows = db.execute(f"SELECT h_xy, h_yz, h_zm FROM {ident(store)}.atoms ORDER BY 1, 2, 3 LIMIT 30").fetchall()
            self.atoms = [f"({a},{b},{c})" for a, b, c in rows]
        self.large_objects = [o for (o,) in db.execute("SELECT oid FROM pg_largeobject_metadata ORDER BY 1 LIMIT 5")]

    def pool(self, kind: str, name: str) -> list[str]:
        """Values of columns called like an argument, or all of the type."""
        found = [v for (k, c), values in self.pools.items() if k == kind and name and (c in name or name in c) for v in values]
        if found and self.rng.random() < 0.85:
            return found
        return [v for (k, _), values in self.pools.items() if k == kind for v in values]

    def call(self, f: Function) -> str:
        """`@ext@.f(…)` with arguments."""
        count = len(f.types) - (self.rng.randint(0, f.optional) if f.optional else 0)
        values = [self.value(t, n) for t, n in zip(f.types[:count], f.names[:count], strict=True)]
        if f.kind == "a" and not values:
            values = ["*"]
        return f"@ext@.{ident(f.name)}({', '.join(values)})"

    def value(self, kind: str, name: str = "") -> str:
        """An expression of a type."""
        if self.rng.random() < 0.06:
            return f"NULL::{kind}"
        if kind.endswith("[]"):
            return self.array(kind[:-2], name)
        literal = self.literal(kind, name)
        return literal if literal.startswith("NULL") else f"{literal}::{kind}"

    def array(self, kind: str, name: str) -> str:
        shape = self.rng.random()
        if shape < 0.08:
            return f"'{{}}'::{kind}[]"
        if shape < 0.15:
            a, b = (f"ARRAY[{self.value(kind, name)},{self.value(kind, name)}]" for _ in range(2))
            return f"ARRAY[{a},{b}]::{kind}[]"
        if shape < 0.19:
            return f"array_fill({self.value(kind, name)}, ARRAY[{self.rng.choice([3, 33, 300])}], ARRAY[-5])::{kind}[]"
        if shape < 0.23:
            return f"array_fill({self.value(kind, name)}, ARRAY[{self.rng.choice([1, 2])},1,2])::{kind}[]"
        return f"ARRAY[{','.join(self.value(kind, name) for _ in range(self.rng.randint(1, 5)))}]::{kind}[]"

    def literal(self, kind: str, name: str) -> str:
        rng = self.rng
        odd = rng.random() < self.hostile
        if kind in EDGES:
            if odd:
                value = rng.choice(EDGES[kind])
            elif (pool := self.pool(kind, name)) and rng.random() < 0.5:
                value = int(rng.choice(pool))
            else:
                value = rng.choice(INTEGERS)
            return f"({value})"
        if kind in ("double precision", "real"):
            value = rng.choice(FLOATS)
            return f"({value})" if "3" not in value or kind != "real" else "(1)"
        if kind == "uuid":
            pool = self.pool(kind, name)
            return quote(rng.choice(pool)) if pool and not odd else quote(f"{rng.getrandbits(128):032x}")
        if kind in ("text", "name", "character varying"):
            return self.text(kind, name, odd)
        if kind == "bytea":
            return self.bytes(name, odd)
        if kind == "oid":
            return str(rng.choice(self.large_objects) if getattr(self, "large_objects", None) and not odd else rng.choice([0, 1, 2613, 4294967295]))
        if kind in ("jsonb", "json"):
            return quote("[" * 2000 + "]" * 2000 if odd and rng.random() < 0.1 else rng.choice(JSONS))
        if kind == "@ext@.tensor":
            return self.tensor(odd)
        if kind == "@ext@.tensor_chunk":
            return self.chunk()
        if kind == "@ext@.atom":
            if getattr(self, "atoms", None) and not odd:
                return quote(rng.choice(self.atoms))
            return quote("({},{},{})".format(*(rng.choice(["", *EDGES["bigint"], *INTEGERS]) for _ in range(3))))
        if kind == "cstring":
            return quote(rng.choice([*TENSORS, *DTYPES, "\\x00", "*", ""]))
        if kind in LITERALS:
            return rng.choice(LITERALS[kind])
        return "NULL"

    def text(self, kind: str, name: str, odd: bool) -> str:
        rng = self.rng
        if odd:
            return rng.choice(
                ["''", "' '", "repeat('x', 300)", "repeat('é', 3000)", quote("a'b\"c\\d$$@store@"), quote("x\nDROP TABLE x;--"), "E'\\u0001'",
                 "chr(8238)", quote("../../etc/passwd"), quote("/etc/passwd"), "repeat('[', 3000)", quote("%s%n{0}"), "repeat('0,', 2000)", quote("9" * 400)]
            )  # fmt: skip
        if "slice" in name:
            return quote(rng.choice(SLICES))
        if "dtype" in name:
            return quote(rng.choice(DTYPES))
        pool = self.pool("text", name)
        return quote(rng.choice(pool) if pool and rng.random() < 0.7 else rng.choice(WORDS))

    def bytes(self, name: str, odd: bool) -> str:
        rng = self.rng
        if odd:
            length = rng.choice([0, 1, 8, 31, 32, 33, 100, 5000])
            return quote("\\x" + rng.randbytes(length).hex())
        pool = self.pool("bytea", name)
        if pool and rng.random() < 0.3:
            return quote(rng.choice(pool))
        data = rng.choice(self.files)
        if rng.random() < 0.3:
            data = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                if data:
                    data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
            if rng.random() < 0.3:
                data = data[: rng.randrange(len(data) + 1)]
        return quote("\\x" + bytes(data).hex())

    def tensor(self, odd: bool) -> str:
        rng = self.rng
        if odd:
            dtype = rng.choice(DTYPES)
            rank = rng.choice([0, 1, 2, 5, 32])
            text = f"{dtype}:" + "[" * rank + rng.choice(["0", "1", "1,1", ""] if rank else ["1"]) + "]" * rank
            return quote(text) if dtype not in ("c64", "bool") else quote("[1]")
        return quote(rng.choice(TENSORS))

    def chunk(self) -> str:
        """A chunk that the type takes (a raw one is 16 bytes of head and the data), or bytes that it may refuse."""
        rng = self.rng
        pool = self.pools.get(("chunk", ""), [])
        if pool and rng.random() < 0.8:
            data = bytearray.fromhex(rng.choice(pool))
            for _ in range(rng.choice([0, 0, 1, 2])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return quote("\\x" + bytes(data).hex())
        return quote("\\x" + rng.randbytes(rng.choice([0, 15, 16, 40])).hex())

    def learn_chunks(self, db: psycopg.Connection, store: str, most: int = 30, longest: int = 4000) -> None:
        rows = db.execute(f"SELECT chunk::text FROM {ident(store)}.tensor_chunks WHERE stored_bytes < %s ORDER BY chunk_hash LIMIT %s", (longest, most))
        self.pools["chunk", ""] = [c[2:] for (c,) in rows]


def _files() -> list[bytes]:
    """Files small enough to be an argument: whole ones, and other things that users take for one."""
    small = {"w": random_tensor(1, 6, 4), "b": random_tensor(2, 4)}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"w": "a.safetensors", "b": "b.safetensors"}})
    return [
        safetensors_bytes(small), safetensors_bytes({"w": random_tensor(3, 40, 16)}, {"format": "pt"}),
        safetensors_bytes({"encoder.layer.0.attention.self.query.weight": random_tensor(4, 8, 8)}), safetensors_bytes({}),
        file_of({"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]}}, bytes(16)),
        file_of({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, bytes(2)), file_of(b"{" * 500), file_of(b'{"a":null}'),
        struct.pack("<Q", 1 << 62) + b"{}", index.encode(), b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"PK\x03\x04" + bytes(40), b"\x93NUMPY\x01\x00" + bytes(60), b"GGUF\x03\0\0\0" + struct.pack("<QQ", 1 << 60, 1 << 60), b"\x80\x02}q\x00.", b"<html>",
    ]  # fmt: skip


# A store with something in every table


def populate(db: psycopg.Connection, store: str, rng_seed: int = 5) -> list[str]:
    """Makes a store and fills it; returns the statements that did not go through, as names may have changed."""
    failed: list[str] = []

    def attempt(sql: str, *arguments: object):
        try:
            with db.transaction():
                cursor = db.execute(sql, arguments, prepare=False)
                return cursor.fetchone() if cursor.description else None
        except psycopg.Error as e:
            failed.append(f"{sql}: {e}")
            return None

    attempt("SELECT modelstore.create_store(%s, modules => ARRAY['all'])", store)
    db.execute("SELECT set_config('modelstore.store', %s, false)", (store,))
    rng = random.Random(rng_seed)
    base = tiny_gpt2(rng_seed)
    data = safetensors_bytes(base)
    config = '{"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "vocab_size": 40, "n_positions": 12}'
    row = attempt("SELECT model_id FROM modelstore.import_safetensors('m', '1', %b::bytea, %s::jsonb)", data, config)
    model = row[0] if row else None
    changed = {n: a.copy() for n, a in base.items()}
    big = random_tensor(rng_seed + 100, 300, 200)
    attempt("SELECT model_id FROM modelstore.import_safetensors('big', '1', %b::bytea)", safetensors_bytes({"w": big}))
    row = attempt("SELECT modelstore.find_model('big')")
    near = big.copy()
    near[::50] += 0.001
    attempt("SELECT model_id FROM modelstore.import_safetensors('big', '2', %b::bytea, parent => %s)", safetensors_bytes({"w": near}), row and row[0])
    changed["transformer.wte.weight"][0] += 1
    attempt("SELECT model_id FROM modelstore.import_safetensors('m', '2', %b::bytea, parent => %s)", safetensors_bytes(changed), model)
    attempt("SELECT modelstore.add_file('m:1', '1_Pooling/config.json', '{}'::bytea)")
    attempt("SELECT modelstore.add_file('m:1', 'noise.bin', %b::bytea)", rng.randbytes(90_000))
    attempt("SELECT modelstore.set_alias('m:1', 'production')")
    row = attempt("SELECT modelstore.start_training(%s)", model)
    session = row[0] if row else None
    for step in range(3):
        attempt("SELECT modelstore.log_metrics(%s, %s, %s::jsonb)", session, step, json.dumps({"loss": 1 / (step + 1)}))
    state = safetensors_bytes({f"{n}.exp_avg": a for n, a in base.items()})
    for step in (10, 20, 30):
        base["transformer.ln_f.weight"] = base["transformer.ln_f.weight"] + 1
        attempt(
            "SELECT * FROM modelstore.create_checkpoint(%s, session_id => %s, step => %s, weights => %b::bytea, optimizer => %b::bytea, metrics => %s::jsonb)",
            model, session, step, safetensors_bytes(base), state, '{"loss": 0.5}',
        )  # fmt: skip
    attempt("SELECT * FROM modelstore.set_gradient_checkpoints(%s)", session)
    for text in ("hello world\n\nsecond paragraph.\n", "hello world\n\nanother one.\n", "x = 1\ny = 2\n"):
        attempt("SELECT * FROM modelstore.ingest_text(%s::text, 'text', 'x')", text)
    attempt("SELECT * FROM modelstore.ingest(%b::bytea, 'other', 'noise')", rng.randbytes(90_000))
    attempt("SELECT * FROM modelstore.ingest(%b::bytea, 'audio', 'noise')", rng.randbytes(3_000))
    row = attempt("SELECT modelstore.begin_upload()")
    attempt("SELECT modelstore.append_upload(%s, %b)", row and row[0], data)
    attempt("SELECT lo_from_bytea(0, %b)", data)
    attempt("SELECT lo_from_bytea(0, 'some text'::bytea)")
    db.execute("RESET modelstore.store")
    return failed


def relations(db: psycopg.Connection, store: str) -> dict[str, list[tuple[str, str]]]:
    """Tables of a store with their columns and types."""
    rows = db.execute(
        """SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_class c
           JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = %s::regnamespace AND a.attnum > 0
           AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1, a.attnum""",
        (ident(store),),
    ).fetchall()
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in rows:
        found.setdefault(table, []).append((column, re.sub(r"^modelstore\.", "@ext@.", kind)))
    return found


def views(db: psycopg.Connection, store: str) -> list[str]:
    """Views of a store."""
    return [v for (v,) in db.execute("SELECT relname::text FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('v', 'm') ORDER BY 1", (ident(store),))]


def operators(db: psycopg.Connection) -> list[tuple[str, str, str]]:
    """Operators of the extension: name, left and right type."""
    rows = db.execute(
        """SELECT o.oprname::text, format_type(o.oprleft, NULL), format_type(o.oprright, NULL) FROM pg_depend d
           JOIN pg_extension e ON e.oid = d.refobjid JOIN pg_operator o ON o.oid = d.objid AND d.classid = 'pg_operator'::regclass
           WHERE e.extname = 'pg_modelstore' AND d.deptype = 'e' ORDER BY 1"""
    ).fetchall()
    return [tuple(re.sub(r"^modelstore\.", "@ext@.", x) for x in row) for row in rows]


def casts(db: psycopg.Connection) -> list[tuple[str, str]]:
    """Casts from and to the types of the extension."""
    rows = db.execute(
        """SELECT format_type(castsource, NULL), format_type(casttarget, NULL) FROM pg_cast c JOIN pg_depend d ON d.objid = c.oid
           AND d.classid = 'pg_cast'::regclass JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = 'pg_modelstore' ORDER BY 1, 2"""
    ).fetchall()
    return [tuple(re.sub(r"^modelstore\.", "@ext@.", x) for x in row) for row in rows]


def rate(calls: int, begun: float) -> str:
    """Calls and how fast they were."""
    seconds = time.monotonic() - begun
    return f"{calls} calls in {seconds:.0f} s ({calls / max(seconds, 0.001):.0f} a second)"
