"""Non-negative factorisation of activations: directions by scikit-learn, scores by coordinate descent."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from hepxai.explainers.base import CheckWarning

Array = NDArray[np.float64]
ITERATIONS = 400
TOLERANCE = 1e-4
"""Largest change of a score at the end, relative to the length of the activation vector."""
SWEEPS = 500


class Directions(NamedTuple):
    """Directions ``[K, c]`` of length 1, the one with the largest mean score first, and the iterations."""

    values: Array
    iterations: int


def nonnegative_directions(vectors: NDArray[np.float32], concepts: int, seed: int, layer: str) -> Directions:
    """Directions P of ``V ≈ S P`` with ``S, P ≥ 0`` and the least ``‖V - S P‖²`` (Frobenius).

    Coordinate descent from a random start [Cichocki & Phan, IEICE E92-A (2009) 708], by
    `sklearn.decomposition.NMF`. The minimum is local: other seeds may give other directions.

    Parameters
    ----------
    vectors : ndarray, shape [N, c]
    concepts : int

    Raises
    ------
    ValueError
        If the layer is 0 everywhere, or there are more concepts than channels or positions.

    Warns
    -----
    CheckWarning
        If it does not converge, or directions vanish.
    """
    check_number(concepts, vectors.shape, layer)
    solver = NMF(concepts, init="random", max_iter=ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = solver.fit_transform(vectors)
    lengths = np.linalg.norm(solver.components_.astype(np.float64), axis=1)
    share = scores.mean(axis=0, dtype=np.float64) * lengths
    if solver.n_iter_ >= ITERATIONS:
        warnings.warn(
            f"the factorisation into {concepts} concepts did not converge in {ITERATIONS} iterations; try "
            "fewer concepts, or compare seeds by choose_concepts",
            CheckWarning,
            stacklevel=3,
        )
    order = np.argsort(-share, kind="stable")[: np.count_nonzero(share > 0)]
    if len(order) < concepts:
        warnings.warn(
            f"only {len(order)} of {concepts} concepts are not 0: layer {layer} needs no more",
            CheckWarning,
            stacklevel=3,
        )
    return Directions(solver.components_[order] / lengths[order, None], int(solver.n_iter_))


def check_number(concepts: int, shape: tuple[int, ...], layer: str) -> None:
    """Refuse a number of concepts that activations ``[N, c]`` of this shape cannot have."""
    positions, channels = shape
    if not positions:
        raise ValueError(
            f"layer {layer} is 0 at every position that was drawn: it has no concepts. Choose another layer; "
            "if all are 0, the network is dead, or the images are empty"
        )
    most = min(positions, channels)
    if not 1 <= concepts <= most:
        limits = f"{channels} channels and {positions} positions that are not 0"
        raise ValueError(f"concepts={concepts}: layer {layer} has {limits}; choose 1 to {most}")


def nonnegative_scores(vectors: Tensor, directions: Tensor) -> Tensor:
    """Scores ``S ≥ 0`` with the least ``‖v - S P‖²`` for each vector ``[N, c]``, shape ``[N, K]``.

    Cyclic coordinate descent, which ends for each vector on its own: a score does not depend on the other
    vectors. Directions ``[K, c]`` have length 1, and those that are equal share their score.
    """
    gram, projection = directions @ directions.T, vectors @ directions.T
    scores = torch.zeros_like(projection)
    active, close = torch.arange(len(vectors)), TOLERANCE * vectors.norm(dim=1)
    for _ in range(SWEEPS):
        part, aim = scores[active], projection[active]
        before = part.clone()
        for k in range(len(gram)):
            part[:, k] = (part[:, k] + aim[:, k] - part @ gram[k]).clamp_min_(0)
        scores[active] = part
        moving = (part - before).abs().amax(1) > close[active]
        active = active[moving]
        if not len(active):
            break
    return scores
