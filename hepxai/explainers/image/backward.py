"""Backward passes of a network with other rules than the derivative, and the check that they cover it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.image.images import PixelExplainer
from hepxai.models.protocols import HasImageModule

Node = Any
"""Step of the computation as autograd records it (``torch.autograd.graph.Node``)."""


def kinds(names: str) -> frozenset[str]:
    """Kinds of steps, from a list of words."""
    return frozenset(names.split())


COPIES = kinds(
    "AccumulateGrad Alias AsStrided Clone ConstantPadNd Expand Flip Index Permute ReshapeAlias Select Slice "
    "Squeeze T ToCopy Transpose Unsqueeze UnsafeView View"
)
"""Steps that move values without a change."""
SUMS = kinds(
    "Add Cat Div Mean Mul Neg Split SplitWithSizes Stack Sub Sum Unbind AvgPool2D AdaptiveAvgPool2D "
    "UpsampleNearest2D UpsampleBilinear2D Amax Max MaxPool2DWithIndices AdaptiveMaxPool2D"
)
"""Steps that are linear in the values, or take the largest of them."""
PRODUCTS = kinds("Addmm Bmm Mm Mul")
"""Products: linear if at most one factor depends on the image."""


class BackwardRuleExplainer(PixelExplainer):
    """Method with a backward pass of its own, which must cover every step of the network."""

    needs = HasImageModule

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True if the rules cover the network."""
        if not isinstance(model, HasImageModule):
            return False
        try:
            cls().check_model(model)
        except CannotExplainError:
            return False
        return True


@contextmanager
def replaced_forward(rules: Mapping[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Let modules compute something else within the context."""
    with ExitStack() as stack:
        for module, rule in rules.items():
            stack.callback(_restore, module, vars(module).get("forward"))
            module.forward = rule
        yield


def _restore(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        del module.forward
    else:
        module.forward = forward


def kind(node: Node) -> str:
    """Name of a step without torch's decoration: "Relu" of ``ReluBackward0``."""
    return str(type(node).__name__).rstrip("0123456789").removesuffix("Backward")


def inputs(node: Node) -> list[Node]:
    """Steps whose results a step takes; constants are none."""
    return [before for before, _ in node.next_functions if before is not None]


def steps_before(ends: Iterable[Node], stop: Callable[[Node], bool] = lambda node: False) -> list[Node]:
    """Each step on the ways from ``ends`` back to the image, up to steps that ``stop`` names."""
    pending, seen = list(ends), {}
    while pending:
        node = pending.pop()
        if node not in seen:
            seen[node] = True
            pending += [] if stop(node) else inputs(node)
    return list(seen)


@contextmanager
def step_owners(module: nn.Module) -> Iterator[dict[Node, str]]:
    """Names of the submodules whose last step is a node, in passes within the context."""
    owners: dict[Node, str] = {}

    def record(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None:
            owners.setdefault(output.grad_fn, name)

    with ExitStack() as stack:
        for name, part in module.named_modules():
            if name and not any(part.children()):
                hook = part.register_forward_hook(lambda *a, name=name: record(name, a[-1]))
                stack.callback(hook.remove)
        yield owners


def covered_steps(
    model: HasImageModule, allowed: frozenset[str], refusal: Callable[[str, str], str]
) -> list[Node]:
    """Steps from the outputs, which come first, back to a dark image.

    Parameters
    ----------
    model : HasImageModule
        With its rules in place.
    allowed : frozenset of str
        Kinds of steps that the rules cover.
    refusal : callable
        Message from the kind of another step and the place of it.

    Raises
    ------
    CannotExplainError
        If there is another step, or a product of two values that both depend on the image.
    """
    layout = model.schema.image
    assert layout is not None  # of a model of images
    x = torch.zeros((1, *layout.shape), requires_grad=True)
    with torch.enable_grad(), step_owners(model.module) as owners:
        outputs = model.forward_image(x)
    steps = steps_before([outputs.grad_fn])
    for node in steps:
        name = "a product of activations" if _multiplies(node) else kind(node)
        if name not in allowed:
            raise CannotExplainError(
                refusal(name, f"module {owners[node]}" if node in owners else "a call in forward")
            )
    return steps


def _multiplies(node: Node) -> bool:
    """True if two factors depend on the image, or a denominator does."""
    if kind(node) == "Div":
        return len(node.next_functions) > 1 and node.next_functions[1][0] is not None
    return kind(node) in PRODUCTS and len(inputs(node)) > 1
