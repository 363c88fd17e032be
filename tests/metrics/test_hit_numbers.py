"""What hits look like: against loops over events, and with nothing lit."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from hepxai.datasets import DatasetCard, read
from hepxai.events import Events
from hepxai.metrics.hits import (
    bending,
    cluster_shares,
    cluster_sizes,
    hits_per_row,
    lit_pixels,
    occupancy,
)


@pytest.fixture(scope="module")
def events() -> Events:
    whole = read(DatasetCard.find("muon_patterns"), limit=300).events
    weight = np.random.default_rng(0).choice([1.0, 2.0, -0.5], len(whole))
    return whole.replace(weight=weight)


def slow_clusters(events: Events, where: np.ndarray | None = None) -> list[list[int]]:
    """Sizes of every event's clusters, row by row."""
    found = []
    for image in events.image(where=where)[:, 0] > 0:
        sizes = [[sum(1 for _ in run) for lit, run in groupby(row) if lit] for row in image]
        found.append([s for row in sizes for s in row])
    return found


@pytest.mark.parametrize("muon", [False, True])
def test_clusters_are_those_of_a_loop(events: Events, muon: bool) -> None:
    where = events.truth["fromMuon"] if muon else None
    size, event = cluster_sizes(events, where)
    slow = slow_clusters(events, where)
    assert [size[event == e].tolist() for e in range(len(events))] == slow
    shares = cluster_shares(events, where)
    kinds = np.array([[sum(min(s, 4) == k for s in own) for k in range(1, 5)] for own in slow])
    expected = events.weight @ kinds / (events.weight @ kinds.sum(axis=1))
    np.testing.assert_allclose(shares.value, expected)
    assert (shares.error > 0).all()


def test_a_cluster_does_not_run_into_the_next_row(events: Events) -> None:
    one = events[:1]
    ends = np.array([[0, 383], [1, 0], [1, 1]], dtype=np.float32)
    fields = {"offsets": np.array([0, 3]), "particles": ends, "type": np.zeros(3, int), "index": np.arange(3)}
    own = one.replace(**fields, p4=np.zeros((3, 4), np.float32), truth={})
    assert cluster_sizes(own)[0].tolist() == [1, 2]


def test_occupancy_and_hits_per_row(events: Events) -> None:
    image = events.image()
    expected = np.average(image, axis=0, weights=events.weight)
    np.testing.assert_allclose(occupancy(events), expected, atol=1e-12)
    mean = hits_per_row(events)
    np.testing.assert_allclose(mean.value, expected.sum(axis=(0, 2)), rtol=1e-6)
    assert mean.error.shape == (9,)


def test_bending_is_that_of_a_loop(events: Events) -> None:
    where = events.truth["fromMuon"]
    found = bending(events, (0, 1, 2), (7, 8), where)
    for e, image in enumerate(events.image(where=where)[:, 0]):
        inner, outer = (np.nonzero(image[rows])[1] for rows in ([0, 1, 2], [7, 8]))
        slow = outer.mean() - inner.mean() if len(inner) and len(outer) else np.nan
        assert found[e] == pytest.approx(slow, nan_ok=True)


def test_stiff_muons_bend_less(events: Events) -> None:
    pt = events.targets[:, 0]
    bent = abs(bending(events, (0, 1, 2), (7, 8), events.truth["fromMuon"]))
    assert np.nanmedian(bent[pt > 12]) < 0.5 * np.nanmedian(bent[(pt > 5) & (pt < 8)])


def test_nothing_is_lit(events: Events) -> None:
    dark = np.zeros(events.n_particles, dtype=bool)
    assert [len(x) for x in lit_pixels(events, dark)] == [0, 0, 0, 0]
    assert len(cluster_sizes(events, dark)[0]) == 0
    assert not occupancy(events, dark).any()
    assert not hits_per_row(events, dark).value.any()
    assert np.isnan(bending(events, (0,), (8,), dark)).all()
    assert np.isnan(cluster_shares(events, dark).value).all()
    assert [len(x) for x in lit_pixels(events[:0])] == [0, 0, 0, 0]
