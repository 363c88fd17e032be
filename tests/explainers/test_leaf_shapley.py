"""Leaves with many columns, and chunks of patterns."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.explainers.table import leaf_shapley
from hepxai.explainers.table.leaf_shapley import BackgroundLeaf, PathDependentLeaf, Patterns


@pytest.mark.parametrize("columns", [1, 14, 15, 63, 64, 70, 130])
def test_patterns_give_back_the_masks(columns: int) -> None:
    rng = np.random.default_rng(columns)
    masks = list((rng.random((6, columns)) < 0.5).T[:, rng.integers(0, 6, 40)])
    patterns = Patterns.of(masks)
    assert len(patterns.passes) == len(np.unique(patterns.passes, axis=0)) <= 6
    np.testing.assert_array_equal(patterns.passes[patterns.pattern], np.stack(masks, axis=1))


def test_seventy_columns_add_up() -> None:
    rng = np.random.default_rng(0)
    rows, events = rng.random((2, 70, 50)) < 0.98
    patterns = Patterns.of(list(events))
    for leaf in (BackgroundLeaf.of(list(rows), np.full(50, 0.02)), PathDependentLeaf(np.full(70, 0.98))):
        change = patterns.passes.all(axis=1) - leaf.mean()
        np.testing.assert_allclose(leaf.values(patterns.passes).sum(axis=1), change, atol=1e-12)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    passes = (rng.random((50, 5)) < 0.5).astype(float)
    leaves = BackgroundLeaf(passes[:20], rng.random(20)), PathDependentLeaf(rng.random(5))
    whole = [leaf.values(passes) for leaf in leaves]
    monkeypatch.setattr(leaf_shapley, "PATTERN_PAIRS", 60)
    for leaf, values in zip(leaves, whole, strict=True):
        np.testing.assert_allclose(leaf.values(passes), values, rtol=1e-12)
