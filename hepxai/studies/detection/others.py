"""Whether a map is about its own box: comparison with the other boxes of the same image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Estimate
from hepxai.metrics.pixels import flat
from hepxai.metrics.removals import RemovablePixels
from hepxai.studies.detection.numbers import BoxMaps, Detector, Floats, coverage

NO_OTHERS = "no image has two boxes with maps to compare; give more events"


@dataclass(frozen=True)
class OtherShare:
    """Share of |map| inside its own box and inside another box of the same image, mean over the boxes.

    Attributes
    ----------
    same, other : Estimate
        ``other`` is the mean over all other boxes of the image.
    difference : Estimate
        Paired; 0 up to rounding for a method with the same map for every box.
    boxes : int
        Boxes with others in their image; maps that are 0 everywhere are left out.
    """

    same: Estimate
    other: Estimate
    difference: Estimate
    boxes: int

    def __repr__(self) -> str:
        return f"<OtherShare: same {self.same}, other {self.other}, difference {self.difference}>"


def other_share(maps: BoxMaps) -> OtherShare:
    """Compare each map's share inside its own box with that inside the others; see `OtherShare`.

    Raises
    ------
    ValueError
        If no image has two boxes with maps.
    """
    values, offsets = np.abs(flat(maps.attribution)), maps.boxes.offsets
    covered = coverage(maps.boxes, *maps.attribution.values.shape[1:]).reshape(len(values), -1)
    same, other = np.zeros((2, len(maps)))
    for start, end in pairwise(offsets.tolist()):
        here = slice(start, end)
        inside = values[here] @ covered[here].T
        total = values[here].sum(1, keepdims=True)
        share = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)
        same[here] = np.diag(share)
        other[here] = (share.sum(1) - same[here]) / max(end - start - 1, 1)
    used = (values.sum(1) > 0) & (np.diff(offsets)[maps.boxes.event] > 1)
    if not used.any():
        raise ValueError(NO_OTHERS)
    return OtherShare(
        same=maps.per_event(same, used).within("share of a map", 0, 1),
        other=maps.per_event(other, used).within("share of a map", 0, 1),
        difference=maps.per_event(same - other, used),
        boxes=int(np.count_nonzero(used)),
    )


@dataclass(frozen=True)
class BoxDeletion:
    """Loss of a box's score when some lit pixels are removed, relative to the score: ratio of the means.

    Attributes
    ----------
    same : Estimate
        Pixels with the largest values of the box's own map.
    other : Estimate
        Those of the maps of the other boxes of the image, mean.
    random : Estimate
        Random lit pixels of the image, as many.
    inside : Estimate
        The same, those inside the box first: the loss for a map that only shades its box.
    same_other, same_random, same_inside : Estimate
        Paired differences.
    boxes : int
        Boxes with others in their image.
    """

    same: Estimate
    other: Estimate
    random: Estimate
    inside: Estimate
    same_other: Estimate
    same_random: Estimate
    same_inside: Estimate
    boxes: int

    def __repr__(self) -> str:
        names = ("same", "other", "random", "inside")
        return f"<BoxDeletion: {', '.join(f'{n} {getattr(self, n)}' for n in names)}>"


def box_deletion(
    detector: Detector, maps: BoxMaps, *, fraction: float = 0.1, draws: int = 8, seed: int = 0
) -> BoxDeletion:
    """Remove the strongest lit pixels of each map and compute the score of its box again; see `BoxDeletion`.

    Parameters
    ----------
    detector : Detector
    maps : BoxMaps
    fraction : float
        Of the lit pixels of the image; at least one is removed.
    draws : int
        Random sets of pixels for each box.
    seed : int

    Raises
    ------
    ValueError
        If no image has two boxes, or the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction:g}; give a number between 0 and 1")
    boxes, covered = maps.boxes, coverage(maps.boxes, *maps.attribution.values.shape[1:])
    covered = covered.reshape(len(maps), -1)
    score, losses = np.zeros(len(maps)), np.zeros((4, len(maps)))
    used = np.diff(boxes.offsets)[boxes.event] > 1
    if not used.any():
        raise ValueError(NO_OTHERS)
    for place in np.flatnonzero(used).tolist():
        others = [k for k in np.flatnonzero(boxes.event == boxes.event[place]).tolist() if k != place]
        image = RemovablePixels.of(maps.attribution.events[[place]])
        by_map = [image.values(maps.attribution[k : k + 1]) for k in (place, *others)]
        random = image.uniform(seed, draws)
        within = random + (covered[place, image.place] >= 0.5)
        size = max(1, round(fraction * len(image.place)))
        removed = [image.ranks(key) < size for key in (*by_map, *random, *within)]
        outputs = _outputs(detector, maps, place, image, np.stack([np.zeros_like(removed[0]), *removed]))
        score[place], loss = outputs[0], outputs[0] - outputs[1:]
        kinds = np.split(loss, np.cumsum([1, len(others), draws]))
        losses[:, place] = [k.mean() for k in kinds]
    same, other, random, inside = losses
    return BoxDeletion(
        same=maps.per_event(same, score),
        other=maps.per_event(other, score),
        random=maps.per_event(random, score),
        inside=maps.per_event(inside, score),
        same_other=maps.per_event(same - other, score),
        same_random=maps.per_event(same - random, score),
        same_inside=maps.per_event(same - inside, score),
        boxes=int(np.count_nonzero(used)),
    )


def _outputs(
    detector: Detector, maps: BoxMaps, place: int, image: RemovablePixels, removed: NDArray[np.bool_]
) -> Floats:
    """Score ``[M]`` of a box in its image without the pixels of ``removed [M, L]``."""
    model = detector.box_model(maps.boxes, place)
    scores: Floats = image.outputs(lambda x: model.score_image(x)[:, 0], removed)[0]
    return scores
