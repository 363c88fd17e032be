"""Means of numbers per event: over a population, its classes, several trainings, or lists of other events."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.spread import over_trainings, with_spread
from hepxai.core.estimate import Array, Estimate, as_arrays, ratio_mean
from hepxai.events import Events


def mean(values: NDArray[np.floating], weight: Array | None = None) -> Estimate:
    """Weighted mean over events, all of weight 1 by default."""
    return Estimate.of(values, np.ones(len(values)) if weight is None else weight)


def spread_mean(values: Array) -> Estimate:
    """Mean of the finite values, and s / √n with their standard deviation s; NaN where they are too few."""
    finite = values[np.isfinite(values)]
    return mean(finite) if len(finite) else Estimate(np.asarray(np.nan), np.asarray(np.nan), 0.0)


def median(values: Array) -> Estimate:
    """Median of the finite values; its error is 1.2533 σ / √n, with half the central 68 % range for σ."""
    finite = values[np.isfinite(values)]
    low, middle, high = np.quantile(finite, [0.16, 0.5, 0.84])
    error = 1.2533 * (high - low) / 2 / np.sqrt(len(finite))
    return Estimate(np.asarray(middle), np.asarray(error), float(len(finite)))


def mean_count(event: NDArray[np.int64], events: Events) -> Estimate:
    """Weighted mean number of objects per event, given the event of each object."""
    return mean(np.bincount(event, minlength=len(events)).astype(np.float64), events.weight)


@over_trainings
def class_means(attribution: Attribution) -> dict[str, Estimate]:
    """Mean of each class, and ``"difference"``: the mean of the second class less that of the first."""
    events = attribution.events
    means = [attribution.population(events.label == code) for code in range(len(events.schema.classes))]
    difference = means[1].value - means[0].value
    error = np.hypot(means[0].error, means[1].error)
    names = (*events.schema.classes, "difference")
    return dict(zip(names, [*means, Estimate(difference, error, np.nan)], strict=True))


# --- several trainings ---------------------------------------------------------------------------


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over trainings on the same events.

    Its error is the mean of theirs: they share the events, so that more trainings do not reduce it. Its
    spread "training" is the standard deviation of single trainings, left out for one.
    """
    value, error = as_arrays(estimates)
    mean = Estimate(np.asarray(value.mean()), np.asarray(error.mean()), estimates[0].n_eff)
    return with_spread(mean, estimates) if len(estimates) > 1 else mean


def same_decision(scores: Sequence[Array], weight: Array) -> Estimate:
    """Weighted share of the events that two trainings classify in the same way, mean over pairs of trainings.

    Parameters
    ----------
    scores : sequence of ndarray, shape [E]
        Logits of each training.
    weight : ndarray, shape [E]
    """
    pairs = combinations([score > 0 for score in scores], 2)
    return mean(np.mean([one == other for one, other in pairs], axis=0), weight)


# --- lists of other events -----------------------------------------------------------------------


def two_way_mean(values: Array, rows: NDArray[np.int64]) -> Estimate:
    """Mean over events and the ``k`` entries of their lists, with the error of two-way clusters.

    Entries of one event are not independent, nor are those of an object that is in several lists: the
    variance is that between events plus that between objects less that between entries [Cameron, Gelbach
    and Miller, J. Bus. Econ. Stat. 29 (2011) 238], and never below either of the first two.

    Parameters
    ----------
    values : ndarray, shape [E, k]
    rows : ndarray of int64, shape [E, k]
        Number of the listed object.
    """
    event = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    clusters = (event.ravel(), rows.ravel(), np.arange(rows.size))
    means = [_clustered(values.ravel(), cluster) for cluster in clusters]
    events, objects, entries = (float(m.error) ** 2 for m in means)
    error = np.sqrt(max(events + objects - entries, events, objects))
    return Estimate(means[0].value, np.asarray(error), means[1].n_eff)


def _clustered(values: Array, cluster: NDArray[np.int64]) -> Estimate:
    size = np.bincount(cluster)
    total = np.bincount(cluster, weights=values).astype(np.float64)
    return ratio_mean(total, size, np.ones(len(size)))
