"""Factorisation of activations: exact scores, planted directions, errors that name the remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from hepxai.concepts import factorisation
from hepxai.concepts.factorisation import nonnegative_directions, nonnegative_scores
from hepxai.explainers import CheckWarning


@pytest.mark.parametrize("size", [(3, 5), (10, 12), (12, 10), (55, 60)])
def test_scores_are_the_non_negative_least_squares_solution(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    directions = np.abs(rng.normal(size=size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = np.maximum(rng.normal(size=(40, size[1])), 0)
    vectors[0] = 0
    scores = nonnegative_scores(torch.as_tensor(vectors), torch.as_tensor(directions)).numpy()
    expected = np.array([nnls(directions.T, v)[0] for v in vectors])
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores @ directions, expected @ directions, atol=1e-5)
    if size[0] <= size[1]:  # otherwise the solution is not unique
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    alone = nonnegative_scores(torch.as_tensor(vectors[7:8]), torch.as_tensor(directions)).numpy()
    np.testing.assert_allclose(alone, scores[7:8], atol=1e-12)


def test_planted_directions_are_found_largest_first() -> None:
    rng = np.random.default_rng(1)
    planted = np.array([[1.0, 0, 0, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1.0]])
    scores = rng.gamma(0.2, 1.0, (400, 3)) * (1, 4, 2)
    found = nonnegative_directions((scores @ planted).astype(np.float32), 3, 0, "relu").values
    np.testing.assert_allclose(found, planted[[1, 2, 0]], atol=0.05)


def test_equal_vectors_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    solved, pivoted = [], factorisation._pivoted
    monkeypatch.setattr(factorisation, "_pivoted", lambda b, g: (solved.append(len(b)), pivoted(b, g))[1])
    vectors = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    repeated = vectors[[0, 3, 0, 0, 5, 3]]
    scores = nonnegative_scores(repeated, vectors[:3])
    assert sum(solved) == 3
    torch.testing.assert_close(
        scores, torch.cat([nonnegative_scores(v[None], vectors[:3]) for v in repeated])
    )


def test_a_solver_that_stops_early_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors, directions = (torch.as_tensor(np.abs(rng.normal(size=(n, 9)))) for n in (50, 8))
    monkeypatch.setattr(factorisation, "LOOPS", 1)
    with pytest.warns(CheckWarning, match="solver stopped after 1 loops; take fewer concepts"):
        nonnegative_scores(vectors, directions)


@pytest.mark.parametrize("number", [0, 4, 5])
def test_a_number_that_the_layer_cannot_have(number: int) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match=f"concepts={number}: layer relu has 4 channels .* choose 1 to 3"):
        nonnegative_directions(vectors, number, 0, "relu")
