"""The client: a pool of connections, the store they use, and what is tried again."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union
from uuid import UUID

import psycopg
import psycopg_pool
from psycopg import errors
from psycopg.rows import namedtuple_row

from .adapters import Types, adapt, fetch_types

if TYPE_CHECKING:
    from .models import ModelRepository
    from .tensors import TensorRepository
    from .training import TrainingRun

T = TypeVar("T")
# How a model or a checkpoint is given.
ModelName = Union[str, UUID]
Rows = list[Any]

RETRIES = 3
_PAUSES = (0.2, 1.0, 4.0)


def connect(
    url: str = "",
    store: str | None = None,
    *,
    min_size: int = 1,
    max_size: int = 4,
    prepare_threshold: int | None = None,
    timeout: float = 30.0,
    **options: Any,
) -> Client:
    """Connects to a database with pg_modelstore and returns a client with a pool of connections.

    url: a connection string; libpq's variables (PGHOST, PGDATABASE, …) fill in what it leaves out.
    store: the store to use, set in each transaction; by default the one of the server's setting modelstore.store.
    prepare_threshold: after how many executions a statement is prepared. The default, None, prepares none: a transaction
        pooler does not keep prepared statements.
    timeout: seconds to wait for a connection of the pool.
    options: passed to psycopg.connect.

    Raises psycopg.OperationalError if there is no connection, psycopg.errors.UndefinedObject if the database does not have the
    extension.
    """
    kwargs = {"autocommit": True, "prepare_threshold": prepare_threshold, **options}
    # A first connection of our own: errors of a pool are time-outs.
    with psycopg.connect(_checked(url), **kwargs) as connection:
        types = fetch_types(connection)
    pool = psycopg_pool.ConnectionPool(
        url,
        min_size=min_size,
        max_size=max_size,
        kwargs=kwargs,
        timeout=timeout,
        configure=lambda connection: adapt(connection, types),
        open=True,
    )
    return Client(pool, types, store)


def _checked(url: str) -> str:
    """A connection string, unless it is none at first sight: libpq's errors do not say so. It is not repeated: it may have a password."""
    if not isinstance(url, str):
        raise TypeError(f"url is a connection string, not {type(url).__name__}: leave it out to use libpq's variables (PGHOST, …)")
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in ("postgresql", "postgres") and scheme.replace("+", "").isalnum():
        raise ValueError(f"url starts with {scheme}://; expected postgresql://user@host/database")
    return url


class Client:
    """A pool of connections to one database, and the repositories over it. `connect` makes one; close it when done."""

    def __init__(self, pool: psycopg_pool.ConnectionPool[Any], types: Types, store: str | None = None) -> None:
        self.pool = pool
        self.types = types
        self.store = store
        self._schema: str | None = None
        self._of_thread = threading.local()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the pool."""
        self.pool.close()

    # Repositories

    @property
    def models(self) -> ModelRepository:
        """Models: push, pull, list, compare, delete."""
        from .models import ModelRepository

        return ModelRepository(self)

    @property
    def tensors(self) -> TensorRepository:
        """Weights as arrays."""
        from .tensors import TensorRepository

        return TensorRepository(self)

    def training(self, model: Any, name: str | None = None, **arguments: Any) -> TrainingRun:
        """A training run of a model, for a with statement; see `TrainingRun`."""
        from .training import TrainingRun

        return TrainingRun(self, model, name, **arguments)

    # Statements

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the pool in a transaction that uses the client's store. Results of its cursors are text unless asked
        for with binary=True."""
        with self._connection() as connection, connection.transaction():
            if self.store is not None:
                connection.execute("SELECT set_config('modelstore.store', %s, true)", (self.store,))
            if self._schema is None:
                # Here, because a transaction must not wait for a second connection of the pool.
                row = connection.execute("SELECT store FROM modelstore.stores() WHERE is_current").fetchone()
                self._schema = None if row is None else row[0]
            yield connection

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        if self.pool.closed:
            raise psycopg_pool.PoolClosed("the client is closed: connect again, and close it when all is done")
        held = self._of_thread.__dict__.setdefault("held", [])
        if len(held) >= self.pool.max_size:
            # A thread would wait for itself.
            raise psycopg.InterfaceError(
                f"this thread's transactions hold all {len(held)} connections of the client: end them first, or connect with a larger max_size"
            )
        with self.pool.connection() as connection:
            held.append(connection)
            try:
                yield connection
            finally:
                held.remove(connection)

    def query(self, sql: Any, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> list[Any]:
        """Rows of one statement, as named tuples, none if it returns none, in a transaction of its own that is tried again as `retry` says.

        A statement that has committed is not executed again: if the connection is lost during the commit, the server is asked
        whether the transaction was committed.
        """
        answer: tuple[str | None, list[Any]] | None = None

        def run() -> list[Any]:
            nonlocal answer
            if answer is not None and self._committed(answer[0]):
                return answer[1]
            answer = None
            with self.transaction() as connection, connection.cursor(binary=True, row_factory=namedtuple_row) as cursor:
                cursor.execute(sql, arguments)
                rows = cursor.fetchall() if cursor.description is not None else []
                written = connection.execute("SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text").fetchone()
                assert written is not None
                answer = written[0], rows
            return rows

        return self.retry(run)

    def _committed(self, transaction_id: str | None) -> bool:
        """Whether a transaction was committed. One without an ID has written nothing, so it does not matter."""
        if transaction_id is None:
            return True
        query = "SELECT pg_catalog.pg_xact_status(%s::pg_catalog.text::pg_catalog.xid8)"
        try:
            with self.transaction() as connection:
                row = connection.execute(query, (transaction_id,)).fetchone()
        except errors.InvalidParameterValue:
            # "is in the future": a crash has lost the transaction, and its ID was not assigned again.
            return False
        status = None if row is None else row[0]
        if status == "in progress":
            # The server has not noticed yet that the connection is gone, or is committing: ask again.
            raise psycopg.OperationalError(f"the connection was lost, and transaction {transaction_id} has not ended yet")
        return status == "committed"

    def value(self, sql: Any, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row of a statement. Raises psycopg.errors.NoDataFound if there is no row."""
        rows = self.query(sql, arguments)
        if not rows:
            raise errors.NoDataFound("the statement has returned no row")
        return rows[0][0]

    def table(self, name: str) -> psycopg.sql.Identifier:
        """A table or view of the store, for psycopg.sql."""
        return psycopg.sql.Identifier(self.schema, name)

    @property
    def schema(self) -> str:
        """Schema of the store in use. Raises psycopg.errors.InvalidSchemaName if it does not exist."""
        if self._schema is None:
            # The server's own error says which store is missing, and what to run.
            self.query("SELECT modelstore.store_version()")
        assert self._schema is not None
        return self._schema

    def version(self) -> str:
        """Version of the extension in the database."""
        return self.value("SELECT modelstore.version()")

    # Trying again

    def retry(self, step: Callable[[], T], progressed: Callable[[], object] | None = None) -> T:
        """Runs a step, and again, up to three times with growing pauses, after a serialization failure (40001), a deadlock
        (40P01) or a lost connection. `progressed` returns a figure: while it changes between failures, the count starts anew.
        """
        failures, before = 0, progressed() if progressed else None
        while True:
            try:
                return step()
            except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
                if progressed and (now := progressed()) != before:
                    failures, before = 0, now
                if failures >= RETRIES or not is_transient(error):
                    raise
                lost = is_lost(error)
            time.sleep(_PAUSES[failures] * random.uniform(0.75, 1.25))
            failures += 1
            if lost:
                # The server may have restarted: then every connection of the pool is broken.
                with contextlib.suppress(psycopg.Error, psycopg_pool.PoolTimeout):
                    self.pool.check()


def name_text(model: ModelName) -> str:
    """A model or checkpoint as the server takes it. Raises TypeError for anything but text and UUIDs."""
    if not isinstance(model, (str, UUID)):
        hint = " Give its model_id." if hasattr(model, "model_id") else ""
        raise TypeError(f"a model or checkpoint is given by its name or UUID, not by {type(model).__name__}.{hint}")
    return str(model)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the connection is gone."""
    if isinstance(error, psycopg_pool.PoolClosed):
        return False
    if isinstance(error, psycopg_pool.PoolTimeout):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    sqlstate = error.sqlstate
    return sqlstate is None or sqlstate.startswith("08") or sqlstate in ("57P01", "57P02", "57P03", "57P05")


def is_transient(error: BaseException) -> bool:
    """Whether the same step can succeed when it is tried again."""
    return isinstance(error, (errors.SerializationFailure, errors.DeadlockDetected)) or is_lost(error)
