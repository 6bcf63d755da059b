"""Compares diff_models with numpy, weight by weight."""

from __future__ import annotations

import numpy as np
import pytest
from models import random_tensor, raw_file, to_bf16
from tensors import close, numbers
from transfer import import_model

pytestmark = pytest.mark.any_server


def test_diff_models(db) -> None:
    a = {
        "same": ("F32", random_tensor(1, 50, 60)),
        "changed": ("F32", random_tensor(2, 700, 800)),
        "other chunks": ("F32", random_tensor(3, 300, 400)),
        "dtype": ("F32", random_tensor(4, 333, 222)),
        "shape": ("F32", random_tensor(5, 6, 8)),
        "nan": ("F32", np.array([1, np.nan, 3], "float32")),
        "zero": ("F32", np.zeros(5, "float32")),
        "negated": ("F64", np.array([1.0, 2.0, 3.0])),
        "far": ("F64", 1e8 + random_tensor(8, 100_000).astype("float64")),
        "huge": ("F64", random_tensor(9, 100_000).astype("float64") * 1e200),
        "tiny": ("F64", random_tensor(10, 100_000).astype("float64") * 1e-200),
        "huge and tiny": ("F64", np.append(random_tensor(11, 70_000).astype("float64") * 1e200, random_tensor(12, 70_000).astype("float64") * 1e-200)),
        "gone": ("F32", random_tensor(6, 3)),
        "opaque": ("C64", np.ones(8, "uint8")),
        "empty": ("F32", np.zeros((0, 2), "float32")),
    }
    changed = a["changed"][1].copy()
    changed[5, 6:20] += np.float32(0.5)
    b = dict(a) | {
        "changed": ("F32", changed),
        "other chunks": ("F32", random_tensor(33, 300, 400)),
        "dtype": ("BF16", to_bf16(a["dtype"][1])),
        "shape": ("F32", a["shape"][1].reshape(8, 6)),
        "nan": ("F32", np.array([1, 2, 3], "float32")),
        "zero": ("F32", np.ones(5, "float32")),
        "negated": ("F64", np.array([-1.0, -2.0, -3.0])),
        "far": ("F64", 1e8 + random_tensor(28, 100_000).astype("float64")),
        "huge": ("F64", random_tensor(29, 100_000).astype("float64") * 1e200),
        "tiny": ("F64", random_tensor(30, 100_000).astype("float64") * 1e-200),
        "huge and tiny": ("F64", random_tensor(31, 140_000).astype("float64") * 1e-200),
        "added": ("F32", random_tensor(7, 3)),
        "opaque": ("C64", np.zeros(8, "uint8")),
        "empty": ("F64", np.zeros((0, 2))),
    }
    del b["gone"]
    ids = []
    for version, tensors in enumerate((a, b)):
        # Pieces of different sizes must still be compared element by element.
        db.execute(f"SET modelstore.chunk_size = '{256 + 256 * version}kB'")
        shapes = {n: (array.shape if dtype != "C64" else (1,)) for n, (dtype, array) in tensors.items()}
        data = raw_file({n: (d, shapes[n], x.tobytes()) for n, (d, x) in tensors.items()})
        ids.append(import_model(db, data, version=str(version)).model_id)
    rows = {row[0]: row[1:] for row in db.execute("SELECT * FROM modelstore.diff_models(%s, %s)", ids)}
    assert list(rows) == sorted(a.keys() | b.keys())
    assert rows["same"] == ("same", 0, 0, None, a["same"][1].nbytes)
    assert rows["gone"] == ("removed", None, None, None, 0)
    assert rows["added"] == ("added", None, None, None, 0)
    assert rows["shape"][:4] == ("changed", None, None, None) and rows["opaque"][:4] == ("changed", None, None, None)
    assert rows["empty"][:3] == ("changed", 0, 0)
    for name in ("changed", "other chunks", "dtype", "zero", "negated", "far", "huge", "tiny", "huge and tiny"):
        # Doubles overflow where the figures do not.
        x, y = (numbers(*weights[name]).reshape(-1).astype("longdouble") for weights in (a, b))
        status, l2, max_abs, cosine, _ = rows[name]
        assert status == "changed"
        assert close(l2, float(np.sqrt(((y - x) ** 2).sum())), 1e-12) and close(max_abs, float(np.abs(y - x).max())), name
        with np.errstate(all="ignore"):
            expected = float((x * y).sum() / np.sqrt((x * x).sum()) / np.sqrt((y * y).sum()))
        assert close(cosine, expected if np.isfinite(expected) else None, 1e-9, absolute=1e-13), name
    assert np.isnan(rows["nan"][1]) and np.isnan(rows["nan"][2])
    # The reverse order swaps what is added and removed and no number.
    reverse = {row[0]: row[1:] for row in db.execute("SELECT * FROM modelstore.diff_models(%s, %s)", ids[::-1])}
    assert reverse["gone"][0] == "added" and reverse["changed"] == rows["changed"]
    assert {row[1] for row in db.execute("SELECT * FROM modelstore.diff_models(%s, %s)", ids[:1] * 2)} == {"same"}
