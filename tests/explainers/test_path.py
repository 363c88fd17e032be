"""Quadrature and the choice of steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import relative_residual, residual_checks
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.path import gauss_legendre, integrate, probe
from hepxai.models.network import NetworkModel


@pytest.mark.parametrize("steps", [1, 2, 5, 16, 128])
def test_exact_for_polynomials(steps: int) -> None:
    node, weight = gauss_legendre(steps)
    assert weight.sum() == pytest.approx(1)
    assert ((node > 0) & (node < 1)).all()
    for power in range(min(2 * steps, 20)):
        assert (weight * node**power).sum() == pytest.approx(1 / (power + 1))


def test_needs_a_step() -> None:
    with pytest.raises(ValueError, match="steps=0; at least 1 is needed"):
        gauss_legendre(0)


def test_integrated_gradient_of_one_number() -> None:
    """∫ f'(a + t (b - a)) dt against scipy."""
    start, end = torch.tensor([[-1.0], [0.3]]).double(), torch.tensor([[2.0], [0.1]]).double()
    found = integrate(lambda h: torch.sin(h[:, 0] ** 2), start, end - start, 30)
    for row in range(2):
        a, b = float(start[row]), float(end[row])

        def slope(t: float, a: float = a, b: float = b) -> float:
            h = a + t * (b - a)
            return float(2 * h * np.cos(h**2))

        assert float(found.gradient[row]) == pytest.approx(quad(slope, 0, 1)[0], rel=1e-9)
        assert float(found.output_change[row]) == pytest.approx(np.sin(b**2) - np.sin(a**2), rel=1e-9)
    assert not found.gradient.requires_grad
    assert not found.output_change.requires_grad


def make(toy: Callable[..., Events], residual: list[float], output_change: list[float]) -> Attribution:
    events = toy(len(residual))
    return Attribution(
        np.zeros(len(residual)),
        ("event",),
        events,
        "test",
        "signal",
        residual=np.array(residual),
        output_change=np.array(output_change),
    )


def test_relative_residual(toy: Callable[..., Events]) -> None:
    found = make(toy, [0.1, -0.2, 0.0, 0.3], [1.0, -4.0, 0.0, 0.0])
    np.testing.assert_allclose(relative_residual(found), [0.1, 0.05, np.nan, np.inf])
    assert residual_checks(found) == {"median_residual": 0.1, "p90_residual": np.inf}
    assert residual_checks(make(toy, [0.0], [0.0])) == {"median_residual": 0.0, "p90_residual": 0.0}
    rounded = make(toy, [0.1, 4.8e-7], [1.0, -4.8e-7])  # an event without hits
    np.testing.assert_allclose(relative_residual(rounded), [0.1, np.nan])
    undefined = make(toy, [np.nan, np.nan], [np.nan, 1.0])  # not the same as complete
    assert residual_checks(undefined) == {"median_residual": np.inf, "p90_residual": np.inf}
    assert np.isinf(relative_residual(make(toy, [np.nan, 0.1], [np.nan, 1.0]))).tolist() == [True, False]
    with pytest.raises(ValueError, match="test promises no completeness"):
        relative_residual(found.replace(residual=None))


def test_probe(toy: Callable[..., Events]) -> None:
    events = toy(30)
    assert len(probe(events)) == 30
    few = probe(events, 7)
    assert len(few) == 7
    assert {int(few.event[0]), int(few.event[-1])} == {0, 29}
    assert len(probe(events[:0])) == 0
    assert len(probe(events[:1])) == 1


@pytest.mark.parametrize("method", ["edge_ig", "node_ig"])
def test_parts_with_the_settings_of_the_first_are_the_whole(
    model: NetworkModel, events: Events, method: str
) -> None:
    whole = explain(model, events, method)
    settled = {k: whole.settings[k] for k in ("steps", "baseline_values") if k in whole.settings}
    parts = [explain(model, events[i : i + 10], method, **settled) for i in range(0, len(events), 10)]
    joined = Attribution.concatenate(parts)
    np.testing.assert_allclose(joined.values, whole.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(joined.output_change, whole.output_change, rtol=1e-4, atol=1e-6)
