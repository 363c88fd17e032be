"""Faster R-CNN with a feature pyramid, assembled from torchvision's parts for flat, wide images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepxai.models.image.detection.card import DetectorCard
from hepxai.models.image.detection.torchvision_ops import import_torchvision

STRIDE = 4
"""Columns of the image in one column of the first level."""
CANDIDATES = 100
"""Boxes of a level that non-maximum suppression chooses from."""
LEAST_SCORE = 0.05
"""Lowest score of a detected box."""
SAMPLES = 32
"""Proposals of an image in the loss of the second stage."""
Targets = list[dict[str, Tensor]]


class RawDetections(NamedTuple):
    """Classified proposals before thresholds and non-maximum suppression.

    Attributes
    ----------
    image : Tensor of int64, shape [P]
    logits : Tensor, shape [P, 1 + K]
        Of the background and the classes.
    boxes : Tensor, shape [P, 1 + K, 4]
        Left, lower, right and upper edge for each class, clipped to the image.
    """

    image: Tensor
    logits: Tensor
    boxes: Tensor

    @property
    def scores(self) -> Tensor:
        """``-ln(1 - p)`` of every class, ``[P, K]``: its log-odds where p is near 1, p where it is small.

        Never negative, rising with p, and not saturated: differentiable also for boxes that are certain.
        """
        others = [[c for c in range(self.logits.shape[1]) if c != k] for k in range(1, self.logits.shape[1])]
        rest = torch.stack([self.logits[:, o].logsumexp(1) for o in others], 1)
        return F.softplus(self.logits[:, 1:] - rest)


class Backbone(nn.Sequential):
    """Convolutions whose steps halve the columns only: one map for each level of the pyramid."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        levels: list[nn.Module] = []
        for i, width in enumerate(widths):
            first = _block(channels, width, (3, 5), 2)
            levels.append(nn.Sequential(first, _block(width, width, (3, 3), 2 if i == 0 else 1)))
            channels = width
        super().__init__(*levels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps ``[B, width, R, C / stride]`` of the levels."""
        maps: dict[str, Tensor] = OrderedDict()
        for i, level in enumerate(self):
            maps[str(i)] = x = level(x)
        return maps


def _block(inputs: int, outputs: int, kernel: tuple[int, int], step: int) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, (1, step), padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class PyramidPooler(nn.Module):
    """Maps inside boxes, from the level whose anchors are of the size of the box.

    Rows and columns have their own scale, which torchvision's pooler has not.
    """

    def __init__(self, card: DetectorCard, roi_align: Any) -> None:
        super().__init__()
        sizes = [torch.tensor(level).log().mean() for level in card.anchors]
        self.register_buffer("sizes", torch.stack(sizes), persistent=False)
        self.pooled, self.roi_align = card.pooled, roi_align

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Maps ``[K, D + 2, r, c]`` inside boxes, with the logarithms of their width and height."""
        image = torch.cat([torch.full((len(b), 1), float(i)) for i, b in enumerate(boxes)])
        rois = torch.cat([image.to(boxes[0]), torch.cat(boxes)], 1)
        sides = (rois[:, 3:] - rois[:, 1:3]).clamp(min=1e-3).log()
        level = (sides.mean(1)[:, None] - cast(Tensor, self.sizes)).abs().argmin(1)
        maps = list(features.values())
        pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], *self.pooled)
        for i, values in enumerate(maps):
            of_level = torch.nonzero(level == i)[:, 0]
            down, right = (values.shape[2 + a] / image_shapes[0][a] for a in (0, 1))
            scale = rois.new_tensor([1.0, right, down, right, down])
            inside = self.roi_align(values, rois[of_level] * scale, self.pooled, 1.0, 2, True)
            pooled = pooled.index_copy(0, of_level, inside)
        return torch.cat([pooled, sides[:, :, None, None].expand(-1, -1, *self.pooled)], 1)


class DetectorNetwork(nn.Module):
    """Backbone → feature pyramid → proposals → class and edges of each.

    torchvision's transformation of the images is left out: pixels are not scaled, the image is not resized.
    """

    def __init__(self, card: DetectorCard, shape: tuple[int, int, int]) -> None:
        super().__init__()
        vision = import_torchvision("a detector of objects")
        parts, classes = vision.models.detection, 1 + len(card.boxes.classes)
        self.shape, self.image_list = shape, parts.image_list.ImageList
        self.backbone = Backbone(shape[0], card.channels)
        self.pyramid = vision.ops.FeaturePyramidNetwork(list(card.channels), card.pyramid)
        self.rpn = parts.rpn.RegionProposalNetwork(
            _anchors(parts.anchor_utils.AnchorGenerator, card),
            parts.rpn.RPNHead(card.pyramid, len(card.anchors[0])),
            fg_iou_thresh=0.6,
            bg_iou_thresh=0.3,
            batch_size_per_image=64,
            positive_fraction=0.5,
            pre_nms_top_n=dict.fromkeys(("training", "testing"), CANDIDATES),
            post_nms_top_n=dict.fromkeys(("training", "testing"), card.proposals),
            nms_thresh=0.7,
        )
        inside = (card.pyramid + 2) * card.pooled[0] * card.pooled[1]
        self.roi_heads = parts.roi_heads.RoIHeads(
            PyramidPooler(card, vision.ops.roi_align),
            parts.faster_rcnn.TwoMLPHead(inside, card.dense),
            parts.faster_rcnn.FastRCNNPredictor(card.dense, classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=SAMPLES,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=LEAST_SCORE,
            nms_thresh=0.5,
            detections_per_img=20,
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps ``[B, D, R, C / stride]`` of the levels of the pyramid."""
        return list(self.pyramid(self.backbone(x)).values())

    def _images(self, number: int, like: Tensor) -> tuple[Any, list[tuple[int, int]]]:
        sizes = [self.shape[1:]] * number
        return self.image_list(like.new_empty(number, 1, 1, 1).expand(-1, -1, *self.shape[1:]), sizes), sizes

    def losses(self, x: Tensor, targets: Targets) -> Tensor:
        """Sum of the four losses; proposals are sampled at random."""
        images, sizes = self._images(len(x), x)
        features = _named(self.features(x))
        proposals, first = self.rpn(images, features, targets)
        _, second = self.roi_heads(features, proposals, sizes, targets)
        return cast(Tensor, sum((first | second).values()))

    def raw_detections(self, features: list[Tensor]) -> RawDetections:
        """Classified proposals for the levels of the pyramid."""
        number = len(features[0])
        images, sizes = self._images(number, features[0])
        named = _named(features)
        proposals, _ = self.rpn(images, named)
        pooled = self.roi_heads.box_head(self.roi_heads.box_roi_pool(named, proposals, sizes))
        logits, shifts = self.roi_heads.box_predictor(pooled)
        boxes = self.roi_heads.box_coder.decode(shifts, proposals)
        limits = boxes.new_tensor([self.shape[2], self.shape[1]] * 2)
        image = torch.repeat_interleave(torch.tensor([len(p) for p in proposals], device=boxes.device))
        return RawDetections(image, logits, torch.minimum(boxes.clamp(min=0), limits))

    def detections(self, x: Tensor) -> Targets:
        """Detected ``boxes``, ``labels`` (from 1) and ``scores`` of every image."""
        images, sizes = self._images(len(x), x)
        features = _named(self.features(x))
        found: Targets = self.roi_heads(features, self.rpn(images, features)[0], sizes)[0]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Highest score ``-ln(1 - p)`` of each class among the proposals, ``[B, K]``."""
        raw = self.raw_detections(self.features(x))
        return highest(raw.scores, raw.image, len(x))


def highest(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Largest of the values ``[P, K]`` of each image, ``[B, K]``, and at least 0."""
    place = image[:, None].expand_as(values)
    return values.new_zeros(images, values.shape[1]).scatter_reduce(0, place, values, "amax")


def _named(features: list[Tensor]) -> dict[str, Tensor]:
    return OrderedDict((str(i), f) for i, f in enumerate(features))


def _anchors(generator: Any, card: DetectorCard) -> Any:
    """Anchors of the card's sizes; torchvision's own are areas times ratios of the sides."""
    anchors = generator(
        [tuple(range(1, 1 + len(level))) for level in card.anchors], [(1.0,)] * len(card.anchors)
    )
    sides = [torch.tensor(level) for level in card.anchors]
    # Places are those of the lower left corners of the maps' pixels; half a pixel more is their middle.
    middles = [torch.tensor([STRIDE * 2**i / 2, 0.5]) for i in range(len(sides))]
    anchors.cell_anchors = [torch.cat([m - s / 2, m + s / 2], 1) for s, m in zip(sides, middles, strict=True)]
    return anchors
