"""Recorded call of a torch_geometric layer: nodes, edges, messages, attention coefficients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.pool.select import SelectOutput, SelectTopK

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
    selected : sequence of Tensor of int64
        Particles that each top-k pooling before this call has left, in the order of its nodes; nothing if a
        pooling does not follow the previous one.
    """

    edge_index: Tensor
    nodes: Tensor
    message: Tensor
    total: Tensor
    arguments: dict[str, Any]
    coefficients: Tensor | None
    selected: Sequence[Tensor] = ()

    def is_homogeneous(self, module: MessagePassing) -> bool:
        """True if half of every message gives half of the total, as for a sum, a mean or a maximum."""
        with torch.no_grad():
            half, nothing = (module.aggregate(self.message * t, **self.arguments) for t in (0.5, 0.0))
        scale = CLOSE * self.total.abs().max() if self.total.numel() else 0.0
        return bool(((half - 0.5 * self.total).abs() <= scale).all() and (nothing.abs() <= scale).all())

    def not_attention(self) -> str | None:
        """Reason why the coefficients are no softmax over the senders; None if they are."""
        alpha, dst = self.coefficients, self.edge_index[1]
        assert alpha is not None
        received = torch.unique(dst)
        sums = alpha.new_zeros(len(self.total), alpha.shape[1]).index_add(0, dst, alpha)[received]
        if not len(alpha) or (alpha.min() >= -CLOSE and (sums - 1).abs().max() <= CLOSE):
            return None
        low, high, least, most = (float(v) for v in (alpha.min(), alpha.max(), sums.min(), sums.max()))
        return (
            f"its coefficients range from {low:.2g} to {high:.2g}, and their sums over the senders of a "
            f"receiver from {least:.2g} to {most:.2g}: gates or norms, not attention"
        )


@contextmanager
def recording_calls(module: MessagePassing, poolings: Sequence[SelectTopK] = ()) -> Iterator[list[LayerCall]]:
    """Record every call of a layer, and the nodes that the poolings of the network leave."""
    calls: list[LayerCall] = []
    current: dict[str, Any] = {}
    selected: list[Tensor] = []
    branches = False

    def on_select(_: Any, inputs: Any, output: SelectOutput) -> None:
        nonlocal branches
        branches |= bool(selected) and len(inputs[0]) != len(selected[-1])
        index = output.node_index
        selected.append(selected[-1][index] if selected and not branches else index)

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
        remaining = () if branches else tuple(selected)
        calls.append(
            LayerCall(current["edge_index"], nodes, message, total, inputs[0], coefficients, remaining)
        )

    with ExitStack() as stack:
        for handle in (
            module.register_propagate_forward_pre_hook(on_propagate),
            module.register_message_forward_hook(on_message),
            module.register_aggregate_forward_hook(on_aggregate),
            *(pooling.register_forward_hook(on_select) for pooling in poolings),
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
