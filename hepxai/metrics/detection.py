"""Recall, precision and average precision of detected boxes, with errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.jagged import IntArray, local_index, offsets_from_counts, parents
from hepxai.events.boxes import NONE, Boxes, overlaps

Floats = NDArray[np.float64]
REPLICAS = 200
"""Bootstrap samples for the error of an average precision."""


def match_boxes(detected: Boxes, true: Boxes, *, overlap: float = 0.5, same_class: bool = True) -> IntArray:
    """True box of each detected one, ``[N]``, as its position in ``true``; -1 without one.

    As in the evaluation of COCO: in the order of their scores, detected boxes of an event take the true box
    that they overlap most with, if that is at least ``overlap`` and no better one has taken it. A lower
    threshold on the scores therefore changes no match above it.

    Parameters
    ----------
    detected, true : Boxes
        Of the same events.
    overlap : float
        Smallest intersection over union of a match.
    same_class : bool
        Match boxes of the same class only.
    """
    d, t = _pairs_of_events(detected.offsets, true.offsets)
    shared = overlaps(detected.edges[d], true.edges[t])
    possible = (shared >= overlap) & ((detected.label[d] == true.label[t]) | (not same_class))
    order = np.lexsort((-shared, d))
    order = order[possible[order]]
    d, t = d[order], t[order]
    match = np.full(len(detected), NONE)
    rank = np.empty(len(detected), dtype=np.int64)
    rank[np.argsort(-detected.score, kind="stable")] = np.arange(len(detected))
    # All boxes ask for their best true box, which accepts the highest score; the refused ones ask for their
    # next best. Since all true boxes prefer the higher score, the result is that of the order of the scores.
    while len(d):
        asks = np.flatnonzero(np.diff(d, prepend=-1))
        winner = np.full(len(true), len(detected))
        np.minimum.at(winner, t[asks], rank[d[asks]])
        refused = asks[rank[d[asks]] > winner[t[asks]]]
        if len(refused) == 0:
            match[d[asks]] = t[asks]
            break
        d, t = np.delete(d, refused), np.delete(t, refused)
    return match


def _pairs_of_events(one: IntArray, other: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of an item of ``one`` with an item of ``other`` in the same event."""
    partners = np.diff(other)[parents(one)]
    pairs = offsets_from_counts(partners)
    first = parents(pairs)
    return first, other[parents(one)[first]] + local_index(pairs)


@dataclass(frozen=True)
class Detection:
    """Detected boxes that were compared with the true ones.

    Attributes
    ----------
    detected, true : Boxes
    match : ndarray of int64, shape [N]
        From `match_boxes`.
    weight : ndarray of float64, shape [E]
        Of the events, which are the independent units of all errors.
    """

    detected: Boxes
    true: Boxes
    match: IntArray
    weight: Floats

    @staticmethod
    def of(
        detected: Boxes, true: Boxes, weight: Floats, *, overlap: float = 0.5, same_class: bool = True
    ) -> Detection:
        """Compare boxes; see `match_boxes`."""
        match = match_boxes(detected, true, overlap=overlap, same_class=same_class)
        return Detection(detected, true, match, weight)

    def recall(self, score: float = 0.0, name: str | None = None) -> Estimate:
        """Share of the true boxes with a match of at least this score, of a class or of all."""
        is_found = np.zeros(len(self.true), dtype=bool)
        is_found[self.match[(self.match != NONE) & (self.detected.score >= score)]] = True
        return self._share(is_found, self.true, self._of_class(self.true, name), "recall")

    def precision(self, score: float = 0.0, name: str | None = None) -> Estimate:
        """Share of the detected boxes of at least this score with a match, of a class or of all."""
        chosen = self._of_class(self.detected, name) & (self.detected.score >= score)
        return self._share(self.match != NONE, self.detected, chosen, "precision")

    def _share(
        self, is_matched: NDArray[np.bool_], boxes: Boxes, chosen: NDArray[np.bool_], what: str
    ) -> Estimate:
        event, events = boxes.event, len(self.weight)
        total = np.bincount(event[is_matched & chosen], minlength=events).astype(np.float64)
        size = np.bincount(event[chosen], minlength=events)
        return ratio_mean(total, size, self.weight).bounded(what)

    @staticmethod
    def _of_class(boxes: Boxes, name: str | None) -> NDArray[np.bool_]:
        if name is None:
            return np.ones(len(boxes), dtype=bool)
        if name not in boxes.classes:
            raise KeyError(f"no class {name!r} of boxes; there are {', '.join(boxes.classes)}")
        return np.asarray(boxes.label == boxes.classes.index(name))

    def average_precision(self, name: str | None = None) -> Estimate:
        """Area under precision against recall of a class; the mean over the classes by default.

        The precision at a recall is the highest at this or any larger recall [Everingham et al., Int. J.
        Comput. Vision 88 (2010) 303, since 2010]. The error is the spread over bootstrap samples of the
        events. A class without true boxes has none (NaN) and is left out of the mean.
        """
        names = self.true.classes if name is None else (name,)
        rng = np.random.default_rng(0)
        factors = np.concatenate(
            [np.ones((1, len(self.weight))), rng.poisson(1.0, (REPLICAS, len(self.weight)))]
        )
        areas = np.stack([self._areas(n, self.weight * factors) for n in names], 1)
        known = ~np.isnan(areas[0])
        if not known.any():
            return Estimate(np.asarray(np.nan), np.asarray(np.nan), 0.0)
        areas = areas[:, known]
        means = np.nanmean(areas[~np.isnan(areas).all(1)], 1)  # a sample may lack true boxes
        n_eff = float(self.weight.sum() ** 2 / np.sum(self.weight**2))
        estimate = Estimate(np.asarray(means[0]), np.asarray(np.nanstd(means[1:], ddof=1)), n_eff)
        return estimate.bounded("average precision")

    def _areas(self, name: str, weight: Floats) -> Floats:
        """Area for each row of weights ``[R, E]``."""
        chosen = np.flatnonzero(self._of_class(self.detected, name))
        order = chosen[np.argsort(-self.detected.score[chosen], kind="stable")]
        weights = weight[:, self.detected.event[order]]
        matched = np.cumsum(weights * (self.match[order] != NONE), 1)
        total = weight[:, self.true.event[self._of_class(self.true, name)]].sum(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num(matched / np.cumsum(weights, 1))
            recall = matched / np.where(total > 0, total, np.nan)
        envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        areas = np.sum(np.diff(recall, prepend=0.0, axis=1) * envelope, 1)
        return np.where(total[:, 0] > 0, areas, np.nan)
