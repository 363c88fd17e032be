"""Sums over a population from which its means follow; those of parts of the population add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import row_sum
from hepxai.core.sums import RatioSums, added

Place = tuple[int, ...]


def population_sums(attribution: Any, where: NDArray[np.bool_] | None = None) -> RatioSums:
    """Sums of all entries of an attribution, of the shape of its regular axes; see `Attribution.population`.

    Raises
    ------
    ValueError
        If ``where`` is not a mask of its events.
    """
    events, values = attribution.events, attribution.values
    if where is not None and np.shape(where) != (len(events),):
        raise ValueError(
            f"where has shape {np.shape(where)}, the attribution {len(events)} events; make it from "
            "attribution.events, as in attribution.events.label == 1"
        )
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    column = (slice(None),) + (None,) * (values.ndim - 1)
    total = row_sum(np.where(finite[column], values, 0.0), attribution.offsets)
    weight = events.weight if where is None else np.where(where, events.weight, 0.0)
    return RatioSums.of(total, row_sum(finite.astype(np.float64), attribution.offsets), weight)


@dataclass(frozen=True)
class GroupSums:
    """Sums over groups of a population, class by class; see `hepxai.attribution.means.Means`.

    Attributes
    ----------
    axes : tuple of str
        Of the groups, "class" first, then the regular axes.
    labels : tuple of tuple of str
    sums : mapping of tuple of int to RatioSums
        Of each group that has entries in these events, by its place along the axes of the groups.
    events, entries : mapping of tuple of int to int
        Events with an entry in the group, and its particles or pairs.
    """

    axes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    sums: Mapping[Place, RatioSums]
    events: Mapping[Place, int]
    entries: Mapping[Place, int]

    def __add__(self, other: GroupSums) -> GroupSums:
        if (self.axes, self.labels) != (other.axes, other.labels):
            raise ValueError(f"groups {other.labels} are not {self.labels}; their sums do not add up")
        parts = ((getattr(self, name), getattr(other, name)) for name in ("sums", "events", "entries"))
        return GroupSums(self.axes, self.labels, *(added(*both) for both in parts))

    def to_json(self) -> dict[str, Any]:
        """Numbers, lists and texts; see `from_json`."""
        groups = [
            {"at": at, "sums": sums.to_json(), "events": self.events[at], "entries": self.entries[at]}
            for at, sums in self.sums.items()
        ]
        return {"axes": self.axes, "labels": self.labels, "groups": groups}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> GroupSums:
        """Sums of `to_json`."""
        groups = {tuple(g["at"]): g for g in content["groups"]}
        sums = {at: RatioSums.from_json(g["sums"]) for at, g in groups.items()}
        counts = ({at: g[name] for at, g in groups.items()} for name in ("events", "entries"))
        return GroupSums(tuple(content["axes"]), tuple(map(tuple, content["labels"])), sums, *counts)
