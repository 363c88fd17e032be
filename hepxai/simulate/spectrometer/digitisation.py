"""Fired strips from crossings, background and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import local_index, offsets_from_counts, parents
from hepxai.simulate.spectrometer.settings import Background, Layers, Noise

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Strips:
    """Fired strips, in any order; the same strip may be there more than once. Shape ``[H]`` each."""

    event: Ints
    layer: Ints
    strip: Ints


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
    low, high = layers.eta
    position = (np.arcsinh(z / np.array(layers.radii)) - low) / (high - low) * layers.strips
    inside = reached & (position >= 0) & (position < layers.strips)
    muon, layer = np.nonzero(inside & (rng.random(z.shape) < layers.efficiency))
    size = _sizes(layers.cluster_sizes, len(muon), rng)
    first = np.floor(position[muon, layer] - (size - 1) / 2).astype(np.int64)
    crossed = np.floor(position[muon, layer]).astype(np.int64)
    first = np.clip(first, crossed - size + 1, crossed)  # rounding must not lose the strip that was hit
    clusters = _spread(Strips(event[muon], layer, first), size)
    talk = _cross_talk(Strips(event[muon], layer, first), size, layers, rng)
    return _inside(_joined(clusters, talk), layers.strips)


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


def _inside(strips: Strips, number: int) -> Strips:
    inside = (strips.strip >= 0) & (strips.strip < number)
    return Strips(strips.event[inside], strips.layer[inside], strips.strip[inside])


def _joined(*parts: Strips) -> Strips:
    return Strips(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("event", "layer", "strip")))


def read_out(muon: Strips, other: tuple[Strips, ...], layers: Layers) -> tuple[Strips, NDArray[np.bool_]]:
    """Every fired strip once, by event, layer and strip, and a mask of those that a muon fired (too)."""
    every = _joined(muon, *other)
    key = (every.event * len(layers.radii) + every.layer) * layers.strips + every.strip
    # The muon's hits come first, so that their index wins below.
    unique, index = np.unique(key, return_index=True)
    rest, strip = np.divmod(unique, layers.strips)
    event, layer = np.divmod(rest, len(layers.radii))
    return Strips(event, layer, strip), index < len(muon.event)
