"""Maps for each detected box: methods that tell the objects of one image apart, and others."""

from hepxai.studies.detection.figures import box_maps
from hepxai.studies.detection.numbers import (
    BoxMaps,
    BoxShare,
    MapSimilarity,
    box_share,
    explain_boxes,
    map_similarity,
)
from hepxai.studies.detection.others import BoxDeletion, OtherShare, box_deletion, other_share

__all__ = [
    "BoxDeletion",
    "BoxMaps",
    "BoxShare",
    "MapSimilarity",
    "OtherShare",
    "box_deletion",
    "box_maps",
    "box_share",
    "explain_boxes",
    "map_similarity",
    "other_share",
]
