"""Models: graph networks with PyG's layers, and wrappers for models that a user brings."""

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
