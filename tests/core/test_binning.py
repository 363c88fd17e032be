"""Bins of an event quantity."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.core.binning import bin_of, equal_bins, resolving_bins


def test_bins_include_the_last_edge_and_nothing_beyond():
    edges = np.array([0.0, 1.0, 2.0])
    np.testing.assert_array_equal(
        bin_of(np.array([-0.1, 0, 1, 2, 2.1, np.nan]), edges), [-1, 0, 1, 1, -1, -1]
    )
    assert len(equal_bins(np.array([3.0, 3.0]), 5)) == 2
    assert len(equal_bins(np.array([np.nan]), 5)) == 2


@pytest.mark.parametrize("width", [0.5, 5.0])
def test_bins_resolve_a_narrow_peak(width):
    """Several bins inside the resonance, all bins filled, and every event in one."""
    rng = np.random.default_rng(0)
    background, peak = rng.exponential(60, 2000) + 20, rng.normal(90, width, 500)
    edges = resolving_bins([background, peak, np.array([np.nan])])
    assert (np.diff(edges) > 0).all()
    everything = np.concatenate([background, peak])
    assert (edges[0], edges[-1]) == (everything.min(), everything.max())
    inside = (edges > 90 - 3 * width) & (edges < 90 + 3 * width)
    assert inside.sum() >= 2
    counts = np.stack([np.histogram(v, edges)[0] for v in (background, peak)])
    assert (counts.max(axis=0) >= 20).all()
    assert len(edges) < 60


@pytest.mark.parametrize("sample", [[], [3.0], [3.0, 3.0, 3.0], [1.0, 2.0], list(range(9))])
def test_few_values_have_bins_too(sample):
    edges = resolving_bins([np.array(sample), np.array([np.nan])])
    assert len(edges) > 1
    assert (np.diff(edges) > 0).all()
    assert (bin_of(np.array(sample), edges) >= 0).all() or not len(sample)
