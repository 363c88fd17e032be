"""Cut flow: number and weight of events after each step of the selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from hepxai.core.sums import added

ALL = "all entries"


@dataclass(frozen=True)
class CutFlowRow:
    """Events of a sample after a step.

    ``weight`` is the signed sum of weights, ``error`` its statistical error √Σw², and ``efficiency`` the
    share of the weight of all entries, NaN if those sum to 0.
    """

    sample: str
    step: str
    entries: int
    weight: float
    error: float
    efficiency: float


@dataclass
class CutFlow:
    """Counts and signed sums of weights per sample and step; grows while files are read."""

    _sums: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)
    _particles: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)

    def add_particles(self, kind: str, cut: str, before: int, after: int) -> None:
        """Count particles before and after a cut on them."""
        sums = self._particles.setdefault((kind, cut), np.zeros(2, dtype=np.int64))
        sums += (before, after)

    @property
    def particle_rows(self) -> tuple[tuple[str, str, int, int], ...]:
        """``(type, cut, before, after)`` of every cut on particles, in the events that were looked at."""
        return tuple((*key, int(n[0]), int(n[1])) for key, n in self._particles.items())

    def add(self, sample: str, step: str, weight: NDArray[np.float64]) -> None:
        """Count events that passed a step."""
        sums = self._sums.setdefault((sample, step), np.zeros(3))
        sums += (len(weight), weight.sum(), np.square(weight).sum())

    def __add__(self, other: CutFlow) -> CutFlow:
        return CutFlow(added(self._sums, other._sums), added(self._particles, other._particles))

    def to_json(self) -> dict[str, list[list[Any]]]:
        """Sums of every step, and particles before and after every cut; see `from_json`."""
        return {
            name: [[*key, *sums.tolist()] for key, sums in table.items()]
            for name, table in (("steps", self._sums), ("particles", self._particles))
        }

    @staticmethod
    def from_json(content: Mapping[str, list[list[Any]]]) -> CutFlow:
        """Cut flow of `to_json`."""
        steps, particles = ({(r[0], r[1]): r[2:] for r in content[name]} for name in ("steps", "particles"))
        return CutFlow(
            {key: np.array(sums, dtype=np.float64) for key, sums in steps.items()},
            {key: np.array(sums, dtype=np.int64) for key, sums in particles.items()},
        )

    @property
    def rows(self) -> tuple[CutFlowRow, ...]:
        """One row per sample and step, in order."""
        rows = []
        for (sample, step), sums in self._sums.items():
            (n, weight, squares), total = map(float, sums), float(self._sums[sample, ALL][1])
            share = weight / total if total else float("nan")
            rows.append(CutFlowRow(sample, step, int(n), weight, squares**0.5, share))
        return tuple(rows)

    def of(self, sample: str) -> tuple[CutFlowRow, ...]:
        """Rows of one sample."""
        return tuple(row for row in self.rows if row.sample == sample)

    def __rich__(self) -> Table:
        table = Table("sample", "step", title="Cut flow")
        for name in ("entries", "Σ weight", "share"):
            table.add_column(name, justify="right")
        for row in self.rows:
            weight = f"{row.weight:.5g} ± {row.error:.2g}"
            table.add_row(
                Text(row.sample), Text(row.step), f"{row.entries:,}", weight, f"{row.efficiency:.1%}"
            )
        return table
