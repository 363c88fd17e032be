"""One table of faithfulness for several maps of the same events: per image and over a population."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.reductions import short_name
from hepxai.core.chunks import evenly_spread
from hepxai.core.console import track
from hepxai.core.estimate import Estimate, as_json
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, explain
from hepxai.explainers.image.images import BLURRED, blurred
from hepxai.explainers.methods import configure
from hepxai.metrics.faithfulness import (
    Removals,
    gini,
    infidelity,
    mean_of,
    region_correlation,
    sensitivity_n,
)
from hepxai.metrics.pixels import truth_share
from hepxai.metrics.removal_curves import RemovalCurve, random_curve, removal_curve
from hepxai.metrics.removals import Baseline, Images, random_values
from hepxai.models.protocols import Imaging, Model
from hepxai.models.target import Target
from hepxai.studies.comparison.numbers import MethodComparison, compare
from hepxai.studies.randomisation.numbers import similarity

RANDOM, ALIKE = "random values", "all pixels alike"
"""Reference maps: their numbers are those by chance."""
BLUR = 4.0
"""σ of the Gaussian of the baseline "blurred", in pixels."""
SUBSETS = (0.1, 0.3, 0.6)
"""Shares of the pixels that are removed for sensitivity-n."""
Numbers = dict[str, Estimate]


@dataclass(frozen=True)
class FaithfulnessTable:
    """Faithfulness of several maps, with that of maps without any information.

    Attributes
    ----------
    target : str
    events : int
        Number of events.
    titles : mapping of str to str
        Method to its name in words; the two reference maps are last.
    numbers : mapping of str to mapping of str to Estimate
        Method to measure to value. A measure that a method does not have is missing.
    curves : mapping of str to tuple of RemovalCurve
        Method to its deletion and insertion curve; `RANDOM` has the deletion curve of random orders twice.
    agreement : MethodComparison, optional
        Of the methods with each other and with the truth; None for a single method.
    notes : tuple of str
        One sentence for each number that could not be computed.
    """

    target: str
    events: int
    titles: Mapping[str, str]
    numbers: Mapping[str, Mapping[str, Estimate]]
    curves: Mapping[str, tuple[RemovalCurve, RemovalCurve]]
    agreement: MethodComparison | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        methods = ", ".join(m for m in self.numbers if m not in (RANDOM, ALIKE))
        return f"<FaithfulnessTable: {methods} of {self.target}, {self.events:,} events>"

    def to_json(self) -> dict[str, Any]:
        """Numbers, names, notes and agreements as JSON values."""
        return {
            "target": self.target,
            "events": self.events,
            "titles": dict(self.titles),
            "numbers": {method: as_json(numbers) for method, numbers in self.numbers.items()},
            "agreement": [row for row in self.rows() if row["other"]],
            "notes": list(self.notes),
        }

    def rows(self) -> Iterator[dict[str, float | str | int]]:
        """Numbers as a long table: one row for each method and measure, and each pair of methods."""
        for method, numbers in self.numbers.items():
            for what, number in numbers.items():
                value, error = float(number.value), float(number.error)
                yield {"target": self.target, "method": method, "other": "", "what": what} | {
                    "value": value,
                    "error": error,
                    "events": self.events,
                }
        for row in self.agreement.rows() if self.agreement else ():
            if row["other"]:
                names = {k: row[k] for k in ("method", "other", "what", "value", "error")}
                yield {"target": self.target} | names | {"events": self.events}


def compare_maps(
    model: Imaging,
    events: Events,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any] | Attribution],
    target: str | None = None,
    *,
    truth: str | None = None,
    baseline: float | str | NDArray[np.floating] = 0.0,
    steps: int = 16,
    draws: int = 32,
    subsets: Sequence[float] = SUBSETS,
    again: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> FaithfulnessTable:
    """Compare maps of several methods on the same events by their faithfulness to the model.

    Parameters
    ----------
    model : Imaging
    events : Events
        A single event, too: then without errors.
    methods : sequence of str, or mapping
        Names, or ``name → settings`` as in `compare_methods`, or ``name → Attribution`` of these events.
    target : str, optional
        Explained output or contrast.
    truth : str, optional
        A key of ``events.truth``.
    baseline : float, "blurred" or ndarray
        Value of a removed pixel. A map is best judged with the baseline that it was made with.
    steps : int
        Of the curves.
    draws : int
        Random groups of pixels of each event, for each measure that samples.
    subsets : sequence of float
        Numbers of removed pixels for sensitivity-n, or shares below 1.
    again : int
        Events that are explained twice more: for the time, and with randomised weights. 0: neither.
    seed : int
        Random numbers are functions of it and the numbers of the event.
    progress : bool
        Show progress.

    Returns
    -------
    FaithfulnessTable
        The cost without the methods is about ``4 steps + draws (1 + subsets)`` images an event, once, and
        ``2 steps`` for each method.

    Raises
    ------
    CannotExplainError
        If the model does not score images.
    ValueError
        If a method gives no map over pixels.
    """
    if not isinstance(model, Imaging):
        raise CannotExplainError(
            f"faithfulness is measured on detector images; {type(model).__name__} takes the view "
            f"{getattr(model, 'view', 'unknown')!r}. `hepxai report` compares its methods by their agreement"
        )
    maps = _maps(model, events, methods, target, progress)
    first = next(iter(maps.values()))
    judge = _Judge.of(model, events, first.target, baseline, (steps, draws, seed), subsets)
    numbers: dict[str, Mapping[str, Estimate]] = {}
    curves, notes = {}, []
    references = _references(first, seed)
    with track("compare", len(maps) + len(references), show=progress) as advance:
        for name, attribution in (maps | references).items():
            curves[name] = judge.curves(attribution, chance=name in references)
            numbers[name] = judge.numbers(attribution, curves[name], truth)
            if name in maps and again:
                extra, note = _again(model, attribution, again, seed)
                numbers[name] = {**numbers[name], **extra}
                notes += [f"{name}: {note}"] if note else []
            advance(1, name)
    titles = {n: n if n in references else short_name(a, n) for n, a in (maps | references).items()}
    agreement = compare(maps, truth=truth, k=_top(events)) if len(maps) > 1 else None
    return FaithfulnessTable(
        first.target, len(events), titles, numbers, curves, agreement, tuple(dict.fromkeys(notes))
    )


def _maps(
    model: Imaging, events: Events, methods: Any, target: str | None, progress: bool
) -> dict[str, Attribution]:
    settings = methods if isinstance(methods, Mapping) else {name: {} for name in methods}
    if not settings:
        raise ValueError("no methods to compare")
    maps = {}
    with track("explain", len(settings), show=progress) as advance:
        for name, given in settings.items():
            if isinstance(given, Attribution):
                maps[name] = given
            else:
                options = dict(given)
                maps[name] = explain(model, events, options.pop("method", name), target=target, **options)
            advance(1, name)
    for name, attribution in maps.items():
        if attribution.axes not in (PIXELS, CHANNEL_PIXELS):
            axes = ", ".join(attribution.axes)
            raise ValueError(f"{name} gives no map over pixels (event, row, column) but {axes}; leave it out")
    return maps


def _references(first: Attribution, seed: int) -> dict[str, Attribution]:
    """Maps without information: random values, and the same value in all pixels."""
    events = first.events
    bare = Attribution(random_values(events, seed), PIXELS, events, RANDOM, first.target)
    alike = bare.replace(values=np.ones_like(bare.values), method=ALIKE)
    return {RANDOM: bare, ALIKE: alike}


def _top(events: Events) -> int:
    """Pixels whose overlap is compared: 10, or fewer in a tiny image."""
    _, rows, columns = events.image_layout().shape
    return max(1, min(10, rows * columns - 1))


@dataclass(frozen=True)
class _Judge:
    """Removals of the events, shared by all maps."""

    score: Any
    baseline: Baseline
    steps: int
    blocks: Removals
    subsets: Mapping[float, Removals]
    chance: RemovalCurve

    @staticmethod
    def of(
        model: Imaging,
        events: Events,
        target: str,
        baseline: float | str | NDArray[np.floating],
        sizes: tuple[int, int, int],
        subsets: Sequence[float],
    ) -> _Judge:
        output, (steps, draws, seed) = Target.of(model.outputs, target), sizes

        def score(x: Images) -> NDArray[np.float64]:
            return output(model.score_image(x))

        start: Baseline = _baseline(baseline)
        sample = partial(Removals.sample, score, events, draws=draws, baseline=start, seed=seed)
        return _Judge(
            score,
            start,
            steps,
            sample(),
            {n: sample(n=n) for n in subsets},
            random_curve(score, events, steps=steps, baseline=start, seed=seed),
        )

    def curves(self, attribution: Attribution, *, chance: bool) -> tuple[RemovalCurve, RemovalCurve]:
        """Deletion and insertion curve; those of a random order for a reference."""
        if chance:
            return self.chance, self.chance
        curve = partial(removal_curve, self.score, attribution, steps=self.steps, baseline=self.baseline)
        return curve(), curve(inserts=True)

    def numbers(
        self, attribution: Attribution, curves: tuple[RemovalCurve, RemovalCurve], truth: str | None
    ) -> Numbers:
        """All measures of a map that need no other map."""
        mean = partial(mean_of, weight=attribution.events.weight)
        numbers: Numbers = {}
        if "median_residual" in attribution.checks:
            residual = np.asarray(attribution.checks["median_residual"])
            numbers["residual"] = Estimate(residual, np.asarray(np.nan), np.nan)
        numbers["faithfulness"] = mean(region_correlation(self.blocks, attribution))
        numbers["deletion"], numbers["insertion"] = (curve.area for curve in curves)
        numbers["infidelity"] = mean(infidelity(self.blocks, attribution))
        for n, removals in self.subsets.items():
            numbers[f"sensitivity_{n:g}"] = mean(sensitivity_n(removals, attribution))
        numbers["sparsity"] = mean(gini(attribution))
        if truth is not None:
            numbers["truth_share"] = truth_share(attribution, truth).among_hits
        return numbers


def _baseline(baseline: Any) -> Baseline:
    if isinstance(baseline, str):
        if baseline != BLURRED:
            raise ValueError(f"baseline={baseline!r}; a number, an image or {BLURRED!r} is needed")
        return partial(blurred, sigma=BLUR)
    return np.asarray(baseline, dtype=np.float32)


# --- maps made again -------------------------------------------------------------------------------


def settings_of(attribution: Attribution) -> dict[str, Any]:
    """Stored settings of a map with which it can be made again."""
    fields = {n for n, f in EXPLAINERS[attribution.method].model_fields.items() if not f.exclude}
    return {n: v for n, v in attribution.settings.items() if n in fields}


def _again(model: Model, attribution: Attribution, size: int, seed: int) -> tuple[Numbers, str]:
    """Seconds per event, and similarity to the map of a model with random weights; a note if impossible."""
    few, none = attribution[evenly_spread(len(attribution.events), size)].events, np.asarray(math.nan)
    try:
        settings = settings_of(attribution)
        start = time.perf_counter()
        prepared = configure(attribution.method, settings).prepare(model, few, attribution.target)
        made = prepared.attribute(few)
        seconds = (time.perf_counter() - start) / max(len(few), 1)
        numbers = {"seconds": Estimate(np.asarray(seconds), none, float(len(few)))}
    except (KeyError, ValueError) as problem:
        return {}, f"not made again for its time and randomisation: {problem}"
    try:
        random = similarity(made, model, settings, only_last=True, seed=seed)
    except (CannotExplainError, ValueError, ArithmeticError) as problem:
        return numbers, f"not randomised: {problem}"
    return {"randomised": random.last, **numbers}, ""
