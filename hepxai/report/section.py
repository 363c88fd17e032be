"""Parts of a report: sections with text, tables, figures, and the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Protocol

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means
from hepxai.attribution.spread import SYSTEMATIC, TRAINING, measured_together, single_trainings
from hepxai.core.estimate import Array, Estimate, Spread
from hepxai.core.formatting import decimals, fixed, general, measured, percentage, real
from hepxai.events import SPLITS, Events
from hepxai.explainers import EXPLAINERS
from hepxai.metrics.agreement import Agreement
from hepxai.plots.style import canvas, style

ERRORS = "Errors are statistical."
EstimateRows = Mapping[str, Mapping[str, Estimate]]
"""Row → column → estimate."""
NAMED = 6
"""Maps that are named one by one; of more there is a table of the methods, and that of all maps is folded."""


def errors_of(attribution: Attribution) -> str:
    """Kinds of the errors of means of a map."""
    return kinds_of_errors(len(single_trainings(attribution)), systematic=bool(attribution.varied))


def kinds_of_errors(trainings: int, *, systematic: bool) -> str:
    """Sentence on the errors that follow a number, in their order."""
    more = [f"spread of {trainings} trainings"] if trainings > 1 else []
    more += ["systematic"] if systematic else []
    return f"Errors: ± {' ± '.join(['statistical', *more])}." if more else ERRORS


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its caption.

    Attributes
    ----------
    name : str
        File name without ending, unique in a report.
    figure : Figure
    caption : str
    wide : bool
        True to keep a minimum width and scroll on a narrow screen.
    """

    name: str
    figure: Figure
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Attributes
    ----------
    caption : str
    header : sequence of str
    rows : sequence of sequence of str
    words : int
        Number of leading text columns; the others hold numbers.
    folded : bool
        True to collapse the table until the reader opens it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes
    ----------
    key : str
        Anchor, and the key in ``numbers.json``.
    title : str
    text, warnings : sequence of str
    tables, figures : sequence
    numbers : mapping
        JSON values: every number shown.
    histograms : mapping of str to hist.Hist
        For ``histograms.root``, by path.
    level : int
        Depth of the heading, 2 or 3.
    browser : mapping, optional
        Events for the event browser of the page.
    """

    key: str
    title: str
    text: Sequence[str] = ()
    warnings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[CaptionedFigure] = ()
    numbers: Mapping[str, Any] | Sequence[Any] = field(default_factory=dict)
    histograms: Mapping[str, hist.Hist] = field(default_factory=dict)
    level: int = 2
    browser: Mapping[str, Any] | None = None


def drawn(
    name: str, caption: str, draw: Callable[[Axes], object], size: tuple[float, float] | None = None
) -> CaptionedFigure:
    """Figure of one frame in the house style."""
    with style():
        figure, axes = canvas(size=size)
        draw(axes[0, 0])
    return CaptionedFigure(name, figure, caption)


def means_table(caption: str, means: Means) -> Table:
    """Means by class, their difference, and the events behind them; the last class, usually signal, first."""
    classes, names = means.labels[:2]
    order = range(len(classes))[::-1]
    header = [means.axes[1], *classes[::-1], *(f"events, {c}" for c in classes[::-1])]
    header = [means.axes[1], "mean", "events"] if len(classes) == 1 else header
    rows = []
    for i, name in enumerate(names):
        values = [cell(means, c, i) for c in order]
        rows.append([name, *values, *(f"{means.events[c, i]:,}" for c in order)])
    if len(classes) == 2:  # classes share no event, so that their errors are independent
        alone = " (statistical)" if means.spread else ""  # trainings and variations shift both classes
        header.insert(3, f"{classes[1]} − {classes[0]}{alone}")
        difference, error = means.value[1] - means.value[0], np.hypot(means.error[1], means.error[0])
        for row, d, e in zip(rows, difference, error, strict=True):
            row.insert(3, measured(float(d), float(e)))
    return Table(caption, header, rows)


class Numbers(Spread, Protocol):
    """Values with their errors: means, estimates, rankings."""

    @property
    def value(self) -> Array:
        """Values."""


def cell(means: Numbers, *place: int) -> str:
    """One of several values with its errors."""
    numbers = (float(a[place]) for a in (means.value, means.error, *means.spread.values()))
    return named(measured(*numbers), means.spread)


def entry(estimate: Estimate) -> dict[str, float]:
    """``{"value", "error"}`` of a single number, what else varies by its source, and ends of its interval."""
    return {k: v for k, v in estimate.to_json().items() if k != "n_eff"}


def stored(entry: Mapping[str, Any]) -> str:
    """Number of `entry`, or a row of means, as text with all its errors."""
    return named(measured(entry["value"], entry["error"], *others(entry)), entry)


def named(text: str, errors: Container[str]) -> str:
    """Text of a number, with the name of its last error if that is systematic."""
    return f"{text} (syst)" if SYSTEMATIC in errors and "±" in text else text


def others(entry: Mapping[str, Any]) -> list[float]:
    """Errors of an entry beside the statistical one: spread over trainings, and systematic."""
    return [entry[name] for name in (TRAINING, SYSTEMATIC) if entry.get(name) is not None]


def figures_table(
    caption: str,
    figures: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    name: Callable[[str], str],
    cell: Callable[[Mapping[str, float | None]], str],
) -> Table:
    """Table of ``split → figure of merit → {value, error}``: one row a figure, one column a split."""
    names = dict.fromkeys(n for row in figures.values() for n in row)
    rows = [[name(n), *(cell(row[n]) if n in row else "–" for row in figures.values())] for n in names]
    return Table(caption, ("", *figures), rows)


def estimates_table(caption: str, what: str, rows: EstimateRows) -> Table:
    """Table of ``row → column → estimate``."""
    names = next(iter(rows.values()), {})
    cells = [[row, *(number(entry(e)) for e in of.values())] for row, of in rows.items()]
    return Table(caption, (what, *names), cells)


def methods_table(caption: str, rows: Sequence[Mapping[str, Any]], key: str, chance: str = "") -> Table:
    """One row for each method: mean, lowest and highest number of its maps; the highest mean first.

    Parameters
    ----------
    caption : str
    rows : sequence of mapping
        ``name`` of the method, ``target``, and entries ``{value, error}``. Maps without a value are left out.
    key : str
        Entry to show.
    chance : str
        Entry with its value by chance; without one it is 0.
    """
    methods: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if np.isfinite(row[key]["value"]):
            methods.setdefault(row["name"], []).append(row)
    cells = []
    for name, several in methods.items():
        ranked = sorted(several, key=lambda r: float(r[key]["value"]))
        lowest, highest = ranked[0], ranked[-1]
        beyond = f"{sum(excess(r, key, chance) > 2 for r in ranked)} of {len(ranked)}"
        numbers = [_mean_of_maps(ranked, key), number(lowest[key]), number(highest[key])]
        cells.append([name, lowest["target"], highest["target"], *numbers, beyond])
    means = [float(np.mean([r[key]["value"] for r in several])) for several in methods.values()]
    header = ("method", "lowest for", "highest for", "mean", "lowest", "highest", "above chance")
    every = [row for several in methods.values() for row in several]
    by_chance = f" ({_mean_of_maps(every, chance)})" if chance and every else ""
    note = (
        " Mean of the outputs with the upper limit of its error, because outputs share events; highest mean "
        f"first. Above chance{by_chance}: outputs above it by more than two errors."
    )
    return Table(caption + note, header, [cells[i] for i in np.argsort(means)[::-1]], words=3)


def _mean_of_maps(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Mean of an entry, with the mean of the errors: the largest that maps of the same events can have."""
    value, error = (float(np.mean([r[key][part] for r in rows])) for part in ("value", "error"))
    return measured(value, error)


def excess(row: Mapping[str, Any], key: str, chance: str = "") -> float:
    """Entry of a row less its value by chance, in units of their error."""
    by_chance = row[chance] if chance else {"value": 0.0, "error": 0.0}
    error = float(np.hypot(row[key]["error"], by_chance["error"]))
    difference = float(row[key]["value"] - by_chance["value"])
    return difference / error if error > 0 else float(np.sign(difference)) * np.inf if difference else 0.0


def agreement_rows(
    maps: Mapping[str, Attribution], measure: Callable[[Attribution, Attribution], Agreement]
) -> Iterator[dict[str, Any]]:
    """Mean agreement of every two named attributions of the same events and output."""
    for (first, a), (second, b) in combinations(maps.items(), 2):
        if _same_output(a, b) and all(
            np.array_equal(getattr(a.events, k), getattr(b.events, k)) for k in ("entry", "file")
        ):
            agreement = measured_together(measure, a, b)
            names = {"first": first, "second": second, "left_out": agreement.left_out}
            yield names | entry(agreement.mean)


def _same_output(a: Attribution, b: Attribution) -> bool:
    """True for attributions of the same output, also if the method of one is the same for all outputs."""
    explainers = (EXPLAINERS.get(one.method) for one in (a, b))
    return a.target == b.target or any(e is not None and not e.tells_outputs_apart for e in explainers)


def capital(text: str) -> str:
    """Text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def number(entry: Mapping[str, float | None]) -> str:
    """``{"value", "error"}`` as text; with ``low`` and ``high``, both errors where they differ."""
    value, error, low, high = (real(entry.get(k)) for k in ("value", "error", "low", "high"))
    more = others(entry)
    if math.isnan(low) or (math.isnan(value) and math.isfinite(high)):
        return named(measured(value, error, *more), entry)
    if not math.isfinite(value):  # null in JSON, and so is its upper end
        return f"> {general(low, 2)}"
    ends = np.asarray(low), np.asarray(high)
    text = f"{Estimate(np.asarray(value), np.asarray(error), np.nan, ends)}".replace("-", "−")
    spread = "".join(f" ± {fixed(s, decimals(error))}" for s in more)
    return named(measured(value, error, *more) if "±" in text else text + spread, entry)


def population(events: Events) -> str:
    """``3,104 events (10.2 % with negative weight)``."""
    negative = float(np.mean(events.weight < 0)) if len(events) else 0.0
    share = f"{percentage(negative, least=1)} with negative weight" if negative else "no negative weights"
    return f"{len(events):,} events ({share})"


def splits_of(events: Events) -> str:
    """Names of the splits that occur, for captions."""
    return " + ".join(s for i, s in enumerate(SPLITS) if (events.split == i).any()) or "no"


def labelled_histogram(value: Array, error: Array, **axes: Sequence[str]) -> hist.Hist:
    """Means and their errors as a histogram with labelled bins; empty groups are 0 ± 0.

    Parameters
    ----------
    value, error : ndarray
        One or two axes.
    **axes
        Labels of the bins of each axis, by its name.
    """
    bins = [hist.axis.StrCategory(list(labels), name=name, label=name) for name, labels in axes.items()]
    histogram = hist.Hist(*bins, storage=hist.storage.Weight())
    histogram[...] = np.nan_to_num(np.stack([value, error**2], axis=-1))
    return histogram


def titled(filled: hist.Hist, attribution: Attribution) -> hist.Hist:
    """Histogram with the concerns about an attribution, if any, as its title in ROOT."""
    filled.name = attribution.caveat or filled.name  # uproot writes the name as the title
    return filled
