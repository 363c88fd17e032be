"""Explanation methods: one verb, one file per method."""

from hepxai.explain import attention, edge_ig, node_ig, surrogate
from hepxai.explain.base import EXPLAINERS, CannotExplainError, Explainer, explain, register

__all__ = [
    "EXPLAINERS",
    "CannotExplainError",
    "Explainer",
    "attention",
    "edge_ig",
    "explain",
    "node_ig",
    "register",
    "surrogate",
]
