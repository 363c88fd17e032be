"""Attribution maps of networks on detector images: whether they are complete, alike, and on the true hits.

For a data-set card with an `image:` and truth of the hits: every method on the same events with the check
that it promises, agreement of the methods two by two, the share of each map on the hits of the muon per bin
of pT, and a scan of noise and copies for SmoothGrad with a choice. Writes a page, figures and numbers. See
``--help``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import hepxai
from hepxai.attribution import Attribution
from hepxai.attribution.residuals import relative_residual
from hepxai.core.estimate import Estimate
from hepxai.core.files import read_json, write_json
from hepxai.core.fingerprint import fingerprint
from hepxai.core.formatting import general
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models import ModelCard
from hepxai.plots import style
from hepxai.plots.matrices import method_agreement
from hepxai.report.study import StudyPage
from hepxai.studies.comparison.figures import truth_shares
from hepxai.studies.comparison.numbers import MethodComparison, compare
from hepxai.studies.smoothgrad_scan.figures import smoothgrad_shares, smoothgrad_stability
from hepxai.studies.smoothgrad_scan.numbers import SmoothPoint, SmoothScan, scan_smoothgrad

TRUTH, TARGET = "fromMuon", "pt"
EDGES = np.array([4.0, 6.0, 8.0, 10.0, 13.0, 20.0])
"""Bins of true pT, GeV; below, most muons do not cross the whole spectrometer."""
METHODS: Mapping[str, Mapping[str, Any]] = {
    "RAM": {"method": "ram"},
    "IG": {"method": "image_ig"},
    "IG, baseline 0.5": {"method": "image_ig", "baseline": 0.5},
    "IG, lighting": {"method": "image_ig", "path": "lighting"},
    "saliency": {},
    "capped saliency": {"method": "capped_saliency"},
    "SmoothGrad": {"method": "smoothgrad"},
}


@dataclass(frozen=True)
class Scan:
    """One scan of SmoothGrad.

    Attributes
    ----------
    settings : mapping
        Base and noise.
    levels, samples : sequence
    events : int
    """

    settings: Mapping[str, Any]
    levels: Sequence[float]
    samples: Sequence[int]
    events: int


SCANS = {
    "gradients, Gaussian noise": Scan({"noise": "gaussian"}, (0.02, 0.05, 0.1, 0.2), (10, 25, 50), 40),
    "IG, salt": Scan(
        {"base": "image_ig", "noise": "salt", "steps": 8}, (0.002, 0.005, 0.02, 0.1), (10, 25), 16
    ),
}
QUICK = {
    "gradients, Gaussian noise": Scan({"noise": "gaussian"}, (0.02, 0.1), (2, 4), 6),
    "IG, salt": Scan({"base": "image_ig", "noise": "salt", "steps": 2}, (0.005, 0.02), (2, 4), 6),
}


def main() -> None:
    """Train a soft tree (or take the model that is given), explain, write ``pixel_maps.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="muon_patterns", help="data-set card with an image")
    parser.add_argument("--model", default="muon_cnn", help="card of the network that is trained")
    parser.add_argument("--out", type=Path, default=Path("pixel-maps"), help="folder of model and page")
    parser.add_argument("--quick", action="store_true", help="a small network, few images")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    card = ModelCard.find(chosen.model, small() if chosen.quick else [])
    events = hepxai.read(DatasetCard.find(chosen.dataset), progress=True).events
    model, _ = hepxai.fit(card, events, folder=chosen.out / "model", progress=True)
    page = StudyPage(chosen.out, "pixel_maps")
    asked = tracks(events.where("test"), 20 if chosen.quick else 200)
    choice = smoothing(page, model, asked, quick=chosen.quick)
    maps = of_model(model, asked, chosen.out / "maps", choice)
    completeness(page, maps)
    agreement(page, maps)
    print(page.write(f"# Maps of {chosen.model} on {chosen.dataset}"))


def small() -> list[str]:
    """Entries of the card of a convolutional network that make it quick."""
    return ["channels=[4, 8, 8, 16]", "training.epoch_events=1000", "training.epochs=2"]


def tracks(events: Events, number: int, least: int = 6) -> Events:
    """First events whose muon left hits enough, within the bins of pT."""
    true = np.bincount(events.parent[events.truth[TRUTH]], minlength=len(events))
    inside = (events.targets[:, 0] >= EDGES[0]) & (events.targets[:, 0] < EDGES[-1])
    return events[np.flatnonzero(inside & (true >= least))[:number]]


# --- maps that stay ------------------------------------------------------------------------------


def kept(folder: Path, name: str, model: Any, events: Events, target: str, **given: Any) -> Attribution:
    """Map of a method, from its file where model, events and settings are those of the file."""
    settings = dict(given)
    method = settings.pop("method", name)
    key = fingerprint({"method": method, "target": target, **settings}, model, events)
    path = folder / f"{method}-{key[:16]}.safetensors"
    if path.exists():
        return Attribution.load(path, events)
    found = explain(model, events, method, target=target, progress=True, **settings)
    found.save(path)
    return found


def of_model(
    model: Any, events: Events, folder: Path, smoothgrad: Mapping[str, Any], target: str = TARGET
) -> dict[str, Attribution]:
    """Every method of `METHODS` on the same events, SmoothGrad with the settings that a scan chose."""
    chosen = {name: dict(given) for name, given in METHODS.items()}
    chosen["SmoothGrad"] |= smoothgrad
    return {name: kept(folder, name, model, events, target, **given) for name, given in chosen.items()}


# --- SmoothGrad ----------------------------------------------------------------------------------


def smoothing(page: StudyPage, model: Any, events: Events, *, quick: bool) -> dict[str, Any]:
    """Scan noise against copies; settings of the choice over gradients."""
    page.heading("SmoothGrad: how much noise, how many copies?")
    scans = QUICK if quick else SCANS
    found = {name: kept_scan(page.folder / "maps", model, events, scan) for name, scan in scans.items()}
    for number, (name, scan) in enumerate(found.items(), start=1):
        draw_scan(page, f"smoothgrad_{number}", name, scan)
    first = next(iter(found.values())).choice
    return {"noise": "gaussian", "level": first.level, "samples": first.samples}


def kept_scan(folder: Path, model: Any, events: Events, scan: Scan) -> SmoothScan:
    """Scan, from its file where model, events and settings are those of the file."""
    asked = events[: scan.events]
    grid = {"levels": list(scan.levels), "samples": list(scan.samples)}
    key = fingerprint({**scan.settings, **grid, "target": TARGET}, model, asked)
    path = folder / f"scan-{key[:16]}.json"
    if path.exists():
        return scan_from(read_json(path))
    found = scan_smoothgrad(
        model,
        asked,
        TARGET,
        truth=TRUTH,
        **grid,
        progress=True,
        unfinished=path.with_suffix(".unfinished"),
        **scan.settings,
    )
    write_json(path, dataclasses.asdict(found))
    return found


def scan_from(stored: Mapping[str, Any]) -> SmoothScan:
    """Scan as it was written."""

    def point(own: Mapping[str, Any]) -> SmoothPoint:
        found = {k: v for k, v in own.items() if isinstance(v, dict)}
        estimates = {
            k: Estimate(np.asarray(v["value"]), np.asarray(v["error"]), v["n_eff"]) for k, v in found.items()
        }
        return SmoothPoint(own["level"], own["samples"], **estimates)

    points = tuple(map(point, stored["points"]))
    where = next(i for i, p in enumerate(stored["points"]) if p == stored["choice"])
    return SmoothScan(points, points[where], stored["stable"])


def draw_scan(page: StudyPage, key: str, name: str, scan: SmoothScan) -> None:
    """Share on the true hits and stability at each point, and which one was chosen."""
    choice = scan.choice
    page.facts[f"choice for SmoothGrad over {name}"] = f"noise {choice.level:g}, {choice.samples} copies"
    rows = []
    for p in scan.points:
        where = f"SmoothGrad over {name}, noise {p.level:g}, {p.samples} copies"
        share = page.number(f"share on true hits, {where}", p.share)
        steady = page.number(f"correlation between two seeds, {where}", p.stability)
        rows.append([f"{p.level:g}", str(p.samples), share, steady, "←" if p is choice else ""])
    page.table(
        ("noise", "copies", "share on true hits", "correlation between two seeds", "choice"),
        rows,
        f"SmoothGrad over {name}, {choice.share.n_eff:.0f} events. Share of the |attribution| of the lit "
        f"pixels that lies on hits of the muon; {general(float(choice.chance.value), 3)} if all lit pixels "
        f"had the same. Of the points whose two seeds correlate by {scan.stable:g} or more (the steadiest "
        "where none does), those within an error of the best share; of these the fewest copies, then the "
        "least noise.",
    )
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(15, 6))
        smoothgrad_shares(scan, ax=left)
        smoothgrad_stability(scan, ax=right)
        figure.tight_layout()
    page.figure(key, figure, f"SmoothGrad over {name}: what it finds, and how steady it is.")


# --- checks and agreement ------------------------------------------------------------------------


def completeness(page: StudyPage, maps: Mapping[str, Attribution]) -> None:
    """What each map misses of the sum that it promises."""
    page.heading("What each map promises")
    rows = []
    for name, found in maps.items():
        settings = ", ".join(f"{k} {_value(v)}" for k, v in found.settings.items() if k in SHOWN)
        rows.append([name, settings, _residual(page, name, found)])
    page.table(
        ("map", "settings", "median residual"),
        rows,
        "Residual: what the pixels miss of the change of the output that they should add up to, relative to "
        "that change; median over the events, with the spread of a median. None: the method promises no sum. "
        "A path of the tree that misses a part of the log-odds is no decomposition of them: gradient times "
        "input leaves out what the biases of the convolutions add.",
    )


SHOWN = ("baseline", "path", "steps", "level", "noise", "samples", "head", "quantile", "upsampling")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _residual(page: StudyPage, name: str, found: Attribution) -> str:
    if found.residual is None or found.output_change is None:
        return "none"
    share = relative_residual(found)
    share = share[np.isfinite(share)]
    spread = 1.2533 * (np.quantile(share, 0.84) - np.quantile(share, 0.16)) / 2 / np.sqrt(len(share))
    return page.number(f"median residual, {name}", Estimate(np.median(share), np.asarray(spread), len(share)))


def agreement(page: StudyPage, maps: Mapping[str, Attribution]) -> MethodComparison:
    """Agreement two by two, and with the truth in bins of pT."""
    page.heading("Do the methods agree?")
    events = next(iter(maps.values())).events
    found = compare(maps, truth=TRUTH, quantity=events.targets[:, 0], edges=EDGES)
    matrices = {
        "rank": (found.rank, "rank correlation over the lit pixels"),
        "top": (found.top, f"share of the {found.k} strongest pixels in common"),
    }
    for key, (matrix, title) in matrices.items():
        with page.axes(key, f"{title.capitalize()}; {len(events)} events.", (15, 9)) as ax:
            method_agreement(matrix, title=title, ax=ax)
    numbers(page, found)
    for what, where in (("among_hits", "hits"), ("of_all", "image")):
        caption = f"Share of |attribution| on the hits of the muon, of that on the whole {where}."
        with page.axes(f"truth_{what}", caption.replace("whole hits", "lit pixels"), (11, 7)) as ax:
            truth_shares(found, quantity="true pt [GeV]", what=what, ax=ax)
    return found


def numbers(page: StudyPage, found: MethodComparison) -> None:
    """Shares on the true hits as a table, and all other numbers for the JSON."""
    cells: dict[str, list[str]] = {name: [] for name in found.methods}
    for row in found.rows():
        text = _noted(page, row)
        if row["what"] == "share_of_all" and row["from"] == "all":
            cells[str(row["method"])].insert(0, text)
        if row["what"] == "share_among_hits":
            cells[str(row["method"])].append(text)
    bins = [f"{a:g}–{b:g} GeV" for a, b in itertools.pairwise(EDGES)]
    chance = float(found.shares[found.methods[0]].chance.value)
    page.table(
        ("map", "of the image", "of the lit pixels", *bins),
        [[name, *row] for name, row in cells.items()],
        "Share of the |attribution| on hits of the muon: of that on the whole image, then of that on the lit "
        f"pixels alone, where it is {chance:.3f} if all lit pixels have the same. One network a map.",
    )


def _noted(page: StudyPage, row: Mapping[str, Any]) -> str:
    """Number of a row, or the fact that too few events have it, or that all have the same."""
    where = "" if row["from"] == "all" else f", pt {row['from']:g} to {row['to']:g} GeV"
    pair = f"{row['method']} and {row['other']}" if row["other"] else row["method"]
    key, value, error = f"{row['what']}, {pair}{where}", row["value"], row["error"]
    if not np.isfinite([value, error]).all():
        page.facts[key] = "too few events"
        return "–"
    if error == 0 and value != 0:  # such as the overlap of saliency with its own top cut off: all ties
        page.facts[key] = f"{value:.4g} in every event"
        return f"{value:.4g}"
    return page.number(key, Estimate(np.asarray(value), np.asarray(error), np.nan))


if __name__ == "__main__":
    main()
