"""Attribution: the one result. Named axes, physics selections, means with errors, conversions, storage."""

from hepxai.attribution.pairs import Pairs
from hepxai.attribution.result import CHANNEL_PIXELS, PIXELS, Attribution

__all__ = ["CHANNEL_PIXELS", "PIXELS", "Attribution", "Pairs"]
