"""Which statements about a charged-Higgs network survive five trainings, at each of two edge dropouts.

Statements of the charged-Higgs study are measured on runs of several trainings: a statement survives if it is
stable, that is true beyond three statistical errors and three spreads of the trainings. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.stats

from hepxai import Attribution, ModelCard, metrics
from hepxai.attribution.reductions import of_class, reduced
from hepxai.attribution.spread import over_trainings, single_trainings, with_spread
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.binning import equal_bins
from hepxai.core.estimate import Array, Estimate
from hepxai.events import Events
from hepxai.metrics.averages import same_decision, spread_mean
from hepxai.metrics.likelihood import log_likelihood_ratio
from hepxai.plots.style import class_look
from hepxai.report.stability import FACTOR, RULE, Stability
from hepxai.report.study import StudyPage, study_options
from hepxai.run import EnsembleRun, Run

PAIR, TRUTH, MASS = ("muon", "muon"), "fromResonance", "mass_mumu"
ATTENTION, EDGE_IG = METHODS = ("attention", "edge_ig")
DROPOUTS = (0.05, 0.25)
"""Edge dropouts of the first study's masks."""


@dataclass(frozen=True)
class Trained:
    """Several trainings at one edge dropout, with their explanations; heads and layers averaged.

    Attributes
    ----------
    run : EnsembleRun
    maps : mapping of str to Attribution
        By method, with the axis "training".
    """

    run: EnsembleRun
    maps: Mapping[str, Attribution]

    @cached_property
    def scores(self) -> list[Array]:
        """Logits of the test events: their mean over the trainings, and those of each training."""
        test = self.run.events.split == 2
        return [self.run.scores[test, 0], *self.run.scores_of_trainings[:, test, 0]]

    @property
    def test(self) -> Events:
        """Test events, in the order of the scores."""
        return self.run.events.where("test")


Measure = Callable[[Trained], Estimate]
"""Number of several trainings, with its spread over them."""


def of_map(method: str, measure: Callable[[Attribution], Estimate]) -> Measure:
    """Measure of the maps of one method."""
    return lambda trained: over_trainings(measure)(trained.maps[method])


def of_scores(measure: Callable[[Trained, Array], Estimate]) -> Measure:
    """Measure of the logits of the test events."""

    def measured(trained: Trained) -> Estimate:
        mean, *singles = (measure(trained, score) for score in trained.scores)
        return with_spread(mean, singles)

    return measured


@dataclass(frozen=True)
class Statement:
    """A sentence that is true if a number is above its reference, or below it.

    Attributes
    ----------
    text : str
    measure : Measure
    reference : float
    above : bool
    """

    text: str
    measure: Measure
    reference: float = 0.0
    above: bool = True

    def verdict(self, number: Estimate) -> str:
        """Verdict on the statement, by the rule of the report on stable numbers."""
        value, error, spread = (float(v) for v in (number.value, number.error, number.spread["training"]))
        stable = Stability(self.text, value, error, spread, self.reference).verdict
        true = (float(number.value) > self.reference) == self.above
        return {"stable": "yes" if true else "no: the opposite holds"}.get(stable, f"no: {stable}")


# --- measures ------------------------------------------------------------------------------------


def signal_isolation(attribution: Attribution) -> Estimate:
    """Attention of the two muons to each other in signal; 1: as to anyone else."""
    return metrics.isolation(of_class(attribution, "signal"), PAIR)


def signal_from_rest(attribution: Attribution) -> Estimate:
    """Attention of all others to the two muons in signal; 1: as to anyone else."""
    return metrics.attention_from_rest(of_class(attribution, "signal"), PAIR)


def beyond_types(attribution: Attribution) -> Estimate:
    """AUROC of the true pair less that of the particle types alone."""
    return metrics.truth_beyond_types(attribution, TRUTH)


def among_muon_messages(attribution: Attribution) -> Estimate:
    """AUROC of the true pair among the messages that muons send."""
    return metrics.find_truth(attribution.select(source=PAIR[0]), TRUTH).auroc


def pair_difference(attribution: Attribution) -> Estimate:
    """Mean of the muon pair in signal less that in background."""
    return metrics.averages.class_means(attribution.select(pair=PAIR))["difference"]


def agreement(trained: Trained) -> Estimate:
    """Rank correlation of attention and edge IG, training by training."""
    both = [single_trainings(trained.maps[m]) for m in METHODS]
    singles = [metrics.rank_agreement(*pair).mean for pair in zip(*both, strict=True)]
    means = (mean_of_trainings(trained.maps[m]) for m in METHODS)
    return with_spread(metrics.rank_agreement(*means).mean, singles)


def carried(trained: Trained) -> Estimate:
    """Share of the difference of the classes in the logit that all messages of the first layer carry."""
    attribution = trained.maps[EDGE_IG]

    def share(one: Attribution, score: Array) -> Estimate:
        sums = metrics.averages.class_means(one.sum("pair"))["difference"]
        test = trained.test
        means = [Estimate.of(score[test.label == c], test.weight[test.label == c]) for c in (0, 1)]
        logit = float(means[1].value - means[0].value)
        return Estimate(sums.value / logit, sums.error / abs(logit), np.nan)

    mean, *singles = trained.scores
    parts = zip(single_trainings(attribution), singles, strict=True)
    return with_spread(share(mean_of_trainings(attribution), mean), [share(a, s) for a, s in parts])


def auc(trained: Trained, score: Array) -> Estimate:
    """AUC of the test events."""
    return metrics.auc(score, trained.test.label == 1, trained.test.weight)


def gain_by_mass(trained: Trained, score: Array) -> Estimate:
    """AUC gained if the logit of a histogram of m(μμ) is added to the score."""
    train, test = trained.run.events.where("train"), trained.test
    edges = equal_bins(train.observers[MASS], 40)
    sample = (train.observers[MASS], train.label == 1, train.weight)
    ratio = log_likelihood_ratio(*sample, edges, test.observers[MASS])
    return metrics.auc_difference(score + ratio, score, test.label == 1, test.weight)


STATEMENTS = {
    "I": Statement(
        "Two muons attend to each other more than equally (I > 1).", of_map(ATTENTION, signal_isolation), 1
    ),
    "J": Statement(
        "The others attend to the muons more than equally (J > 1).", of_map(ATTENTION, signal_from_rest), 1
    ),
    "attention beyond types": Statement(
        "Attention finds the true pair better than particle types alone.", of_map(ATTENTION, beyond_types)
    ),
    "attention of muons": Statement(
        "Among messages sent by muons, attention is weaker on the true pair.",
        of_map(ATTENTION, among_muon_messages),
        0.5,
        above=False,
    ),
    "edge IG beyond types": Statement(
        "Edge IG finds the true pair better than particle types alone.", of_map(EDGE_IG, beyond_types)
    ),
    "edge IG of muons": Statement(
        "Among messages sent by muons, edge IG is weaker on the true pair.",
        of_map(EDGE_IG, among_muon_messages),
        0.5,
        above=False,
    ),
    "edge IG of the pair": Statement(
        "Edge IG of a muon pair is larger in signal than in background.", of_map(EDGE_IG, pair_difference)
    ),
    "agreement": Statement(
        "Attention and edge IG rank pairs alike (rank correlation above 0.5).", agreement, 0.5
    ),
    "carried": Statement(
        "The messages of the first layer carry less than half of the separation.", carried, 0.5, above=False
    ),
    "mass": Statement("A histogram of m(μμ) adds to the score.", of_scores(gain_by_mass)),
}


# --- page ----------------------------------------------------------------------------------------


def main() -> None:
    """Train, explain, judge the statements, write ``two_dropouts.md``."""
    options = study_options(
        __file__, __doc__, dataset="charged_higgs", quick="2 trainings, 2 epochs, few events"
    )
    page, number = StudyPage(options.out, "two_dropouts"), 2 if options.quick else 5
    several = {}
    for dropout in DROPOUTS:
        entries = [f"edge_dropout={dropout}", f"training.trainings={number}"]
        entries += ["training.epochs=2"] if options.quick else []
        card = ModelCard.find("transformer_edgeconv", entries)
        several[f"{dropout:g}"] = trained_and_explained(
            Run.start(options.out / f"{dropout:g}", options.dataset, card),
            maximum=100 if options.quick else 4000,
            workers=options.workers,
        )
    one = next(iter(several.values()))
    page.sample_facts(one.run.events)
    page.facts |= {"trainings": str(number), "epochs": str(len(next(iter(one.run.histories().values()))))}
    chance = 2 * scipy.stats.t.sf(FACTOR * np.sqrt(number), number - 1)
    page.facts["passes by chance"] = f"{100 * chance:.2g} %"
    page.facts["explained"] = f"{len(one.maps[ATTENTION].events):,}"
    performance(page, several)
    statements(page, several)
    between(page, several)
    print(page.write_with(__file__, rule=RULE.partition(" The reference")[0]))


def trained_and_explained(run: Run, *, maximum: int, workers: int) -> Trained:
    """Trainings and their maps, resumed if they are there."""
    run.train(workers=workers)
    maps = run.explain(list(METHODS), maximum=maximum, workers=workers)
    if not isinstance(run, EnsembleRun):
        raise TypeError("the card asks for several trainings")
    return Trained(run, {m: reduced(maps[m], keep="training") for m in METHODS})


def performance(page: StudyPage, several: Mapping[str, Trained]) -> None:
    """AUC of the mean logit and of its trainings, and how often two trainings decide alike."""
    page.heading("The networks")
    rows = []
    for name, trained in several.items():
        test = trained.test
        accuracy = Estimate.from_json(trained.run.metrics()["test"]["balanced_accuracy"])
        alike = same_decision(trained.scores[1:], test.weight)
        singles = spread_mean(np.array([float(auc(trained, s).value) for s in trained.scores[1:]]))
        numbers = {
            f"AUC, {name}": of_scores(auc)(trained),
            f"mean AUC of one training, {name}": singles,
            f"balanced accuracy, {name}": accuracy,
            f"same decision of two trainings, {name}": alike,
        }
        rows.append([name, *page.cells(numbers)])
    page.table(
        ("edge dropout", "AUC of the mean", "AUC of one training", "balanced accuracy", "same decision"),
        rows,
        "Test events. ± statistical ± spread of the trainings; of one training: standard error of the mean "
        "over trainings. Same decision: share of events, mean over pairs of trainings.",
    )


def statements(page: StudyPage, several: Mapping[str, Trained]) -> None:
    """Table of all statements with their numbers and verdicts, and a figure of the single trainings."""
    page.heading("The statements")
    rows, verdicts = [], []
    for key, statement in STATEMENTS.items():
        numbers = {name: statement.measure(trained) for name, trained in several.items()}
        words = [statement.verdict(number) for number in numbers.values()]
        texts = page.cells({f"{key}, {name}": number for name, number in numbers.items()})
        cells = [part for pair in zip(texts, words, strict=True) for part in pair]
        rows.append([statement.text, f"{statement.reference:g}", *cells])
        verdicts.append(words)
    header = [part for name in several for part in (f"dropout {name}", "survives?")]
    page.table(
        ("statement", "reference", *header),
        rows,
        "Number of each statement: ± statistical ± spread of the trainings, test events.",
    )
    survive = [sum(words[i] == "yes" for words in verdicts) for i in range(len(several))]
    for name, number in zip(several, survive, strict=True):
        page.facts[f"statements that survive at {name}"] = str(number)
    page.facts["statements"] = str(len(STATEMENTS))
    page.facts["statements that survive at both"] = str(sum(all(w == "yes" for w in v) for v in verdicts))
    figure(page, several)


def figure(page: StudyPage, several: Mapping[str, Trained]) -> None:
    """Number of each statement relative to its reference, in units of its spread over the trainings."""
    caption = (
        "Distance of each number from its reference in spreads of the trainings (wide errors: one spread; "
        "beyond ±3, outside the grey band, it is stable). Thick: statistical error."
    )
    with page.axes("statements", caption, (9, 7.5)) as ax:
        rows = np.arange(len(STATEMENTS))[::-1]
        for i, name in enumerate(several):
            numbers = [page.numbers[f"{key}, {name}"] for key in STATEMENTS]
            spread = np.array([float(n.spread["training"]) for n in numbers])
            middle = [float(n.value) - s.reference for n, s in zip(numbers, STATEMENTS.values(), strict=True)]
            place, error = np.array(middle) / spread, np.array([float(n.error) for n in numbers]) / spread
            look, y = class_look(i), rows + 0.15 * (1 - 2 * i)
            ax.errorbar(place, y, xerr=1, ls="", color=look["color"], elinewidth=1)
            ax.errorbar(place, y, xerr=error, ls="", elinewidth=3, label=f"edge dropout {name}", **look)
        ax.axvspan(-3, 3, color="0.92", zorder=0)
        ax.axvline(0, color="0.3", lw=1)
        ax.set_xscale("symlog", linthresh=3, linscale=1.5)
        ax.set_yticks(rows, list(STATEMENTS))
        ax.tick_params(axis="y", which="both", length=0)
        ax.set(xlabel="(number − reference) / spread of the trainings")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def of_each(method: str, measure: Callable[[Attribution], Estimate]) -> Callable[[Trained], list[float]]:
    """Measure of the map of every single training."""
    return lambda trained: [float(measure(a).value) for a in single_trainings(trained.maps[method])]


def between(page: StudyPage, several: Mapping[str, Trained]) -> None:
    """Change of numbers from the first to the last dropout, training by training of equal seed."""
    page.heading("From one dropout to the other")
    first, last = list(several.values())[:: len(several) - 1]
    names = list(several)
    measures: dict[str, Callable[[Trained], list[float]]] = {
        "AUC": lambda t: [float(auc(t, s).value) for s in t.scores[1:]],
        "isolation I of signal": of_each(ATTENTION, signal_isolation),
        "attention from the rest J of signal": of_each(ATTENTION, signal_from_rest),
        "AUROC of attention beyond types": of_each(ATTENTION, beyond_types),
        "AUROC of edge IG beyond types": of_each(EDGE_IG, beyond_types),
    }
    rows = []
    for key, measure in measures.items():
        before, after = (np.array(measure(t)) for t in (first, last))
        change = spread_mean(after - before)
        text = page.number(f"change of {key}", change)
        p_value = f"{scipy.stats.ttest_1samp(after - before, 0.0).pvalue:.2g}"
        page.facts[f"p-value of the change of {key}"] = p_value
        singles = (", ".join(f"{v:.3g}" for v in values) for values in (before, after))
        rows.append([key, *singles, text, p_value])
    page.table(
        ("number", f"trainings at {names[0]}", f"trainings at {names[-1]}", "change", "p"),
        rows,
        "Single trainings, seeds in the same order; mean change ± standard error over the seeds, on the "
        f"same events. p: Student's t of the changes seed by seed; {len(measures)} numbers were compared.",
    )


if __name__ == "__main__":
    main()
