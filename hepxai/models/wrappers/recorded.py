"""Recorded call of a torch_geometric layer: nodes, edges, messages, attention coefficients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import EdgeCoefficients

CLOSE = 1e-3
"""Relative tolerance for equality in single precision."""


@dataclass(frozen=True)
class LayerCall:
    """Tensors of a message-passing layer in one forward call.

    Attributes
    ----------
    edge_index : Tensor of int64, shape [2, P]
        Sender and receiver of every message, in the node numbering of the layer.
    nodes : Tensor, shape [N, ...]
        Node features before message passing; ``total`` if the layer passes no ``x`` to ``propagate``.
    message : Tensor, shape [P, ...]
    total : Tensor, shape [N, ...]
        Aggregated messages.
    arguments : dict
        Arguments of ``aggregate`` other than the messages.
    coefficients : Tensor, shape [P, heads], optional
        The layer's ``alpha``, or else the ratio of message to ``x_j``.
    """

    edge_index: Tensor
    nodes: Tensor
    message: Tensor
    total: Tensor
    arguments: dict[str, Any]
    coefficients: Tensor | None

    @property
    def order(self) -> Tensor:
        """Permutation that sorts the edges by receiver, then by sender."""
        src, dst = self.edge_index
        return torch.argsort(dst * len(self.total) + src, stable=True)

    def problem(self, cloud: Cloud) -> str | None:
        """Reason why the edges are not pairs of particles of the same event; None if they are."""
        particles = len(cloud.x)
        if len(self.total) != particles or len(self.nodes) != particles:
            return (
                f"it has {len(self.total)} nodes for {particles} particles: pooled, virtual or duplicated "
                "nodes are not particles, so its edges are not pairs of particles"
            )
        src, dst = self.edge_index
        if bool((cloud.batch[src] != cloud.batch[dst]).any()):
            return (
                "it sends messages between different events: does its neighbour search use the batch vector?"
            )
        if len(torch.unique(dst * particles + src)) != len(src):
            return "it has several edges between the same two particles: remove duplicates (coalesce)"
        return None

    def is_homogeneous(self, module: MessagePassing) -> bool:
        """True if half of every message gives half of the total, as for a sum, a mean or a maximum."""
        with torch.no_grad():
            half, nothing = (module.aggregate(self.message * t, **self.arguments) for t in (0.5, 0.0))
        scale = CLOSE * self.total.abs().max() if self.total.numel() else 0.0
        return bool(((half - 0.5 * self.total).abs() <= scale).all() and (nothing.abs() <= scale).all())

    def attention(self) -> EdgeCoefficients | str | None:
        """Coefficients that are a softmax over the senders, else the reason; None without coefficients."""
        alpha = self.coefficients
        if alpha is None:
            return None
        src, dst = self.edge_index
        received = torch.unique(dst)
        sums = alpha.new_zeros(len(self.total), alpha.shape[1]).index_add(0, dst, alpha)[received]
        if len(alpha) and (alpha.min() < -CLOSE or (sums - 1).abs().max() > CLOSE):
            low, high, least, most = (float(v) for v in (alpha.min(), alpha.max(), sums.min(), sums.max()))
            return (
                f"its coefficients range from {low:.2g} to {high:.2g}, and their sums over the senders of a "
                f"receiver from {least:.2g} to {most:.2g}: gates or norms, not attention"
            )
        order = self.order
        return EdgeCoefficients(src[order], dst[order], alpha[order])


@contextmanager
def recording_calls(module: MessagePassing) -> Iterator[list[LayerCall]]:
    """Record every call of a layer."""
    calls: list[LayerCall] = []
    current: dict[str, Any] = {}

    def on_propagate(_: Any, inputs: Any) -> None:
        current.update(edge_index=inputs[0], arguments=inputs[2])

    def on_message(_: Any, inputs: Any, output: Tensor) -> None:
        receivers = current["edge_index"][1]
        coefficients = _coefficients(module, inputs[0], output, receivers)
        current.update(message=output.detach(), coefficients=coefficients)

    def on_aggregate(_: Any, inputs: Any, output: Tensor) -> None:
        total = output.detach()
        nodes = _nodes(current["arguments"], total)
        message, coefficients = current["message"], current["coefficients"]
        calls.append(LayerCall(current["edge_index"], nodes, message, total, inputs[0], coefficients))

    with ExitStack() as stack:
        for handle in (
            module.register_propagate_forward_pre_hook(on_propagate),
            module.register_message_forward_hook(on_message),
            module.register_aggregate_forward_hook(on_aggregate),
        ):
            stack.callback(handle.remove)
        yield calls


def _nodes(arguments: dict[str, Any], total: Tensor) -> Tensor:
    """Node features ``x`` of ``propagate``, those of the senders if there are two sets; else the total."""
    x = arguments.get("x")
    first = x[0] if isinstance(x, tuple | list) else x
    return first.detach() if isinstance(first, Tensor) else total


def _coefficients(
    module: MessagePassing, arguments: dict[str, Any], message: Tensor, receivers: Tensor
) -> Tensor | None:
    """Coefficients ``[P, heads]``: the layer's ``alpha``, or else the ratio of message to ``x_j``."""
    alpha = arguments.get("alpha", getattr(module, "_alpha", None))
    if alpha is not None:
        return _by_head(alpha.detach())
    x_j = arguments.get("x_j")
    if not isinstance(x_j, Tensor) or x_j.shape != message.shape:
        return None
    return _implied_attention(x_j.detach(), message.detach(), receivers)


def _by_head(alpha: Tensor) -> Tensor:
    """Coefficients ``[P]``, ``[P, heads]`` or ``[P, heads, 1]`` as ``[P, heads]``."""
    return alpha.reshape(len(alpha), math.prod(alpha.shape[1:]))


def _implied_attention(x_j: Tensor, message: Tensor, dst: Tensor) -> Tensor | None:
    """Ratio ``[P, heads]`` of message to ``x_j``, if it is a softmax over the senders of each receiver.

    Softmax weights sum to 1 over the senders of a receiver. Equal weights are those of a mean and are not
    taken for attention, unless no receiver has two senders: then the two cannot be distinguished.
    """
    alpha = (message * x_j).sum(-1) / (x_j * x_j).sum(-1).clamp(min=torch.finfo(x_j.dtype).tiny)
    factors = _by_head(alpha)
    if not len(message):
        return factors
    close = CLOSE * float(message.abs().max())
    if not torch.allclose(alpha[..., None] * x_j, message, rtol=CLOSE, atol=close):
        return None
    of_receiver = factors.new_zeros(int(dst.max()) + 1, factors.shape[1])
    total = of_receiver.index_add(0, dst, factors)[dst]
    senders = of_receiver.index_add(0, dst, torch.ones_like(factors))[dst]
    differ = (factors * senders - 1).abs().max() > CLOSE or senders.max() < 2
    return factors if bool(differ and (total - 1).abs().max() < CLOSE) else None
