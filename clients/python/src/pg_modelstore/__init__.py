"""Client of pg_modelstore, which stores machine-learning models in PostgreSQL.

    import pg_modelstore

    with pg_modelstore.connect("postgresql://localhost/models") as client:
        client.models.push("./all-MiniLM-L6-v2", "minilm:1")
        rows = client.tensors.slice("minilm", "embeddings.word_embeddings.weight", "0:10, :")

All logic is in the database; this package sends arguments and receives results.
"""

from __future__ import annotations

from .adapters import register, register_asyncpg
from .client import Client, connect
from .models import ModelRepository
from .push import Pushed
from .tensors import TensorRepository
from .training import Restored, TrainingRun, rng_state_now, set_rng_state
from .values import Tensor, to_torch

__version__ = "0.1.0.dev0"

__all__ = [
    "Client",
    "ModelRepository",
    "Pushed",
    "Restored",
    "Tensor",
    "TensorRepository",
    "TrainingRun",
    "connect",
    "register",
    "register_asyncpg",
    "rng_state_now",
    "set_rng_state",
    "to_torch",
]
