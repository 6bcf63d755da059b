"""A column type for SQLAlchemy 2, with its drivers psycopg and asyncpg.

engine = create_engine("postgresql+psycopg://…")
register_engine(engine)
table = Table("samples", MetaData(), Column("id", Integer, primary_key=True), Column("weights", TensorType("f32", None, 768)))
"""

from __future__ import annotations

import functools
from typing import Any

from psycopg import pq

try:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.types import UserDefinedType
except ImportError:
    raise ImportError("pg_modelstore.sqlalchemy takes SQLAlchemy: pip install 'pg-modelstore[sqlalchemy]'") from None

from . import values
from .adapters import adapt, fetch_types, register, register_asyncpg

__all__ = ["TensorType", "register_engine"]


class TensorType(UserDefinedType[Any]):
    """`modelstore.tensor`, optionally with a dtype and a shape: `TensorType("f32", None, 768)` is `tensor(f32,'*',768)`.

    Values are numpy arrays (`Tensor` for dtypes that numpy does not have) once `register_engine` has been called.
    """

    cache_ok = True

    def __init__(self, dtype: str | None = None, *shape: int | None) -> None:
        self.dtype = dtype
        self.shape = shape

    def get_col_spec(self, **_: Any) -> str:
        modifier = [self.dtype] if self.dtype else []
        modifier += ["'*'" if n is None else str(int(n)) for n in self.shape]
        return f"modelstore.tensor({','.join(modifier)})" if modifier else "modelstore.tensor"

    def compare_values(self, x: Any, y: Any) -> bool:
        """Whether two values are the same, bit for bit."""
        if x is None or y is None:
            return x is y
        return values.encode(x) == values.encode(y)


def register_engine(engine: Any) -> None:
    """Registers the adapters on each new connection of an Engine or AsyncEngine. Call it before the first connection."""
    engine = getattr(engine, "sync_engine", engine)
    if engine.dialect.driver not in ("psycopg", "psycopg_async", "asyncpg"):
        raise ValueError(f"no tensors with the driver {engine.dialect.driver}: use postgresql+psycopg or postgresql+asyncpg")
    # Reflected columns get the type as well.
    engine.dialect.ischema_names = engine.dialect.ischema_names | {"tensor": TensorType, "modelstore.tensor": TensorType}
    event.listen(engine, "connect", functools.partial(_connected, engine))
    if engine.dialect.driver != "asyncpg":
        event.listen(engine, "before_cursor_execute", _read_in_binary)


def _connected(engine: Engine, connection: Any, record: Any) -> None:
    if engine.dialect.driver == "asyncpg":
        connection.run_async(register_asyncpg)
    elif engine.dialect.is_async:
        connection.run_async(register)
    else:
        with connection.transaction():
            adapt(connection, fetch_types(connection))


def _read_in_binary(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    """psycopg reads in text format unless told otherwise."""
    compiled = getattr(context, "compiled", None)
    columns = getattr(compiled, "_result_columns", None) or ()
    if any(isinstance(column.type, TensorType) for column in columns):
        cursor = getattr(cursor, "_cursor", cursor)
        cursor.format = pq.Format.BINARY
