"""Cost curves of a server: by stores, unfinished uploads, connections."""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Iterator

import numpy as np
from growth import Curve, Figures
from safetensors.numpy import save


def stores(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Stores of one database."""
    done = 0
    for size in sizes:
        while done < size:
            done += 1
            b.db.execute("SELECT modelstore.create_store(%s)", (f"store_{done}",))
        create = [(f"more_{n}",) for n in range(5)]
        figures = {
            "create_store [s]": b.median("SELECT modelstore.create_store(%s)", create, warm=2),
            "stores() [s]": b.median("SELECT count(*) FROM modelstore.stores()", [()] * 8),
            "relations []": float(b.value("SELECT count(*) FROM pg_class WHERE relkind <> 'c'")),
            "the database [B]": float(b.value("SELECT pg_database_size(current_database())")),
        }
        # A session that has used every store keeps what it knows of each.
        b.db.execute("SELECT 1")
        with b.session() as db:
            first = private(db.info.backend_pid)
            for n in range(1, size + 1):
                db.execute("SELECT set_config('modelstore.store', %s, false)", (f"store_{n}",))
                db.execute("SELECT count(*) FROM modelstore.list_models()")
            figures["a session that has used all, memory [B]"] = private(db.info.backend_pid) - first
        figures["drop_store [s]"] = b.median("SELECT modelstore.drop_store(%s)", create, warm=2)
        yield size, figures


def private(pid: int) -> float:
    """Bytes of private memory that a process has now."""
    return 1024.0 * int(re.search(r"RssAnon:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def uploads(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Uploads that have received 100 kB and wait for more."""
    data = save({"w": np.random.default_rng(0).standard_normal((400, 400), dtype="float32")})
    done = 0
    for size in sizes:
        while done < size:
            with b.db.transaction():
                for done in range(done + 1, min(done + 100, size) + 1):
                    id = b.value("SELECT modelstore.begin_upload()")
                    b.db.execute("SELECT modelstore.append_upload(%s, %b)", (id, data[:100_000]))
        begun = [(b.value("SELECT modelstore.begin_upload()"), data) for _ in range(8)]
        yield size, {
            "begin_upload [s]": b.median("SELECT modelstore.begin_upload()", [()] * 8),
            "append_upload of 640 kB [s]": b.median("SELECT modelstore.append_upload(%s, %b)", begun),
            "finish_upload [s]": b.median("SELECT model_id FROM modelstore.finish_upload(%s, 'm', %s)", [(id, f"{size} {n}") for n, (id, _) in enumerate(begun)]),
            "v_uploads [s]": b.median("SELECT * FROM store.v_uploads ORDER BY age DESC LIMIT 20", [()] * 8),
            "gc(dry_run) [s]": b.median("SELECT uploads FROM modelstore.gc(dry_run => true, abandoned_after => '1 hour')", [()] * 4, warm=1),
        }


def sessions(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Connections, each of which has read one slice and exported a model of 4 MB."""
    data = save({"w": np.random.default_rng(0).standard_normal((1000, 1000), dtype="float32")})
    b.db.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (data,))
    slice, connections = "SELECT modelstore.get_tensor_slice('m', 'w', '0:10')", []
    for size in sizes:
        while len(connections) < size:
            db = b.session()
            db.execute(slice)
            db.execute("SELECT modelstore.export_safetensors('m')")
            connections.append(db)
        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            with b.session() as db:
                db.execute(slice)
            taken.append(time.perf_counter() - begun)
        yield size, {
            "memory of all [B]": sum(private(db.info.backend_pid) for db in connections),
            "connecting and a first slice [s]": sorted(taken)[2],
            "a slice [s]": b.median(slice, [()] * 53),
        }
    for db in connections:
        db.close()


CURVES = [
    Curve("stores", "stores", (5, 10, 20, 40), (25, 50, 100, 200), stores),
    Curve("uploads", "unfinished uploads", (100, 200, 400, 800), (500, 1000, 2000, 4000), uploads),
    Curve("sessions", "connections", (10, 20, 40, 80), (20, 40, 80, 160), sessions),
]
