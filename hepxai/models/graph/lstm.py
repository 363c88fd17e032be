"""Recurrent networks over the particles of an event in the order of their transverse momenta."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from hepxai.events import Schema
from hepxai.models.card import LstmCard
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.network import ParticleNetworkModel
from hepxai.models.network import output_names
from hepxai.models.scaling import Standardise, dense_layers


def time_order(cloud: Cloud) -> Tensor:
    """Flat particle indices, event by event, highest pT first, ``[N]``.

    Particles of the same pT stay in the order of the events' columns.
    """
    by_pt = torch.argsort(cloud.p4[:, 0], descending=True, stable=True)
    return by_pt[torch.argsort(cloud.batch[by_pt], stable=True)]


class LstmNetwork(nn.Module):
    """Standardise → LSTM over the particles, highest pT first → (dropout → dense → ReLU)* → outputs.

    The outputs follow from the state after the last particle of an event, 0 for an event without particles.
    """

    def __init__(self, card: LstmCard, inputs: int, outputs: int) -> None:
        super().__init__()
        self.standardise = Standardise(inputs)
        between = card.dropout if card.layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, card.width, card.layers, batch_first=True, dropout=between)
        dropout = partial(nn.Dropout, card.dropout)
        self.head = nn.Sequential(*dense_layers(card.width, card.dense, outputs, (dropout,), nn.ReLU))

    def forward(self, cloud: Cloud) -> Tensor:
        """Outputs ``[B, O]``."""
        x = self.standardise(cloud.x).index_select(0, time_order(cloud))
        state = x.new_zeros(len(cloud), self.lstm.hidden_size)
        some = cloud.counts.nonzero()[:, 0]
        if len(some):
            steps = cloud.pad(x).index_select(0, some)
            # Packed: the padding after the last particle of an event is no step.
            packed = pack_padded_sequence(
                steps, cloud.counts[some].cpu(), batch_first=True, enforce_sorted=False
            )
            last = self.lstm(packed)[1][0][-1]
            state = state.index_copy(0, some, last)
        outputs: Tensor = self.head(state)
        return outputs


@dataclass(frozen=True, repr=False)
class LstmModel(ParticleNetworkModel):
    """A recurrent network on particles, with gradients with respect to their features.

    The particles are ordered by ``cloud.p4``: along a path of features their order stays the same.
    """

    network: LstmNetwork
    card: LstmCard

    @classmethod
    def fresh(cls, card: LstmCard, schema: Schema) -> Self:
        """Fresh network."""
        return cls(LstmNetwork(card, len(schema.features), len(output_names(card, schema))), card, schema)
