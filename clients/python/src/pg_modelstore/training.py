"""Training runs: metrics in batches, checkpoints of model and optimizer, and where to go on."""

from __future__ import annotations

import base64
import json
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import UUID

import numpy as np
from psycopg import errors, sql
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from . import safetensors, uploads
from .client import Client, ModelName, is_lost, name_text
from .models import ModelRepository
from .safetensors import TensorsSource
from .values import ArrayLike, is_torch

# A checkpoint up to this size is sent with its statement; a larger one by uploads.
SMALL = 8 << 20
# The metadata of a checkpoint in which the client keeps what neither tensors nor param_groups can hold.
METADATA = "pg_modelstore"

_CHECKPOINT = (
    "SELECT * FROM modelstore.{}(%(model)s, %(step)s, %(weights)s, %(optimizer)s, session_id => %(session)s, epoch => %(epoch)s,"
    " metrics => %(metrics)s, rng_state => %(rng)s, param_groups => %(groups)s, metadata => %(metadata)s, checks => %(checks)s)"
)


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back. `model_state` and `optimizer_state` are what load_state_dict takes; the latter is None if the
    checkpoint has none."""

    checkpoint_id: UUID
    step: int
    epoch: float | None
    model_state: dict[str, Any]
    optimizer_state: dict[str, Any] | None
    rng_state: bytes | None
    metrics: dict[str, float] | None
    metadata: dict[str, Any] | None


class TrainingRun:
    """One run of a model, as a context manager: starts the run or finds the one of this name, records, and ends it.

        with client.training("minilm:1", "first try", config={"lr": 1e-4}) as run:
            start = run.restore()
            for step in range(start.step + 1 if start else 1, 1001):
                ...
                run.log(step, loss=loss, lr=lr)
                if step % 100 == 0:
                    run.checkpoint(step, model.state_dict(), optimizer.state_dict())

    A run with a name that exists is continued. Leaving the block ends the run as completed; an exception ends it as failed, with
    its text, KeyboardInterrupt as cancelled.

    flush_every, flush_seconds: metrics are sent once there are so many records, or once so much time has passed since they were
    last sent; also with each checkpoint and at the end.
    """

    def __init__(
        self,
        client: Client,
        model: ModelName,
        name: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        total_steps: int | None = None,
        loss_metric: str = "loss",
        host: str | None = None,
        resume_from: ModelName | None = None,
        flush_every: int = 100,
        flush_seconds: float = 5.0,
    ) -> None:
        self.client = client
        self.model = model
        self.name = name
        self._details = {
            "config": None if config is None else Jsonb(plain(config)),
            "total_steps": total_steps,
            "loss_metric": loss_metric,
            "host": host,
            "resume_from": None if resume_from is None else name_text(resume_from),
        }
        self._flush_every, self._flush_seconds = flush_every, flush_seconds
        self._records: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        self.model_id: UUID | None = None
        self.session_id: UUID | None = None
        self.resumed = False

    # Life

    def __enter__(self) -> TrainingRun:
        return self.start()

    def start(self) -> TrainingRun:
        """Starts the run, or continues the one of this name; entering the block does so."""
        # Once: a name means its newest version, and somebody may push one during the run.
        self.model_id = ModelRepository(self.client).find(self.model)
        given = {"model": str(self.model_id), "name": self.name} | self._details
        rest = ", ".join(f"{key} => %({key})s" for key in self._details)
        if self.name is None:
            self.session_id = self.client.value(f"SELECT modelstore.start_training(%(model)s, {rest})", given)
            return self
        found = "EXISTS (SELECT FROM {} WHERE session_id = s AND created_at < transaction_timestamp())"
        query = sql.SQL(
            "SELECT s, " + found + f" FROM modelstore.find_or_start_training(%(model)s, %(name)s, {rest}) AS s"
        ).format(self.client.table("training_sessions"))
        row = self.client.query(query, given)[0]
        self.session_id, self.resumed = row[0], row[1]
        if self.resumed:
            self.client.query("SELECT modelstore.reopen_training(%s)", (self.session_id,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.finish()
            return
        status = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
        try:
            self.finish(status, f"{type(error).__name__}: {error}")
        except Exception as second:
            # The error of the training is the one to see.
            if hasattr(error, "add_note"):
                error.add_note(f"the run {self.session_id} could not be ended as {status}: {second}")

    def finish(self, status: str = "completed", error: str | None = None) -> None:
        """Sends what is left of the metrics and ends the run; leaving the block does so."""
        self.flush()
        attempts = 0

        def step() -> None:
            nonlocal attempts
            attempts += 1
            try:
                with self.client.transaction() as connection:
                    connection.execute("SELECT modelstore.finish_training(%s, %s, %s)", (self.session_id, status, error))
            except errors.ObjectNotInPrerequisiteState:
                if attempts == 1:  # afterwards, a commit whose answer was lost has ended it
                    raise

        self.client.retry(step)

    # Metrics

    def log(self, step: int, metrics: Mapping[str, Any] | None = None, *, epoch: float | None = None, **more: Any) -> None:
        """Records metrics of a step: numbers, numpy scalars or tensors of one element. They are sent in batches."""
        if self.session_id is None:
            raise RuntimeError("the run has not started: use it in a with statement, or call start()")
        figures = numbers({**(metrics or {}), **more})
        self._records.append({"step": int(step), "epoch": None if epoch is None else float(epoch), "metrics": figures})
        if len(self._records) >= self._flush_every or time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Sends the metrics recorded so far, in one statement."""
        self._flushed = time.monotonic()
        if not self._records:
            return
        self.client.query(
            "SELECT count(modelstore.log_metrics(%s, step, metrics, epoch))"
            " FROM jsonb_to_recordset(%s) AS r(step bigint, epoch double precision, metrics jsonb)",
            (self.session_id, Jsonb(self._records)),
        )
        self._records = []

    # Checkpoints

    def checkpoint(
        self,
        step: int,
        model_state: Mapping[str, ArrayLike],
        optimizer_state: Mapping[str, Any] | None = None,
        *,
        epoch: float | None = None,
        metrics: Mapping[str, Any] | None = None,
        rng_state: bytes | bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        checks: Sequence[str] | None = None,
    ) -> UUID:
        """Stores a checkpoint in one transaction and returns its UUID.

        model_state: the model's state_dict. optimizer_state: the optimizer's, as torch gives it: its tensors are named as
        "0.exp_avg", its parameter groups go into param_groups. rng_state: bytes of your own, or True for the generators of
        Python, numpy and torch, which `set_rng_state` sets. checks: see the setting modelstore.checkpoint_checks.
        """
        self.flush()
        weights = TensorsSource(model_state)
        optimizer, groups, extra = flatten_optimizer(optimizer_state)
        files = [weights] if optimizer is None else [weights, TensorsSource(optimizer)]
        all_metadata = dict(metadata or {})
        if extra:
            all_metadata[METADATA] = extra
        given: dict[str, Any] = {
            "model": name_text(self.model_id or self.model),
            "session": self.session_id,
            "step": int(step),
            "epoch": epoch,
            "metrics": None if metrics is None else Jsonb(numbers(metrics)),
            "rng": rng_state_now() if rng_state is True else rng_state or None,
            "groups": None if groups is None else Jsonb(groups),
            "metadata": Jsonb(plain(all_metadata)) if all_metadata else None,
            "checks": None if checks is None else list(checks),
        }
        small = sum(file.size for file in files) <= SMALL
        data: list[Any] = []
        for file in files:
            if small:
                data.append(file.tobytes())
            else:
                data.append(uploads.upload(self.client, file, parent_checkpoint=self.latest())[0])
        given |= {"weights": data[0], "optimizer": data[1] if len(data) > 1 else None}
        query = _CHECKPOINT.format("create_checkpoint" if small else "create_checkpoint_upload")
        newest = self._newest_sequence()
        attempts = 0

        def make() -> UUID:
            nonlocal attempts
            attempts += 1
            with self.client.transaction() as connection, connection.cursor(row_factory=namedtuple_row) as cursor:
                if attempts > 1 and (done := self._made_since(cursor, newest, int(step))) is not None:
                    return done
                row = cursor.execute(query, given).fetchone()
                assert row is not None
                return row.checkpoint_id

        try:
            return self.client.retry(make)
        except errors.Error as error:
            if not small and not is_lost(error):
                for upload_id in data:
                    uploads.abort(self.client, upload_id)
            raise

    def _newest_sequence(self) -> int:
        query = sql.SQL("SELECT coalesce(max(sequence), 0)::bigint FROM {} WHERE session_id = %s")
        return self.client.value(query.format(self.client.table("model_checkpoints")), (self.session_id,))

    def _made_since(self, cursor: Any, newest: int, step: int) -> UUID | None:
        """The checkpoint, if a commit whose answer was lost has made it."""
        query = sql.SQL("SELECT checkpoint_id FROM {} WHERE session_id = %s AND sequence > %s AND step = %s")
        row = cursor.execute(query.format(self.client.table("model_checkpoints")), (self.session_id, newest, step)).fetchone()
        return None if row is None else row.checkpoint_id

    def latest(self) -> UUID | None:
        """The newest checkpoint of the run, or the one it continues."""
        arguments = (name_text(self.model_id or self.model), self.session_id)
        return self.client.value("SELECT modelstore.get_latest_checkpoint(%s, %s)", arguments)

    def restore(self, checkpoint: ModelName | None = None, *, framework: str | None = None) -> Restored | None:
        """Reads a checkpoint, by default the one to go on from; None if there is none yet.

        framework: "torch" or "numpy"; by default torch if the program has imported it.
        """
        wanted = self.latest() if checkpoint is None else name_text(checkpoint)
        return None if wanted is None else read_checkpoint(self.client, wanted, framework=framework)


def read_checkpoint(client: Client, checkpoint: ModelName, *, framework: str | None = None) -> Restored:
    """Reads a checkpoint: see `TrainingRun.restore`."""
    framework = framework or ("torch" if "torch" in sys.modules else "numpy")
    (state,) = client.query(
        "SELECT c::uuid AS checkpoint_id, s.step, s.epoch, s.rng_state, s.param_groups, s.metrics, s.metadata, s.has_optimizer_state"
        " FROM (SELECT %s::modelstore.regcheckpoint AS c) AS given, modelstore.checkpoint_state(given.c) AS s",
        (name_text(checkpoint),),
    )
    model_state = safetensors.read(_file(client, state.checkpoint_id, "model.safetensors"), framework)
    metadata = dict(state.metadata or {})
    extra = metadata.pop(METADATA, {})
    optimizer = None
    if state.has_optimizer_state or state.param_groups is not None:
        tensors = {}
        if state.has_optimizer_state:
            tensors = safetensors.read(_file(client, state.checkpoint_id, "optimizer.safetensors"), framework)
        optimizer = unflatten_optimizer(tensors, state.param_groups, extra)
    return Restored(
        state.checkpoint_id, state.step, state.epoch, model_state, optimizer, state.rng_state, state.metrics, metadata or None
    )


def _file(client: Client, checkpoint: UUID, name: str) -> bytearray:
    """A file of a checkpoint, in memory of our own that torch may write to."""

    def read() -> bytearray:
        size = sql.SQL("SELECT file_bytes FROM {} WHERE checkpoint_id = %s AND file_name = %s").format(
            client.table("checkpoint_files")
        )
        with client.transaction() as connection, connection.cursor() as cursor:
            row = cursor.execute(size, (checkpoint, name)).fetchone()
            if row is None:
                raise errors.UndefinedObject(f"checkpoint {checkpoint} was not stored from files: it has no {name}")
            out, at = bytearray(row[0]), 0
            query = sql.SQL("COPY (SELECT modelstore.export_checkpoint({}, {})) TO STDOUT (FORMAT binary)")
            with cursor.copy(query.format(sql.Literal(name_text(checkpoint)), sql.Literal(name))) as copy:
                copy.set_types(["bytea"])
                for (part,) in copy.rows():
                    out[at : at + len(part)] = part
                    at += len(part)
            return out

    return client.retry(read)


# State of optimizers


def flatten_optimizer(
    state: Mapping[str, Any] | None,
) -> tuple[dict[str, ArrayLike] | None, list[dict[str, Any]] | None, dict[str, Any]]:
    """Tensors by "parameter.state", param_groups for jsonb, and what neither holds: scalars of the state, whether the parameters
    are numbered, and which values of a group are tuples."""
    if state is None:
        return None, None, {}
    tensors: dict[str, ArrayLike] = {}
    scalars: dict[str, dict[str, Any]] = {}
    inner = state.get("state", {})
    for parameter, values in inner.items():
        for name, value in values.items():
            if "." in name:
                raise ValueError(f'optimizer state "{name}" of parameter {parameter}: a name may not contain a full stop')
            if isinstance(value, np.ndarray) or is_torch(value):
                tensors[f"{parameter}.{name}"] = value
            else:
                scalars.setdefault(str(parameter), {})[name] = plain(value)
    groups = [{key: plain(value) for key, value in group.items()} for group in state.get("param_groups", [])]
    extra: dict[str, Any] = {}
    if scalars:
        extra["optimizer_scalars"] = scalars
    if any(not isinstance(parameter, int) for parameter in inner):
        extra["optimizer_keys"] = "text"
    tuples = sorted({key for group in state.get("param_groups", []) for key, value in group.items() if isinstance(value, tuple)})
    if tuples:
        extra["group_tuples"] = tuples
    more = {key: plain(value) for key, value in state.items() if key not in ("state", "param_groups")}
    if more:
        extra["optimizer_more"] = more
    return tensors or None, groups, extra


def unflatten_optimizer(
    tensors: Mapping[str, Any], groups: list[dict[str, Any]] | None, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The optimizer's state_dict again."""
    key = str if extra.get("optimizer_keys") == "text" else int
    state: dict[Any, dict[str, Any]] = {}
    for full, value in tensors.items():
        parameter, _, name = full.rpartition(".")
        state.setdefault(key(parameter), {})[name] = value
    for parameter, values in extra.get("optimizer_scalars", {}).items():
        state.setdefault(key(parameter), {}).update((name, unplain(value)) for name, value in values.items())
    tuples = set(extra.get("group_tuples", ()))
    restored = [
        {name: tuple(unplain(value)) if name in tuples else unplain(value) for name, value in group.items()}
        for group in groups or []
    ]
    ordered = dict(sorted(state.items())) if key is int else state
    return {"state": ordered, "param_groups": restored} | dict(extra.get("optimizer_more", {}))


# Numbers


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | int | str]:
    """Metrics for jsonb. Raises TypeError or ValueError that names the one that is no number."""
    figures = {}
    for name, value in metrics.items():
        try:
            figures[name] = number(value)
        except (TypeError, ValueError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f'metric "{name}" is no number: {error}') from error
    return figures


def number(value: Any) -> float | int | str:
    """A number for jsonb: NaN and infinities, which JSON lacks, as text."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or isinstance(value, int):
        return value
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def plain(value: Any) -> Any:
    """A value for jsonb: tuples as lists, scalars of numpy and torch as numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.ndarray) or is_torch(value):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return number(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def unplain(value: Any) -> Any:
    """Numbers that JSON lacks, again as numbers."""
    if isinstance(value, list):
        return [unplain(inner) for inner in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


# Random numbers


def rng_state_now() -> bytes:
    """State of the generators of Python, numpy and, if it has been imported, torch, as JSON."""
    state: dict[str, Any] = {"python": random.getstate(), "numpy": plain(np.random.get_state(legacy=False))}
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        state["torch"] = _base64(torch.get_rng_state())
        if torch.cuda.is_available():
            state["cuda"] = [_base64(one) for one in torch.cuda.get_rng_state_all()]
    return json.dumps(state).encode()


def set_rng_state(data: bytes) -> None:
    """Sets the generators whose state `rng_state_now` returned."""
    state = json.loads(data)
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    generator = dict(state["numpy"])
    generator["state"] = dict(generator["state"], key=np.array(generator["state"]["key"], "uint32"))
    np.random.set_state(generator)
    if "torch" in state and "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_rng_state(_tensor(torch, state["torch"]))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([_tensor(torch, one) for one in state["cuda"]])


def _base64(tensor: Any) -> str:
    return base64.b64encode(tensor.cpu().numpy().tobytes()).decode()


def _tensor(torch: Any, text: str) -> Any:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
