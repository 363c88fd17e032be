"""Models of each kind of card, and wrappers for models that a user brings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepxai.models.base import (
        Differentiable,
        DifferentiableImage,
        DifferentiableTable,
        HasAttention,
        HasEdgeWeights,
        HasFeatureMaps,
        HasLastLayer,
        HasLinearReadout,
        HasNeurons,
        HasSoftTree,
        HasTrees,
        Imaging,
        Model,
        Tabular,
    )
    from hepxai.models.boosted_trees import BoostedTreesModel
    from hepxai.models.card import ModelCard
    from hepxai.models.convolutional import ConvolutionalModel
    from hepxai.models.dense import DenseModel
    from hepxai.models.foreign import PygModel
    from hepxai.models.foreign_image import ImageModel
    from hepxai.models.lstm import LstmModel
    from hepxai.models.network import NetworkModel
    from hepxai.models.particle_gnn import ParticleGNNModel
    from hepxai.models.soft_tree import SoftTreeModel
    from hepxai.models.storage import load_model
    from hepxai.models.table import (
        SklearnModel,
        TableModel,
    )

__all__ = [
    "BoostedTreesModel",
    "ConvolutionalModel",
    "DenseModel",
    "Differentiable",
    "DifferentiableImage",
    "DifferentiableTable",
    "HasAttention",
    "HasEdgeWeights",
    "HasFeatureMaps",
    "HasLastLayer",
    "HasLinearReadout",
    "HasNeurons",
    "HasSoftTree",
    "HasTrees",
    "ImageModel",
    "Imaging",
    "LstmModel",
    "Model",
    "ModelCard",
    "NetworkModel",
    "ParticleGNNModel",
    "PygModel",
    "SklearnModel",
    "SoftTreeModel",
    "TableModel",
    "Tabular",
    "load_model",
]

# Looked up when asked for: torch takes seconds to import, and a card needs none of it.
_HOMES = {
    "BoostedTreesModel": "boosted_trees",
    "ConvolutionalModel": "convolutional",
    "DenseModel": "dense",
    "Differentiable": "base",
    "DifferentiableImage": "base",
    "DifferentiableTable": "base",
    "HasAttention": "base",
    "HasEdgeWeights": "base",
    "HasFeatureMaps": "base",
    "HasLastLayer": "base",
    "HasLinearReadout": "base",
    "HasNeurons": "base",
    "HasSoftTree": "base",
    "HasTrees": "base",
    "ImageModel": "foreign_image",
    "Imaging": "base",
    "LstmModel": "lstm",
    "Model": "base",
    "ModelCard": "card",
    "NetworkModel": "network",
    "ParticleGNNModel": "particle_gnn",
    "PygModel": "foreign",
    "SklearnModel": "table",
    "SoftTreeModel": "soft_tree",
    "TableModel": "table",
    "Tabular": "base",
    "load_model": "storage",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"hepxai.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hepxai.models' has no attribute {name!r}; it has {', '.join(__all__)}")
