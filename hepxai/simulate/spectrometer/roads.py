"""Roads of muons through the spectrometer: their own hits, and the layers and strips that these cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.simulate.chunk import Columns, Layout
from hepxai.simulate.spectrometer.digitisation import Ints, Strips

RANGES = ("layerLow", "layerHigh", "stripLow", "stripHigh", "layers")
NONE = -1
"""Range of a muon without hits; muon of a hit that is noise."""


def with_roads(layout: Layout) -> Layout:
    """Layout with the muon of every hit, and the range and number of layers of every muon's hits."""
    hit, muon = layout.collections["Hit"], layout.collections["Muon"]
    roads = {"Hit": {**hit, "muon": np.int16}, "Muon": {**muon, **dict.fromkeys(RANGES, np.int16)}}
    return Layout(layout.events, {**layout.collections, **roads})


@dataclass(frozen=True)
class Roads:
    """Strips that muons fired.

    Attributes
    ----------
    strips : Strips
        With the muon of each strip, counted through all events, in place of the event.
    event : ndarray of int64, shape [M]
        Event of each muon; never falls.
    """

    strips: Strips
    event: Ints

    def of_events(self) -> Strips:
        """The same strips with their events."""
        return Strips(self.event[self.strips.event], self.strips.layer, self.strips.strip)

    def muon_of(self, hits: Strips) -> Ints:
        """Position of the muon in its event for every hit, the first one of several; -1 for noise."""
        fired = self.of_events()
        number = 1 + int(max(fired.strip.max(initial=0), hits.strip.max(initial=0)))
        layers = 1 + int(max(fired.layer.max(initial=0), hits.layer.max(initial=0)))
        keys, of_hits = ((s.event * layers + s.layer) * number + s.strip for s in (fired, hits))
        order = np.lexsort((self.strips.event, keys))
        at = np.searchsorted(keys[order], of_hits)
        place = np.concatenate([order, [0]])[at]
        is_fired = (at < len(keys)) & np.isin(of_hits, keys)
        muon = np.concatenate([self.strips.event, [0]])[place]
        return np.where(is_fired, self._position[muon], NONE) if len(self.event) else np.full(len(at), NONE)

    @property
    def _position(self) -> Ints:
        return np.arange(len(self.event)) - np.searchsorted(self.event, self.event)

    def ranges(self) -> Columns:
        """Lowest and highest layer and strip of each muon's hits, and the number of its layers, ``[M]``."""
        muons = len(self.event)
        columns: Columns = {}
        for name, values in (("layer", self.strips.layer), ("strip", self.strips.strip)):
            low, high = np.full(muons, np.iinfo(np.int16).max), np.full(muons, NONE)
            np.minimum.at(low, self.strips.event, values)
            np.maximum.at(high, self.strips.event, values)
            columns |= {f"{name}Low": np.where(high == NONE, NONE, low), f"{name}High": high}
        crossed = np.unique(np.stack([self.strips.event, self.strips.layer]), axis=1)[0]
        return columns | {"layers": np.bincount(crossed, minlength=muons)}
