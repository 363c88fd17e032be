"""How much noise, and how many noisy copies, SmoothGrad needs on these images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hepxai.estimate import Estimate
from hepxai.events import Events
from hepxai.explain.base import explain
from hepxai.metrics.pixels import map_correlation, truth_share
from hepxai.models.base import DifferentiableImage
from hepxai.progress import track


@dataclass(frozen=True)
class SmoothPoint:
    """What one noise level and number of copies gives.

    Attributes
    ----------
    level : float
    samples : int
    share, chance : Estimate
        Share of |attribution| on the true hits among all lit pixels, and that of a map which treats all lit
        pixels alike; see `hepxai.metrics.pixels.TruthShare`.
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
        Stability that is asked for.
    seed : int
        The first of the two.
    progress : bool
    **settings
        Others of `hepxai.explain.smoothgrad.SmoothGrad`: ``noise="salt"``, ``base="image_ig"`` …

    Raises
    ------
    ValueError
        If there is nothing to try, or no event has a true hit.
    """
    grid = list(product(levels, samples))
    if not grid:
        raise ValueError("nothing to try: levels or samples are empty")
    points = []
    with track("smoothgrad scan", len(grid), show=progress) as advance:
        for level, copies in grid:
            points.append(_point(model, events, target, truth, seed, settings, level, copies))
            advance(1, f"level {level}, {copies} copies")
    if not any(p.share.n_eff > 0 for p in points):
        raise ValueError(f"no event has a hit of {truth!r} with attribution: there is no share to go by")
    return SmoothScan(tuple(points), _choice(points, stable), stable)


def _point(
    model: DifferentiableImage,
    events: Events,
    target: str,
    truth: str,
    seed: int,
    settings: dict[str, Any],
    level: float,
    samples: int,
) -> SmoothPoint:
    first, second = (
        explain(model, events, "smoothgrad", target=target, level=level, samples=samples, seed=s, **settings)
        for s in (seed, seed + 1)
    )
    share = truth_share(first, truth)
    return SmoothPoint(
        level, samples, share.among_hits, share.chance, share.of_all, map_correlation(first, second).mean
    )


def _choice(points: Sequence[SmoothPoint], stable: float) -> SmoothPoint:
    steady = [p for p in points if p.stability.value >= stable]
    if not steady:
        return max(points, key=lambda p: float(p.stability.value))
    best = max(steady, key=lambda p: float(p.share.value))
    good = [p for p in steady if p.share.value >= best.share.value - best.share.error]
    return min(good, key=lambda p: (p.samples, p.level))
