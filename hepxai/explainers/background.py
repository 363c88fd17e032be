"""Methods that compare an event with a background sample: rows of the table, or images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.base import Explainer, Prepared, with_residual
from hepxai.explainers.batches import View
from hepxai.models.protocols import Tabular
from hepxai.models.table.rows import finite_columns
from hepxai.models.target import Target

ROUNDING = 1e-12
"""Rounding in double precision, set to 0: relative to a change of exactly 0 it would be infinite."""
Array = NDArray[np.float64]
Table = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PreparedBackground(Prepared):
    """Comparison with fixed background rows.

    Attributes
    ----------
    rows : ndarray of float32, shape [K, G] or [K, T, R, C], or None
        None where the method needs no rows.
    expected : float
        Mean score of the rows.
    engine : object
        Explainer of the library that does the work.
    """

    rows: Table | None
    expected: float
    engine: Any

    def settings(self) -> dict[str, Any]:
        """Settings with the mean score of the rows."""
        return super().settings() | {"expected": self.expected}

    def score(self, rows: Table) -> Array:
        """Target for rows of a table, or for images, ``[E]``."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        scores: Array = self.output(self.explainer.score_rows(self.model, rows))
        return scores

    def attribute(self, events: Events) -> Attribution:
        """Explain every event; a method with a ``tolerance`` refuses results that do not add up."""
        attribution = super().attribute(events)
        if not self.explainer.complete:
            return attribution
        score = self.explainer.score_events(self, events)
        attribution = with_residual(attribution, score - self.expected)
        assert attribution.residual is not None
        rounding = np.abs(attribution.residual) <= ROUNDING * np.maximum(1.0, np.abs(score))
        attribution = attribution.replace(residual=np.where(rounding, 0.0, attribution.residual))
        if (tolerance := getattr(self.explainer, "tolerance", None)) is not None:
            must_add_up(attribution, tolerance, self.explainer.advice)
        return attribution


def must_add_up(attribution: Attribution, tolerance: float, advice: str) -> None:
    """Refuse, with an ArithmeticError, a result of which an event does not add up."""
    residual, change = attribution.residual, attribution.output_change
    assert residual is not None
    assert change is not None
    values = np.abs(attribution.values)
    size = np.maximum(values.sum(axis=tuple(range(1, values.ndim))), np.abs(change))
    bad = np.abs(residual) > tolerance * np.maximum(size, np.finfo(np.float32).eps)
    if bad.any():
        worst = int(np.argmax(np.abs(residual)))
        raise ArithmeticError(
            f"{attribution.method}: values and mean do not add up to the score for {np.count_nonzero(bad)} "
            f"of {len(bad)} events; event {worst} lacks {residual[worst]:.3g} of {change[worst]:.3g}; "
            + advice
        )


class BackgroundExplainer(Explainer):
    """A comparison of every event with the same rows of the table, all of equal weight.

    Attributes
    ----------
    advice : str
        Remedy where the values do not add up, for methods with a ``tolerance`` (class attribute).
    noun : str
        Of the rows, for messages (class attribute).
    sample : str
        "background": rows are drawn from the first class of the given events. "all": from all of them.
    size : int
        Rows that are drawn, in proportion to |weight|: the reference is a choice, not a measurement,
        and rows of negative weight have no place in it.
    seed : int
        Of all random numbers of the method. With the same events it gives the same rows.
    rows : ndarray, shape [K, G], or Events, optional
        The rows; drawn unless given. They are too many to be stored: the result has their hash.
    """

    advice: ClassVar[str] = ""
    noun: ClassVar[str] = "rows"
    axes: ClassVar[tuple[str, ...]] = ("event", "feature")
    complete = True
    reads: ClassVar[View] = "table"
    needs: ClassVar[type] = Tabular
    sample: Literal["background", "all"] = "background"
    size: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    rows: Any = Field(default=None, repr=False, exclude=True)

    def settings(self) -> dict[str, Any]:
        """Settings; rows that were given are named by their hash."""
        if self.rows is None:
            return super().settings()
        rows = self.rows_of(self.rows) if isinstance(self.rows, Events) else np.asarray(self.rows)
        digest = hashlib.sha256(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        if isinstance(self.rows, Events):
            digest.update(self.rows.weight.tobytes())
        return super().settings() | {"rows": f"{len(rows)} {self.noun}, sha256 {digest.hexdigest()[:16]}"}

    def prepare(self, model: Any, events: Events, target: str) -> PreparedBackground:
        """Compute the rows and their mean score."""
        rows = self.background(events)
        expected = float(Target.of(model.outputs, target)(self.score_rows(model, rows)).mean())
        prepared = {"model": model, "target": target, "rows": rows, "expected": expected}
        engine = self.engine(PreparedBackground(explainer=self, engine=None, **prepared))
        return PreparedBackground(explainer=self, engine=engine, **prepared)

    def engine(self, prepared: PreparedBackground) -> Any:
        """Explainer of the library that does the work."""
        return None

    def forward(self, model: Any) -> Callable[[Tensor], Tensor]:
        """Differentiable function from rows to outputs ``[B, O]``."""
        score: Callable[[Tensor], Tensor] = model.forward_table
        return score

    def score_rows(self, model: Any, rows: Table) -> Array:
        """Outputs ``[K, O]`` of rows."""
        scores: Array = model.score_table(rows)
        return scores

    def score_events(self, prepared: PreparedBackground, events: Events) -> Array:
        """Target ``[E]`` of events."""
        return prepared.score(self.rows_of(events))

    def rows_of(self, events: Events) -> Table:
        """Row of each event, ``[E, G]``."""
        return events.table()[0]

    def check_rows(self, events: Events) -> None:
        """Refuse events without rows, or with values that are not finite."""
        need_table(self.name, events)

    def background(self, events: Events) -> Table:
        """Rows ``[K, ...]`` that events are compared with."""
        self.check_rows(events)
        if self.rows is not None:
            return self._given(events)
        return np.ascontiguousarray(self.rows_of(events[self._drawn(events, self.size)]))

    def _given(self, events: Events) -> Table:
        if isinstance(self.rows, Events):
            events.schema.need_equal(self.rows.schema)
            return self.rows_of(self.rows)
        rows = np.asarray(self.rows, dtype=np.float32)
        shape = self.rows_of(events[:0]).shape[1:]
        if rows.shape[1:] != shape or not len(rows):
            what = ", ".join(events.schema.globals) if len(shape) == 1 else f"shape {shape}"
            raise ValueError(f"rows have shape {rows.shape}; {self.noun} of {what} are needed")
        return rows

    def _pool(self, events: Events) -> IntArray:
        """Positions of the events that rows are drawn from."""
        pool = np.flatnonzero(events.label == 0) if self.sample == "background" else np.arange(len(events))
        if not len(pool) or not events.weight[pool].any():
            what = f"class {events.schema.classes[0]!r}" if self.sample == "background" else "the events"
            raise ValueError(
                f"no event of {what} with a weight to compare with; explain a population that has some, "
                "or give the `rows`"
            )
        return pool

    def _drawn(self, events: Events, size: int) -> IntArray:
        """Systematic sample: positions of shuffled events, evenly spaced in their cumulative weight."""
        rng = np.random.default_rng(self.seed)
        pool = rng.permutation(self._pool(events))
        share = np.cumsum(np.abs(events.weight[pool]))
        places = (np.arange(size) + rng.random()) / size * share[-1]
        return np.asarray(pool[np.minimum(np.searchsorted(share, places, side="right"), len(pool) - 1)])


def need_table(method: str, events: Events) -> None:
    """Refuse events without a table, or one with values that are not finite."""
    if not events.schema.globals:
        raise ValueError(f"{method} explains the event-level table; the card declares no `globals`")
    finite_columns(events)


def one_by_one(events: Events) -> list[IntArray]:
    """Batches of one event, for libraries that explain a single row."""
    return list(np.arange(len(events))[:, None])
