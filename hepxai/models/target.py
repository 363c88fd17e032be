"""Explained quantity of a model: one of its outputs, or the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Outputs = TypeVar("Outputs", NDArray[np.float64], Tensor)


@dataclass(frozen=True)
class Target:
    """One output of a model, or a contrast: one output minus another.

    A contrast of two classes does not change when any g(x) is added to all logits, as a softmax does not.

    Attributes
    ----------
    output : int
        Column of the outputs.
    reference : int, optional
        Column that is subtracted.
    """

    output: int
    reference: int | None = None

    @staticmethod
    def of(outputs: Sequence[str], name: str) -> Target:
        """Output of that name, or the contrast ``"one-other"`` of two of them.

        Raises
        ------
        KeyError
            If the outputs have no such name.
        """
        names = list(outputs)
        if name in names:
            return Target(names.index(name))
        for at in (i for i, letter in enumerate(name) if letter == "-"):
            one, other = name[:at].strip(), name[at + 1 :].strip()
            if one != other and one in names and other in names:
                return Target(names.index(one), names.index(other))
        choice = f"the only one is {names[0]}"
        if len(names) > 1:
            choice = f"choose one of {', '.join(names)}, or a difference such as '{names[-1]}-{names[0]}'"
        raise KeyError(f"target {name!r} is not an output of the model; {choice}")

    def __call__(self, outputs: Outputs) -> Outputs:
        """Values of the target ``[...]`` from outputs ``[..., O]``."""
        values = outputs[..., self.output]
        return values if self.reference is None else values - outputs[..., self.reference]
