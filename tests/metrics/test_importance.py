"""Importance of a population, and columns that go together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import dendrogram
from scipy.stats import spearmanr

from hepxai.metrics.importance import Importance, correlated_groups, correlation_tree, rank_correlation


@pytest.fixture
def table() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)).astype(np.float32)
    x[:, 3] = -np.exp(x[:, 0]) + 0.05 * x[:, 3]  # falls with column 0: the rank correlation is near -1
    x[:, 4] = 7.0
    return x


def test_rank_correlation_is_spearmans(table: np.ndarray) -> None:
    found = rank_correlation(table)
    np.testing.assert_allclose(found[:4, :4], spearmanr(table[:, :4]).statistic, atol=1e-12)
    assert (found[4, :4] == 0).all()
    assert (np.diag(found) == 1).all()


def test_numbers_that_are_missing_are_the_lowest(table: np.ndarray) -> None:
    holes, low = table.copy(), table.copy()
    holes[::7, 1], low[::7, 1] = np.nan, -1e9
    np.testing.assert_array_equal(rank_correlation(holes), rank_correlation(low))


def test_groups_whatever_the_sign_of_the_correlation(table: np.ndarray) -> None:
    found = correlated_groups(table, tuple("abcde"))
    assert found == {"a + d": ("a", "d"), "b": ("b",), "c": ("c",), "e": ("e",)}
    assert correlated_groups(table[:, :1], ("a",)) == {"a": ("a",)}
    assert list(correlated_groups(table, tuple("abcde"), threshold=1.0)) == list("abcde")


def test_the_tree_can_be_drawn(table: np.ndarray) -> None:
    tree = correlation_tree(table)
    assert tree.shape == (4, 4)
    assert {*dendrogram(tree, no_plot=True)["ivl"][:2]} <= set("01234")
    assert set(tree[0, :2].astype(int)) == {0, 3}


def test_nothing_to_correlate(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="there are no events to correlate"):
        correlated_groups(table[:0], tuple("abcde"))


def test_ranking() -> None:
    repeats = np.array([[0.1, 0.3], [0.5, 0.5], [-0.1, 0.0]])
    found = Importance(("a", "b", "c"), {}, "auc", "signal", 0.9, repeats, np.array([0.1, 0.2, 0.3]))
    assert [name for name, _ in found.ranked()] == ["b", "a", "c"]
    assert f"{found.ranked()[1][1]:.2f}" == "0.20 ± 0.10"
    np.testing.assert_allclose(found.spread, [np.sqrt(0.02), 0, np.sqrt(0.005)])


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"2 names for repeats \(1, 3\), error \(1,\)"):
        Importance(("a", "b"), {}, "auc", "signal", 0.9, np.zeros((1, 3)), np.zeros(1))
