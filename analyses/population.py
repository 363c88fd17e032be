"""Explanations of several trainings of a network over a population: mass, Shapley values, surrogates, truth.

For a run of the charged-Higgs card: dependence of its score on m(μμ), Shapley values and interactions,
surrogates, agreement of the methods, the true pair. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from hepxai import Attribution, Events, ModelCard, Run, metrics, plots
from hepxai.attribution.reductions import of_class, reduced
from hepxai.attribution.spread import single_trainings, with_spread
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.binning import equal_bins
from hepxai.core.estimate import Array, Estimate
from hepxai.core.formatting import measured
from hepxai.metrics.agreement import Agreement
from hepxai.metrics.averages import over_seeds
from hepxai.metrics.likelihood import log_likelihood_ratio
from hepxai.report.study import StudyPage, study_options
from hepxai.run import EnsembleRun
from hepxai.studies.dependence.dependence import distance_correlation, if_independent
from hepxai.studies.dependence.figures import mass_shapes
from hepxai.studies.dependence.sculpting import Sculpting, sculpting, shape, threshold_at

MODEL = "transformer_edgeconv"
ATTENTION, EDGE_IG = "attention", "edge_ig"
BOTH = (ATTENTION, EDGE_IG)
PAIR_METHODS = (*BOTH, "surrogate", "shapley_interaction")
PAIR, MASS, TRUTH = ("muon", "muon"), "mass_mumu", "fromResonance"
MASS_LABEL = "m(μμ) [GeV]"
BINS = np.concatenate([[60, 80, 84, 86], np.arange(87, 97), [98, 102, 120]]).astype(np.float64)
SIZE_EDGES = np.array([6.5, 7.5, 8.5, 9.5, 10.5, 12.5])
EFFICIENCIES = (0.8, 0.5, 0.3)
"""Signal efficiencies of the cuts on the score."""
SURROGATE_EPOCHS = 10
MOST, FEW = 4000, 300
"""Explained events; of Shapley values."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """One training, or the mean of several.

    Attributes
    ----------
    events : Events
    score : ndarray, shape [E]
        Logit.
    maps : dict of str to Attribution
        By method, of some test events; one number per particle or pair.
    """

    events: Events
    score: Array
    maps: dict[str, Attribution]

    def of(self, rows: NDArray[np.bool_]) -> Network:
        """The same network with some of its events."""
        return Network(self.events[rows], self.score[rows], self.maps)

    @property
    def test(self) -> Network:
        """The same network with the test events."""
        return self.of(self.events.split == 2)


@dataclass(frozen=True)
class Trained:
    """Several trainings of a network, and their explanations.

    Attributes
    ----------
    run : EnsembleRun
    maps : dict of str to Attribution
        By method, with the axis "training"; heads and layers averaged.
    """

    run: EnsembleRun
    maps: dict[str, Attribution]

    @staticmethod
    def explained(
        run: Run, methods: Sequence[str] = BOTH, *, workers: int, quick: bool, maximum: int = MOST
    ) -> Trained:
        """Train and explain; resumes."""
        run.train(workers=workers)
        epochs, number = (2, min(maximum, 100)) if quick else (SURROGATE_EPOCHS, maximum)
        settings = {m: {"epochs": epochs} for m in methods if m == "surrogate"}
        maps = run.explain(list(methods), maximum=number, settings=settings, workers=workers)
        if not isinstance(run, EnsembleRun):
            raise TypeError("the card asks for several trainings")
        return Trained(run, {m: reduced(maps[m], keep="training") for m in methods})

    @cached_property
    def mean(self) -> Network:
        """Mean of the trainings, the network whose numbers are quoted."""
        return Network(
            self.run.events, self.run.scores[:, 0], {m: mean_of_trainings(a) for m, a in self.maps.items()}
        )

    @cached_property
    def singles(self) -> list[Network]:
        """Each training."""
        scores = self.run.scores_of_trainings[..., 0]
        maps = {m: single_trainings(a) for m, a in self.maps.items()}
        return [
            Network(self.run.events, score, {m: each[i] for m, each in maps.items()})
            for i, score in enumerate(scores)
        ]

    def measure(self, measure: Callable[Concatenate[Network, P], T], *args: P.args, **options: P.kwargs) -> T:
        """Numbers of the mean of the trainings, with the spread of the single trainings."""
        mean, *singles = (measure(one, *args, **options) for one in (self.mean, *self.singles))
        return with_spread(mean, singles)


def main() -> None:
    """Train (or open the trained run), explain, write ``population.md``."""
    quick = "2 trainings of 2 epochs, few events"
    options = study_options(__file__, __doc__, dataset="charged_higgs", quick=quick)
    run = Run.start(options.out / MODEL, options.dataset, card(options.quick))
    trained = explained_in_detail(run, workers=options.workers, quick=options.quick)
    page = StudyPage(options.out, "population")
    write_sections(page, trained)
    print(page.write(f"# Explanations of {run.card.kind} on {run.dataset.name}"))


def card(quick: bool, *entries: str) -> ModelCard:
    """Card of the trainings."""
    sizes = ["training.trainings=2", "training.epochs=2"] if quick else ["training.trainings=5"]
    return ModelCard.find(MODEL, [*entries, *sizes])


def explained_in_detail(run: Run, *, workers: int, quick: bool) -> Trained:
    """Train, and explain with all methods; Shapley values, which cost the most, of fewer events."""
    options: dict[str, Any] = {"workers": workers, "quick": quick}
    few = Trained.explained(run, ("shapley", "shapley_interaction"), maximum=FEW, **options)
    many = Trained.explained(run, (*BOTH, "surrogate"), **options)
    return Trained(many.run, {**many.maps, **few.maps})


def write_sections(page: StudyPage, trained: Trained) -> None:
    """All sections of a network."""
    page.facts["explained by Shapley values"] = f"{len(trained.maps['shapley'].events):,}"
    page.heading("The di-muon mass")
    mass_alone(page, trained)
    correlations(page, trained)
    sculpted(page, trained)
    mass_in_maps(page, trained)
    page.heading("Shapley values")
    contributions(page, trained)
    page.heading("Surrogates")
    surrogates(page, trained)
    page.heading("Do the methods agree?")
    agreements(page, trained)
    page.heading("Do they find the truth?")
    truth(page, trained)


# --- mass ------------------------------------------------------------------------------------------


def mass_logit(network: Network) -> Array:
    """Logit of a histogram of m(μμ), filled with the training events, of the test events."""
    train, test = network.events.where("train"), network.events.where("test")
    edges = equal_bins(train.observers[MASS], 40)
    sample = (train.observers[MASS], train.label == 1, train.weight)
    return log_likelihood_ratio(*sample, edges, test.observers[MASS])


def auc(network: Network) -> Estimate:
    """AUC of the test events."""
    test = network.test
    return metrics.auc(test.score, test.events.label == 1, test.events.weight)


def mass_alone(page: StudyPage, trained: Trained) -> None:
    """Separation by the mass alone, and with the network."""
    events, test, ratio = trained.run.events, trained.mean.test.events, mass_logit(trained.mean)
    for code, name in enumerate(events.schema.classes):
        low, middle, high = np.quantile(events.observers[MASS][events.label == code], [0.16, 0.5, 0.84])
        page.facts[f"m(μμ) of {name}"] = f"median {middle:.2f}, 16–84 % {low:.2f} to {high:.2f} GeV"
    alone = page.number("AUC of m(μμ) alone", metrics.auc(ratio, test.label == 1, test.weight))
    both = trained.measure(lambda n: metrics.auc(n.test.score + ratio, test.label == 1, test.weight))
    ranges = (f"{name}: {text}" for name, text in page.facts.items() if name.startswith("m(μμ)"))
    page.text(
        f"{'; '.join(ranges)}. A histogram of the mass in the training events has an AUC of {alone} in the "
        f"test events; its logit added to that of the network has {page.number('AUC of both', both)}."
    )


def held_out(network: Network, code: int) -> tuple[Array, Array, Array]:
    """Logits, masses and weights of the validation and test events of a class."""
    part = network.of((network.events.split != 0) & (network.events.label == code))
    return part.score, part.events.observers[MASS], part.events.weight


def correlations(page: StudyPage, trained: Trained) -> None:
    """Distance correlation of score and mass, and the profile."""
    rows, profiles = [], {}
    for code, name in enumerate(trained.run.events.schema.classes):
        columns = held_out(trained.mean, code)
        edges, chance = equal_bins(columns[1], 12), if_independent(*columns).expectation
        profiles[name] = trained.measure(lambda n, c, e: metrics.profile(*held_out(n, c), e), code, edges)
        value = trained.measure(lambda n, c: distance_correlation(*held_out(n, c)), code)
        text = page.number(f"distance correlation, {name}", value)
        rows.append([name, text, measured(float(chance.value), float(chance.error))])
    page.table(
        ("class", "distance correlation", "if independent"),
        rows,
        "Dependence of the score on m(μμ), validation and test events. If independent: of the mean logit.",
    )
    with page.axes("score", "Mean logit in bins of the di-muon mass; thin: with the trainings.") as ax:
        plots.score_profile(profiles, xlabel=MASS_LABEL, ax=ax)


def sculpted(page: StudyPage, trained: Trained) -> None:
    """Background shapes after cuts on the score."""
    rows, cuts = [], []
    for efficiency in EFFICIENCIES:
        cuts.append(cut := trained.measure(cut_at, efficiency))
        key = f"{100 * efficiency:.0f} % signal"
        page.facts[f"p-value of the background shape at {key}"] = p_value = f"{cut.p_value:.2g}"
        cells = {f"background kept at {key}": cut.efficiency, f"JSD at {key}": cut.divergence}
        passing, divergence = page.cells(cells)
        chi2 = f"{cut.chi2:.1f}/{cut.ndf}"
        rows.append(
            [f"{100 * efficiency:.0f} %", passing, chi2, p_value, divergence, f"{cut.chance_divergence:.4f}"]
        )
    page.table(
        ("signal kept", "background kept", "χ²/ndf", "p", "JSD [bits]", "by chance"),
        rows,
        "Mass of the background above a cut on the score against that below it; validation and test events. "
        "χ², p and chance level are of the mean logit. JSD: Jensen–Shannon divergence. Cuts on one score are "
        "nested: their p-values are not independent.",
    )
    _, mass, weight = held_out(trained.mean, 0)
    percents = ", ".join(f"{100 * e:.0f}" for e in EFFICIENCIES)
    caption = f"Background before and after cuts that keep {percents} % of the signal; statistical errors."
    page.figure("shapes", mass_shapes(cuts, shape(mass, weight, BINS), xlabel=MASS_LABEL), caption)


def cut_at(network: Network, efficiency: float) -> Sculpting:
    """Background above and below a cut that keeps a fraction of the signal."""
    score, _, weight = held_out(network, 1)
    return sculpting(*held_out(network, 0), threshold_at(score, weight, efficiency), BINS)


def mass_in_maps(page: StudyPage, trained: Trained) -> None:
    """Share of the variance of the muon pair's attribution that its mass explains."""
    rows = []
    for method in PAIR_METHODS:
        for name in trained.run.events.schema.classes:
            result = trained.measure(
                lambda n, m, c: metrics.explained_by(of_class(n.maps[m], c), PAIR, MASS), method, name
            )
            key, chance = f"share of {method} of μμ explained by m(μμ), {name}", result.null.expectation
            p_value = f"{result.null.p_value(float(result.share.value)):.2g}"
            page.facts[f"p-value of the {key}"] = p_value
            rows.append([method, name, page.number(key, result.share), f"{float(chance.value):.4f}", p_value])
    page.table(
        ("method", "class", "η²", "by chance", "p"),
        rows,
        "Share of the variance of the muon pair's attribution between events that ten bins of m(μμ) "
        f"explain. Of {len(rows)} p-values without any dependence the smallest is below "
        f"{1 - 0.5 ** (1 / len(rows)):.2g} in half of the cases.",
    )


# --- maps ------------------------------------------------------------------------------------------


def contributions(page: StudyPage, trained: Trained) -> None:
    """Shapley values of the particles by type, and the interaction of the muon pair."""
    values, interaction = trained.maps["shapley"], trained.maps["shapley_interaction"]
    schema = values.events.schema
    parts = {f"all of type {t}": values.select(particle=t).sum("particle") for t in schema.types}
    parts |= {"all particles: the logit but for a constant": values.sum("particle")}
    parts |= {"Shapley interaction of μμ": interaction.select(pair=PAIR).sum("pair")}
    page.table(
        ("sum over an event", *schema.classes, f"{schema.classes[1]} − {schema.classes[0]}"),
        [[name, *page.class_cells(name, part)] for name, part in parts.items()],
        f"Difference of the classes on the logit, per event; {len(values.events):,} test events. "
        "Shapley values, exact up to 12 particles, add up to the logit less that of the event without "
        f"particles, to {values.checks['median_residual']:.0e} in the median. The interaction is the joint "
        "contribution of the two muons beyond that of each alone.",
    )
    with page.axes("interaction", "Shapley interaction of the muon pair; thin: with the trainings.") as ax:
        plots.focus_profile(interaction, PAIR, MASS, label=MASS_LABEL, ax=ax)


def surrogates(page: StudyPage, trained: Trained) -> None:
    """Fidelity of GraphConv networks that imitate each training, and edge IG on them."""
    page.facts["epochs of the surrogates"] = str(trained.maps["surrogate"].settings["epochs"])
    checks = [member.maps()["surrogate"].checks for member in trained.run.members.values()]
    figures = {"agreement": "same decision", "logit_correlation": "correlation of the logits",
               "constant_agreement": "constant decision"}  # fmt: skip
    rows = []
    for split in ("train", "test"):
        cells = {}
        for figure, name in figures.items():
            key = f"{split}_{figure}"
            each = [Estimate(np.asarray(c[key]), np.asarray(c[f"{key}_error"]), np.nan) for c in checks]
            cells[f"surrogate, {name}, {split}"] = over_seeds(each)
        rows.append([split, *page.cells(cells)])
    page.table(
        ("split", *figures.values()),
        rows,
        "Fidelity of a surrogate to its own training, mean of all. Constant decision: agreement of the "
        "network with a surrogate that gives the same answer for every event.",
    )
    page.class_cells("surrogate edge IG of μμ", trained.maps["surrogate"].select(pair=PAIR))


def agreement(
    network: Network, pair: tuple[str, str], measure: Callable[..., Agreement] = metrics.rank_agreement
) -> Estimate:
    """Agreement of the maps of two methods."""
    return measure(*(network.maps[method] for method in pair)).mean


def agreements(page: StudyPage, trained: Trained) -> None:
    """Agreement of the methods on the important pairs."""
    measures = {"rank correlation": metrics.rank_agreement, "overlap of the top 3": metrics.top_agreement}
    rows = []
    for pair in [*combinations((*BOTH, "surrogate"), 2)][1:]:
        cells = {
            f"{key}, {pair[0]} and {pair[1]}": trained.measure(agreement, pair, measure)
            for key, measure in measures.items()
        }
        chance = metrics.top_agreement(*(trained.mean.maps[m] for m in pair)).chance
        rows.append([*pair, *page.cells(cells), f"{float(chance.value):.3f}"])
    page.table(
        ("method", "and", *measures, "by chance"),
        rows,
        "Agreement per event: order of the pairs (by chance 0), and share of the three strongest that two "
        "methods share. Attention and edge IG are compared in the statements of `charged_higgs.py`.",
    )


def truth(page: StudyPage, trained: Trained) -> None:
    """Agreement of the methods with the muons of the resonance."""
    maps = {method: trained.maps[method] for method in PAIR_METHODS}
    results, rows = {m: metrics.find_truth(a, TRUTH) for m, a in maps.items()}, []
    for method, result in results.items():
        cells = page.cells(
            {
                f"AUROC of the true pair, {method}": result.auroc,
                f"average precision of the true pair, {method}": result.average_precision,
            }
        )
        rows.append([method, cells[0], f"{cells[1]} ({float(result.chance_precision.value):.3f})"])
    by_type = page.number(
        "AUROC of the true pair, particle types alone", metrics.truth_by_type(maps[ATTENTION], TRUTH)
    )
    page.table(
        ("method", "AUROC", "average precision (by chance)"),
        rows,
        "Separation of the pair of muons from the resonance by |value| in an event, mean over test events; "
        f"AUROC by chance 0.5, by the particle types alone {by_type}: all events have two muons.",
    )
    with page.axes(
        "truth", "AUROC of the true pair for each method; thin: with the trainings.", (9, 6)
    ) as ax:
        plots.truth_finding(results, ax=ax)
    sizes = {m: metrics.find_truth_in_slices(a, TRUTH, a.events.counts, SIZE_EDGES) for m, a in maps.items()}
    caption = "AUROC per event by the number of particles, statistical errors; not all events are in a bin."
    with page.axes("truth_multiplicity", caption) as ax:
        plots.truth_slices(sizes, xlabel="particles in the event", ax=ax)


if __name__ == "__main__":
    main()
