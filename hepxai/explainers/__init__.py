"""Explanation methods: one verb, one file per method.

The methods of the package are found by walking its folders. Other packages add theirs through the entry-point
group ``hepxai.explainers``: each entry point names a module that registers its methods on import.
"""

import pkgutil
from importlib import import_module, metadata

from hepxai.explainers.base import EXPLAINERS, CannotExplainError, Explainer, explain, register

__all__ = ["EXPLAINERS", "CannotExplainError", "Explainer", "explain", "register"]

ENTRY_POINTS = "hepxai.explainers"

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
for _entry_point in metadata.entry_points(group=ENTRY_POINTS):
    _entry_point.load()
