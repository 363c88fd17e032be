"""Path integrals: quadrature, the gradient along a path, the number of steps and the baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hepxai.attribution.residuals import residual_checks
from hepxai.cards import nearest
from hepxai.core.chunks import evenly_spread
from hepxai.events import Events
from hepxai.explainers.base import Explainer, Prepared
from hepxai.explainers.batches import Part

STEPS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of Gauss-Legendre nodes, tried in this order."""
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
    output_change : Tensor, shape [B]
        F(end) - F(start).
    """

    gradient: Tensor
    output_change: Tensor


def integrate(
    output: Callable[[Tensor], Tensor], start: Tensor, change: Tensor, steps: int, end: Tensor | None = None
) -> PathIntegral:
    """Integrate the gradient of ``output`` along ``start + t * change``, t from 0 to 1.

    Integrated Gradients (Sundararajan et al., arXiv:1703.01365) for a whole batch. The score of an event
    depends on no other event, so one backward pass of the summed scores gives the gradients of all events.

    Parameters
    ----------
    output : callable
        State to ``[B]``.
    start, change : Tensor
        Same shape.
    steps : int
        Gauss-Legendre nodes.
    end : Tensor, shape [B], optional
        Output at the end of the path, if already computed.
    """
    total = torch.zeros_like(change)
    for node, weight in zip(*gauss_legendre(steps), strict=True):
        state = torch.add(start, change, alpha=node).detach().requires_grad_(True)
        with torch.enable_grad():
            value = output(state)
            if not value.requires_grad:
                raise ValueError(
                    "the score has no gradient: is forward detached, or under torch.no_grad()? The methods "
                    "shapley and kernel_shap need no gradient"
                )
            (gradient,) = torch.autograd.grad(value.sum(), state)
        total.add_(gradient, alpha=weight)
    with torch.no_grad():
        last = output(start + change) if end is None else end
        return PathIntegral(total, last - output(start))


@dataclass(frozen=True, kw_only=True)
class PreparedPath(Prepared):
    """Path method with its number of steps.

    Attributes
    ----------
    steps : int
        Gauss-Legendre nodes; 0 where there is no quadrature.
    """

    steps: int

    def settings(self) -> dict[str, Any]:
        """Settings with the number of steps."""
        return super().settings() | {"steps": self.steps or None}

    def integral(self, score: Callable[[Tensor], Tensor], start: Tensor, end: Tensor) -> Part:
        """Change from ``start`` to ``end`` times the mean gradient of a score ``state -> [B, O]``."""
        output, change = self.output, end - start
        path = integrate(lambda state: output(score(state)), start, change, self.steps)
        return Part(values=change * path.gradient, output_change=path.output_change)


PathT = TypeVar("PathT", bound=PreparedPath)


class PathExplainer(Explainer):
    """Base class of path integrals, whose values satisfy completeness.

    Attributes
    ----------
    probed : int
        Events on which the number of steps is chosen (class attribute).
    steps : int, optional
        Gauss-Legendre nodes; by default the fewest with a median residual within ``tolerance``. To explain a
        population in parts, pass ``settings["steps"]`` of the first part to the others.
    tolerance : float
        Largest acceptable median relative residual.
    """

    complete = True
    probed: ClassVar[int] = 256
    steps: int | None = Field(default=None, ge=1)
    tolerance: float = Field(default=0.01, ge=0)

    def with_steps(self, prepared: PathT, events: Events) -> PathT:
        """Copy with the fewest of ``STEPS`` whose median relative residual is within tolerance.

        A number given by the user is used unchanged. If no number suffices, the largest is used; the residual
        is stored with the result.
        """
        if self.steps is not None:
            return dataclasses.replace(prepared, steps=self.steps)
        sample, trial = probe(events, self.probed), self.trial(prepared.silent())
        for steps in STEPS:
            trial = dataclasses.replace(trial, steps=steps)
            if residual_checks(trial.attribute(sample))["median_residual"] <= self.tolerance:
                break
        return dataclasses.replace(prepared, steps=steps)

    def trial(self, prepared: Any) -> Any:
        """Cheaper copy on which the number of steps is chosen."""
        return prepared


def probe(events: Events, size: int = 256) -> Events:
    """Evenly spread events on which the steps are chosen."""
    return events[evenly_spread(len(events), size)]


def check_baseline(value: Any, names: tuple[str, ...], numbers: str) -> Any:
    """Validate a baseline setting: one of the given names, nested numbers, or events.

    Raises
    ------
    ValueError
        If it is none of these, or a number is not finite.
    """
    if isinstance(value, Events) or (isinstance(value, str) and value in names):
        return value
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if isinstance(value, str) or not np.isfinite(array).all():
        hint = nearest(str(value), names)
        raise ValueError(f"should be {', '.join(map(repr, names))}, {numbers} or events{hint}")
    return array.tolist()
