"""Training, validation and test sample: a deterministic function of the event numbers."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hepxai.cards import Card
from hepxai.core.jagged import IntArray
from hepxai.events.schema import SPLITS

UInt64Array = NDArray[np.uint64]
ALL_FOLDS: Literal["all"] = "all"


class Split(Card):
    """Shares of training, validation and test, or k-fold, by a hash of the event's numbers.

    Of ``folds``, ``fold`` is the number of the test sample, or "all": a run then trains for each of them,
    and every event is a test event once.
    """

    train: float = Field(default=6.0, ge=0, le=1e15, allow_inf_nan=False)
    valid: float = Field(default=3.0, ge=0, le=1e15, allow_inf_nan=False)
    test: float = Field(default=1.0, ge=0, le=1e15, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, lt=2**63)
    folds: int | None = Field(default=None, ge=2, le=10_000)
    fold: Annotated[int, Field(ge=0)] | Literal["all"] = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.train + self.valid <= 0:
            raise ValueError("train and valid are both 0; give train a share, as in train: 6")
        if self.fold == ALL_FOLDS:
            if self.folds is None:
                raise ValueError("fold: all needs the number of folds, as in folds: 5")
        elif self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}; folds are numbered 0 to {self.folds - 1}")
        return self


def splitmix64(values: UInt64Array) -> UInt64Array:
    """Well mixed 64 bits of every value [Steele, Lea, Flood, OOPSLA 2014]; the same on every machine."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def event_hash(*numbers: IntArray, seed: int = 0) -> UInt64Array:
    """Hash of the numbers of an event (run, luminosity block, event), ``[E]``."""
    mixed = splitmix64(np.full(len(numbers[0]), seed, dtype=np.uint64))
    for column in numbers:
        mixed = splitmix64(mixed ^ column.astype(np.int64).view(np.uint64))
    return mixed


def text_hash(text: str) -> int:
    """Non-negative number below 2**63 that stands for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def assign_split(split: Split, *numbers: IntArray) -> IntArray:
    """Split of every event, an index into ``SPLITS``, shape [E].

    With ``folds``, the test sample is fold ``fold`` of k; the k test samples are disjoint and cover
    everything, and train and valid share the rest by their weights. With ``fold: all`` every event is a test
    event.
    """
    if split.fold == ALL_FOLDS:
        return np.full(len(numbers[0]), SPLITS.index("test"))
    uniform = _uniform(event_hash(*numbers, seed=split.seed))
    if split.folds is None:
        shares = np.cumsum([split.train, split.valid, split.test])
        return np.searchsorted(shares[:-1] / shares[-1], uniform, side="right")
    fold = (uniform * split.folds).astype(np.int64)
    rest = _uniform(event_hash(*numbers, seed=split.seed + 1))
    valid = rest >= split.train / (split.train + split.valid)
    return np.where(fold == split.fold, SPLITS.index("test"), valid.astype(np.int64))


def _uniform(mixed: UInt64Array) -> NDArray[np.float64]:
    """Top 53 bits as a number in [0, 1)."""
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53, dtype=np.float64)
