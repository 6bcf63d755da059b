"""Weights as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, Union
from uuid import UUID

import numpy as np
from psycopg import sql

from .client import Client, ModelName, name_text
from .values import ArrayLike, Tensor, array

SliceKey = Union[str, int, slice, EllipsisType, tuple[Union[int, slice, EllipsisType], ...]]


class TensorRepository:
    """The weights of the models and checkpoints of a store.

    Arrays are read-only views of the bytes received; numpy's copy() makes one that can be changed. A dtype that numpy does not
    have comes as `Tensor`.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, model: ModelName, weight_name: str) -> np.ndarray | Tensor:
        """A weight of a model. Raises psycopg.errors.ProgramLimitExceeded above 512 MB: read slices of it."""
        return self.client.value("SELECT modelstore.get_tensor(%s, %s)", (name_text(model), weight_name))

    def get_checkpoint(self, checkpoint: ModelName, weight_name: str) -> np.ndarray | Tensor:
        """A weight of a checkpoint: its UUID, "name:version#step", "name#latest" or "name#best"."""
        return self.client.value("SELECT modelstore.get_checkpoint_tensor(%s, %s)", (name_text(checkpoint), weight_name))

    def slice(self, model: ModelName, weight_name: str, key: SliceKey) -> np.ndarray | Tensor:
        """A slice of a weight; only the blocks that contain it are decoded. key: text in numpy's notation ("0:10, :4"), or what
        is written in an index (np.s_[0:10, :4])."""
        arguments = (name_text(model), weight_name, slice_text(key))
        return self.client.value("SELECT modelstore.get_tensor_slice(%s, %s, %s)", arguments)

    def put(self, model: ModelName, weight_name: str, value: ArrayLike) -> UUID:
        """Adds a weight to a draft, a model that `client.models.register` has made, and returns its tensor_id."""
        arguments = (name_text(model), weight_name, Tensor.of(array(value)))
        return self.client.value("SELECT modelstore.put_tensor(%s, %s, %s)", arguments)

    def embedding(self, model: ModelName, ids: Sequence[int] | np.ndarray, kind: str = "token") -> np.ndarray | Tensor:
        """Rows of an embedding (token, position or segment) for IDs, in their order."""
        wanted = [int(i) for i in ids]
        return self.client.value("SELECT modelstore.embedding(%s, %s::bigint[], %s)", (name_text(model), wanted, kind))

    def statistics(self, model: ModelName, pattern: str = "%") -> list[Any]:
        """Rows of the view v_weight_statistics: dtype, shape, min, max, mean, std, … of the weights whose names are LIKE a pattern.
        Nothing is decoded for them."""
        query = sql.SQL(
            'SELECT * FROM {} WHERE model_id = %s::modelstore.regmodel::uuid AND weight_name LIKE %s ORDER BY weight_name COLLATE "C"'
        )
        return self.client.query(query.format(self.client.table("v_weight_statistics")), (name_text(model), pattern))


def slice_text(key: SliceKey) -> str:
    """numpy's notation of an index."""
    if isinstance(key, str):
        return key
    return ",".join(map(_axis_text, key if isinstance(key, tuple) else (key,)))


def _axis_text(axis: Any) -> str:
    if axis is Ellipsis:
        return "..."
    if isinstance(axis, slice):
        start, stop, step = ("" if n is None else str(int(n)) for n in (axis.start, axis.stop, axis.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if isinstance(axis, (bool, np.bool_)) or not hasattr(axis, "__index__"):
        raise TypeError(f"a slice has numbers and ranges, not {axis!r}")
    return str(axis.__index__())
