"""Attribution maps of networks on detector images: completeness, agreement, share on the true hits.

For a data-set card with an `image:` and truth of the hits: every method on the same events with its check,
their pairwise agreement, and scans of SmoothGrad. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detector_images import TRUTH, true_hits

from hepxai import Attribution, Events, ModelCard, explain, fit, plots, read
from hepxai.attribution.residuals import relative_residual
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general
from hepxai.metrics.averages import median
from hepxai.report.study import StudyPage, stored, study_options
from hepxai.studies.comparison.figures import truth_shares
from hepxai.studies.comparison.numbers import compare
from hepxai.studies.smoothgrad_scan.figures import smoothgrad_shares, smoothgrad_stability
from hepxai.studies.smoothgrad_scan.numbers import SmoothScan, scan_smoothgrad

TARGET = "pt"
EDGES = np.array([4.0, 6.0, 8.0, 10.0, 13.0, 20.0])
"""Bins of true pT, GeV; below, most muons do not cross the whole spectrometer."""
METHODS: Mapping[str, Mapping[str, Any]] = {
    "RAM": {"method": "ram"},
    "IG": {"method": "image_ig"},
    "IG, baseline 0.5": {"method": "image_ig", "baseline": 0.5},
    "IG, lighting": {"method": "image_ig", "path": "lighting"},
    "saliency": {"method": "saliency"},
    "capped saliency": {"method": "capped_saliency"},
    "SmoothGrad": {"method": "smoothgrad"},
}
SETTINGS = ("baseline", "path", "steps", "level", "noise", "samples", "head", "quantile", "upsampling")
"""Settings of a method that the page gives."""
SMALL = ["channels=[4, 8, 8, 16]", "training.epoch_events=1000", "training.epochs=2"]
"""Entries of the card of a convolutional network for a quick run."""
GRADIENTS, SALT = "gradients, Gaussian noise", "IG, salt"
"""Scans of SmoothGrad."""
BASES: Mapping[str, Mapping[str, Any]] = {
    GRADIENTS: {"noise": "gaussian"},
    SALT: {"noise": "salt", "base": "image_ig"},
}
GRIDS: Mapping[str, Mapping[str, Any]] = {
    GRADIENTS: {"levels": (0.02, 0.05, 0.1, 0.2), "samples": (10, 25, 50)},
    SALT: {"levels": (0.002, 0.005, 0.02, 0.1), "samples": (10, 25), "steps": 8},
}
QUICK_GRIDS: Mapping[str, Mapping[str, Any]] = {
    GRADIENTS: {"levels": (0.02, 0.1), "samples": (2, 4)},
    SALT: {"levels": (0.005, 0.02), "samples": (2, 4), "steps": 2},
}


def main() -> None:
    """Train a network (or load it), explain, write ``pixel_maps.md``."""
    models = {"--model": {"default": "muon_cnn", "help": "card of the network"}}
    quick = "a small network, few images"
    options = study_options(__file__, __doc__, dataset="muon_patterns", quick=quick, options=models)
    card = ModelCard.find(options.model, SMALL if options.quick else [])
    events = read(options.dataset, progress=True).events
    model, _ = fit(card, events, folder=options.out / "model", progress=True)
    page = StudyPage(options.out, "pixel_maps")
    test = tracks(events.where("test"), 20 if options.quick else 200)
    maps = all_methods(model, test, options.out / "maps", choose_smoothgrad(page, model, test, options.quick))
    completeness(page, maps)
    agreement(page, maps)
    print(page.write(f"# Maps of {options.model} on {options.dataset.name}"))


def tracks(events: Events, number: int, least: int = 6) -> Events:
    """First events with at least so many true hits, within the bins of pT."""
    pt = events.targets[:, 0]
    inside = (pt >= EDGES[0]) & (pt < EDGES[-1])
    return events[np.flatnonzero(inside & (true_hits(events) >= least))[:number]]


def stored_map(
    folder: Path, model: Any, events: Events, method: str, target: str = TARGET, **settings: Any
) -> Attribution:
    """Map of a method from its file, or computed and saved."""
    return stored(
        folder / f"{method}.safetensors",
        {"method": method, "target": target, **settings},
        model,
        events,
        make=lambda unfinished: explain(model, events, method, target=target, progress=True, **settings),
        load=lambda path: Attribution.load(path, events),
        save=Attribution.save,
    )


def all_methods(
    model: Any, events: Events, folder: Path, smoothgrad: Mapping[str, Any]
) -> dict[str, Attribution]:
    """Every method of `METHODS` on the same events, SmoothGrad with the settings of the scan."""
    methods = {name: dict(settings) for name, settings in METHODS.items()}
    methods["SmoothGrad"] |= smoothgrad
    return {name: stored_map(folder, model, events, **settings) for name, settings in methods.items()}


def choose_smoothgrad(page: StudyPage, model: Any, events: Events, quick: bool) -> dict[str, Any]:
    """Scan noise against copies; settings of the choice over gradients."""
    page.heading("SmoothGrad: how much noise, how many copies?")
    choices = {}
    for number, (name, grid) in enumerate((QUICK_GRIDS if quick else GRIDS).items(), start=1):
        first = events[: 6 if quick else 40 if name == GRADIENTS else 16]
        settings = {"truth": TRUTH, **BASES[name], **grid}
        scan = stored(
            page.folder / "maps" / "scan.json",
            settings,
            model,
            first,
            make=partial(scan_smoothgrad, model, first, TARGET, progress=True, **settings),
            load=SmoothScan.load,
            save=SmoothScan.save,
        )
        scan_section(page, f"smoothgrad_{number}", name, scan)
        choices[name] = {"level": scan.choice.level, "samples": scan.choice.samples}
    return {**BASES[GRADIENTS], **choices[GRADIENTS]}


def scan_section(page: StudyPage, key: str, name: str, scan: SmoothScan) -> None:
    """Share on the true hits and stability at each point, and the chosen point."""
    choice, rows = scan.choice, []
    page.facts[f"choice for SmoothGrad over {name}"] = f"noise {choice.level:g}, {choice.samples} copies"
    for point in scan.points:
        where = f"SmoothGrad over {name}, noise {point.level:g}, {point.samples} copies"
        numbers = {"share on true hits": point.share, "correlation between two seeds": point.stability}
        cells = page.cells({f"{what}, {where}": number for what, number in numbers.items()})
        rows.append([f"{point.level:g}", str(point.samples), *cells, "←" if point is choice else ""])
    page.table(
        ("noise", "copies", "share on true hits", "correlation between two seeds", "choice"),
        rows,
        f"SmoothGrad over {name}, {choice.share.n_eff:.0f} events. Share of the |attribution| of the lit "
        f"pixels that lies on hits of the muon; {general(float(choice.chance.value), 3)} if all lit pixels "
        f"had the same. Choice: of the points whose two seeds correlate by {scan.stable:g} or more (or the "
        "most stable point), those within an error of the best share; of these the fewest copies, then the "
        "least noise.",
    )
    caption = f"SmoothGrad over {name}: share on the true hits, and stability."
    with page.panels(key, caption, 1, 2, (7.5, 6)) as (left, right):
        smoothgrad_shares(scan, ax=left)
        smoothgrad_stability(scan, ax=right)


def completeness(page: StudyPage, maps: Mapping[str, Attribution]) -> None:
    """Residual of the sum of each map that promises one."""
    page.heading("What each map promises")
    rows = []
    for name, attribution in maps.items():
        values = {k: v for k, v in attribution.settings.items() if k in SETTINGS}
        settings = (f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        residual = "none"
        if attribution.residual is not None and attribution.output_change is not None:
            residual = page.number(f"median residual, {name}", median(relative_residual(attribution)))
        rows.append([name, ", ".join(settings), residual])
    page.table(
        ("map", "settings", "median residual"),
        rows,
        "Residual: difference of the sum of the pixels and the change of the output, relative to that "
        "change; median over the events, with the error of a median. None: the method promises no sum. A "
        "path of the tree that misses a part of the log-odds is no decomposition of them: gradient times "
        "input leaves out the contribution of the biases of the convolutions.",
    )


def agreement(page: StudyPage, maps: Mapping[str, Attribution]) -> None:
    """Pairwise agreement, and with the truth in bins of pT."""
    page.heading("Do the methods agree?")
    events = next(iter(maps.values())).events
    comparison = compare(maps, truth=TRUTH, quantity=events.targets[:, 0], edges=EDGES)
    for key, matrix, title in (
        ("rank", comparison.rank, "rank correlation over the lit pixels"),
        ("top", comparison.top, f"share of the {comparison.k} strongest pixels in common"),
    ):
        with page.axes(key, f"{title.capitalize()}; {len(events)} events.", (15, 9)) as ax:
            plots.method_agreement(matrix, title=title, ax=ax)
    cells: dict[str, list[str]] = {name: [] for name in comparison.methods}
    for row in comparison.rows():
        text = comparison_cell(page, row)
        if row["what"] == "share_of_all" and row["from"] == "all":
            cells[str(row["method"])].insert(0, text)
        if row["what"] == "share_among_hits":
            cells[str(row["method"])].append(text)
    bins = [f"{a:g}–{b:g} GeV" for a, b in itertools.pairwise(EDGES)]
    chance = float(comparison.shares[comparison.methods[0]].chance.value)
    page.table(
        ("map", "of the image", "of the lit pixels", *bins),
        [[name, *row] for name, row in cells.items()],
        "Share of the |attribution| on hits of the muon: of that on the whole image, then of that on the lit "
        f"pixels alone, where it is {chance:.3f} if all lit pixels have the same. One network a map.",
    )
    for what, where in (("among_hits", "lit pixels"), ("of_all", "whole image")):
        caption = f"Share of |attribution| on the hits of the muon, of that on the {where}."
        with page.axes(f"truth_{what}", caption, (11, 7)) as ax:
            truth_shares(comparison, quantity="true pt [GeV]", what=what, ax=ax)


def comparison_cell(page: StudyPage, row: Mapping[str, Any]) -> str:
    """Number of a row; a fact if too few events have it, or if it is the same in all of them."""
    where = "" if row["from"] == "all" else f", pt {row['from']:g} to {row['to']:g} GeV"
    pair = f"{row['method']} and {row['other']}" if row["other"] else row["method"]
    key, value, error = f"{row['what']}, {pair}{where}", row["value"], row["error"]
    if not np.isfinite([value, error]).all():
        page.facts[key] = "too few events"
        return "–"
    if error == 0 and value != 0:  # such as the overlap of saliency with its capped copy: all ties
        page.facts[key] = f"{value:.4g} in every event"
        return f"{value:.4g}"
    return page.number(key, Estimate(np.asarray(value), np.asarray(error), np.nan))


if __name__ == "__main__":
    main()
