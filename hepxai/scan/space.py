"""Search space of a scan: values or ranges of card entries."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hepxai.cards import parse_value
from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard

Stored = bool | int | float | str | None
"""Value in the store: lists and mappings as JSON text."""
Point = Mapping[str, Stored]
CARDS = ("dataset", "model")
SEED = "model.training.seed"
DIGITS = 4
LONGEST = 160
_RANGE = re.compile(r"(?P<low>[^,:\[\]{}]+?)\.\.(?P<high>[^,:\[\]{}]+?)(?P<log>:log)?")


class ScanError(RuntimeError):
    """Scan that is impossible or cannot resume; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Choices:
    """Values of a card entry, in the order given.

    Attributes
    ----------
    key : str
        ``model.KEY`` or ``dataset.KEY``.
    values : tuple
    """

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        slugs = [_slug(v) for v in self.values]
        if not slugs:
            raise ScanError(f"{name_of(self.key)}: no values to scan")
        for slug in slugs:
            if slugs.count(slug) > 1:
                raise ScanError(f"{name_of(self.key)}: {slug} is listed twice; list it once")

    @property
    def stored(self) -> tuple[Stored, ...]:
        """Values in the store."""
        return tuple(v if isinstance(v, Stored) else json.dumps(v) for v in self.values)

    @property
    def size(self) -> float:
        """Number of values."""
        return len(self.values)

    @property
    def is_log(self) -> bool:
        """True if the values are spaced like powers rather than evenly."""
        numbers = [v for v in self.values if is_number(v)]
        if len(numbers) < max(len(self.values), 3) or min(numbers) <= 0:
            return False
        return bool(max(numbers) / min(numbers) > 50)

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        return CategoricalDistribution(self.stored)

    def ordered(self) -> BaseDistribution:
        """Distribution in which numbers have neighbours."""
        if not all(map(is_number, self.values)):
            return self.distribution()
        return FloatDistribution(min(self.values), max(self.values), log=self.is_log)

    def to_check(self) -> tuple[Stored, ...]:
        """Values that the card must accept."""
        return self.stored

    def text(self, stored: Stored) -> str:
        """Value as in an override, which is JSON and so YAML."""
        return json.dumps(self.values[self.stored.index(stored)])

    def rounded(self, stored: Stored) -> Stored:
        """The value itself."""
        return stored


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, whole ones if both ends are.

    Attributes
    ----------
    key : str
    low, high : float or int
    log : bool
        Uniform in the logarithm.
    """

    key: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and self.low < self.high < math.inf):
            raise ScanError(f"{name_of(self.key)}: {self.low}..{self.high} is no range; write LOW..HIGH")
        if self.log and self.low <= 0:
            raise ScanError(f"{name_of(self.key)}: a logarithmic range starts above 0, not at {self.low}")

    @property
    def whole(self) -> bool:
        """True if only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> float:
        """Number of values."""
        return self.high - self.low + 1 if self.whole else math.inf

    @property
    def is_log(self) -> bool:
        """True for a logarithmic axis of a figure."""
        return self.log

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def ordered(self) -> BaseDistribution:
        """Distribution in which numbers have neighbours."""
        return self.distribution()

    def to_check(self) -> tuple[Stored, ...]:
        """Values that the card must accept."""
        return (self.low, self.high)

    def text(self, stored: Stored) -> str:
        """Value as in an override."""
        return json.dumps(stored)

    def rounded(self, stored: Stored) -> Stored:
        """Four significant digits, so that card, store and the name of the folder agree."""
        if self.whole or not isinstance(stored, float):
            return stored
        return min(max(float(f"{stored:.{DIGITS}g}"), self.low), self.high)


Axis = Choices | Range


@dataclass(frozen=True)
class Space:
    """Card entries that are scanned together.

    Attributes
    ----------
    axes : tuple of Choices or Range
    """

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        keys = [a.key for a in self.axes]
        for key in keys:
            if keys.count(key) > 1:
                raise ScanError(f"{name_of(key)} is scanned twice; give all its values at once")
            if key == SEED:
                raise ScanError("training.seed is what --seeds is for: --seeds 3 trains with seeds 1, 2, 3")

    @property
    def size(self) -> float:
        """Number of points; infinite with a range of real numbers."""
        return math.prod(a.size for a in self.axes)

    @property
    def reads_anew(self) -> bool:
        """True if points differ in the data-set card, so that events must be read again."""
        return any(a.key.startswith("dataset.") for a in self.axes)

    def grid(self) -> Iterator[Point]:
        """All points, the last axis fastest; every axis has choices."""
        choices = [a.stored for a in self.axes if isinstance(a, Choices)]
        for values in itertools.product(*choices):
            yield dict(zip((a.key for a in self.axes), values, strict=True))

    def distributions(self) -> dict[str, BaseDistribution]:
        """For Optuna."""
        return {a.key: a.distribution() for a in self.axes}

    def rounded(self, point: Point) -> Point:
        """The point with real numbers of a few digits."""
        return {a.key: a.rounded(point[a.key]) for a in self.axes}

    def overrides(self, point: Point, seed: int) -> list[str]:
        """Overrides of the cards, ``model.KEY=VALUE`` or ``dataset.KEY=VALUE``."""
        axes = {a.key: a for a in self.axes}
        return [*(f"{k}={axes[k].text(v)}" for k, v in point.items()), f"{SEED}={seed}"]

    def to_json(self) -> dict[str, Any]:
        """JSON of the axes by their keys."""
        return {
            a.key: list(a.values) if isinstance(a, Choices) else {"low": a.low, "high": a.high, "log": a.log}
            for a in self.axes
        }

    @staticmethod
    def from_json(axes: Mapping[str, Any]) -> Space:
        """Space of `to_json`."""
        return Space(
            tuple(Range(k, **v) if isinstance(v, Mapping) else Choices(k, tuple(v)) for k, v in axes.items())
        )

    @staticmethod
    def parse(over: Sequence[str] | Mapping[str, Any]) -> Space:
        """Space of ``["KEY=0.1,0.2", "KEY=LOW..HIGH:log"]``, or of ``{KEY: [0.1, 0.2]}``.

        Without any, its one point is the cards as they are: a scan of seeds.
        """
        if isinstance(over, Mapping):
            return Space(tuple(_axis(k, v) for k, v in over.items()))
        axes = []
        for text in over:
            key, equals, values = text.partition("=")
            if not (equals and key.strip()):
                raise ScanError(f"--over {text}: expected KEY=VALUE,VALUE,... or KEY=LOW..HIGH")
            axes.append(_axis(key.strip(), values))
        return Space(tuple(axes))


def _axis(key: str, values: Any) -> Axis:
    kind = key.partition(".")[0]
    full = key if kind in CARDS and "." in key else f"model.{key}"
    if not isinstance(values, str):
        return Choices(full, tuple(values))
    where = f"--over {key}={values}"
    match = _RANGE.fullmatch(values.strip())
    ends = [parse_value(match[e], where) for e in ("low", "high")] if match else []
    if match and all(map(is_number, ends)):
        return Range(full, ends[0], ends[1], log=match["log"] is not None)
    return Choices(full, tuple(parse_value(f"[{values}]", where)))


def is_number(value: object) -> bool:
    """True for a number that is no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def name_of(key: str) -> str:
    """Key without the prefix ``model.``, as a user writes it."""
    return key.removeprefix("model.")


def _slug(value: object) -> str:
    """Value as part of a file name."""
    plain = json.dumps(value) if not isinstance(value, str) else value
    return re.sub(r"[^\w.+-]+", "-", plain).strip("-") or "empty"


def folder_name(point: Point, seed: int) -> str:
    """Name of a run: ``edge_dropout=0.05,seed=1``."""
    name = ",".join([*(f"{name_of(k)}={_slug(v)}" for k, v in point.items()), f"seed={seed}"])
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}~{fingerprint(name)[:8]}"


def label(point: Point) -> str:
    """Point in words: ``edge_dropout=0.05, heads=2``."""
    return ", ".join(f"{name_of(k)}={v}" for k, v in point.items()) or "the cards as they are"


def cards_with(folder: Path, overrides: Sequence[str]) -> tuple[DatasetCard, ModelCard]:
    """Both cards of a scan with some entries replaced; a CardError if a card refuses a key or a value."""
    by_card: dict[str, list[str]] = {card: [] for card in CARDS}
    for override in overrides:
        card, _, rest = override.partition(".")
        by_card[card].append(rest)
    dataset = DatasetCard.find(folder / "dataset.yaml", by_card["dataset"])
    return dataset, ModelCard.find(folder / "model.yaml", by_card["model"])
