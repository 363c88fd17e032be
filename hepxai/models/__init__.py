"""Models: graph networks with PyG's layers, and wrappers for models that a user brings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepxai.models.base import Differentiable, HasAttention, HasEdgeWeights, Model
    from hepxai.models.card import ModelCard
    from hepxai.models.foreign import PygModel
    from hepxai.models.network import NetworkModel

__all__ = [
    "Differentiable",
    "HasAttention",
    "HasEdgeWeights",
    "Model",
    "ModelCard",
    "NetworkModel",
    "PygModel",
]

# Looked up when asked for: torch takes seconds to import, and a card needs none of it.
_HOMES = {
    "Differentiable": "base",
    "HasAttention": "base",
    "HasEdgeWeights": "base",
    "Model": "base",
    "ModelCard": "card",
    "NetworkModel": "network",
    "PygModel": "foreign",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"hepxai.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hepxai.models' has no attribute {name!r}; it has {', '.join(__all__)}")
