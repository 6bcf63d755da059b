"""The command: python -m pg_modelstore, or pg-modelstore.

    push ./folder minilm:1      pull minilm ./folder      ls      show minilm      diff minilm:1 minilm:2
    log minilm                  log minilm:1 "first try"  verify minilm            gc
    archive minilm minilm.tar   unarchive minilm.tar

Exit codes: 0 success; 1 the answer is no (verify found problems, diff --exit-code found differences); 2 wrong arguments;
3 an error of the server or of a file; 130 interrupted.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import psycopg
import psycopg_pool
from psycopg import sql

from . import __version__
from .client import Client, connect
from .models import split_target
from .progress import printable

OK, NO, USAGE, ERROR, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(arguments)
    try:
        with connect(given.url, given.store, max_size=2) as client:
            return given.run(client, given)
    except KeyboardInterrupt:
        print("interrupted" + ("; the same command goes on where it stopped" if given.run is _push else ""), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # As `… | head` does: nobody reads on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (psycopg.Error, psycopg_pool.PoolTimeout, OSError, ValueError, TypeError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return ERROR


def one_line(error: BaseException) -> str:
    """An error with the server's DETAIL and HINT in one line."""
    diag = error.diag if isinstance(error, psycopg.Error) else None
    if diag is None or not diag.message_primary:
        return printable(" ".join(str(error).split()))
    parts = [f"{diag.message_primary} ({diag.sqlstate})"]
    parts += [f"{word}: {text}" for word, text in (("DETAIL", diag.message_detail), ("HINT", diag.message_hint)) if text]
    return printable(" ".join(" ".join(parts).split()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pg-modelstore",
        description="Stores machine-learning models in PostgreSQL.",
        epilog="A model is given as name (its newest version), name:version, name@alias or its UUID. Exit codes: 0 success, 1 verify "
        "found problems or diff --exit-code differences, 2 wrong arguments, 3 an error, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"pg-modelstore {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url",
        default=os.environ.get("PGMODELSTORE_URL", ""),
        help="connection string; default: PGMODELSTORE_URL, then libpq's variables (PGHOST, PGDATABASE, …)",
    )
    common.add_argument(
        "--store",
        default=os.environ.get("PGMODELSTORE_STORE") or None,
        help="the store to use; default: PGMODELSTORE_STORE, then the server's setting",
    )
    common.add_argument("--json", action="store_true", help="print JSON, one object a line")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        sub.set_defaults(run=run)
        return sub

    sub = command("push", _push, "store a folder or file as a model")
    sub.add_argument("source", help="a folder with all files of the model, a safetensors file, or a file by torch.save")
    sub.add_argument("target", type=_target, help="name:version")
    sub.add_argument("--parent", help="the model it was derived from; weights are stored as differences to its")
    sub.add_argument("--derivation", help="how it was derived, for example fine-tune")
    sub.add_argument("--metadata", type=_json_object, help="a JSON object")
    sub.add_argument("--alias", help="point this alias at it")
    sub.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave out these files; may be repeated")
    _quiet(sub)

    sub = command("pull", _pull, "write the files of a model to a folder")
    sub.add_argument("model")
    sub.add_argument("folder")
    sub.add_argument("--file", action="append", dest="files", help="only this file; may be repeated")
    _quiet(sub)

    sub = command("archive", _archive, "write a model with its runs and checkpoints to one tar file")
    sub.add_argument("model")
    sub.add_argument("file")
    sub.add_argument("--no-checkpoints", action="store_true", help="leave out runs, metrics and checkpoints")
    _quiet(sub)

    sub = command("unarchive", _unarchive, "store what archive has written")
    sub.add_argument("file")
    sub.add_argument("target", nargs="?", type=_target, help="name:version; default: those in the archive")
    _quiet(sub)

    sub = command("ls", _ls, "list models")
    sub.add_argument("pattern", nargs="?", help="only names that are LIKE this, for example minilm%%")

    sub = command("show", _show, "show a model, its files, runs and checkpoints")
    sub.add_argument("model")

    sub = command("diff", _diff, "compare the weights of two models")
    sub.add_argument("a")
    sub.add_argument("b")
    sub.add_argument("--all", action="store_true", help="equal weights as well")
    sub.add_argument("--exit-code", action="store_true", help="exit with 1 if there are differences, as git diff does")

    sub = command("log", _log, "the history of a model, newest first; or the metrics of one of its runs")
    sub.add_argument("model")
    sub.add_argument("run_name", nargs="?", metavar="run", help="name or UUID of a run: print its metrics, one line a step")
    sub.add_argument("-n", type=int, default=20, metavar="N", help="the last N steps; 0 for all (default 20)")

    sub = command("verify", _verify, "decode and check a model or the whole store")
    sub.add_argument("model", nargs="?")

    sub = command("gc", _gc, "delete what no model or checkpoint uses")
    sub.add_argument("--dry-run", action="store_true", help="only count")
    sub.add_argument(
        "--abandoned-after", metavar="INTERVAL", help="delete uploads as well that have received nothing for so long, as '1 day'"
    )
    return parser


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _target(text: str) -> str:
    try:
        split_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return value


# Commands


def _push(client: Client, given: argparse.Namespace) -> int:
    pushed = client.models.push(
        given.source,
        given.target,
        parent=given.parent,
        derivation=given.derivation,
        metadata=given.metadata,
        exclude=given.exclude,
        progress=not given.quiet and sys.stderr.isatty(),
    )
    if given.alias:
        client.models.alias(pushed.model_id, given.alias)
    if given.json:
        _print_json([pushed.__dict__])
    else:
        rate = pushed.bytes / max(pushed.seconds, 1e-9)
        print(
            f"{printable(pushed.label)} {pushed.model_id}: {_count(pushed.files, 'file')}, {_count(pushed.weights, 'weight')}, {_size(pushed.bytes)} in "
            f"{pushed.seconds:.1f} s ({_size(rate)}/s); stored {_size(pushed.new_bytes)}, reused {_size(pushed.reused_bytes)}"
        )
    return OK


def _pull(client: Client, given: argparse.Namespace) -> int:
    paths = client.models.pull(given.model, given.folder, files=given.files, progress=not given.quiet and sys.stderr.isatty())
    if given.json:
        _print_json({"path": str(path)} for path in paths)
    else:
        for path in paths:
            print(printable(str(path)))
    return OK


def _archive(client: Client, given: argparse.Namespace) -> int:
    bar = not given.quiet and sys.stderr.isatty()
    path = client.models.archive(given.model, given.file, with_checkpoints=not given.no_checkpoints, progress=bar)
    size = path.stat().st_size
    if given.json:
        _print_json([{"path": str(path), "bytes": size}])
    else:
        print(f"{printable(str(path))}: {_size(size)}")
    return OK


def _unarchive(client: Client, given: argparse.Namespace) -> int:
    row = client.models.unarchive(given.file, given.target, progress=not given.quiet and sys.stderr.isatty())
    if given.json:
        _print_json([row._asdict()])
    else:
        label = client.models.label(row.model_id)
        print(
            f"{printable(label)} {row.model_id}: {_count(row.files, 'file')}, {_count(row.runs, 'run')}, "
            f"{_count(row.checkpoints, 'checkpoint')}; stored {_size(row.new_bytes)}, reused {_size(row.reused_bytes)}"
        )
    return OK


def _ls(client: Client, given: argparse.Namespace) -> int:
    _print_rows(client.models.list(given.pattern), given.json)
    return OK


def _show(client: Client, given: argparse.Namespace) -> int:
    models = client.models
    model_id = models.find(given.model)
    facts = models.show(model_id)._asdict()
    facts["aliases"] = _values(client, "SELECT alias FROM {} WHERE model_id = %s ORDER BY 1", "model_aliases", model_id)
    facts["parent"] = next((f"{row.model_name}:{row.version}" for row in models.lineage(model_id) if row.depth == 1), None)
    files = models.files(model_id)
    runs = _rows(
        client,
        "SELECT session_name, status, step, total_steps, newest_loss, best_loss FROM {} WHERE model_id = %s ORDER BY started_at",
        "v_training_progress",
        model_id,
    )
    checkpoints = _rows(
        client,
        "SELECT step, epoch, metrics, checkpoint_id FROM {} WHERE model_id = %s ORDER BY sequence",
        "model_checkpoints",
        model_id,
    )
    if given.json:
        _print_json([facts | {"files": _dicts(files), "runs": _dicts(runs), "checkpoints": _dicts(checkpoints)}])
        return OK
    print(printable(f"{facts.pop('model_name')}:{facts.pop('version')}"))
    for name, value in facts.items():
        if value not in (None, []):
            print(f"  {name:<21}{_cell(value)}")
    for title, rows in (("files", files), ("runs", runs), ("checkpoints", checkpoints)):
        if rows:
            print(f"{title}:")
            _print_rows(rows, False, indent="  ")
    return OK


def _diff(client: Client, given: argparse.Namespace) -> int:
    rows = client.models.diff(given.a, given.b, changed_only=not given.all)
    _print_rows(rows, given.json)
    different = any(row.status != "same" for row in rows)
    return NO if different and given.exit_code else OK


def _log(client: Client, given: argparse.Namespace) -> int:
    if given.run_name:
        return _log_run(client, given)
    history = _rows(
        client,
        "SELECT l.depth, l.model_id, l.model_name, l.version, l.derivation, m.created_at, m.created_by, m.metadata"
        " FROM modelstore.lineage(%s) AS l JOIN {} AS m USING (model_id) ORDER BY l.depth",
        "models",
        str(given.model),
    )
    for row in history:
        runs = _rows(
            client,
            "SELECT session_name, status, step, newest_loss, best_loss, started_at, ended_at FROM {} WHERE model_id = %s ORDER BY started_at DESC",
            "v_training_progress",
            row.model_id,
        )
        checkpoints = _rows(
            client,
            "SELECT step, epoch, metrics, created_at FROM {} WHERE model_id = %s ORDER BY sequence DESC",
            "model_checkpoints",
            row.model_id,
        )
        if given.json:
            _print_json([row._asdict() | {"runs": _dicts(runs), "checkpoints": _dicts(checkpoints)}])
            continue
        print(printable(f"model {row.model_name}:{row.version}  {row.model_id}"))
        print(f"Author: {_cell(row.created_by)}")
        print(f"Date:   {_cell(row.created_at)}")
        if row.derivation:
            print(f"\n    {_cell(row.derivation)}")
        for run in runs:
            print(
                f"\n    run {_cell(run.session_name)}: {run.status}, step {_cell(run.step)}, loss {_cell(run.newest_loss)}, best {_cell(run.best_loss)}"
            )
        for one in checkpoints:
            metrics = ", ".join(f"{_cell(name)} {_cell(value)}" for name, value in (one.metrics or {}).items())
            print(f"    checkpoint #{one.step}  {_cell(one.created_at)}  {metrics}".rstrip())
        print()
    return OK


def _log_run(client: Client, given: argparse.Namespace) -> int:
    try:
        run, condition = UUID(given.run_name), "session_id"
    except ValueError:
        run, condition = given.run_name, "session_name"
    found = _rows(
        client,
        f"SELECT session_id FROM {{}} WHERE {condition} = %s AND model_id = %s::modelstore.regmodel::uuid",
        "training_sessions",
        run,
        str(given.model),
    )
    if not found:
        raise ValueError(f'model {given.model} has no run "{given.run_name}"; "log {given.model}" lists them')
    # A step that was recorded again counts as it was recorded last.
    rows = _rows(
        client,
        "SELECT step, max(epoch) AS epoch, jsonb_object_agg(metric_name, value ORDER BY recorded_at)::text AS metrics FROM {}"
        " WHERE session_id = %s GROUP BY step ORDER BY step DESC" + (f" LIMIT {given.n}" if given.n > 0 else ""),
        "training_metrics",
        found[0].session_id,
    )
    rows.reverse()
    lines = [{"step": row.step, "epoch": row.epoch} | json.loads(row.metrics) for row in rows]
    if given.json:
        _print_json(lines)
    else:
        names = sorted({name for line in lines for name in line} - {"step", "epoch"})
        columns = ["step", *(["epoch"] if any(line["epoch"] is not None for line in lines) else []), *names]
        _print_table(columns, [[line.get(name) for name in columns] for line in lines])
    return OK


def _verify(client: Client, given: argparse.Namespace) -> int:
    problems = client.models.verify(given.model)
    _print_rows(problems, given.json)
    if not problems and not given.json:
        print("no problems")
    return NO if problems else OK


def _gc(client: Client, given: argparse.Namespace) -> int:
    row = client.models.gc(dry_run=given.dry_run, abandoned_after=given.abandoned_after)
    if given.json:
        _print_json([row._asdict()])
    else:
        verb = "would delete" if given.dry_run else "deleted"
        print(
            f"{verb} {_count(row.tensors, 'tensor')}, {_count(row.chunks, 'chunk')} ({_size(row.stored_bytes)}), {_count(row.uploads or 0, 'upload')}"
        )
    return OK


# Output


def _rows(client: Client, query: str, table: str, *arguments: Any) -> list[Any]:
    return client.query(sql.SQL(query).format(client.table(table)), arguments)


def _values(client: Client, query: str, table: str, *arguments: Any) -> list[Any]:
    return [row[0] for row in _rows(client, query, table, *arguments)]


def _dicts(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in rows]


def _print_json(objects: Iterable[dict[str, Any]]) -> None:
    for one in objects:
        print(printable(json.dumps(one, default=_json, ensure_ascii=False)))


def _json(value: Any) -> Any:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return str(value)


def _print_rows(rows: Sequence[Any], as_json: bool, indent: str = "") -> None:
    if as_json:
        _print_json(_dicts(rows))
    elif rows:
        _print_table(rows[0]._fields, rows, indent)


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "") -> None:
    """Columns side by side; those without any value are left out."""
    kept = list(rows)
    shown = [i for i in range(len(columns)) if any(row[i] is not None for row in kept)]
    cells = [[_cell(columns[i]) for i in shown], *([_cell(row[i]) for i in shown] for row in kept)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown))]
    right = [all(row[i] is None or isinstance(row[i], (int, float, decimal.Decimal)) for row in kept) for i in shown]
    for line in cells:
        padded = (text.rjust(width) if to_right else text.ljust(width) for text, width, to_right in zip(line, widths, right))
        print((indent + "  ".join(padded)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S %z")
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()[:12]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return printable(", ".join(value))
    if isinstance(value, (dict, list)):
        return printable(json.dumps(value, default=_json, ensure_ascii=False))
    return printable(str(value))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _count(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
