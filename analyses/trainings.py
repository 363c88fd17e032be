"""Trainings of one network: what varies between them, and whether their mean finds the truth better.

Eight trainings of a graph network on each of two samples whose true pair is known. The maps of k trainings
are averaged, for every k. Writes a page, figures and numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from hepxai import Attribution, DatasetCard, ModelCard, Run
from hepxai.attribution.reductions import reduced
from hepxai.attribution.spread import single_trainings
from hepxai.attribution.trainings import mean_of_trainings
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate, as_arrays
from hepxai.metrics import find_truth, isolation, truth_by_type
from hepxai.metrics.averages import spread_mean
from hepxai.report.study import StudyPage, study_options

TRUTH, PAIR = "fromResonance", ("muon", "muon")
METHODS = ("attention", "edge_ig")
SUBSETS = 12
"""Choices of k trainings that are averaged over, at most."""
BLOCKS = 10
"""Disjoint parts of the events, for the error of a difference."""
SAMPLES = {"charged_higgs": "signal", "top_dimuon": "signal-rest"}
"""Data-set cards, and what is explained."""


def main() -> None:
    """Train, explain, compare, write ``trainings.md``."""
    options = study_options(
        __file__, __doc__, dataset="charged_higgs", quick="3 trainings, 2 epochs, few events"
    )
    page, number = StudyPage(options.out, "trainings"), 3 if options.quick else 8
    page.facts["trainings"] = str(number)
    for name, target in SAMPLES.items():
        page.heading(f"`{name}`")
        run = trained(page, name, number, quick=options.quick, workers=options.workers)
        maps = run.explain(
            list(METHODS), targets=[target], maximum=60 if options.quick else 1000, workers=options.workers
        )
        compare(page, name, {m: reduced_trainings(a) for m, a in maps.items()})
        page.facts[f"events of {name}"] = f"{len(next(iter(maps.values())).events):,}"
    print(page.write_with(__file__))


def trained(page: StudyPage, name: str, number: int, *, quick: bool, workers: int) -> Run:
    """Run of several trainings, resumed if it is there."""
    card = ModelCard.find(
        "transformer_edgeconv", [f"training.trainings={number}", *(["training.epochs=2"] if quick else [])]
    )
    run = Run.start(page.folder / name, DatasetCard.find(name), card)
    run.train(workers=workers)
    auc = run.metrics()["test"]["auc" if "auc" in run.metrics()["test"] else "mean_auc"]
    page.number(f"AUC of {name}", Estimate.from_json(auc))
    return run


def reduced_trainings(attribution: Attribution) -> Attribution:
    """One number per pair and training."""
    return reduced(attribution, keep="training")


def compare(page: StudyPage, name: str, maps: Mapping[str, Attribution]) -> None:
    """Truth found by the mean of k trainings, and numbers with both errors."""
    by_type = truth_by_type(mean_of_trainings(next(iter(maps.values()))), TRUTH)
    types = page.number(f"AUROC by particle types alone, {name}", by_type)
    curves = {method: list(means_of(attribution)) for method, attribution in maps.items()}
    rows = []
    for method, attribution in maps.items():
        single = find_truth(attribution, TRUTH).auroc
        gain, error = gain_of_all(attribution)
        page.number(f"isolation of {PAIR[0]} pairs, {method}, {name}", isolation(attribution, PAIR))
        numbers = {
            f"AUROC of the mean map, {method}, {name}": single,
            f"AUROC of one training, {method}, {name}": of_one(attribution),
            f"gain of all trainings over one, {method}, {name}": Estimate(gain, error, np.nan),
        }
        rows.append([method, *page.cells(numbers), verdict(float(gain), float(error))])
    page.table(
        ("method", "mean map", "one training", "gain", "does it rise?"),
        rows,
        f"AUROC per event of the true pair; by particle types alone it is {types}. "
        "Mean map: ± statistical ± spread of single trainings. Gain: error from blocks of events and from "
        "the trainings; it rises if the gain is above two errors.",
    )
    caption = (
        f"AUROC of the mean map of k trainings, `{name}`; mean over subsets, bars: their standard deviation."
    )
    with page.axes(f"auroc_{name}", caption) as ax:
        for method, points in curves.items():
            k = np.arange(1, len(points) + 1)
            ax.errorbar(k, [float(p.value) for p in points], [float(p.error) for p in points], marker="o",
                        capsize=3, label=method.replace("_", " "))  # fmt: skip
        ax.axhline(float(by_type.value), ls=":", label="particle types alone")
        ax.set(xlabel="trainings in the mean", ylabel="AUROC of the true pair, per event")
        ax.legend()


def of_one(attribution: Attribution) -> Estimate:
    """Mean AUROC of the single trainings; its error is of the events, its spread of the trainings."""
    each = [find_truth(a, TRUTH).auroc for a in single_trainings(attribution)]
    value, error = as_arrays(each)
    spread = {"training": np.asarray(value.std(ddof=1))}
    return Estimate(np.asarray(value.mean()), np.asarray(error.mean()), np.nan, spread=spread)


def means_of(attribution: Attribution) -> Iterator[Estimate]:
    """AUROC of the mean map of k trainings: mean over subsets, with their standard deviation as error."""
    number = len(attribution.labels["training"])
    for k in range(1, number + 1):
        subsets = list(combinations(range(number), k))
        chosen = [subsets[i] for i in evenly_spread(len(subsets), min(SUBSETS, len(subsets)))]
        values = np.array([float(auroc_of(attribution, subset)) for subset in chosen])
        yield Estimate(
            np.asarray(values.mean()), np.asarray(values.std(ddof=min(1, len(values) - 1))), np.nan
        )


def auroc_of(attribution: Attribution, subset: Sequence[int]) -> float:
    """AUROC of the mean map of some trainings."""
    values = attribution.values[..., list(subset)].mean(axis=-1)
    plain = mean_of_trainings(attribution).replace(values=values)
    return float(find_truth(plain, TRUTH).auroc.value)


def gain_of_all(attribution: Attribution) -> tuple[np.ndarray, np.ndarray]:
    """AUROC of the mean of all trainings less the mean AUROC of one, with its error."""
    blocks = [attribution[i::BLOCKS] for i in range(BLOCKS)]
    of_block = np.array([gain(block) for block in blocks])
    singles = spread_mean(
        np.array([float(find_truth(a, TRUTH).auroc.value) for a in single_trainings(attribution)])
    )
    error = np.hypot(of_block.std(ddof=1) / np.sqrt(BLOCKS), float(singles.error))
    return np.asarray(gain(attribution)), np.asarray(error)


def gain(attribution: Attribution) -> float:
    """AUROC of the mean of all trainings less the mean AUROC of one."""
    each = [float(find_truth(a, TRUTH).auroc.value) for a in single_trainings(attribution)]
    return float(find_truth(mean_of_trainings(attribution), TRUTH).auroc.value) - float(np.mean(each))


def verdict(value: float, error: float) -> str:
    """A word on a gain."""
    if value > 2 * error:
        return "yes"
    return "it falls" if value < -2 * error else "not beyond errors"


if __name__ == "__main__":
    main()
