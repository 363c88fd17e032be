"""Models: graph networks with PyG's layers, and wrappers for models that a user brings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepxai.models.base import (
        Differentiable,
        DifferentiableTable,
        HasAttention,
        HasEdgeWeights,
        HasNeurons,
        Model,
        Tabular,
    )
    from hepxai.models.card import ModelCard
    from hepxai.models.dense import DenseModel
    from hepxai.models.foreign import PygModel
    from hepxai.models.network import NetworkModel
    from hepxai.models.table import SklearnModel, TableModel

__all__ = [
    "DenseModel",
    "Differentiable",
    "DifferentiableTable",
    "HasAttention",
    "HasEdgeWeights",
    "HasNeurons",
    "Model",
    "ModelCard",
    "NetworkModel",
    "PygModel",
    "SklearnModel",
    "TableModel",
    "Tabular",
]

# Looked up when asked for: torch takes seconds to import, and a card needs none of it.
_HOMES = {
    "DenseModel": "dense",
    "Differentiable": "base",
    "DifferentiableTable": "base",
    "HasAttention": "base",
    "HasEdgeWeights": "base",
    "HasNeurons": "base",
    "Model": "base",
    "ModelCard": "card",
    "NetworkModel": "network",
    "PygModel": "foreign",
    "SklearnModel": "table",
    "TableModel": "table",
    "Tabular": "base",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"hepxai.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hepxai.models' has no attribute {name!r}; it has {', '.join(__all__)}")
