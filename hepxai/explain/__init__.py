"""Explanation methods: one verb, one file per method."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from hepxai.attribution import Attribution
from hepxai.explain import (
    attention,
    conductance,
    deep_shap,
    edge_ig,
    feature_ig,
    gradient_shap,
    image_ig,
    kernel_shap,
    lime,
    node_ig,
    ram,
    saliency,
    shapley,
    smoothgrad,
    soft_tree,
    surrogate,
    tree_shap,
)
from hepxai.explain.base import EXPLAINERS, CannotExplainError, Explainer, explain, register

__all__ = [
    "EXPLAINERS",
    "CannotExplainError",
    "Explainer",
    "attention",
    "conductance",
    "deep_shap",
    "edge_ig",
    "explain",
    "feature_ig",
    "gradient_shap",
    "image_ig",
    "kernel_shap",
    "lime",
    "node_ig",
    "ram",
    "register",
    "saliency",
    "shapley",
    "smoothgrad",
    "soft_tree",
    "surrogate",
    "tree_shap",
]


class _Verb(ModuleType):
    """Lets ``hepxai.explain(model, events, …)`` be the verb although it names this package, too."""

    def __call__(self, *args: Any, **settings: Any) -> Attribution:
        return explain(*args, **settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name, so that it can be sent to other processes as a function can."""
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _Verb
