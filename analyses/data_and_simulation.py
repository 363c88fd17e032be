"""Data against simulation: power of tests of the explanation and of the inputs, with injected mismodelling.

Pseudo-data are drawn from the simulation: as it is, for the size of the tests, and changed, for their power.
Writes a page, figures and numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hepxai import DatasetCard, Events, ModelCard, Run, read
from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.datasets.variations import Variation
from hepxai.metrics.two_sample import SIGNIFICANT, EventTable
from hepxai.report.study import StudyPage, study_options
from hepxai.studies.data_comparison.axes import input_table
from hepxai.studies.data_comparison.figures import differing_axes
from hepxai.studies.data_comparison.numbers import (
    LEVELS,
    DataComparison,
    LevelComparison,
    compare_tables,
    explain_samples,
)

METHOD = "edge_ig"
TESTS = ("axes", "classifier", "both")
BLOCKS = 4
"""Disjoint parts of the test events; a toy takes its events from one of them."""
DATA, SIMULATION, DRAWS = 0.25, 0.4, 199
"""Shares of a block that are pseudo-data and simulation of a toy; draws of a toy."""
STRENGTHS = {"jet scale": (0.05, 0.1), "muon scale": (0.03, 0.1), "m(μμ) slope": (0.2, 0.45)}
"""Relative shifts of the momenta, and relative slope of the weight in m(μμ) per 10 GeV around 90 GeV."""
Toys = Mapping[str, NDArray[np.bool_]]


def main() -> None:
    """Train, explain, throw toys, write ``data_and_simulation.md``."""
    options = study_options(
        __file__,
        __doc__,
        dataset="charged_higgs",
        quick="2 epochs, few events and toys",
        overrides=["split.train=5", "split.valid=1", "split.test=4"],
        options={"--toys": {"type": int, "default": 200, "help": "toys without, and half with mismodelling"}},
    )
    page, quick = StudyPage(options.out, "data_and_simulation"), options.quick
    run = Run.start(options.out / "run", options.dataset, network(quick=quick))
    run.train()
    pools = {name: test_events(card, quick=quick) for name, card in cards(options.dataset).items()}
    tables = tables_of(run, pools)
    sizes = (20, 10) if quick else (options.toys, options.toys // 2)
    page.facts |= {"null toys": str(sizes[0]), "toys": str(sizes[1])}
    for fact, part in (("data", DATA), ("simulation", SIMULATION)):
        page.facts[f"{fact} events"] = f"{round(part * len(pools['nominal']) / BLOCKS):,}"
    page.facts |= {"blocks": str(BLOCKS), "draws": str(DRAWS)}
    page.heading("Size")
    null = toys(pools, tables, "nominal", 0.0, sizes[0])
    size_table(page, null)
    page.heading("Power")
    curves = {
        (kind, strength): toys(pools, tables, pool_name(kind, strength), slope(kind, strength), sizes[1])
        for kind, strengths in STRENGTHS.items()
        for strength in strengths
    }
    power_table(page, curves)
    power_figure(page, null, curves)
    page.heading("One toy")
    show_one(page, pools, tables)
    print(page.write_with(__file__))


def network(*, quick: bool) -> ModelCard:
    """Card of the network."""
    return ModelCard.find("transformer_edgeconv", ["training.epochs=2"] if quick else [])


def cards(dataset: DatasetCard) -> dict[str, DatasetCard]:
    """Nominal card, and one for each shift of momenta."""
    shifts = {pool_name(k, s): expressions(k, s) for k, values in STRENGTHS.items() for s in values}
    shifts = {name: e for name, e in shifts.items() if e}
    names = {name: f"shift{i}" for i, name in enumerate(shifts)}
    variations = {names[n]: Variation.model_validate({"expressions": e}) for n, e in shifts.items()}
    shifted = dataset.model_copy(update={"variations": variations})
    return {"nominal": dataset} | {name: shifted.varied(names[name]) for name in shifts}


def expressions(kind: str, strength: float) -> dict[str, str]:
    """Shifted quantities; none for a change of the weights."""
    factor = f"* {1 + strength}"
    if kind == "muon scale":
        return {"muon.pt": f"pt {factor}"}
    met = {f"met.{c}": f"{c} - sum(shifted.jet.{c} - nominal.jet.{c})" for c in ("px", "py")}
    return {"jet.pt": f"pt {factor}", "jet.mass": f"mass {factor}", **met} if kind == "jet scale" else {}


def pool_name(kind: str, strength: float) -> str:
    """Name of the events from which pseudo-data are drawn."""
    return f"{kind} {strength}" if expressions(kind, strength) else "nominal"


def slope(kind: str, strength: float) -> float:
    """Slope of the weight in m(μμ)."""
    return 0.0 if expressions(kind, strength) else strength


def test_events(card: DatasetCard, *, quick: bool) -> Events:
    """Events that did not train the network."""
    events = read(card).events.where("test")
    return events[:: 8 if quick else 1]


def tables_of(run: Run, pools: Mapping[str, Events]) -> dict[str, dict[str, EventTable]]:
    """Explanations and inputs of the events of every pool."""
    explained = explain_samples(run.model, pools["nominal"], pools, [METHOD])
    return {"explanation": explained.tables, "inputs": {name: input_table(e) for name, e in pools.items()}}


# --- toys ------------------------------------------------------------------------------------------


def toys(
    pools: Mapping[str, Events],
    tables: Mapping[str, Mapping[str, EventTable]],
    pool: str,
    slope: float,
    number: int,
) -> Toys:
    """Rejections by each test of each level, ``[number]``."""
    rejected: dict[str, list[bool]] = {f"{level}, {test}": [] for level in LEVELS for test in TESTS}
    for seed in range(number):
        for level, comparison in one_toy(pools, tables, pool, slope, seed).items():
            classifier = comparison.classifier
            differs = (
                comparison.axes.p_value <= SIGNIFICANT,
                classifier is not None and classifier.p_value <= SIGNIFICANT,
                comparison.differs,
            )
            for test, result in zip(TESTS, differs, strict=True):
                rejected[f"{level}, {test}"].append(result)
    return {name: np.array(flags) for name, flags in rejected.items()}


def one_toy(
    pools: Mapping[str, Events],
    tables: Mapping[str, Mapping[str, EventTable]],
    pool: str,
    slope: float,
    seed: int,
    *,
    draws: int = DRAWS,
) -> dict[str, LevelComparison]:
    """Comparison of pseudo-data with simulation of the same block that has none of their events."""
    shape = 2, 1 + max(int(e.entry.max()) for e in pools.values())
    place = np.random.default_rng([seed, 15]).random(shape)
    place[np.random.default_rng(16).integers(BLOCKS, size=shape) != seed % BLOCKS] = np.nan
    positions = {name: place[e.file, e.entry] for name, e in pools.items()}
    is_data, is_simulation = positions[pool] < DATA, positions["nominal"] > 1 - SIMULATION
    if slope:
        mass = pools[pool].observers["mass_mumu"]
        wanted = 1 + slope * np.clip((mass - 90) / 10, -2, 2)
        is_data = positions[pool] < DATA * wanted  # events of more weight are drawn more often
    return {
        level: compare_tables(
            of_level[pool][is_data], of_level["nominal"][is_simulation], draws=draws, seed=seed
        )
        for level, of_level in tables.items()
    }


# --- results ---------------------------------------------------------------------------------------


def rates(toys: Toys) -> Iterator[tuple[str, Estimate]]:
    """Share of toys that each test rejects."""
    for name, flags in toys.items():
        yield name, rate(flags, name)


def rate(flags: NDArray[np.bool_], name: str) -> Estimate:
    """Share of toys, with the larger of two errors: of independent toys, and of independent blocks.

    Toys of one block have events in common; if its events happen to be rejected often, so are all its toys.
    """
    toys = Estimate.of(flags.astype(np.float64), np.ones(len(flags)))
    block = np.arange(len(flags)) % BLOCKS
    rejected = np.bincount(block, weights=flags).astype(np.float64)
    blocks = ratio_mean(rejected, np.bincount(block), np.ones(BLOCKS))
    return replace(toys, error=np.maximum(toys.error, blocks.error)).bounded(name)


def size_table(page: StudyPage, null: Toys) -> None:
    """Rejections without mismodelling."""
    rows = [[name, page.number(f"size, {name}", rate)] for name, rate in rates(null)]
    page.table(
        ("test", "rejected at 5 %"),
        rows,
        f"{page.facts['null toys']} toys of {page.facts['data events']} pseudo-data and "
        f"{page.facts['simulation events']} simulated events without mismodelling.",
    )


def power_table(page: StudyPage, curves: Mapping[tuple[str, float], Toys]) -> None:
    """Rejections of every mismodelling."""
    header = ("mismodelling", "strength", *(f"{level}, {test}" for level in LEVELS for test in TESTS))
    rows = [
        [
            kind,
            f"{strength:g}",
            *(page.number(f"power, {kind} {strength:g}, {n}", r) for n, r in rates(found)),
        ]
        for (kind, strength), found in curves.items()
    ]
    page.table(header, rows, f"Share of {page.facts['toys']} toys that a test at 5 % rejects.")


def power_figure(page: StudyPage, null: Toys, curves: Mapping[tuple[str, float], Toys]) -> None:
    """Power curves, one frame for each mismodelling."""
    caption = (
        "Power of the tests at 5 %: per axis with the look-elsewhere effect (lines), classifier (dashed); "
        "explanations (red) and inputs (blue). Bars: statistical error of toys and blocks of events."
    )
    with page.panels("power", caption, columns=len(STRENGTHS), size=(5.2, 4.8)) as frames:
        for ax, (kind, strengths) in zip(frames, STRENGTHS.items(), strict=True):
            for level, colour in zip(LEVELS, ("#e42536", "#5790fc"), strict=True):
                for test, line in zip(TESTS[:2], ("-", "--"), strict=True):
                    points = [
                        dict(rates(t))[f"{level}, {test}"]
                        for t in (null, *(curves[kind, s] for s in strengths))
                    ]
                    value = np.array([float(p.value) for p in points])
                    ends = [
                        abs(np.array([float(getattr(p, e)) for p in points]) - value) for e in ("low", "high")
                    ]
                    ax.errorbar(
                        [0, *strengths],
                        value,
                        ends,
                        ls=line,
                        marker="o",
                        color=colour,
                        label=f"{level}, {test}",
                    )
            ax.axhline(SIGNIFICANT, color="#222222", ls=":", lw=1)
            ax.set(xlabel=f"injected {kind}", ylabel="rejected at 5 %", ylim=(0, 1.05))
        frames[0].legend(fontsize=11, loc="upper left")


def show_one(
    page: StudyPage, pools: Mapping[str, Events], tables: Mapping[str, Mapping[str, EventTable]]
) -> None:
    """Most different axes of one toy with a muon scale."""
    kind = "muon scale"
    strength = STRENGTHS[kind][-1]
    toy = one_toy(pools, tables, pool_name(kind, strength), 0.0, 1000, draws=999)
    comparison = DataComparison("signal", toy["explanation"], toy["inputs"])
    page.text(f"Injected: {kind} + {100 * strength:g} %. " + ". ".join(comparison.verdicts()) + ".")
    header, rows = comparison.table(4)
    page.table(header, rows, "Most different axes of each level: means, and p-values.")
    page.figure(
        "axes", differing_axes(comparison, number=3), "Most different axes of the explanation in one toy."
    )


if __name__ == "__main__":
    main()
