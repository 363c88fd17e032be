"""One call of a torch_geometric layer, recorded through its hooks: nodes, edges, messages, coefficients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from hepxai.models.base import EdgeCoefficients
from hepxai.models.cloud import Cloud

CLOSE = 1e-3
"""Relative difference up to which single precision may explain why two numbers are not the same."""


@dataclass(frozen=True)
class LayerCall:
    """What a message-passing layer did with a batch.

    Attributes
    ----------
    edge_index : Tensor of int64, shape [2, P]
        Sender and receiver of every message, as the layer numbers its nodes.
    nodes : Tensor, shape [N, ...]
        State of the nodes before the messages; what they received where a layer keeps that to itself.
    message : Tensor, shape [P, ...]
    total : Tensor, shape [N, ...]
        Aggregated messages.
    arguments : dict
        Of ``aggregate``, beside the messages.
    coefficients : Tensor, shape [P, heads], optional
        Factors of the messages that the layer calls alpha, or that turn ``x_j`` into the message.
    """

    edge_index: Tensor
    nodes: Tensor
    message: Tensor
    total: Tensor
    arguments: dict[str, Any]
    coefficients: Tensor | None

    @property
    def order(self) -> Tensor:
        """Order of the edges by receiver, then sender: events stay together."""
        src, dst = self.edge_index
        return torch.argsort(dst * len(self.total) + src, stable=True)

    def problem(self, cloud: Cloud) -> str | None:
        """Reason why the edges of the layer are not pairs of particles of one event, if they are not."""
        particles = len(cloud.x)
        if len(self.total) != particles or len(self.nodes) != particles:
            return (
                f"it has {len(self.total)} nodes for {particles} particles: nodes that are pooled, virtual "
                "or duplicated are no particles, and its edges no pairs of them"
            )
        src, dst = self.edge_index
        if bool((cloud.batch[src] != cloud.batch[dst]).any()):
            return "it sends messages between different events: does its neighbour search get the batch?"
        if len(torch.unique(dst * particles + src)) != len(src):
            return "it has several edges between the same two particles: remove duplicates (coalesce)"
        return None

    def is_homogeneous(self, module: MessagePassing) -> bool:
        """Whether half of all messages add up to half of the total, as for a sum, a mean or a maximum."""
        with torch.no_grad():
            half, nothing = (module.aggregate(self.message * t, **self.arguments) for t in (0.5, 0.0))
        scale = CLOSE * self.total.abs().max() if self.total.numel() else 0.0
        return bool(((half - 0.5 * self.total).abs() <= scale).all() and (nothing.abs() <= scale).all())

    def attention(self) -> EdgeCoefficients | str | None:
        """Coefficients that a softmax over the senders gave; the reason if they are something else."""
        alpha = self.coefficients
        if alpha is None:
            return None
        src, dst = self.edge_index
        received = torch.unique(dst)
        sums = alpha.new_zeros(len(self.total), alpha.shape[1]).index_add(0, dst, alpha)[received]
        if len(alpha) and (alpha.min() < -CLOSE or (sums - 1).abs().max() > CLOSE):
            low, high, least, most = (float(v) for v in (alpha.min(), alpha.max(), sums.min(), sums.max()))
            return (
                f"its coefficients reach from {low:.2g} to {high:.2g}, and add up to {least:.2g} to "
                f"{most:.2g} over the senders of a receiver: gates or norms, no attention"
            )
        order = self.order
        return EdgeCoefficients(src[order], dst[order], alpha[order])


@contextmanager
def recording_calls(module: MessagePassing) -> Iterator[list[LayerCall]]:
    """Record every call of a layer."""
    calls: list[LayerCall] = []
    current: dict[str, Any] = {}

    def on_propagate(_: Any, inputs: Any) -> None:
        current.update(edge_index=inputs[0], given=inputs[2])

    def on_message(_: Any, inputs: Any, output: Tensor) -> None:
        current.update(message=output.detach(), coefficients=_coefficients(module, inputs[0], output))

    def on_aggregate(_: Any, inputs: Any, output: Tensor) -> None:
        total = output.detach()
        nodes = _nodes(current["given"], total)
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


def _nodes(given: dict[str, Any], total: Tensor) -> Tensor:
    """State ``x`` among the arguments of ``propagate``; of senders and receivers, the senders'."""
    x = given.get("x")
    first = x[0] if isinstance(x, tuple | list) else x
    return first.detach() if isinstance(first, Tensor) else total


def _coefficients(module: MessagePassing, arguments: dict[str, Any], message: Tensor) -> Tensor | None:
    """Coefficients ``[P, heads]``: what the layer calls alpha, or what turns x_j into the message."""
    alpha = arguments.get("alpha", getattr(module, "_alpha", None))
    if alpha is not None:
        return _by_head(alpha.detach())
    sent, index = arguments.get("x_j"), arguments.get("index")
    if not isinstance(sent, Tensor) or index is None or sent.shape != message.shape:
        return None
    return _implied_attention(sent.detach(), message.detach(), index)


def _by_head(alpha: Tensor) -> Tensor:
    """Coefficients ``[P]``, ``[P, heads]`` or ``[P, heads, 1]`` as ``[P, heads]``."""
    return alpha.reshape(len(alpha), math.prod(alpha.shape[1:]))


def _implied_attention(sent: Tensor, message: Tensor, dst: Tensor) -> Tensor | None:
    """Factors ``[P, heads]`` of the messages, if each is x_j times one and they are a softmax over senders.

    They add up to 1 for every receiver and differ between its senders, as those of a mean or a norm do not;
    where no receiver has two senders this cannot be told.
    """
    alpha = (message * sent).sum(-1) / (sent * sent).sum(-1).clamp(min=torch.finfo(sent.dtype).tiny)
    factors = _by_head(alpha)
    if not len(message):
        return factors
    close = CLOSE * float(message.abs().max())
    if not torch.allclose(alpha[..., None] * sent, message, rtol=CLOSE, atol=close):
        return None
    of_receiver = factors.new_zeros(int(dst.max()) + 1, factors.shape[1])
    total = of_receiver.index_add(0, dst, factors)[dst]
    senders = of_receiver.index_add(0, dst, torch.ones_like(factors))[dst]
    differ = (factors * senders - 1).abs().max() > CLOSE or senders.max() < 2
    return factors if bool(differ and (total - 1).abs().max() < CLOSE) else None
