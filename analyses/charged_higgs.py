"""Charged-Higgs study: an edge dropout chosen by the attention of the network, and its worth.

TransformerConv → DynamicEdgeConv networks at eight values of the edge dropout, three seeds each, after
J. Choi ("Towards the XAI in HEP", 2023): attention of the muon pair, mask graphs, surrogate networks; beyond
it, in `population.py`: dependence on the di-muon mass, Shapley interactions, agreement, the true pair.

``--quick`` takes the shipped sample, two values and a few epochs. The full study needs more events, see
docs/simulation.md; an interrupted study resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np
import population
from numpy.typing import NDArray
from population import METHODS, PAIR

from hepxai import Attribution, DatasetCard, ModelCard, Run, Scan, metrics, plots
from hepxai.attribution.reductions import reduced, relative_to_uniform
from hepxai.metrics.averages import same_decision, spread_mean
from hepxai.report.study import StudyPage, study_options
from hepxai.scan import advice, write_scan
from hepxai.scan.ranking import best_against, variance_shares

MODEL, DROPOUT = "transformer_edgeconv", "model.edge_dropout"
VALUES = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
MASKS, SURROGATES = (0.05, 0.25), (0.05, 0.2)
COLUMNS = {
    "test_accuracy": "accuracy (test)",
    "valid_auc": "AUC (valid)",
    "test_auc": "AUC (test)",
    "pair_attention": "attention of μμ (valid)",
    "pair_isolation": "isolation (valid)",
}
ISOLATION = {"I": metrics.isolation, "J": metrics.attention_from_rest}


def main() -> None:
    """Run the study."""
    quick = "two values, two seeds, six epochs"
    options = study_options(__file__, __doc__, dataset="charged_higgs", quick=quick)
    page, folder = StudyPage(options.out, "charged_higgs"), options.out / "scan"
    card = ModelCard.find(MODEL, ["training.epochs=6"] if options.quick else [])
    grid = {"edge_dropout": [0.05, 0.25] if options.quick else VALUES}
    seeds, goals = 2 if options.quick else 3, ["pair_isolation", "valid_auc"]
    scan = Scan.start(folder, options.dataset, card, grid, seeds=seeds, objectives=goals)
    scan.run(workers=options.workers)
    best = dropout_scan(page, scan)
    runs = {p.point[DROPOUT]: [Run.open(scan.trial_folder(t)) for t in p.trials] for p in scan.table().points}
    mask_graphs(page, {value: runs[value] for value in MASKS})
    population.surrogates(page, {f"{value:g}": runs[value][0] for value in SURROGATES if value in runs})
    run = runs[best][0]
    pair_features = {"pair_features": ["delta_r", "log_mass"]}
    dataset = DatasetCard.model_validate(options.dataset.model_dump() | pair_features)
    informed = Run.start(options.out / "pair_features", dataset, run.card)
    informed.train()
    page.heading("Beyond the di-muon mass")
    population.mass_dependence(page, {"as it is": run, "given ΔR and log m": informed})
    population.write_sections(page, run.explain(METHODS))
    page.sample_facts(run.events)
    page.facts |= {"epochs": str(card.training.epochs), "values": str(len(runs)), "seeds": str(seeds)}
    accuracies = sorted((f"test_accuracy, {v:g}" for v in runs), key=lambda k: page.numbers[k].value)
    agreements = [key for key in page.numbers if key.startswith("surrogate agreement, train")]
    opening = {
        "trainings": seeds * len(runs),
        "lowest": page.cite(accuracies[0]),
        "highest": page.cite(accuracies[-1]),
        "surrogates": ", ".join(f"{page.cite(key)} at {key.rpartition(', ')[2]}" for key in agreements),
    }
    print(page.write_with(__file__, **opening))


def dropout_scan(page: StudyPage, scan: Scan) -> float:
    """Accuracy and attention at every value; the value with the highest isolation."""
    write_scan(scan)
    table, seeds, rows = scan.table(), scan.plan.seeds, []
    page.heading("Values of the edge dropout")
    for point in table.points:
        value = f"{point.point[DROPOUT]:g}"
        rows.append([value, *page.cells({f"{m}, {value}": point.mean(m) for m in COLUMNS})])
        for trial in point.trials:
            page.cells({f"{m}, {value}, seed {trial.seed}": trial.metrics[m] for m in COLUMNS})
    errors = [f"{point.statistical(m):.1g} of {name}" for m, name in COLUMNS.items()]
    page.table(
        ("edge dropout", *COLUMNS.values()),
        rows,
        f"Mean over {seeds} seeds ± its standard error, the expected scatter of another seed. All trainings "
        f"share their events, whose statistical error is about {', '.join(errors[:-1])}.",
    )
    for name, caption in SCAN_CAPTIONS.items():
        page.copy_figure(scan.folder / "figures" / f"{name}.png", caption)
    for objective, sentences in advice(table, scan.dataset).items():
        page.text(f"**{objective}.** {' '.join(sentences)}")
    page.text(value_or_seed(page, [p.point[DROPOUT] for p in table.points], seeds))
    best: float = table.candidates[table.ranking("pair_isolation", "max").order[0]].point[DROPOUT]
    page.facts["edge dropout chosen by the isolation of the muon pair"] = f"{best:g}"
    return best


SCAN_CAPTIONS = {
    "attention_edge_dropout": "Attention of the muon pair (filled) and of all other pairs at every value: "
    "the figure by which the first study chose 0.2 – 0.3.",
    "against_edge_dropout": "Every training and the mean over seeds.",
}


def by_seed(page: StudyPage, metric: str, values: Sequence[float], seeds: int) -> NDArray[np.float64]:
    """Numbers of the page for a metric, one row per value, one column per seed."""
    keys = [[f"{metric}, {v:g}, seed {s}" for s in range(1, seeds + 1)] for v in values]
    return np.array([[float(page.numbers[key].value) for key in row] for row in keys])


def value_or_seed(page: StudyPage, values: Sequence[float], seeds: int) -> str:
    """Significance of the rise of the isolation, corrected for the choice among all values."""
    isolations = by_seed(page, "pair_isolation", values, seeds)
    result = best_against(isolations, 0)
    key = f"isolation at {values[result.best]:g}, the best of {len(values)}, less that at {values[0]:g}"
    unpaired, paired = page.cells({f"{key}, unpaired": result.gain, f"{key}, seed by seed": result.paired})
    page.facts |= {
        f"{key}: p-value of Student's t, seed by seed": f"{result.student:.2g}",
        f"{key}: p-value with the choice, all trainings shuffled": f"{result.p_pool:.2g}",
        f"{key}: p-value with the choice, shuffled within seeds": f"{result.p_blocks:.2g}",
    }
    percent = [f"{100 * (n - 1) / (isolations.size - 1):.0f} %" for n in isolations.shape]
    for metric in ("pair_isolation", "valid_auc"):
        shares = variance_shares(by_seed(page, metric, values, seeds))
        for source, share in zip(("value", "seed"), shares, strict=True):
            page.facts[f"share of the variance of {metric} that goes with the {source}"] = f"{share:.2f}"
            percent.append(f"{100 * share:.0f} %")
    return (
        f"**Value or seed?** The {key}: {unpaired} if seeds are unrelated, {paired} seed by seed (Student's "
        f"t with {seeds - 1} degrees of freedom: p = {result.student:.2g}). In toys without dependence on "
        f"the value, the best of {len(values)} exceeds that at {values[0]:g} by as much with p = "
        f"{result.p_pool:.2g} if all trainings are shuffled, {result.p_blocks:.2g} if those of each seed "
        f"are. Of the variance of the isolation in {isolations.size} trainings {percent[2]} goes with the "
        f"value and {percent[3]} with the seed; of that of the validation AUC {percent[4]} and {percent[5]} "
        f"({percent[0]} and {percent[1]} expected if neither mattered)."
    )


def mask_graphs(page: StudyPage, runs: Mapping[float, Sequence[Run]]) -> None:
    """Attention at two values: isolation of the muon pair, and the graphs of the same events."""
    page.heading("Mask graphs")
    maps = {v: [reduced(r.explain(["attention"])["attention"]) for r in of] for v, of in runs.items()}
    test, seeds = maps[MASKS[0]][0].events, len(runs[MASKS[0]])
    page.table(
        ("edge dropout", "class", "isolation I", "attention from the rest J"),
        [
            [
                f"{value:g}",
                name,
                *(isolation_cell(page, what, value, maps[value], code) for what in ISOLATION),
            ]
            for value, (code, name) in product(maps, enumerate(test.schema.classes))
        ],
        "Test events; mean over seeds ± its standard error (each seed). I: attention that the two muons pay "
        "to each other, J: attention that all others pay to them, both relative to equal attention (1). The "
        "pair is isolated if I > 1 and J < 1.",
    )
    changes = []
    for what in ISOLATION:
        first, last = by_seed(page, f"{what}, signal", MASKS, seeds)
        change = page.number(f"{what}, signal, change, seed by seed", spread_mean(last - first))
        changes.append(f"{what} of the signal changes by {change}")
    low, high = MASKS
    page.text(f"From {low:g} to {high:g}, seed by seed, {', '.join(changes)} (mean over {seeds} seeds).")
    for value, of in runs.items():
        page.text(decisions_in_common(page, value, of))
    rows = {n: median_score_event(runs[high][0], c) for c, n in reversed([*enumerate(test.schema.classes)])}
    caption = (
        "The same test events at two values of the edge dropout (seed 1). Arrows: the strongest attention, "
        "from sender to receiver; colour: relative to equal attention."
    )
    with page.panels("masks", caption, len(rows), len(MASKS), (8.2, 6.6)) as frames:
        for ax, (name, value) in zip(frames, product(rows, MASKS), strict=True):
            attention = relative_to_uniform(maps[value][0])
            plots.event_display(attention, rows[name], focus=PAIR, name=f"{name}, dropout {value:g}", ax=ax)


def isolation_cell(page: StudyPage, what: str, value: float, maps: Sequence[Attribution], code: int) -> str:
    """I or J of one class at one value: mean over seeds, and each seed."""
    estimates = [ISOLATION[what](one[one.events.label == code], PAIR) for one in maps]
    key = f"{what}, {maps[0].events.schema.classes[code]}, {value:g}"
    page.cells({f"{key}, seed {seed}": estimate for seed, estimate in enumerate(estimates, start=1)})
    over_seeds = page.number(key, spread_mean(np.array([float(e.value) for e in estimates])))
    return f"{over_seeds} ({', '.join(f'{float(e.value):.2f}' for e in estimates)})"


def decisions_in_common(page: StudyPage, value: float, runs: Sequence[Run]) -> str:
    """Share of equal decisions of two seeds, compared with unrelated networks of the same accuracy."""
    test = runs[0].events.split == 2
    share = same_decision([r.scores[test, 0] for r in runs], runs[0].events.weight[test])
    accuracies = by_seed(page, "test_accuracy", [value], len(runs))[0]
    unrelated = np.mean([a * b + (1 - a) * (1 - b) for a, b in combinations(accuracies, 2)])
    return (
        f"Two networks of edge dropout {value:g} make the same decision in "
        f"{page.number(f'same decision of two seeds, {value:g}', share)} of the test events; the expectation "
        f"for independent errors is {unrelated:.2f}."
    )


def median_score_event(run: Run, code: int) -> int:
    """Test event of a class with the median score: not a selected example."""
    rows = np.flatnonzero(run.events.where("test").label == code)
    logit = run.scores[run.events.split == 2, 0][rows]
    return int(rows[np.argsort(logit)[len(rows) // 2]])


if __name__ == "__main__":
    main()
