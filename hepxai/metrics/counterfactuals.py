"""Population summary of counterfactuals: mean changes, and shares of events that flip."""

from __future__ import annotations

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, type_means
from hepxai.core.estimate import Array, Estimate, share
from hepxai.core.jagged import row_sum


def chi2_of(attribution: Attribution) -> Array:
    """χ² of the smallest change of each event, ``[E]``; NaN for events that do not flip.

    Raises
    ------
    ValueError
        If the attribution is of another method.
    """
    if attribution.method != "counterfactual":
        raise ValueError(f"{attribution.method} has no χ² per event; explain with 'counterfactual'")
    if "chi2" in attribution.event_columns:
        return attribution.event_columns["chi2"]
    chi2 = row_sum(attribution.values.astype(np.float64) ** 2, attribution.offsets).sum(axis=1)
    return np.where(chi2 > 0, chi2, np.nan)  # of one of several trainings, whose columns are not stacked


def mean_changes(attribution: Attribution, most: int | None = None) -> Means:
    """Mean |change| per particle in σ, ``[class, particle, feature]``, over the events that flip.

    Parameters
    ----------
    attribution : Attribution
    most : int, optional
        See `hepxai.attribution.means.particle_groups`.
    """
    flipped = attribution[np.isfinite(chi2_of(attribution))]
    return type_means(flipped.replace(values=np.abs(flipped.values)), most)


def flipped_within(attribution: Attribution, n: float = 1.0) -> dict[str, Estimate]:
    """Weighted share of the events of each class that flip within χ² ≤ n²."""
    events, flips = attribution.events, chi2_of(attribution) <= n**2
    of_class = {name: events.label == c for c, name in enumerate(events.schema.classes)}
    return {
        name: share(flips[rows], events.weight[rows], f"share of {name} that flips within {n:g} σ")
        for name, rows in of_class.items()
    }
