"""Shares of events whose decision flips within the resolution, beside coherent shifts [arXiv:2605.07470]."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.estimate import Array, Estimate, share
from hepxai.events import Events
from hepxai.explainers import CheckWarning, explain
from hepxai.explainers.batches import batches, default_rows
from hepxai.explainers.graph.counterfactual import Counterfactual, PreparedCounterfactual
from hepxai.explainers.graph.legal_moves import LegalMoves
from hepxai.explainers.methods import resolve_target
from hepxai.models.protocols import Differentiable

ALL = "all"
"""Name of the row in which all types move."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Sensitivity:
    """Weighted shares of events whose decision flips when the particles of a type move.

    Attributes
    ----------
    particle : str
        Type, or "all".
    envelope : Estimate
        For some change with χ² ≤ n² of the pt, η, φ of the particles of an event, each in its own direction.
    up, down : Estimate
        When the pt of all of them is shifted up or down together, by n σ.
    either : Estimate
        For at least one of the two shifts.
    hidden : Estimate
        Within the envelope, but for neither shift.
    """

    particle: str
    envelope: Estimate
    up: Estimate
    down: Estimate
    either: Estimate
    hidden: Estimate


COLUMNS = ("envelope", "up", "down", "either", "hidden")


@dataclass(frozen=True)
class HiddenSensitivity:
    """Sensitivity of the decisions of a model to the resolution, by particle type.

    Attributes
    ----------
    target : str
    n : float
        Size of the envelope and of the shifts, in σ.
    entries : tuple of Sensitivity
        One for each type, and one for all together.
    envelope, shifts : mapping of str to ndarray of bool, shape [E] and [2, E]
        Events that flip, by type; shifts up and down.
    """

    target: str
    n: float
    entries: tuple[Sensitivity, ...]
    envelope: Mapping[str, Flags]
    shifts: Mapping[str, Flags]

    def rows(self) -> list[dict[str, Any]]:
        """One record per type: value, error and interval of each share."""
        return [
            {"particle": e.particle, **{c: getattr(e, c).to_json() for c in COLUMNS}} for e in self.entries
        ]

    def __getitem__(self, particle: str) -> Sensitivity:
        for entry in self.entries:
            if entry.particle == particle:
                return entry
        raise KeyError(f"no row {particle!r}; there are {', '.join(e.particle for e in self.entries)}")

    def __str__(self) -> str:
        """Table of the shares."""
        head = ("particle", f"χ² ≤ {self.n**2:g}", "pt up", "pt down", "either", "hidden")
        table = [head, *((e.particle, *(str(getattr(e, c)) for c in COLUMNS)) for e in self.entries)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in table)
        return "\n".join(lines)


def hidden_sensitivity(
    model: Differentiable,
    events: Events,
    *,
    n: float = 1.0,
    target: str | None = None,
    types: Sequence[str] | None = None,
    **settings: Any,
) -> HiddenSensitivity:
    """Shares of events that flip within the resolution, per particle type and in total.

    A shift of a calibration moves all particles of a type together. A network can also be sensitive to a
    change in which each particle moves in its own direction, and such a change is as probable as the
    resolution says. The share of the envelope is a lower limit: a search may miss a flip.

    Parameters
    ----------
    model : Differentiable
    events : Events
    n : float
        Size of the envelope χ² ≤ n² and of the shifts, in σ.
    target : str, optional
        Output whose sign is the decision; may be left out if there is one.
    types : sequence of str, optional
        Particle types of the rows; by default all with a σ of pt, η or φ above 0.
    **settings
        Of the method, such as ``resolutions``, ``logit`` and ``steps``; see
        `hepxai.explainers.graph.counterfactual.Counterfactual`.

    Raises
    ------
    ValueError
        If n is not positive, or a resolution is missing.
    """
    if not n > 0:
        raise ValueError(f"n={n}; a positive number of σ is needed")
    explained = resolve_target(Counterfactual, model, events.schema, target)
    if reserved := {"moving", "largest_chi2"} & settings.keys():
        raise ValueError(f"{sorted(reserved)[0]} is set here for each row; give types= and n= instead")
    chosen = tuple(_movable(model, events, explained, settings) if types is None else types)
    groups = {name: (name,) for name in chosen} | {ALL: chosen}
    envelope, shifts = {}, {}
    for name, moving in groups.items():
        settings = settings | {"moving": moving, "largest_chi2": float(n) ** 2}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CheckWarning)  # most events do not flip
            attribution = explain(model, events, "counterfactual", target=explained, **settings)
        envelope[name] = attribution.event_columns["flipped"] > 0 if len(events) else np.zeros(0, dtype=bool)
        prepared = Counterfactual(**settings).prepare(model, events, explained)
        shifts[name] = np.stack([_flips(prepared, events, d) for d in (n, -n)])
    entries = tuple(_entry(name, envelope[name], shifts[name], events.weight) for name in groups)
    return HiddenSensitivity(explained, float(n), entries, envelope, shifts)


def _movable(
    model: Differentiable, events: Events, target: str, settings: Mapping[str, Any]
) -> Iterator[str]:
    """Types with a resolution other than 0."""
    prepared = Counterfactual(**settings).prepare(model, events, target)
    for name, resolution in prepared.resolutions.items():
        if any(r.strip() not in ("0", "0.0") for r in (resolution.pt, resolution.eta, resolution.phi)):
            yield name


def _flips(prepared: PreparedCounterfactual, events: Events, shift: float) -> Flags:
    """Events whose decision flips if the pt of all particles that may move is shifted by so many σ."""
    flips = np.zeros(len(events), dtype=bool)
    for batch in batches("graph", events, default_rows("graph", events)):
        moves = prepared.moves(batch.x, batch.events)
        with torch.no_grad():
            before, after = (prepared.distance(moves, u) for u in (_shift(moves, 0.0), _shift(moves, shift)))
        flips[batch.rows] = ((before >= 0) != (after >= 0)).numpy()
    return flips


def _shift(moves: LegalMoves, shift: float) -> Tensor:
    u = torch.zeros_like(moves.sigma)
    u[:, 0] = shift
    return torch.minimum(torch.maximum(u, moves.lower), moves.upper)


def _entry(name: str, envelope: Flags, shifts: Flags, weight: Array) -> Sensitivity:
    up, down = shifts
    flags = (envelope, up, down, up | down, envelope & ~(up | down))
    what = f"share of events that flip when {name} particles move"
    return Sensitivity(name, *(share(f, weight, what) for f in flags))
