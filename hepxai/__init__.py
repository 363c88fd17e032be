"""Explain machine learning on high-energy-physics events.

>>> import hepxai
>>> events = hepxai.read(hepxai.DatasetCard.find("charged_higgs")).events
>>> model, history = hepxai.fit(hepxai.ModelCard.find("transformer_edgeconv"), events)
>>> found = hepxai.explain(model, events.where("test"), "edge_ig")
>>> found.select(pair=("muon", "muon")).population()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepxai.attribution import Attribution
    from hepxai.datasets import DatasetCard, read
    from hepxai.events import Events
    from hepxai.explain import explain
    from hepxai.models import ImageModel, ModelCard, NetworkModel, PygModel, SklearnModel, TableModel
    from hepxai.run import Run
    from hepxai.scan import Scan
    from hepxai.training import fit

__version__ = "0.1.0"

__all__ = [
    "Attribution",
    "DatasetCard",
    "Events",
    "ImageModel",
    "ModelCard",
    "NetworkModel",
    "PygModel",
    "Run",
    "Scan",
    "SklearnModel",
    "TableModel",
    "explain",
    "fit",
    "read",
]

# Looked up when asked for: torch takes seconds to import, and not every door needs it.
_HOMES = {
    "Attribution": "attribution",
    "DatasetCard": "datasets",
    "Events": "events",
    "ImageModel": "models",
    "ModelCard": "models",
    "NetworkModel": "models",
    "PygModel": "models",
    "Run": "run",
    "Scan": "scan",
    "SklearnModel": "models",
    "TableModel": "models",
    "fit": "training",
    "read": "datasets",
}


def __getattr__(name: str) -> Any:
    if name == "explain":  # the package of the methods is the verb: see there
        return importlib.import_module("hepxai.explain")
    if name in _HOMES:
        return getattr(importlib.import_module(f"hepxai.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hepxai' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
