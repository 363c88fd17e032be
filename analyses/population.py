"""What a trained network looks at, over a population: mass, interactions, agreement of methods, truth.

For a run of the charged-Higgs card: how far its score hangs on m(μμ) and shapes the background, Shapley
values of particles and interactions of the muon pair, whether methods agree, and whether they find the muons
that the generator's resonance decayed to. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import reduced
from hepxai.core.binning import equal_bins
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard
from hepxai.events import SPLITS, Events
from hepxai.metrics import accuracy, auc, auc_difference
from hepxai.metrics.agreement import AgreementMatrix, agreement_matrix, top_agreement
from hepxai.metrics.isolation import pair_mean
from hepxai.metrics.likelihood import log_likelihood_ratio
from hepxai.metrics.profile import explained_by, profile
from hepxai.metrics.truth import find_truth, find_truth_in_slices, true_pt
from hepxai.models import ModelCard
from hepxai.plots import focus_profile
from hepxai.plots.matrices import method_agreement
from hepxai.plots.profiles import score_profile
from hepxai.plots.truth import truth_finding, truth_slices
from hepxai.report.study import StudyPage
from hepxai.run import Run
from hepxai.studies.dependence.dependence import distance_correlation, if_independent
from hepxai.studies.dependence.figures import mass_shapes
from hepxai.studies.dependence.sculpting import sculpting, shape, threshold_at

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
    contributions(page, found)
    interactions(page, found)
    agreement(page, found)
    truth(page, found)
    print(page.write(f"# What {run.card.kind} looks at in {run.dataset.name}"))


# --- the mass ------------------------------------------------------------------------------------


def mass_dependence(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """What the mass of the muon pair can tell, how scores hang on it, and how they shape the background."""
    first = next(iter(runs.values()))
    page.text(" ".join(_width(page, first, code) for code in range(len(first.events.schema.classes))))
    rows = [[name, *_beside_mass(page, name, run)] for name, run in runs.items()]
    page.table(
        ("network", "AUC of m(μμ) alone", "AUC of the network", "of both", "gained", "gained, test only"),
        rows,
        f"{BESIDE_MASS} Errors of the gain: for the same events in both.",
    )
    rows = [row for name, run in runs.items() for row in _mass_dependence(page, name, run)]
    page.table(
        ("network", "class", "distance correlation", "if independent"),
        rows,
        "Dependence of the score on m(μμ), valid and test events; errors for dependent samples.",
    )
    rows = [row for name, run in runs.items() for row in _sculpting(page, name, run)]
    page.table(
        ("network", "signal kept", "background kept", "χ²/ndf", "p", "JSD [bits]", "by chance"),
        rows,
        SCULPTED,
    )


BESIDE_MASS = (
    "What the mass alone tells (ratio of its histograms in the training events), and what it adds to the "
    "network if the two logits are summed; a network trained on both could gain more. Valid and test events; "
    "the valid ones chose the epoch and calibrated the logit."
)
SCULPTED = (
    "Mass of the background above a cut on the score against that below it; valid and test events. JSD: "
    "Jensen–Shannon divergence. Cuts on one score are nested, so their p-values are not independent."
)


def held_out(run: Run) -> tuple[Events, NDArray[np.float64], NDArray[np.float64]]:
    """Validation and test events, their logits and masses; the validation events chose the epoch."""
    rows = run.events.split != 0
    events = run.events[rows]
    return events, run.scores[rows, 0], events.observers[MASS]


def _width(page: StudyPage, run: Run, code: int) -> str:
    name, own = run.events.schema.classes[code], run.events.label == code
    low, middle, high = np.quantile(run.events.observers[MASS][own], [0.16, 0.5, 0.84])
    page.facts[f"median and 16–84 % range of m(μμ), {name}"] = f"{middle:.2f}, {low:.2f} to {high:.2f} GeV"
    return f"m(μμ) of {name}: median {middle:.1f} GeV, 68 % within {low:.1f} to {high:.1f} GeV."


def _beside_mass(page: StudyPage, name: str, run: Run) -> list[str]:
    """AUC of the mass, of the network, and of both; what the mass adds, also on the test events alone."""
    train, (events, score, mass) = run.events.where("train"), held_out(run)
    known = train.observers[MASS]
    ratio = log_likelihood_ratio(known, train.label == 1, train.weight, equal_bins(known, 40), mass)
    tried = {"m(μμ) alone": ratio, "the network": score, "both": score + ratio}
    found = {k: auc(v, events.label == 1, events.weight) for k, v in tried.items()}
    texts = [page.number(f"AUC of {k}, {name}", v) for k, v in found.items()]
    for where, rows in (("", slice(None)), (", test only", events.split == 2)):
        pair = (tried["both"][rows], score[rows], events.label[rows] == 1, events.weight[rows])
        texts.append(page.number(f"AUC gained by m(μμ){where}, {name}", auc_difference(*pair)))
    return texts


def _mass_dependence(page: StudyPage, name: str, run: Run) -> Iterator[list[str]]:
    """Distance correlations of one network, and its profile."""
    events, score, mass = held_out(run)
    edges, profiles = equal_bins(mass, 12), {}
    for code, c in enumerate(events.schema.classes):
        columns = [v[events.label == code] for v in (score, mass, events.weight)]
        profiles[c] = profile(*columns, edges)
        text = page.number(f"distance correlation, {c}, {name}", distance_correlation(*columns))
        chance = if_independent(*columns).expectation
        yield [name, c, text, measured(float(chance.value), float(chance.error))]
    with page.axes(f"score_{ascii_key(name)}", f"Mean logit in bins of the di-muon mass: {name}.") as ax:
        score_profile(profiles, xlabel=MASS_LABEL, ax=ax)


def _sculpting(page: StudyPage, name: str, run: Run) -> Iterator[list[str]]:
    """Background shapes after cuts on the score of one network."""
    events, score, mass = held_out(run)
    signal, weight = events.label == 1, events.weight
    rest = (mass[~signal], weight[~signal])
    cuts = [threshold_at(score[signal], weight[signal], kept) for kept in KEPT]
    found = [sculpting(score[~signal], *rest, threshold, BINS) for threshold in cuts]
    for kept, cut in zip(KEPT, found, strict=True):
        key = f"{100 * kept:.0f} % signal, {name}"
        page.facts[f"p-value of the background shape at {key}"] = f"{cut.p_value:.2g}"
        numbers = [page.number(f"background kept at {key}", cut.efficiency)]
        numbers += [f"{cut.chi2:.1f}/{cut.ndf}", f"{cut.p_value:.2g}"]
        numbers += [page.number(f"JSD at {key}", cut.divergence), f"{cut.chance_divergence:.4f}"]
        yield [name, f"{100 * kept:.0f} %", *numbers]
    percent = ", ".join(f"{100 * kept:.0f}" for kept in KEPT)
    caption = f"Background before and after cuts that keep {percent} % of the signal: {name}."
    drawn = mass_shapes(found, shape(*rest, BINS), xlabel=MASS_LABEL)
    page.figure(f"shapes_{ascii_key(name)}", drawn, caption)


def ascii_key(name: str) -> str:
    """Part of a file name."""
    return "_".join(re.findall("[a-zA-Z]+", name))


def measured_before(value: float, error: float) -> Estimate:
    """Estimate from a stored number."""
    return Estimate(np.asarray(value), np.asarray(error), np.nan)


def mass_in_maps(page: StudyPage, found: Found) -> None:
    """How much of the muon pair's attribution its mass explains."""
    rows = []
    for method in MAPS:
        whole = reduced(found[method])
        for code, name in enumerate(whole.events.schema.classes):
            share = explained_by(whole[whole.events.label == code], PAIR, MASS)
            text = page.number(f"share of {method} of μμ explained by m(μμ), {name}", share.share)
            p_value = f"{share.null.p_value(float(share.share.value)):.2g}"
            page.facts[f"p-value of the share of {method} of μμ explained by m(μμ), {name}"] = p_value
            rows.append([method, name, text, f"{float(share.null.expectation.value):.4f}", p_value])
    page.table(
        ("method", "class", "η²", "by chance", "p"),
        rows,
        "Share of the variance of the muon pair's attribution, from event to event, that ten bins of m(μμ) "
        f"explain; test events. Of {len(rows)} p-values without any dependence the smallest is below "
        f"{1 - 0.5 ** (1 / len(rows)):.2g} in half of the cases.",
    )


# --- surrogates ----------------------------------------------------------------------------------


def surrogates(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """GraphConv networks that imitate those of some values of the edge dropout, and edge IG on them."""
    page.heading("Surrogates")
    rows = []
    for value, run in runs.items():
        found = run.explain(["attention", "surrogate"])["surrogate"]
        for split in ("train", "test"):
            cells = []
            for key in ("agreement", "logit_correlation"):
                figure = measured_before(*(found.checks[f"{split}_{key}{k}"] for k in ("", "_error")))
                cells.append(page.number(f"surrogate {key}, {split}, {value}", figure))
            cells.append(page.number(f"constant decision, {split}, {value}", constant_decision(run, split)))
            rows.append([value, split, *cells])
        for code, name in enumerate(found.events.schema.classes):
            mean = pair_mean(found[found.events.label == code], PAIR)
            page.number(f"surrogate edge IG of μμ, {name}, {value}", mean)
        caption = f"Edge IG of the muon pair on the surrogate of edge dropout {value}; test events."
        with page.axes(f"surrogate_{value}".replace(".", "_"), caption) as ax:
            focus_profile(found, PAIR, MASS, label=MASS_LABEL, ax=ax)
    page.table(
        ("edge dropout", "split", "same decision", "correlation of the logits", "constant decision"),
        rows,
        "Fidelity of the surrogates of seed 1. Constant decision: what a surrogate would have in common with "
        "the network that answers the same for every event.",
    )


def constant_decision(run: Run, split: str) -> Estimate:
    """Weighted share of the events of a split that a network decides in its more frequent way."""
    rows = run.events.split == SPLITS.index(split)
    share = accuracy(run.scores[rows, 0], np.ones(rows.sum(), dtype=bool), run.events.weight[rows])
    return Estimate(np.maximum(share.value, 1 - share.value), share.error, share.n_eff)


# --- the methods ---------------------------------------------------------------------------------


def by_class(found: Attribution) -> list[Estimate]:
    """Mean per event of each class, and the second less the first."""
    means = [found.population(found.events.label == code) for code in range(len(found.events.schema.classes))]
    difference = means[1].value - means[0].value
    return [*means, Estimate(difference, np.hypot(means[0].error, means[1].error), np.nan)]


def contributions(page: StudyPage, found: Found) -> None:
    """What sets the classes apart: particles by Shapley values, edges by Integrated Gradients."""
    values, classes = found["shapley"], found["shapley"].events.schema.classes
    parts = {
        f"all of type {p}": values.select(particle=p).sum("particle") for p in values.events.schema.types
    }
    parts |= {"all particles: the logit but for a constant": values.sum("particle")}
    parts |= {f"all edges of the first layer, {m}": found[m].sum("pair") for m in ("edge_ig", "surrogate")}
    rows = []
    for name, part in parts.items():
        keys = [f"{name}, {c}" for c in (*classes, "difference")]
        rows.append([name, *map(page.number, keys, by_class(part))])
    page.table(
        ("sum over an event", *classes, f"{classes[1]} − {classes[0]}"),
        rows,
        "What the classes differ by, on the logit, per event; test events. Particles: exact Shapley values, "
        "which add up to the logit less that of the event without particles, to "
        f"{values.checks['median_residual']:.0e} in the median. Edges: Integrated Gradients.",
    )


def interactions(page: StudyPage, found: Found) -> None:
    """Shapley interaction of the muon pair."""
    pair = found["shapley_interaction"].select(pair=PAIR).sum("pair")
    names = (*pair.events.schema.classes, "difference")
    texts = [
        page.number(f"Shapley interaction of μμ, {n}", e) for n, e in zip(names, by_class(pair), strict=True)
    ]
    page.text(
        "Shapley interaction of the muon pair: "
        + ", ".join(map(" ".join, zip(names, texts, strict=True)))
        + "."
    )
    caption = "Shapley interaction of the muon pair: what the two add together beyond what each adds alone."
    with page.axes("interaction", caption) as ax:
        focus_profile(found["shapley_interaction"], PAIR, MASS, label=MASS_LABEL, ax=ax)


def agreement(page: StudyPage, found: Found) -> None:
    """Whether the methods name the same pairs."""
    maps = {m: reduced(found[m]) for m in MAPS}
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
    maps = {m: reduced(found[m]) for m in MAPS}
    whole = {m: find_truth(a, TRUTH) for m, a in maps.items()}
    rows = []
    for method, own in whole.items():
        cells = [page.number(f"{k} of the true pair, {method}", getattr(own, v)) for k, v in MEASURES.items()]
        chance = ("0.5", f"{own.chance_pooled_auroc:.3f}", f"{float(own.chance_precision.value):.3f}")
        sent = find_truth(maps[method].select(source=PAIR[0]), TRUTH).auroc
        alike = page.number(f"AUROC of the true pair among pairs sent by a muon, {method}", sent)
        rows.append([method, *(f"{c} ({by})" for c, by in zip(cells, chance, strict=True)), f"{alike} (0.5)"])
    page.table(
        ("method", *MEASURES, "AUROC among pairs sent by a muon"),
        rows,
        "How well |value| finds the pair of muons that the resonance decayed to; test events, by chance in "
        "brackets. All events have two muons, so that a map which knew no more than that a sender is a muon "
        "would find the pair too; the last column compares with such pairs only.",
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
