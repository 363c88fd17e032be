"""Maps of ordered pairs inside a torch module: weights of attention after its softmax, biases of pairs.

A `torch.overrides.TorchFunctionMode` sees the attention functions of torch while the module runs, so that
every ``nn.MultiheadAttention``, also inside ``nn.TransformerEncoderLayer`` (whose fast path would hide the
weights), ``F.scaled_dot_product_attention`` and hand-written softmaxes are treated alike.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SOFTMAX = (F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax)
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)

#: ``(layer, values [B, C, T, S]) -> values``, called for each map; rows are receivers, columns senders.
Visit = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class PairMaps:
    """Maps of one pass: ``layer → values [B, C, T, S]`` of each of its calls.

    Attributes
    ----------
    attention, bias : dict of str to list of Tensor
        Attention weights of each head, and other maps ``[B, C, M, M]`` that a submodule returns.
    """

    attention: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    bias: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def add_attention(self, layer: str, values: Tensor) -> Tensor:
        """Record weights and return them."""
        self.attention[layer].append(values.detach())
        return values

    def add_bias(self, layer: str, values: Tensor) -> Tensor:
        """Record another map and return it."""
        self.bias[layer].append(values.detach())
        return values

    def __getitem__(self, layer: str) -> list[Tensor]:
        return [*self.attention.get(layer, []), *self.bias.get(layer, [])]

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers with attention in call order, then the outermost modules that return other maps."""
        blocked = {*self.attention, *self.bias}
        outermost = (n for n in self.bias if not any(n.startswith(f"{b}.") for b in blocked))
        return (*self.attention, *outermost)


@contextmanager
def recording_maps(module: nn.Module, events: int, longest: int) -> Iterator[PairMaps]:
    """Record the maps of every pass in the context.

    Parameters
    ----------
    module : nn.Module
    events : int
        Batch size; maps of other sizes are ignored.
    longest : int
        Particles of the largest event; smaller maps are left out.
    """
    maps = PairMaps()
    with _visiting(module, events, longest, maps.add_attention, maps.add_bias):
        yield maps


@contextmanager
def scaling_map(module: nn.Module, layer: str, scale: Tensor, longest: int) -> Iterator[Visit]:
    """Multiply the map of a layer by ``scale [B, 1, T, S]`` in every pass in the context.

    Infinite entries (a mask) stay as they are. The yielded `Visit` scales a map passed in as an input.
    """

    def visit(name: str, values: Tensor) -> Tensor:
        if name != layer:
            return values
        weights = scale[:, :, : values.shape[2], : values.shape[3]]  # a module may trim its padding
        infinite = values.isinf()  # no product with these: its gradient would be NaN
        return torch.where(infinite, values, values.masked_fill(infinite, 0.0) * weights)

    with _visiting(module, len(scale), longest, visit, visit):
        yield visit


@contextmanager
def _visiting(module: nn.Module, events: int, longest: int, attention: Visit, bias: Visit) -> Iterator[None]:
    names = {m: n.replace("_orig_mod.", "") or "module" for n, m in module.named_modules()}
    stack: list[nn.Module] = []

    def leave(submodule: nn.Module, _: Any, output: Any) -> Any:
        stack.pop()
        if isinstance(submodule, nn.Dropout | nn.Softmax):  # of attention weights
            return None
        is_map = isinstance(output, Tensor) and output.ndim == 4 and len(output) == events
        if not is_map or output.shape[2] != output.shape[3] or output.shape[3] < longest:
            return None
        return bias(names[submodule], output)

    with ExitStack() as context:
        for submodule in names:
            enter = submodule.register_forward_pre_hook(lambda m, _: stack.append(m))
            context.callback(enter.remove)
            context.callback(submodule.register_forward_hook(leave).remove)
        context.enter_context(_AttentionMode(names, stack, events, longest, attention))
        yield


class _AttentionMode(TorchFunctionMode):
    """Calls ``visit`` with the weights of each attention function, and continues with what it returns."""

    def __init__(
        self, names: Mapping[nn.Module, str], stack: list[nn.Module], events: int, longest: int, visit: Visit
    ) -> None:
        super().__init__()
        self.names, self.stack, self.events, self.longest, self.visit = names, stack, events, longest, visit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._multi_head(_MULTI_HEAD.bind(*args, **arguments))
        if func is F.scaled_dot_product_attention:
            return self._scaled_dot_product(*args, **arguments)
        result = func(*args, **arguments)
        if func not in SOFTMAX:
            return result
        dim = arguments.get("dim", args[1] if len(args) > 1 else None)
        return self._apply_visit(result) if dim in (-1, result.ndim - 1) else result

    def _apply_visit(self, weights: Tensor) -> Tensor:
        """Weights ``[B, T, S]``, ``[B H, T, S]`` or ``[B, H, T, S]`` after the visit, in the same shape.

        Other tensors are returned unchanged.
        """
        if weights.ndim not in (3, 4) or len(weights) % self.events or weights.shape[-1] < self.longest:
            return weights
        by_head = weights.reshape(self.events, -1, *weights.shape[-2:])
        return self.visit(self._layer(), by_head).reshape(weights.shape)

    def _layer(self) -> str:
        """Name of the innermost module that runs; of the one around it for an ``nn.Softmax``."""
        inner = [m for m in self.stack if not isinstance(m, nn.Softmax)]
        return self.names[inner[-1]] if inner else "module"

    def _scaled_dot_product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Definition of the function, as in the documentation of torch."""
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = (x.repeat_interleave(repeats, -3) for x in (key, value))
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        all_masked = scores.isneginf().all(-1, keepdim=True)  # every sender masked: 0, as in torch
        weights = F.dropout(scores.softmax(-1).masked_fill(all_masked, 0.0), dropout_p)
        return self._apply_visit(weights) @ value

    def _multi_head(self, bound: inspect.BoundArguments) -> tuple[Tensor, Tensor | None]:
        """``nn.MultiheadAttention``, with torch's own weights, and the output from the visited ones."""
        bound.apply_defaults()
        arguments = bound.arguments
        by_head = {"need_weights": True, "average_attn_weights": False}
        _, weights = F.multi_head_attention_forward(**(arguments | by_head))
        assert weights is not None
        visited = self._apply_visit(weights)
        output = _weighted_values(visited, arguments)
        if not arguments["need_weights"]:
            return output, None
        return output, visited.mean(1) if arguments["average_attn_weights"] else visited


def _weighted_values(weights: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """Output ``[T, B, D]`` of ``nn.MultiheadAttention`` from its weights ``[B, H, T, S]``."""
    width = arguments["embed_dim_to_check"]
    projection = (
        arguments["v_proj_weight"]
        if arguments["use_separate_proj_weight"]
        else arguments["in_proj_weight"][-width:]
    )
    bias = None if arguments["in_proj_bias"] is None else arguments["in_proj_bias"][-width:]
    value = F.linear(arguments["value"], projection, bias)
    if arguments["bias_v"] is not None:
        value = torch.cat([value, arguments["bias_v"].expand(-1, value.shape[1], -1)])
    if arguments["add_zero_attn"]:
        value = torch.cat([value, torch.zeros_like(value[:1])])
    heads = value.unflatten(-1, (arguments["num_heads"], -1)).permute(1, 2, 0, 3)  # [B, H, S, D / H]
    mixed = (weights @ heads).permute(2, 0, 1, 3).flatten(2)
    return F.linear(mixed, arguments["out_proj_weight"], arguments["out_proj_bias"])
