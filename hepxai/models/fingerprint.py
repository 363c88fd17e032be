"""Hash of models, events and settings, to recognise an interrupted computation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hepxai.attribution.storage import fingerprint
from hepxai.events import Events


@runtime_checkable
class HasModule(Protocol):
    """A model with a torch module, identified by its parameters."""

    @property
    def module(self) -> nn.Module:
        """Torch module that holds them."""
        ...


def key_of(
    models: Sequence[HasModule],
    populations: Sequence[Events],
    weight: NDArray[np.float64],
    settings: Mapping[str, Any],
) -> str:
    """Hash of the parameters of models, of the content of events, of weights and settings."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for model in models:
        for value in model.module.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    for events in populations:
        digest.update(fingerprint(events).encode())
        of_events = (events.globals, events.label, events.targets)
        for column in (events.particles, events.p4, events.type, *of_events, *events.truth.values()):
            digest.update(np.ascontiguousarray(column).data)
    digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()
