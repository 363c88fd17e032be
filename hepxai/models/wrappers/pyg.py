"""Wrapper for torch_geometric modules on particle graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.pool.select import SelectTopK

from hepxai.core.chunks import chunk_rows, in_order
from hepxai.events import Events, Schema
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.layers import Messages, complete_edges
from hepxai.models.graph.neighbours import Neighbours
from hepxai.models.network import evaluating
from hepxai.models.protocols import EdgeCoefficients, EdgePath
from hepxai.models.schemas import checked_outputs, same_inputs
from hepxai.models.wrappers.knn import searching
from hepxai.models.wrappers.modules import as_logits, call_module, cast_like, naming_inputs, plain_module
from hepxai.models.wrappers.nodes import NodeMap, node_maps, same_states, unknown_nodes
from hepxai.models.wrappers.recorded import LayerCall, recording_calls

TESTED_EVENTS = 4
"""Number of events that test whether the nodes of a layer are the particles."""


@dataclass(frozen=True)
class PygModel:
    """A torch_geometric module as a `hepxai` model.

    The module gets the complete graph of each event, every ordered pair of different particles, unless
    ``edges`` makes others. Edges are accessed through temporary PyG hooks; the module is not modified. The
    calls of a layer that is called several times for a batch are numbered: "conv#1", "conv#2" …

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
    edges : callable, optional
        ``(batch) -> edge_index`` or ``(batch) -> (edge_index, edge_attr)``: edges of the module's input, from
        ``batch.x``, ``batch.p4`` and ``batch.batch``; see `hepxai.models.knn_edges`.
    schema : Schema, optional
        Schema of the training events (``events.schema``). Events with other features, units or particle types
        are refused; without a schema, only events on which the module fails.

    Notes
    -----
    Searches of `hepxai.models.knn_edges`, inside the module or in ``edges``, can be frozen along an
    integration path. Other neighbour searches are repeated at every point; the stored residual shows the size
    of the effect.

    Methods for pairs of particles need layers whose nodes are the particles of the event, those that
    TopKPooling or SAGPooling leaves, or the particles and one virtual node per event. Messages from and to a
    virtual node keep the weight 1, are no pairs, and their share is a check of the result.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    call: Callable[[nn.Module, Batch], Tensor] = call_module
    schema: Schema | None = None
    edges: Callable[[Batch], Tensor | tuple[Tensor, Tensor]] | None = None
    numbered_calls: ClassVar[bool] = True
    view: str = field(default="graph", init=False)

    def __post_init__(self) -> None:
        checked_outputs(self.outputs)
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
        """Logits ``[B, O]``, differentiable, in evaluation mode; with the results of earlier searches."""
        return self._forward(cloud, neighbours)[0]

    def _forward(
        self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None
    ) -> tuple[Tensor, dict[str, Neighbours]]:
        """Logits, and the results of the neighbour searches."""
        with searching(neighbours) as searches, evaluating(self.module):
            batch = as_batch(cloud, self.module)
            if self.edges is not None:
                set_edges(batch, self.edges(batch))
            try:
                returned = self.call(self.module, batch)
            except (TypeError, AttributeError, KeyError) as problem:
                attributes = ", ".join(sorted(batch.keys()))
                raise ValueError(
                    f"the module failed on a batch of events: {problem}; the batch has {attributes}: pass "
                    "what forward takes, as in call=lambda m, b: m(b.x, b.edge_index, b.batch)"
                ) from problem
        return as_logits(returned, len(cloud), self.outputs, "batch"), searches.results

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Results of `hepxai.models.knn_edges`; other searches cannot be frozen."""
        with torch.no_grad():
            return self._forward(cloud)[1]

    def attention(self, cloud: Cloud) -> Mapping[str, EdgeCoefficients]:
        """α_ij of the layers that compute a softmax over the senders of a particle.

        Raises
        ------
        ValueError
            If no layer with coefficients has attention between particles. If some layers have it, the others
            are left out with a warning.
        """
        with torch.no_grad(), ExitStack() as stack:
            layers = {n: stack.enter_context(self._recording(n)) for n in self.edge_layers}
            self.forward_cloud(cloud)
        attention, problems = {}, []
        for layer, calls in layers.items():
            names = [layer] if len(calls) == 1 else [f"{layer}#{i + 1}" for i in range(len(calls))]
            for i, name in enumerate(names):
                if calls[i].coefficients is None:
                    continue
                try:
                    attention[name] = self._attention(layer, i, calls[i], cloud)
                except ValueError as problem:
                    problems.append(str(problem))
        if problems and not attention:
            raise ValueError("; ".join(problems) + "; edge_ig, node_ig and shapley need no attention")
        if problems:
            warnings.warn("left out of the attention: " + "; ".join(problems), stacklevel=2)
        return attention

    def _attention(self, layer: str, number: int, call: LayerCall, cloud: Cloud) -> EdgeCoefficients:
        nodes, alpha = self._node_map(layer, number, call, cloud), call.coefficients
        assert alpha is not None
        if problem := call.not_attention():
            raise ValueError(f"layer {layer}: {problem}")
        position, src, dst = nodes.pairs(call)
        virtual = None
        if nodes.has_virtual:
            sender, receiver = nodes.particle[call.edge_index]
            sums = float(alpha[(sender < 0) & (receiver >= 0)].sum())
            virtual = sums / max(alpha.shape[1] * len(torch.unique(receiver[receiver >= 0])), 1)
        return EdgeCoefficients(src, dst, alpha[position], virtual)

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
        layer, number = self._choice(layer)
        module = self._layer(layer)
        with torch.no_grad(), self._recording(layer) as calls:
            logits, lists = self._forward(cloud)
        number, call = _chosen_call(layer, number, calls)
        nodes = self._node_map(layer, number, call, cloud)
        position, src, dst = nodes.pairs(call)
        total, pairs = call.total, len(position)

        def contract(gradient: Tensor) -> Tensor:
            with torch.enable_grad():
                weight = torch.ones(len(call.message), dtype=total.dtype, requires_grad=True)
                weighted = call.message * _column(weight, call.message)
                aggregated = module.aggregate(weighted, **call.arguments)
                (shares,) = torch.autograd.grad(aggregated, weight, gradient)
            return shares[position]

        def after_total(state: Tensor, frozen: bool) -> Tensor:
            with _changed_call(module.register_aggregate_forward_hook, number, lambda *_: state):
                return self.forward_cloud(cloud, lists if frozen else None)

        def after_weights(state: Tensor, frozen: bool) -> Tensor:
            weight = state.new_ones(len(call.message)).index_copy(0, position, state)
            with _changed_call(
                module.register_message_forward_hook, number, lambda *a: a[-1] * _column(weight, a[-1])
            ):
                return self.forward_cloud(cloud, lists if frozen else None)

        if not nodes.has_virtual and call.is_homogeneous(module):
            yield EdgePath(Messages(src, dst, torch.zeros_like(total), total, contract), logits, after_total)
        else:
            weight = torch.ones(pairs, dtype=total.dtype)
            messages = Messages(src, dst, torch.zeros_like(weight), weight, lambda gradient: gradient)
            virtual = 1 - pairs / max(len(call.message), 1) if nodes.has_virtual else None
            yield EdgePath(messages, logits, after_weights, virtual)

    def _recording(self, layer: str) -> AbstractContextManager[list[LayerCall]]:
        poolings = [m for m in self.module.modules() if isinstance(m, SelectTopK)]
        return recording_calls(self._layer(layer), poolings)

    def _choice(self, layer: str) -> tuple[str, int | None]:
        """Name of the layer and position of the call in "conv#2"."""
        name, _, number = layer.partition("#")
        if number and not (number.isdigit() and int(number)):
            raise ValueError(f"layer {layer!r}: the calls of a layer are numbered {name}#1, {name}#2 …")
        return name, int(number) - 1 if number else None

    def _layer(self, name: str) -> MessagePassing:
        module = self.module.get_submodule(name)
        module = getattr(module, "_orig_mod", module)  # of torch.compile
        assert isinstance(module, MessagePassing)
        if module.flow != "source_to_target":
            raise ValueError(f"layer {name} has flow {module.flow}; source_to_target is supported")
        return module

    def _node_map(self, layer: str, number: int, call: LayerCall, cloud: Cloud) -> NodeMap:
        """Particles behind the nodes of a call; raises as `edge_path`."""
        problem = unknown_nodes(call, cloud)
        for nodes in node_maps(call, cloud):
            problem = nodes.problem(call) or self._order_problem(layer, number, nodes, cloud) or ""
            if not problem:
                return nodes
        others = ", ".join(n for n in self.edge_layers if n != layer)
        remedy = f"choose another layer with layer= ({others}); " if others else ""
        raise ValueError(f"layer {layer}: {problem}; {remedy}node_ig and shapley need no edges")

    def _order_problem(self, layer: str, number: int, nodes: NodeMap, cloud: Cloud) -> str | None:
        """Reason why the nodes of a layer are not the particles, tested by reversing their order; or None."""
        few = cloud.take((cloud.counts > 1).nonzero().flatten()[:TESTED_EVENTS])
        reverse = few.ptr[few.batch] + few.ptr[few.batch + 1] - 1 - torch.arange(len(few.x))
        states = []
        for part in (few, Cloud(few.x[reverse], few.p4[reverse], few.ptr)):
            with torch.no_grad(), self._recording(layer) as calls:
                self.forward_cloud(part)
            same = [
                m for c in calls[number : number + 1] for m in node_maps(c, part) if m.order == nodes.order
            ]
            if not same:
                return "its nodes in another batch are of another kind"
            states.append(same[0].by_particle(calls[number].nodes, part))
        events = torch.arange(len(few.x), len(few.x) + len(few))
        if same_states(states[1], states[0][torch.cat([reverse, events])]):
            return None
        return (
            "its nodes do not follow the particles when these are reordered: they are pooled or sorted, or "
            "earlier layers depend on the order"
        )


def as_batch(cloud: Cloud, module: nn.Module) -> Batch:
    """Batch of complete graphs, in the floating-point type of the module."""
    batch = Batch(
        x=cast_like(cloud.x, module),
        p4=cast_like(cloud.p4, module),
        edge_index=torch.stack(complete_edges(cloud)),
        batch=cloud.batch.clone(),
        ptr=cloud.ptr.clone(),
    )
    batch._num_graphs = len(cloud)
    nothing, pairs = cloud.counts.new_zeros(len(cloud)), cloud.counts * (cloud.counts - 1)
    edges = torch.cat([pairs.new_zeros(1), pairs.cumsum(0)])  # for to_data_list, as in Events.graph
    batch._slice_dict = {"x": cloud.ptr, "p4": cloud.ptr, "edge_index": edges}
    batch._inc_dict = {"x": nothing, "p4": nothing, "edge_index": cloud.ptr[:-1]}
    return batch


def set_edges(batch: Batch, edges: object) -> None:
    """Replace the edges of a batch by those that a user made.

    Raises
    ------
    ValueError
        If they are no ``edge_index`` of this batch, or ``edge_attr`` has another length.
    """
    index, attributes = edges if isinstance(edges, tuple | list) and len(edges) == 2 else (edges, None)
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 2 or len(index) != 2:
        form = f"{index.dtype} {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(
            f"edges returned {form}; edge_index, int64 [2, P], or (edge_index, edge_attr) is needed"
        )
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < len(batch.x):
        raise ValueError(
            f"edges returned particles {int(index.min())} to {int(index.max())} in a batch of {len(batch.x)}"
        )
    if attributes is not None and len(attributes) != index.shape[1]:
        raise ValueError(f"edges returned {len(attributes)} rows of edge_attr for {index.shape[1]} edges")
    order = torch.argsort(batch.batch[index[1]], stable=True)  # by event, for to_data_list
    batch.edge_index = index[:, order]
    counts = torch.bincount(batch.batch[index[1]], minlength=batch.num_graphs)
    slices = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    batch._slice_dict["edge_index"] = slices
    if attributes is not None:
        batch.edge_attr = attributes[order].to(batch.x.dtype)
        batch._slice_dict["edge_attr"] = slices
        batch._inc_dict["edge_attr"] = counts.new_zeros(len(counts))


def _chosen_call(layer: str, number: int | None, calls: list[LayerCall]) -> tuple[int, LayerCall]:
    """Position and tensors of the chosen call: one attribution cannot hold two sets of edges."""
    names = ", ".join(f"{layer}#{i + 1}" for i in range(len(calls)))
    if not calls:
        raise ValueError(
            f"layer {layer} sends no messages: it is not called, or gets a sparse matrix; pass "
            "batch.edge_index. node_ig and shapley need no edges"
        )
    if number is None and len(calls) > 1:
        raise ValueError(
            f"layer {layer} sends messages {len(calls)} times for one batch: it is called again, or has "
            f"several hops; choose one with layer= ({names}). node_ig and shapley need no edges"
        )
    if number is not None and number >= len(calls):
        raise ValueError(f"layer {layer} has no call {number + 1} for a batch; choose one of {names}")
    return number or 0, calls[number or 0]


@contextmanager
def _changed_call(register: Callable[..., Any], number: int, hook: Callable[..., Tensor]) -> Iterator[None]:
    """Change the tensors of one call of a layer; the calls are counted from 0."""
    counter = count()
    handle = register(lambda *arguments: hook(*arguments) if next(counter) == number else None)
    try:
        yield
    finally:
        handle.remove()


def _column(weight: Tensor, like: Tensor) -> Tensor:
    """Weights ``[P]`` that multiply messages ``[P, ...]``."""
    return weight.view(-1, *(1 for _ in like.shape[1:]))
