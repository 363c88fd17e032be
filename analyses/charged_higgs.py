"""Charged-Higgs study: statements about a network, at several edge dropouts, that survive or not.

TransformerConv → DynamicEdgeConv networks after J. Choi ("Towards the XAI in HEP", 2023). Every number is of
several trainings; a statement survives if it is true beyond three statistical errors and three spreads of the
trainings. The sections on one value of the edge dropout are those of `population.py`.

``--quick`` takes the shipped sample and a few epochs. The full study needs more events, see
docs/simulation.md; an interrupted study resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.stats
from population import (
    ATTENTION,
    BOTH,
    EDGE_IG,
    PAIR,
    TRUTH,
    Network,
    Trained,
    agreement,
    auc,
    card,
    explained_in_detail,
    mass_logit,
    write_sections,
)

from hepxai import Attribution, Run, metrics, plots
from hepxai.attribution.reductions import of_class, relative_to_uniform
from hepxai.core.estimate import Array, Estimate, total_error
from hepxai.metrics.averages import class_means, same_decision, spread_mean
from hepxai.plots.style import class_look
from hepxai.report.stability import FACTOR, RULE, Stability
from hepxai.report.study import StudyPage, study_options
from hepxai.scan.ranking import rank, variance_shares

MASKS = (0.05, 0.25)
"""Edge dropouts of the first study's masks; the second is looked at in detail."""
FURTHER = (0.15, 0.35)
EXCLUDED = 0.95
"""Probability to be below the best from which a value is excluded."""

Several = Mapping[float, Trained]
Measure = Callable[[Network], Estimate]


@dataclass(frozen=True)
class Statement:
    """A sentence that is true if a number is above its reference, or below it.

    Attributes
    ----------
    text : str
    measure : callable
        Number of one network.
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
        true = (value > self.reference) == self.above
        return {"stable": "yes" if true else "no: the opposite holds"}.get(stable, f"no: {stable}")


# --- measures ------------------------------------------------------------------------------------


def of_map(method: str, measure: Callable[[Attribution], Estimate]) -> Measure:
    """Measure of the map of a method."""
    return lambda network: measure(network.maps[method])


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
    return class_means(attribution.select(pair=PAIR))["difference"]


def carried(network: Network) -> Estimate:
    """Share of the difference of the classes in the logit that all messages of the first layer carry."""
    sums, test = class_means(network.maps[EDGE_IG].sum("pair"))["difference"], network.test
    means = [
        Estimate.of(test.score[of], test.events.weight[of]) for of in (test.events.label == c for c in (0, 1))
    ]
    logit = float(means[1].value - means[0].value)
    return Estimate(sums.value / logit, sums.error / abs(logit), np.nan)


def gain_by_mass(network: Network) -> Estimate:
    """AUC gained if the logit of a histogram of m(μμ) is added to the score."""
    test, both = network.test, network.test.score + mass_logit(network)
    return metrics.auc_difference(both, test.score, test.events.label == 1, test.events.weight)


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
        "Attention and edge IG rank pairs alike (rank correlation above 0.5).",
        lambda network: agreement(network, BOTH),
        0.5,
    ),
    "carried": Statement(
        "The messages of the first layer carry less than half of the separation.", carried, 0.5, above=False
    ),
    "mass": Statement("A histogram of m(μμ) adds to the score.", gain_by_mass),
}
COMPARED = ("I", "J", "attention beyond types", "edge IG beyond types")
"""Numbers of the statements that are compared between values of the edge dropout."""


# --- page ----------------------------------------------------------------------------------------


def main() -> None:
    """Train, explain, judge the statements, write ``charged_higgs.md``."""
    further = {"type": float, "nargs": "*", "help": "values of the edge dropout beside 0.05 and 0.25"}
    options = study_options(
        __file__,
        __doc__,
        dataset="charged_higgs",
        quick="two values, 2 trainings, 2 epochs, few events",
        options={"--further": further},
    )
    page, quick = StudyPage(options.out, "charged_higgs"), options.quick
    if options.further is None:
        options.further = () if quick else FURTHER
    several: dict[float, Trained] = {}
    for dropout in sorted({*MASKS, *options.further}):
        run = Run.start(options.out / f"{dropout:g}", options.dataset, card(quick, f"edge_dropout={dropout}"))
        explain = explained_in_detail if dropout == MASKS[-1] else Trained.explained
        several[dropout] = explain(run, workers=options.workers, quick=quick)
    facts(page, several[MASKS[0]], len(several))
    networks(page, several)
    best_values(page, several)
    statements(page, several)
    mask_graphs(page, {dropout: several[dropout] for dropout in MASKS})
    page.heading(f"Edge dropout {MASKS[-1]:g} in detail")
    page.text("All sections from here on are of this value. The mean of its trainings is explained.")
    write_sections(page, several[MASKS[-1]])
    print(page.write_with(__file__, rule=RULE.partition(" The reference")[0]))


def facts(page: StudyPage, one: Trained, values: int) -> None:
    """Sizes of samples and trainings."""
    page.sample_facts(one.run.events)
    number = one.run.trainings
    chance = 2 * scipy.stats.t.sf(FACTOR * np.sqrt(number), number - 1)
    page.facts |= {
        "values": str(values),
        "trainings": str(number),
        "epochs": str(len(next(iter(one.run.histories().values())))),
        "passes by chance": f"{100 * chance:.2g} %",
        "explained": f"{len(one.maps[ATTENTION].events):,}",
    }


def networks(page: StudyPage, several: Several) -> None:
    """Performance at every value, and a figure of it with the attention."""
    page.heading("Values of the edge dropout")
    rows = []
    for value, trained in several.items():
        singles = spread_mean(np.array([float(auc(one).value) for one in trained.singles]))
        scores = [one.test.score for one in trained.singles]
        numbers = {
            f"AUC, {value:g}": trained.measure(auc),
            f"mean AUC of one training, {value:g}": singles,
            f"balanced accuracy, {value:g}": Estimate.from_json(
                trained.run.metrics()["test"]["balanced_accuracy"]
            ),
            f"same decision of two trainings, {value:g}": same_decision(
                scores, trained.mean.test.events.weight
            ),
        }
        rows.append([f"{value:g}", *page.cells(numbers)])
    page.table(
        ("edge dropout", "AUC of the mean", "AUC of one training", "balanced accuracy", "same decision"),
        rows,
        "Test events. ± statistical ± spread of the trainings; of one training: standard error of the mean "
        "over trainings. Same decision: share of events, mean over pairs of trainings.",
    )


def best_values(page: StudyPage, several: Several) -> None:
    """Numbers against the edge dropout: the best value, the change, and shares of value and seed."""
    compared = {"AUC": auc, **{key: STATEMENTS[key].measure for key in COMPARED}}
    values, (low, high) = [*several], (list(several).index(v) for v in MASKS)
    rows, results = [], {}
    for key, measure in compared.items():
        results[key] = np.array([[float(measure(n).value) for n in t.singles] for t in several.values()])
        for value, each in zip(values, results[key], strict=True):
            page.facts[f"{key} of each training, {value:g}"] = ", ".join(f"{x:.4g}" for x in each)
        ranking, shares = rank(results[key], higher=True), variance_shares(results[key])
        change = results[key][high] - results[key][low]
        p_value = page.facts[f"p-value of the change of {key}"] = (
            f"{scipy.stats.ttest_1samp(change, 0.0).pvalue:.2g}"
        )
        best = ranking.order[0]
        others = [f"{v:g}" for v, p in zip(values, ranking.beaten, strict=True) if p < EXCLUDED]
        rows.append(
            [
                key,
                page.number(f"change of {key}", spread_mean(change)),
                p_value,
                f"{values[best]:g} ({100 * ranking.best[best]:.0f} %)",
                ", ".join(others) or "none",
                " and ".join(f"{100 * share:.0f} %" for share in shares),
            ]
        )
    expected = [f"{100 * (n - 1) / (results['AUC'].size - 1):.0f} %" for n in results["AUC"].shape]
    page.table(
        ("number", f"change, {MASKS[0]:g} to {MASKS[1]:g}", "p", "highest at", "as high", "value and seed"),
        rows,
        "Single trainings of the same seeds. Change: mean ± standard error over the seeds, p: Student's t. "
        "Highest at: value with the highest mean (probability that it is the highest of all). As high: "
        f"values below it with a probability of less than {100 * EXCLUDED:.0f} %. Value and seed: shares of "
        f"the variance of all trainings that go with either ({' and '.join(expected)} if neither matters).",
    )
    against_dropout(page, several, results)


def against_dropout(page: StudyPage, several: Several, results: Mapping[str, Array]) -> None:
    """AUC, I, J against the edge dropout with both errors, and each training."""
    caption = (
        "Numbers against the edge dropout: of the mean of the trainings, and grey of each. Thick: "
        "statistical error, thin: with the spread of the trainings."
    )
    measures = {"AUC": auc, **{key: STATEMENTS[key].measure for key in COMPARED[:2]}}
    with page.panels("dropout", caption, 1, len(measures), (4.2, 4)) as frames:
        for ax, (key, measure) in zip(frames, measures.items(), strict=True):
            means, look = [t.measure(measure) for t in several.values()], class_look(0)
            x, y = np.array([*several]), np.array([float(m.value) for m in means])
            ax.plot(x + 0.012, results[key], ls="", marker="o", ms=4, color="0.55")  # beside the means
            ax.errorbar(
                x, y, [float(total_error(m)) for m in means], fmt="none", ecolor=look["color"], capsize=3
            )
            ax.errorbar(x, y, [float(m.error) for m in means], ls="", elinewidth=3, **look)
            ax.set(xlabel="edge dropout", title=key)
            ax.margins(x=0.1)


def statements(page: StudyPage, several: Several) -> None:
    """Table of all statements with their numbers and verdicts, and a figure of the numbers."""
    page.heading("The statements")
    rows, verdicts = [], []
    for key, statement in STATEMENTS.items():
        numbers = {value: trained.measure(statement.measure) for value, trained in several.items()}
        words = [statement.verdict(number) for number in numbers.values()]
        texts = page.cells({f"{key}, {value:g}": number for value, number in numbers.items()})
        cells = [f"{text}: **{word}**" for text, word in zip(texts, words, strict=True)]
        rows.append([statement.text, f"{statement.reference:g}", *cells])
        verdicts.append(words)
    page.table(
        ("statement", "reference", *(f"dropout {value:g}" for value in several)),
        rows,
        "Number of each statement, ± statistical ± spread of the trainings, test events: does it survive?",
    )
    survive = np.array(verdicts) == "yes"
    for value, number in zip(several, survive.sum(axis=0), strict=True):
        page.facts[f"statements that survive at {value:g}"] = str(number)
    page.facts["statements"] = str(len(STATEMENTS))
    page.facts["statements that survive at every value"] = str(survive.all(axis=1).sum())
    page.facts["counts"] = ", ".join(
        f"{n} at {v:g}" for v, n in zip(several, survive.sum(axis=0), strict=True)
    )
    figure(page, several)


def figure(page: StudyPage, several: Several) -> None:
    """Number of each statement relative to its reference, in units of its spread over the trainings."""
    caption = (
        "Distance of each number from its reference in spreads of the trainings (wide errors: one spread; "
        "beyond ±3, outside the grey band, it is stable). Thick: statistical error."
    )
    with page.axes("statements", caption, (9, 7.5)) as ax:
        rows = np.arange(len(STATEMENTS))[::-1]
        for i, value in enumerate(several):
            numbers = [page.numbers[f"{key}, {value:g}"] for key in STATEMENTS]
            spread = np.array([float(n.spread["training"]) for n in numbers])
            middle = [float(n.value) - s.reference for n, s in zip(numbers, STATEMENTS.values(), strict=True)]
            place, error = np.array(middle) / spread, np.array([float(n.error) for n in numbers]) / spread
            look, y = class_look(i), rows + 0.6 * (0.5 - (i + 0.5) / len(several))
            ax.errorbar(place, y, xerr=1, ls="", color=look["color"], elinewidth=1)
            ax.errorbar(place, y, xerr=error, ls="", elinewidth=3, label=f"edge dropout {value:g}", **look)
        ax.axvspan(-FACTOR, FACTOR, color="0.92", zorder=0)
        ax.axvline(0, color="0.3", lw=1)
        ax.set_xscale("symlog", linthresh=FACTOR, linscale=1.5)
        ax.set_yticks(rows, list(STATEMENTS))
        ax.tick_params(axis="y", which="both", length=0)
        ax.set(xlabel="(number − reference) / spread of the trainings")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def mask_graphs(page: StudyPage, several: Several) -> None:
    """Attention in the same events at two values of the edge dropout."""
    page.heading("Mask graphs")
    maps = {value: relative_to_uniform(trained.mean.maps[ATTENTION]) for value, trained in several.items()}
    rows = {name: median_event(several[MASKS[0]], name) for name in ("signal", "background")}
    caption = (
        "The test event of median score of each class, at two values of the edge dropout, mean of the "
        "trainings. Arrows: the strongest attention, from sender to receiver; colour: relative to equal."
    )
    with page.panels("masks", caption, len(rows), len(maps), (8.2, 6.6)) as frames:
        for ax, (name, value) in zip(frames, product(rows, maps), strict=True):
            title = f"{name}, dropout {value:g}"
            plots.event_display(maps[value], rows[name], focus=PAIR, name=title, ax=ax)


def median_event(trained: Trained, name: str) -> int:
    """Explained event of a class with the median score: not a selected example."""
    events = trained.maps[ATTENTION].events
    score = trained.mean.score[next(iter(trained.run.members.values())).populations.rows()]
    rows = np.flatnonzero(events.label == events.schema.classes.index(name))
    return int(rows[np.argsort(score[rows])[len(rows) // 2]])


if __name__ == "__main__":
    main()
