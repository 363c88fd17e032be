"""Explanations of a trained network over a population: mass, interactions, agreement of methods, truth.

For a run of the charged-Higgs card: dependence of its score on m(μμ), Shapley values and interactions,
agreement of the methods, the true pair. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hepxai import Attribution, Events, Run, metrics, plots
from hepxai.attribution.reductions import reduced
from hepxai.core.binning import equal_bins
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured
from hepxai.events import SPLITS
from hepxai.metrics.averages import entry, majority_share
from hepxai.metrics.likelihood import log_likelihood_ratio
from hepxai.report.study import StudyPage, study_options, trained_runs
from hepxai.studies.dependence.dependence import distance_correlation, if_independent
from hepxai.studies.dependence.figures import mass_shapes
from hepxai.studies.dependence.sculpting import sculpting, shape, threshold_at

MODEL = "transformer_edgeconv"
METHODS = ("attention", "edge_ig", "surrogate", "shapley", "shapley_interaction")
PAIR_METHODS = ("attention", "edge_ig", "surrogate", "shapley_interaction")
PAIR, MASS, TRUTH = ("muon", "muon"), "mass_mumu", "fromResonance"
MASS_LABEL = "m(μμ) [GeV]"
BINS = np.concatenate([[60, 80, 84, 86], np.arange(87, 97), [98, 102, 120]]).astype(np.float64)
PT_EDGES = np.array([0.0, 25, 50, 75, 100, 150, 250])
SIZE_EDGES = np.array([6.5, 7.5, 8.5, 9.5, 10.5, 12.5])
EFFICIENCIES = (0.8, 0.5, 0.3)
"""Signal efficiencies of the cuts on the score."""
MEASURES = {
    "AUROC per event": "auroc",
    "AUROC pooled": "pooled_auroc",
    "average precision per event": "average_precision",
}
Maps = Mapping[str, Attribution]


def main() -> None:
    """Train (or open the trained run), explain, write ``population.md``."""
    options = study_options(__file__, __doc__, dataset="charged_higgs", quick="3 epochs instead of 30")
    entries = ["training.epochs=3"] if options.quick else []
    run = trained_runs(options.out, options.dataset, {MODEL: entries})[MODEL]
    page = StudyPage(options.out, "population")
    page.heading("Beyond the di-muon mass")
    mass_dependence(page, {"the network": run})
    write_sections(page, run.explain(METHODS))
    print(page.write(f"# Explanations of {run.card.kind} on {run.dataset.name}"))


def write_sections(page: StudyPage, maps: Maps) -> None:
    """All sections that need the explanations alone; the first belongs to the section of the mass."""
    mass_in_maps(page, maps)
    page.heading("Shapley values")
    contributions(page, maps)
    interactions(page, maps["shapley_interaction"])
    single_pairs = {method: reduced(maps[method]) for method in PAIR_METHODS}
    page.heading("Do the methods agree?")
    agreement(page, single_pairs)
    page.heading("Do they find the truth?")
    truth(page, single_pairs)


def mass_dependence(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """Separation by the mass of the muon pair, dependence of scores on it, sculpting of the background."""
    events, sentences = next(iter(runs.values())).events, []
    for code, name in enumerate(events.schema.classes):
        low, middle, high = np.quantile(events.observers[MASS][events.label == code], [0.16, 0.5, 0.84])
        text = f"{middle:.2f}, {low:.2f} to {high:.2f} GeV"
        page.facts[f"median and 16–84 % range of m(μμ), {name}"] = text
        sentences.append(f"Median and 16–84 % range of m(μμ) of {name}: {text}.")
    page.text(" ".join(sentences))
    page.table(
        ("network", "AUC of m(μμ) alone", "AUC of the network", "of both", "gained", "gained, test only"),
        [[name, *gain_by_mass(page, name, run)] for name, run in runs.items()],
        "Separation by the mass alone (ratio of its histograms in the training events), and the gain if its "
        "logit is added to that of the network; a network trained on both could gain more. Validation and "
        "test events; the validation events chose the epoch and calibrated the logit. Errors of the gain: "
        "for the same events in both.",
    )
    page.table(
        ("network", "class", "distance correlation", "if independent"),
        [row for name, run in runs.items() for row in correlation_rows(page, name, run)],
        "Dependence of the score on m(μμ), validation and test events; errors for dependent samples.",
    )
    page.table(
        ("network", "signal kept", "background kept", "χ²/ndf", "p", "JSD [bits]", "by chance"),
        [row for name, run in runs.items() for row in sculpting_rows(page, name, run)],
        "Mass of the background above a cut on the score against that below it; validation and test events. "
        "JSD: Jensen–Shannon divergence. Cuts on one score are nested: their p-values are not independent.",
    )


def held_out(run: Run) -> tuple[Events, NDArray[np.float64], NDArray[np.float64]]:
    """Validation and test events, their logits and masses; the validation events chose the epoch."""
    rows = run.events.split != 0
    events = run.events[rows]
    return events, run.scores[rows, 0], events.observers[MASS]


def gain_by_mass(page: StudyPage, name: str, run: Run) -> list[str]:
    """AUC of the mass, of the network and of both; gain by the mass, also on the test events alone."""
    train, (events, score, mass) = run.events.where("train"), held_out(run)
    observed, signal = train.observers[MASS], events.label == 1
    ratio = log_likelihood_ratio(observed, train.label == 1, train.weight, equal_bins(observed, 40), mass)
    scores = {"m(μμ) alone": ratio, "the network": score, "both": score + ratio}
    texts = page.cells(
        {f"AUC of {k}, {name}": metrics.auc(v, signal, events.weight) for k, v in scores.items()}
    )
    for where, rows in (("", slice(None)), (", test only", events.split == 2)):
        pair = (scores["both"][rows], score[rows], signal[rows], events.weight[rows])
        texts.append(page.number(f"AUC gained by m(μμ){where}, {name}", metrics.auc_difference(*pair)))
    return texts


def correlation_rows(page: StudyPage, name: str, run: Run) -> Iterator[list[str]]:
    """Distance correlations of one network, and its profile."""
    events, score, mass = held_out(run)
    profiles = {}
    for code, label in enumerate(events.schema.classes):
        columns = [v[events.label == code] for v in (score, mass, events.weight)]
        profiles[label] = metrics.profile(*columns, equal_bins(mass, 12))
        text = page.number(f"distance correlation, {label}, {name}", distance_correlation(*columns))
        chance = if_independent(*columns).expectation
        yield [name, label, text, measured(float(chance.value), float(chance.error))]
    with page.axes(f"score_{ascii_key(name)}", f"Mean logit in bins of the di-muon mass: {name}.") as ax:
        plots.score_profile(profiles, xlabel=MASS_LABEL, ax=ax)


def sculpting_rows(page: StudyPage, name: str, run: Run) -> Iterator[list[str]]:
    """Background shapes after cuts on the score of one network."""
    events, score, mass = held_out(run)
    signal, weight = events.label == 1, events.weight
    background, cuts = (mass[~signal], weight[~signal]), []
    for efficiency in EFFICIENCIES:
        threshold = threshold_at(score[signal], weight[signal], efficiency)
        cuts.append(cut := sculpting(score[~signal], *background, threshold, BINS))
        key, p_value = f"{100 * efficiency:.0f} % signal, {name}", f"{cut.p_value:.2g}"
        page.facts[f"p-value of the background shape at {key}"] = p_value
        cells = {f"background kept at {key}": cut.efficiency, f"JSD at {key}": cut.divergence}
        background_efficiency, divergence = page.cells(cells)
        numbers = (
            background_efficiency,
            f"{cut.chi2:.1f}/{cut.ndf}",
            p_value,
            divergence,
            f"{cut.chance_divergence:.4f}",
        )
        yield [name, f"{100 * efficiency:.0f} %", *numbers]
    percents = ", ".join(f"{100 * e:.0f}" for e in EFFICIENCIES)
    caption = f"Background before and after cuts that keep {percents} % of the signal: {name}."
    page.figure(
        f"shapes_{ascii_key(name)}", mass_shapes(cuts, shape(*background, BINS), xlabel=MASS_LABEL), caption
    )


def ascii_key(name: str) -> str:
    """Part of a file name."""
    return "_".join(re.findall("[a-zA-Z]+", name))


def mass_in_maps(page: StudyPage, maps: Maps) -> None:
    """Share of the variance of the muon pair's attribution that its mass explains."""
    rows = []
    for method in PAIR_METHODS:
        attribution = reduced(maps[method])
        for code, name in enumerate(attribution.events.schema.classes):
            result = metrics.explained_by(attribution[attribution.events.label == code], PAIR, MASS)
            key, chance = f"share of {method} of μμ explained by m(μμ), {name}", result.null.expectation
            p_value = f"{result.null.p_value(float(result.share.value)):.2g}"
            page.facts[f"p-value of the {key}"] = p_value
            text = page.number(key, result.share)
            rows.append([method, name, text, f"{float(chance.value):.4f}", p_value])
    page.table(
        ("method", "class", "η²", "by chance", "p"),
        rows,
        "Share of the variance of the muon pair's attribution between events that ten bins of m(μμ) "
        f"explain; test events. Of {len(rows)} p-values without any dependence the smallest is below "
        f"{1 - 0.5 ** (1 / len(rows)):.2g} in half of the cases.",
    )


def surrogates(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """GraphConv networks that imitate those of some values of the edge dropout, and edge IG on them."""
    page.heading("Surrogates")
    rows = []
    for value, run in runs.items():
        attribution = run.explain(["attention", "surrogate"])["surrogate"]
        events, checks = attribution.events, attribution.checks
        for split in ("train", "test"):
            in_split = run.events.split == SPLITS.index(split)
            fidelity = {
                f"surrogate {key}, {split}, {value}": Estimate(
                    *(np.asarray(checks[f"{split}_{key}{part}"]) for part in ("", "_error")), np.nan
                )
                for key in ("agreement", "logit_correlation")
            }
            constant = majority_share(run.scores[in_split, 0], run.events.weight[in_split])
            cells = page.cells(fidelity | {f"constant decision, {split}, {value}": constant})
            rows.append([value, split, *cells])
        for code, name in enumerate(events.schema.classes):
            mean = metrics.pair_mean(attribution[events.label == code], PAIR)
            page.number(f"surrogate edge IG of μμ, {name}, {value}", mean)
        caption = f"Edge IG of the muon pair on the surrogate of edge dropout {value}; test events."
        with page.axes(f"surrogate_{value}".replace(".", "_"), caption) as ax:
            plots.focus_profile(attribution, PAIR, MASS, label=MASS_LABEL, ax=ax)
    page.table(
        ("edge dropout", "split", "same decision", "correlation of the logits", "constant decision"),
        rows,
        "Fidelity of the surrogates of seed 1. Constant decision: agreement of the network with a surrogate "
        "that gives the same answer for every event.",
    )


def contributions(page: StudyPage, maps: Maps) -> None:
    """Separation of the classes: particles by Shapley values, edges by Integrated Gradients."""
    values = maps["shapley"]
    types, classes = values.events.schema.types, values.events.schema.classes
    parts = {f"all of type {t}": values.select(particle=t).sum("particle") for t in types}
    parts |= {"all particles: the logit but for a constant": values.sum("particle")}
    parts |= {f"all edges of the first layer, {m}": maps[m].sum("pair") for m in ("edge_ig", "surrogate")}
    page.table(
        ("sum over an event", *classes, f"{classes[1]} − {classes[0]}"),
        [[name, *page.class_cells(name, part)] for name, part in parts.items()],
        "Difference of the classes on the logit, per event; test events. Particles: exact Shapley values, "
        "which add up to the logit less that of the event without particles, to "
        f"{values.checks['median_residual']:.0e} in the median. Edges: Integrated Gradients.",
    )


def interactions(page: StudyPage, attribution: Attribution) -> None:
    """Shapley interaction of the muon pair."""
    pair = attribution.select(pair=PAIR).sum("pair")
    cells = page.class_cells("Shapley interaction of μμ", pair)
    texts = map(" ".join, zip((*pair.events.schema.classes, "difference"), cells, strict=True))
    page.text(f"Shapley interaction of the muon pair: {', '.join(texts)}.")
    caption = "Shapley interaction of the muon pair: their joint contribution beyond that of each muon alone."
    with page.axes("interaction", caption) as ax:
        plots.focus_profile(attribution, PAIR, MASS, label=MASS_LABEL, ax=ax)


def agreement(page: StudyPage, maps: Maps) -> None:
    """Agreement of the methods on the important pairs."""
    ranks = metrics.agreement_matrix(maps)
    top = metrics.agreement_matrix(maps, partial(metrics.top_agreement, k=3))
    caption = "Rank correlation of |value| over the pairs of an event, mean over test events; 0 by chance."
    with page.axes("agreement", caption, (11, 6.5)) as ax:
        plots.method_agreement(ranks, ax=ax)
    rows = []
    for (i, one), (j, other) in combinations(enumerate(maps), 2):
        matrices = {"rank correlation": ranks, "overlap of the top 3": top}
        cells = {f"{k}, {one} and {other}": entry(m.mean, i, j) for k, m in matrices.items()}
        rows.append([one, other, *page.cells(cells), f"{top.chance.value[i, j]:.3f}"])
    page.table(
        ("method", "and", "rank correlation", "overlap of the top 3", "by chance"),
        rows,
        "Agreement per event: order of the pairs, and share of the three strongest that two methods share.",
    )


def truth(page: StudyPage, maps: Maps) -> None:
    """Agreement of the methods with the muons of the resonance."""
    results, rows = {m: metrics.find_truth(a, TRUTH) for m, a in maps.items()}, []
    for method, result in results.items():
        cells = {f"{k} of the true pair, {method}": getattr(result, v) for k, v in MEASURES.items()}
        from_muons = metrics.find_truth(maps[method].select(source=PAIR[0]), TRUTH).auroc
        cells[f"AUROC of the true pair among pairs sent by a muon, {method}"] = from_muons
        chance = ("0.5", f"{result.chance_pooled_auroc:.3f}", f"{result.chance_precision.value:.3f}", "0.5")
        rows.append([method, *(f"{c} ({by})" for c, by in zip(page.cells(cells), chance, strict=True))])
    page.table(
        ("method", *MEASURES, "AUROC among pairs sent by a muon"),
        rows,
        "Separation of the pair of muons from the resonance by |value|; test events, chance level in "
        "brackets. All events have two muons, so that a map which only knew that a sender is a muon would "
        "find the pair too; the last column compares with such pairs only.",
    )
    with page.axes("truth", "AUROC of the true pair for each method.", (9, 6)) as ax:
        plots.truth_finding(results, ax=ax)
    events = next(iter(maps.values())).events
    for key, quantity, edges, label in (
        ("pt", metrics.true_pt(events, TRUTH), PT_EDGES, "pT of the true pair [GeV]"),
        ("multiplicity", events.counts, SIZE_EDGES, "particles in the event"),
    ):
        slices = {m: metrics.find_truth_in_slices(a, TRUTH, quantity, edges) for m, a in maps.items()}
        caption = f"AUROC per event in bins of: {label}; events beyond the bins are not shown."
        with page.axes(f"truth_{key}", caption) as ax:
            plots.truth_slices(slices, xlabel=label, ax=ax)


if __name__ == "__main__":
    main()
