"""How well networks find a muon's momentum, and what a trigger on it would let pass.

For a data-set card with the targets pt and eta: errors, spread, efficiency and turn-on of a threshold, and
fakes of noise, of any number of networks side by side. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

import hepxai
from hepxai.core.estimate import Estimate, clopper_pearson, ratio_mean
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.metrics.momentum import MomentumMerit, momentum_merit, turn_on
from hepxai.models import ModelCard
from hepxai.plots import style
from hepxai.plots.momentum import momentum_residuals, turn_on_curve
from hepxai.report.study import StudyPage

Array = NDArray[np.float64]
TURN_ON = np.concatenate([np.arange(0, 12, 2), np.arange(12, 18.1, 0.5), [19, 20]])


def main() -> None:
    """Train the networks of some cards (or take what is there), write ``trigger.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="muon_patterns", help="data-set card with targets pt and eta")
    parser.add_argument("--models", nargs="+", default=["muon_soft_tree"], help="cards of networks")
    parser.add_argument("--out", type=Path, default=Path("trigger"), help="folder of everything")
    parser.add_argument("--quick", action="store_true", help="one epoch instead of those of the cards")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    events = hepxai.read(DatasetCard.find(chosen.dataset), progress=True).events
    test, predicted = events.where("test"), {}
    for name in chosen.models:
        card = ModelCard.find(name, ["training.epochs=1"] if chosen.quick else [])
        model, _ = hepxai.fit(card, events, folder=chosen.out / name, progress=True)
        predicted[name] = model.logits(test)
    page = StudyPage(chosen.out, "trigger")
    figures_of_merit(page, test, predicted)
    print(page.write(f"# Momentum in {chosen.dataset}"))


def figures_of_merit(
    page: StudyPage, events: Events, predicted: Mapping[str, Array]
) -> dict[str, MomentumMerit]:
    """Numbers as a table, the turn-on of the trigger, and residuals of outputs ``[E, 2]``, by network."""
    true = events.targets.astype(np.float64)
    merits = {name: momentum_merit(p[:, 0], true[:, 0], events.weight) for name, p in predicted.items()}
    muon = np.isfinite(true[:, 0])
    page.table(
        ("network", "MAE", "spread", "bias", "efficiency", "below passes", "noise passes", "MAE of η"),
        [_row(page, events, name, merits[name], predicted[name][:, 1]) for name in predicted],
        f"On {muon.sum():,} muons and {(~muon).sum():,} images of noise of the test split; GeV; each network "
        "was trained once. MAE: mean |predicted − true| of all muons; spread: the same, and bias: the mean "
        "difference, for true pT of 7 to 13 GeV. Efficiency: share predicted at 15 GeV or more of those with "
        "true pT of 15 GeV or more; then of those below, and of noise. Errors of shares: half of the 68 % "
        "interval (Clopper–Pearson); where no image of noise passes, the upper limit at 95 % confidence.",
    )
    turning_on(page, events, predicted)
    residuals(page, events, predicted)
    return merits


def _row(page: StudyPage, events: Events, name: str, merit: MomentumMerit, eta: Array) -> list[str]:
    known = np.isfinite(events.targets[:, 1])
    off = np.abs(eta - events.targets[:, 1])[known].astype(np.float64)
    found = {key: getattr(merit, key) for key in ("mae", "spread", "bias", "efficiency", "leak", "fakes")}
    found["mae of eta"] = ratio_mean(off, np.ones(len(off)), events.weight[known])
    texts = {key: page.number(f"{key}, {name}", e) for key, e in found.items()}
    page.facts[f"upper limit on the fakes at 95 % confidence, {name}"] = f"{upper_limit(merit.fakes):.2g}"
    texts["fakes"] = fakes(merit.fakes)
    return [name, *texts.values()]


def upper_limit(found: Estimate, level: float = 0.95) -> float:
    """Share that is excluded at a confidence level, one-sided [Clopper & Pearson]."""
    return float(clopper_pearson(found.value, np.asarray(found.n_eff), level=2 * level - 1)[1])


def fakes(found: Estimate) -> str:
    """Share of noise with its error, or the upper limit where nothing passes."""
    if found.value > 0:
        return measured(float(found.value), float(found.error))
    return f"< {upper_limit(found):.2g}"


def turning_on(page: StudyPage, events: Events, predicted: Mapping[str, Array]) -> None:
    """Efficiency of the threshold against the true pT."""
    pt = events.targets[:, 0].astype(np.float64)
    curves = {name: turn_on(p[:, 0], pt, events.weight, edges=TURN_ON) for name, p in predicted.items()}
    caption = "Share of muons predicted at 15 GeV or more, against their true pT."
    with page.axes("turn_on", caption, (9, 7)) as ax:
        turn_on_curve(curves, ax=ax)


def residuals(page: StudyPage, events: Events, predicted: Mapping[str, Array]) -> None:
    """Predicted minus true pT and eta."""
    true = events.targets.astype(np.float64)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(16, 6.5))
        pt, eta = ({name: p[:, i] for name, p in predicted.items()} for i in range(2))
        momentum_residuals(pt, true[:, 0], events.weight, ax=left)
        momentum_residuals(eta, true[:, 1], events.weight, units="", name="eta", ax=right)
        figure.tight_layout()
    page.figure("residuals", figure, "Predicted minus true pT and η of muons in the test split.")


if __name__ == "__main__":
    main()
