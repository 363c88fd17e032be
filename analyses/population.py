"""What a trained network looks at, over a population: mass, interactions, agreement of methods, truth.

For a run of the charged-Higgs card: how far its score hangs on m(μμ) and shapes the background, Shapley
values of particles and interactions of the muon pair, whether methods agree, and whether they find the muons
that the generator's resonance decayed to. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from hepxai.attribution import Attribution
from hepxai.datasets import DatasetCard
from hepxai.estimate import Estimate
from hepxai.metrics.agreement import AgreementMatrix, agreement_matrix, top_agreement
from hepxai.metrics.binning import equal_bins
from hepxai.metrics.dependence import distance_correlation, if_independent
from hepxai.metrics.maps import single
from hepxai.metrics.profile import explained_by, profile
from hepxai.metrics.sculpting import sculpting, shape, threshold_at
from hepxai.metrics.truth import find_truth, find_truth_in_slices, true_pt
from hepxai.models import ModelCard
from hepxai.plots import focus_profile
from hepxai.plots.agreement import method_agreement
from hepxai.plots.sculpting import mass_shapes, score_profile
from hepxai.plots.text import measured
from hepxai.plots.truth import truth_finding, truth_slices
from hepxai.report.study import StudyPage
from hepxai.run import Run

METHODS = ("attention", "edge_ig", "surrogate", "shapley", "shapley_interaction")
MAPS = ("attention", "edge_ig", "surrogate", "shapley_interaction")
PAIR, MASS, TRUTH = ("muon", "muon"), "mass_mumu", "fromResonance"
MASS_LABEL = "m(μμ) [GeV]"
BINS = np.concatenate([[60, 80, 84, 86], np.arange(87, 97), [98, 102, 120]]).astype(np.float64)
PT_EDGES = np.array([0.0, 25, 50, 75, 100, 150, 250])
SIZE_EDGES = np.array([6.5, 7.5, 8.5, 9.5, 10.5, 12.5])
KEPT = (0.8, 0.5, 0.3)
MEASURES = {
    "AUROC per event": "auroc",
    "AUROC pooled": "pooled_auroc",
    "average precision per event": "average_precision",
}
Found = Mapping[str, Attribution]


def main() -> None:
    """Train (or take the run that is there), explain, write ``population.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="charged_higgs", help="data-set card, a name or a path")
    parser.add_argument("--out", type=Path, default=Path("population"), help="run folder")
    parser.add_argument("--quick", action="store_true", help="3 epochs instead of 30")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    card = ModelCard.find("transformer_edgeconv", ["training.epochs=3"] if chosen.quick else [])
    run = Run.start(chosen.out, DatasetCard.find(chosen.dataset), card)
    run.train()
    page = StudyPage(chosen.out, "population")
    found = run.explain(METHODS)
    mass_dependence(page, {"the network": run})
    mass_in_maps(page, found)
    interactions(page, found)
    agreement(page, found)
    truth(page, found)
    print(page.write(f"# What {run.card.kind} looks at in {run.dataset.name}"))


# --- the mass ------------------------------------------------------------------------------------


def mass_dependence(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """How the scores of some networks hang on the mass of the muon pair, and shape that of the background."""
    rows = [[name, *_mass_dependence(page, name, run)] for name, run in runs.items()]
    classes = next(iter(runs.values())).events.schema.classes
    numbers = [f"distance correlation, {c}" for c in classes]
    page.table(
        ("network", "AUC", *numbers, "JSD at 50 % signal [bits]"),
        rows,
        "Dependence of the score on m(μμ), test events; in brackets, the value for independent quantities. "
        "JSD: Jensen–Shannon divergence of the background mass above and below a cut on the score.",
    )


def _mass_dependence(page: StudyPage, name: str, run: Run) -> list[str]:
    """Numbers and figures of one network."""
    test = run.events.split == 2
    events, score, key = run.events[test], run.scores[test, 0], "_".join(re.findall("[a-zA-Z]+", name))
    mass, weight = events.observers[MASS], events.weight
    own = {c: events.label == i for i, c in enumerate(events.schema.classes)}
    auc = run.metrics()["test"]["auc"]
    cells = [page.number(f"AUC, {name}", measured_before(auc["value"], auc["error"]))]
    for c, k in own.items():
        own_columns = (score[k], mass[k], weight[k])
        text = page.number(
            f"distance correlation of score and m(μμ), {c}, {name}", distance_correlation(*own_columns)
        )
        chance = if_independent(*own_columns).expectation
        cells.append(f"{text} (chance {measured(float(chance.value), float(chance.error))})")
    edges = equal_bins(mass, 12)
    with page.axes(f"score_{key}", f"Mean logit in bins of the di-muon mass: {name}.") as ax:
        profiles = {c: profile(score[k], mass[k], weight[k], edges) for c, k in own.items()}
        score_profile(profiles, xlabel=MASS_LABEL, ax=ax)
    background, signal = own.values()
    rest = (mass[background], weight[background])
    cuts = [threshold_at(score[signal], weight[signal], kept) for kept in KEPT]
    cut = [sculpting(score[background], *rest, threshold, BINS) for threshold in cuts]
    percent = ", ".join(f"{100 * kept:.0f}" for kept in KEPT)
    caption = f"Background before and after cuts that keep {percent} % of the signal: {name}."
    page.figure(f"shapes_{key}", mass_shapes(cut, shape(*rest, BINS), xlabel=MASS_LABEL), caption)
    jsd = page.number(f"JSD of the background at 50 % signal, {name}", cut[KEPT.index(0.5)].divergence)
    return [*cells, f"{jsd} (chance {cut[KEPT.index(0.5)].chance_divergence:.4f})"]


def measured_before(value: float, error: float) -> Estimate:
    """Estimate from a stored number."""
    return Estimate(np.asarray(value), np.asarray(error), np.nan)


def mass_in_maps(page: StudyPage, found: Found) -> None:
    """How much of the muon pair's attribution its mass explains."""
    rows = []
    for method in MAPS:
        whole = single(found[method])
        for code, name in enumerate(whole.events.schema.classes):
            share = explained_by(whole[whole.events.label == code], PAIR, MASS)
            text = page.number(f"share of {method} of μμ explained by m(μμ), {name}", share.share)
            rows.append([method, name, text, f"{float(share.null.expectation.value):.4f}"])
    page.table(
        ("method", "class", "η²", "by chance"),
        rows,
        "Share of the variance of the muon pair's attribution, from event to event, that ten bins of m(μμ) "
        "explain; test events.",
    )


# --- the methods ---------------------------------------------------------------------------------


def interactions(page: StudyPage, found: Found) -> None:
    """Shapley values of particles, interaction of the muon pair."""
    values, classes = found["shapley"], found["shapley"].events.schema.classes
    rows = []
    for particle in values.events.schema.types:
        own = values.select(particle=particle)
        means = [own.population(own.events.label == code) for code in range(len(classes))]
        keys = [f"Shapley value, {particle}, {c}" for c in classes]
        rows.append([particle, *map(page.number, keys, means)])
    page.table(
        ("particle", *classes),
        rows,
        "Mean Shapley value of a particle, on the logit; test events. They add up to the score less that of "
        f"the event without particles, to {values.checks['median_residual']:.0e} in the median.",
    )
    caption = "Shapley interaction of the muon pair: what the two add beyond what each adds alone."
    with page.axes("interaction", caption) as ax:
        focus_profile(found["shapley_interaction"], PAIR, MASS, label=MASS_LABEL, ax=ax)


def agreement(page: StudyPage, found: Found) -> None:
    """Whether the methods name the same pairs."""
    maps = {m: single(found[m]) for m in MAPS}
    ranks = agreement_matrix(maps)
    top = agreement_matrix(maps, partial(top_agreement, k=3))
    caption = (
        "Rank correlation of |value| over the pairs of an event, mean over the test events; 0 by chance."
    )
    with page.axes("agreement", caption, (11, 6.5)) as ax:
        method_agreement(ranks, ax=ax)
    rows = []
    for (i, one), (j, two) in combinations(enumerate(MAPS), 2):
        tables = {"rank correlation": ranks, "overlap of the top 3": top}
        cells = [page.number(f"{k}, {one} and {two}", _entry(t, i, j)) for k, t in tables.items()]
        rows.append([one, two, *cells, f"{top.chance.value[i, j]:.3f}"])
    page.table(
        ("method", "and", "rank correlation", "overlap of the top 3", "by chance"),
        rows,
        "Agreement per event: order of the pairs, and share of the three strongest that two methods share.",
    )


def _entry(table: AgreementMatrix, i: int, j: int) -> Estimate:
    return Estimate(table.mean.value[i, j], table.mean.error[i, j], np.nan)


def truth(page: StudyPage, found: Found) -> None:
    """Whether the methods find the muons that the resonance decayed to."""
    maps = {m: single(found[m]) for m in MAPS}
    whole = {m: find_truth(a, TRUTH) for m, a in maps.items()}
    rows = []
    for method, own in whole.items():
        cells = [page.number(f"{k} of the true pair, {method}", getattr(own, v)) for k, v in MEASURES.items()]
        chance = ("0.5", f"{own.chance_pooled_auroc:.3f}", f"{float(own.chance_precision.value):.3f}")
        rows.append([method, *(f"{c} ({by})" for c, by in zip(cells, chance, strict=True))])
    page.table(
        ("method", *MEASURES),
        rows,
        "How well |value| finds the pair of muons that the resonance decayed to; test events, by chance in "
        "brackets.",
    )
    with page.axes("truth", "AUROC with which each method finds the true pair.", (9, 6)) as ax:
        truth_finding(whole, ax=ax)
    events = next(iter(maps.values())).events
    for key, quantity, edges, label in (
        ("pt", true_pt(events, TRUTH), PT_EDGES, "pT of the true pair [GeV]"),
        ("multiplicity", events.counts, SIZE_EDGES, "particles in the event"),
    ):
        slices = {m: find_truth_in_slices(a, TRUTH, quantity, edges) for m, a in maps.items()}
        with page.axes(
            f"truth_{key}", f"AUROC per event in bins of: {label}; events beyond the bins are not shown."
        ) as ax:
            truth_slices(slices, xlabel=label, ax=ax)


if __name__ == "__main__":
    main()
