"""Explained quantity of a model: one of its outputs, or a contrast of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # a card, which imports this, needs no torch

    from hepxai.events import Schema

Outputs = TypeVar("Outputs", NDArray[np.float64], "Tensor")
REST = "rest"


@dataclass(frozen=True)
class Target:
    """Linear combination of the outputs of a model: ``Σ_k weights[k] z_k``.

    The weights of a contrast sum to zero. It does not change when any g(x) is added to all logits, as a
    softmax does not.

    Attributes
    ----------
    weights : tuple of float, length O
    """

    weights: tuple[float, ...]

    @staticmethod
    def of(outputs: Sequence[str], name: str) -> Target:
        """Output of that name, or a contrast.

        ``"one-other"`` is the difference of two outputs; ``"one-rest"`` is one output minus the mean of all
        others, ``log p_one - mean log p_others`` after a softmax.

        Raises
        ------
        KeyError
            If the outputs have no such name; or one of three or more is named "rest", which is ambiguous.
        """
        names = list(outputs)
        if name in names:
            return Target(tuple(float(n == name) for n in names))
        for at in (i for i, letter in enumerate(name) if letter == "-"):
            one, other = name[:at].strip(), name[at + 1 :].strip()
            others = [n for n in names if n != one] if other == REST else [other]
            if one in names and other == REST and REST in names and len(names) > 2:
                raise KeyError(f"target {name!r}: one of the outputs is named {REST!r}; give it another name")
            if one in names and others and one not in others and set(others) <= set(names):
                return Target(tuple((n == one) - (n in others) / len(others) for n in names))
        raise KeyError(f"target {name!r} is not an output of the model; {_choice(names)}")

    def __call__(self, outputs: Outputs) -> Outputs:
        """Values of the target ``[...]`` from outputs ``[..., O]``."""
        first, *others = ((k, w) for k, w in enumerate(self.weights) if w)  # no 0 × inf
        values = first[1] * outputs[..., first[0]]
        for k, weight in others:
            values = values + weight * outputs[..., k]
        return values


def decides_classes(outputs: Sequence[str], schema: Schema) -> bool:
    """True if the class of an event follows from the outputs: all are classes, or one is the logit of two."""
    if set(outputs) <= set(schema.targets):
        return False
    return set(outputs) <= set(schema.classes) or (len(outputs) == 1 and len(schema.classes) == 2)


def _choice(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"the only one is {names[0]}"
    rest = "" if len(names) == 2 else f" or '{names[-1]}-{REST}'"
    return f"choose one of {', '.join(names)}, or a difference such as '{names[-1]}-{names[0]}'{rest}"
