"""Entries of an attribution over a population: means with errors, and one number per event for profiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.means import pair_means, type_means
from hepxai.attribution.reductions import labels_of, reduced, whole_pairs
from hepxai.core.binning import equal_bins
from hepxai.core.estimate import Array
from hepxai.metrics.columns import Ranking
from hepxai.metrics.event_maps import kind_of, relative
from hepxai.metrics.profile import Profile, profile

BINS = 6


def mean_rows(attribution: Attribution) -> list[dict[str, Any]]:
    """Means over the population as a table, with errors: of pairs and particles by type and class."""
    kind = kind_of(attribution)
    if kind == "pair":
        return pair_means(reduced(relative(attribution))).rows()
    if kind == "particle":
        return type_means(reduced(attribution)).rows()
    if kind in ("feature", "neuron"):
        ranking = Ranking.of(attribution)
        columns = zip(ranking.names, ranking.value, ranking.error, strict=True)
        return [{kind: n, "value": float(v), "error": float(e)} for n, v, e in columns]
    mean = attribution.population()
    return [
        dict(zip(attribution.axes[1:], map(int, at), strict=True))
        | {"value": float(mean.value[at]), "error": float(mean.error[at])}
        for at in np.ndindex(*mean.value.shape)
    ]


def entry_names(attribution: Attribution) -> list[str]:
    """Entries of which an event has a mean: pairs and particles by type, columns, neurons; of pixels all."""
    kind = kind_of(attribution)
    if kind == "pair":
        types = attribution.events.schema.types
        return [f"{a}–{b}" for i, a in enumerate(types) for b in types[i:] if _has_pair(attribution, a, b)]
    if kind == "particle":
        return list(attribution.events.schema.types)
    return list(labels_of(attribution, kind)) if kind != "pixel" else ["all pixels"]


def _has_pair(attribution: Attribution, one: str, other: str) -> bool:
    return len(attribution.select(pair=(one, other)).values) > 0


def entry_values(attribution: Attribution, entry: str) -> Array:
    """Mean over the entries of a kind in each event ``[E]``; NaN where it has none. Of pixels the sum.

    Parameters
    ----------
    attribution : Attribution
    entry : str
        Of `entry_names`.
    """
    kind = kind_of(attribution)
    if kind == "pair":
        one, _, other = entry.partition("–")
        chosen = whole_pairs(reduced(relative(attribution))).select(pair=(one, other)).mean("pair")
    elif kind == "particle":
        chosen = reduced(attribution).select(particle=entry).mean("particle")
    elif kind == "pixel":
        pixels = np.asarray(attribution.values, dtype=np.float64)
        return np.asarray(pixels.reshape(len(pixels), -1).sum(axis=1))
    else:
        regular: Any = {kind: entry}
        chosen = attribution.select(**regular)
    values = np.asarray(chosen.values, dtype=np.float64).reshape(len(attribution.events), -1)
    return np.asarray(values.mean(axis=1))


def class_profiles(attribution: Attribution, entry: str, observer: NDArray[Any]) -> dict[str, Profile]:
    """Mean of an entry in bins of a number of the events, class by class.

    Parameters
    ----------
    attribution : Attribution
    entry : str
        Of `entry_names`.
    observer : ndarray, shape [E]
        Events with NaN are left out.

    Raises
    ------
    ValueError
        If fewer events than bins have both numbers.
    """
    events, values = attribution.events, entry_values(attribution, entry)
    x = np.asarray(observer, dtype=np.float64)
    used = np.isfinite(values) & np.isfinite(x)
    if np.count_nonzero(used) < BINS:
        raise ValueError("too few events have both numbers; loosen the selection")
    edges = equal_bins(x[used], BINS)
    parts = {name: used & (events.label == c) for c, name in enumerate(events.schema.classes)}
    return {n: profile(values[m], x[m], events.weight[m], edges) for n, m in parts.items() if m.any()}
