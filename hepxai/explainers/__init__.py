"""Explanation methods: one verb, one file per method.

The methods of the package are found by walking its folders. Other packages add theirs through the entry-point
group ``hepxai.explainers``: each entry point names a module that registers its methods on import.
"""

import pkgutil
import warnings
from importlib import import_module, metadata

from hepxai.explainers.base import (
    CannotExplainError,
    CheckWarning,
    Explainer,
    Prepared,
    SettingError,
)
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import EXPLAINERS, explain, register

__all__ = [
    "EXPLAINERS",
    "Batch",
    "CannotExplainError",
    "CheckWarning",
    "Explainer",
    "Part",
    "Prepared",
    "SettingError",
    "explain",
    "register",
]

ENTRY_POINTS = "hepxai.explainers"

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
for _entry_point in metadata.entry_points(group=ENTRY_POINTS):
    try:
        _entry_point.load()
    except Exception as problem:  # all other methods work without it
        warnings.warn(
            f"methods of {_entry_point.value} cannot be imported ({type(problem).__name__}: {problem}); "
            f"mend or remove that package (entry points {ENTRY_POINTS})",
            stacklevel=2,
        )
