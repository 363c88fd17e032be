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

__all__ = ["BoxMaps", "BoxShare", "MapSimilarity", "box_maps", "box_share", "explain_boxes", "map_similarity"]
