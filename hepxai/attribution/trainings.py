"""Maps of several trainings of a network as one map, with an axis of the trainings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution.pairs import Pairs
from hepxai.attribution.reductions import edge_keys
from hepxai.attribution.result import Attribution
from hepxai.attribution.spread import TRAINING
from hepxai.core.estimate import Array
from hepxai.core.jagged import offsets_from_counts


def stack_trainings(maps: Sequence[Attribution]) -> Attribution:
    """One map of an ensemble: its last axis, "training", holds the maps of the single trainings.

    Maps over pairs are brought to the pairs of any of them, with 0 where a training has no such edge: of
    layers with few neighbours, a mean per pair then counts more pairs, and is smaller, than that of one.
    ``checks`` are means over the trainings, equal concerns are joined, settings are those that all have.
    ``event_columns`` are left out.

    Parameters
    ----------
    maps : sequence of Attribution
        Of the same method, target and events.

    Raises
    ------
    ValueError
        If they differ in more than their values, or are of neurons: those of two trainings do not correspond.
    """
    first = maps[0]
    if "neuron" in first.axes:
        raise ValueError(
            f"{first.method}: the neurons of two trainings do not correspond; look at each alone"
        )
    for one in maps[1:]:
        for name in ("method", "target", "axes"):
            if getattr(one, name) != getattr(first, name):
                both = f"{getattr(first, name)} and {getattr(one, name)}"
                raise ValueError(f"maps of several trainings must have one {name}, these have {both}")
        if one.events.fingerprint() != first.events.fingerprint():
            raise ValueError("maps of several trainings must explain the same events")
    maps = _on_common_pairs(maps)
    checks = {k: float(np.mean([m.checks[k] for m in maps])) for k in first.checks if _all_have(maps, k)}
    return maps[0].replace(
        values=_stacked([m.values for m in maps]),
        self_values=_stacked([m.self_values for m in maps]),
        error=_stacked([m.error for m in maps]),
        residual=_mean([m.residual for m in maps]),
        output_change=_mean([m.output_change for m in maps]),
        axes=(*first.axes, TRAINING),
        labels={**first.labels, TRAINING: tuple(str(i) for i in range(1, len(maps) + 1))},
        checks=checks,
        concerns=_joined_concerns(maps),
        settings=common_settings(maps),
        event_columns={},
    )


def common_settings(maps: Sequence[Attribution]) -> dict[str, Any]:
    """Settings that all maps share: some, such as a mean score, belong to one network."""
    return {k: v for k, v in maps[0].settings.items() if all(m.settings.get(k) == v for m in maps)}


def mean_of_trainings(attribution: Attribution) -> Attribution:
    """Mean over the trainings of an ensemble, the explanation of its score; other maps as they are.

    Errors of the single values, where the method has some, are those of the mean.
    """
    if TRAINING not in attribution.axes:
        return attribution
    error, mean = attribution.error, attribution.mean(TRAINING)
    at, number = attribution.axis(TRAINING), len(attribution.labels[TRAINING])
    return mean if error is None else mean.replace(error=np.sqrt((error**2).sum(axis=at)) / number)


def spread_of_trainings(attribution: Attribution) -> Array | None:
    """Standard deviation over the trainings of each value; None for a map of one training."""
    if TRAINING not in attribution.axes:
        return None
    return np.asarray(np.std(attribution.values, axis=attribution.axis(TRAINING), ddof=1, dtype=np.float64))


def _joined_concerns(maps: Sequence[Attribution]) -> tuple[str, ...]:
    """Each concern once, with the number of trainings that have it; numbers in it are those of the first."""
    which: dict[str, dict[int, str]] = {}
    for i, concern in ((i, c) for i, m in enumerate(maps) for c in m.concerns):
        which.setdefault(re.sub(r"\d[\d.,e+-]*", "#", concern), {}).setdefault(i, concern)
    return tuple(_joined([*of.values()], len(maps)) for of in which.values())


def _joined(several: Sequence[str], trainings: int) -> str:
    differ = " (numbers of the first)" if len(set(several)) > 1 else ""
    return f"in {len(several)} of {trainings} trainings{differ}: {several[0]}"


def _all_have(maps: Sequence[Attribution], check: str) -> bool:
    return all(check in m.checks for m in maps)


def _stacked(parts: Sequence[NDArray[np.floating] | None]) -> NDArray[np.floating] | None:
    """Arrays along a new last axis; None if a training has none."""
    present = [p for p in parts if p is not None]
    return np.stack(present, axis=-1) if len(present) == len(parts) else None


def _mean(parts: Sequence[Array | None]) -> Array | None:
    present = [p for p in parts if p is not None]
    return np.asarray(np.mean(present, axis=0)) if len(present) == len(parts) else None


def _on_common_pairs(maps: Sequence[Attribution]) -> Sequence[Attribution]:
    """Maps over the pairs that occur in any of them, absent pairs being 0; other maps as they are."""
    every = [m.pairs for m in maps if m.pairs is not None]
    if len(every) < len(maps) or all(np.array_equal(a, b) for a, b in _ends(every)):
        return maps
    events, size = maps[0].events, maps[0].events.n_particles
    keys = [edge_keys(p.src, p.dst, size) for p in every]
    common = reduce(np.union1d, keys)
    dst, src = np.divmod(common, max(size, 1))
    counts = np.bincount(events.parent[dst], minlength=len(events))
    pairs = Pairs(src, dst, offsets_from_counts(counts))
    return [_on_pairs(m, np.searchsorted(common, k), pairs) for m, k in zip(maps, keys, strict=True)]


def _ends(every: Sequence[Pairs]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    first = every[0]
    return [pair for p in every[1:] for pair in ((first.src, p.src), (first.dst, p.dst))]


def _on_pairs(one: Attribution, place: NDArray[np.int64], pairs: Pairs) -> Attribution:
    def full(column: NDArray[np.floating]) -> NDArray[np.floating]:
        table = np.zeros((len(pairs.src), *column.shape[1:]), dtype=column.dtype)
        table[place] = column
        return table

    error = None if one.error is None else full(one.error)
    return one.replace(values=full(one.values), error=error, pairs=pairs, self_values=one.self_values)
