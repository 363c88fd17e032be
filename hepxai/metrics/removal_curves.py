"""Deletion and insertion: the output while more and more pixels are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hepxai.attribution import Attribution
from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.events import Events
from hepxai.metrics.removals import Baseline, RemovablePixels, Score, has_sign, rounded


@dataclass(frozen=True)
class RemovalCurve:
    """Output against the fraction of the pixels that were removed, or inserted.

    Attributes
    ----------
    fraction : ndarray, shape [S+1]
        From 0 to 1, of the pixels that differ from the baseline.
    outputs : ndarray, shape [E, S+1]
    weight : ndarray, shape [E]
    inserts : bool
        True if pixels were inserted into the baseline, the first ones first.
    """

    fraction: Array
    outputs: Array
    weight: Array
    inserts: bool = False

    def __repr__(self) -> str:
        kind = "insertion" if self.inserts else "deletion"
        return f"<RemovalCurve: {kind}, area {self.area}, {len(self.outputs):,} events>"

    @property
    def change(self) -> Array:
        """Output of the image minus that of its baseline, ``[E]``."""
        step = self.outputs[:, -1] - self.outputs[:, 0]
        return rounded(step if self.inserts else -step, self.outputs[:, 0])

    @property
    def mean(self) -> Estimate:
        """Output relative to the whole change, ``[S+1]``; 1 is the image, 0 the baseline.

        ``Σ w s (F_k - F_baseline) / Σ w |Δ|`` with the change ``Δ = F_image - F_baseline`` of each event and
        its sign s: events with little change count little. Logits, regressions and changes of both signs are
        treated alike.
        """
        start = self.outputs[:, 0 if self.inserts else -1, None]
        signed = np.sign(self.change)[:, None] * (self.outputs - start)
        return ratio_mean(signed, np.abs(self.change), self.weight)

    @property
    def areas(self) -> Array:
        """Area under the curve of each event relative to its change, ``[E]``; NaN where nothing changes."""
        start = self.outputs[:, 0 if self.inserts else -1, None]
        change = np.where(self.change == 0, np.nan, self.change)
        middle = (self.outputs[:, 1:] + self.outputs[:, :-1]) / 2
        return np.asarray((np.diff(self.fraction) * (middle - start)).sum(1) / change)

    @property
    def area(self) -> Estimate:
        """Area under the curve relative to the whole change: mean of `areas` weighted by |change|."""
        size = np.abs(self.change)
        return ratio_mean(np.where(size > 0, self.areas * size, 0.0), size, self.weight)


def removal_curve(
    score: Score,
    attribution: Attribution,
    *,
    inserts: bool = False,
    order: Literal["value", "size"] | None = None,
    steps: int = 16,
    baseline: Baseline = 0.0,
) -> RemovalCurve:
    """Deletion or insertion curve of a map [Samek et al., arXiv:1509.06321; RISE, arXiv:1806.07421].

    Parameters
    ----------
    score : callable
        Images ``[B, T, R, C]`` to the explained output ``[B]``.
    attribution : Attribution
        Map over pixels.
    inserts : bool
        Insert pixels into the baseline (a large area is good); else delete them (a small area is good).
    order : {"value", "size"}, optional
        "value": pixels first that drive the change of the output, the value of the map times the sign of the
        change; "size": the largest |value| first. By default "value" for maps with negative values.
    steps : int
        The images between have k/steps of the pixels.
    baseline : float, ndarray or callable
        Value of a removed pixel.

    Returns
    -------
    RemovalCurve
        A linear model and its exact map have the smallest possible area of deletion. Area and curve of a
        random order: `random_curve`.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}; at least 1 is needed")
    outputs = np.empty((len(attribution.events), steps + 1))
    by_value = has_sign(attribution) if order is None else order == "value"
    for rows, pixels in RemovablePixels.chunks(attribution.events, baseline):
        everything = np.ones((1, len(pixels.place)), dtype=bool)
        ends = pixels.outputs(score, np.concatenate([~everything, everything]))
        key = pixels.values(attribution[rows])
        key = key * np.sign(ends[:, 0] - ends[:, 1])[pixels.event] if by_value else np.abs(key)
        outputs[rows] = _along(score, pixels, key, steps, ends, inserts)
    fraction = np.linspace(0, 1, steps + 1)
    return RemovalCurve(fraction, outputs, attribution.events.weight, inserts)


def random_curve(
    score: Score,
    events: Events,
    *,
    orders: int = 4,
    steps: int = 16,
    baseline: Baseline = 0.0,
    seed: int = 0,
) -> RemovalCurve:
    """Deletion curve of pixels in random order, the mean of some orders: the curve by chance.

    The area of insertion by chance is the same: the reverse of a random order is a random order.
    """
    outputs = np.zeros((len(events), steps + 1))
    for rows, pixels in RemovablePixels.chunks(events, baseline):
        everything = np.ones((1, len(pixels.place)), dtype=bool)
        ends = pixels.outputs(score, np.concatenate([~everything, everything]))
        for key in pixels.uniform(seed, orders):
            outputs[rows] += _along(score, pixels, key, steps, ends, False) / orders
    return RemovalCurve(np.linspace(0, 1, steps + 1), outputs, events.weight)


def _along(
    score: Score, pixels: RemovablePixels, key: Array, steps: int, ends: Array, inserts: bool
) -> Array:
    """Outputs ``[B, steps + 1]`` along the order of a key; ``ends`` with all pixels and without any."""
    cuts = np.round(np.arange(1, steps)[:, None] * pixels.counts / steps)[:, pixels.event]
    first = pixels.ranks(key) < cuts
    between = pixels.outputs(score, ~first if inserts else first)
    full, empty = ends[:, :1], ends[:, 1:]
    return np.concatenate([empty, between, full] if inserts else [full, between, empty], axis=1)
