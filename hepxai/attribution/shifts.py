"""Changes of a measure under systematic variations, with the error of paired events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import event_hash

BLOCKS = 20
"""Parts of the events, each of which is left out once."""


class Population(Protocol):
    """Anything that belongs to events and can be cut to some of them."""

    @property
    def events(self) -> Events:
        """The events."""

    def __getitem__(self, which: NDArray[Any], /) -> Self:
        """Part of the population."""


@dataclass(frozen=True)
class Scored:
    """Events with the outputs of a model ``[E, O]``."""

    events: Events
    logits: Array

    def __getitem__(self, which: NDArray[Any], /) -> Scored:
        return Scored(self.events[which], self.logits[which])


P = TypeVar("P", bound=Population)


def paired_changes(
    nominal: P, alternatives: Sequence[P], measure: Callable[[P], Any], *, blocks: int = BLOCKS
) -> list[Estimate]:
    """Change of a measure in each of several alternatives to a population.

    The variance is that of the jackknife, (1 − 1/B) Σ_b (θ_b − mean θ)² for the change θ_b without block b of
    the events [Efron & Stein, Ann. Stat. 9 (1981) 586]. An event is left out of both populations at once:
    fluctuations that they share cancel, and those of events that are in one of them only count.

    Parameters
    ----------
    nominal : Population
        Attribution without further variations, or `Scored` events.
    alternatives : sequence of Population
    measure : callable
        Number or array of a population.
    blocks : int

    Returns
    -------
    list of Estimate
        One for each alternative, of the shape of the measure.
    """
    before = _with_jackknife(nominal, measure, blocks)
    return [_estimate(_with_jackknife(one, measure, blocks) - before) for one in alternatives]


def _with_jackknife(population: P, measure: Callable[[P], Any], blocks: int) -> Array:
    """Measure of the population, and without each block, ``[1 + B, ...]``."""
    block = _block(population.events, blocks)
    parts = (population, *(population[block != b] for b in range(blocks)))
    return np.array([np.asarray(measure(part), dtype=np.float64) for part in parts])


def _block(events: Events, blocks: int) -> IntArray:
    """Block of each event, the same in every selection and order of the events of some files."""
    return (event_hash(events.file, events.entry) % np.uint64(blocks)).astype(np.int64)


def _estimate(changes: Array) -> Estimate:
    without = changes[1:]
    squares = np.sum((without - without.mean(axis=0)) ** 2, axis=0)
    return Estimate(changes[0], np.sqrt(squares * (1 - 1 / len(without))), np.nan)
