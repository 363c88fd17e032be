"""Flat columns of objects that remember their event, and the pairings between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, offsets_from_counts

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Collection:
    """Objects of one kind in ``n_events`` events.

    Attributes
    ----------
    event : ndarray of int64, shape [N]
        Event of every object; never falls.
    columns : dict of ndarray, shape [N]
    n_events : int
    """

    event: IntArray
    columns: dict[str, NDArray[Any]]
    n_events: int

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One column."""
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.event)

    @property
    def counts(self) -> IntArray:
        """Number of objects in every event, ``[E]``."""
        return np.bincount(self.event, minlength=self.n_events)

    def take(self, index: NDArray[Any]) -> Collection:
        """Objects at ``index`` (positions or a mask), which must keep the events in order."""
        columns = {name: column[index] for name, column in self.columns.items()}
        return Collection(self.event[index], columns, self.n_events)

    def of_events(self, events: IntArray) -> Collection:
        """Objects of some events, which are renumbered; ``events`` must be increasing."""
        objects = self.take(np.isin(self.event, events))
        return Collection(np.searchsorted(events, objects.event), objects.columns, len(events))

    def sum_pt(self) -> FloatArray:
        """Scalar sum of pt per event, ``[E]``; GeV."""
        return np.bincount(self.event, weights=self["pt"], minlength=self.n_events).astype(np.float64)

    def adding(self, **columns: NDArray[Any]) -> Collection:
        """Copy with columns added or replaced."""
        return Collection(self.event, {**self.columns, **columns}, self.n_events)

    def pt_ordered(self) -> Collection:
        """Hardest object of every event first; ties keep their order."""
        return self.take(np.lexsort((-self.columns["pt"], self.event)))


def same_event_pairs(a: IntArray, b: IntArray, n_events: int) -> tuple[IntArray, IntArray]:
    """All pairs of an object of ``a`` with one of ``b`` in the same event.

    Parameters
    ----------
    a, b : ndarray of int64
        Event numbers; those of ``b`` must not fall.

    Returns
    -------
    index_a, index_b : ndarray of int64, shape [P]
        Ordered by ``a``, then ``b``.
    """
    starts = offsets_from_counts(np.bincount(b, minlength=n_events))
    per_a = np.diff(starts)[a]
    pair_starts = offsets_from_counts(per_a)
    index_a = np.repeat(np.arange(len(a)), per_a)
    return index_a, np.arange(pair_starts[-1]) + np.repeat(starts[a] - pair_starts[:-1], per_a)


def wrapped(phi: FloatArray) -> FloatArray:
    """Angle brought into [-π, π)."""
    return np.asarray(np.remainder(phi + np.pi, 2 * np.pi) - np.pi)


def delta_r(eta1: FloatArray, phi1: FloatArray, eta2: FloatArray, phi2: FloatArray) -> FloatArray:
    """Distance in pseudorapidity and azimuth."""
    return np.hypot(eta1 - eta2, wrapped(phi1 - phi2))


def close_pairs(a: Collection, b: Collection, radius: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Same-event pairs closer than ``radius``, and their distances."""
    i, j = same_event_pairs(a.event, b.event, a.n_events)
    distance = delta_r(a["eta"][i], a["phi"][i], b["eta"][j], b["phi"][j])
    near = distance < radius
    return i[near], j[near], distance[near]


def nearest(owner: IntArray, distance: FloatArray) -> IntArray:
    """Of the pairs with the same ``owner``, the position of the one with the smallest distance."""
    order = np.lexsort((distance, owner))
    return order[np.unique(owner[order], return_index=True)[1]]


def pair_mass(a: Collection, b: Collection) -> FloatArray:
    """Invariant mass [GeV] of the objects of ``a`` and ``b`` at the same positions."""
    p4 = [four_momentum(c["pt"], c["eta"], c["phi"], c["mass"]) for c in (a, b)]
    px, py, pz, e = p4[0] + p4[1]
    return np.asarray(np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0.0)))


def four_momentum(pt: FloatArray, eta: FloatArray, phi: FloatArray, mass: FloatArray) -> FloatArray:
    """Momentum and energy ``[4, N]``: px, py, pz, E in GeV."""
    pt, mass = np.asarray(pt, dtype=np.float64), np.asarray(mass, dtype=np.float64)
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy])
