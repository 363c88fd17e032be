"""Detector images before any training: hits, clusters, bending, single events.

For a data-set card with an `image:`. Writes a page, figures and numbers. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hepxai import Events, metrics, plots, read
from hepxai.core.estimate import Estimate
from hepxai.metrics.averages import mean_count
from hepxai.report.study import StudyPage, study_options

TRUTH = "fromMuon"
MAXIMUM = 50_000
"""Number of events of each kind."""
FIRST_STUDY = (39, 37, 18, 6)
"""Clusters of 1, 2, 3 and more strips in the images of the first study, %."""


def main() -> None:
    """Read the events of a card, write ``detector_images.md``."""
    quick = "the first 1,000 events of each sample"
    options = study_options(__file__, __doc__, dataset="muon_patterns", quick=quick)
    page = StudyPage(options.out, "detector_images")
    limit = 1000 if options.quick else None
    images(page, read(options.dataset, limit=limit, progress=True).events)
    print(page.write(f"# Images of {options.dataset.name}"))


def images(page: StudyPage, events: Events) -> None:
    """All figures and numbers of the data."""
    page.heading("The images")
    rows = {"with muon": events.label == 1, "noise alone": events.label == 0}
    samples = {name: events[np.flatnonzero(mask)[:MAXIMUM]] for name, mask in rows.items()}
    muons = samples["with muon"]
    cluster_table(page, samples)
    example(page, muons)
    with page.axes("occupancy", "Share of the events with a muon that light each pixel.", (10, 4)) as ax:
        plots.hit_occupancy(muons, ax=ax)
    sources = {"of the muon": muons.truth[TRUTH], "others": ~muons.truth[TRUTH]}
    caption = "Hits of each layer, and sizes of clusters, of the muon and of the noise."
    with page.panels("hits", caption, 1, 2, (7, 5.5)) as (left, right):
        plots.hits_in_rows(muons, sources, ax=left)
        plots.cluster_size_shares(muons, sources, ax=right)
    caption = "Bending of tracks between the inner and the outer layers, true hits, against pT."
    with page.axes("bending", caption) as ax:
        plots.bending_map(muons, where=muons.truth[TRUTH], ax=ax)


def cluster_table(page: StudyPage, samples: Mapping[str, Events]) -> None:
    """Lit pixels and clusters of each kind of event, beside those of the first study."""
    rows = []
    for name, events in samples.items():
        noise = np.ones(events.n_particles, dtype=bool) if name == "noise alone" else ~events.truth[TRUTH]
        counts = {
            "lit pixels": metrics.lit_pixels(events)[0],
            "clusters of noise": metrics.cluster_sizes(events, noise)[1],
        }
        cells = {f"{key}, {name}": mean_count(event, events) for key, event in counts.items()}
        shares = metrics.cluster_shares(events, noise)
        for size, (value, error) in enumerate(zip(shares.value, shares.error, strict=True), start=1):
            cells[f"clusters of noise of size {size}, %, {name}"] = Estimate(100 * value, 100 * error, np.nan)
        rows.append([name, f"{len(events):,}", *page.cells(cells)])
    rows.append(["first study, noise", "", "about 18", "about 9", *map(str, FIRST_STUDY)])
    page.table(
        ("events", "number", "lit pixels", "clusters of noise", "of 1 [%]", "2", "3", "4 or more"),
        rows,
        "Means per event. Clusters: neighbouring lit strips of a layer, without the hits of the muon.",
    )


def true_hits(events: Events) -> NDArray[np.int64]:
    """Number of hits of the muon in each event."""
    return np.bincount(events.parent[events.truth[TRUTH]], minlength=len(events))


def example(page: StudyPage, muons: Events) -> None:
    """One event with a clear track, with and without noise."""
    pt = muons.targets[:, 0]
    row = int(np.flatnonzero((pt > 7) & (pt < 10) & (true_hits(muons) > 8))[0])
    caption = "One event with noise (above) and without (below)."
    with page.panels("sample", caption, 2, 1, (11, 3.5)) as frames:
        for ax, noise in zip(frames, (True, False), strict=True):
            plots.hit_display(muons, row, truth=TRUTH, noise=noise, ax=ax)


if __name__ == "__main__":
    main()
