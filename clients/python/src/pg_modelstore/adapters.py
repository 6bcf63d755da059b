"""Adapters for drivers: after `register`, tensors are numpy arrays.

They use the binary protocol. psycopg asks for text unless told otherwise, so read tensors with
`connection.execute(query, arguments, binary=True)` or from `connection.cursor(binary=True)`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from psycopg import errors, pq
from psycopg.abc import Buffer as PqBuffer
from psycopg.adapt import Dumper, Loader
from psycopg.types import TypeInfo
from psycopg.types.uuid import UUIDBinaryLoader, UUIDLoader

from . import values

if TYPE_CHECKING:
    import asyncpg

_MISSING = "the database has no extension pg_modelstore; CREATE EXTENSION pg_modelstore; installs it"
_NAMES = ("tensor", "regmodel", "regcheckpoint")


@dataclass(frozen=True)
class Types:
    """The types of the extension in one database. Their OIDs are the same for all its connections."""

    tensor: TypeInfo
    names: tuple[TypeInfo, ...]


class _TensorDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Any) -> PqBuffer:
        return values.encode(obj)


class _TensorTextDumper(Dumper):
    """In a list psycopg sends elements as text, unless the placeholder is %b."""

    def dump(self, obj: Any) -> PqBuffer:
        return values.encode_text(obj)


class _TensorLoader(Loader):
    format = pq.Format.BINARY
    convert: Callable[[Any], Any] = staticmethod(lambda value: value)

    def load(self, data: PqBuffer) -> Any:
        return self.convert(values.decode(data))


class _TorchLoader(_TensorLoader):
    convert = staticmethod(values.to_torch)


class _TensorTextLoader(Loader):
    def load(self, data: PqBuffer) -> Any:
        raise psycopg.DataError(
            "tensors are read in binary format only: use execute(…, binary=True) or cursor(binary=True), or cast to text in SQL"
        )


def register(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], *, returns: str = "numpy") -> Any:
    """Registers the types of the extension on a psycopg connection.

    Arguments: numpy arrays, torch tensors and `Tensor` are sent as `modelstore.tensor`. Results in binary format: arrays that
    are read-only views of the received bytes, or torch tensors with `returns="torch"`. A value whose dtype numpy does not
    have comes back as `Tensor`. For an AsyncConnection, await what this returns.

    Raises psycopg.errors.UndefinedObject if the database does not have the extension.
    """
    if isinstance(connection, psycopg.AsyncConnection):
        return _register_async(connection, returns)
    adapt(connection, fetch_types(connection), returns=returns)
    return None


def fetch_types(connection: psycopg.Connection[Any]) -> Types:
    """Looks the types up."""
    return _types([TypeInfo.fetch(connection, f"modelstore.{name}") for name in _NAMES])


async def _register_async(connection: psycopg.AsyncConnection[Any], returns: str) -> None:
    adapt(connection, _types([await TypeInfo.fetch(connection, f"modelstore.{name}") for name in _NAMES]), returns=returns)


def _types(found: list[TypeInfo | None]) -> Types:
    if found[0] is None:
        raise errors.UndefinedObject(_MISSING)
    return Types(found[0], tuple(info for info in found[1:] if info is not None))


def adapt(context: psycopg.abc.AdaptContext, types: Types, *, returns: str = "numpy") -> None:
    """Registers types that are known: makes no query."""
    if returns not in ("numpy", "torch"):
        raise ValueError(f'returns is "numpy" or "torch", not "{returns}"')
    adapters = context.adapters
    types.tensor.register(context)
    adapters.register_loader(types.tensor.oid, _TensorLoader if returns == "numpy" else _TorchLoader)
    adapters.register_loader(types.tensor.oid, _TensorTextLoader)
    # The last one registered is the one that %s takes.
    for base in (_TensorTextDumper, _TensorDumper):
        dumper = type(base.__name__, (base,), {"oid": types.tensor.oid})
        for cls in (np.ndarray, values.Tensor, "torch.Tensor"):
            adapters.register_dumper(cls, dumper)
    for info in types.names:
        info.register(context)
        adapters.register_loader(info.oid, UUIDLoader)
        adapters.register_loader(info.oid, UUIDBinaryLoader)


async def register_asyncpg(connection: asyncpg.Connection, *, returns: str = "numpy") -> None:
    """Registers the types of the extension on an asyncpg connection, as `register` does.

    Arguments of type regmodel and regcheckpoint take a UUID or a string. In a pool: `create_pool(…, init=register_asyncpg)`.
    """
    decoder = values.decode if returns == "numpy" else lambda data: values.to_torch(values.decode(data))
    try:
        await connection.set_type_codec(
            "tensor", schema="modelstore", encoder=lambda value: bytes(values.encode(value)), decoder=decoder, format="binary"
        )
    except ValueError as error:
        raise errors.UndefinedObject(_MISSING) from error
    for name in _NAMES[1:]:
        await connection.set_type_codec(name, schema="modelstore", encoder=str, decoder=uuid.UUID, format="text")
