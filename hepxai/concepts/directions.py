"""Directions of concepts in the channels of a layer, and random ones of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepxai.concepts.layers import pooled_maps
from hepxai.concepts.vectors import concept_vector
from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.models.protocols import HasFeatureMaps

Array = NDArray[np.float64]
BOOTSTRAP = 50
"""Bootstrap samples of the examples of a concept."""


class Directions(NamedTuple):
    """Directions of concepts, and the random directions that they are compared with.

    Attributes
    ----------
    names : tuple of str, length K
    values : ndarray, shape [K, c]
    random : ndarray, shape [K, R, c]
        Random directions of each concept.
    resampled : ndarray, shape [K, N, c]
        Directions from bootstrap samples of the examples; N = 0 for given directions.
    accuracy : mapping of str to Estimate
    """

    names: tuple[str, ...]
    values: Array
    random: Array
    resampled: Array
    accuracy: Mapping[str, Estimate]


def given_directions(
    values: ArrayLike, names: tuple[str, ...] | None, channels: int, random: int, seed: int
) -> Directions:
    """Directions ``[K, c]``, scaled to length 1, and random ones: each with its components permuted.

    A permuted direction has the components of its concept in other channels: it is as sparse as that, and
    has the same signs.

    Raises
    ------
    ValueError
        If they are no directions in the channels of the layer.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != channels or not len(rows):
        raise ValueError(
            f"directions of shape {rows.shape}; [K, {channels}] is needed: one column per channel"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise ValueError("a direction is 0 or not finite: it points nowhere; leave it out")
    unit = rows / lengths
    copies = np.repeat(unit[:, None], random, axis=1)
    permuted = np.random.default_rng(seed).permuted(copies, axis=2)
    names = names or tuple(f"direction {k + 1}" for k in range(len(rows)))
    return Directions(names, unit, permuted, np.zeros((len(rows), 0, channels)), {})


def directions_of_examples(
    model: HasFeatureMaps,
    examples: Mapping[str, Events],
    counterexamples: Events | None,
    layer: str,
    random: int,
    seed: int,
) -> Directions:
    """Concept vectors of examples, and those of random splits.

    Raises
    ------
    ValueError
        If there are no examples or counter-examples.
    """
    if counterexamples is None or not examples:
        raise ValueError(
            "examples of concepts need counter-examples: tcav(model, {'name': examples}, events, "
            "counterexamples=others)"
        )
    others = pooled_maps(model, counterexamples, layer)
    pooled = {name: pooled_maps(model, events, layer) for name, events in examples.items()}
    vectors = [concept_vector(name, maps, others, seed=seed) for name, maps in pooled.items()]
    return Directions(
        tuple(examples),
        np.stack([v.direction for v in vectors]),
        np.stack([v.random(random, seed + k) for k, v in enumerate(vectors)]),
        np.stack([v.resampled(BOOTSTRAP, seed + k) for k, v in enumerate(vectors)]),
        {v.name: v.accuracy for v in vectors},
    )
