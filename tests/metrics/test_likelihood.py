"""The likelihood ratio of one quantity."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.core.binning import equal_bins
from hepxai.metrics import auc
from hepxai.metrics.likelihood import log_likelihood_ratio


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    signal = np.arange(40_000) % 2 == 0
    return rng.normal(np.where(signal, 1.0, 0.0)), signal


def test_two_gaussians(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """log N(x; 1, 1) / N(x; 0, 1) = x - 1/2."""
    x, signal = sample
    at = np.linspace(-1, 2, 20)
    found = log_likelihood_ratio(x, signal, np.ones(len(x)), np.linspace(-2, 3, 51), at)
    np.testing.assert_allclose(found, at - 0.5, atol=0.2)


def test_separates_as_well_as_the_quantity_itself(sample: tuple[np.ndarray, np.ndarray]) -> None:
    x, signal = sample
    fill, judge = slice(0, 20_000), slice(20_000, None)
    weight = np.ones(20_000)
    found = log_likelihood_ratio(x[fill], signal[fill], weight, equal_bins(x[fill], 40), x[judge])
    assert auc(found, signal[judge], weight).value == pytest.approx(0.760, abs=0.01)  # Φ(1/√2)


def test_beyond_the_edges_and_unknown(sample: tuple[np.ndarray, np.ndarray]) -> None:
    x, signal = sample
    found = log_likelihood_ratio(
        x, signal, np.ones(len(x)), np.array([-1.0, 0.5, 2.0]), np.array([-9.0, 0.0, 2.0, 9.0, np.nan])
    )
    assert found[0] == found[1] < 0 < found[2] == found[3]
    assert found[4] == 0


def test_weights_count_with_their_sign(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """An event and its copy with the opposite weight are no event; an emptied bin is finite."""
    x, signal = sample
    edges, at = np.linspace(-2, 3, 11), np.linspace(-2, 3, 30)
    plain = log_likelihood_ratio(x, signal, np.ones(len(x)), edges, at)
    both = np.concatenate([np.ones(len(x)), np.ones(500), -np.ones(500)])
    twice = (np.concatenate([v, v[:500], v[:500]]) for v in (x, signal))
    np.testing.assert_allclose(log_likelihood_ratio(*twice, both, edges, at), plain)
    emptied = np.where((x < -1) & signal, -1.0, 1.0)
    assert np.isfinite(log_likelihood_ratio(x, signal, emptied, edges, at)).all()
