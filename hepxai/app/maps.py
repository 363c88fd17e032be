"""Numbers of one event's map: rows of a table, agreement of two maps, their difference."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
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
    pairs_of,
    reduced,
    short_name,
)
from hepxai.core.jagged import row_sum
from hepxai.metrics.agreement import rank_agreement
from hepxai.metrics.ranking import rank_correlation

Array = NDArray[np.float64]


def rows_of(attribution: Attribution) -> list[dict[str, Any]]:
    """Table of a map of one event: names along all axes, value, and error where there is one."""
    names = _first_names(attribution)
    regular = [(axis, labels_of(attribution, axis)) for axis in attribution.axes[1:]]
    rows = []
    for at in np.ndindex(*attribution.values.shape):
        row: dict[str, Any] = {axis: column[at[0]] for axis, column in names.items()}
        row |= {axis: labels[i] for (axis, labels), i in zip(regular, at[1:], strict=True)}
        row["value"] = float(attribution.values[at])
        rows.append(row if attribution.error is None else row | {"error": float(attribution.error[at])})
    return rows


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


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as comma-separated values; a text that a spreadsheet would take for a formula gets a quote."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writerow({k: _harmless(k) for k in writer.fieldnames})
    writer.writerows({k: _harmless(v) for k, v in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value


# --- two maps ------------------------------------------------------------------------------------------


def agreement(first: Attribution, second: Attribution) -> tuple[Array, str]:
    """Rank correlation of |value| of two maps of the same events, ``[E]``, and the entries that are compared.

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
