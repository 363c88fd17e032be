"""Spread of a measure over the trainings of an ensemble, an error beside the statistical one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

TRAINING = "training"
"""Axis of the single trainings of an ensemble, and the name of the spread over them."""


A = TypeVar("A", bound=Any)
"""An `hepxai.Attribution`, which this module must not import: its methods are decorated here."""
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def single_trainings(attribution: A) -> list[A]:
    """Map of every training of an ensemble; empty for a map of one training."""
    if TRAINING not in attribution.axes:
        return []
    return [attribution.select(training=name) for name in attribution.labels[TRAINING]]


def over_trainings(
    measure: Callable[Concatenate[A, P], R],
) -> Callable[Concatenate[A, P], R]:
    """Decorator: measure the mean map of an ensemble, with the spread over its trainings.

    The value and its statistical error are those of the mean over the trainings, which is the explanation of
    the ensemble; ``spread["training"]`` is the standard deviation over the single trainings, by which another
    training is expected to differ. A map without this axis is measured as it is.
    """

    @functools.wraps(measure)
    def measured(attribution: A, *args: P.args, **options: P.kwargs) -> R:
        if TRAINING not in getattr(attribution, "axes", ()):
            return measure(attribution, *args, **options)
        singles = [measure(one, *args, **options) for one in single_trainings(attribution)]
        return with_spread(measure(attribution.mean(TRAINING), *args, **options), singles)

    return measured  # type: ignore[return-value]


def with_spread(result: S, alternatives: Sequence[Any], source: str = TRAINING) -> S:
    """Add the standard deviation over alternatives of a result to each of its estimates.

    Parameters
    ----------
    result : Estimate, Means, or mapping or dataclass of them
    alternatives : sequence
        Results of the same kind.
    source : str
        Name of what differs between them.
    """
    changed: Any = result
    if isinstance(result, Mapping):
        changed = {k: with_spread(v, [a[k] for a in alternatives], source) for k, v in result.items()}
    elif hasattr(result, "spread"):
        deviation = np.std([np.asarray(a.value) for a in alternatives], axis=0, ddof=1)
        changed = dataclasses.replace(changed, spread={**result.spread, source: np.asarray(deviation)})
    elif dataclasses.is_dataclass(result):
        fields = {f.name: [getattr(a, f.name) for a in alternatives] for f in dataclasses.fields(result)}
        parts = {name: with_spread(getattr(result, name), values, source) for name, values in fields.items()}
        changed = dataclasses.replace(changed, **parts)
    return changed  # type: ignore[no-any-return]
