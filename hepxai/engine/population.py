"""Numbers of a population, in sums that add up over the parts of the population."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, event_sums, means_of, pair_sums, profile_sums, type_sums
from hepxai.attribution.spread import single_trainings, with_spread
from hepxai.attribution.sums import GroupSums
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.estimate import Array
from hepxai.core.sums import added
from hepxai.events import Events


@dataclass(frozen=True)
class Frame:
    """Groups and bins, fixed before the first event is read, so that the sums of all parts add up.

    Attributes
    ----------
    most : int
        Particles of the largest event of the run; see `hepxai.attribution.means.particle_groups`.
    scores : mapping of str to tuple of float
        Rising edges of the bins of every output.
    focus : tuple of two str, optional
        Types of the pair whose profile is made.
    observer : str, optional
    edges : tuple of float
        Bins of the observer.
    """

    most: int
    scores: Mapping[str, tuple[float, ...]]
    focus: tuple[str, str] | None = None
    observer: str | None = None
    edges: tuple[float, ...] = ()

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Frame:
        """Frame from its attributes as JSON has them."""
        scores = {name: tuple(edges) for name, edges in content["scores"].items()}
        focus = None if content["focus"] is None else tuple(content["focus"])
        return Frame(content["most"], scores, focus, content["observer"], tuple(content["edges"]))


@dataclass(frozen=True)
class ScoreSums:
    """Histogram of an output, class by class.

    Attributes
    ----------
    edges : tuple of float
    weight, squared : ndarray, shape [class, bin + 2]
        Σ w and Σ w²; the first and the last bin hold what is below and above.
    """

    edges: tuple[float, ...]
    weight: Array
    squared: Array

    @staticmethod
    def of(edges: tuple[float, ...], scores: Array, events: Events) -> ScoreSums:
        """Histogram of scores ``[E]``."""
        size = (len(events.schema.classes), len(edges) + 1)
        place = events.label * size[1] + np.searchsorted(edges, scores, side="right")
        weights = (events.weight, events.weight**2)
        sums = [np.bincount(place, w, size[0] * size[1]).reshape(size) for w in weights]
        return ScoreSums(edges, *(np.asarray(s, dtype=np.float64) for s in sums))

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(self.edges, self.weight + other.weight, self.squared + other.squared)

    def to_json(self) -> dict[str, Any]:
        """Edges and sums."""
        return {"edges": self.edges, "weight": self.weight.tolist(), "squared": self.squared.tolist()}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> ScoreSums:
        """Histogram of `to_json`."""
        return ScoreSums(tuple(content["edges"]), *(np.array(content[n]) for n in ("weight", "squared")))


@dataclass(frozen=True)
class MapSums:
    """Sums of one map.

    Attributes
    ----------
    about : mapping of str to str
        Method, target, title, unit.
    checks : mapping of str to tuple of float
        Smallest and largest value in all parts.
    concerns : tuple of str
        Of all parts.
    groups : mapping of str to tuple of GroupSums
        By kind of groups: the mean of the trainings, and each of several.
    """

    about: Mapping[str, str]
    checks: Mapping[str, tuple[float, float]]
    concerns: tuple[str, ...]
    groups: Mapping[str, tuple[GroupSums, ...]]

    @staticmethod
    def of(attribution: Attribution, frame: Frame) -> MapSums:
        """Sums of a map."""
        names = ("method", "target", "title", "unit")
        every = [mean_of_trainings(attribution), *single_trainings(attribution)]
        kinds = [dict(_groups(one, frame)) for one in every]
        groups = {kind: tuple(one[kind] for one in kinds) for kind in kinds[0]}
        about = {n: getattr(attribution, n) for n in names}
        checks = {n: (float(c), float(c)) for n, c in attribution.checks.items()}
        return MapSums(about, checks, attribution.concerns, groups)

    def __add__(self, other: MapSums) -> MapSums:
        both = {n: (self.checks[n], other.checks[n]) for n in self.checks if n in other.checks}
        ends = {n: (np.minimum(a[0], b[0]), np.maximum(a[1], b[1])) for n, (a, b) in both.items()}  # NaN wins
        checks = {**self.checks, **other.checks} | {n: (float(a), float(b)) for n, (a, b) in ends.items()}
        groups = {
            kind: tuple(a + b for a, b in zip(several, other.groups[kind], strict=True))
            for kind, several in self.groups.items()
        }
        return MapSums(self.about, checks, (*self.concerns, *other.concerns), groups)

    def means(self) -> dict[str, Means]:
        """Means by kind of groups, with the spread over several trainings."""
        every = {kind: list(map(means_of, several)) for kind, several in self.groups.items()}
        return {k: with_spread(m[0], m[1:]) if len(m) > 1 else m[0] for k, m in every.items()}

    def to_json(self) -> dict[str, Any]:
        """Texts, numbers and lists."""
        groups = {kind: [g.to_json() for g in several] for kind, several in self.groups.items()}
        return {"about": self.about, "checks": self.checks, "concerns": self.concerns, "groups": groups}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> MapSums:
        """Sums of `to_json`."""
        groups = {k: tuple(map(GroupSums.from_json, several)) for k, several in content["groups"].items()}
        checks = {name: tuple(ends) for name, ends in content["checks"].items()}
        return MapSums(content["about"], checks, tuple(content["concerns"]), groups)


def _groups(attribution: Attribution, frame: Frame) -> Iterator[tuple[str, GroupSums]]:
    """Sums of a map without trainings, by kind of groups."""
    if attribution.axes[0] == "event":
        yield "events", event_sums(attribution)
    elif attribution.axes[0] == "particle":
        yield "particles", type_sums(attribution, frame.most)
    else:
        yield "pairs", pair_sums(attribution, frame.most)
        if frame.focus is not None and frame.observer is not None:
            yield "profile", profile_sums(attribution, frame.focus, frame.observer, np.array(frame.edges))


@dataclass(frozen=True)
class Population:
    """Sums of scores and maps of a population, or of a part of it.

    Attributes
    ----------
    events : int
    scores : mapping of str to ScoreSums
        By output.
    maps : mapping of str to MapSums
        By name of the explanation.
    """

    events: int = 0
    scores: Mapping[str, ScoreSums] = field(default_factory=dict)
    maps: Mapping[str, MapSums] = field(default_factory=dict)

    @staticmethod
    def of(
        events: Events, scores: Mapping[str, Array], maps: Mapping[str, Attribution], frame: Frame
    ) -> Population:
        """Sums of some events, with scores ``[E]`` of every output."""
        histograms = {n: ScoreSums.of(frame.scores[n], s, events) for n, s in scores.items()}
        return Population(len(events), histograms, {n: MapSums.of(m, frame) for n, m in maps.items()})

    def __add__(self, other: Population) -> Population:
        scores, maps = added(self.scores, other.scores), added(self.maps, other.maps)
        return Population(self.events + other.events, scores, maps)

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists, from which `from_json` makes the same sums, bit for bit."""
        parts = {n: {k: v.to_json() for k, v in getattr(self, n).items()} for n in ("scores", "maps")}
        return {"events": self.events, **parts}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Population:
        """Sums of `to_json`."""
        scores = {n: ScoreSums.from_json(s) for n, s in content["scores"].items()}
        return Population(
            content["events"], scores, {n: MapSums.from_json(m) for n, m in content["maps"].items()}
        )
