"""Importance of the columns of a table for two models, by every method, and agreement of the methods.

For a data-set card with `globals`: impurity, permutation, Shapley values of trees, Integrated Gradients and
Deep SHAP of several trainings of a dense network, conductance of the neurons of the first. The trees do not
depend on their seed. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepxai import Attribution, Run, plots
from hepxai.attribution.spread import measured_together
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.importance.gini import gini_importance
from hepxai.importance.permutation import permutation_importance
from hepxai.metrics.columns import Ranking, column_agreement, ranking_agreement
from hepxai.report.study import StudyPage, study_options, trained_runs
from hepxai.run import EnsembleRun
from hepxai.studies.column_groups import column_kinds

TREES, NETWORK = "boosted_trees", "dense"
MAXIMUM = 10_000
"""Number of events that are explained one by one."""


def main() -> None:
    """Train both models (or open the trained runs), explain, write ``importances.md``."""
    options = study_options(__file__, __doc__, dataset="charged_higgs", quick="few trees, few epochs")
    runs = trained_runs(options.out, options.dataset, overrides(options.quick))
    page = StudyPage(options.out, "importances")
    trees = tree_importances(page, runs[TREES])
    network, maps = network_importances(page, runs[NETWORK])
    agreement(page, trees | network, maps)
    neurons(page, runs[NETWORK])
    print(page.write(f"# Importances of the columns of {options.dataset.name}"))


def overrides(quick: bool) -> dict[str, list[str]]:
    """Changed entries of the model cards."""
    if quick:
        return {TREES: ["training.trees=20"], NETWORK: ["training.epochs=3", "training.trainings=2"]}
    return {TREES: [], NETWORK: ["training.trainings=5"]}


def tree_importances(page: StudyPage, run: Run) -> dict[str, Ranking]:
    """Impurity, permutation and Shapley values of the boosted trees."""
    page.heading("Boosted trees: which columns?")
    maps = {"tree_shap": run.explain(["tree_shap"], maximum=MAXIMUM)["tree_shap"]}
    rankings = {"gini": Ranking.of(gini_importance(run.model)), "permutation": permutation_ranking(run)}
    return write_rankings(page, "trees", "boosted trees", rankings, maps)


def network_importances(page: StudyPage, run: Run) -> tuple[dict[str, Ranking], dict[str, Attribution]]:
    """Permutation, Integrated Gradients and Deep SHAP of the dense network."""
    page.heading("Dense network: which columns?")
    explained = run.explain(["feature_ig", "deep_shap"], maximum=MAXIMUM)
    maps = {name: explained[name] for name in ("feature_ig", "deep_shap")}
    rankings = {"permutation": permutation_ranking(run)}
    return write_rankings(page, "network", "dense network", rankings, maps), maps


def permutation_ranking(run: Run, groups: Mapping[str, Sequence[str]] | None = None) -> Ranking:
    """Permutation importance on the test events, mean over the trainings."""
    test, trainings = run.events.where("test"), run.members if isinstance(run, EnsembleRun) else {"": run}
    options: dict[str, Any] = {"groups": groups, "progress": True}
    return Ranking.mean_of(
        [Ranking.of(permutation_importance(one.model, test, **options)) for one in trainings.values()]
    )


def write_rankings(
    page: StudyPage, key: str, model: str, rankings: dict[str, Ranking], maps: Mapping[str, Attribution]
) -> dict[str, Ranking]:
    """Table of the ten most important columns of every method, their bars, and the values of one method."""
    rankings = rankings | {name: Ranking.of(attribution) for name, attribution in maps.items()}
    columns = [page.ranking(f"{method}, {model}", ranking)[:10] for method, ranking in rankings.items()]
    residuals = {name: f"{attribution.checks['median_residual']:.1e}" for name, attribution in maps.items()}
    page.table(
        ("", *rankings),
        [[str(i), *row] for i, row in enumerate(zip(*columns, strict=True), start=1)],
        "The ten most important columns. Gini: share of the decrease of impurity in training; permutation: "
        "AUC lost on the test events; SHAP and gradients: mean |attribution| to the logit on test events. "
        + " ".join(f"{name} adds up to the score to {r} in the median." for name, r in residuals.items()),
    )
    with page.axes(f"{key}_bars", "Each method relative to its largest importance.", (9, 11)) as ax:
        plots.importance_bars(rankings, ax=ax)
    first = next(iter(maps.values()))
    with page.axes(f"{key}_beeswarm", f"{first.method} of the {model}, test events.", (9, 8)) as ax:
        plots.beeswarm(mean_of_trainings(first), ax=ax)
    return {f"{name}, {key}": ranking for name, ranking in rankings.items()}


def groups(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """Correlated columns, and the loss of AUC without all columns of a kind."""
    page.heading("Columns that go together")
    test = next(iter(runs.values())).events.where("test")
    with page.axes("dendrogram", "Columns joined by |rank correlation|, test events.", (9, 11)) as ax:
        plots.correlation_dendrogram(*test.table(), ax=ax)
    rankings = {name: permutation_ranking(run, column_kinds(test)) for name, run in runs.items()}
    columns = [page.ranking(f"permutation by kind, {name}", ranking) for name, ranking in rankings.items()]
    page.table(
        tuple(runs),
        list(zip(*columns, strict=True))[:12],
        "AUC lost on the test events if all columns of a kind are permuted together: btag is the b-tag "
        "score of all leading jets, and so on.",
    )


def agreement(page: StudyPage, rankings: Mapping[str, Ranking], maps: Mapping[str, Attribution]) -> None:
    """Agreement of the methods, and of the two models, on the important columns."""
    page.heading("Do the methods agree?")
    matrix = ranking_agreement(rankings)
    for i, one in enumerate(matrix.methods):
        for j, other in enumerate(matrix.methods[:i]):
            page.number(f"rank correlation, {one} and {other}", matrix.mean.at((i, j)))
    caption = (
        "Spearman's correlation of the rankings of all columns; errors from those of the importances, "
        "statistical and of the trainings."
    )
    with page.axes("agreement", caption, (14, 9)) as ax:
        plots.method_agreement(matrix, title="rank correlation of the columns", ax=ax)
    per_event = measured_together(column_agreement, *maps.values()).mean
    text = page.number("rank correlation per event, feature_ig and deep_shap", per_event)
    page.text(f"Rank correlation of Integrated Gradients and Deep SHAP, mean over events: {text}.")


def values(page: StudyPage, attribution: Attribution, columns: Sequence[str]) -> None:
    """Attribution against the value of a column, as the first study showed it for a b-tag score."""
    for column in columns:
        caption = f"{column}: its distribution and its attribution by {attribution.method}; test events."
        page.figure(f"value_{column}", plots.value_figure(mean_of_trainings(attribution), column), caption)


def neurons(page: StudyPage, run: Run) -> None:
    """Conductance of every neuron of the first training: the first and the last fifteen."""
    page.heading("Neurons")
    attribution = run.explain(["conductance"], maximum=MAXIMUM)["conductance"]
    names, events = attribution.labels["neuron"], attribution.events
    caption = "Top and bottom fifteen neurons by mean conductance, test events."
    with page.panels("neurons", caption, 1, len(events.schema.classes), (8, 11)) as frames:
        for code, (ax, name) in enumerate(zip(frames, events.schema.classes, strict=True)):
            plots.neuron_bars(attribution, where=events.label == code, ax=ax)
            ax.set_title(f"{name} events", fontsize="small", pad=36)
    mean = attribution.population()
    page.cells({f"conductance, {name}": mean.at((i,)) for i, name in enumerate(names)})
    largest = names[int(np.argmax(np.abs(mean.value)))]
    silent = int((np.abs(attribution.values) == 0).all(axis=0).sum())
    page.facts["neurons without any conductance"] = str(silent)
    page.text(
        f"{len(names)} neurons of the first training, {silent} of them without any conductance in any "
        "event. The sum over a layer is the change of the score to "
        f"{attribution.checks['median_residual']:.1e} in the median of {len(events):,} events. "
        f"Largest mean: {page.cite(f'conductance, {largest}')} ({largest})."
    )


if __name__ == "__main__":
    main()
