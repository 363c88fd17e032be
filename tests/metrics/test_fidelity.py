"""Fidelity of a surrogate against numpy, and its errors against toys."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hepxai.core.estimate import Estimate
from hepxai.metrics import fidelity


def pair(n: int, seed: int, *, signed: bool = False) -> tuple[NDArray[np.float64], ...]:
    rng = np.random.default_rng(seed)
    original = rng.normal(0.2, 1.0, n)
    surrogate = original + rng.normal(0, 0.7, n)
    weight = rng.exponential(1.0, n) + 0.1
    return surrogate, original, weight * (rng.choice([1, -1], n, p=[0.85, 0.15]) if signed else 1)


def test_against_numpy() -> None:
    surrogate, original, weight = pair(500, 0)
    found = fidelity(surrogate, original, weight)
    assert list(found) == ["agreement", "constant_agreement", "logit_correlation", "auc"]
    same = (surrogate > 0) == (original > 0)
    assert found["agreement"].value == pytest.approx(np.average(same, weights=weight))
    cov = np.cov(surrogate, original, aweights=weight)
    expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    always = np.average(original > 0, weights=weight)
    assert found["constant_agreement"].value == pytest.approx(max(always, 1 - always))
    assert found["logit_correlation"].value == pytest.approx(expected)
    assert found["auc"].value == pytest.approx(roc_auc_score(original > 0, surrogate, sample_weight=weight))
    n_eff = weight.sum() ** 2 / (weight**2).sum()
    assert all(e.n_eff == pytest.approx(n_eff) for e in found.values())


@pytest.mark.parametrize("signed", [False, True])
def test_errors_are_the_spread_of_toys(signed: bool) -> None:
    truth = fidelity(*pair(400_000, 1, signed=signed))
    toys = [fidelity(*pair(600, 10 + t, signed=signed)) for t in range(300)]
    for name, true in truth.items():
        pull = np.array([(t[name].value - true.value) / t[name].error for t in toys])
        assert abs(pull.mean()) < 0.35, name
        assert pull.std() == pytest.approx(1, abs=0.17), name


def test_a_perfect_copy() -> None:
    _, original, weight = pair(200, 2)
    found = fidelity(3 * original, original, weight)
    assert all(found[k].value == pytest.approx(1) for k in ("agreement", "logit_correlation", "auc"))
    assert 0 < found["agreement"].error < 0.02
    assert found["logit_correlation"].error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("signed", [False, True])
def test_invariances(signed: bool) -> None:
    surrogate, original, weight = pair(200, 3, signed=signed)

    def same(a: dict[str, Estimate], b: dict[str, Estimate], what: str) -> None:
        for name in a:
            assert getattr(a[name], what) == pytest.approx(float(getattr(b[name], what))), name

    found = fidelity(surrogate, original, weight)
    more = (np.append(c, np.ones(30)) for c in (surrogate, original))
    padded = fidelity(*more, np.append(weight, np.zeros(30)))
    for what in ("value", "error", "n_eff"):
        same(fidelity(surrogate, original, 5 * weight), found, what)
        same(padded, found, what)
    same(fidelity(*(np.repeat(c, 2) for c in (surrogate, original, weight / 2))), found, "value")


def test_original_that_decides_one_way_only() -> None:
    surrogate, original, weight = pair(50, 4)
    found = fidelity(surrogate, abs(original) + 1, weight)
    assert "auc" not in found
    constant = fidelity(surrogate, np.ones(50), weight)
    assert np.isnan(constant["logit_correlation"].value)
    assert np.isfinite(constant["agreement"].value)


def test_weights_that_cancel() -> None:
    surrogate, original, _ = pair(4, 5)
    found = fidelity(surrogate, original, np.array([1.0, -1.0, 1.0, -1.0]))
    assert np.isnan(found["agreement"].value)
    assert np.isnan(found["logit_correlation"].value)
