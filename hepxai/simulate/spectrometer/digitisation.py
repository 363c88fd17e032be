"""Fired strips from crossings, background and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import local_index, offsets_from_counts, parents
from hepxai.simulate.spectrometer.settings import Background, Layers, Noise, Patch, Shower

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Strips:
    """Fired strips, in any order; the same strip may be there more than once. Shape ``[H]`` each."""

    event: Ints
    layer: Ints
    strip: Ints


NO_STRIPS = Strips(*np.zeros((3, 0), dtype=np.int64))


def muon_strips(
    event: Ints,
    z: NDArray[np.float64],
    reached: NDArray[np.bool_],
    layers: Layers,
    rng: np.random.Generator,
) -> Strips:
    """Clusters and cross talk of muons.

    Parameters
    ----------
    event : ndarray, shape [M]
        Event of each muon.
    z, reached : ndarray, shape [M, L]
        Crossings, see `cross_layers`.
    layers : Layers
    rng : Generator
    """
    position = strip_position(z, layers)
    inside = reached & (position >= 0) & (position < layers.strips)
    muon, layer = np.nonzero(inside & (rng.random(z.shape) < layers.efficiency))
    size = _sizes(layers.cluster_sizes, len(muon), rng)
    first = np.floor(position[muon, layer] - (size - 1) / 2).astype(np.int64)
    crossed = np.floor(position[muon, layer]).astype(np.int64)
    first = np.clip(first, crossed - size + 1, crossed)  # rounding must not lose the strip that was hit
    clusters = _spread(Strips(event[muon], layer, first), size)
    talk = _cross_talk(Strips(event[muon], layer, first), size, layers, rng)
    return _inside(_joined(clusters, talk), layers.strips)


def strip_position(z: NDArray[np.float64], layers: Layers) -> NDArray[np.float64]:
    """Positions of crossings ``z [M, L]`` in strips, from 0 to the number of strips inside the acceptance."""
    low, high = layers.eta
    return np.asarray((np.arcsinh(z / np.array(layers.radii)) - low) / (high - low) * layers.strips)


def _sizes(shares: tuple[float, ...], number: int, rng: np.random.Generator) -> Ints:
    return rng.choice(np.arange(1, len(shares) + 1), size=number, p=np.array(shares) / sum(shares))


def _spread(first: Strips, size: Ints) -> Strips:
    """All strips of clusters that begin at ``first``."""
    offsets = offsets_from_counts(size)
    of = parents(offsets)
    return Strips(first.event[of], first.layer[of], first.strip[of] + local_index(offsets))


def _cross_talk(first: Strips, size: Ints, layers: Layers, rng: np.random.Generator) -> Strips:
    number = len(size)
    talks = rng.random(number) < layers.cross_talk.probability
    distance = rng.integers(2, layers.cross_talk.reach, size=number, endpoint=True)
    above = rng.random(number) < 0.5
    strip = np.where(above, first.strip + size - 1 + distance, first.strip - distance)
    return Strips(first.event[talks], first.layer[talks], strip[talks])


def background_strips(
    events: int, background: Background, layers: Layers, rng: np.random.Generator
) -> Strips:
    """Clusters at random strips; those at the ends of a layer lose the strips outside."""
    event = np.repeat(np.arange(events), rng.poisson(background.clusters, size=events))
    weights = np.array(background.layer_weights) / sum(background.layer_weights)
    layer = rng.choice(len(weights), size=len(event), p=weights)
    size = _sizes(background.cluster_sizes, len(event), rng)
    first = rng.integers(0, layers.strips, size=len(event)) - size // 2
    return _inside(_spread(Strips(event, layer, first), size), layers.strips)


def noise_strips(events: int, noise: Noise, layers: Layers, rng: np.random.Generator) -> Strips:
    """Single strips, each with the same probability in every event."""
    pixels = events * len(layers.radii) * layers.strips
    # Drawing the number and then the places makes repeats possible, at a rate of probability squared.
    place = rng.integers(0, pixels, size=rng.binomial(pixels, noise.strip_probability))
    rest, strip = np.divmod(place, layers.strips)
    event, layer = np.divmod(rest, len(layers.radii))
    return Strips(event, layer, strip)


def shower_strips(
    event: Ints,
    z: NDArray[np.float64],
    reached: NDArray[np.bool_],
    shower: Shower | None,
    layers: Layers,
    rng: np.random.Generator,
) -> Strips:
    """Single strips around muons, Gaussian in their distance; parameters as of `muon_strips`."""
    if shower is None:
        return NO_STRIPS
    position = strip_position(z, layers)
    crossed = reached & (position >= 0) & (position < layers.strips)
    # From one of the crossed layers on; rows without any have no candidates.
    start = rng.integers(0, np.maximum(crossed.sum(axis=1) - shower.layers + 1, 1))
    order = np.cumsum(crossed, axis=1) - 1 - start[:, None]
    muon, layer = np.nonzero(crossed & (order >= 0) & (order < shower.layers))
    size = rng.poisson(shower.hits, size=len(muon))
    of = np.repeat(np.arange(len(muon)), size)
    distance = shower.width * rng.standard_normal(len(of))
    strip = np.floor(position[muon, layer][of] + distance).astype(np.int64)
    return _inside(Strips(event[muon[of]], layer[of], strip), layers.strips)


@dataclass(frozen=True)
class Patches:
    """Rectangle of strips in every event.

    Attributes
    ----------
    layer, strip : ndarray, shape [E]
        First layer and first strip.
    layers, strips : int
        Size; 0 without a rectangle.
    """

    layer: Ints
    strip: Ints
    layers: int
    strips: int

    @staticmethod
    def of(events: int, size: Patch | None, layers: Layers, rng: np.random.Generator) -> Patches:
        """Rectangles at uniformly random places inside the detector."""
        if size is None:
            return Patches(np.zeros(events, dtype=np.int64), np.zeros(events, dtype=np.int64), 0, 0)
        layer = rng.integers(0, len(layers.radii) - size.layers, size=events, endpoint=True)
        strip = rng.integers(0, layers.strips - size.strips, size=events, endpoint=True)
        return Patches(layer, strip, size.layers, size.strips)

    def cover(self, strips: Strips) -> NDArray[np.bool_]:
        """Mask of the strips inside the rectangle of their event."""
        layer, strip = strips.layer - self.layer[strips.event], strips.strip - self.strip[strips.event]
        return (layer >= 0) & (layer < self.layers) & (strip >= 0) & (strip < self.strips)

    def firing(self, occupancy: float, rng: np.random.Generator) -> Strips:
        """Strips of the rectangles that fire, each with the same probability."""
        fires = rng.random((len(self.layer), self.layers, self.strips)) < occupancy
        event, layer, strip = np.nonzero(fires)
        return Strips(event, self.layer[event] + layer, self.strip[event] + strip)


def _inside(strips: Strips, number: int) -> Strips:
    inside = (strips.strip >= 0) & (strips.strip < number)
    return Strips(strips.event[inside], strips.layer[inside], strips.strip[inside])


def _joined(*parts: Strips) -> Strips:
    return Strips(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("event", "layer", "strip")))


def read_out(muon: Strips, other: tuple[Strips, ...], layers: Layers) -> tuple[Strips, NDArray[np.bool_]]:
    """Every fired strip once, by event, layer and strip, and a mask of those that a muon fired (too)."""
    unique = np.unique(_key(_joined(muon, *other), layers))
    rest, strip = np.divmod(unique, layers.strips)
    event, layer = np.divmod(rest, len(layers.radii))
    fired = Strips(event, layer, strip)
    return fired, fired_by(fired, muon, layers)


def fired_by(strips: Strips, source: Strips, layers: Layers) -> NDArray[np.bool_]:
    """Mask of the strips that ``source`` fired, whatever else fired them too."""
    return np.isin(_key(strips, layers), _key(source, layers))


def _key(strips: Strips, layers: Layers) -> Ints:
    return np.asarray((strips.event * len(layers.radii) + strips.layer) * layers.strips + strips.strip)
