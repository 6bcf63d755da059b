"""Stores on a cluster of three nodes answer as local ones do. Runs where Citus is: scripts/citus_check.sh."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator

import citus
import numpy as np
import psycopg
import pytest
from harness import FAST, Server, wait_until
from models import random_tensor, safetensors_bytes
from observe import problems
from uploads import MIB, begin, copy, finish, placed

pytestmark = pytest.mark.skipif(not citus.USED, reason="needs a PostgreSQL with Citus: scripts/citus_check.sh")

NODES = ("coordinator", "first", "second")
CONF = FAST + citus.CONF + "wal_level = logical\nmax_locks_per_transaction = 512\nmax_worker_processes = 32\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Server]]:
    servers = [Server(f"test-{os.getpid()}-{name}", CONF) for name in NODES]
    try:
        for server in servers:
            server.start()
            citus.trust(server.data)
            server.restart()
            server.psql("CREATE EXTENSION citus")
        coordinator, *workers = servers
        coordinator.psql(f"SELECT citus_set_coordinator_host('127.0.0.1', {coordinator.port})")
        for worker in workers:
            coordinator.psql(f"SELECT citus_add_node('127.0.0.1', {worker.port})")
        coordinator.psql("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store('local', '{atoms}')")
        yield servers
        for server in servers:
            assert server.crashes() == []
    finally:
        for server in servers:
            server.remove()


@pytest.fixture
def distributed(cluster: list[Server], request: pytest.FixtureRequest) -> Iterator[str]:
    """A distributed store with atoms; its name."""
    name = request.node.name.replace("test_", "s_")[:40]
    cluster[0].psql(f"SELECT modelstore.create_store('{name}', '{{atoms}}'); SELECT modelstore.distribute_store('{name}')")
    yield name
    cluster[0].psql(f"SELECT modelstore.drop_store('{name}', cascade => true)")


def session(server: Server, store: str) -> psycopg.Connection:
    db = server.connect(autocommit=True)
    db.execute("SELECT set_config('modelstore.store', %s, false)", (store,))
    return db


def node_of(db: psycopg.Connection, store: str) -> int:
    """The port of the node that a store is on: one node for all its tables."""
    rows = db.execute("SELECT DISTINCT nodeport FROM citus_shards WHERE table_name::text LIKE %s", (f'%{store}%.%',)).fetchall()
    ((port,),) = rows
    return port


def is_clean(db: psycopg.Connection) -> bool:
    """Whether nothing is left of earlier moves; has it removed."""
    db.execute("CALL citus_cleanup_orphaned_resources()")
    return db.execute("SELECT count(*) FROM pg_dist_cleanup").fetchone() == (0,)


def export(db: psycopg.Connection, function: str, *arguments: object) -> str:
    """SHA-256 of a file that comes in parts."""
    given = ", ".join(["%s"] * len(arguments))
    with db.cursor() as cursor:
        parts = cursor.stream(f"SELECT modelstore.{function}({given})", arguments, binary=True)
        return hashlib.sha256(b"".join(part for (part,) in parts)).hexdigest()


def life(db: psycopg.Connection) -> dict[str, object]:
    """Everything a store is for, with answers that do not depend on where it is."""
    first = {"w": random_tensor(1, 900, 512), "b": random_tensor(2, 512)}
    second = {**first, "w": first["w"] + (random_tensor(3, 900, 512) * 1e-5).astype("float32")}
    files = [safetensors_bytes(tensors) for tensors in (first, second)]
    state = safetensors_bytes({"w.exp_avg": first["w"], "b.exp_avg": first["b"]})
    get = lambda sql, *a: db.execute(f"SELECT * FROM modelstore.{sql}", a).fetchall()  # noqa: E731
    found: dict[str, object] = {}
    get("import_safetensors('m', '1', %b::bytea)", files[0])
    found["delta"] = get("import_safetensors('m', '2', %b::bytea, parent => 'm:1')", files[1])[0][1:]
    upload = begin(db, parent="m:1")
    copy(db, placed(upload, files[1], 0, len(files[1]), MIB))
    found["upload"] = finish(db, upload, "uploaded")[1:]
    found["files"] = [export(db, "export_safetensors", model) for model in ("m:1", "m:2", "uploaded:1")]
    assert found["files"] == [hashlib.sha256(files[n]).hexdigest() for n in (0, 1, 1)]
    get("add_file('m:1', 'config.json', '{\"hidden_size\": 512}'::bytea)")
    get("add_file('m:1', 'README.md', 'text of the card'::bytea)")
    get("set_alias('m:2', 'production')")
    found["slice"] = get("get_tensor_slice('m@production', 'w', '10:20, ::7')")
    found["diff"] = get("diff_models('m:1', 'm:2')")
    found["lineage"] = [row[2:] for row in get("lineage('m:2')")]
    found["parameters"] = get("calculate_model_parameters('m:1')")
    run = get("start_training('m:1', session_name => 'run')")[0][0]
    get("log_metric(%s, 'loss', '{1,2,3}', '{1,0.5,0.25}')", run)
    for step in (1, 2, 3, 4):
        weights = safetensors_bytes({**first, "w": (first["w"] * (1 + step / 1000)).astype("float32")})
        get("create_checkpoint('m:1', %s, %b::bytea, %b::bytea, session_id => %s)", step, weights, state, run)
    found["latest"] = export(db, "export_checkpoint", "m:1#latest", "model.safetensors")
    get("restore_checkpoint('m:1#3', 'restored', '1')")
    found["restored"] = export(db, "export_safetensors", "restored:1")
    found["pruned"] = sorted(row[2:] for row in get("prune_checkpoints('m:1', keep_last => 2, dry_run => false)"))
    key = lambda sql, data: db.execute(f"SELECT h_xy, h_yz, h_zm FROM modelstore.{sql}", (data,)).fetchone()  # noqa: E731
    keys = [key("ingest_text(%s, 'text')", f"a line about {n * n}\n" * 40) for n in range(60)]
    found["atoms"] = keys
    found["big"] = key("ingest(%b::bytea, 'other')", bytes(range(256)) * 2000)
    for key in keys[::7]:
        found[f"nearest {key}"] = get("nearest((%s, %s, %s)::modelstore.atom, 5)", *key)
    found["within"] = sorted(get("within_box('{0,0,0,0}', '{268435455,268435455,268435455,200000000}')"))
    found["text"] = get("reconstruct((%s, %s, %s)::modelstore.atom)", *keys[5])
    get("release((%s, %s, %s)::modelstore.atom)", *keys[6])
    get("atoms_gc()")
    get("delete_model('uploaded:1')")
    found["gc"] = get("gc()")
    found["problems"] = (get("verify_store()"), get("verify_atoms()"))
    assert found["problems"] == ([], [])
    return found


def test_a_distributed_store_answers_as_a_local_one(cluster: list[Server], distributed: str) -> None:
    with session(cluster[0], "local") as db:
        local = life(db)
    with session(cluster[0], distributed) as db:
        assert node_of(db, distributed) in [worker.port for worker in cluster[1:]]
        there = life(db)
        assert there.keys() == local.keys()
        for what, answer in local.items():
            assert there[what] == answer, what
        before = export(db, "export_safetensors", "m:2")
        # From the other nodes, too, and after it has come back.
        for worker in cluster[1:]:
            with session(worker, distributed) as elsewhere:
                assert export(elsewhere, "export_safetensors", "m:2") == before
                assert problems(elsewhere) == []
        db.execute("SELECT modelstore.undistribute_store(%s)", (distributed,))
        assert export(db, "export_safetensors", "m:2") == before
        assert problems(db) == [] and db.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []
        assert db.execute("SELECT * FROM modelstore.nearest((%s, %s, %s)::modelstore.atom, 5)", local["atoms"][0]).fetchall() == local[f"nearest {local['atoms'][0]}"]
        on_disk = "SELECT sum(pg_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
        assert db.execute(on_disk, (distributed,)).fetchone()[0] > MIB // 8
        db.execute("SELECT modelstore.distribute_store(%s)", (distributed,))
        assert export(db, "export_safetensors", "m:2") == before
        # The rows have moved: none is left on the disk here.
        assert db.execute(on_disk, (distributed,)).fetchone() == (0,)


def test_stores_are_spread_and_moved_under_load(cluster: list[Server], distributed: str) -> None:
    coordinator = cluster[0]
    data = safetensors_bytes({f"t{n}": random_tensor(n, 700, 512) for n in range(4)})
    with session(coordinator, distributed) as db:
        coordinator.psql("SELECT modelstore.create_store('beside'); SELECT modelstore.distribute_store('beside')")
        assert {node_of(db, "beside"), node_of(db, distributed)} == {worker.port for worker in cluster[1:]}
        db.execute("SELECT * FROM modelstore.import_safetensors('kept', '1', %b::bytea)", (data,))
        errors: list[BaseException] = []
        stop = threading.Event()

        def work(number: int) -> None:
            try:
                with session(cluster[number % 3], distributed) as own:
                    for turn in range(10_000):
                        if stop.is_set():
                            return
                        try:
                            own.execute("SELECT * FROM modelstore.import_safetensors(%s, %s, %b::bytea)", (f"m{number}", str(turn), data[:-4] + os.urandom(4)))
                            assert export(own, "export_safetensors", "kept:1") == hashlib.sha256(data).hexdigest()
                        except psycopg.Error as e:
                            # A move waits for writers and may end one.
                            if e.sqlstate not in ("40001", "40P01", "55P03", "XX000") and "shard" not in str(e):
                                raise
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                time.sleep(1)
                (target,) = [worker.port for worker in cluster[1:] if worker.port != node_of(db, distributed)]
                db.execute("SELECT citus_schema_move(%s::regnamespace, '127.0.0.1', %s)", (distributed, target))
                assert node_of(db, distributed) == target
                # What a move leaves on the old node is dropped when nobody reads it any more; only then it can go back.
                wait_until(lambda: is_clean(db), "the old node is clean", 120)
            db.execute("SELECT citus_rebalance_start(); SELECT citus_rebalance_wait()".encode())
        finally:
            stop.set()
            for thread in threads:
                thread.join(120)
        assert errors == []
        assert export(db, "export_safetensors", "kept:1") == hashlib.sha256(data).hexdigest()
        assert problems(db) == []
        coordinator.psql("SELECT modelstore.drop_store('beside', cascade => true)")


def test_stress_from_three_nodes(cluster: list[Server], distributed: str) -> None:
    seconds = float(os.environ.get("CITUS_SECONDS", "20"))
    errors: list[BaseException] = []
    counts = dict.fromkeys(("imports", "deletes", "exports", "collections", "retries"), 0)

    def work(number: int) -> None:
        generator = random.Random(number)
        end = time.monotonic() + seconds
        try:
            with session(cluster[number % 3], distributed) as db:
                while time.monotonic() < end:
                    try:
                        tensor = np.random.default_rng(generator.randrange(6)).standard_normal((300, 512)).astype("float32")
                        name, version = f"m{generator.randrange(4)}", str(generator.randrange(10**9))
                        match generator.randrange(6):
                            case 0 | 1 | 2:
                                data = safetensors_bytes({"w": tensor, "v": tensor[: 1 + generator.randrange(299)]})
                                db.execute("SELECT * FROM modelstore.import_safetensors(%s, %s, %b::bytea)", (name, version, data))
                                assert export(db, "export_safetensors", f"{name}:{version}") == hashlib.sha256(data).hexdigest()
                                counts["imports"] += 1
                            case 3:
                                row = db.execute("SELECT model_id FROM modelstore.list_models() ORDER BY random() LIMIT 1").fetchone()
                                if row:
                                    db.execute("SELECT modelstore.delete_model(%s)", row)
                                    counts["deletes"] += 1
                            case 4:
                                db.execute("SELECT * FROM modelstore.gc()")
                                counts["collections"] += 1
                            case 5:
                                db.execute("SELECT * FROM modelstore.space_report()").fetchall()
                                counts["exports"] += 1
                    except psycopg.errors.UndefinedObject:
                        pass  # another has deleted it
                    except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                        counts["retries"] += 1
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 120)
    print(counts)
    assert errors == []
    assert counts["imports"] > 0 and counts["collections"] > 0
    with session(cluster[0], distributed) as db:
        assert problems(db) == []


def test_what_is_refused(cluster: list[Server], distributed: str) -> None:
    coordinator, worker, _ = cluster

    def refusal(db: psycopg.Connection, sql: str) -> psycopg.errors.Diagnostic:
        with pytest.raises(psycopg.Error) as e:
            db.execute(sql.encode())
        return e.value.diag

    with session(coordinator, distributed) as db:
        assert refusal(db, f"SELECT modelstore.distribute_store('{distributed}')").sqlstate == "55000"
        db.execute("SELECT modelstore.create_store('plain')")
        assert refusal(db, "SELECT modelstore.undistribute_store('plain')").sqlstate == "55000"
        db.execute("SELECT modelstore.drop_store('plain')")
        # Row-level security of atoms does not go with it.
        db.execute("SELECT modelstore.create_store('secured', '{atoms}')")
        db.execute("SET modelstore.store = 'secured'")
        db.execute("SELECT modelstore.secure_atoms()")
        refused = refusal(db, "SELECT modelstore.distribute_store('secured')")
        assert refused.sqlstate == "0A000" and "row-level security" in refused.message_primary
        db.execute("SELECT modelstore.drop_store('secured')")
        db.execute("SELECT set_config('modelstore.store', %s, false)", (distributed,))
        assert refusal(db, "SELECT modelstore.secure_atoms()").sqlstate == "0A000"
        # A schema that is distributed from its beginning.
        db.execute("SET citus.enable_schema_based_sharding = on")
        db.execute("SELECT modelstore.create_store('from_the_start')")
        db.execute("RESET citus.enable_schema_based_sharding")
        db.execute("SET modelstore.store = 'from_the_start'")
        data = safetensors_bytes({"w": random_tensor(1, 600, 512)})
        db.execute("SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,))
        assert export(db, "export_safetensors", "m:1") == hashlib.sha256(data).hexdigest() and problems(db) == []
        db.execute("SELECT modelstore.drop_store('from_the_start', cascade => true)")
    with session(worker, distributed) as db:
        found = refusal(db, "SELECT modelstore.create_store('on_a_worker'); SELECT modelstore.distribute_store('on_a_worker')")
        assert found.sqlstate and found.message_primary


def test_the_nodes_know_the_extension(cluster: list[Server]) -> None:
    for server in cluster[1:]:
        with server.connect(autocommit=True) as db:
            wait_until(lambda db=db: db.execute("SELECT count(*) FROM pg_extension WHERE extname = 'pg_modelstore'").fetchone() == (1,), "the extension is there")
