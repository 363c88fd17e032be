"""Torch modules cut open at a layer: only what follows it runs when its output is replaced."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from hepxai.models.hooks import replace_activation
from hepxai.models.wrappers.modules import cast_like

Call = Callable[[nn.Module, Tensor], Tensor]
CLOSE = 1e-4
"""Relative difference up to which outputs agree, in single precision."""


class Halves(NamedTuple):
    """Graphs of a module that is cut at one of its layers.

    Attributes
    ----------
    before : fx.Graph
        From the images to those values that are needed behind the layer and do not depend on it.
    behind : fx.Graph
        From the output of the layer and these values to the output of the module.
    """

    before: fx.Graph
    behind: fx.Graph


class _Called(nn.Module):
    """A module with the function that calls it, which may pick one of several outputs."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.module, x)


class _Tracer(fx.Tracer):
    """Tracer that does not look into one layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.layer or super().is_leaf_module(m, module_qualified_name)


_TRACES: WeakKeyDictionary[nn.Module, dict[Hashable, tuple[Hashable, Halves | None]]] = WeakKeyDictionary()
"""By layer and ``id`` of the call: the call itself may hold the module, which could then never be freed."""


def forward_behind(module: nn.Module, call: Call, layer: str, maps: Tensor, x: Tensor) -> Tensor:
    """Output of a module, in evaluation mode, whose layer gives ``maps`` instead of its own output.

    Only the operations behind the layer run, and those of a path around it such as a skip connection; for
    equal images in a row the latter run once. A module that `torch.fx` cannot
    trace, or whose trace gives other outputs, runs as a whole with a hook. A trace is kept until a submodule
    or a plain attribute of the module changes, or `forget_stale` finds other outputs.

    Parameters
    ----------
    module : nn.Module
    call : callable
        ``(module, x) -> output``.
    layer : str
        Name of a submodule.
    maps : Tensor, shape [B, ...]
        Unchanged, also by a module that works in place.
    x : Tensor, shape [B, ...]
        Inputs that the maps belong to.

    Raises
    ------
    ValueError
        If the layer is not called exactly once, or its output has another shape.
    """
    if len(maps) != len(x):
        raise ValueError(f"maps of {len(maps)} images and {len(x)} images")
    traces, key, state = _TRACES.setdefault(module, {}), (layer, id(call)), _structure(module)
    if key not in traces or traces[key][0] != state:
        halves = _halves(_Called(module, call), f"module.{layer}")
        traces[key] = state, halves if halves and _agrees(halves, module, call, layer, maps, x) else None
    halves = traces[key][1]
    return _whole(module, call, layer, maps, x) if halves is None else _rest(halves, module, call, maps, x)


def forget_stale(module: nn.Module, call: Call, layer: str, maps: Tensor, x: Tensor, outputs: Tensor) -> None:
    """Forget the trace of a layer if it does not give the outputs of a pass of the whole for two images.

    A trace keeps everything that ``forward`` read: elements of lists, configurations, globals.

    Parameters
    ----------
    module, call, layer, maps, x
        See `forward_behind`.
    outputs : Tensor
        Outputs of the module for the images, whose layer gave ``maps``.
    """
    traces, key = _TRACES.get(module, {}), (layer, id(call))
    if len(x) and traces.get(key, (None, None))[1] is not None:
        with torch.no_grad():
            again = forward_behind(module, call, layer, maps[:2].detach(), x[:2])
        if not _close(again.reshape(-1), outputs[:2].detach().reshape(-1)):
            del traces[key]


def _whole(module: nn.Module, call: Call, layer: str, maps: Tensor, x: Tensor) -> Tensor:
    with replace_activation(module, layer, maps):
        return call(module, cast_like(x, module))


def _rest(halves: Halves, module: nn.Module, call: Call, maps: Tensor, x: Tensor) -> Tensor:
    root = _Called(module, call)
    passes_by = len(halves.behind.find_nodes(op="placeholder")) > 1
    beside = _beside(halves.before, root, x) if passes_by else ()
    outputs: Tensor = _interpret(halves.behind, root, maps.clone(), *beside)  # it may work in place
    return outputs


def _beside(graph: fx.Graph, root: _Called, x: Tensor) -> tuple[Any, ...]:
    """Values that pass by the layer, computed once for equal images in a row."""
    new = torch.ones(len(x), dtype=torch.bool)
    new[1:] = (x[1:] != x[:-1]).flatten(1).any(1)
    different = int(new.sum())
    if different < len(x):
        values = _interpret(graph, root, cast_like(x[new], root.module))
        if all(isinstance(v, Tensor) and v.ndim and len(v) == different for v in values):
            return tuple(v[new.cumsum(0) - 1] for v in values)
    return tuple(_interpret(graph, root, cast_like(x, root.module)))


def _interpret(graph: fx.Graph, root: _Called, *inputs: Any) -> Any:
    return fx.Interpreter(root, graph=graph).run(*inputs)


def _agrees(halves: Halves, module: nn.Module, call: Call, layer: str, maps: Tensor, x: Tensor) -> bool:
    """True if both ways give the same outputs for other maps of one or two of the images."""
    other = maps.detach()[[0, -1]]
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(0)).to(other)
    other = other + noise * (float(other.abs().max()) or 1.0)
    with torch.no_grad():
        for images in (x[[0, -1]], x[[0, 0]]):
            whole = _whole(module, call, layer, other, images)
            try:
                rest = _rest(halves, module, call, other, images)
            except Exception:  # for example a size that depends on the image
                return False
            if not _close(rest, whole):
                return False
    return True


def _close(outputs: Tensor, whole: Tensor) -> bool:
    size = CLOSE * float(whole.abs().max())
    return outputs.shape == whole.shape and torch.allclose(outputs, whole, rtol=0, atol=size, equal_nan=True)


def _halves(root: nn.Module, layer: str) -> Halves | None:
    """Halves of a module; None if it cannot be traced or does not call the layer exactly once."""
    try:
        graph = _Tracer(layer).trace(root)
    except Exception:  # the module's own code meets symbols instead of numbers: anything can happen
        return None
    cuts = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
    return _split(graph, cuts[0]) if len(cuts) == 1 else None


def _split(graph: fx.Graph, cut: fx.Node) -> Halves:
    """Halves of a graph, with operations that have no users: they may work in place."""
    (image,) = graph.find_nodes(op="placeholder")
    behind, of_image = _dependents(cut), _dependents(image)
    needed = (i for n in graph.nodes if n in behind or n.op == "output" for i in n.all_input_nodes)
    beside = list(dict.fromkeys(n for n in needed if n in of_image and n not in behind and n is not cut))
    before, rest = fx.Graph(), fx.Graph()
    copies = {cut: rest.placeholder("maps")} | {n: rest.placeholder(n.name) for n in beside}
    for node in graph.nodes:
        if node in behind or node.op == "output" or node not in of_image:
            copies[node] = rest.node_copy(node, copies.__getitem__)
    copies, sources = {}, set(beside)
    for node in reversed(graph.nodes):
        sources.update(node.all_input_nodes if node in sources else ())
    for node in (n for n in graph.nodes if n in sources):
        copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(tuple(copies[n] for n in beside))
    return Halves(before, rest)


def _dependents(start: fx.Node) -> set[fx.Node]:
    """A node and all that depend on it, without the first if it is a module."""
    reached, ahead = set[fx.Node](), [start]
    while ahead:
        fresh = [n for n in ahead.pop().users if n not in reached]
        reached.update(fresh)
        ahead += fresh
    return reached | ({start} if start.op == "placeholder" else set())


def _structure(module: nn.Module) -> Hashable:
    """Everything that a trace depends on: submodules, their plain attributes and hooks."""
    return tuple((name, id(m), type(m), *_plain(m)) for name, m in module.named_modules())


def _plain(module: nn.Module) -> Iterator[tuple[str, str]]:
    for name, value in vars(module).items():
        if isinstance(value, str | int | float | tuple | None) and name != "training":
            yield name, repr(value)
        elif name in ("_forward_hooks", "_forward_pre_hooks"):
            yield name, repr(list(value))
