"""One map for each detected box, its share inside the box, and its likeness to the maps of other boxes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.console import track
from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.jagged import IntArray, all_pairs
from hepxai.events import Events
from hepxai.events.boxes import Boxes
from hepxai.explainers import CheckWarning, explain
from hepxai.metrics.pixels import LitPixels, flat, row_correlation
from hepxai.models.protocols import Imaging

Floats = NDArray[np.float64]


class Detector(Protocol):
    """Detector whose boxes can be explained, as `hepxai.models.image.detection.model.DetectorModel`."""

    def detect(self, events: Events, *, score: float = 0.5) -> Boxes:
        """Detected boxes with at least this score."""
        ...

    def box_model(self, boxes: Boxes, box: int) -> Imaging:
        """Model whose one output is the score of a box."""
        ...


@dataclass(frozen=True)
class BoxMaps:
    """One map for each box.

    Attributes
    ----------
    attribution : Attribution
        Axes ("event", "row", "column"): a row for each box, with its event once for each of its boxes.
    boxes : Boxes
        Of N boxes in E events, in the order of the rows.
    """

    attribution: Attribution
    boxes: Boxes

    def __post_init__(self) -> None:
        if len(self.attribution.values) != len(self.boxes):
            raise ValueError(f"{len(self.attribution.values)} maps for {len(self.boxes)} boxes")

    def __repr__(self) -> str:
        return f"<BoxMaps: {self.attribution.method} of {self.boxes!r}>"

    def __len__(self) -> int:
        return len(self.boxes)

    def per_event(
        self, values: Floats, size: NDArray[np.number | np.bool_], event: IntArray | None = None
    ) -> Estimate:
        """Weighted ratio of two sums over boxes, or pairs of boxes; the events are the independent units.

        Parameters
        ----------
        values : ndarray, shape [N]
        size : ndarray, shape [N]
            True or 1 for the mean of the values; those with 0 are left out.
        event : ndarray of int, shape [N], optional
            Event of each number; by default that of each box.
        """
        event, number = self.boxes.event if event is None else event, len(self.boxes.offsets) - 1
        parts = (np.where(size != 0, values, 0.0), size.astype(np.float64))
        total, norm = (np.bincount(event, p, number).astype(np.float64) for p in parts)
        weight = np.zeros(number)
        weight[self.boxes.event] = self.attribution.events.weight
        return ratio_mean(total, norm, weight)


def explain_boxes(
    detector: Detector,
    events: Events,
    method: str,
    *,
    boxes: Boxes | None = None,
    score: float = 0.5,
    progress: bool = False,
    **settings: Any,
) -> BoxMaps:
    """Explain every detected box with a method for images.

    Parameters
    ----------
    detector : Detector
    events : Events
    method : str
        As in `hepxai.explain`; methods on feature maps use the layer "pyramid".
    boxes : Boxes, optional
        Boxes to explain, in the same events; by default those that the detector finds.
    score : float
        Smallest probability of a detected box.
    progress : bool
        Show a progress bar.
    **settings
        Of the method.

    Raises
    ------
    ValueError
        If there are no boxes at all; events without one have no map.

    Warns
    -----
    CheckWarning
        Once for all boxes, if checks of some maps failed.
    """
    boxes = detector.detect(events, score=score) if boxes is None else boxes
    if len(boxes.offsets) != len(events) + 1:
        raise ValueError(f"boxes of {len(boxes.offsets) - 1} events for {len(events)} events")
    if len(boxes) == 0:
        raise ValueError(
            f"none of {len(events)} images has a detected box with a score of at least {score:g}, so there "
            "is nothing to explain; give other events, or a lower score="
        )
    parts = []
    with track(f"{method} of boxes", len(boxes), show=progress) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckWarning)
        for box, row in enumerate(boxes.event.tolist()):
            parts.append(explain(detector.box_model(boxes, box), events[[row]], method, **settings))
            advance(1, "")
    _warn(method, parts)
    shared = {k: v for k, v in parts[0].settings.items() if all(p.settings.get(k) == v for p in parts)}
    return BoxMaps(Attribution.concatenate([p.replace(settings=shared) for p in parts]), boxes)


def _warn(method: str, parts: list[Attribution]) -> None:
    if doubtful := [p.concerns[0] for p in parts if p.concerns]:
        text = (
            f"{method}: checks failed for {len(doubtful)} of {len(parts)} boxes; of the first, {doubtful[0]}"
        )
        warnings.warn(text, CheckWarning, stacklevel=3)


def coverage(boxes: Boxes, rows: int, columns: int) -> Floats:
    """Covered part of every pixel ``[N, rows, columns]`` for each box, from 0 to 1."""

    def along(low: NDArray[np.floating], high: NDArray[np.floating], size: int) -> Floats:
        pixel = np.arange(size)
        part = np.minimum(high[:, None], pixel + 1) - np.maximum(low[:, None], pixel)
        return np.asarray(part.clip(0, 1), dtype=np.float64)

    left, bottom, right, top = boxes.edges.T
    return np.asarray(along(bottom, top, rows)[:, :, None] * along(left, right, columns)[:, None])


@dataclass(frozen=True)
class BoxShare:
    """Share of |map| inside the box that it explains, weighted mean over the boxes.

    Attributes
    ----------
    inside : Estimate
        Of |map| in the whole image.
    by_area : Estimate
        The same for a map with equal values in all pixels: the area of the box.
    inside_hits : Estimate
        Of |map| on lit pixels.
    by_hits : Estimate
        The same for a map with equal values on all lit pixels.
    left_out : int
        Boxes whose map is 0 everywhere, or on all lit pixels.
    """

    inside: Estimate
    by_area: Estimate
    inside_hits: Estimate
    by_hits: Estimate
    left_out: int

    def __repr__(self) -> str:
        hits = f"of that on hits {self.inside_hits}, by chance {self.by_hits}"
        return f"<BoxShare: {self.inside} inside, by chance {self.by_area}; {hits}; {self.left_out} left out>"


def box_share(maps: BoxMaps) -> BoxShare:
    """Share of each map inside its box, with the values by chance; see `BoxShare`."""
    values = np.abs(flat(maps.attribution))
    rows, columns = maps.attribution.values.shape[1:]
    covered = coverage(maps.boxes, rows, columns).reshape(len(values), -1)
    lit = LitPixels.lit(maps.attribution.events)
    is_lit = np.zeros(values.shape, dtype=bool)
    is_lit[lit.event, lit.place] = True
    on_hits = values * is_lit
    used = (on_hits.sum(1) > 0) & (values.sum(1) > 0)

    def share(weights: Floats) -> Estimate:
        total = weights.sum(1)
        part = np.divide((weights * covered).sum(1), total, out=np.zeros(len(total)), where=total > 0)
        return maps.per_event(part, used).within("share of a map", 0, 1)

    return BoxShare(
        inside=share(values),
        by_area=share(np.ones_like(values)),
        inside_hits=share(on_hits),
        by_hits=share(is_lit.astype(np.float64)),
        left_out=int(np.count_nonzero(~used)),
    )


@dataclass(frozen=True)
class MapSimilarity:
    """Likeness of the maps of different boxes in one image, mean over all pairs of boxes.

    Attributes
    ----------
    correlation : Estimate
        Pearson's correlation of the signed values over the pixels.
    identical : float
        Share of the pairs whose maps are equal up to rounding: the method does not tell objects apart.
    pairs : int
        Pairs of boxes, those with a constant map left out.
    """

    correlation: Estimate
    identical: float
    pairs: int

    def __repr__(self) -> str:
        identical = f"{100 * self.identical:.3g} % of {self.pairs} pairs identical"
        return f"<MapSimilarity: correlation {self.correlation}, {identical}>"


def map_similarity(maps: BoxMaps) -> MapSimilarity:
    """Compare the maps of the boxes of each image with each other.

    Raises
    ------
    ValueError
        If no image has two boxes.
    """
    first, second = _pairs(maps.boxes.offsets)
    if len(first) == 0:
        raise ValueError("no image has two boxes whose maps could be compared; give more events")
    values = flat(maps.attribution)
    values = values - values.mean(1, keepdims=True)
    correlation = row_correlation(values[first], values[second])
    used = np.isfinite(correlation)
    mean = maps.per_event(correlation, used, maps.boxes.event[first])
    difference = np.abs(values[first] - values[second]).max(1)
    identical = difference <= 1e-4 * np.abs(values).max(1)[first]
    share = float(np.mean(identical[used])) if used.any() else np.nan
    return MapSimilarity(mean, share, int(np.count_nonzero(used)))


def _pairs(offsets: IntArray) -> tuple[IntArray, IntArray]:
    src, dst, _ = all_pairs(offsets)
    return src[src < dst], dst[src < dst]
