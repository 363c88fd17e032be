"""Event selection and its cut flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.simulate.collection import BoolArray, Collection, FloatArray, pair_mass
from hepxai.simulate.config import Selection
from hepxai.simulate.reconstruction import Reconstructed


@dataclass(frozen=True)
class CutFlow:
    """Events that survive each step, counted, weighted, and with the sum of squared weights."""

    steps: tuple[str, ...]
    counts: NDArray[np.int64]
    sum_weights: FloatArray
    sum_weights2: FloatArray

    def __add__(self, other: CutFlow) -> CutFlow:
        """Cut flow of both sets of events."""
        if self.steps != other.steps:
            raise ValueError(f"cut flows of different selections: {self.steps} and {other.steps}")
        return CutFlow(
            self.steps,
            self.counts + other.counts,
            self.sum_weights + other.sum_weights,
            self.sum_weights2 + other.sum_weights2,
        )


def steps(selection: Selection, threshold: float) -> tuple[str, ...]:
    """Names of the steps, in order."""
    return (
        "generated",
        f"{selection.electrons} electron(s)",
        f"{selection.muons} muons",
        "opposite charge" if selection.opposite_charge else "any charge",
        f"m(mumu) > {selection.mass_mumu_min:g} GeV",
        f"at least {selection.jets_min} jets",
        f"at least {selection.bjets_min} b-tagged (score > {threshold:g})",
    )


def dimuon(muons: Collection) -> tuple[FloatArray, BoolArray]:
    """Mass [GeV] of the two hardest muons and whether their charges differ; 0 and False without two."""
    mass, opposite = np.zeros(muons.n_events), np.zeros(muons.n_events, dtype=bool)
    first = np.flatnonzero(muons.event[1:] == muons.event[:-1])
    first = first[np.unique(muons.event[first], return_index=True)[1]]
    lead, second = muons.take(first), muons.take(first + 1)
    mass[lead.event] = pair_mass(lead, second)
    opposite[lead.event] = lead["charge"] != second["charge"]
    return mass, opposite


def select(
    events: Reconstructed, weight: FloatArray, selection: Selection, threshold: float
) -> tuple[NDArray[np.int64], CutFlow]:
    """Events that pass every step, and the cut flow.

    Parameters
    ----------
    events : Reconstructed
        Collections in order of pt.
    weight : ndarray, shape [E]
        Signed generator weights.
    selection : Selection
    threshold : float
        b-tag score above which a jet counts as tagged.

    Returns
    -------
    passed : ndarray of int64
        Positions of the selected events.
    cutflow : CutFlow
    """
    mass, opposite = dimuon(events.muons)
    tagged = events.jets.take(events.jets["btag"] > threshold)
    masks = (
        np.ones(len(weight), dtype=bool),
        events.electrons.counts == selection.electrons,
        events.muons.counts == selection.muons,
        opposite | (not selection.opposite_charge),
        mass > selection.mass_mumu_min,
        events.jets.counts >= selection.jets_min,
        tagged.counts >= selection.bjets_min,
    )
    alive = np.logical_and.accumulate(masks)
    flow = CutFlow(steps(selection, threshold), alive.sum(axis=1), alive @ weight, alive @ weight**2)
    return np.flatnonzero(alive[-1]), flow
