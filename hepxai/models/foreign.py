"""Models that a user brings: any torch_geometric module on complete particle graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing

from hepxai.chunks import chunk_rows, in_order
from hepxai.events import Events, Schema
from hepxai.models.base import EdgePath
from hepxai.models.cloud import Cloud
from hepxai.models.layers import Messages, complete_edges
from hepxai.models.neighbours import Neighbours
from hepxai.models.network import evaluating, same_inputs


def call_with_batch(module: nn.Module, batch: Batch) -> Tensor:
    """Apply a module whose ``forward`` takes a PyG ``Batch``."""
    logits: Tensor = module(batch)
    return logits


@dataclass(frozen=True)
class PygModel:
    """A torch_geometric module as a `hepxai` model.

    It is given the complete graph of each event: every ordered pair of different particles is an edge.
    Edges are reached through PyG's hooks, which are removed again; the module is never changed.

    Attributes
    ----------
    module : nn.Module
        Returns logits ``[B, O]``, or ``[B]`` for one output.
    outputs : tuple of str, length O
        Also for one output: ``("signal",)``.
    call : callable
        ``(module, batch) -> logits``; give one if ``forward`` takes something else than a ``Batch``, e.g.
        ``lambda m, b: m(b.x, b.edge_index, b.batch)``.
    schema : Schema, optional
        Of the events that the module was trained on (``events.schema``). Events with other features, units or
        particle types are refused; without it, only those that the module itself cannot take.

    Notes
    -----
    Layers of the module that search neighbours do so again at every point of a path: "frozen" neighbours
    are only kept by the package's own networks. The stored residual tells whether it matters.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    call: Callable[[nn.Module, Batch], Tensor] = call_with_batch
    schema: Schema | None = None
    view: str = field(default="graph", init=False)

    def __post_init__(self) -> None:
        given: object = self.outputs
        if isinstance(given, str):  # a text is a sequence too: of letters
            raise TypeError(f"outputs={given!r} is a text; a tuple is needed: outputs=({given!r},)")

    @property
    def edge_layers(self) -> tuple[str, ...]:
        """Names of the message-passing layers."""
        return tuple(n for n, m in self.module.named_modules() if isinstance(m, MessagePassing))

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Logits ``[E, O]``."""
        if self.schema is not None:
            same_inputs(self.schema, events.schema)
        chunks = chunk_rows(events.counts)
        whole = Cloud.of(events)
        with torch.no_grad(), _naming_features(events.schema):
            parts = [self.forward_cloud(whole.take(torch.as_tensor(r))).double().numpy() for r in chunks]
        return in_order(parts, chunks, (0, len(self.outputs)))

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]``, differentiable, in evaluation mode."""
        batch = Batch(
            x=cloud.x,
            p4=cloud.p4,
            edge_index=torch.stack(complete_edges(cloud)),
            batch=cloud.batch,
            ptr=cloud.ptr,
        )
        batch._num_graphs = len(cloud)
        with evaluating(self.module):
            logits = self.call(self.module, batch)
        shape = (len(cloud), len(self.outputs))
        if logits.numel() != shape[0] * shape[1]:
            raise ValueError(
                f"the module returned {tuple(logits.shape)} for {shape[0]} events and {self.outputs}"
            )
        return logits.view(shape)

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Nothing that could be frozen from outside."""
        return {}

    def attention(self, cloud: Cloud) -> dict[str, Tensor]:
        """α_ij ``[P, heads]`` of the layers that compute one over the complete graph."""
        found = {}
        with torch.no_grad(), ExitStack() as stack:
            seen = {n: stack.enter_context(_watching(self._layer(n))) for n in self.edge_layers}
            self.forward_cloud(cloud)
        src, dst = complete_edges(cloud)
        for name, record in seen.items():
            if record.get("alpha") is None:
                continue
            _require_one_call(name, record)
            alpha, order = record["alpha"], _event_order(record["edge_index"], cloud)
            if not torch.equal(record["edge_index"][:, order], torch.stack([src, dst])):
                raise ValueError(f"layer {name} attends over other edges than the pairs of particles")
            found[name] = alpha.reshape(len(src), -1)[order]
        return found

    @contextmanager
    def edge_path(self, cloud: Cloud, layer: str) -> Iterator[EdgePath]:
        """Cut the module open at the aggregation of a message-passing layer."""
        module = self._layer(layer)
        with torch.no_grad(), _watching(module) as record:
            logits = self.forward_cloud(cloud)
        _require_one_call(layer, record)
        message, total, aggregation = record["message"], record["total"], record["aggregation"]
        order = _event_order(record["edge_index"], cloud)

        def contract(gradient: Tensor) -> Tensor:
            with torch.enable_grad():
                weight = torch.ones(len(message), requires_grad=True)
                weighted = message * weight.view(-1, *(1 for _ in message.shape[1:]))
                (found,) = torch.autograd.grad(module.aggregate(weighted, **aggregation), weight, gradient)
            return found[order]

        def after(state: Tensor, frozen: bool) -> Tensor:
            with _hooked(module.register_aggregate_forward_hook(lambda *_: state)):
                return self.forward_cloud(cloud)

        src, dst = record["edge_index"][:, order]
        yield EdgePath(Messages(src, dst, torch.zeros_like(total), total, contract), logits, after)

    def _layer(self, name: str) -> MessagePassing:
        module = self.module.get_submodule(name)
        assert isinstance(module, MessagePassing)
        if module.flow != "source_to_target":
            raise ValueError(f"layer {name} has flow {module.flow}; source_to_target is supported")
        return module


@contextmanager
def _naming_features(schema: Schema) -> Iterator[None]:
    """Torch speaks of matrix sizes where the events are not those of the module's training."""
    try:
        yield
    except RuntimeError as problem:
        names = ", ".join(schema.features)
        raise ValueError(
            f"the module failed on events with {len(schema.features)} features ({names}): {problem}; "
            "are these what it was trained on, in this order?"
        ) from problem


def _require_one_call(layer: str, record: dict[str, Any]) -> None:
    """A layer that is used twice has two sets of edges: one map could not tell them apart."""
    if record["calls"] != 1:
        raise ValueError(
            f"the model calls layer {layer} {record['calls']} times for one batch, and its edges can be "
            "explained if it is called once: give each use a layer of its own (they may share parameters)"
        )


def _event_order(edge_index: Tensor, cloud: Cloud) -> Tensor:
    """Order of edges by receiver, then sender: events stay together."""
    src, dst = edge_index
    return torch.argsort(dst * len(cloud.x) + src, stable=True)


@contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _watching(module: MessagePassing) -> Iterator[dict[str, Any]]:
    """Record edges, messages, attention and aggregation of one pass."""
    record: dict[str, Any] = {"calls": 0}

    def on_edges(_: Any, inputs: Any) -> None:
        record["calls"] += 1
        record["edge_index"] = inputs[0]

    def on_message(_: Any, inputs: Any, output: Tensor) -> None:
        record["message"] = output.detach()
        alpha = inputs[0].get("alpha", getattr(module, "_alpha", None))
        record["alpha"] = None if alpha is None else alpha.detach()

    def on_aggregate(_: Any, inputs: Any, output: Tensor) -> None:
        record["total"], record["aggregation"] = output.detach(), inputs[0]

    handles = (
        module.register_propagate_forward_pre_hook(on_edges),
        module.register_message_forward_hook(on_message),
        module.register_aggregate_forward_hook(on_aggregate),
    )
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(_hooked(handle))
        yield record
