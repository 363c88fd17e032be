"""Choice of the noise level and of the number of copies of SmoothGrad on given images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.files import read_json, write_json
from hepxai.core.fingerprint import fingerprint
from hepxai.core.resume import ResumableState
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.image.images import baseline_image
from hepxai.explainers.methods import configure, explain
from hepxai.metrics.pixels import map_correlation, truth_share
from hepxai.models.protocols import DifferentiableImage

MEASURES = ("share", "chance", "of_all", "stability")


@dataclass(frozen=True)
class SmoothPoint:
    """Figures of merit of one noise level and number of copies.

    Attributes
    ----------
    level : float
    samples : int
    share, chance : Estimate
        Share of |attribution| on the true hits among all lit pixels, and that of a map with equal values on
        all lit pixels; see `hepxai.metrics.pixels.TruthShare`.
    of_all : Estimate
        Share of the whole image.
    stability : Estimate
        Correlation over the pixels between the maps of two seeds, mean over events.
    """

    level: float
    samples: int
    share: Estimate
    chance: Estimate
    of_all: Estimate
    stability: Estimate

    def __repr__(self) -> str:
        figures = f"share {self.share:.3g}, stability {self.stability:.3g}"
        return f"<SmoothPoint: level {self.level:g}, {self.samples} samples, {figures}>"


@dataclass(frozen=True)
class SmoothScan:
    """Points of a scan, and the choice among them.

    Attributes
    ----------
    points : tuple of SmoothPoint
    choice : SmoothPoint
        Among the points whose stability is at least ``stable`` (the most stable one, if none is): of those
        whose share is within its error of the best, the one of the fewest copies, then of the least noise.
    stable : float
    """

    points: tuple[SmoothPoint, ...]
    choice: SmoothPoint
    stable: float

    @property
    def steady(self) -> bool:
        """True if the choice is as stable as requested; else more copies, or less noise, are needed."""
        return bool(self.choice.stability.value >= self.stable)

    def __repr__(self) -> str:
        doubt = "" if self.steady else f", less stable than {self.stable:g}"
        return f"<SmoothScan: {len(self.points)} points, chosen {self.choice!r}{doubt}>"

    def save(self, path: Path) -> None:
        """Write the points to a JSON file, complete or not at all."""
        points = [
            {"level": p.level, "samples": p.samples, **as_json({m: getattr(p, m) for m in MEASURES})}
            for p in self.points
        ]
        write_json(path, {"points": points, "stable": self.stable})

    @staticmethod
    def load(path: Path) -> SmoothScan:
        """Read a file written by `save`."""
        content = read_json(path)
        points = [
            SmoothPoint(p["level"], p["samples"], **{m: Estimate.from_json(p[m]) for m in MEASURES})
            for p in content["points"]
        ]
        return SmoothScan(tuple(points), _choice(points, content["stable"]), content["stable"])


def scan_smoothgrad(
    model: DifferentiableImage,
    events: Events,
    target: str,
    *,
    truth: str,
    levels: Sequence[float] = (0.005, 0.01, 0.02, 0.05, 0.1),
    samples: Sequence[int] = (10, 25, 50, 100),
    stable: float = 0.9,
    seed: int = 0,
    unfinished: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> SmoothScan:
    """Try noise levels and numbers of copies, each with two seeds.

    Parameters
    ----------
    model : DifferentiableImage
    events : Events
        With true hits; a hundred or so give errors of a few percent.
    target : str
    truth : str
        A key of ``events.truth``.
    levels, samples : sequence
    stable : float
        Required stability.
    seed : int
        The first of the two.
    unfinished : path, optional
        File that the points are written to now and then. The same call resumes from there after an
        interruption; it is removed at the end.
    progress : bool
    **settings
        Others of `hepxai.explainers.image.smoothgrad.SmoothGrad`: ``noise="salt"``, ``base="image_ig"`` …

    Raises
    ------
    ValueError
        If there is nothing to try, no event has a true hit, or ``unfinished`` is the state of something else.
    CannotExplainError
        ``unfinished`` is given, and the model shows no torch module to tell it from others by.
    """
    grid = list(product(levels, samples))
    if not grid:
        raise ValueError("nothing to try: levels or samples are empty")
    table = np.full((len(grid), len(MEASURES), 3), np.nan)
    request = {"target": target, "truth": truth, "seed": seed, "grid": [list(map(str, g)) for g in grid]}
    key = "" if unfinished is None else _key(model, events, settings, **request)
    state = ResumableState(unfinished, key, {"points": table})
    for point in state.blocks("smoothgrad scan", len(grid), 1, progress=progress):
        level, copies = grid[point.start]
        maps = partial(explain, model, events, "smoothgrad", target=target, level=level, samples=copies)
        table[point] = _point(partial(maps, **settings), truth, seed)
    points = [_as_point(*place, numbers) for place, numbers in zip(grid, table, strict=True)]
    if not any(p.share.n_eff > 0 for p in points):
        raise ValueError(f"no event has a hit of {truth!r} with attribution: there is no share to go by")
    return SmoothScan(tuple(points), _choice(points, stable), stable)


def _point(maps: Callable[..., Attribution], truth: str, seed: int) -> NDArray[np.float64]:
    """Value, error and effective number of events of each of `MEASURES`."""
    first, second = (maps(seed=s) for s in (seed, seed + 1))
    share, stability = truth_share(first, truth), map_correlation(first, second).mean
    estimates = (share.among_hits, share.chance, share.of_all, stability)
    return np.array([(e.value, e.error, e.n_eff) for e in estimates])


def _as_point(level: float, samples: int, numbers: NDArray[np.float64]) -> SmoothPoint:
    estimates = (Estimate(np.asarray(value), np.asarray(error), float(n)) for value, error, n in numbers)
    return SmoothPoint(level, samples, **dict(zip(MEASURES, estimates, strict=True)))


def _key(model: DifferentiableImage, events: Events, settings: dict[str, Any], **request: Any) -> str:
    if not hasattr(model, "module"):
        raise CannotExplainError(
            f"{type(model).__name__} has no `module` with its parameters, so that a state could be that of "
            "another model; leave `unfinished` out"
        )
    explainer: Any = configure("smoothgrad", settings)
    baseline = baseline_image(explainer.baseline, events)
    return fingerprint(explainer.settings() | request | {"baseline": baseline}, model, events, events.weight)


def _choice(points: Sequence[SmoothPoint], stable: float) -> SmoothPoint:
    steady = [p for p in points if p.stability.value >= stable]
    if not steady:
        return max(points, key=lambda p: float(p.stability.value))
    best = max(steady, key=lambda p: float(p.share.value))
    good = [p for p in steady if p.share.value >= best.share.value - best.share.error]
    return min(good, key=lambda p: (p.samples, p.level))
