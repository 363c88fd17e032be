"""Section on the expected significance and limit at a working point, if the card says what weights mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution.spread import SYSTEMATIC, TRAINING
from hepxai.core.estimate import Array
from hepxai.core.formatting import general
from hepxai.datasets.presentation import Yields
from hepxai.events import SPLITS, Events
from hepxai.metrics.significance import (
    BANDS,
    FEWEST,
    WorkingPoint,
    best_cut,
    cut_scan,
    cuts_of,
    discovery_significance,
    expected_limit,
    scaled_to_all,
    working_point,
)
from hepxai.plots.scores import class_scores
from hepxai.plots.significance import limit_scan, significance_scan
from hepxai.plots.style import canvas, style
from hepxai.report.section import CaptionedFigure, Section, Table, entry, number
from hepxai.report.view import RunView


@dataclass(frozen=True)
class Sample:
    """Events of one split that stand for all, with weights in expected events."""

    name: str
    score: Array
    signal: NDArray[np.bool_]
    weight: Array
    relative: float

    def significance(self, cuts: Array) -> Array:
        """Significance above each cut, ``[C]``; NaN with fewer than `FEWEST` effective background events."""
        scan = self.scan(cuts)
        values = discovery_significance(scan["signal"], scan["background"], scan["error"])
        return np.where(scan["n_eff"] >= FEWEST, values, np.nan)

    def scan(self, cuts: Array) -> dict[str, Array]:
        """Yields above each cut."""
        return cut_scan(self.score, self.signal, self.weight, cuts, relative=self.relative)

    def limits(self, cuts: Array) -> Array:
        """Expected limits above each cut, ``[C, 5]``."""
        scan = self.scan(cuts)
        columns = (
            np.where(scan["n_eff"] >= FEWEST, scan["signal"], np.nan),
            scan["background"],
            scan["error"],
        )
        return np.array([expected_limit(*map(float, row)) for row in zip(*columns, strict=True)])


def significance_section(view: RunView) -> Section:
    """Working point with the best expected significance on one sample, quoted on another."""
    title = "Expected significance and limit"
    try:
        chosen, quoted, point = _result(view)
    except ValueError as problem:
        return Section("significance", title, warnings=[f"No working point: {problem}."])
    return Section(
        "significance",
        title,
        text=[_assumptions(view)],
        warnings=[f"Working point: {concern}." for concern in point.concerns],
        tables=[_table(view, chosen, quoted, point)],
        figures=[_figure(view, chosen, quoted, point)],
        numbers=_numbers(view, point),
    )


def significance_sentences(view: RunView) -> Iterator[str]:
    """Significance and limit for the summary."""
    if view.run.dataset.yields is None or not view.class_scores:
        return
    try:
        *_, point = _result(view)
    except ValueError:
        return
    yield (
        f"Expected at the best cut on the score: significance {number(entry(point.significance))}, upper "
        f"limit on the signal strength {number(entry(point.limit))} at 95 % CL; not included: "
        f"{_not_included(view)}."
    )


def _result(view: RunView) -> tuple[Sample, Sample, WorkingPoint]:
    """Sample that chooses the cut, sample that is quoted, and the working point with its spread."""
    chosen, quoted = _samples(view, view.events, view.run.scores)
    cut = _cut(chosen, quoted)

    def measure(events: Events, logits: Array) -> WorkingPoint:
        first, second = _samples(view, events, logits)
        single = events is view.events and logits is not view.run.scores
        at = _cut(first, second) if single else cut  # a single training has its own
        return working_point(second.score, second.signal, second.weight, at, relative=second.relative)

    return chosen, quoted, view.with_errors(measure)


def _cut(chosen: Sample, quoted: Sample) -> float:
    """Cut with the best significance of one sample, with enough background events of the other."""
    first, second = (int(np.count_nonzero(~sample.signal)) for sample in (chosen, quoted))
    fewest = FEWEST * max(1.0, first / max(second, 1))  # the quoted sample may be smaller
    return best_cut(chosen.score, chosen.signal, chosen.weight, relative=chosen.relative, fewest=fewest)


def _samples(view: RunView, events: Events, logits: NDArray[np.floating]) -> Iterator[Sample]:
    """Validation and test events; of a run of all folds, which has test events only, every second one."""
    one = class_scores(events.schema, logits)[0]
    signal = events.label == one.code
    parts = {name: events.split == SPLITS.index(name) for name in ("valid", "test")}
    if not parts["valid"].any():
        odd = np.arange(len(events)) % 2 == 1
        parts = {"every second event": odd, "the other events": ~odd}
    for name, rows in parts.items():
        scaled = scaled_to_all(events.weight, signal.astype(np.int64), rows)
        weight, relative = view.run.dataset.yield_scale * scaled, _yields(view).background_error
        yield Sample(name, one.values[rows], signal[rows], weight, relative)


def _yields(view: RunView) -> Yields:
    return view.run.dataset.yields or Yields(unit="events")


# --- texts, table, figure ------------------------------------------------------------------------


def _assumptions(view: RunView) -> str:
    yields, luminosity = _yields(view), view.run.dataset.luminosity
    meaning = (
        "Weights are taken as expected events"
        if yields.unit == "events"
        else f"Weights are taken as cross sections in {yields.unit}, and multiplied by {luminosity:g} fb⁻¹"
    )
    relative = yields.background_error
    other = f", and {100 * relative:g} % of it" if relative else ""
    return (
        f"{meaning}; events of a split are scaled up by their number, signal and background each, to "
        "stand for all events. One bin is counted: the events above a cut on the score. The background has "
        f"the statistical error of its simulation, √Σw² (Barlow–Beeston-lite){other}. "
        f"Not included: {_not_included(view)}. {_systematic(view)}"
        "Significance: median for the expected signal, asymptotic, with an uncertain background "
        "(arXiv:1007.1727; Li and Ma 1983). Limit: CLs with q̃, asymptotic, expected without signal. The "
        "cut with the best significance is chosen "
        f"among those with at least {FEWEST:g} effective background events of the quoted sample."
    )


def _systematic(view: RunView) -> str:
    """Meaning of the systematic error of significance and limit."""
    if not view.sources:
        return ""
    return (
        f"Systematic error: change of the number if {' or '.join(view.sources)} changes the expected events "
        "above the same cut; no nuisance parameter is profiled, as a fit of workspace.json does. "
    )


def _not_included(view: RunView) -> str:
    """Uncertainties that significance and limit leave out."""
    sources = ", ".join(s for s in view.run.dataset.variation_sources if s not in view.sources)
    left = f" and the variations of the card ({sources})" if sources else ""
    return f"{'other ' if view.sources else ''}uncertainties of the signal{left}"


def _table(view: RunView, chosen: Sample, quoted: Sample, point: WorkingPoint) -> Table:
    one = view.class_scores[0]
    down2, down, _, up, up2 = (general(float(b), 3) for b in point.bands)
    rows = [
        [f"{one.name} events", number(entry(point.signal))],
        [f"{one.others} events", number(entry(point.background))],
        ["uncertainty of the background", general(float(point.background_error.value), 3)],
        ["expected significance Z", number(entry(point.significance))],
        ["expected 95 % CL limit on the signal strength", number(entry(point.limit))],
        ["limit, expected ±1σ", f"{down} to {up}"],
        ["limit, expected ±2σ", f"{down2} to {up2}"],
    ]
    names = {TRAINING: "spread of the trainings, each with its own best cut", SYSTEMATIC: "systematic"}
    spread = "".join(f" ± {names[source]}" for source in point.significance.spread)
    caption = (
        f"{one.label} ≥ {general(point.cut, 4)}, chosen on {chosen.name}, numbers of {quoted.name} events. "
        f"Errors: ± statistical, of the simulation{spread}."
    )
    return Table(caption, ("", "expected"), rows)


def _figure(view: RunView, chosen: Sample, quoted: Sample, point: WorkingPoint) -> CaptionedFigure:
    cuts, label = cuts_of(chosen.score, chosen.signal), view.class_scores[0].label
    curves = {s.name: (cuts, s.significance(cuts)) for s in (chosen, quoted)}
    with style():
        figure, axes = canvas(1, 2, (12.0, 4.8))
        significance_scan(curves, point, score=label, ax=axes[0, 0])
        limit_scan(cuts, quoted.limits(cuts), point, score=label, ax=axes[0, 1])
    caption = (
        f"Left: expected significance above a cut on the score, {chosen.name} (dashed), where the best cut "
        f"is chosen, and {quoted.name} (full). Right: expected upper limit on the signal strength μ, "
        f"{quoted.name}; "
        "bands: its ±1σ and ±2σ for data without signal. Points: the working point with the "
        f"errors of the simulation. Curves end where fewer than {FEWEST:g} effective background events are "
        "left. The split with fewer events has the larger error of the background, and therefore the lower "
        "significance."
    )
    return CaptionedFigure("significance", figure, caption, wide=True)


def _numbers(view: RunView, point: WorkingPoint) -> dict[str, Any]:
    names = ("signal", "background", "significance", "limit")
    return {
        "cut": point.cut,
        "unit": _yields(view).unit,
        "luminosity": view.run.dataset.luminosity,
        "background_error": float(point.background_error.value),
        **{name: entry(getattr(point, name)) for name in names},
        "limit_bands": {f"{n:g}": float(b) for n, b in zip(BANDS, point.bands, strict=True)},
    }
