"""What the layers of a module give, written down during one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def capture_activations(
    module: nn.Module, layers: Sequence[str], axes: int, meaning: str
) -> Iterator[dict[str, Tensor]]:
    """Record what layers give in the pass that is made meanwhile; a layer that is not called has no entry.

    Parameters
    ----------
    module : nn.Module
    layers : sequence of str
        Names of submodules.
    axes : int
        That their outputs must have.
    meaning : str
        Of those axes, for the error.

    Raises
    ------
    ValueError
        A layer gives something else, or is called twice.
    """
    seen: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name in layers:
            hook = _recorder(seen, name, axes, meaning)
            stack.callback(module.get_submodule(name).register_forward_hook(hook).remove)
        yield seen


def _recorder(seen: dict[str, Tensor], name: str, axes: int, meaning: str) -> Any:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != axes:
            what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer {name} gives {what}; {meaning}")
        if name in seen:
            raise ValueError(
                f"the module calls layer {name} twice for one batch: give each use a layer of its own"
            )
        seen[name] = output
        # An activation that works in place would overwrite what was recorded.
        return output.clone()

    return record
