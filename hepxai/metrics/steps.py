"""Attributions by time step: the particles of an event as a recurrent network reads them."""

from __future__ import annotations

import numpy as np

from hepxai.attribution import Attribution
from hepxai.core.jagged import IntArray, local_index
from hepxai.events import Events


def pt_rank(events: Events) -> IntArray:
    """Position of every particle in its event by falling pT, from 0, ``[N]``; ties in the events' order."""
    order = np.lexsort((-events.p4[:, 0], events.parent))  # stable
    rank = np.empty(events.n_particles, dtype=np.int64)
    rank[order] = local_index(events.offsets)
    return rank


def at_step(attribution: Attribution, step: int) -> Attribution:
    """Part of an attribution over particles that belongs to one time step, from 0.

    Its `population` is the mean over the events that have such a step.

    Raises
    ------
    ValueError
        If there is no "particle" axis.
    """
    if attribution.axes[0] != "particle":
        raise ValueError(
            f"a time step is a particle; {attribution.method} has the axes {', '.join(attribution.axes)}"
        )
    rank = pt_rank(attribution.events)
    own = rank if attribution.pairs is None else rank[attribution.pairs.src]
    return attribution.keep(own == step)
