"""Detector resolutions of the particles of events, from the expressions of their schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.evaluation import UnknownNameError, evaluate
from hepxai.events import P4, Events
from hepxai.events.momenta import NODE_FEATURES, Momenta
from hepxai.events.schema import Resolution, as_resolutions

QUANTITIES = ("pt", "eta", "phi")
Given = Mapping[str, Mapping[str, str | float]]


def declared(events: Events, given: Given | None, types: Sequence[str]) -> dict[str, Resolution]:
    """Resolution of each of the types: as given, else as in the schema.

    Raises
    ------
    ValueError
        If a type has none; there is no default.
    KeyError
        If there is no such type.
    """
    for name in (*types, *(given or ())):
        events.schema.code(name)
    by_type = {r.type: r for r in (*events.schema.resolutions, *as_resolutions(given or {}))}
    if missing := [t for t in types if t not in by_type]:
        raise ValueError(
            f"no resolutions for {', '.join(missing)}; write on the data-set card, for each under "
            "particles:, resolutions: {pt: 0.02 * pt, eta: 0.001, phi: 0.001} with the numbers of your "
            "detector (σ of pt in GeV; 0 for a quantity that does not move), or give "
            f"resolutions={{'{missing[0]}': {{'pt': '0.02 * pt', 'eta': 0.001, 'phi': 0.001}}}}"
        )
    return {t: by_type[t] for t in types}


def resolutions_of(events: Events, of_types: Mapping[str, Resolution]) -> NDArray[np.float64]:
    """σ of pt [GeV], η and φ of every particle, ``[N, 3]``; 0 for all other types.

    Raises
    ------
    ValueError
        If a σ is negative or not finite, or an expression has a name that no particle has.
    """
    sigma = np.zeros((events.n_particles, 3))
    for name, resolution in of_types.items():
        rows = np.flatnonzero(events.is_type(name))
        for k, quantity in enumerate(QUANTITIES):
            text = getattr(resolution, quantity)
            sigma[rows, k] = _checked(_values(text, events, rows, name, quantity), text, events, rows, name)
    return sigma


def _values(text: str, events: Events, rows: NDArray[np.int64], name: str, quantity: str) -> Any:
    try:
        return np.broadcast_to(evaluate(text, _Quantities(events, rows)), len(rows))
    except (ExpressionError, TypeError, ValueError) as problem:
        raise ValueError(f"resolution of {quantity} of {name}, {text!r}: {problem}") from None


def _checked(values: Any, text: str, events: Events, rows: NDArray[np.int64], name: str) -> Any:
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"the resolution {text!r} is {values[first]:g} for a {name} in event "
            f"{events.parent[rows[first]]} ({int(bad.sum())} such); write an expression that is not below 0, "
            "as in maximum(…, 0.001)"
        )
    return values


@dataclass(frozen=True)
class _Quantities:
    """Values of the names in an expression, one for each of some particles."""

    events: Events
    rows: NDArray[np.int64]

    def place(self, row: int) -> str:
        """Event of a particle, for messages."""
        return f"event {self.events.parent[self.rows[row]]}"

    def __call__(self, name: str) -> Any:
        """Component of the momentum, feature that follows, or feature of the events."""
        if name in (*P4, *NODE_FEATURES):
            p4 = self.events.p4[self.rows].astype(np.float64)
            return Momenta(dict(zip(P4, p4.T, strict=True)), "particles")[name]
        if name in self.events.schema.features:
            return self.events.values_of(name)[self.rows].astype(np.float64)
        raise UnknownNameError(name, "the particles", (*NODE_FEATURES, *self.events.schema.features))

    def in_file(self, name: str) -> NoReturn:
        """There is no file."""
        raise ExpressionError(f"{name} by its position; a resolution depends on one particle")
