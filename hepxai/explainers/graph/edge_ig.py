"""Integrated Gradients over the edge weights of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import register, working
from hepxai.explainers.path import PathExplainer, PreparedPath, integrate
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import HasEdgeWeights


@dataclass(frozen=True, kw_only=True)
class PreparedEdges(PreparedPath):
    """Edge Integrated Gradients of one layer."""

    layer: str

    def settings(self) -> dict[str, Any]:
        """Settings with the layer."""
        return super().settings() | {"layer": self.layer, "baseline": "edge weights 0"}


@register("edge_ig")
class EdgeIG(PathExplainer):
    """Integrated Gradients along edge weights 0 → 1 of a named layer, on the logit.

    ``IG_ji = ∫_0^1 ∂F(t·1)/∂e_ji dt``. All weights of the layer equal t on the path, so its state is
    ``base + t * total`` and only the gradient at the particle state is needed at each node: the edge's share
    of ``total``, contracted once with the integrated gradient, is its attribution. Edges from a particle to
    itself are no pairs: their values are the ``self_loops`` of the result.

    Attributes
    ----------
    layer : str, optional
        A name of ``model.edge_layers``; the first by default. Of a layer that a torch_geometric module calls
        several times, one call: "conv#1", "conv#2" …
    neighbours : str
        "frozen": later dynamic layers keep the neighbours of the unweighted event, which makes the
        integrand smooth and the attribution complete. "dynamic": they search again along the path.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    title = "integrated gradients over pairs (edge IG)"
    short_title = "edge IG"
    axes = ("pair",)
    default_for = "graph"
    needs: ClassVar[type] = HasEdgeWeights
    layer: str | None = None
    neighbours: Literal["frozen", "dynamic"] = "frozen"

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for models with at least one edge layer."""
        return isinstance(model, HasEdgeWeights) and bool(model.edge_layers)

    def check_model(self, model: HasEdgeWeights) -> None:
        """Refuse a layer that the model does not have."""
        self.layer_of(model)

    def prepare(self, model: HasEdgeWeights, events: Events, target: str) -> PreparedEdges:
        """Compute layer and number of steps."""
        layer = self.layer_of(model)
        prepared = PreparedEdges(explainer=self, model=model, target=target, layer=layer, steps=0)
        return self.with_steps(prepared, events)

    def attribute_batch(self, prepared: PreparedEdges, batch: Batch[Cloud]) -> Part:
        """Signed attribution of every edge of the layer."""
        output, frozen = prepared.output, self.neighbours == "frozen"
        with prepared.model.edge_path(batch.x, prepared.layer) as path:
            edges, end = path.messages, output(path.logits)
            mean = integrate(
                lambda h: output(path.after(h, frozen)), edges.base, edges.total, prepared.steps, end
            )
            with torch.no_grad():
                values = edges.contract(mean.gradient)
        checks = {} if path.virtual is None else {"virtual_messages": path.virtual}
        ends = edges.src, edges.dst
        return Part(values=values, output_change=mean.output_change, edges=ends, checks=checks)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Completeness residual, and the share of messages of virtual nodes."""
        return super().checks(attribution) | dict(attribution.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Bad residual; messages that are not in the result."""
        concerns, share = super().concerns(checks), checks.get("virtual_messages")
        if share is None:
            return concerns
        return (
            *concerns,
            f"{100 * share:.0f} % of the messages come from or go to virtual nodes: they keep the weight 1 "
            "and are in no pair; the values add up to the effect of the messages between particles",
        )

    def layer_of(self, model: HasEdgeWeights) -> str:
        """Name of the layer whose edges are weighted."""
        if not model.edge_layers:
            raise CannotExplainError(
                f"the model has no message-passing layer, whose edges could be weighted; {working(model)}"
            )
        layer = self.layer or model.edge_layers[0]
        numbered = getattr(model, "numbered_calls", False)
        if (layer.partition("#")[0] if numbered else layer) not in model.edge_layers:
            raise KeyError(f"no layer {layer!r}; edges can be weighted in {', '.join(model.edge_layers)}")
        return layer
