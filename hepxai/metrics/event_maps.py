"""Numbers of one event's map: rows of a table, agreement of two maps, their difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.means import ENDS
from hepxai.attribution.reductions import (
    at_edges,
    features_only,
    is_directed,
    labels_of,
    layers,
    pairs_of,
    reduced,
    relative_to_uniform,
    short_name,
    sums_to_one,
)
from hepxai.core.jagged import row_sum
from hepxai.metrics.agreement import Agreement, agreement_of, rank_agreement
from hepxai.metrics.ranking import rank_correlation

Array = NDArray[np.float64]


def rows_of(attribution: Attribution) -> list[dict[str, Any]]:
    """Table of a map of one event, largest |value| first: names along all axes, value, and error if any."""
    names = _first_names(attribution)
    regular = [(axis, labels_of(attribution, axis)) for axis in attribution.axes[1:]]
    rows = []
    order = np.argsort(-np.nan_to_num(np.abs(attribution.values)).ravel(), kind="stable")
    for at in zip(*np.unravel_index(order, attribution.values.shape), strict=True):
        row: dict[str, Any] = {axis: column[at[0]] for axis, column in names.items()}
        row |= {axis: labels[i] for (axis, labels), i in zip(regular, at[1:], strict=True)}
        row["value"] = float(attribution.values[at])
        rows.append(row if attribution.error is None else row | {"error": float(attribution.error[at])})
    return rows


def relative(attribution: Attribution) -> Attribution:
    """Attention relative to uniform attention; other maps as they are."""
    return relative_to_uniform(attribution) if sums_to_one(attribution) else attribution


def ranking(attribution: Attribution) -> list[dict[str, Any]]:
    """Particles, pairs or columns of one event in words, largest |value| first; none for pixels.

    Heads and layers are averaged, features of a particle added up; attention is relative to uniform.
    """
    kind = kind_of(attribution)
    if kind == "pixel":
        return []
    one = reduced(relative(attribution)) if kind in ("pair", "particle") else features_only(attribution)
    arrow = " → " if kind == "pair" and is_directed(one) else " – "
    return [
        {kind: arrow.join(str(v) for k, v in row.items() if k not in ("value", "error"))}
        | {k: row[k] for k in ("value", "error") if k in row}
        for row in rows_of(one)
    ]


def _first_names(attribution: Attribution) -> dict[str, list[str]]:
    particles = attribution.events.labels_of_particles()
    if attribution.axes[0] == "pair":
        receiver, sender = ENDS[is_directed(attribution)]
        pairs = pairs_of(attribution)
        return {sender: [particles[i] for i in pairs.src], receiver: [particles[i] for i in pairs.dst]}
    if attribution.axes[0] == "particle":
        chosen = particles if attribution.pairs is None else [particles[i] for i in attribution.pairs.src]
        return {"particle": chosen}
    return {}


# --- two maps ------------------------------------------------------------------------------------------


def agreement(first: Attribution, second: Attribution) -> tuple[Array, str]:
    """Rank correlation of |value| of two maps of the same events, ``[E]``, and the entries compared.

    Spearman's: 1 the same order, 0 unrelated. Two maps over pairs are compared pair by pair, two over
    columns or pixels entry by entry; else both by the sum of |value| at each particle. NaN where there is no
    order.
    """
    kinds = {kind_of(first), kind_of(second)}
    if kinds == {"pair"}:
        return rank_agreement(first, second).per_event, "pairs"
    if kinds <= {"pair", "particle"}:
        at = first.events.offsets
        return rank_correlation(per_particle(first), per_particle(second), at), "particles"
    if len(kinds) == 1:
        one, two = (np.abs(_flat(m)) for m in (first, second))
        if one.shape == two.shape:
            ends = np.arange(len(one) + 1) * one.shape[1]
            what = {"feature": "columns", "neuron": "neurons"}.get(kinds.pop(), "pixels")
            return rank_correlation(one.ravel(), two.ravel(), ends), what
    return np.full(len(first.events), np.nan), "nothing: these maps have no entries in common"


def kind_of(attribution: Attribution) -> str:
    """Entries of a map: pair, particle, feature, neuron or pixel."""
    if attribution.axes in (PIXELS, CHANNEL_PIXELS):
        return "pixel"
    return attribution.axes[0] if attribution.axes[0] != "event" else attribution.axes[1]


def _flat(attribution: Attribution) -> Array:
    summed = attribution.sum("channel") if "channel" in attribution.axes else attribution
    others = [a for a in summed.axes[1:] if a not in ("row", "column", "feature", "neuron")]
    for axis in others:
        summed = summed.mean(axis)
    return np.asarray(summed.values, dtype=np.float64).reshape(len(attribution.events), -1)


def per_particle(attribution: Attribution) -> Array:
    """Sum of |value| at each particle ``[N]``, of a pair at both ends."""
    plain = reduced(attribution)
    size = np.abs(np.asarray(plain.values, dtype=np.float64))
    if plain.axes[0] == "particle":
        return size
    pairs, number = pairs_of(plain), attribution.events.n_particles
    src, dst = (np.bincount(end, weights=size, minlength=number) for end in (pairs.src, pairs.dst))
    return np.asarray(src + dst, dtype=np.float64)


def difference(first: Attribution, second: Attribution) -> Attribution | None:
    """Difference of two maps, each relative to the sum of its |values| in the event; None if axes differ."""
    one, two = (_comparable(m) for m in (first, second))
    if one.axes != two.axes or (one.axes[0] != "pair" and one.values.shape != two.values.shape):
        return None
    other = two.values if one.axes[0] != "pair" else at_edges(two, pairs_of(one).src, pairs_of(one).dst)
    whole = [_shares(one, one.values), _shares(one, other)]
    name = f"{short_name(first)} − {short_name(second)}"
    return one.replace(
        values=whole[0] - whole[1],
        method="difference",
        title=f"difference of shares: {name}",
        short_title=name,
        unit="share of the whole",
        sign="both",
        residual=None,
        output_change=None,
        settings={"directed": is_directed(one)} if one.axes[0] == "pair" else {},
        concerns=(),
    )


def _comparable(attribution: Attribution) -> Attribution:
    if kind_of(attribution) == "pixel":
        return attribution.sum("channel") if "channel" in attribution.axes else attribution
    return reduced(attribution) if attribution.axes[0] in ("pair", "particle") else features_only(attribution)


def _shares(attribution: Attribution, values: NDArray[Any]) -> Array:
    size = np.abs(values).sum(axis=tuple(range(1, values.ndim)), dtype=np.float64)
    total = row_sum(size, attribution.offsets)
    column = np.repeat(np.where(total > 0, total, 1.0), np.diff(attribution.offsets))
    shares = np.asarray(values, dtype=np.float64) / column.reshape((-1,) + (1,) * (values.ndim - 1))
    return np.asarray(shares)


# --- several maps ----------------------------------------------------------------------------------------


def maps_by_title(attribution: Attribution) -> dict[str, Attribution]:
    """A map by the short title of its method; of several layers one for each."""
    title = attribution.short_title or attribution.method
    if "layer" not in attribution.axes:
        return {title: attribution}
    return {f"{title} {name}".strip(): one for name, one in layers(attribution).items()}


def rank_measure(first: Attribution, second: Attribution) -> Agreement:
    """Mean of `agreement` over events, for `hepxai.metrics.agreement.agreement_matrix`."""
    values, _ = agreement(first, second)
    return agreement_of(values, np.zeros(len(values)), first.events.weight)
