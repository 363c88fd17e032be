"""Reductions of an attribution: one number per pair, relative attention, time steps, names."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution.pairs import Pairs
from hepxai.attribution.result import Attribution
from hepxai.core.estimate import Array
from hepxai.core.jagged import IntArray, local_index, offsets_from_counts
from hepxai.events import Events


def labels_of(attribution: Attribution, axis: str) -> tuple[str, ...]:
    """Names along a regular axis, numbered where the attribution has none."""
    size = attribution.values.shape[attribution.axis(axis)]
    return attribution.labels.get(axis) or tuple(f"{axis} {i + 1}" for i in range(size))


def reduced(
    attribution: Attribution, *, layer: str | None = None, head: str | None = None, keep: str = ""
) -> Attribution:
    """Reduce to one number per particle or pair.

    A named layer or head is selected; heads, repeats, trainings and the like are averaged, features are
    summed. An axis to ``keep`` stays, as the trainings for the spread of their means.

    Raises
    ------
    ValueError
        If there are several layers and none was named: their mean has no meaning.
    """
    part = attribution.replace(labels={a: labels_of(attribution, a) for a in attribution.axes[1:]})
    part = part if layer is None else part.select(layer=layer)
    part = part if head is None else part.select(head=head)
    for axis in part.axes[1:]:
        if axis == keep:
            continue
        if axis == "layer" and len(part.labels["layer"]) > 1:
            raise ValueError(f"name one layer of {', '.join(part.labels['layer'])}")
        part = part.sum(axis) if axis == "feature" else part.mean(axis)
    return part


def layers(attribution: Attribution) -> dict[str, Attribution]:
    """One number per particle or pair for each layer, heads averaged; "" where there is only one."""
    names = labels_of(attribution, "layer") if "layer" in attribution.axes else ()
    if len(names) < 2:
        return {"": reduced(attribution)}
    return {name: reduced(attribution, layer=name) for name in names}


def of_class(attribution: Attribution, name: str) -> Attribution:
    """Events of one class, also under the variations that the map carries."""
    code = attribution.events.schema.classes.index(name)
    return attribution.apply(lambda a: a[a.events.label == code])


def features_only(attribution: Attribution) -> Attribution:
    """Mean over all regular axes but the features."""
    for axis in attribution.axes[1:]:
        attribution = attribution if axis == "feature" else attribution.mean(axis)
    return attribution


def unit_of(attribution: Attribution) -> str:
    """Unit of the values; empty for coefficients of a method's own, such as attention."""
    unit = str(attribution.settings.get("unit", attribution.unit))
    return "" if unit == attribution.method else unit


def quantity(attribution: Attribution) -> str:
    """Name of the values with their unit, as an axis label.

    Coefficients of a method's own, such as attention, are called by its name.
    """
    name, unit = short_name(attribution), unit_of(attribution)
    if is_relative(attribution):
        return f"{name} × (n − 1)"
    of_method = attribution.settings.get("unit", attribution.unit) == attribution.method
    if not unit and (of_method or attribution.target not in attribution.events.schema.targets):
        return name
    what = "attribution to" if is_directed(attribution) else "interaction of the pair for"
    return f"{what} {attribution.target}" + (f" [{unit}]" if unit else "")


# --- pairs -----------------------------------------------------------------------------------


def pairs_of(attribution: Attribution) -> Pairs:
    """Pairs of a "pair" axis, with an error for any other."""
    if attribution.axes[0] != "pair" or attribution.pairs is None:
        raise ValueError(f"needs a pair axis; {attribution.method} has {', '.join(attribution.axes)}")
    return attribution.pairs


def is_directed(attribution: Attribution) -> bool:
    """True if the two orders of a pair are separate values; False if each has half of one value."""
    return bool(attribution.settings.get("directed", True))


def whole_pairs(attribution: Attribution) -> Attribution:
    """Each pair once, with the sum of its two orders, if pairs have no direction; else the map as it is."""
    if attribution.axes[0] != "pair" or is_directed(attribution):
        return attribution
    pairs, events = pairs_of(attribution), attribution.events
    first, second = np.sort([pairs.src, pairs.dst], axis=0)
    keys = edge_keys(first, second, events.n_particles)
    once, place = np.unique(keys, return_inverse=True)
    second, first = np.divmod(once, max(events.n_particles, 1))
    offsets = offsets_from_counts(np.bincount(events.parent[second], minlength=len(events)))

    def total(column: NDArray[np.floating]) -> Array:
        both = np.zeros((len(once), *column.shape[1:]))
        np.add.at(both, place, column)
        return both

    error = None if attribution.error is None else total(attribution.error)  # the halves err together
    return attribution.replace(
        values=total(attribution.values), error=error, pairs=Pairs(first, second, offsets)
    )


def in_focus(attribution: Attribution, focus: tuple[str, str]) -> NDArray[np.bool_]:
    """Mask of the pairs of two types, in either order, ``[P]``."""
    return pairs_of(attribution).between(attribution.events, focus)


def pair_name(focus: tuple[str, str]) -> str:
    """``muon–muon pairs``."""
    return f"{focus[0]}–{focus[1]} pairs"


def finite(attribution: Attribution) -> Array:
    """Values in double precision, with an error if one is not finite, which has no rank."""
    values = np.asarray(attribution.values, dtype=np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise ValueError(f"{bad} of {values.size} values of {attribution.method} are not finite")
    return values


def edge_keys(src: IntArray, dst: IntArray, particles: int) -> IntArray:
    """One number for each ordered pair of flat particle indices, sorted as ``(dst, src)``."""
    return dst * particles + src


def at_edges(attribution: Attribution, src: IntArray, dst: IntArray) -> Array:
    """Values of a map over pairs at given edges; 0 where the map has no such edge."""
    pairs, size = pairs_of(attribution), attribution.events.n_particles
    keys, edges = edge_keys(pairs.src, pairs.dst, size), edge_keys(src, dst, size)
    if len(keys) == 0:
        return np.zeros(len(edges))
    order = np.argsort(keys, kind="stable")
    nearest = order[np.minimum(np.searchsorted(keys[order], edges), len(keys) - 1)]
    return np.where(keys[nearest] == edges, attribution.values[nearest], 0.0).astype(np.float64)


# --- attention -------------------------------------------------------------------------------

UNIFORM = {"relative_to": "uniform attention"}
"""Setting of values that are relative to uniform attention."""


def sums_to_one(attribution: Attribution) -> bool:
    """True if the values of each receiver are non-negative and add up to one, as for attention."""
    if attribution.axes[0] != "pair" or len(attribution.values) == 0 or (attribution.values < 0).any():
        return False
    flat = attribution.values.reshape(len(attribution.values), -1).mean(axis=1)
    receiver = pairs_of(attribution).dst
    total = np.bincount(receiver, weights=flat)[np.unique(receiver)]
    return bool(np.allclose(total, 1.0, atol=1e-3))


def relative_to_uniform(attribution: Attribution) -> Attribution:
    """Attention times the number of senders that its receiver has.

    Uniform attention is ``1 / (n - 1)`` for each of the other particles, so attention itself falls with
    multiplicity. Times ``n - 1`` (the number of neighbours, for a sparse layer) uniform attention is 1 in
    every event, and the mean over all pairs of an event is exactly 1: events of different multiplicity
    compare. Call it before any selection of pairs.
    """
    receiver = pairs_of(attribution).dst
    senders = np.bincount(receiver, minlength=attribution.events.n_particles)[receiver]
    column = (slice(None),) + (None,) * (attribution.values.ndim - 1)
    return attribution.replace(
        values=attribution.values * senders[column], settings=dict(attribution.settings) | UNIFORM
    )


def is_relative(attribution: Attribution) -> bool:
    """True for attention relative to uniform."""
    return UNIFORM.items() <= attribution.settings.items()


def reference_value(attribution: Attribution) -> float:
    """Value without information: 1 for relative attention, else 0."""
    return 1.0 if is_relative(attribution) else 0.0


# --- time steps ------------------------------------------------------------------------------


def pt_rank(events: Events) -> IntArray:
    """Position of every particle in its event by falling pT, from 0, ``[N]``; ties in the events' order."""
    order = np.lexsort((-events.p4[:, 0], events.parent))  # stable
    rank = np.empty(events.n_particles, dtype=np.int64)
    rank[order] = local_index(events.offsets)
    return rank


def at_step(attribution: Attribution, step: int) -> Attribution:
    """Part of an attribution over particles that belongs to one time step of a recurrent network, from 0.

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
    return attribution.keep((rank if attribution.pairs is None else rank[attribution.pairs.src]) == step)


# --- names -----------------------------------------------------------------------------------


class Named(Protocol):
    """Result with the name of its method."""

    @property
    def method(self) -> str:
        """Registered name of the method."""

    @property
    def short_title(self) -> str:
        """Name of the method where there is little room; may be empty."""


def short_name(result: Named, key: str | None = None) -> str:
    """Name of a method where there is little room.

    Parameters
    ----------
    result : Named
    key : str, optional
        Name under which a result is listed: of ``METHOD_TARGET`` and ``METHOD, model`` the
        end is kept, other names stay.
    """
    return _in_words(result.method, result.short_title, key)


def full_name(attribution: Attribution, key: str | None = None) -> str:
    """Name of a method in words; the parameters are those of `short_name`."""
    return _in_words(attribution.method, attribution.title, key)


def _in_words(method: str, title: str, key: str | None) -> str:
    key = method if key is None else key
    rest = key.removeprefix(method)
    if title and key.startswith(method) and not rest[:1].isalnum():
        key = title + rest
    return key.replace("_", " ")
