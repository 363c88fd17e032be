"""Card of a detector of objects in detector images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hepxai.cards import Card, entry_error
from hepxai.models.card import NetworkCard, Training

Size = tuple[PositiveFloat, PositiveFloat]
IGNORED = ("loss", "negative_weights", "class_balance", "calibrate")


class BoxColumns(Card):
    """Particles of the data set that are the true boxes.

    Attributes
    ----------
    particle : str
        Their type.
    edges : tuple of str
        Features: left, lower, right and upper edge in pixels, see `hepxai.events.boxes.Boxes`.
    label : str
        Feature with the number of the class.
    classes : tuple of str
        Names of the classes, from 0.
    """

    particle: str = "muon"
    edges: tuple[str, str, str, str] = ("left", "bottom", "right", "top")
    label: str = "pt_class"
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = ("low", "mid", "high")

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise entry_error(f"found {', '.join(self.classes)}; give each class its own name", "classes")
        return self


class DetectorCard(NetworkCard):
    """Faster R-CNN with a feature pyramid (arXiv:1506.01497, arXiv:1612.03144), assembled from torchvision.

    All levels of the pyramid have the rows of the image; their columns are 4, 8, 16, … pixels wide. The
    number of columns must be a multiple of the widest.

    Attributes
    ----------
    boxes : BoxColumns
    channels : tuple of int
        Of the levels of the backbone.
    pyramid : int
        Channels of every level of the pyramid.
    anchors : tuple of tuples of (width, height)
        Sizes in pixels of the boxes from which a level starts; as many in each.
    pooled : tuple of int
        Rows and columns to which the maps inside a box are pooled. The logarithms of width and height of the
        box are two more channels: pooling hides them.
    dense : int
        Neurons of the two layers behind it.
    proposals : int
        Most boxes of an image that are classified.
    training : Training
        The loss is the sum of torchvision's four, without weights of events. Entries for classification
        losses do not apply; ``monitor`` "auc" stands for the mean average precision.
    """

    view: ClassVar[str] = "image"
    kind: Literal["detector"] = "detector"
    boxes: BoxColumns = BoxColumns()
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=5)] = (24, 32, 48)
    pyramid: PositiveInt = 32
    anchors: tuple[tuple[Size, ...], ...] = (((8, 8), (15, 9)), ((25, 9), (40, 9)), ((65, 8), (110, 6)))
    pooled: tuple[PositiveInt, PositiveInt] = (5, 7)
    dense: PositiveInt = 96
    proposals: PositiveInt = 40

    @model_validator(mode="after")
    def _one_anchor_list_a_level(self) -> Self:
        if len(self.anchors) != len(self.channels):
            text = f"found {len(self.anchors)} lists of sizes for {len(self.channels)} levels (channels)"
            raise entry_error(f"{text}; give one list a level", "anchors")
        if len({len(level) for level in self.anchors}) > 1 or not self.anchors[0]:
            numbers = ", ".join(str(len(level)) for level in self.anchors)
            raise entry_error(f"found {numbers} sizes; give every level the same number", "anchors")
        return self

    @model_validator(mode="after")
    def _losses_of_detection(self) -> Self:
        for key in IGNORED:
            if getattr(self.training, key) != Training.model_fields[key].default:
                raise entry_error("a detector has losses of its own; leave it out", "training", key)
        return self

    def incompatibility(self, classes: Sequence[str], targets: Sequence[str]) -> str | None:
        """Reason against a run, which explains outputs of events."""
        return (
            "a run explains the outputs of events, a detector finds boxes in them; train it with "
            "hepxai.fit(card, events), and explain its boxes with hepxai.studies.detection.explain_boxes"
        )
