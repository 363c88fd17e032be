"""Methods of other libraries: import, and isolation from global state."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.core.extras import MissingExtraError as MissingExtraError
from hepxai.core.extras import import_extra as import_extra
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import event_hash, splitmix64
from hepxai.explainers.coalitions import IDENTITY
from hepxai.models.target import Target

Array = NDArray[np.float64]
RUNS = 4
"""Independent runs of a method that samples: their spread is its error."""


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore the global random numbers that a library draws from, and suppress its warnings."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def event_seeds(events: Events, seed: int, runs: int = 1) -> IntArray:
    """Seeds ``[E, runs]`` that depend on the event and on ``seed`` only, not on the other events."""
    event = event_hash(*(getattr(events, name) for name in IDENTITY), seed=seed)
    seeds = splitmix64(event[:, None] ^ splitmix64(np.arange(runs, dtype=np.uint64)))
    return (seeds >> np.uint64(32)).astype(np.int64)


def mean_and_error(runs: list[Array]) -> tuple[Array, Array]:
    """Mean of independent runs, and its standard error; 0 for a single, exact run."""
    values = np.stack(runs)
    if len(runs) == 1:
        return values[0], np.zeros_like(values[0])
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(runs))


class OneOutput(nn.Module):
    """One output of a model as a torch module ``[B, G] -> [B, 1]``.

    Attributes
    ----------
    score : callable
        ``[B, G] -> [B, O]``. It is no part of the module, which hence changes no mode of a model.
    output : int
    parts : sequence of nn.Module
        Modules that shall be seen as parts of this one, to put hooks on.
    """

    def __init__(self, score: Callable[[Tensor], Tensor], output: Target, parts: list[nn.Module]) -> None:
        super().__init__()
        self.score, self.output, self.parts = score, output, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Logit of the output."""
        return self.output(self.score(x))[:, None]
