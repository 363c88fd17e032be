"""Errors of a measure beside the statistical one: spread over trainings, and systematic variations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TRAINING = "training"
"""Axis of the single trainings of an ensemble, and the name of the spread over them."""
SYSTEMATIC = "syst"
"""Name of the systematic error, which all variations of the data-set card together give."""

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
    """Decorator: measure a map, with the spread over its trainings and its systematic error.

    The value and its statistical error are those of the mean over the trainings, which is the explanation of
    the ensemble; ``spread["training"]`` is the standard deviation over the single trainings, by which another
    training is expected to differ, and ``spread["syst"]`` the effect of the variations that the map carries
    (see `with_systematic`). A map without either is measured as it is, and so is one with an argument that
    has a row for each of its events: varied events are others. Select with `Attribution.apply` instead.
    """

    @functools.wraps(measure)
    def measured(attribution: A, *args: P.args, **options: P.kwargs) -> R:
        if not hasattr(attribution, "axes"):
            return measure(attribution, *args, **options)
        if any(_per_event(v, attribution) for v in (*args, *options.values())):
            attribution = attribution.replace(varied={})
        return measured_together(lambda one: measure(one, *args, **options), attribution)

    return measured  # type: ignore[return-value]


def measured_together(measure: Callable[..., R], *maps: Any) -> R:
    """Measure of one or several maps of the same events, with the errors that all of the maps have.

    Parameters
    ----------
    measure : callable
        Of as many maps, without trainings and variations.
    *maps : Attribution
    """

    def nominal(*several: Any) -> R:
        return measure(*(one.mean(TRAINING) if TRAINING in one.axes else one for one in several))

    result = nominal(*maps)
    if singles := [measure(*of_one) for of_one in zip(*map(single_trainings, maps), strict=False)]:
        result = with_spread(result, singles)
    shared = [source for source in maps[0].varied if all(source in one.varied for one in maps)]
    varied = {s: [nominal(*of) for of in zip(*(one.varied[s] for one in maps), strict=True)] for s in shared}
    return with_systematic(result, varied) if varied else result


def _per_event(argument: object, attribution: Any) -> bool:
    return isinstance(argument, np.ndarray) and argument.shape[:1] == (len(attribution.events),)


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

    def deviation(value: Array, others: Sequence[Array]) -> Array:
        return np.asarray(np.std(others, axis=0, ddof=1))

    return _with_error(result, alternatives, source, deviation)


def mean_of_results(results: Sequence[S]) -> S:
    """Mean of the results of single trainings, with their spread.

    For measures that are no function of the mean map, such as a share of events. Errors are the mean of the
    single ones, because the trainings share the events.

    Parameters
    ----------
    results : sequence of Estimate or Means, or of mappings of them
    """
    first: Any = results[0]
    if len(results) == 1:
        return results[0]
    if isinstance(first, Mapping):
        return {k: mean_of_results([r[k] for r in results]) for k in first}  # type: ignore[index, return-value]
    mean = {name: np.mean([getattr(r, name) for r in results], axis=0) for name in ("value", "error")}
    if getattr(first, "interval", None) is not None:
        mean["interval"] = None
    result: S = with_spread(dataclasses.replace(first, **mean), results)
    return result


def with_systematic(result: S, varied: Mapping[str, Sequence[Any]]) -> S:
    """Add the systematic error to each estimate of a result.

    Each source counts with the larger shift of its alternatives (up and down), and the sources are added in
    quadrature, as if they were independent.

    Parameters
    ----------
    result : Estimate, Means, or mapping or dataclass of them
    varied : mapping
        Source → results of the same kind under each of its alternatives.
    """
    ends = np.cumsum([len(several) for several in varied.values()])

    def total(value: Array, others: Sequence[Array]) -> Array:
        return systematic_error(value, np.split(np.stack(others), ends[:-1]))

    return _with_error(result, [one for several in varied.values() for one in several], SYSTEMATIC, total)


def systematic_error(value: Array, sources: Iterable[Sequence[Array] | Array]) -> Array:
    """Larger change of each source, in quadrature; NaN where an alternative has no value.

    Parameters
    ----------
    value : ndarray
    sources : iterable
        For each source the values under its alternatives.
    """
    sizes = [np.max(np.abs(np.stack(list(several)) - value), axis=0) for several in sources]
    return np.asarray(np.sqrt(np.sum(np.square(sizes), axis=0)))


def _with_error(
    result: S, others: Sequence[Any], source: str, error: Callable[[Array, Sequence[Array]], Array]
) -> S:
    """Put ``error(value, other values)`` into the spread of every estimate of a result."""
    changed: Any = result
    if isinstance(result, Mapping):
        changed = {k: _with_error(v, [a[k] for a in others], source, error) for k, v in result.items()}
    elif hasattr(result, "spread"):
        _need_same_labels(result, others, source)
        size = error(np.asarray(changed.value), [np.asarray(a.value) for a in others])
        changed = dataclasses.replace(changed, spread={**changed.spread, source: size})
    elif dataclasses.is_dataclass(result):
        fields = {f.name: [getattr(a, f.name) for a in others] for f in dataclasses.fields(result)}
        parts = {k: _with_error(getattr(result, k), values, source, error) for k, values in fields.items()}
        changed = dataclasses.replace(changed, **parts)
    return changed  # type: ignore[no-any-return]


def _need_same_labels(result: Any, others: Sequence[Any], source: str) -> None:
    """Refuse means over other groups, whose difference would be that of two things."""
    for name in ("labels", "names"):
        mine = getattr(result, name, None)
        if theirs := [getattr(a, name, None) for a in others if getattr(a, name, None) != mine]:
            raise ValueError(
                f"no {source} error: {name} {theirs[0]} are not {mine}; give the measure the same groups "
                "for all alternatives"
            )
