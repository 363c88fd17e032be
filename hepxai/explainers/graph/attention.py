"""Attention coefficients of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepxai.attribution import Attribution, Pairs
from hepxai.core.jagged import offsets_from_counts, row_sum
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Chunked, Explainer, register
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import EdgeCoefficients, HasAttention

ROUNDING = 1e-3
"""Deviation of a sum of coefficients from 1 that single precision may leave."""


@register("attention")
@dataclass(frozen=True, kw_only=True)
class Attention(Explainer):
    """α_ij per attention layer and head, for every ordered pair of particles.

    The coefficients of a receiver add up to 1 over its senders, itself included where the layer has self
    loops; the largest deviation is stored as the check ``max_row_deviation``. A pair without an edge has the
    coefficient 0. Attention is the weight of a message in a layer, not its effect on the output: compare it
    with "edge_ig".

    Attributes
    ----------
    layer : str, optional
        Attention layer to explain; by default all.
    """

    needs = HasAttention
    layer: str | None = None

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for models with attention; a torch_geometric module needs a message-passing layer."""
        return isinstance(model, HasAttention) and bool(getattr(model, "edge_layers", True))

    def attribute(self, model: HasAttention, events: Events, target: str) -> Attribution:
        """Coefficients, axes ("pair", "layer", "head"); ("pair", "head") if layers differ in heads."""
        chunked, pairs, layers = Chunked.of(events), Pairs.complete(events), self._layers(model, events)
        on_pairs, on_self = [], []
        for cloud in chunked.clouds(self.name, progress=self.progress):
            attention = model.attention(cloud)
            parts = [_on_all_pairs(name, attention[name], cloud) for name in layers]
            on_pairs.append(_stack_layers([part for part, _ in parts]))
            on_self.append(_stack_layers([loops for _, loops in parts]))
        axes, labels = _axes(layers)
        empty = np.zeros((0,) * len(axes))
        values = chunked.per_pair(on_pairs, pairs) if len(events) else empty
        loops = chunked.per_particle(on_self) if len(events) else empty
        return Attribution(
            values,
            axes,
            events,
            self.name,
            target,
            settings=self.settings(),
            labels=labels,
            pairs=pairs,
            self_values=loops if loops.any() else None,
        )

    def checks(self, found: Attribution) -> dict[str, float]:
        """Largest |Σ_j α_ij - 1| over receivers with a nonzero coefficient; pairs are sorted by receiver."""
        counts = found.events.counts
        senders = np.repeat(np.maximum(counts - 1, 0), counts)
        rows = row_sum(found.values, offsets_from_counts(senders))
        rows = rows if found.self_values is None else rows + found.self_values
        receiving = rows[rows.any(axis=tuple(range(1, rows.ndim))) & (senders > 0)]
        return {"max_row_deviation": float(np.abs(receiving - 1).max(initial=0.0))}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Coefficients of a receiver that do not sum to 1."""
        deviation = checks["max_row_deviation"]
        if deviation <= ROUNDING:
            return ()
        return (f"coefficients of a receiver add up to 1 only within {deviation:.2g}: not a softmax",)

    def _layers(self, model: HasAttention, events: Events) -> dict[str, int]:
        """Heads of each explained layer, from the largest event, which best tells a softmax from a mean."""
        if not len(events):
            return {}
        attention = model.attention(Cloud.of(events[[int(np.argmax(events.counts))]]))
        if not attention:
            raise CannotExplainError(
                "the model has no attention layer that is recognised: none whose messages are x_j times a "
                "softmax over the senders (a layer of your own may store its coefficients as self._alpha; "
                "nn.MultiheadAttention is not read); edge_ig weights the edges of any message-passing layer"
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


def _axes(layers: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Axes and labels for the heads of each layer."""
    if len(set(layers.values())) > 1:
        heads = tuple(f"{name} {head}" for name, size in layers.items() for head in range(size))
        return ("pair", "head"), {"head": heads}
    heads = tuple(str(head) for head in range(max(layers.values(), default=0)))
    return ("pair", "layer", "head"), {"layer": tuple(layers), "head": heads}
