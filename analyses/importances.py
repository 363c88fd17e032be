"""Which columns of a table a model leans on, by every method, and whether the methods agree.

For runs of a data-set card with `globals`: impurity, permutation (of columns, of groups, and conditional),
Shapley values of trees, Integrated Gradients and Deep SHAP of a dense network, the conductance of its
neurons. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.importance.gini import gini_importance
from hepxai.importance.permutation import permutation_importance
from hepxai.metrics.columns import Ranking, column_agreement, ranking_agreement
from hepxai.metrics.importance import Importance
from hepxai.models import ModelCard
from hepxai.plots import style
from hepxai.plots.bars import correlation_dendrogram, importance_bars, neuron_bars
from hepxai.plots.matrices import method_agreement
from hepxai.plots.values import beeswarm, value_figure
from hepxai.report.study import StudyPage
from hepxai.run import Run

TREES, NETWORK = "boosted_trees", "dense"
MOST = 10_000
"""Events that are explained one by one."""
SAMPLED = 200
"""Events for methods that ask the model thousands of times for each."""


def main() -> None:
    """Train both models (or take the runs that are there), explain, write ``importances.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="charged_higgs", help="data-set card with globals, name or path")
    parser.add_argument("--out", type=Path, default=Path("importances"), help="folder of the runs")
    parser.add_argument("--quick", action="store_true", help="few trees, few epochs")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    runs = trained(chosen.out, DatasetCard.find(chosen.dataset), changes(chosen.quick))
    page = StudyPage(chosen.out, "importances")
    trees = tree_importances(page, runs[TREES])
    network, maps = network_importances(page, runs[NETWORK])
    agreement(page, trees | network, maps)
    neurons(page, runs[NETWORK])
    print(page.write(f"# What models of the table of {chosen.dataset} lean on"))


def changes(quick: bool) -> dict[str, list[str]]:
    """Entries of the model cards that a quick run changes."""
    few = {TREES: ["training.trees=20"], NETWORK: ["training.epochs=3"]}
    return few if quick else {name: [] for name in few}


def trained(out: Path, dataset: DatasetCard, entries: Mapping[str, Sequence[str]]) -> dict[str, Run]:
    """Run of every model on the same events, which are read once."""
    runs: dict[str, Run] = {}
    for name, changed in entries.items():
        run = Run.start(out / name, dataset, ModelCard.find(name, changed))
        run = run.on(next(iter(runs.values())).reading) if runs else run
        run.train()
        runs[name] = run
    return runs


def kinds(events: Events) -> dict[str, tuple[str, ...]]:
    """Columns of the same quantity of different objects: ``jet1_btag, jet2_btag, …`` are "btag"."""
    found: dict[str, list[str]] = {}
    for name in events.schema.globals:
        numbered = re.fullmatch(r"[a-z]+\d+_(\w+)", name)
        found.setdefault(numbered.group(1) if numbered else name, []).append(name)
    return {kind if len(names) > 1 else names[0]: tuple(names) for kind, names in found.items()}


def noted(page: StudyPage, ranking: Ranking | Importance, key: str) -> list[tuple[str, str]]:
    """Names and numbers of a ranking, the first on top, kept on the page."""
    own = Ranking.of(ranking) if isinstance(ranking, Importance) else ranking
    estimates = [Estimate(own.value[i], own.error[i], np.nan) for i in own.order()]
    names = [own.names[i] for i in own.order()]
    return [(n, page.number(f"{key}, {n}", e)) for n, e in zip(names, estimates, strict=True)]


def listed(page: StudyPage, rankings: Mapping[str, Ranking], key: str, caption: str, top: int = 10) -> None:
    """Table with the first columns of every ranking."""
    columns = [noted(page, ranking, f"{method}, {key}")[:top] for method, ranking in rankings.items()]
    rows = [
        [str(i + 1), *(f"{name} {text}" for name, text in line)]
        for i, line in enumerate(zip(*columns, strict=True))
    ]
    page.table(("", *rankings), rows, caption)


# --- methods -------------------------------------------------------------------------------------


def tree_importances(page: StudyPage, run: Run) -> dict[str, Ranking]:
    """Impurity, permutation and Shapley values of the boosted trees."""
    page.heading("Boosted trees: which columns?")
    test = run.events.where("test")
    shap = run.explain(["tree_shap"], maximum=MOST)["tree_shap"]
    found = {
        "gini": Ranking.of(gini_importance(run.model)),
        "permutation": Ranking.of(permutation_importance(run.model, test, progress=True)),
        "tree_shap": Ranking.of(shap),
    }
    listed(page, found, "boosted trees", f"{LEANS} {_additivity(shap)}")
    with page.axes("trees_bars", "Each method relative to its largest importance.", (9, 11)) as ax:
        importance_bars(found, ax=ax)
    with page.axes("trees_beeswarm", "Shapley values of the boosted trees, test events.", (9, 8)) as ax:
        beeswarm(shap, ax=ax)
    return {f"{name}, trees": ranking for name, ranking in found.items()}


LEANS = (
    "The ten columns that count most. Gini: share of the decrease of impurity in training; permutation: AUC "
    "lost on the test events; SHAP and gradients: mean |attribution| to the logit on test events."
)


def _additivity(found: Attribution) -> str:
    return f"{found.method} adds up to the score to {found.checks['median_residual']:.1e} in the median."


def network_importances(page: StudyPage, run: Run) -> tuple[dict[str, Ranking], dict[str, Attribution]]:
    """Permutation, Integrated Gradients and Deep SHAP of the dense network."""
    page.heading("Dense network: which columns?")
    test = run.events.where("test")
    explained = run.explain(["feature_ig", "deep_shap"], maximum=MOST)
    maps = {name: explained[name] for name in ("feature_ig", "deep_shap")}
    found = {"permutation": Ranking.of(permutation_importance(run.model, test, progress=True))}
    found |= {name: Ranking.of(one) for name, one in maps.items()}
    checks = " ".join(_additivity(one) for one in maps.values())
    listed(page, found, "dense network", f"{LEANS} {checks}")
    with page.axes("network_bars", "Each method relative to its largest importance.", (9, 11)) as ax:
        importance_bars(found, ax=ax)
    with page.axes("network_beeswarm", "Integrated Gradients of the network, test events.", (9, 8)) as ax:
        beeswarm(maps["feature_ig"], ax=ax)
    return {f"{name}, network": ranking for name, ranking in found.items()}, maps


def groups(page: StudyPage, runs: Mapping[str, Run]) -> None:
    """Which columns go together, and how much is lost with all of a kind."""
    page.heading("Columns that go together")
    test = next(iter(runs.values())).events.where("test")
    table, columns = test.table()
    with page.axes("dendrogram", "Columns joined by |rank correlation|, test events.", (9, 11)) as ax:
        correlation_dendrogram(table, columns, ax=ax)
    rows = []
    for name, run in runs.items():
        lost = permutation_importance(run.model, test, groups=kinds(test), progress=True)
        rows.append(noted(page, lost, f"permutation by kind, {name}"))
    cells = [[f"{n} {t}" for n, t in line] for line in zip(*rows, strict=True)]
    page.table(
        tuple(runs),
        cells[:12],
        "AUC lost on the test events when all columns of a kind are permuted together: btag is the b-tag "
        "score of all leading jets, and so on.",
    )


def agreement(page: StudyPage, rankings: Mapping[str, Ranking], maps: Mapping[str, Attribution]) -> None:
    """Whether the methods, and the two models, name the same columns."""
    page.heading("Do the methods agree?")
    found = ranking_agreement(rankings)
    for i, one in enumerate(found.methods):
        for j in range(i):
            mean = Estimate(found.mean.value[i, j], found.mean.error[i, j], np.nan)
            page.number(f"rank correlation, {one} and {found.methods[j]}", mean)
    caption = "Spearman's correlation of the rankings of all columns; errors from those of the importances."
    with page.axes("agreement", caption, (14, 9)) as ax:
        method_agreement(found, title="rank correlation of the columns", ax=ax)
    one, other = maps.values()
    per_event = column_agreement(one, other)
    text = page.number("rank correlation per event, feature_ig and deep_shap", per_event.mean)
    page.text(f"Event by event, Integrated Gradients and Deep SHAP rank the columns alike to {text}.")


def values(page: StudyPage, found: Attribution, columns: Sequence[str]) -> None:
    """Attribution against the value of a column, as the first study showed it for a b-tag score."""
    for column in columns:
        caption = f"{column}: its distribution, and what {found.method} attributes to it; test events."
        page.figure(f"value_{column}", value_figure(found, column), caption)


def neurons(page: StudyPage, run: Run) -> Attribution:
    """Conductance of every neuron: the first and the last fifteen."""
    page.heading("Neurons")
    found = run.explain(["conductance"], maximum=MOST)["conductance"]
    classes = found.events.schema.classes
    with style():
        figure, frames = plt.subplots(1, len(classes), figsize=(8 * len(classes), 11))
        for code, (ax, name) in enumerate(zip(frames, classes, strict=True)):
            neuron_bars(found, where=found.events.label == code, ax=ax)
            ax.set_title(f"{name} events", fontsize="small", pad=36)
        figure.tight_layout()
    page.figure("neurons", figure, "Top and bottom fifteen neurons by mean conductance, test events.")
    mean = found.population()
    for name, value, error in zip(found.labels["neuron"], mean.value, mean.error, strict=True):
        page.number(f"conductance, {name}", Estimate(value, error, np.nan))
    silent = int((np.abs(found.values) == 0).all(axis=0).sum())
    page.facts["neurons without any conductance"] = str(silent)
    page.text(
        f"{len(mean.value)} neurons, {silent} of them without any conductance in any event. The sum over a "
        f"layer is the change of the score to {found.checks['median_residual']:.1e} in the median of "
        f"{len(found.events):,} events; largest mean conductance {_largest(found)}."
    )
    return found


def _largest(found: Attribution) -> str:
    mean = found.population()
    i = int(np.argmax(np.abs(mean.value)))
    return f"{measured(float(mean.value[i]), float(mean.error[i]))} ({found.labels['neuron'][i]})"


if __name__ == "__main__":
    main()
