"""PartitionSHAP of images: Owen values of a hierarchy of blocks."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.jagged import IntArray
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.perturbation import Pair
from hepxai.explainers.image.segments import Array, Mask, SegmentGame, SegmentShares
from hepxai.explainers.methods import register

TOGETHER = 32
"""Nodes that are split at a time."""
UNRESOLVED = 0.5
"""Share of a map in blocks that could not be split, beyond which there is a warning."""


@register("image_partition_shap")
class ImagePartitionShap(SegmentShares):
    """Owen values of blocks of an image that is halved again and again.

    The image is halved along its longer side, each half again, down to ``block``. A half gets its gain in the
    mean of two cases: the other half is at the baseline, or as in the image. Inside each half it is the same,
    in both cases: an Owen value [in: Essays in Mathematical Economics and Game Theory (1977) 76] is a Shapley
    value over those orders only in which the blocks of each half follow each other. That costs about m²
    scores for m blocks, instead of 2^m.

    With fewer ``evaluations`` the nodes with the largest gains are split first; what is left is spread evenly
    over the pixels of its node. The map adds up to the change in any case.

    shap's own implementation would need OpenCV, replaces pixels by whole numbers, and spends its evaluations
    on dark blocks, too: here blocks at the baseline are no players.

    Attributes
    ----------
    evaluations : int
        Scores for each event, at most.
    block : tuple of int
        Rows and columns of the smallest blocks.
    baseline, blur
        See `hepxai.explainers.image.segments.SegmentExplainer`.
    """

    title = "Owen values of a hierarchy of blocks (image PartitionSHAP)"
    short_title = "image PartitionSHAP"
    block: Pair = (1, 1)
    evaluations: int = Field(default=1000, ge=2)

    def no_checks(self) -> dict[str, float]:
        """Checks of an image that is its baseline."""
        return {"unresolved": np.nan}

    def shares(self, game: SegmentGame, batch: Batch[Tensor], empty: float, full: float) -> Part:
        """Signed map, and the share of it that was not traced down to the smallest blocks."""
        owen = OwenValues(game, Node.of(game, self.block), empty, full)
        owen.split(self.evaluations - 2)
        values, unresolved = owen.total()
        change = np.array([full - empty])
        return Part(values=game.spread(values)[None], output_change=change, checks={"unresolved": unresolved})

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Completeness, and the mean share that was not traced down to the smallest blocks."""
        return {**super().checks(attribution), "unresolved": 0.0, **attribution.checks}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Concerns of completeness, and of blocks that could not be split."""
        if (share := checks.get("unresolved", 0.0)) <= UNRESOLVED:
            return super().concerns(checks)
        coarse = (
            f"{share:.0%} of the map is spread over blocks that {self.evaluations} evaluations did not "
            "suffice to split; give more evaluations, or a larger block"
        )
        return (*super().concerns(checks), coarse)


@dataclass(frozen=True)
class Node:
    """A rectangle of blocks, and the players in it.

    Attributes
    ----------
    members : ndarray of int
        Players.
    place : ndarray of int, shape [P, 2]
        Row and column of the block of every player of the image, in blocks.
    first, last : ndarray of int, shape [2]
        First row and column of blocks, and those behind the last.
    block : tuple of int
    """

    members: IntArray
    place: IntArray
    first: IntArray
    last: IntArray
    block: tuple[int, int]

    @staticmethod
    def of(game: SegmentGame, block: tuple[int, int]) -> Node:
        """All players of an image."""
        pixel = np.unique(game.player[game.player >= 0], return_index=True)[1]
        place = np.argwhere(game.player >= 0)[pixel] // block
        last = (np.array(game.player.shape) - 1) // np.array(block) + 1
        return Node(np.arange(len(place)), place, np.zeros(2, dtype=np.int64), last, block)

    @property
    def mask(self) -> Mask:
        """True for the players of the node, ``[P]``."""
        return np.isin(np.arange(len(self.place)), self.members)

    @cached_property
    def halves(self) -> tuple[Node, Node]:
        """Halves along the longer side in pixels, after halves without players are left out."""
        size = self.last - self.first
        axis = int(np.argmax(np.where(size > 1, size * self.block, 0)))
        cut = np.zeros(2, dtype=np.int64)
        cut[axis] = (self.first[axis] + self.last[axis]) // 2
        is_before = self.place[self.members, axis] < cut[axis]
        lower = replace(self, members=self.members[is_before], last=np.where(cut > 0, cut, self.last))
        upper = replace(self, members=self.members[~is_before], first=np.where(cut > 0, cut, self.first))
        if is_before.all() or not is_before.any():
            return (lower if is_before.all() else upper).halves
        return lower, upper


class Case(NamedTuple):
    """A node of the hierarchy, and the other players that are as in the image."""

    priority: float  # minus |weight * (full - empty)|: the heap has the smallest first
    number: int  # breaks ties
    node: Node
    others: Mask
    empty: float
    full: float
    weight: float

    @property
    def gain(self) -> float:
        """Share of the change of the score."""
        return self.weight * (self.full - self.empty)


class OwenValues:
    """Owen values of the players of an image, from as many scores as are allowed.

    Attributes
    ----------
    values : ndarray, shape [P]
        Of nodes with one player.
    cases : list of Case
        Heap of nodes that are not split.
    """

    def __init__(self, game: SegmentGame, root: Node, empty: float, full: float) -> None:
        self.game, self.values, self.number = game, np.zeros(len(game.pixels)), count()
        self.cases: list[Case] = []
        self._add(root, ~root.mask, empty, full, 1.0)

    def _add(self, node: Node, others: Mask, empty: float, full: float, weight: float) -> None:
        priority = -abs(weight * (full - empty))
        case = Case(priority, next(self.number), node, others, empty, full, weight)
        if len(node.members) == 1:
            self.values[node.members] += case.gain
        else:
            heapq.heappush(self.cases, case)

    def split(self, evaluations: int) -> None:
        """Split the nodes with the largest gains, at the cost of two scores for each."""
        while self.cases and evaluations >= 2:
            number = min(TOGETHER, len(self.cases), evaluations // 2)
            evaluations -= 2 * number
            cases = [heapq.heappop(self.cases) for _ in range(number)]
            with_half = np.stack([c.others | half.mask for c in cases for half in c.node.halves])
            for case, scores in zip(cases, self.game.scores(with_half).reshape(-1, 2), strict=True):
                self._add_halves(case, *map(float, scores))

    def _add_halves(self, case: Case, lower: float, upper: float) -> None:
        """Both halves, each without and with the other; ``lower``, ``upper`` are the scores with one half."""
        weight, (one, two) = case.weight / 2, case.node.halves
        self._add(one, case.others, case.empty, lower, weight)
        self._add(one, case.others | two.mask, upper, case.full, weight)
        self._add(two, case.others, case.empty, upper, weight)
        self._add(two, case.others | one.mask, lower, case.full, weight)

    def total(self) -> tuple[Array, float]:
        """Values ``[P]`` with the gains of unsplit nodes spread over their pixels, and the share of those."""
        values, left = self.values.copy(), sum(abs(case.gain) for case in self.cases)
        for case in self.cases:
            pixels = self.game.pixels[case.node.members]
            values[case.node.members] += case.gain * pixels / pixels.sum()
        return values, left / (left + float(np.abs(self.values).sum()) or 1.0)
