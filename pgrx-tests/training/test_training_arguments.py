"""NULL for an argument with a default: an error of the function's own, or, where intended, none or the default."""

from __future__ import annotations

import re

import psycopg
import pytest
from checkpoints import checkpoint, register, start
from harness import ROOT
from models import random_tensor, safetensors_bytes
from psycopg.sql import SQL, Identifier, Literal

SIGNATURES = """
    SELECT p.oid::regprocedure::text, p.proname, p.proargnames[1:p.pronargs],
           array(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS u(t, n) ORDER BY n), p.pronargdefaults
    FROM pg_proc p WHERE p.pronamespace = 'modelstore'::regnamespace AND p.proname = ANY(%s) AND p.pronargdefaults > 0 ORDER BY 1"""

FILE = safetensors_bytes({"w": random_tensor(1, 8, 8)})


def functions() -> list[str]:
    """Those of the module, by the files of comments."""
    comments = ROOT / "sql" / "extension" / "comments"
    texts = [(comments / name).read_text() for name in ("19_training.sql", "20_checkpoints.sql")]
    return [name for text in texts for name in dict.fromkeys(re.findall(r"^COMMENT ON FUNCTION (\w+)\(", text, re.M))]


@pytest.fixture
def known(db: psycopg.Connection) -> dict[str, object]:
    """A value for each required argument by its name, or by function and name."""
    config = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
    model = register(db, config=config)
    run = start(db, model, "a")
    made = checkpoint(db, model, FILE, 1, run).checkpoint_id
    db.execute("SELECT modelstore.log_metrics(%s, 1, '{\"loss\": 1}')", (run,))
    idle = start(db, model, "idle")
    spare = checkpoint(db, model, FILE, 2).checkpoint_id
    (target,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, 'target')", (made,)).fetchone()
    (copy,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, 'copy')", (made,)).fetchone()
    (delta,) = db.execute("SELECT string_agg(p, '' ORDER BY n) FROM modelstore.publish_delta(%s, %s) WITH ORDINALITY AS d(p, n)", (copy, target)).fetchone()
    db.execute("DELETE FROM store.models WHERE model_id = %s", (target,))
    large_object, delta_object = (db.execute("SELECT lo_from_bytea(0, %b::bytea)", (data,)).fetchone()[0] for data in (FILE, delta))
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b::bytea, 0)", (upload, FILE))
    return {
        "model": model, "session_id": run, "checkpoint": made, "name": "m", "session_name": "found", "step": 3, "epoch": 1.0,
        "metrics": '{"loss": 1}', "metric": "loss", "session_ids": [run], "metric_names": ["loss"], "metric_plots.metrics": ["loss"], "values": [1.0, 2.0],
        "version": "2", "weight_names": ["w"], "weights bytea": FILE, "weights oid": large_object, "weights uuid": upload,
        "apply_delta.base": copy, "apply_delta_large_object.base": copy, "base": made, "delta bytea": delta, "delta oid": delta_object,
        "delete_checkpoint.checkpoint": spare, "delete_training.session_id": idle,
    }  # fmt: skip


def test_null_for_an_argument_with_a_default(db, known) -> None:
    tried, refused = 0, {}
    signatures = db.execute(SIGNATURES, (functions(),)).fetchall()
    assert len(signatures) >= 18
    for signature, name, names, types, defaults in signatures:
        required = len(names) - defaults
        given = []
        for argument, kind in list(zip(names, types, strict=True))[:required]:
            if kind.endswith("tensor[]"):
                given.append(SQL("{} => ARRAY[modelstore.reshape('[{}]', ARRAY[8, 8])]").format(Identifier(argument), SQL(",".join(["1"] * 64))))
                continue
            keys = (f"{name}.{argument}", f"{argument} {kind}", argument)
            value = next(known[key] for key in keys if key in known)
            given.append(SQL("{} => {}::{}").format(Identifier(argument), Literal(value), SQL(kind)))
        for argument, kind in list(zip(names, types, strict=True))[required:]:
            call = SQL("SELECT modelstore.{}({})").format(
                SQL(name), SQL(", ").join([*given, SQL("{} => NULL::{}").format(Identifier(argument), SQL(kind))])
            )
            tried += 1
            try:
                with db.transaction(force_rollback=True):
                    db.execute(call)
            except psycopg.Error as error:
                assert error.sqlstate == "22004", f"{signature}, {argument}: {error.sqlstate} {error}"
                assert error.diag.message_primary == f'argument "{argument}" must not be null', signature
                refused.setdefault(name, []).append(argument)
    assert tried >= 60
    # Whose default is no NULL, and for which NULL would mean nothing.
    assert refused == {
        "delete_checkpoint": ["cascade"], "delete_training": ["cascade"], "export_checkpoint": ["file_name", "from_byte"],
        "find_or_start_training": ["loss_metric"], "finish_training": ["status"], "get_best_checkpoint": ["metric", "mode"],
        "metric_plot": ["log_scale", "width", "height", "x_axis", "smoothing"],
        "metric_plots": ["log_scale", "width", "height", "x_axis", "smoothing"],
        "plan_gradient_checkpoints": ["batch_size", "seq_len", "element_bytes"], "prune_checkpoints": ["dry_run", "metric", "mode"],
        "set_gradient_checkpoints": ["batch_size", "seq_len", "element_bytes"], "start_training": ["loss_metric"],
    }  # fmt: skip
