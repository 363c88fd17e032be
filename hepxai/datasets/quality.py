"""Warnings of suspicious momenta and weights in the selected events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepxai.core.estimate import effective
from hepxai.datasets.columns import Array
from hepxai.datasets.inspection import SENTINELS
from hepxai.datasets.particles import Particles
from hepxai.events import Events

_LIMITS = {"eta": 20.0, "phi": 7.0}
_HIGHEST = 1e5  # GeV, beyond any collider
_ROUNDING = 0.01  # |m|/p that float32 rounding can cause where E < p


class _Column(NamedTuple):
    """A stored component of momentum, or the mass that follows from the energy."""

    type: str
    component: str
    branch: str
    is_branch: bool
    one_each: bool


@dataclass
class MomentumCounts:
    """Numbers of particles whose momenta look like padding or missing values."""

    _odd: dict[_Column, Counter[float]] = field(default_factory=dict)
    _particles: Counter[str] = field(default_factory=Counter)

    def add(self, particles: Particles) -> None:
        """Count the suspicious values of one particle type."""
        self._particles[particles.name] += particles.n
        for component in _components(particles):
            values = particles.flat(component)  # of no particles, too: a plan lists what is asked for
            if particles.n and (odd := _odd(particles, component, values)) is not None:
                self._count(particles, component, values, odd)

    def _count(self, particles: Particles, component: str, values: Array, odd: Array) -> None:
        number = particles.flat("index") if len(particles.maps) > 1 else np.zeros(particles.n, dtype=np.int64)
        for i in np.unique(number[odd]):
            source = particles.maps[i][component]
            branch = source or ", ".join(particles.origin(component))
            is_branch = source in particles.columns.all_names
            column = _Column(particles.name, component, branch, is_branch, particles.one_each)
            distinct, counts = np.unique(
                values[odd & (number == i)] * _scale(particles, component), return_counts=True
            )
            most_frequent = np.argsort(-counts, kind="stable")[:100]
            self._odd.setdefault(column, Counter()).update(
                {float(distinct[k]): int(counts[k]) for k in most_frequent}
                | {np.nan: int(counts.sum() - counts[most_frequent].sum())}
            )

    def warnings(self) -> Iterator[str]:
        """One line per component: value, branch, number of particles, and remedy."""
        for column, counts in self._odd.items():
            order = sorted(counts, key=lambda v: (v not in SENTINELS, -counts[v]))
            values = [v for v in order if not np.isnan(v)][:3]
            rest = counts.total() - sum(counts[v] for v in values)
            parts = [f"{v:g} for {counts[v]:,}" for v in values]
            parts += [f"similar values for {rest:,}"] if rest else []
            yield (
                f"{column.component} of {column.type} ({column.branch}) is {', '.join(parts)} of "
                f"{self._particles[column.type]:,} particles; {_remedy(column, values)}"
            )


def _components(particles: Particles) -> tuple[str, ...]:
    if not particles.moving:
        return ()
    energy = ("energy",) if "px" in particles.components and particles.maps[0]["energy"] else ()
    return tuple(dict.fromkeys(("pt", *particles.components, *energy, "mass")))


def _scale(particles: Particles, component: str) -> float:
    """Factor from GeV to the unit of the file; 1 for angles."""
    return 1.0 if component in _LIMITS else particles.scale


def _odd(particles: Particles, component: str, values: Array) -> NDArray[np.bool_] | None:
    """Mask of the particles with a suspicious value; None without any."""
    low, high = float(values.min()), float(values.max())
    limit = _LIMITS.get(component, _HIGHEST)
    scale = _scale(particles, component)
    sentinels = [s for s in SENTINELS if low <= s / scale <= high]
    if (
        not sentinels
        and -limit <= low
        and high <= limit
        and (low > 0 or component not in ("pt", "energy", "mass"))
    ):
        return None
    odd = np.abs(values) > limit
    for sentinel in sentinels:
        same = values == np.asarray(sentinel, dtype=values.dtype) / scale
        if same.sum() > 1e-6 * len(values):  # one in a million may have that value by chance
            odd |= same
    if component in ("pt", "energy"):
        odd |= values < 0 if particles.transverse else values <= 0
    if component == "mass":
        odd |= values < -_ROUNDING * np.abs(particles.flat("pt")) * np.cosh(particles.flat("eta"))
    return odd if odd.any() else None


def _remedy(column: _Column, values: list[float]) -> str:
    """Card entry that removes or replaces the values."""
    name = column.component
    limit = f"abs({name}) < {_LIMITS.get(name, _HIGHEST):g}"
    above = {"pt": "pt > 0", "energy": "energy > 0", "mass": f"mass > -{_ROUNDING:g} * energy"}
    cuts = [above[name]] if name in above and min(values) <= 0 else []
    cuts += [limit] if max(np.abs(values)) > _LIMITS.get(name, _HIGHEST) else []
    cuts += [f"{name} != {v:g}" for v in values if not cuts]
    prefix = f"{column.type}." if column.one_each else ""
    keep = " and ".join(f"{cut[:4]}{prefix}{cut[4:]}" if "abs(" in cut else f"{prefix}{cut}" for cut in cuts)
    where = f"selection: {keep}" if column.one_each else f"cuts: {keep} for {column.type}"
    stored = column.is_branch and name == "mass"
    replace = f"missing: {{{column.branch}: {{values: [{', '.join(f'{v:g}' for v in values)}], replace: 0}}}}"
    return f"if that means missing, write {replace + ' or ' if stored else ''}{where}"


def weight_warnings(events: Events) -> Iterator[str]:
    """One line per class in which one |weight| exceeds the sum of all others."""
    for code, name in enumerate(events.schema.classes):
        rows = np.flatnonzero(events.label == code)
        weight = events.weight[rows]
        size = np.abs(weight)
        if len(rows) > 2 and 2 * size.max() > size.sum():
            row = rows[np.argmax(size)]
            n_eff = effective(weight)
            file, entry = events.files[events.file[row]], events.entry[row]
            yield (
                f"{file}: entry {entry} of class {name!r} has the weight {events.weight[row]:g}, more than "
                f"the other {len(rows) - 1:,} together: n_eff is {n_eff:.2g}; if it is a mistake, write for "
                f"example selection: abs(w) < {size.max():g}, with the expression of weights: as w"
            )
