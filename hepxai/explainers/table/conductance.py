"""Conductance: part of the change of the score that flows through each hidden neuron."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import residual_checks
from hepxai.events import Events
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import register
from hepxai.explainers.path import gauss_legendre
from hepxai.explainers.table.tables import PreparedTable, TableExplainer
from hepxai.models.protocols import HasNeurons
from hepxai.models.target import Target


@dataclass(frozen=True, kw_only=True)
class PreparedConductance(PreparedTable):
    """Conductance from a baseline row, with the number of neurons of each layer."""

    sizes: Mapping[str, int]

    def labels(self, events: Events) -> dict[str, tuple[str, ...]]:
        """Neurons, called ``layer:number``."""
        return {"neuron": tuple(f"{name}:{i}" for name, size in self.sizes.items() for i in range(size))}


@register("conductance")
class Conductance(TableExplainer):
    """Conductance of every neuron of every hidden layer, on the logit.

    ``C_j = ∫_0^1 ∂F/∂h_j · dh_j/dt dt`` along ``x' + t (x - x')`` [Dhamdhere, Sundararajan, Yan,
    arXiv:1805.12233, summed over the columns of the table]. At each node of the quadrature one forward pass
    carries the derivatives of all neurons along the path with it, and one backward pass gives the gradients
    with respect to all of them.

    The neurons of a layer through which all information passes add up to ``F(x) - F(x')``, up to the error
    of the quadrature, which is the same for each such layer.

    Attributes
    ----------
    baseline, baseline_values
        See `hepxai.explainers.table.tables.TableExplainer`.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    title = "conductance of neurons"
    short_title = "conductance"
    axes = ("event", "neuron")
    needs = HasNeurons

    def prepare(self, model: HasNeurons, events: Events, target: str) -> PreparedConductance:
        """Determine the neurons, the baseline row and the number of steps."""
        if not model.hidden_layers:
            raise ValueError("the model has no hidden layer, hence no neuron to explain")
        start = self.start(events)
        with torch.no_grad():
            _, hidden = model.forward_hidden(start[None])
        sizes = {name: h.shape[1] for name, h in hidden.items()}
        prepared = PreparedConductance(
            explainer=self, model=model, target=target, start=start, steps=0, sizes=sizes
        )
        return self.with_steps(prepared, events)

    def attribute_batch(self, prepared: PreparedConductance, batch: Batch[Tensor]) -> Part:
        """Signed conductance.

        ``output_change`` is the change of the score times the number of layers: each layer has it all.
        """
        model, output, start = prepared.model, prepared.output, prepared.start.expand_as(batch.x)
        values = _integrate(model, start, batch.x - start, output, prepared.steps)
        with torch.no_grad():
            end, begin = (output(model.forward_table(x)).double() for x in (batch.x, start))
        return Part(values=values, output_change=len(prepared.sizes) * (end - begin))

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Completeness of all layers together, and the median relative residual of each of them."""
        layers, change = layer_residuals(attribution), attribution.output_change
        assert change is not None
        parts = {
            name: attribution.replace(residual=residual, output_change=change / len(layers))
            for name, residual in layers.items()
        }
        medians = {f"median_residual_{n}": residual_checks(p)["median_residual"] for n, p in parts.items()}
        return residual_checks(attribution) | medians


def layer_residuals(attribution: Attribution) -> Mapping[str, NDArray[np.float64]]:
    """Sum over the neurons of each layer minus the change of the score, ``[E]`` for each layer."""
    if attribution.output_change is None:
        raise ValueError(f"{attribution.method} promises no completeness")
    names = np.array([label.rpartition(":")[0] for label in attribution.labels["neuron"]])
    layers = list(dict.fromkeys(names.tolist()))
    change = attribution.output_change / len(layers)
    return {n: attribution.values[:, names == n].sum(1, dtype=np.float64) - change for n in layers}


def _integrate(model: HasNeurons, start: Tensor, change: Tensor, output: Target, steps: int) -> Tensor:
    """Conductance of all neurons of a chunk, ``[B, H]``."""
    total: Tensor | None = None
    for node, weight in zip(*gauss_legendre(steps), strict=True):
        part = weight * _flow(model, start + node * change, change, output)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _flow(model: HasNeurons, state: Tensor, change: Tensor, output: Target) -> Tensor:
    """∂F/∂h_j · dh_j/dt of all neurons at one point of the path, ``[B, H]``."""
    with torch.enable_grad(), forward_ad.dual_level():
        x = forward_ad.make_dual(state.detach().requires_grad_(True), change)
        logits, hidden = model.forward_hidden(x)
        speed = [_tangent(h) for h in hidden.values()]
    # Outside of the level the graph holds plain numbers: the backward pass is that of first order.
    gradient = torch.autograd.grad(output(logits).sum(), list(hidden.values()), materialize_grads=True)
    return torch.cat([g * s for g, s in zip(gradient, speed, strict=True)], dim=1)


def _tangent(h: Tensor) -> Tensor:
    """Derivative along the path; 0 for neurons that do not depend on the table."""
    tangent = forward_ad.unpack_dual(h).tangent
    return torch.zeros_like(h) if tangent is None else tangent.detach()
