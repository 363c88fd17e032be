"""Settings of a scan, checked before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from hepxai.cards import nearest
from hepxai.run import EnsembleRun
from hepxai.scan.objectives import METRICS, Direction
from hepxai.scan.space import Range, ScanError, Space, cards_with, name_of

Sampler = Literal["grid", "random", "tpe"]


@dataclass(frozen=True)
class Plan:
    """Settings of a scan.

    Attributes
    ----------
    space : Space
    seeds : int
        Trainings of every point, with seeds 1, 2, …
    sampler : str
        "grid" (all points), "random", or "tpe" (tree-structured Parzen estimator, Bergstra et al.,
        NIPS 2011).
    points : int
        Points to try.
    objectives : tuple of (str, str)
        Names in ``METRICS`` with "max" or "min".
    explain : int
        Validation events to explain, evenly spread, at most.
    prune : bool
        Stop trainings whose validation AUC stays below the median of the finished ones.
    sampler_seed : int
        Of "random" and "tpe".
    """

    space: Space
    seeds: int
    sampler: Sampler
    points: int
    objectives: tuple[tuple[str, Direction], ...]
    explain: int = 5000
    prune: bool = False
    sampler_seed: int = 0

    @property
    def trials(self) -> int:
        """Trainings in all."""
        return self.points * self.seeds

    @staticmethod
    def make(
        space: Space,
        *,
        seeds: int,
        sampler: str,
        trials: int | None,
        objectives: Sequence[str],
        explain: int,
        prune: bool,
        sampler_seed: int,
    ) -> Plan:
        """Plan from the options of a user, or a ScanError; ``trials`` counts points."""
        for name, number in (("seeds", seeds), ("events to explain", explain), ("trials", trials)):
            if number is not None and number < 1:
                raise ScanError(f"{number} {name}; at least 1 is needed")
        if sampler not in get_args(Sampler):
            raise ScanError(f"no sampler {sampler!r}; choose {', '.join(get_args(Sampler))}")
        points = _points(space, sampler, trials, seeds)
        directed = tuple(map(_objective, objectives))
        names = [name for name, _ in directed]
        for name in names:
            if names.count(name) > 1:
                raise ScanError(f"objective {name} is given twice; give it once")
        return Plan(space, seeds, sampler, points, directed, explain, prune, sampler_seed)  # type: ignore[arg-type]

    def check(self, folder: Path) -> None:
        """Validate the cards in ``folder`` with every point of a grid, otherwise with one value at a time.

        Raises
        ------
        CardError, ScanError
            If a card refuses a value, or lacks what an objective needs.
        """
        for overrides in self._variants():
            dataset, card = cards_with(folder, overrides)
            if EnsembleRun.fits(dataset, card):
                raise ScanError(
                    "a scan trains every point --seeds times, each on one split: leave training.trainings "
                    "and split.fold: all out"
                )
            if card.training.regression:
                raise ScanError(
                    "a scan compares models that tell classes apart; this model card learns numbers "
                    "(training.loss): make a run of each with `hepxai run`, and compare their metrics.json"
                )
            for name, _ in self.objectives:
                if "two classes" in METRICS[name].needs and len(dataset.labels) != 2:
                    others = ", ".join(n for n, m in METRICS.items() if m.direction and not m.lacks(dataset))
                    has = f"the data-set card {dataset.name} has {len(dataset.labels)}"
                    raise ScanError(f"objective {name} is for two classes, {has}; these work: {others}")
                if lacking := METRICS[name].lacks(dataset):
                    remedy = f"the data-set card {dataset.name} has none; add it, or choose another objective"
                    raise ScanError(f"objective {name} needs {lacking}; {remedy}")

    def _variants(self) -> list[list[str]]:
        if self.sampler == "grid":
            return [self.space.overrides(point, 1) for point in self.space.grid()]
        axes = self.space.axes
        return [Space((a,)).overrides({a.key: v}, 1) for a in axes for v in a.to_check()]

    def to_json(self) -> dict[str, Any]:
        """All settings."""
        names = ("seeds", "sampler", "points", "objectives", "explain", "prune", "sampler_seed")
        return {"over": self.space.to_json()} | {k: getattr(self, k) for k in names}

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Plan:
        """Plan of `to_json`."""
        rest = {k: v for k, v in stored.items() if k not in ("over", "objectives")}
        objectives = tuple((name, direction) for name, direction in stored["objectives"])
        for name, _ in objectives:
            _check_name(name)
        return Plan(space=Space.from_json(stored["over"]), objectives=objectives, **rest)


def _points(space: Space, sampler: str, trials: int | None, seeds: int) -> int:
    if not space.axes and (sampler != "grid" or seeds < 2):
        raise ScanError(
            "nothing to scan: give values, as in --over edge_dropout=0.1,0.2, or --seeds 3 for several "
            "trainings of the cards as they are"
        )
    if sampler == "grid":
        for axis in space.axes:
            if isinstance(axis, Range):
                raise ScanError(
                    f"{name_of(axis.key)}: a grid needs values, not a range; list them, or use --sampler tpe"
                )
        if trials not in (None, space.size):
            raise ScanError(f"a grid makes all of its {space.size} points; leave --trials out")
        return int(space.size)
    if trials is None:
        raise ScanError(f"--sampler {sampler} needs --trials, the number of points to try")
    if trials > space.size:
        whole = math.floor(space.size)
        raise ScanError(f"{trials} trials, but there are only {whole} points; use --sampler grid")
    return trials


def _objective(text: str) -> tuple[str, Direction]:
    name, colon, direction = text.partition(":")
    _check_name(name)
    metric = METRICS[name]
    if metric.direction is None:
        raise ScanError(f"{name} cannot be an objective: {metric.why_not}")
    if not colon:
        return name, metric.direction
    if direction not in ("max", "min"):
        raise ScanError(f"objective {text}: the direction is {direction!r}; write {name}:max or {name}:min")
    return name, direction  # type: ignore[return-value]


def _check_name(name: str) -> None:
    if name not in METRICS:
        possible = [n for n, m in METRICS.items() if m.direction is not None]
        raise ScanError(f"no objective {name!r}{nearest(name, possible)}; there are {', '.join(possible)}")
