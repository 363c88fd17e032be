"""Changes of the momenta of particles under systematic variations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray, distinct, row_sum
from hepxai.events import Events
from hepxai.events.pairing import pair_events

Varied = Mapping[str, Mapping[str, Events]]
"""Source → name of the variation → events, as read with `DatasetCard.varied`."""


def momentum_changes(events: Events, varied: Events, *, recoil: bool) -> Array:
    """Changes of pt [GeV], η and φ of every particle under a variation, ``[N, 3]``.

    Particles are paired by event, type and position in the file; 0 for those that only one reading has.

    Parameters
    ----------
    events, varied : Events
        Of the same files.
    recoil : bool
        Missing momentum (position -1) balances the changes of all others: only the rest counts as its own.

    Raises
    ------
    ValueError
        If two particles of an event have the same type and position.
    """
    pairs = pair_events(events, varied)
    varied = varied[pairs.second]
    most = 2 + max(int(e.index.max(initial=0)) for e in (events, varied))
    keys = _keys(events, np.arange(len(events)), most), _keys(varied, pairs.first, most)
    _, first, second = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    changes = np.zeros((events.n_particles, 3))
    changes[first] = varied.p4[second, :3].astype(np.float64) - events.p4[first, :3]
    changes[:, 2] = np.remainder(changes[:, 2] + np.pi, 2 * np.pi) - np.pi
    return _without_recoil(events, changes) if recoil else changes


def envelope_of(events: Events, varied: Varied, *, recoil: bool) -> Array:
    """Larger change of each source, in quadrature over the sources, ``[N, 3]``."""
    total = np.zeros((events.n_particles, 3))
    for several in varied.values():
        changes = [np.abs(momentum_changes(events, one, recoil=recoil)) for one in several.values()]
        total += np.max(changes, axis=0) ** 2
    return np.sqrt(total)


def _keys(events: Events, row: IntArray, most: int) -> IntArray:
    """One number for the event, type and position of every particle."""
    keys = (row[events.parent] * len(events.schema.types) + events.type) * most + events.index + 1
    if len(distinct(keys)) < len(keys):
        raise ValueError(
            "two particles of an event have one type and index, so that their shifts cannot be told apart; "
            "give each its position in the file as index"
        )
    return np.asarray(keys, dtype=np.int64)


def _without_recoil(events: Events, changes: Array) -> Array:
    """Changes in which those of missing momenta lack the balance of all other particles."""
    before = events.p4[:, :3].astype(np.float64)
    x, y = (a - b for a, b in zip(_plane(before + changes), _plane(before), strict=True))
    at = np.flatnonzero(events.index == -1)
    rest_x, rest_y = row_sum(np.stack([x, y], axis=1), events.offsets)[events.parent[at]].T
    pt, cos, sin = before[at, 0], np.cos(before[at, 2]), np.sin(before[at, 2])
    changes = changes.copy()
    changes[at, 0] = rest_x * cos + rest_y * sin
    across = rest_y * cos - rest_x * sin
    changes[at, 2] = np.divide(across, pt, out=np.zeros_like(pt), where=pt > 0)
    return changes


def _plane(p4: Array) -> tuple[Array, Array]:
    return p4[:, 0] * np.cos(p4[:, 2]), p4[:, 0] * np.sin(p4[:, 2])
