"""Conductance: how much of the change of the score flows through each hidden neuron."""

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
from hepxai.explainers.base import Chunked, register
from hepxai.explainers.path import gauss_legendre
from hepxai.explainers.table.tables import TableExplainer
from hepxai.models.protocols import HasNeurons
from hepxai.models.target import Target


@register("conductance")
@dataclass(frozen=True, kw_only=True)
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

    needs = HasNeurons

    def attribute(self, model: HasNeurons, events: Events, target: str) -> Attribution:
        """Signed conductance, axes ("event", "neuron"), neurons called ``layer:number``.

        ``output_change`` is the change of the score times the number of layers: each layer has it all.
        """
        sizes, output = self._sizes(model), Target.of(model.outputs, target)
        chunked, start = Chunked.of_table(events), self.start()
        values = np.empty((len(events), sum(sizes.values())), dtype=np.float32)
        spans = []
        tables = chunked.tables(self.name, progress=self.progress)
        for rows, x in zip(chunked.chunks, tables, strict=True):
            values[rows] = _integrate(model, start.expand_as(x), x - start, output, self.nodes()).numpy()
            with torch.no_grad():
                ends = [output(model.forward_table(end)).double() for end in (x, start.expand_as(x))]
            spans.append(len(sizes) * (ends[0] - ends[1]))
        output_change = chunked.per_event(spans)
        return Attribution(
            values,
            ("event", "neuron"),
            events,
            self.name,
            target,
            settings=self.settings(),
            labels={"neuron": tuple(f"{name}:{i}" for name, size in sizes.items() for i in range(size))},
            residual=values.sum(1, dtype=np.float64) - output_change,
            output_change=output_change,
        )

    def checks(self, found: Attribution) -> dict[str, float]:
        """Completeness of all layers together, and the median relative residual of each of them."""
        layers = layer_residuals(found)
        return residual_checks(found) | {
            f"median_residual_{name}": _median_relative(residual, found, len(layers))
            for name, residual in layers.items()
        }

    def _sizes(self, model: HasNeurons) -> dict[str, int]:
        """Neurons of each layer."""
        if not model.hidden_layers:
            raise ValueError("the model has no hidden layer, hence no neuron to explain")
        with torch.no_grad():
            _, hidden = model.forward_hidden(self.start()[None])
        return {name: h.shape[1] for name, h in hidden.items()}


def layer_residuals(found: Attribution) -> Mapping[str, NDArray[np.float64]]:
    """Sum over the neurons of each layer minus the change of the score, ``[E]`` for each layer."""
    if found.output_change is None:
        raise ValueError(f"{found.method} promises no completeness")
    names = np.array([label.rpartition(":")[0] for label in found.labels["neuron"]])
    layers = list(dict.fromkeys(names.tolist()))
    change = found.output_change / len(layers)
    return {n: found.values[:, names == n].sum(1, dtype=np.float64) - change for n in layers}


def _median_relative(residual: NDArray[np.float64], found: Attribution, layers: int) -> float:
    output_change = None if found.output_change is None else found.output_change / layers
    return residual_checks(found.replace(residual=residual, output_change=output_change))["median_residual"]


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
    """Derivative along the path; 0 for what does not depend on the table."""
    found = forward_ad.unpack_dual(h).tangent
    return torch.zeros_like(h) if found is None else found.detach()
