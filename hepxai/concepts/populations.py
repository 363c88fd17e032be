"""Populations whose dependence on concepts is asked for: a class and the target that is explained there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.events import Events
from hepxai.models.protocols import Model
from hepxai.models.target import REST, Target, decides_classes


class Population(NamedTuple):
    """Events of a class, and the explained target.

    Attributes
    ----------
    name : str
    target : str
        Output or contrast.
    output : Target
    where : ndarray of bool, shape [E]
    """

    name: str
    target: str
    output: Target
    where: NDArray[np.bool_]


def populations(model: Model, events: Events, names: Sequence[str] | None = None) -> list[Population]:
    """Populations of the events of a model.

    For classes: the events of each class, with the logit of the class less the mean of all others, which no
    shift of all logits changes; with a single output, that logit. For a regression, or outputs that are no
    classes of the events: all events with each output.

    Parameters
    ----------
    names : sequence of str, optional
        Classes, or outputs of a regression; all by default.

    Raises
    ------
    KeyError
        If there is no such class.
    ValueError
        If a class has no events.
    """
    classes, outputs = events.schema.classes, tuple(model.outputs)
    by_class = decides_classes(outputs, events.schema)
    known = outputs if not by_class or len(outputs) > 1 else classes
    if isinstance(names, str):
        raise TypeError(f"classes={names!r}: a list is needed, [{names!r}]")
    chosen = known if names is None else tuple(names)
    for name in chosen:
        if name not in known:
            raise KeyError(f"there is no {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return [_population(outputs, events, name, by_class) for name in chosen]


def _population(outputs: tuple[str, ...], events: Events, name: str, by_class: bool) -> Population:
    target = name if len(outputs) > 1 else outputs[0]
    where = np.ones(len(events), dtype=np.bool_)
    if by_class:
        target = f"{name}-{REST}" if len(outputs) > 1 else outputs[0]
        where = events.label == events.schema.classes.index(name)
    if not where.any():
        raise ValueError(
            f"none of the {len(events)} events is of class {name!r}: give events of that class, or name the "
            "others by classes=[…]"
        )
    return Population(name, target, Target.of(outputs, target), where)
