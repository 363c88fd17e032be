"""Wrapper for torch_geometric modules on complete particle graphs."""

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

from hepxai.core.chunks import chunk_rows, in_order
from hepxai.events import Events, Schema
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.layers import Messages, complete_edges
from hepxai.models.graph.neighbours import Neighbours
from hepxai.models.network import evaluating
from hepxai.models.protocols import EdgeCoefficients, EdgePath
from hepxai.models.schemas import same_inputs
from hepxai.models.wrappers.modules import as_logits, cast_like, naming_inputs, plain_module
from hepxai.models.wrappers.recorded import CLOSE, LayerCall, recording_calls

TESTED_EVENTS = 4
"""Number of events that test whether the nodes of a layer are the particles."""


def call_with_batch(module: nn.Module, batch: Batch) -> Tensor:
    """Apply a module whose ``forward`` takes a PyG ``Batch``."""
    logits: Tensor = module(batch)
    return logits


@dataclass(frozen=True)
class PygModel:
    """A torch_geometric module as a `hepxai` model.

    The module gets the complete graph of each event: every ordered pair of different particles is an edge.
    Edges are accessed through temporary PyG hooks; the module is not modified.

    Attributes
    ----------
    module : nn.Module
        Returns logits ``[B, O]``, or ``[B]`` for one output. A compiled or parallel one is unwrapped; it must
        be on the CPU.
    outputs : tuple of str, length O
        Names of the outputs; a tuple for a single output too: ``("signal",)``.
    call : callable
        ``(module, batch) -> logits``; needed if ``forward`` does not take a ``Batch``, e.g.
        ``lambda m, b: m(b.x, b.edge_index, b.batch)``.
    schema : Schema, optional
        Schema of the training events (``events.schema``). Events with other features, units or particle types
        are refused; without a schema, only events on which the module fails.

    Notes
    -----
    Neighbour searches inside the module are repeated at every point of an integration path; only networks of
    hepxai can freeze neighbours. The stored residual shows the size of the effect.

    Methods for pairs of particles refuse layers whose nodes are not the particles of the event.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    call: Callable[[nn.Module, Batch], Tensor] = call_with_batch
    schema: Schema | None = None
    view: str = field(default="graph", init=False)

    def __post_init__(self) -> None:
        outputs: object = self.outputs
        if isinstance(outputs, str):  # would pass as a sequence of letters
            raise TypeError(f"outputs={outputs!r} is a text; a tuple is needed: outputs=({outputs!r},)")
        object.__setattr__(self, "module", plain_module(self.module))

    @property
    def edge_layers(self) -> tuple[str, ...]:
        """Names of the message-passing layers, those of compiled ones as in the plain module."""
        names = (n for n, m in self.module.named_modules() if isinstance(m, MessagePassing))
        return tuple(name.replace("._orig_mod", "") for name in names)

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
            batch=cloud.batch.clone(),
            ptr=cloud.ptr.clone(),
        )
        batch._num_graphs = len(cloud)
        nothing, pairs = cloud.counts.new_zeros(len(cloud)), cloud.counts * (cloud.counts - 1)
        edges = torch.cat([pairs.new_zeros(1), pairs.cumsum(0)])  # for to_data_list, as in Events.graph
        batch._slice_dict = {"x": cloud.ptr, "p4": cloud.ptr, "edge_index": edges}
        batch._inc_dict = {"x": nothing, "p4": nothing, "edge_index": cloud.ptr[:-1]}
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
        """Empty: neighbours inside the module cannot be frozen."""
        return {}

    def attention(self, cloud: Cloud) -> Mapping[str, EdgeCoefficients]:
        """α_ij of the layers that compute a softmax over the senders of a particle.

        Raises
        ------
        ValueError
            If no layer with coefficients has attention between particles. If some layers have it, the others
            are left out with a warning.
        """
        with torch.no_grad(), ExitStack() as stack:
            layers = {n: self._layer(n) for n in self.edge_layers}
            calls = {n: stack.enter_context(recording_calls(m)) for n, m in layers.items()}
            self.forward_cloud(cloud)
        attention, problems = {}, []
        for name, layer_calls in calls.items():
            if not any(call.coefficients is not None for call in layer_calls):
                continue
            try:
                coefficients = self._checked_call(name, layer_calls, cloud).attention()
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
        """Logits as a function of a layer's edge weights.

        For a homogeneous aggregation (see `LayerCall.is_homogeneous`) the state at edge weight t is
        ``t * total``; for any other it is the vector of edge weights.

        Raises
        ------
        ValueError
            If the edges of the layer are not pairs of particles of an event, or it is not called once.
        """
        module = self._layer(layer)
        with torch.no_grad(), recording_calls(module) as calls:
            logits = self.forward_cloud(cloud)
        call = self._checked_call(layer, calls, cloud)
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
            def weigh(*arguments: Tensor) -> Tensor:
                return arguments[-1] * _column(weight, arguments[-1])

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
        module = getattr(module, "_orig_mod", module)  # of torch.compile
        assert isinstance(module, MessagePassing)
        if module.flow != "source_to_target":
            raise ValueError(f"layer {name} has flow {module.flow}; source_to_target is supported")
        return module

    def _checked_call(self, layer: str, calls: list[LayerCall], cloud: Cloud) -> LayerCall:
        """Only call of a layer, checked to have pairs of particles as edges; raises as `edge_path`."""
        if len(calls) != 1:  # one attribution cannot hold two sets of edges
            often = (
                f"sends messages {len(calls)} times for one batch: it is called again, or has several hops; "
                "use a separate module for each call (they may share parameters)"
            )
            never = "sends no messages: it is not called, or gets a sparse matrix; pass batch.edge_index"
            raise ValueError(f"layer {layer} {often if calls else never}. node_ig and shapley need no edges")
        problem = calls[0].problem(cloud) or self._order_problem(layer, cloud)
        if problem:
            others = ", ".join(n for n in self.edge_layers if n != layer)
            remedy = f"choose another layer with layer= ({others}); " if others else ""
            raise ValueError(f"layer {layer}: {problem}; {remedy}node_ig and shapley need no edges")
        return calls[0]

    def _order_problem(self, layer: str, cloud: Cloud) -> str | None:
        """Reason why the nodes of a layer are not the particles, tested by reversing their order; or None."""
        few = cloud.take((cloud.counts > 1).nonzero().flatten()[:TESTED_EVENTS])
        reverse = few.ptr[few.batch] + few.ptr[few.batch + 1] - 1 - torch.arange(len(few.x))
        nodes = []
        for part in (few, Cloud(few.x[reverse], few.p4[reverse], few.ptr)):
            with torch.no_grad(), recording_calls(self._layer(layer)) as calls:
                self.forward_cloud(part)
            nodes.append(calls[0].nodes)
        close = CLOSE * float(nodes[0].abs().max()) if nodes[0].numel() else 0.0
        if torch.allclose(nodes[1], nodes[0][reverse], rtol=0.0, atol=close):
            return None
        return (
            "its nodes do not follow the particles when these are reordered: they are pooled or sorted, or "
            "earlier layers depend on the order"
        )


def _column(weight: Tensor, like: Tensor) -> Tensor:
    """Weights ``[P]`` that multiply messages ``[P, ...]``."""
    return weight.view(-1, *(1 for _ in like.shape[1:]))
