"""Dense networks on the event-level table."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.events import Events, Schema
from hepxai.models.card import DenseCard
from hepxai.models.network import NetworkModel, constant, output_names
from hepxai.models.scaling import StandardiseColumns
from hepxai.models.schemas import need_columns, same_columns
from hepxai.models.table.rows import Rows, finite_columns, warn_of_constants
from hepxai.models.wrappers.table import TableModel


def dense_network(card: DenseCard, inputs: int, outputs: int) -> nn.Sequential:
    """Standardise → (dense → activation → dropout)* → outputs, for rows ``[B, G]`` of physical values."""
    steps: OrderedDict[str, nn.Module] = OrderedDict(standardise=StandardiseColumns(inputs))
    for number, width in enumerate(card.widths, start=1):
        steps[f"dense_{number}"] = _dense(inputs, width, card.activation)
        steps[f"{card.activation}_{number}"] = nn.SELU() if card.activation == "selu" else nn.ReLU()
        if card.dropout:
            off = nn.AlphaDropout if card.activation == "selu" else nn.Dropout
            steps[f"dropout_{number}"] = off(card.dropout)
        inputs = width
    return nn.Sequential(OrderedDict(steps, readout=nn.Linear(inputs, outputs)))


def _dense(inputs: int, width: int, activation: str) -> nn.Linear:
    layer = nn.Linear(inputs, width)
    if activation == "selu":  # LeCun's initialisation keeps mean 0 and variance 1 from layer to layer
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True, repr=False)
class DenseModel(NetworkModel):
    """A dense network on the event-level table, with gradients and hidden neurons."""

    network: nn.Sequential
    card: DenseCard
    inputs = Rows

    @classmethod
    def fresh(cls, card: DenseCard, schema: Schema) -> Self:
        """Fresh network."""
        need_columns(schema)
        size = len(output_names(card, schema))
        return cls(dense_network(card, len(schema.globals), size), card, schema)

    def adapt(self, events: Events) -> None:
        """Standardise the columns with their mean and spread."""
        self.network.get_submodule("standardise").fit(Rows.of(events).x)  # type: ignore[operator]
        warn_of_constants(events)

    def check(self, events: Events) -> None:
        """Refuse events whose table is not that of the training, or is not finite."""
        same_columns(self.schema, events.schema)
        finite_columns(events)

    # --- for explainers -----------------------------------------------------------------------

    @property
    def _table(self) -> TableModel:
        hidden = tuple(f"dense_{i + 1}" for i in range(len(self.card.widths)))
        return TableModel(self.network, self.outputs, self.schema, hidden)

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """``dense_1``, ``dense_2``, …."""
        return self._table.hidden_layers

    def score_table(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Outputs ``[E, O]`` of rows of the table."""
        return self._table.score_table(x)

    def forward_table(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]``, differentiable, in evaluation mode."""
        with constant(self.network):
            return self._table.forward_table(x)

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs ``[B, O]`` and the values ``[B, H]`` of every hidden layer, before the activation."""
        with constant(self.network):
            return self._table.forward_hidden(x)
