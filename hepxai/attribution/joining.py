"""Attributions of consecutive parts of a population, joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution.pairs import Pairs
from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events

Parts = Sequence[Any]
"""Instances of `hepxai.Attribution`, which this module must not import: it makes use of this one."""
COLUMNS = ("self_values", "residual", "output_change", "error")
"""Columns that the result has if all parts have them."""


def joined(parts: Parts) -> dict[str, Any]:
    """Attributes of the whole that differ from those of its first part; see `Attribution.concatenate`."""
    first = parts[0]
    if any((p.axes, p.method, p.settings) != (first.axes, first.method, first.settings) for p in parts):
        raise ValueError("parts differ in method or settings")
    names = first.event_columns
    return {
        "values": np.concatenate([p.values for p in parts]),
        "events": Events.concatenate(p.events for p in parts),
        "pairs": _joined_pairs(parts),
        "event_columns": {k: np.concatenate([p.event_columns[k] for p in parts]) for k in names},
        "checks": _mean_checks(parts),
        "concerns": tuple(dict.fromkeys(c for p in parts for c in p.concerns)),
    } | {name: _column([getattr(p, name) for p in parts]) for name in COLUMNS}


def _joined_pairs(parts: Parts) -> Pairs | None:
    pairs = [p.pairs for p in parts if p.pairs is not None]
    if len(pairs) < len(parts):
        return None
    start = offsets_from_counts(np.array([p.events.n_particles for p in parts]))
    src = np.concatenate([p.src + s for p, s in zip(pairs, start[:-1], strict=True)])
    dst = np.concatenate([p.dst + s for p, s in zip(pairs, start[:-1], strict=True)])
    return Pairs(src, dst, offsets_from_counts(np.concatenate([np.diff(p.offsets) for p in pairs])))


def _column(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [p for p in parts if p is not None]
    return np.concatenate(present) if len(present) == len(parts) else None


def _mean_checks(parts: Parts) -> dict[str, float]:
    """Mean over all events of the checks that all parts have."""
    size = np.array([len(p.events) for p in parts], dtype=np.float64)
    shared = [k for k in parts[0].checks if all(k in p.checks for p in parts)]
    share = size / size.sum() if size.any() else np.full(len(parts), 1 / len(parts))
    return {k: float(np.sum(share * [p.checks[k] for p in parts])) for k in shared}
