"""Attention coefficients as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepxai.attribution import Attribution, Pairs
from hepxai.events import Events
from hepxai.explain.base import CannotExplainError, Chunked, Explainer, register
from hepxai.jagged import offsets_from_counts, row_sum
from hepxai.models.base import HasAttention


@register("attention")
@dataclass(frozen=True, kw_only=True)
class Attention(Explainer):
    """α_ij per attention layer and head, for every ordered pair of particles.

    The coefficients of a receiver add up to 1 over its senders; the largest deviation is stored as the
    check ``max_row_deviation``. Attention says where the layer gathers from, not what the output hangs on:
    compare it with "edge_ig".
    """

    needs = HasAttention

    def attribute(self, model: HasAttention, events: Events, target: str) -> Attribution:
        """Coefficients, axes ("pair", "layer", "head")."""
        chunked = Chunked.of(events)
        layers: tuple[str, ...] = ()
        parts = []
        for cloud in chunked.clouds(self.name, progress=self.progress):
            found = model.attention(cloud)
            if not found:
                raise CannotExplainError(
                    "the model has no attention layer; edge_ig weights the edges of any layer"
                )
            layers = tuple(found)
            parts.append(_stack(found))
        pairs = Pairs.complete(events)
        values = chunked.per_pair(parts, pairs)
        if not parts:
            values, layers = np.zeros((0, 0, 0)), ()
        labels = {"layer": layers, "head": tuple(str(h) for h in range(values.shape[2]))}
        return Attribution(
            values,
            ("pair", "layer", "head"),
            events,
            self.name,
            target,
            settings=self.settings(),
            labels=labels,
            pairs=pairs,
        )

    def checks(self, found: Attribution) -> dict[str, float]:
        """Largest |Σ_j α_ij - 1| over receivers that have a sender; pairs come receiver by receiver."""
        counts = found.events.counts
        senders = np.repeat(np.maximum(counts - 1, 0), counts)
        rows = row_sum(found.values, offsets_from_counts(senders))[senders > 0]
        return {"max_row_deviation": float(np.abs(rows - 1).max(initial=0.0))}


def _stack(found: dict[str, Tensor]) -> Tensor:
    heads = {name: alpha.shape[1] for name, alpha in found.items()}
    if len(set(heads.values())) > 1:
        raise CannotExplainError(f"attention layers differ in heads {heads}: they share no head axis")
    return torch.stack(list(found.values()), dim=1)
