"""Integrated Gradients over the edge weights of one layer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.jagged import row_sum
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Chunked, register, working
from hepxai.explainers.path import PathExplainer, integrate
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import HasEdgeWeights
from hepxai.models.target import Target


@register("edge_ig")
@dataclass(frozen=True, kw_only=True)
class EdgeIG(PathExplainer):
    """Integrated Gradients along edge weights 0 → 1 of a named layer, on the logit.

    ``IG_ji = ∫_0^1 ∂F(t·1)/∂e_ji dt``. All weights of the layer equal t on the path, so its state is
    ``base + t * total`` and only the gradient at the particle state is needed at each node: the edge's share
    of ``total``, contracted once with the integrated gradient, is its attribution. Edges from a particle to
    itself are no pairs: their values are the ``self_loops`` of the result.

    Attributes
    ----------
    layer : str, optional
        A name of ``model.edge_layers``; the first by default.
    neighbours : str
        "frozen": later dynamic layers keep the neighbours of the unweighted event, which makes the
        integrand smooth and the attribution complete. "dynamic": they search again along the path.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    needs: ClassVar[type] = HasEdgeWeights
    layer: str | None = None
    neighbours: Literal["frozen", "dynamic"] = "frozen"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours not in ("frozen", "dynamic"):
            raise ValueError(f"neighbours={self.neighbours!r}; choose 'frozen' or 'dynamic'")

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for models with at least one edge layer."""
        return isinstance(model, HasEdgeWeights) and bool(model.edge_layers)

    def check_model(self, model: HasEdgeWeights) -> None:
        """Refuse a layer that the model does not have."""
        self._layer(model)

    def prepare(self, model: HasEdgeWeights, events: Events, target: str) -> Self:
        """Settle layer and number of steps."""
        named = dataclasses.replace(self, layer=self._layer(model))
        return named.with_steps(model, events, target)

    def attribute(self, model: HasEdgeWeights, events: Events, target: str) -> Attribution:
        """Signed attribution of every edge of the layer, axes ("pair",)."""
        chunked = Chunked.of(events)
        output = Target.of(model.outputs, target)
        edges, values, loops, changes = [], [], [], []
        for cloud in chunked.clouds(self.name, progress=self.progress):
            src, dst, value, change = self._chunk(model, cloud, output)
            alone = src == dst
            edges.append((cloud, src[~alone], dst[~alone]))
            values.append(value[~alone])
            loops.append(value.new_zeros(len(cloud.x)).index_add(0, dst[alone], value[alone]))
            changes.append(change)
        pairs = chunked.pairs(edges)
        attribution, output_change = chunked.per_pair(values, pairs), chunked.per_event(changes)
        itself = chunked.per_particle(loops)
        total = row_sum(attribution, pairs.offsets) + row_sum(itself, events.offsets)
        return Attribution(
            attribution,
            ("pair",),
            events,
            self.name,
            target,
            settings=self.settings() | {"baseline": "edge weights 0"},
            pairs=pairs,
            self_values=itself if itself.any() else None,
            residual=total - output_change,
            output_change=output_change,
        )

    def _layer(self, model: HasEdgeWeights) -> str:
        if not model.edge_layers:
            raise CannotExplainError(
                f"the model has no message-passing layer, whose edges could be weighted; {working(model)}"
            )
        layer = self.layer or model.edge_layers[0]
        if layer not in model.edge_layers:
            raise KeyError(f"no layer {layer!r}; edges can be weighted in {', '.join(model.edge_layers)}")
        return layer

    def _chunk(
        self, model: HasEdgeWeights, cloud: Cloud, output: Target
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frozen = self.neighbours == "frozen"
        with model.edge_path(cloud, self._layer(model)) as path:
            edges, whole = path.messages, output(path.logits)
            found = integrate(
                lambda h: output(path.after(h, frozen)), edges.base, edges.total, self.nodes(), whole
            )
            with torch.no_grad():
                return edges.src, edges.dst, edges.contract(found.gradient), found.output_change
