"""Integrated Gradients over the edge weights of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explain.base import Chunked, Explainer, register
from hepxai.explain.path import choose_steps, integrate, probe_rows, residual_checks
from hepxai.jagged import row_sum
from hepxai.models.base import HasEdgeWeights
from hepxai.models.cloud import Cloud


@register("edge_ig")
@dataclass(frozen=True, kw_only=True)
class EdgeIG(Explainer):
    """Integrated Gradients along edge weights 0 → 1 of a named layer, on the logit.

    ``IG_ji = ∫_0^1 ∂F(t·1)/∂e_ji dt``. All weights of the layer equal t on the path, so its state is
    ``base + t * total`` and only the gradient at the particle state is needed at each node: the edge's share
    of ``total``, contracted once with the integrated gradient, is its attribution.

    Attributes
    ----------
    layer : str, optional
        A name of ``model.edge_layers``; the first by default.
    steps : int, optional
        Gauss-Legendre nodes; by default as many as bring the median residual within ``tolerance``.
    neighbours : str
        "frozen": later dynamic layers keep the neighbours of the unweighted event, which makes the
        integrand smooth and the attribution complete. "dynamic": they search again along the path.
    tolerance : float
        Wanted median relative residual.
    """

    needs = HasEdgeWeights
    layer: str | None = None
    steps: int | None = None
    neighbours: Literal["frozen", "dynamic"] = "frozen"
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if self.neighbours not in ("frozen", "dynamic"):
            raise ValueError(f"neighbours={self.neighbours!r}; choose 'frozen' or 'dynamic'")

    def explain(self, model: HasEdgeWeights, events: Events, target: str) -> Attribution:
        """Signed attribution of every edge of the layer, axes ("pair",)."""
        layer = self._layer(model)
        probe = events[probe_rows(len(events))]
        steps = self.steps or choose_steps(
            lambda n: self._run(model, probe, target, layer, n, progress=False), self.tolerance
        )
        found = self._run(model, events, target, layer, steps, progress=self.progress)
        settings = self.settings() | {"layer": layer, "steps": steps, "baseline": "edge weights 0"}
        return found.replace(checks=residual_checks(found, steps), settings=settings)

    def _layer(self, model: HasEdgeWeights) -> str:
        layer = self.layer or model.edge_layers[0]
        if layer not in model.edge_layers:
            raise KeyError(f"no layer {layer!r}; edges can be weighted in {', '.join(model.edge_layers)}")
        return layer

    def _run(
        self, model: HasEdgeWeights, events: Events, target: str, layer: str, steps: int, *, progress: bool
    ) -> Attribution:
        chunked = Chunked.of(events)
        output = model.outputs.index(target)
        edges, values, spans = [], [], []
        for cloud in chunked.clouds("edge_ig", progress=progress):
            src, dst, value, change = self._chunk(model, cloud, layer, output, steps)
            edges.append((cloud, src, dst))
            values.append(value)
            spans.append(change)
        pairs = chunked.pairs(edges)
        attribution, span = chunked.per_pair(values, pairs), chunked.per_event(spans)
        residual = row_sum(attribution, pairs.offsets) - span
        return Attribution(
            attribution, ("pair",), events, self.name, target, pairs=pairs, residual=residual, span=span
        )

    def _chunk(
        self, model: HasEdgeWeights, cloud: Cloud, layer: str, output: int, steps: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        path = model.edge_path(cloud, layer)
        messages, frozen = path.messages, self.neighbours == "frozen"
        found = integrate(lambda h: path.after(h, frozen)[:, output], messages.base, messages.total, steps)
        with torch.no_grad():
            return messages.src, messages.dst, messages.contract(found.gradient), found.span
