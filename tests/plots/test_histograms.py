"""Signed-weight histograms."""

from __future__ import annotations

import numpy as np

from hepxai.plots.histograms import fitting_bins, normalised, robust_edges, signed_histogram

EDGES = np.array([0.0, 1.0, 2.0, 3.0])


def test_integral_is_the_signed_sum_and_bins_may_be_negative():
    filled = signed_histogram(np.array([-5.0, 0.5, 1.5, 1.5, 9.0]), np.array([1, 1, 1, -2, 0.5]), EDGES)
    np.testing.assert_allclose(filled.values(), [2, -1, 0.5])
    np.testing.assert_allclose(filled.variances(), [2, 5, 0.25])
    np.testing.assert_allclose(filled.sum(flow=True).value, 1.5)


def test_entries_of_one_event_are_correlated():
    filled = signed_histogram(np.full(3, 0.5), np.ones(3), EDGES, cluster=np.array([0, 0, 1]))
    np.testing.assert_allclose(filled.variances()[0], 2**2 + 1)


def test_nan_values_are_left_out():
    filled = signed_histogram(np.array([np.nan, 0.5]), np.ones(2), EDGES)
    assert filled.sum(flow=True).value == 1


def test_normalised_area_is_one():
    filled = signed_histogram(np.array([0.5, 0.6, 2.5]), np.array([2.0, -1, 3]), EDGES)
    density, error, edges = normalised(filled)
    np.testing.assert_allclose(np.sum(density * np.diff(edges)), 1.0)
    np.testing.assert_allclose(error[0], np.sqrt(5) / 4)


def test_edges_of_anything():
    assert len(robust_edges(np.array([]), 4)) == 5
    assert np.ptp(robust_edges(np.full(3, 2.0), 4)) == 1
    assert fitting_bins([]) == 8
    assert fitting_bins([10**9]) == 40
