"""What detector images look like before any network sees them: hits, clusters, bending, single events.

For a data-set card with an `image:`. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

import hepxai
from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.datasets import DatasetCard
from hepxai.events import Events
from hepxai.metrics.hits import cluster_shares, cluster_sizes, lit_pixels
from hepxai.plots import style
from hepxai.plots.images import bending_map, cluster_size_shares, hit_display, hit_occupancy, hits_in_rows
from hepxai.report.study import StudyPage

TRUTH = "fromMuon"
MOST = 50_000
"""Events that are looked at."""
FIRST_STUDY = (39, 37, 18, 6)
"""Clusters of 1, 2, 3 and more strips in the images of the first study, %."""


def main() -> None:
    """Read the events of a card, write ``detector_images.md``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="muon_patterns", help="data-set card with an image")
    parser.add_argument("--out", type=Path, default=Path("detector-images"), help="folder of the page")
    parser.add_argument("--quick", action="store_true", help="the first 1,000 events of each sample")
    chosen = parser.parse_args()
    page = StudyPage(chosen.out, "detector_images")
    reading = hepxai.read(
        DatasetCard.find(chosen.dataset), limit=1000 if chosen.quick else None, progress=True
    )
    pictures(page, reading.events)
    print(page.write(f"# Images of {chosen.dataset}"))


def pictures(page: StudyPage, events: Events) -> None:
    """All figures and numbers of the data."""
    page.heading("The images")
    kinds = {"with muon": events.label == 1, "noise alone": events.label == 0}
    own = {name: events[np.flatnonzero(mine)[:MOST]] for name, mine in kinds.items()}
    muons = own["with muon"]
    table(page, own)
    samples(page, muons)
    with page.axes("occupancy", "Share of the events with a muon that light each pixel.", (10, 4)) as ax:
        hit_occupancy(muons, ax=ax)
    sources = {"of the muon": muons.truth[TRUTH], "others": ~muons.truth[TRUTH]}
    hits(page, muons, sources)
    caption = "How far tracks bend between the inner and the outer layers, true hits, against pT."
    with page.axes("bending", caption, (8, 6)) as ax:
        bending_map(muons, where=muons.truth[TRUTH], ax=ax)


def table(page: StudyPage, own: Mapping[str, Events]) -> None:
    """Lit pixels and clusters of each kind of event, beside the first study's."""
    rows = []
    for name, events in own.items():
        noise = np.ones(events.n_particles, dtype=bool) if name == "noise alone" else ~events.truth[TRUTH]
        event, *_ = lit_pixels(events)
        lit = per_event(event, events)
        clusters = per_event(cluster_sizes(events, noise)[1], events)
        found = cluster_shares(events, noise)
        shares = [Estimate(100 * v, 100 * e, np.nan) for v, e in zip(found.value, found.error, strict=True)]
        sizes = (
            page.number(f"clusters of noise of size {i}, %, {name}", e) for i, e in enumerate(shares, start=1)
        )
        numbers = (
            page.number(f"lit pixels, {name}", lit),
            page.number(f"clusters of noise, {name}", clusters),
        )
        rows.append([name, f"{len(events):,}", *numbers, *sizes])
    rows.append(["first study, noise", "", "about 18", "about 9", *map(str, FIRST_STUDY)])
    page.table(
        ("events", "number", "lit pixels", "clusters of noise", "of 1 [%]", "2", "3", "4 or more"),
        rows,
        "Means per event. Clusters: neighbouring lit strips of a layer, without the hits of the muon.",
    )


def per_event(owner: NDArray[np.int64], events: Events) -> Estimate:
    """Weighted mean number of things of an event, given the event of each thing."""
    counts = np.bincount(owner, minlength=len(events)).astype(np.float64)
    return ratio_mean(counts, np.ones(len(events)), events.weight)


def samples(page: StudyPage, muons: Events) -> None:
    """One event with a clear track, with and without noise."""
    pt = muons.targets[:, 0]
    true = np.bincount(muons.parent[muons.truth[TRUTH]], minlength=len(muons))
    row = int(np.flatnonzero((pt > 7) & (pt < 10) & (true > 8))[0])
    with style():
        figure, frames = plt.subplots(2, 1, figsize=(11, 7))
        for ax, noise in zip(frames, (True, False), strict=True):
            hit_display(muons, row, truth=TRUTH, noise=noise, ax=ax)
        figure.tight_layout()
    page.figure("sample", figure, "One event with noise (above) and without (below).")


def hits(page: StudyPage, muons: Events, sources: Mapping[str, NDArray[np.bool_]]) -> None:
    """Hits of each layer, and sizes of clusters, of the muon and of the noise."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(14, 5.5))
        hits_in_rows(muons, sources, ax=left)
        cluster_size_shares(muons, sources, ax=right)
        figure.tight_layout()
    page.figure("hits", figure, "Hits of each layer, and sizes of clusters, of the muon and of the noise.")


if __name__ == "__main__":
    main()
