"""Path integrals: quadrature, the gradient along a path, and the completeness residual."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import residual_checks
from hepxai.core.chunks import evenly_spread
from hepxai.events import Events
from hepxai.explainers.base import Explainer

STEPS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of Gauss-Legendre nodes that are tried in turn."""
BASELINE_REMEDY = "explain more events, or give a baseline: 'zero', or the numbers themselves"


def gauss_legendre(steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]; exact for polynomials up to 2 steps - 1."""
    if steps < 1:
        raise ValueError(f"steps={steps}; at least 1 is needed")
    node, weight = np.polynomial.legendre.leggauss(steps)
    return (node + 1) / 2, weight / 2


@dataclass(frozen=True)
class PathIntegral:
    """Mean gradient along a straight path and the change of the output along it, per batch.

    Attributes
    ----------
    gradient : Tensor, shape of the state
        ∫ ∂F/∂h dt.
    span : Tensor, shape [B]
        F(end) - F(start).
    """

    gradient: Tensor
    output_change: Tensor


def integrate(
    output: Callable[[Tensor], Tensor], start: Tensor, change: Tensor, steps: int, end: Tensor | None = None
) -> PathIntegral:
    """Integrate the gradient of ``output`` along ``start + t * change``, t from 0 to 1.

    Integrated Gradients (Sundararajan et al., arXiv:1703.01365) for a whole batch: events do not talk
    to each other, so the gradient of the sum of their outputs is each event's own, and one
    backward pass a node serves all.

    Parameters
    ----------
    output : callable
        State to ``[B]``.
    start, change : Tensor
        Same shape.
    steps : int
        Gauss-Legendre nodes.
    end : Tensor, shape [B], optional
        Output at the end of the path, where it is known already.
    """
    total = torch.zeros_like(change)
    for node, weight in zip(*gauss_legendre(steps), strict=True):
        state = torch.add(start, change, alpha=node).detach().requires_grad_(True)
        with torch.enable_grad():
            value = output(state)
            if not value.requires_grad:
                raise ValueError(
                    "the score has no gradient: is forward detached, or under torch.no_grad()? shapley and "
                    "kernel_shap need none"
                )
            (gradient,) = torch.autograd.grad(value.sum(), state)
        total.add_(gradient, alpha=weight)
    with torch.no_grad():
        last = output(start + change) if end is None else end
        return PathIntegral(total, last - output(start))


@dataclass(frozen=True, kw_only=True)
class PathExplainer(Explainer):
    """A method that integrates along a path and promises completeness.

    Attributes
    ----------
    probed : int
        Events on which the number of steps is chosen (class attribute).
    steps : int, optional
        Gauss-Legendre nodes; by default as many as bring the median residual of the given events within
        ``tolerance``. Explaining a population in parts, give the parts ``settings["steps"]`` of the first.
    tolerance : float
        Wanted median relative residual.
    """

    probed: ClassVar[int] = 256
    steps: int | None = None
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        steps: Any = self.steps  # from a command line it may be anything
        tolerance: Any = self.tolerance
        if steps is not None and not (isinstance(steps, int) and steps >= 1):
            raise ValueError(f"steps={steps!r}; at least 1 is needed, and a whole number")
        if not (isinstance(tolerance, int | float) and tolerance >= 0):
            raise ValueError(f"tolerance={tolerance!r}; a number is needed")

    def nodes(self) -> int:
        """Steps, once they are settled."""
        if self.steps is None:
            raise ValueError("the number of steps is not settled; call prepare or explain")
        return self.steps

    def checks(self, found: Attribution) -> dict[str, float]:
        """Completeness."""
        return residual_checks(found)

    def with_steps(self, model: Any, events: Events, target: str) -> Self:
        """Copy with the fewest of ``STEPS`` whose median relative residual is within tolerance.

        Steps that the user gave stay. If none suffices, the most are taken; the residual is stored
        with the result in any case.
        """
        if self.steps is not None:
            return self
        steps = fewest_steps(self, model, probe(events, self.probed), target, self.tolerance)
        return dataclasses.replace(self, steps=steps)


def fewest_steps(explainer: Any, model: Any, sample: Events, target: str, tolerance: float) -> int:
    """Fewest of ``STEPS`` whose median relative residual on a sample is within tolerance; else the most."""
    for steps in STEPS:
        tried = dataclasses.replace(explainer, steps=steps, progress=False)
        if residual_checks(tried.attribute(model, sample, target))["median_residual"] <= tolerance:
            break
    return steps


def probe(events: Events, size: int = 256) -> Events:
    """Evenly spread events on which the steps are chosen."""
    return events[evenly_spread(len(events), size)]
