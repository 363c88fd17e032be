"""What the methods share that compare an event with rows of a background sample."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import residual_checks
from hepxai.events import Events
from hepxai.explainers.base import Explainer
from hepxai.models.protocols import Tabular
from hepxai.models.table.rows import finite_columns
from hepxai.models.target import Target

SAMPLES = ("background", "all")
ROUNDING = 1e-12
"""Residual that double precision leaves: 0, or it would be infinitely larger than a change of exactly 0."""
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class BackgroundExplainer(Explainer):
    """A comparison of every event with the same rows of the table, all of them counting alike.

    Attributes
    ----------
    sample : str
        "background": rows are drawn from the first class of the given events. "all": from all of them.
    size : int
        Rows that are drawn, in proportion to |weight|: what one compares with is a choice, not a measurement,
        and rows that count negatively are none of it.
    seed : int
        Of all random numbers of the method. With the same events it gives the same rows.
    rows : ndarray, shape [K, G], or Events, optional
        The rows; drawn unless given. They are too many to be stored with the result.
    expected : float, optional
        Mean score of the rows, stored with the result; worked out.
    """

    needs = Tabular
    sample: str = "background"
    size: int = 100
    seed: int = 0
    rows: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    expected: float | None = None

    def __post_init__(self) -> None:
        if self.sample not in SAMPLES:
            raise ValueError(f"sample={self.sample!r}; choose one of {', '.join(SAMPLES)}")
        whole("size", self.size, 1)
        whole("seed", self.seed, 0)

    def prepare(self, model: Any, events: Events, target: str) -> Self:
        """Settle the rows and their mean score."""
        need_table(self.name, events)
        rows = self._given(events) if self.rows is not None else self._drawn(events)
        score = Target.of(model.outputs, target)(model.score_table(rows))
        return dataclasses.replace(self, rows=rows, expected=float(score.mean()))

    def background(self) -> NDArray[np.float32]:
        """Rows ``[K, G]``, once they are settled."""
        if self.rows is None or self.expected is None:
            raise ValueError("no background has been drawn; call prepare or explain")
        return self.rows

    def checks(self, found: Attribution) -> dict[str, float]:
        """Completeness."""
        return residual_checks(found)

    def result(
        self, values: Array, score: Array, events: Events, target: str, error: Array | None = None
    ) -> Attribution:
        """Attribution to the columns, with what its sum lacks to the change of the score."""
        assert self.expected is not None
        output_change = score - self.expected
        residual = values.sum(axis=1) - output_change
        residual[np.abs(residual) <= ROUNDING * np.maximum(1.0, np.abs(score))] = 0.0
        return Attribution(
            values,
            ("event", "feature"),
            events,
            self.name,
            target,
            settings=self.settings(),
            labels={"feature": events.schema.globals},
            residual=residual,
            output_change=output_change,
            error=error,
        )

    def must_add_up(self, found: Attribution, tolerance: float, advice: str) -> None:
        """Refuse, with an ArithmeticError, a result of which an event does not add up."""
        assert found.residual is not None
        assert found.output_change is not None
        size = np.maximum(np.abs(found.values).sum(axis=1), np.abs(found.output_change))
        bad = np.abs(found.residual) > tolerance * np.maximum(size, np.finfo(np.float32).eps)
        if bad.any():
            worst = int(np.argmax(np.abs(found.residual)))
            raise ArithmeticError(
                f"{self.name}: values and mean do not add up to the score for {np.count_nonzero(bad)} of "
                f"{len(bad)} events; event {worst} lacks {found.residual[worst]:.3g} of "
                f"{found.output_change[worst]:.3g}; {advice}"
            )

    def _given(self, events: Events) -> NDArray[np.float32]:
        columns = events.schema.globals
        given: object = self.rows
        if isinstance(given, Events):
            events.schema.need_equal(given.schema)
            given = given.table()[0]
        rows = np.asarray(given, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(columns) or not len(rows):
            raise ValueError(f"rows have shape {rows.shape}; rows of {', '.join(columns)} are needed")
        return rows

    def _drawn(self, events: Events) -> NDArray[np.float32]:
        """Evenly spaced in the running sum of the weights of shuffled events: less chance than in a draw."""
        own = np.flatnonzero(events.label == 0) if self.sample == "background" else np.arange(len(events))
        rng = np.random.default_rng(self.seed)
        own = rng.permutation(own)
        share = np.cumsum(np.abs(events.weight[own]))
        if not len(own) or share[-1] == 0:
            what = f"class {events.schema.classes[0]!r}" if self.sample == "background" else "the events"
            raise ValueError(
                f"no event of {what} with a weight to compare with; explain a population that has some, "
                "or give the `rows`"
            )
        places = (np.arange(self.size) + rng.random()) / self.size * share[-1]
        chosen = own[np.minimum(np.searchsorted(share, places, side="right"), len(own) - 1)]
        return np.ascontiguousarray(events.table()[0][chosen])


def need_table(method: str, events: Events) -> None:
    """Refuse events without a table, or one with values that are not finite."""
    if not events.schema.globals:
        raise ValueError(f"{method} explains the event-level table; the card declares no `globals`")
    finite_columns(events)


def whole(name: str, value: Any, least: int) -> None:
    """Refuse a setting that is no whole number of at least ``least``."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name}={value!r}; a whole number of at least {least} is needed")


def number(name: str, value: Any, least: float) -> None:
    """Refuse a setting that is no finite number of at least ``least``."""
    if type(value) not in (int, float) or not least <= value < np.inf:
        raise ValueError(f"{name}={value!r}; a number of at least {least:g} is needed")
