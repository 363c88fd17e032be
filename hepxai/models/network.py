"""Torch models of the package: a network, its card and the schema of its training events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.core.chunks import chunk_rows, in_order
from hepxai.events import Events, Schema
from hepxai.models.card import KINDS, ModelCard, NetworkCard, resolve
from hepxai.models.graph.cloud import Cloud
from hepxai.models.hooks import last_layer_of_chunks, last_linear
from hepxai.models.losses import event_loss
from hepxai.models.schemas import same_inputs
from hepxai.models.storage import Arrays, load_model, save_model
from hepxai.models.wrappers.modules import eager


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Freeze dropout and batch statistics, and restore the mode of every module afterwards."""
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        with eager():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def constant(network: nn.Module) -> Iterator[None]:
    """Evaluate with constant parameters: no gradients are computed for them."""
    free = [p for p in network.parameters() if p.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        with evaluating(network):
            yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)


class Inputs(Protocol):
    """Inputs of a network for all events of a population: `Cloud`, `hepxai.models.table.rows.Rows`."""

    @staticmethod
    def of(events: Events) -> Inputs:
        """Inputs of events."""
        ...

    def take(self, rows: Tensor) -> Any:
        """Argument of the network for some of the events."""
        ...

    def to(self, device: str | torch.device) -> Inputs:
        """Move to a device."""
        ...

    def __len__(self) -> int: ...

    @property
    def counts(self) -> Tensor:
        """Particles per event, ``[B]``, as a measure of memory; see `hepxai.core.chunks`."""
        ...


@dataclass(frozen=True)
class NetworkModel(ABC):
    """A network with everything needed to apply it to events; one subclass for each kind of card.

    Attributes
    ----------
    network : nn.Module
        Map from ``inputs.of(events).take(rows)`` to logits ``[B, O]``.
    card : NetworkCard
    schema : Schema
        Of the events it was trained on; others are refused.
    inputs : type
        Inputs of the network (class attribute).
    """

    network: nn.Module
    card: NetworkCard
    schema: Schema
    inputs: ClassVar[type[Inputs]] = Cloud

    def __repr__(self) -> str:
        image, names = self.schema.image, ", ".join(self.schema.features)
        names = ", ".join(self.schema.globals) if self.view == "table" else names
        if self.view == "image" and image is not None:
            names = "images " + " x ".join(map(str, image.shape))
        size = sum(p.numel() for p in self.network.parameters())
        return f"<{type(self).__name__}: {', '.join(self.outputs)} of {names}, {size:,} weights>"

    @staticmethod
    def build(card: NetworkCard, schema: Schema) -> NetworkModel:
        """Fresh network of the card's kind; call under a seed."""
        model: NetworkModel = resolve(KINDS[card.kind].model).fresh(card, schema)
        return model

    @classmethod
    @abstractmethod
    def fresh(cls, card: Any, schema: Schema) -> Self:
        """Fresh network of this kind."""

    @property
    def view(self) -> str:
        """View of the events that the model takes."""
        return self.card.view

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs.

        One logit for two classes, named after the second class, one per class otherwise; of a regression its
        targets.
        """
        return output_names(self.card, self.schema)

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Outputs ``[E, O]``, in chunks of flat memory."""
        self.check(events)
        inputs = self.inputs.of(events)
        chunks = chunk_rows(inputs.counts.numpy())
        with torch.inference_mode(), evaluating(self.network):
            parts = [self.network(inputs.take(torch.as_tensor(rows))).double().numpy() for rows in chunks]
        return in_order(parts, chunks, (0, len(self.outputs)))

    def check(self, events: Events) -> None:
        """Refuse events whose features are not those of the training."""
        same_inputs(self.schema, events.schema)

    # --- training ----------------------------------------------------------------------------

    @abstractmethod
    def adapt(self, events: Events) -> None:
        """Compute the scales of the inputs, which are not learned, from the training events."""

    def rescale(self, scale: Tensor, shift: Tensor) -> None:
        """Replace the outputs by ``scale * outputs + shift``, in the weights of the last layer.

        Parameters
        ----------
        scale, shift : Tensor, shape [O] or no shape
        """
        last = last_linear(self.network)
        with torch.no_grad():
            last.weight.mul_(scale.to(last.weight).reshape(-1, 1))
            last.bias.mul_(scale.to(last.bias)).add_(shift.to(last.bias))

    def training_pass(self, batch: Any) -> tuple[Tensor, Tensor | float]:
        """Outputs ``[B, O]`` of a batch, and a penalty that is added to the loss."""
        return self.network(batch), 0.0

    # --- for the influence of training events --------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """Torch module that holds the trained parameters."""
        return self.network

    def last_layer(self, events: Events) -> tuple[Tensor, Tensor]:
        """Output ``[E, O]`` and input ``[E, H]`` of the last linear layer, as `HasLastLayer` asks."""
        self.check(events)
        inputs, last = self.inputs.of(events), last_linear(self.network)
        with evaluating(self.network):
            return last_layer_of_chunks(
                last,
                lambda rows: self.network(inputs.take(torch.as_tensor(rows))),
                chunk_rows(inputs.counts.numpy()),
            )

    @property
    def loss(self) -> str:
        """Loss that the network was trained with."""
        return self.card.training.loss

    def training_loss(self, z: Tensor, events: Events) -> Tensor:
        """Loss ``[E]`` of every event, weights left out; of a regression in the units of the targets."""
        return event_loss(self.card.training.loss, z, events)

    # --- storage -----------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write weights, card and schema to one safetensors file."""
        state = {k: v.detach().cpu().numpy() for k, v in self.network.state_dict().items()}
        save_model(path, state, self.card, self.schema)

    @staticmethod
    def load(path: str | Path) -> NetworkModel:
        """Read a file of `save`, of any kind. Executes nothing from the file."""
        model = load_model(path)
        if not isinstance(model, NetworkModel):
            raise ValueError(f"{path} holds {model.card.kind}, no network; use hepxai.models.load_model")
        return model

    @staticmethod
    def restored(arrays: Arrays, card: NetworkCard, schema: Schema) -> NetworkModel:
        """Model from the content of a file; see `hepxai.models.storage.load_model`."""
        with torch.random.fork_rng(devices=[]):  # the replaced weights leave the random state alone
            model = NetworkModel.build(card, schema)
        model.network.load_state_dict({k: torch.as_tensor(v) for k, v in arrays.items()})
        return model


def output_names(card: ModelCard, schema: Schema) -> tuple[str, ...]:
    """Names of the outputs of a model of this card; a ValueError for a regression without targets."""
    if card.training.regression and not schema.targets:
        raise ValueError(
            "training.loss: mae and mse learn `targets`, the data-set card declares none; declare them, or "
            "choose cross_entropy"
        )
    if card.training.regression:
        return schema.targets
    return schema.classes[1:] if len(schema.classes) == 2 else schema.classes
