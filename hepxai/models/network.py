"""The package's own torch models: a network, its card and the schema that it was trained on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.chunks import chunk_rows, in_order
from hepxai.events import Events, Schema
from hepxai.files import read_tensors, write_tensors
from hepxai.models.base import EdgePath
from hepxai.models.card import ModelCard
from hepxai.models.cloud import Cloud
from hepxai.models.neighbours import Neighbours
from hepxai.models.particle_gnn import ParticleGNN


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Freeze dropout and batch statistics, and put every module's own mode back afterwards."""
    learning = [module for module in network.modules() if module.training]
    if learning:
        network.eval()
    try:
        yield
    finally:
        for module in learning:
            module.training = True


@contextmanager
def constant(network: nn.Module) -> Iterator[None]:
    """Evaluate with parameters that are numbers: no gradient is worked out for them."""
    free = [p for p in network.parameters() if p.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        with evaluating(network):
            yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)


def same_inputs(mine: Schema, theirs: Schema) -> None:
    """Refuse events that mean something else than those of a model's training.

    Raises
    ------
    ValueError
        If features, pair features, particle types or units are not the same, in the same order.
    """
    for what in ("features", "pair_features", "types", "units"):
        if getattr(mine, what) != getattr(theirs, what):
            raise ValueError(
                f"the model was trained on {what} {getattr(mine, what)}, these events have "
                f"{getattr(theirs, what)}; read them with the data-set card of the training"
            )


@dataclass(frozen=True)
class NetworkModel:
    """A particle graph network with everything needed to apply it to events.

    Attributes
    ----------
    network : ParticleGNN
    card : ModelCard
    schema : Schema
        Of the events it was trained on; others are refused.
    outputs : tuple of str
        One logit for two classes, named after the second class; one per class otherwise.
    """

    network: ParticleGNN
    card: ModelCard
    schema: Schema
    view: str = "graph"

    @staticmethod
    def build(card: ModelCard, schema: Schema) -> NetworkModel:
        """Fresh network; call under a seed."""
        size = 1 if len(schema.classes) == 2 else len(schema.classes)
        network = ParticleGNN(card, len(schema.features), size, schema.pair_features)
        return NetworkModel(network, card, schema)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the logits."""
        classes = self.schema.classes
        return classes[1:] if len(classes) == 2 else classes

    @property
    def edge_layers(self) -> tuple[str, ...]:
        """Layers whose edges can be weighted."""
        return self.network.layer_names

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Logits ``[E, O]``, in chunks of flat memory."""
        self.check(events)
        chunks = chunk_rows(events.counts)
        with torch.inference_mode(), evaluating(self.network):
            whole = Cloud.of(events)
            parts = [self.network(whole.take(torch.as_tensor(rows))).double().numpy() for rows in chunks]
        return in_order(parts, chunks, (0, len(self.outputs)))

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]``, differentiable, in evaluation mode."""
        with constant(self.network):
            logits: Tensor = self.network(cloud, neighbours)
            return logits

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Neighbours of each dynamic layer."""
        with torch.no_grad(), evaluating(self.network):
            return self.network.neighbour_lists(cloud)

    def attention(self, cloud: Cloud) -> dict[str, Tensor]:
        """α_ij of each attention layer, ``[P, heads]``."""
        with torch.no_grad(), evaluating(self.network):
            return self.network.attention(cloud)

    @contextmanager
    def edge_path(self, cloud: Cloud, layer: str) -> Iterator[EdgePath]:
        """Cut the network open at the edges of a layer."""
        with constant(self.network):
            yield self.network.edge_path(cloud, layer)

    def check(self, events: Events) -> None:
        """Refuse events whose features are not those of the training."""
        same_inputs(self.schema, events.schema)

    # --- storage -----------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write weights, card and schema to one safetensors file."""
        state = {k: v.detach().cpu().numpy() for k, v in self.network.state_dict().items()}
        kept = {"card": self.card.model_dump_json(), "schema": json.dumps(dataclasses.asdict(self.schema))}
        write_tensors(path, state, kept)

    @staticmethod
    def load(path: str | Path) -> NetworkModel:
        """Read what `save` wrote. Executes nothing from the file."""
        tensors, kept = read_tensors(path)
        if not {"card", "schema"} <= kept.keys():
            raise ValueError(f"{path} has no hepxai model card in its header; it was not written by hepxai")
        schema = Schema(**{k: tuple(v) for k, v in json.loads(kept["schema"]).items()})
        with torch.random.fork_rng(devices=[]):  # the fresh weights that are replaced cost no random numbers
            model = NetworkModel.build(ModelCard.model_validate_json(kept["card"]), schema)
        model.network.load_state_dict({k: torch.as_tensor(v) for k, v in tensors.items()})
        return model
