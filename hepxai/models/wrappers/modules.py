"""Torch modules of users: unwrapped, on the CPU, called with the type of their parameters."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hepxai.models.wrappers.advice import wrapping_advice

SIZE = "; a pooling that loses events without particles needs size=batch.num_graphs"


def plain_module(module: object) -> nn.Module:
    """Module inside ``torch.compile`` and ``DataParallel``: the same parameters under their plain names.

    Raises
    ------
    TypeError
        If it is no torch module.
    ValueError
        If a parameter is not on the CPU, or has no value yet.
    """
    if not isinstance(module, nn.Module):
        advice = wrapping_advice(module) or "write a torch.nn.Module whose forward calls it"
        raise TypeError(f"{type(module).__name__} is no torch.nn.Module; {advice}")
    plain: nn.Module = module
    while isinstance(inner := _inside(plain), nn.Module):
        plain = inner
    for name, value in chain(plain.named_parameters(), plain.named_buffers()):
        if is_lazy(value) or value.is_meta:
            raise ValueError(
                f"parameter {name} of {type(plain).__name__} has no value: load the trained weights into the "
                "module first (module.load_state_dict(…, assign=True))"
            )
        if value.device.type != "cpu":
            raise ValueError(
                f"parameter {name} of {type(plain).__name__} is on the device {value.device}; explanations "
                "are computed on the CPU: give module.cpu(), or copy.deepcopy(module).cpu() to leave it there"
            )
    return plain


def _inside(module: nn.Module) -> object:
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return getattr(module, "_orig_mod", None)  # of torch.compile


def eager() -> AbstractContextManager[object]:
    """Run compiled parts eagerly: compiled code does not call hooks that are added later."""
    stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6; it loads the compiler: seconds
    return stance("force_eager") if stance and "torch._dynamo" in sys.modules else nullcontext()


def cast_like(x: Tensor, module: nn.Module) -> Tensor:
    """Copy of an input in the floating-point type of the module's parameters; differentiable in ``x``.

    A module may change its input in place; the events must not change with it.
    """
    kinds = (v.dtype for v in chain(module.parameters(), module.buffers()) if v.is_floating_point())
    return x.to(next(kinds, x.dtype), copy=True)


def as_logits(returned: object, events: int, outputs: Sequence[str], argument: str = "x") -> Tensor:
    """Output of a module for a batch as ``[B, O]``; ``[B]`` and extra axes of size one are accepted.

    Parameters
    ----------
    returned : object
    events : int
        B.
    outputs : sequence of str
        Names of the O outputs.
    argument : str
        Name of the module's argument, for the remedy.

    Raises
    ------
    ValueError
        If it is no tensor of real numbers, or has another shape.
    """
    if not isinstance(returned, Tensor):
        raise ValueError(
            f"the module returned {_described(returned)}, a tensor of logits [{events}, {len(outputs)}] is "
            f"needed: pick it, as in call=lambda module, {argument}: module({argument}){_place(returned)}"
        )
    shape = tuple(returned.shape)
    if not returned.is_floating_point():
        raise ValueError(
            f"the module returned {returned.dtype} {shape}, which has no gradient; logits are needed: what "
            "it computes before argmax or a comparison"
        )
    if shape[:1] != (events,) or returned.numel() != events * len(outputs):
        each = returned.numel() // events if events and shape[:1] == (events,) else 0
        remedy = f": name each of the {each}, as in outputs={_names(each)}" if each else SIZE
        raise ValueError(f"the module returned {shape} for {events} events and {tuple(outputs)}{remedy}")
    return returned.reshape(events, len(outputs))


def _described(returned: object) -> str:
    parts: Mapping[object, object] = dict(returned) if isinstance(returned, Mapping) else {}
    if isinstance(returned, tuple | list):
        parts = dict(enumerate(returned))
    shapes = (f"{key!r}: {tuple(getattr(value, 'shape', ()))}" for key, value in parts.items())
    return f"{type(returned).__name__} {{{', '.join(shapes)}}}" if parts else f"a {type(returned).__name__}"


def _place(returned: object) -> str:
    """Suggested index or attribute of the logits in the output."""
    if isinstance(returned, Mapping):
        return f"[{next(iter(returned), 'logits')!r}]"
    return "[0]" if isinstance(returned, tuple | list) else ".logits"


def _names(number: int) -> tuple[str, ...]:
    return tuple(f"class_{i}" for i in range(number))


def check_layers(module: nn.Module, names: Sequence[str]) -> None:
    """Refuse names, with a ValueError, that are no submodules."""
    submodules = [name for name, _ in module.named_modules() if name]
    for name in names:
        if name not in submodules:
            raise ValueError(f"the module has no layer {name!r}; it has {', '.join(submodules) or '(none)'}")


def call_module(module: nn.Module, *arguments: Any) -> Tensor:
    """Apply a module to its inputs: one tensor, a batch of graphs, or several tensors and a mask."""
    logits: Tensor = module(*arguments)
    return logits


@contextmanager
def naming_inputs(inputs: str) -> Iterator[None]:
    """Raise a ValueError that names the inputs if a module fails: torch names sizes of matrices only."""
    try:
        yield
    except (RuntimeError, IndexError) as problem:
        raise ValueError(
            f"the module failed on {inputs}: {problem}; are these what it was trained on, in this order?"
        ) from problem
