"""Attention coefficients of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.jagged import offsets_from_counts, row_sum
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Explainer, Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import register, working
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import EdgeCoefficients, HasAttention

ROUNDING = 1e-3
"""Deviation of a sum of coefficients from 1 that single precision may leave."""


@dataclass(frozen=True, kw_only=True)
class PreparedAttention(Prepared):
    """Attention of some layers.

    Attributes
    ----------
    heads : mapping of str to int
        Heads of each explained layer.
    """

    heads: Mapping[str, int]

    @property
    def axes(self) -> tuple[str, ...]:
        """("pair", "layer", "head"), or ("pair", "head") if layers differ in heads."""
        return ("pair", "head") if len(set(self.heads.values())) > 1 else ("pair", "layer", "head")

    def labels(self, events: Events) -> dict[str, tuple[str, ...]]:
        """Names of layers and heads."""
        if self.axes == ("pair", "head"):
            names = (f"{layer} {head}" for layer, size in self.heads.items() for head in range(size))
            return {"head": tuple(names)}
        heads = range(max(self.heads.values(), default=0))
        return {"layer": tuple(self.heads), "head": tuple(map(str, heads))}


@register("attention")
class Attention(Explainer):
    """α_ij per attention layer and head, for every ordered pair of particles.

    The coefficients of a receiver add up to 1 over its senders, itself included where the layer has self
    loops; the largest deviation is stored as the check ``max_row_deviation``. A pair without an edge has the
    coefficient 0. Attention is the weight of a message in a layer, not its effect on the output: compare it
    with "edge_ig".

    Attributes
    ----------
    layer : str, optional
        Attention layer to explain; by default all. The calls of a layer that a torch_geometric module calls
        several times are named "conv#1", "conv#2" …
    """

    title = "attention"
    short_title = "attention"
    unit = "attention"
    sign = "positive"
    axes = ("pair", "layer", "head")
    default_for = "graph"
    needs = HasAttention
    tells_outputs_apart = False
    layer: str | None = None

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for models with attention; a torch_geometric module needs a message-passing layer."""
        return isinstance(model, HasAttention) and bool(getattr(model, "edge_layers", True))

    def prepare(self, model: HasAttention, events: Events, target: str) -> PreparedAttention:
        """Compute the layers and their heads."""
        heads = self._heads(model, events)
        return PreparedAttention(explainer=self, model=model, target=target, heads=heads)

    def attribute_batch(self, prepared: PreparedAttention, batch: Batch[Cloud]) -> Part:
        """Coefficients of all pairs, and of self loops."""
        attention = prepared.model.attention(batch.x)
        layers = [_on_all_pairs(name, attention[name], batch.x) for name in prepared.heads]
        on_pairs, on_self = (_stack_layers(part) for part in zip(*layers, strict=True))
        shares = [getattr(attention[name], "virtual", None) for name in prepared.heads]
        virtual = [share for share in shares if share is not None]
        checks = {"virtual_attention": float(np.mean(virtual))} if virtual else {}
        return Part(values=on_pairs, self_values=on_self, checks=checks)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Largest |Σ_j α_ij - 1| over receivers with a nonzero coefficient; pairs are sorted by receiver.

        Of layers with virtual nodes instead the mean attention to these, which is in no pair.
        """
        if attribution.checks:
            return dict(attribution.checks)
        counts = attribution.events.counts
        senders = np.repeat(np.maximum(counts - 1, 0), counts)
        rows = row_sum(attribution.values, offsets_from_counts(senders))
        rows = rows if attribution.self_values is None else rows + attribution.self_values
        receiving = rows[rows.any(axis=tuple(range(1, rows.ndim))) & (senders > 0)]
        return {"max_row_deviation": float(np.abs(receiving - 1).max(initial=0.0))}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Coefficients of a receiver that do not sum to 1, or include those of virtual nodes."""
        if (share := checks.get("virtual_attention")) is not None:
            return (f"{100 * share:.0f} % of the attention goes to virtual nodes and is in no pair",)
        deviation = checks["max_row_deviation"]
        if deviation <= ROUNDING:
            return ()
        return (f"coefficients of a receiver add up to 1 only within {deviation:.2g}: not a softmax",)

    def _heads(self, model: HasAttention, events: Events) -> dict[str, int]:
        """Heads of each explained layer, from the largest event, which best tells a softmax from a mean."""
        if not len(events):
            return {}
        attention = model.attention(Cloud.of(events[[int(np.argmax(events.counts))]]))
        if not attention:
            reason = getattr(
                model,
                "no_attention",
                "none whose messages are x_j times a softmax over the senders (a layer of your own may store "
                "its coefficients as self._alpha; nn.MultiheadAttention is not read)",
            )
            raise CannotExplainError(
                f"the model has no attention layer that is recognised: {reason}; "
                f"{working(model, but='attention')}"
            )
        if self.layer is not None and self.layer not in attention:
            raise KeyError(f"no attention layer {self.layer!r}; there are {', '.join(attention)}")
        values = {n: a if isinstance(a, Tensor) else a.values for n, a in attention.items()}
        return {n: v.shape[1] for n, v in values.items() if self.layer in (None, n)}


def _on_all_pairs(name: str, alpha: Tensor | EdgeCoefficients, cloud: Cloud) -> tuple[Tensor, Tensor]:
    """Coefficients of all pairs ``[P, heads]``, and of the self loops ``[N, heads]``; 0 without an edge."""
    n_pairs = int((cloud.counts * (cloud.counts - 1)).sum())
    if isinstance(alpha, Tensor):
        if len(alpha) != n_pairs:
            raise ValueError(
                f"the attention of layer {name} has {len(alpha)} rows for {n_pairs} pairs of different "
                "particles; for other edges, such as a diagonal, return "
                "hepxai.models.protocols.EdgeCoefficients(src, dst, values)"
            )
        return alpha, alpha.new_zeros(len(cloud.x), alpha.shape[1])
    src, dst, values = alpha.src, alpha.dst, alpha.values
    event, loop = cloud.batch[dst], src == dst
    first = torch.cat([event.new_zeros(1), (cloud.counts * (cloud.counts - 1)).cumsum(0)])
    sender, receiver = src - cloud.ptr[event], dst - cloud.ptr[event]
    position = first[event] + receiver * (cloud.counts[event] - 1) + sender - (sender > receiver).long()
    on_pairs = values.new_zeros(n_pairs, values.shape[1]).index_add(0, position[~loop], values[~loop])
    return on_pairs, values.new_zeros(len(cloud.x), values.shape[1]).index_add(0, dst[loop], values[loop])


def _stack_layers(parts: Sequence[Tensor]) -> Tensor:
    """Layers side by side ``[., layer, head]``, or ``[., head]`` where they differ in heads."""
    same = len({part.shape[1] for part in parts}) == 1
    return torch.stack(list(parts), dim=1) if same else torch.cat(list(parts), dim=1)
