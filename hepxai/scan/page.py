"""Page of a scan: recommendation, tables and figures, all from the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general, measured
from hepxai.report.section import CaptionedFigure, Section, Table, capital
from hepxai.report.write import write_page
from hepxai.scan.advice import ENOUGH, advice, format_probability
from hepxai.scan.figures import ScanView, attention, curves, fronts, importance, lines, overfitting
from hepxai.scan.scan import Scan
from hepxai.scan.space import name_of
from hepxai.scan.store import Trial
from hepxai.scan.table import PointResult

TRAININGS = 8
"""Fewest trainings for the importance of entries and parallel coordinates."""
READING = (
    "Each point was trained with every seed. ± after a mean is the standard error over seeds, s/√n; after a "
    "single training it is the statistical error of the validation events.",
    "All trainings are judged on the same validation events, so much of that error cancels when they are "
    "compared; probabilities are for these events, given the seeds. A seed starts every point from the same "
    "weights and batches, so points are compared seed by seed.",
    "Explanations are of validation events. Test figures are shown and never chosen by.",
)


def write_scan(scan: Scan, *, progress: bool = False) -> Path:
    """Write ``scan.html``, ``figures/``, ``table.csv``, ``trials.csv``, ``table.json``, replacing old ones.

    Parameters
    ----------
    scan : Scan
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        Of ``scan.html``.
    """
    results = scan.table()
    results.write(scan.folder)
    view = ScanView(scan, results)
    over = ", ".join(name_of(a.key) for a in view.axes) or "seeds"
    return write_page(
        scan.folder / "scan.html",
        title=f"{scan.dataset.name}: scan of {over}",
        about=[_about(scan)],
        summary={capital(k): v for k, v in advice(results, scan.dataset).items()},
        reading=READING,
        sections=list(scan_sections(view)),
        cards={n: (scan.folder / n).read_text(encoding="utf-8") for n in ("dataset.yaml", "model.yaml")},
        label=scan.dataset.label,
        footer="Numbers with errors: table.csv, trials.csv, table.json. Figures as PNG and PDF: figures/.",
        progress=progress,
    )


def _about(scan: Scan) -> str:
    plan = scan.plan
    explained = f"up to {plan.explain:,} validation events explained in each"
    return f"{plan.points} points ({plan.sampler}) × {plan.seeds} seeds; {explained}."


def scan_sections(view: ScanView) -> Iterator[Section]:
    """Sections of the page, with their figures and tables."""
    yield _ranking_section(view)
    if view.points:
        yield Section("results", "Results", figures=[curves(view, a) for a in view.axes])
        if figures := [attention(view, a) for a in view.axes if view.explained]:
            yield Section("attention", "Attention", figures=figures)
        if figures := list(overfitting(view)):
            yield Section("overfitting", "Overfitting", figures=figures)
        if figures := [*fronts(view), *(_entries(view) if _comparable(view) else ())]:
            yield Section("together", "All together", figures=figures)
    yield Section("tables", "All numbers", tables=[_points_table(view), _trials_table(view)])


def _comparable(view: ScanView) -> bool:
    """True with several entries, and enough trainings to compare them."""
    return len(view.axes) > 1 and sum(len(p.of("complete")) for p in view.points) >= TRAININGS


def _entries(view: ScanView) -> Iterator[CaptionedFigure]:
    yield from importance(view)
    yield lines(view)


# --- tables --------------------------------------------------------------------------------------


def _ranking_section(view: ScanView) -> Section:
    tables = [_ranking_table(view, number) for number in range(len(view.objectives))]
    text = (
        "With n seeds and V points, x = μ(point) + a(seed) + ε: the effect a of a seed cancels in "
        "differences. Probabilities are those of the true means μ, from Student's t with (V − 1)(n − 1) "
        f"degrees of freedom, from {ENOUGH} seeds on; points with a pruned or failed training are left out, "
        "because the mean of the survivors would be too good."
    )
    return Section("best", "Best point, with probabilities", text=[text], tables=tables)


def _ranking_table(view: ScanView, number: int) -> Table:
    name, direction = view.scan.plan.objectives[number]
    ranking, points = view.results.ranking(name, direction), view.results.candidates
    probabilities = (ranking.best, ranking.beaten)
    enough = view.scan.plan.seeds >= ENOUGH
    rows = [
        [
            _name(view, points[i]),
            _number(points[i].mean(name)),
            *(format_probability(p[i]) if enough else "–" for p in probabilities),
        ]
        for i in ranking.order
    ]
    better = "higher" if direction == "max" else "lower"
    spread = general(ranking.spread, 2)
    caption = (
        f"{capital(view.label(name))} ({better} is better), mean over seeds. A training scatters by "
        f"{spread} around its point and seed, estimated from {ranking.degrees} degrees of freedom."
    )
    return Table(caption, ("point", view.label(name), "is the best", "first is better than it"), rows)


def _name(view: ScanView, point: PointResult) -> str:
    return f"#{view.number(point)} {point.label}"


def _number(mean: Estimate) -> str:
    return measured(float(mean.value), float(mean.error))


def _points_table(view: ScanView) -> Table:
    metrics = view.results.metrics
    header = ["point", "seeds", *(view.label(m) for m in metrics)]
    rows = [
        [_name(view, p), str(len(p.of("complete"))), *(_number(p.mean(m)) for m in metrics)]
        for p in view.points
    ]
    return Table("Every point: mean over seeds and its standard error.", header, rows)


def _trials_table(view: ScanView) -> Table:
    metrics = view.results.metrics
    header = ["training", "seed", "state", *(view.label(m) for m in metrics), "epochs", "seconds"]
    rows = [
        _trial_row(_name(view, point), trial, metrics)
        for point in view.results.points
        for trial in point.trials
    ]
    return Table("Every training, with statistical errors.", header, rows, folded=True)


def _trial_row(name: str, trial: Trial, metrics: Sequence[str]) -> list[str]:
    figures = [_number(trial.metrics[m]) if m in trial.metrics else "–" for m in metrics]
    rest = [str(len(trial.auc)), general(trial.seconds, 3)]
    return [name, str(trial.seed), trial.state, *figures, *rest]
