"""Coalitions of particles: score of any set of particles of an event, and joining orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations
from math import comb, factorial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.chunks import BUDGET
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import event_hash, splitmix64
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import Differentiable
from hepxai.models.target import Target

Array = NDArray[np.float64]
IDENTITY = ("run", "luminosity_block", "event", "file", "entry")


@dataclass(frozen=True)
class CoalitionScorer:
    """Scores of coalitions of particles, for E events of one multiplicity n.

    Attributes
    ----------
    model : Differentiable
    cloud : Cloud
        The events.
    output : int
        Number of the explained logit.
    empty : float
        Score of the event with no particle.
    """

    model: Differentiable
    cloud: Cloud
    output: Target
    empty: float

    @property
    def n(self) -> int:
        """Particles per event."""
        return int(self.cloud.counts[0])

    def scores(self, members: IntArray) -> Array:
        """Scores of the events that have some of the particles and no others.

        Neighbours are searched among those that are there, and the readout runs over them. Their features
        stay as they are.

        Parameters
        ----------
        members : ndarray of int64, shape [E, ..., k] or [1, ..., k]
            Places inside the event of the particles that are there; k of them, in any order.

        Returns
        -------
        ndarray, shape [E, ...]
        """
        size, shape = members.shape[-1], (len(self.cloud), *members.shape[1:-1])
        if size == 0:
            return np.full(shape, self.empty)
        first = self.cloud.ptr[:-1].view(-1, *(1 for _ in members.shape[1:]))
        flat = (first + torch.as_tensor(members)).reshape(-1, size)
        with torch.no_grad():
            # No gradients, half the memory: twice as many as elsewhere.
            parts = [self._logits(part) for part in flat.split(max(2 * BUDGET // max(size, 4) ** 2, 1))]
        return torch.cat(parts).double().numpy().reshape(shape)

    def scores_by_size(self, sizes: Sequence[int]) -> dict[int, Array]:
        """Scores of all sets of particles of these sizes: ``k → [E, C]``, as in `subsets`."""
        return {k: self.scores(subsets(self.n, k)[None]) for k in sizes}

    def joining(self, order: IntArray, by_size: Mapping[int, Array]) -> Array:
        """Scores of the first k particles of permutations, for k = 0 … n.

        Parameters
        ----------
        order : ndarray of int64, shape [E, ..., n]
        by_size : dict
            Scores from `scores_by_size`, which are looked up instead of computed.

        Returns
        -------
        ndarray, shape [E, ..., n+1]
        """
        scores = []
        for k in range(self.n + 1):
            first = order[..., :k]
            if k in by_size:
                place = rank(first, self.n)
                scores.append(
                    np.take_along_axis(by_size[k], place.reshape(len(place), -1), 1).reshape(place.shape)
                )
            else:
                scores.append(self.scores(first))
        return np.stack(scores, axis=-1)

    def _logits(self, members: Tensor) -> Tensor:
        return self.output(self.model.forward_cloud(self.cloud.regroup(members)))


# --- sets ------------------------------------------------------------------------------------


def subsets(n: int, k: int) -> IntArray:
    """All sets of k of n particles as rows ``[C, k]``, in lexicographic order."""
    flat = chain.from_iterable(combinations(range(n), k))
    return np.fromiter(flat, dtype=np.int64, count=comb(n, k) * k).reshape(comb(n, k), k)


def rank(members: IntArray, n: int) -> IntArray:
    """Row of sets ``[..., k]`` among `subsets`, whatever the order of their members."""
    k = members.shape[-1]
    # After a set come those that agree in the first j members, and whose next one is larger.
    after = [[comb(n - 1 - m, k - j) if m >= j else 0 for m in range(n)] for j in range(k)]
    table = np.array(after, dtype=np.int64).reshape(k, n)
    later: IntArray = table[np.arange(k), np.sort(members, axis=-1)].sum(axis=-1)
    return comb(n, k) - 1 - later


def complete(n: int, order: int, sizes: Sequence[int]) -> NDArray[np.bool_]:
    """Mask of the sizes of S for which all S ∪ L, L up to ``order`` particles, have one of ``sizes``."""
    return np.array(
        [all(s + t in sizes for t in range(order + 1)) for s in range(n - order + 1)], dtype=np.bool_
    )


@lru_cache(maxsize=1)
def index_weights(n: int, order: int, sizes: tuple[int, ...]) -> Array:
    """Weights that turn the scores of sets into the Shapley interaction index, as far as they suffice.

    ``I(T) = Σ_{S ⊆ N∖T} s! (n-s-t)! / (n-t+1)! Σ_{L ⊆ T} (-1)^(t-l) v(S ∪ L)`` for t = ``order``, with those
    S that are `complete`.

    Returns
    -------
    ndarray, shape [P, C]
        Rows: sets T as in ``subsets(n, order)``. Columns: the sets of particles, size after size.
    """
    inside = np.concatenate([_inside(n, k) for k in sizes])
    common = inside[:, subsets(n, order)].sum(axis=2).T
    others = inside.sum(axis=1) - common
    ways = [factorial(s) * factorial(n - s - order) / factorial(n - order + 1) for s in range(n - order + 1)]
    share = np.where(complete(n, order, sizes), np.array(ways), 0.0)
    weights: Array = np.where((order - common) % 2, -1.0, 1.0) * share[others]
    return weights


def _inside(n: int, k: int) -> NDArray[np.bool_]:
    members = subsets(n, k)
    inside = np.zeros((len(members), n), dtype=np.bool_)
    np.put_along_axis(inside, members, True, axis=1)
    return inside


# --- permutations ----------------------------------------------------------------------------


def permutations(events: Events, repeats: int, seed: int) -> IntArray:
    """Random permutations of the particles of every event, in balanced sets of n.

    A set is a Latin square after Williams (Aust. J. Sci. Res. A 2 (1949) 149) whose symbols are the particles
    in random order, so that each row is a uniformly random permutation. In the rows of a set each particle
    stands once at each place, and any two of them are next to each other twice.

    The random numbers are a function of the seed and of the identity of event and particle (its type and
    position in its collection). They do not depend on the batch or on the order of the particles.

    Parameters
    ----------
    events : Events
        Of one multiplicity n.
    repeats : int
        Number R of sets.

    Returns
    -------
    ndarray of int64, shape [E, R, n, n]
        Places inside the event, along the last axis.
    """
    n = int(events.counts[0])
    event = event_hash(*(getattr(events, name) for name in IDENTITY), seed=seed)
    sets = splitmix64(event[:, None] ^ splitmix64(np.arange(repeats, dtype=np.uint64)))
    shuffled = splitmix64(sets[:, :, None] ^ np.arange(n, dtype=np.uint64)).argsort(axis=-1)
    named = np.lexsort((events.index, events.type, events.parent)).reshape(-1, n) - events.offsets[:-1, None]
    return np.take_along_axis(named[:, None], shuffled, axis=-1)[..., _square(n)]


def _square(n: int) -> IntArray:
    """Rows r, r+1, r-1, r+2, r-2, … modulo n, for r = 0 … n-1."""
    step = np.arange(n)
    return (np.where(step % 2, (step + 1) // 2, -(step // 2)) + step[:, None]) % n


def skipping(start: Array) -> Array:
    """Scores of the first k particles and the (k+2)-th, without the one between, from `joining`.

    Along the rows of a set of `permutations` they are the first k+1 particles of the next row for even k, of
    the row before for odd k.

    Parameters
    ----------
    start : ndarray, shape [..., n, n+1]

    Returns
    -------
    ndarray, shape [..., n, n-1]
        For k = 0 … n-2.
    """
    middle = start[..., 1:-1]
    even = np.arange(middle.shape[-1]) % 2 == 0
    return np.where(even, np.roll(middle, -1, axis=-2), np.roll(middle, 1, axis=-2))
