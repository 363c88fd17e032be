"""Models that a user brings: any torch_geometric module on complete particle graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
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
from hepxai.models.base import EdgeCoefficients, EdgePath
from hepxai.models.cloud import Cloud
from hepxai.models.layers import Messages, complete_edges
from hepxai.models.modules import as_logits, cast_like, naming_inputs, plain_module
from hepxai.models.neighbours import Neighbours
from hepxai.models.network import evaluating, same_inputs
from hepxai.models.recorded import CLOSE, LayerCall, recording_calls

FEW = 4
"""Events of a batch on which is tried whether the nodes of a layer are the particles."""


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
        Returns logits ``[B, O]``, or ``[B]`` for one output. A compiled or parallel one is unwrapped; it must
        be on the CPU.
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

    Layers whose nodes are not the particles of the event are refused where pairs of particles are asked for.
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
        object.__setattr__(self, "module", plain_module(self.module))

    @property
    def edge_layers(self) -> tuple[str, ...]:
        """Names of the message-passing layers."""
        return tuple(n for n, m in self.module.named_modules() if isinstance(m, MessagePassing))

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Logits ``[E, O]``."""
        if self.schema is not None:
            same_inputs(self.schema, events.schema)
        chunks, whole, names = chunk_rows(events.counts), Cloud.of(events), events.schema.features
        with torch.no_grad(), naming_inputs(f"events with {len(names)} features ({', '.join(names)})"):
            parts = [self.forward_cloud(whole.take(torch.as_tensor(r))).double().numpy() for r in chunks]
        return in_order(parts, chunks, (0, len(self.outputs)))

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]``, differentiable, in evaluation mode."""
        batch = Batch(
            x=cast_like(cloud.x, self.module),
            p4=cast_like(cloud.p4, self.module),
            edge_index=torch.stack(complete_edges(cloud)),
            batch=cloud.batch,
            ptr=cloud.ptr,
        )
        batch._num_graphs = len(cloud)
        with evaluating(self.module):
            try:
                returned = self.call(self.module, batch)
            except (TypeError, AttributeError, KeyError) as problem:
                raise ValueError(
                    f"the module failed on a batch of events: {problem}; the batch has x, p4, edge_index, "
                    "batch and ptr: pass what forward takes, as in "
                    "call=lambda m, b: m(b.x, b.edge_index, b.batch)"
                ) from problem
        return as_logits(returned, len(cloud), self.outputs, "batch")

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Nothing that could be frozen from outside."""
        return {}

    def attention(self, cloud: Cloud) -> Mapping[str, EdgeCoefficients]:
        """α_ij of the layers that compute a softmax over the senders of a particle.

        Raises
        ------
        ValueError
            If coefficients are no attention, or not of particles, in all layers; other layers are named in a
            warning and left out.
        """
        with torch.no_grad(), ExitStack() as stack:
            layers = {n: self._layer(n) for n in self.edge_layers}
            calls = {n: stack.enter_context(recording_calls(m)) for n, m in layers.items()}
            self.forward_cloud(cloud)
        attention, problems = {}, []
        for name, several in calls.items():
            if not any(call.coefficients is not None for call in several):
                continue
            try:
                coefficients = self._of_particles(name, several, cloud).attention()
            except ValueError as problem:
                problems.append(str(problem))
                continue
            if isinstance(coefficients, EdgeCoefficients):
                attention[name] = coefficients
            else:
                problems.append(f"layer {name}: {coefficients}")
        if problems and not attention:
            raise ValueError("; ".join(problems) + "; edge_ig, node_ig and shapley need no attention")
        if problems:
            warnings.warn("left out of the attention: " + "; ".join(problems), stacklevel=2)
        return attention

    @contextmanager
    def edge_path(self, cloud: Cloud, layer: str) -> Iterator[EdgePath]:
        """Cut the module open at the messages of a layer.

        Where the aggregation of half the messages is half of the total, the state at edge weight t is
        ``t * total``; else it is the edge weights themselves.

        Raises
        ------
        ValueError
            If the edges of the layer are not pairs of particles of an event, or it is called more than once.
        """
        module = self._layer(layer)
        with torch.no_grad(), recording_calls(module) as calls:
            logits = self.forward_cloud(cloud)
        call = self._of_particles(layer, calls, cloud)
        order, total = call.order, call.total
        src, dst = call.edge_index[:, order]

        def contract(gradient: Tensor) -> Tensor:
            with torch.enable_grad():
                weight = torch.ones(len(call.message), dtype=total.dtype, requires_grad=True)
                weighted = call.message * _column(weight, call.message)
                aggregated = module.aggregate(weighted, **call.arguments)
                (shares,) = torch.autograd.grad(aggregated, weight, gradient)
            return shares[order]

        def after_total(state: Tensor, frozen: bool) -> Tensor:
            return self._hooked(module.register_aggregate_forward_hook, lambda *_: state, cloud)

        def after_weights(weight: Tensor, frozen: bool) -> Tensor:
            def weigh(*given: Tensor) -> Tensor:
                return given[-1] * _column(weight, given[-1])

            return self._hooked(module.register_message_forward_hook, weigh, cloud)

        if call.is_homogeneous(module):
            yield EdgePath(Messages(src, dst, torch.zeros_like(total), total, contract), logits, after_total)
        else:
            weight = torch.ones(len(order), dtype=total.dtype)
            messages = Messages(src, dst, torch.zeros_like(weight), weight, lambda gradient: gradient[order])
            yield EdgePath(messages, logits, after_weights)

    def _hooked(self, register: Callable[..., Any], hook: Callable[..., Tensor], cloud: Cloud) -> Tensor:
        handle = register(hook)
        try:
            return self.forward_cloud(cloud)
        finally:
            handle.remove()

    def _layer(self, name: str) -> MessagePassing:
        module = self.module.get_submodule(name)
        assert isinstance(module, MessagePassing)
        if module.flow != "source_to_target":
            raise ValueError(f"layer {name} has flow {module.flow}; source_to_target is supported")
        return module

    def _of_particles(self, layer: str, calls: list[LayerCall], cloud: Cloud) -> LayerCall:
        """The one call of a layer whose edges are pairs of particles; see `edge_path` for what is raised."""
        if len(calls) != 1:  # two sets of edges: one map could not tell them apart
            raise ValueError(
                f"the model calls layer {layer} {len(calls)} times for one batch, and its edges can be "
                "explained if it is called once: give each use a layer of its own (they may share parameters)"
            )
        problem = calls[0].problem(cloud) or self._order_problem(layer, cloud)
        if problem:
            others = ", ".join(n for n in self.edge_layers if n != layer)
            remedy = f"layer= chooses another layer ({others}); " if others else ""
            raise ValueError(f"layer {layer}: {problem}; {remedy}node_ig and shapley need no edges")
        return calls[0]

    def _order_problem(self, layer: str, cloud: Cloud) -> str | None:
        """Reason why the rows of a layer are not the particles, tried with the particles in reverse order."""
        several = (cloud.counts > 1).nonzero().flatten()[:FEW]
        few = cloud.take(several)
        turned = few.ptr[few.batch] + few.ptr[few.batch + 1] - 1 - torch.arange(len(few.x))
        nodes = []
        for part in (few, Cloud(few.x[turned], few.p4[turned], few.ptr)):
            with torch.no_grad(), recording_calls(self._layer(layer)) as calls:
                self.forward_cloud(part)
            nodes.append(calls[0].nodes)
        close = CLOSE * float(nodes[0].abs().max()) if nodes[0].numel() else 0.0
        if torch.allclose(nodes[1], nodes[0][turned], rtol=0.0, atol=close):
            return None
        return (
            "its nodes do not follow the particles when these come in another order: they are pooled or "
            "sorted, or earlier layers depend on the order"
        )


def _column(weight: Tensor, like: Tensor) -> Tensor:
    """Weights ``[P]`` that multiply messages ``[P, ...]``."""
    return weight.view(-1, *(1 for _ in like.shape[1:]))
