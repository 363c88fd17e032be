"""A detector of objects in detector images, and the score of one of its boxes as a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.chunks import image_rows
from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.events.boxes import NONE, Boxes
from hepxai.metrics.detection import match_boxes
from hepxai.models.image.detection.card import DetectorCard
from hepxai.models.image.detection.network import LEAST_SCORE, STRIDE, DetectorNetwork, RawDetections, highest
from hepxai.models.image.detection.torchvision_ops import overlap
from hepxai.models.image.network import PIECE, ImageNetworkModel
from hepxai.models.network import constant, evaluating
from hepxai.models.schemas import layout_of

PYRAMID = "pyramid"
SAME_EDGE = 0.01
"""Pixels by which edges of the same box may differ, when it is found in a batch and alone."""


@dataclass(frozen=True, repr=False)
class DetectorModel(ImageNetworkModel):
    """A detector; its outputs for an event are the scores of the best box of each class.

    See `hepxai.models.image.detection.network.RawDetections.scores`; 0 without proposals.
    """

    network: DetectorNetwork
    card: DetectorCard

    @classmethod
    def fresh(cls, card: DetectorCard, schema: Schema) -> Self:
        """Fresh network.

        Raises
        ------
        MissingExtraError
            Without torchvision.
        ValueError
            If the columns of the image are no multiple of those of the last level.
        """
        shape = layout_of(schema).shape
        widest = STRIDE * 2 ** (len(card.channels) - 1)
        if shape[2] % widest:
            raise ValueError(
                f"{len(card.channels)} levels need columns in multiples of {widest}, the image has "
                f"{shape[2]}: give other bins: on the data-set card, or fewer channels and anchors on "
                "that of the model"
            )
        return cls(DetectorNetwork(card, shape), card, schema)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Classes of the boxes."""
        return self.card.boxes.classes

    def true_boxes(self, events: Events) -> Boxes:
        """True boxes of events, as the card says."""
        columns = self.card.boxes
        return Boxes.of(events, columns.particle, columns.edges, columns.label, columns.classes)

    def detect(self, events: Events, *, score: float = 0.5, overlap: float = 0.5) -> Boxes:
        """Detected boxes, the best first in every event, matched with true ones of any class.

        Parameters
        ----------
        events : Events
        score : float
            Smallest probability of the class; .05 at least.
        overlap : float
            Smallest intersection over union with the matched true box.

        Raises
        ------
        ValueError
            If the score is below .05, where the network drops boxes.
        """
        if score < LEAST_SCORE:
            raise ValueError(f"score={score:g}; the detector gives no boxes below {LEAST_SCORE:g}")
        self.check(events)
        found = [d for x in self._pieces(events) for d in self._detections(x)]
        counts = np.array([len(d["scores"]) for d in found], dtype=np.int64)
        columns = {k: [d[k].numpy() for d in found] for k in ("boxes", "labels", "scores")}
        boxes = Boxes(
            offsets_from_counts(counts),
            np.concatenate([*columns["boxes"], np.zeros((0, 4), dtype=np.float32)]),
            np.concatenate([*columns["labels"], np.zeros(0, dtype=np.int64)]) - 1,
            np.concatenate([*columns["scores"], np.zeros(0)]).astype(np.float64),
            np.full(counts.sum(), NONE),
            self.outputs,
        )
        boxes = boxes.keep(boxes.score >= score)
        true = self.true_boxes(events)
        match = match_boxes(boxes, true, overlap=overlap, same_class=False)
        boxes.particle[match != NONE] = true.particle[match[match != NONE]]
        return boxes

    def _pieces(self, events: Events) -> Iterator[Tensor]:
        for rows in image_rows(len(events), self.network.shape):
            yield from torch.as_tensor(events[rows].image()).split(PIECE)

    def _detections(self, x: Tensor) -> list[dict[str, Tensor]]:
        with torch.inference_mode(), evaluating(self.network):
            return self.network.detections(x)

    def box_model(self, boxes: Boxes, box: int) -> BoxModel:
        """Model of the score of one box."""
        edges = tuple(map(float, boxes.edges[box]))
        return BoxModel(self, edges, self.outputs[boxes.label[box]])


@dataclass(frozen=True)
class BoxModel:
    """Score of one box in any image: ``max_d IoU(d, box) · s_d`` over the raw detections d.

    The product of overlap and score of the class, after the target for class activation maps of detectors
    [Gildenblat, pytorch-grad-cam: FasterRCNNBoxScoreTarget, which adds the two and drops detections
    below thresholds]. The score is ``-ln(1 - p)``: not below 0, so that a detection elsewhere counts as
    none, and not saturated for certain boxes. The edges of a detection are differentiable, those of the
    proposal that it starts from are not, and detections come and go: the output has steps.

    Attributes
    ----------
    detector : DetectorModel
    edges : tuple of float
        Left, lower, right and upper edge in pixels.
    label : str
        Class of the box.
    reduction : {"max", "sum"}
        The best raw detection, or the sum of all.
    """

    detector: DetectorModel
    edges: tuple[float, ...]
    label: str
    reduction: Literal["max", "sum"] = "max"
    outputs: tuple[str, ...] = field(default=("box",), init=False)
    view: str = field(default="image", init=False)

    def __post_init__(self) -> None:
        if self.label not in self.detector.outputs:
            classes = ", ".join(self.detector.outputs)
            raise ValueError(f"no class {self.label!r} of boxes; the detector has {classes}")
        if len(self.edges) != 4 or not (self.edges[0] < self.edges[2] and self.edges[1] < self.edges[3]):
            raise ValueError(f"edges {self.edges}; left, lower, right and upper edge of a box are needed")

    @property
    def schema(self) -> Schema:
        """Of the events of the training."""
        return self.detector.schema

    @property
    def module(self) -> DetectorNetwork:
        """Torch module of the detector."""
        return self.detector.network

    def check(self, events: Events) -> None:
        """Refuse events whose images are not those of the training."""
        self.detector.check(events)

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Score ``[E, 1]`` of the box in the images of events."""
        self.check(events)
        parts = [self._scored(x) for x in self.detector._pieces(events)]
        return np.concatenate([*parts, np.zeros((0, 1))])

    def score_image(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score ``[B, 1]`` of the box in images ``x [B, T, R, C]``."""
        self.detector.check_images(x.shape)
        parts = [self._scored(p) for p in torch.as_tensor(x).split(PIECE) if len(p)]
        return np.concatenate([*parts, np.zeros((0, 1))])

    def _scored(self, x: Tensor) -> NDArray[np.float64]:
        with torch.no_grad():
            scores: NDArray[np.float64] = self.forward_image(x).double().numpy()
        return scores

    def forward_image(self, x: Tensor) -> Tensor:
        """Score ``[B, 1]``, differentiable in ``x [B, T, R, C]``, in evaluation mode."""
        self.detector.check_images(x.shape)
        with constant(self.module):
            return self._score(self.module.raw_detections(self.module.features(x)), len(x))

    def _score(self, raw: RawDetections, images: int) -> Tensor:
        k = self.detector.outputs.index(self.label)
        boxes, box = raw.boxes[:, 1 + k], raw.boxes.new_tensor(self.edges)
        # The overlap has its maximum, and a kink, where a detection is the box itself: the slope is 0 there.
        same = overlap(boxes, torch.where((boxes.detach() - box).abs() < SAME_EDGE, boxes.detach(), box))
        exact = same + (overlap(boxes, box) - same).detach()
        values = (exact * raw.scores[:, k])[:, None]
        if self.reduction == "sum":
            return values.new_zeros(images, 1).index_add(0, raw.image, values)
        return highest(values, raw.image, images)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """The one layer "pyramid": the levels side by side, in the columns of the first level."""
        return (PYRAMID,)

    def forward_maps(self, x: Tensor, layer: str = PYRAMID) -> tuple[Tensor, Tensor]:
        """Score ``[B, 1]`` and the maps ``[B, K, R, c]``, from which it was computed.

        The columns of higher levels are repeated, so that all levels have those of the first, and their
        channels are joined.
        """
        self.detector.check_images(x.shape)
        self._check_layer(layer)
        with constant(self.module):
            levels = self.module.features(x)
        maps = torch.cat([f.repeat_interleave(2**i, dim=3) for i, f in enumerate(levels)], 1)
        if not maps.requires_grad:
            maps.requires_grad_(torch.is_grad_enabled())
        return self.forward_after(maps, layer, x), maps

    def forward_after(self, maps: Tensor, layer: str, x: Tensor) -> Tensor:
        """Score ``[B, 1]`` with the maps replaced.

        The mean over repeated columns gives back each level exactly.
        """
        self._check_layer(layer)
        levels = maps.chunk(len(self.detector.card.channels), 1)
        with constant(self.module):
            levels = tuple(F.avg_pool2d(f, (1, 2**i)) if i else f for i, f in enumerate(levels))
            return self._score(self.module.raw_detections(list(levels)), len(maps))

    def _check_layer(self, layer: str) -> None:
        if layer != PYRAMID:
            raise ValueError(f"no maps of layer {layer!r}; a detector has {PYRAMID}")
