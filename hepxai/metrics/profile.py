"""Means in bins of an event quantity, and the share of a variance that the bins explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import reduced
from hepxai.core.binning import bin_of, equal_bins
from hepxai.core.estimate import Array, Estimate, effective, ratio_mean
from hepxai.metrics.null import NullDistribution, random_signs


@dataclass(frozen=True)
class Profile:
    """Mean of one event quantity in bins of another.

    Attributes
    ----------
    mean : Estimate
        ``[B]``; NaN in an empty bin.
    edges : ndarray, shape [B+1]
    middle : ndarray, shape [B]
        Median of the observer in each bin: the place of its point.
    outside : int
        Events in no bin, or without the observer.
    """

    mean: Estimate
    edges: Array
    middle: Array
    outside: int


def profile(score: Array, observer: Array, weight: Array, edges: Array) -> Profile:
    """Weighted mean of a score in bins of an observer, each with the error of its own events.

    Parameters
    ----------
    score, observer, weight : ndarray, shape [E]
        Weights are signed. NaN in the observer leaves an event out, and counts it.
    edges : ndarray, shape [B+1]
        Increasing; the last bin includes its upper edge. `hepxai.core.binning.equal_bins` makes them.
    """
    position = bin_of(observer, edges)
    rows = [np.flatnonzero(position == b) for b in range(len(edges) - 1)]
    means = [ratio_mean(score[r], np.ones(len(r)), weight[r]) for r in rows]
    value, error = (np.array([float(getattr(m, k)) for m in means]) for k in ("value", "error"))
    used = weight[position >= 0]
    n_eff = effective(used)
    middle = np.array([np.median(observer[r]) if len(r) else np.nan for r in rows])
    return Profile(Estimate(value, error, n_eff), edges, middle, int(np.count_nonzero(position < 0)))


def correlation_ratio(values: Array, observer: Array, weight: Array, edges: Array) -> Estimate:
    """Share η² of the variance of a number per event that its mean in bins of an observer explains.

    η² = 1 - Σ_e w_e (v_e - m_b(e))² / Σ_e w_e (v_e - m)², with the weighted mean m_b of the event's bin
    and m of all events [Pearson, Proc. R. Soc. Lond. 71 (1903) 288]. 0: the means are the same in all bins;
    1: the bin fixes the value. B bins explain about (B - 1) / n_eff where there is nothing to explain.

    Parameters
    ----------
    values, observer, weight : ndarray, shape [E]
        Weights are signed. Events in no bin, or whose observer is NaN, are left out.
    edges : ndarray, shape [B+1]

    Returns
    -------
    Estimate
        The error is linearised event by event. NaN if the values do not vary.

    Raises
    ------
    ValueError
        If the weights of a bin with events do not have a positive sum: there is no mean to compare with.
    """
    position = bin_of(observer, edges)
    inside = (position >= 0) & (weight != 0)
    ratio = _explained(values[inside], position[inside], weight[inside], len(edges) - 1)
    return ratio.within("correlation ratio", 0, 1)


@dataclass(frozen=True)
class Explained:
    """Share of the variance of a pair's attribution that an observer explains.

    Attributes
    ----------
    share : Estimate
        η² of `correlation_ratio`.
    null : NullDistribution
        η² where the mean does not depend on the observer: the difference of each event from the mean with a
        random sign; see `hepxai.metrics.null.random_signs`. Of toys without dependence 5 to 6 % have p < .05
        at 400 events, 9 % where weights vary by a factor of 150 with the values.
    edges : ndarray
    events, left_out : int
        Events used; events without such a pair, or without the observer.
    """

    share: Estimate
    null: NullDistribution
    edges: Array
    events: int
    left_out: int


def explained_by(
    attribution: Attribution,
    pair: tuple[str, str],
    observer: str,
    *,
    bins: int = 10,
    draws: int = 200,
    seed: int = 0,
) -> Explained:
    """Share of the variance of a pair's attribution, from event to event, that an observer explains.

    The attribution of an event is the sum over its pairs of these types. If both classes are there, a part
    can come from their difference alone: ask class by class, ``attribution[events.label == 1]``.

    Parameters
    ----------
    attribution : Attribution
        With a "pair" axis and at most one layer; heads are averaged.
    pair : tuple of two str
        Particle types, in either order.
    observer : str
        Name in ``events.observers``, for example the invariant mass of the pair.
    bins : int
        Of about equal numbers of events.
    draws, seed : int
        For the null distribution.

    Raises
    ------
    KeyError
        If the events have no such observer.
    """
    observers = attribution.events.observers
    if observer not in observers:
        raise KeyError(f"the events have no observer {observer!r}; there is {', '.join(observers) or 'none'}")
    chosen = reduced(attribution).select(pair=pair)
    used = (np.diff(chosen.offsets) > 0) & np.isfinite(observers[observer]) & (chosen.events.weight != 0)
    values = np.asarray(chosen.sum("pair").values, dtype=np.float64)[used]
    where, weight = observers[observer][used], chosen.events.weight[used]
    edges = equal_bins(where, bins)
    position, size = bin_of(where, edges), len(edges) - 1
    share = _explained(values, position, weight, size).within("correlation ratio", 0, 1)
    mean = float(weight @ values / weight.sum())
    null = random_signs(
        lambda signs: float(_explained(mean + signs * (values - mean), position, weight, size).value),
        len(values),
        draws=draws,
        seed=seed,
    )
    return Explained(share, null, edges, len(values), int(np.count_nonzero(~used)))


def _explained(values: Array, position: np.ndarray, weight: Array, bins: int) -> Estimate:
    """η² and its error; every event in a bin, no weight zero."""
    total, filled = (np.bincount(position, weights=w, minlength=bins) for w in (weight, None))
    if bad := np.flatnonzero((filled > 0) & ~(total > 0)).tolist():
        raise ValueError(f"the weights of bin {bad[0]} of {bins} sum to {total[bad[0]]:.4g}; take wider bins")
    means = np.bincount(position, weights=weight * values, minlength=bins) / np.where(filled > 0, total, 1.0)
    inside = (values - means[position]) ** 2
    around = ratio_mean(values, np.ones(len(values)), weight)
    outside = (values - around.value) ** 2
    spread = float(weight @ outside)
    if not spread > 0:
        return Estimate(np.asarray(np.nan), np.asarray(np.nan), around.n_eff)
    share = 1 - float(weight @ inside) / spread
    influence = ((1 - share) * outside - inside) * float(weight.sum()) / spread
    error = ratio_mean(influence, np.ones(len(values)), weight).error
    return Estimate(np.asarray(share), error, around.n_eff)
