"""The last linear layer of a module: what it gives and what it gets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


def last_linear(module: nn.Module) -> nn.Linear:
    """Last ``nn.Linear`` of a module, in the order of its submodules.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not found:
        raise ValueError(f"{type(module).__name__} has no nn.Linear, hence no last linear layer to ask")
    return found[-1]


def last_layer_io(layer: nn.Linear, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Output ``[B, O]`` and input ``[B, H]`` of the layer that gives the outputs which ``run`` returns.

    Raises
    ------
    ValueError
        If the layer is not the last step of ``run``: something comes after it, or it is not called.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def record(_module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append((output, inputs[0]))

    with ExitStack() as stack:
        stack.callback(layer.register_forward_hook(record).remove)
        outputs = run()
    if len(seen) != 1 or seen[0][1].ndim != 2 or not torch.equal(seen[0][0].flatten(), outputs.flatten()):
        raise ValueError(
            f"the outputs are not those of the last linear layer {tuple(layer.weight.shape)}, called once on "
            "[event, activation]; influence through the last layer needs a module that ends there"
        )
    return seen[0]
