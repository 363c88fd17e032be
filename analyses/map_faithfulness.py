"""Faithfulness of the maps of many methods on images of many classes, over several trainings.

Each case is a question to a network about test events of some classes, whose hits have a truth. Writes tables
with the statistical error and the spread over trainings, and which differences exceed both. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from image_networks import (
    CASES,
    EVENTS,
    METHODS,
    MUONS,
    QUICK,
    REFERENCE,
    Case,
    case_maps,
    networks_and_events,
    training_sample,
)

from hepxai import Attribution, Events, compare_maps
from hepxai.core.estimate import Estimate, as_json, total_error
from hepxai.core.files import read_json, write_json
from hepxai.core.fingerprint import fingerprint
from hepxai.metrics.averages import over_seeds
from hepxai.plots.style import CLASS_COLOURS, CLASS_MARKERS, GREY, escape_label
from hepxai.report.study import StudyPage, study_options
from hepxai.studies.comparison.faithfulness_table import ALIKE, RANDOM, settings_of
from hepxai.studies.comparison.trainings import ERRORS, by_chance, is_better, resolved
from hepxai.studies.randomisation.numbers import similarity

Numbers = dict[str, list[Estimate]]
"""One measure: method to its number in each training."""
MEASURES: Mapping[str, tuple[str, bool]] = {
    "faithfulness": ("correlation, regions", True),
    "sensitivity_0.1": ("correlation, pixels", True),
    "deletion": ("deletion", False),
    "insertion": ("insertion", True),
}
"""Measures of faithfulness to the network: title, and whether a larger value is better."""
SHARE, RANDOMISED = "truth_share", "randomised"
TITLES = {**{k: t for k, (t, _) in MEASURES.items()}, SHARE: "share on true hits", RANDOMISED: "randomised"}
CHANGED = 0.5
"""Rank correlation with the map of a network with random weights below which a map depends on the weights."""


def main() -> None:
    """Train, explain and compare; write ``map_faithfulness.md``."""
    options = study_options(__file__, __doc__, dataset=MUONS, quick="two cases, small networks, few events")
    page = StudyPage(options.out, "map_faithfulness")
    faithfulness(page, *networks_and_events(page, options.quick), options.quick)
    print(page.write("# Faithfulness of maps"))


def faithfulness(
    page: StudyPage, events: Mapping[str, Events], models: Mapping[str, Sequence[Any]], quick: bool
) -> None:
    """Tables of all cases, a figure, the differences that count, and what each method passes."""
    names, folder = QUICK if quick else tuple(METHODS), page.folder / "maps"
    results: dict[str, dict[str, Numbers]] = {}
    page.heading("Faithfulness of the maps")
    for key, case in list(CASES.items())[: 2 if quick else None]:
        tables = []
        for model in models[case.dataset]:
            maps = case_maps(folder, model, case, events[case.dataset], names, quick)
            tables.append(measured(folder, model, case, events[case.dataset], maps))
        empty = Estimate(np.asarray(np.nan), np.asarray(np.nan), 0.0)
        results[key] = {w: {m: [t[m].get(w, empty) for t in tables] for m in tables[0]} for w in TITLES}
        chosen = case.events(events[case.dataset], EVENTS[quick])
        case_table(page, key, case, results[key], f"{len(chosen)} test events, {len(tables)} trainings")
    overview(page, results)
    differences(page, results)
    verdict(page, results)


def measured(
    folder: Path, model: Any, case: Case, all_events: Events, maps: Mapping[str, Attribution]
) -> dict[str, dict[str, Estimate]]:
    """Measures of each method and of the maps without information, from their file or made."""
    events = next(iter(maps.values())).events
    values = (a.values for a in maps.values())
    path = (
        folder / f"{fingerprint({'truth': case.truth, 'maps': list(maps)}, model, events, *values)[:16]}.json"
    )
    if not path.exists():
        table = compare_maps(model, events, maps, truth=case.truth, progress=True)
        numbers = {method: dict(numbers) for method, numbers in table.numbers.items()}
        for name in (n for n, a in maps.items() if a.method in REFERENCE and a.method != "l2x"):
            few, settings = maps[name][:8], settings_of(maps[name])
            last = similarity(
                few, model, settings, reference=training_sample(all_events), only_last=True
            ).last
            numbers[name][RANDOMISED] = last
        write_json(path, {method: as_json(n) for method, n in numbers.items()})
    return {m: {k: Estimate.from_json(n) for k, n in ns.items()} for m, ns in read_json(path).items()}


def case_table(page: StudyPage, key: str, case: Case, results: Mapping[str, Numbers], sample: str) -> None:
    """Means over trainings with both errors."""
    rows = []
    for method in results[SHARE]:
        cells = []
        for what in TITLES:
            mean = over_seeds(results[what][method])
            known = bool(np.isfinite(mean.value) and np.isfinite(mean.error))
            if known and (float(total_error(mean)) > 0 or mean.value == 0):
                page.number(f"{what}, {key}, {method}", mean)
            cells.append(str(mean) if known else "–")
        rows.append([method, *cells])
    page.table(
        ("method", *TITLES.values()),
        rows,
        f"{key}: {case.target}, true hits `{case.truth}`; {sample}. First error: of the events, second: of "
        "one training. Correlations: of the sum of the map in removed regions (a tenth of the lit pixels) "
        "with the change of the output. Deletion, insertion: area under the curve, relative to the change "
        "of the output; small and large are good. Share on true hits: of the |map| on lit pixels. "
        f"Randomised: rank correlation with the map of the network with random weights. The maps {RANDOM!r} "
        f"and {ALIKE!r} show each measure without information.",
    )


def overview(page: StudyPage, results: Mapping[str, Mapping[str, Numbers]]) -> None:
    """Every measure of every method, one frame for each measure."""
    caption = (
        "Measures of all methods and cases, mean over the trainings. Bars: errors of the events and spread "
        "over trainings, in quadrature. Lines: maps with random values (dashed) and with all pixels alike "
        "(dotted)."
    )
    methods = [m for m in next(iter(results.values()))[SHARE] if m not in (RANDOM, ALIKE)]
    with page.panels("measures", caption, 2, 3, (6.2, 1.6 + 0.3 * len(methods))) as frames:
        for ax, (what, title) in zip(frames, TITLES.items(), strict=True):
            for c, (key, result) in enumerate(results.items()):
                means = [over_seeds(result[what][m]) for m in methods]
                place = np.arange(len(methods)) + 0.16 * (c - (len(results) - 1) / 2)
                look = {"color": CLASS_COLOURS[c], "marker": CLASS_MARKERS[c], "ms": 5, "ls": ""}
                values, errors = (
                    np.array([float(x) for x in column])
                    for column in ([m.value for m in means], [np.nan_to_num(total_error(m)) for m in means])
                )
                ax.errorbar(values, place, xerr=errors, label=escape_label(key), **look)
                for reference, line in ((RANDOM, "--"), (ALIKE, ":")):
                    if np.isfinite(chance := float(over_seeds(result[what][reference]).value)):
                        ax.axvline(chance, color=CLASS_COLOURS[c], lw=1, ls=line)
            for line in range(1, len(methods)):
                ax.axhline(line - 0.5, color=GREY, lw=0.4)
            ax.set_yticks(range(len(methods)), [escape_label(m) for m in methods], fontsize="small")
            ax.set_yticks([], minor=True)
            ax.set(xlabel=title, ylim=(len(methods) - 0.5, -0.5))
        frames[0].legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(results), fontsize="small", handletextpad=0.1
        )


def differences(page: StudyPage, results: Mapping[str, Mapping[str, Numbers]]) -> None:
    """Best method of each measure and case, and those that are not told apart from it."""
    rows, tested, found, trainings = [], 0, 0, 0
    for what in (*MEASURES, SHARE):
        larger = MEASURES.get(what, ("", True))[1]
        for key, result in results.items():
            numbers = {m: n for m, n in result[what].items() if m not in (RANDOM, ALIKE)}
            means = {m: float(over_seeds(n).value) for m, n in numbers.items()}
            means = {m: value for m, value in means.items() if np.isfinite(value)}
            best = (max if larger else min)(means, key=means.__getitem__)
            pairs = list(resolved({m: numbers[m] for m in means}, larger=larger))
            worse = [m for one, m in pairs if one == best]
            same = [m for m in means if m not in (best, *worse)]
            tested, found = tested + len(means) * (len(means) - 1) // 2, found + len(pairs)
            trainings = len(numbers[best])
            rows.append([TITLES[what], key, best, ", ".join(same) or "none", ", ".join(worse) or "none"])
    page.heading("Which differences between methods count")
    page.table(
        ("measure", "case", "best", "not told apart from it", "worse"),
        rows,
        "Best: largest mean over the trainings (deletion: smallest), an extreme of many. A difference "
        f"counts if it has one sign in all trainings and exceeds {ERRORS:g} statistical errors and "
        f"{ERRORS:g} spreads over trainings.",
    )
    chance = by_chance(trainings)
    page.facts["differences"] = f"{found} of {tested}"
    page.text(
        f"Of {tested} differences, {found} count. {trainings} trainings determine a spread roughly: were "
        f"all true differences 0 and the trainings the only cause of fluctuations, {100 * chance:.1f} % of "
        f"the comparisons, {chance * tested:.0f} of {tested}, would still exceed it; statistical errors "
        "make it fewer."
    )


def verdict(page: StudyPage, results: Mapping[str, Mapping[str, Numbers]]) -> None:
    """Conditions that each method meets, and the methods that meet all."""
    page.heading("Which method can be trusted here")
    methods = [m for m in next(iter(results.values()))[SHARE] if m not in (RANDOM, ALIKE)]
    columns = {**{w: TITLES[w] for w in MEASURES}, RANDOMISED: "depends on the weights"}
    rows, passed, failed = [], [], []
    for method in methods:
        misses = {c: [k for k, r in results.items() if not meets(r, method, c)] for c in columns}
        rows.append([method, *("yes" if not m else f"not {', '.join(m)}" for m in misses.values())])
        (failed if any(misses.values()) else passed).append(method)
    page.table(
        ("method", *columns.values()),
        rows,
        f"Yes: in all cases ({', '.join(results)}). Measures: better than {RANDOM!r} and than {ALIKE!r}, by "
        "a difference that counts. Depends on the weights: rank correlation with the map of the network "
        f"with random weights below {CHANGED:g} by an error or more; not tested counts as not (L2X, which "
        "would need a training for each random network).",
    )
    page.facts["pass all"] = ", ".join(passed) or "none"
    page.text(
        f"All conditions in all cases are met by {len(passed)} of {len(methods)} methods: "
        f"**{page.facts['pass all']}**. Not met by: {', '.join(failed) or 'none'}. A method that misses a "
        "condition is not shown to be wrong: its difference from a map without information is not "
        "established with these events and trainings."
    )
    above = []
    for key, result in results.items():
        chance, shares = result[SHARE][ALIKE], {m: result[SHARE][m] for m in methods}
        more = [m for m, n in shares.items() if is_better(n, chance, larger=True)]
        less = [m for m, n in shares.items() if is_better(n, chance, larger=False)]
        text = f"{key}: more than chance ({over_seeds(chance)}) {', '.join(more) or 'none'}"
        above.append(f"{text}; less {', '.join(less) or 'none'}")
    page.text(
        "Share of the map on the true hits, which is a property of network and method together: a network "
        "may use other hits than those of the truth, and a faithful map then shows them. "
        f"{'. '.join(above)}."
    )


def meets(result: Mapping[str, Numbers], method: str, what: str) -> bool:
    """True if a method meets the condition of a measure in a case."""
    numbers = result[what]
    if what == RANDOMISED:
        mean = over_seeds(numbers[method])
        return float(abs(mean.value) + total_error(mean)) < CHANGED
    return all(is_better(numbers[method], numbers[o], larger=MEASURES[what][1]) for o in (RANDOM, ALIKE))


if __name__ == "__main__":
    main()
