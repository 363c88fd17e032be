"""Non-negative factorisation of activations: directions by scikit-learn, and scores of any activations."""

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
TOLERANCE = 1e-3
"""Of scikit-learn's solver; a tenth of it takes five times as long, and the error is 1 % lower."""
BLOCK = 2**22
"""Elements of the matrices ``[K, K]`` that are solved at a time, one for each vector."""
RIDGE, CLOSE, TRIES, LOOPS, SWEEPS = 1e-10, 1e-9, 3, 500, 6


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
    solver = NMF(concepts, init="random", tol=TOLERANCE, max_iter=ITERATIONS, random_state=seed)
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

    Exact, for each vector on its own, by block principal pivoting [Kim & Park, SIAM J. Sci. Comput. 33 (2011)
    3261]: components are free or 0; those with the wrong sign change sides until there are none. Coordinate
    descent gives the start, so that one or two matrices are solved for most vectors. Equal
    directions get equal scores; equal vectors, such as those of blank positions, are solved once.

    Warns
    -----
    CheckWarning
        If the solver stops at its largest number of loops: some scores are then not the minimum.
    """
    p = directions.double()
    gram = p @ p.T + RIDGE * torch.eye(len(p), dtype=torch.float64)
    some, which = _distinct(vectors)
    parts = [
        _pivoted(part.double() @ p.T, gram) for part in vectors[some].split(max(BLOCK // len(p) ** 2, 1))
    ]
    return torch.cat(parts).to(vectors.dtype)[which] if parts else vectors.new_zeros(0, len(p))


def _distinct(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """One row of each distinct vector, and for each row its place among them; by a hash of the bits."""
    bits = vectors.contiguous().view(torch.int32).long()
    odd = torch.randint(2**62, (bits.shape[1],), generator=torch.Generator().manual_seed(0)) * 2 + 1
    key, which = torch.unique((bits * odd).sum(1), return_inverse=True)
    rows = torch.arange(len(vectors))
    some = torch.zeros_like(key).scatter_(0, which, rows)
    return (some, which) if torch.equal(vectors[some][which], vectors) else (rows, rows)


def _pivoted(projection: Tensor, gram: Tensor) -> Tensor:
    """Solutions ``x ≥ 0`` of ``x G - b ≥ 0`` where one of both is 0, for projections b ``[N, K]``."""
    close = CLOSE * (1 + projection.abs().amax(1, keepdim=True))
    free, number = _positive(projection, gram), torch.arange(projection.shape[1])
    best = torch.full((len(projection),), projection.shape[1] + 1)
    tries, solution = torch.full_like(best, TRIES), torch.zeros_like(projection)
    rows = torch.arange(len(projection))
    for _ in range(LOOPS):
        solution[rows] = x = _solved(projection[rows], gram, free[rows])
        slope = x @ gram - projection[rows]
        wrong = torch.where(free[rows], x, slope) < -close[rows]
        count = wrong.sum(1)
        better = count < best[rows]
        tries[rows] = torch.where(better, TRIES, tries[rows] - 1)
        best[rows] = torch.minimum(best[rows], count)
        last = torch.where(wrong, number, -1).amax(1, keepdim=True)  # one alone ends in any case
        free[rows] ^= torch.where((tries[rows] >= 0)[:, None], wrong, wrong & (number == last))
        rows = rows[count > 0]
        if not len(rows):
            break
    else:
        warnings.warn(
            f"scores of some positions are not exact: the solver stopped after {LOOPS} loops; take fewer "
            "concepts, or compare seeds by choose_concepts",
            CheckWarning,
            stacklevel=2,
        )
    return solution.clamp_min(0)


def _positive(projection: Tensor, gram: Tensor) -> Tensor:
    """Components that are positive after a few sweeps of coordinate descent: nearly those of the solution."""
    b = projection.T.contiguous()
    x = torch.zeros_like(b)
    for k in (k for _ in range(SWEEPS) for k in range(len(b))):
        x[k] = (x[k] + (b[k] - gram[k] @ x) / gram[k, k]).clamp_min(0)
    return (x.T > 0).contiguous()


def _solved(projection: Tensor, gram: Tensor, free: Tensor) -> Tensor:
    """Least-squares solution of the free components, 0 for the others."""
    both = free[:, :, None] & free[:, None, :]
    factor = torch.linalg.cholesky(torch.where(both, gram, torch.eye(len(gram), dtype=gram.dtype)))
    return torch.cholesky_solve(torch.where(free, projection, 0.0)[:, :, None], factor)[:, :, 0]
