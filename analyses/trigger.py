"""Momentum of muons from networks, and a trigger on it.

For a data-set card with the targets pt and eta: errors, spread, efficiency and turn-on of a threshold, and
fakes of noise, of any number of networks side by side. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hepxai import Events, ModelCard, fit, metrics, plots, read
from hepxai.metrics.averages import mean
from hepxai.metrics.momentum import upper_limit
from hepxai.report.study import StudyPage, study_options

Array = NDArray[np.float64]
FIGURES = ("mae", "spread", "bias", "efficiency", "leak", "fakes")
TURN_ON = np.concatenate([np.arange(0, 12, 2), np.arange(12, 18.1, 0.5), [19, 20]])


def main() -> None:
    """Train the networks of some cards (or load them), write ``trigger.md``."""
    models = {"--models": {"nargs": "+", "default": ["muon_soft_tree"], "help": "cards of networks"}}
    quick = "one epoch instead of those of the cards"
    options = study_options(__file__, __doc__, dataset="muon_patterns", quick=quick, options=models)
    events = read(options.dataset, progress=True).events
    test, predictions = events.where("test"), {}
    for name in options.models:
        card = ModelCard.find(name, ["training.epochs=1"] if options.quick else [])
        model, _ = fit(card, events, folder=options.out / name, progress=True)
        predictions[name] = model.logits(test)
    page = StudyPage(options.out, "trigger")
    figures_of_merit(page, test, predictions)
    print(page.write(f"# Momentum in {options.dataset.name}"))


def figures_of_merit(page: StudyPage, events: Events, predictions: Mapping[str, Array]) -> None:
    """Numbers as a table, turn-on of the trigger, and residuals of outputs ``[E, 2]``, by network."""
    (true, true_eta), weight = events.targets.astype(np.float64).T, events.weight
    pt, eta = ({name: outputs[:, i] for name, outputs in predictions.items()} for i in range(2))
    muon, rows = np.isfinite(true), []
    for name in predictions:
        merit = metrics.momentum_merit(pt[name], true, weight)
        figures = {key: getattr(merit, key) for key in FIGURES}
        figures["mae of eta"] = mean(np.abs(eta[name] - true_eta)[muon], weight[muon])
        cells = page.cells({f"{key}, {name}": figure for key, figure in figures.items()})
        limit = f"{upper_limit(merit.fakes):.2g}"
        cells[5] = cells[5] if merit.fakes.value > 0 else f"< {limit}"
        page.facts[f"upper limit on the fakes at 95 % confidence, {name}"] = limit
        page.facts[f"noise at 15 GeV or more, {name}"] = cells[5]
        rows.append([name, *cells])
    page.table(
        ("network", "MAE", "spread", "bias", "efficiency", "below passes", "noise passes", "MAE of η"),
        rows,
        f"On {muon.sum():,} muons and {(~muon).sum():,} images of noise of the test split; GeV; each network "
        "was trained once. MAE: mean |predicted − true| of all muons; spread: the same, and bias: the mean "
        "difference, for true pT of 7 to 13 GeV. Efficiency: share predicted at 15 GeV or more of those with "
        "true pT of 15 GeV or more; then of those below, and of noise. Errors of shares: half of the 68 % "
        "interval (Clopper–Pearson); where no image of noise passes, the upper limit at 95 % confidence.",
    )
    curves = {name: metrics.turn_on(p, true, weight, edges=TURN_ON) for name, p in pt.items()}
    caption = "Share of muons predicted at 15 GeV or more, against their true pT."
    with page.axes("turn_on", caption, (9, 7)) as ax:
        plots.turn_on_curve(curves, ax=ax)
    caption = "Predicted minus true pT and η of muons in the test split."
    with page.panels("residuals", caption, 1, 2, (8, 6.5)) as (left, right):
        plots.momentum_residuals(pt, true, weight, ax=left)
        plots.momentum_residuals(eta, true_eta, weight, units="", name="eta", ax=right)


if __name__ == "__main__":
    main()
