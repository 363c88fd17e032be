"""Inputs and outputs of layers, recorded by hooks during a pass of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepxai.core.jagged import IntArray


@contextmanager
def capture_activations(
    module: nn.Module, layers: Sequence[str], axes: int, meaning: str
) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of layers in the pass within the context; a layer that is not called has no entry.

    Parameters
    ----------
    module : nn.Module
    layers : sequence of str
        Names of submodules.
    axes : int
        Required number of axes of their outputs.
    meaning : str
        Of those axes, for the error.

    Raises
    ------
    ValueError
        If a layer has another output, or is called twice.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != axes:
            what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer {name} gives {what}; {meaning}")
        if name in outputs:
            raise ValueError(f"the module calls layer {name} twice for one batch: use a layer for each call")
        outputs[name] = output
        # An activation function that works in place would overwrite the recorded tensor.
        return output.clone()

    with ExitStack() as stack:
        for name in layers:
            hook = module.get_submodule(name).register_forward_hook(lambda *a, name=name: record(name, a[-1]))
            stack.callback(hook.remove)
        yield outputs


@contextmanager
def replace_activation(module: nn.Module, layer: str, value: Tensor) -> Iterator[None]:
    """Replace the output of a layer in the pass within the context.

    Raises
    ------
    ValueError
        If the layer is not called exactly once, or its output has another shape.
    """
    calls = 0

    def replace(_: nn.Module, __: Any, output: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ValueError(f"the module calls layer {layer} twice for one batch: use a layer for each call")
        if (shape := getattr(output, "shape", None)) != value.shape:
            raise ValueError(f"layer {layer} gives {tuple(shape or ())}, not {tuple(value.shape)}")
        return value.clone()  # the module may work in place

    hook = module.get_submodule(layer).register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
    if not calls:
        raise ValueError(f"the module does not call its layer {layer}; name one that it calls, by `maps`")


def last_linear(module: nn.Module) -> nn.Linear:
    """Last ``nn.Linear`` of a module, in the order of its submodules; a ValueError if there is none."""
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no nn.Linear, hence no last linear layer to ask")
    return layers[-1]


def last_layer_io(layer: nn.Linear, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Output ``[B, O]`` and input ``[B, H]`` of the last linear layer, whose output ``run`` returns.

    Raises
    ------
    ValueError
        If the layer is not the last step of ``run``: something comes after it, or it is not called.
    """
    calls: list[tuple[Tensor, Tensor]] = []
    with ExitStack() as stack:
        hook = layer.register_forward_hook(lambda _, inputs, output: calls.append((output, inputs[0])))
        stack.callback(hook.remove)
        outputs = run()
    if len(calls) != 1 or calls[0][1].ndim != 2 or not torch.equal(calls[0][0].flatten(), outputs.flatten()):
        raise ValueError(
            f"the outputs are not those of the last linear layer {tuple(layer.weight.shape)}, called once on "
            "[event, activation]; influence through the last layer needs a module that ends there"
        )
    return calls[0]


def last_layer_of_chunks(
    layer: nn.Linear, run: Callable[[IntArray], Tensor], chunks: Sequence[IntArray]
) -> tuple[Tensor, Tensor]:
    """`last_layer_io` of events in chunks, in the order of the events."""
    if not chunks:
        return torch.zeros(0, layer.out_features), torch.zeros(0, layer.in_features)
    parts = [last_layer_io(layer, lambda rows=rows: run(rows)) for rows in chunks]  # type: ignore[misc]
    back = torch.as_tensor(np.concatenate(chunks)).argsort()
    z, a = (torch.cat(part)[back] for part in zip(*parts, strict=True))
    return z, a
