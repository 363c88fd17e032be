"""Selection of events by an expression of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.evaluation import UnknownNameError, evaluate
from hepxai.events import Events


class EventNumbers:
    """Numbers of each event by name, for expressions: nothing but these is looked up."""

    def __init__(self, events: Events, scores: NDArray[np.float64], outputs: tuple[str, ...]) -> None:
        table, names = events.table()
        types = events.schema.types
        self.values: dict[str, NDArray[Any]] = {
            **{
                t: np.bincount(events.parent[events.type == i], minlength=len(events))
                for i, t in enumerate(types)
            },
            **{n: table[:, i].astype(np.float64) for i, n in enumerate(names)},
            **{n: np.asarray(v, dtype=np.float64) for n, v in events.observers.items()},
            **{n: events.targets[:, i].astype(np.float64) for i, n in enumerate(events.schema.targets)},
            "label": events.label,
            "weight": events.weight,
            "run": events.run,
            "event": events.event,
            "entry": events.entry,
            "particles": events.counts,
        }
        for i, name in enumerate(outputs[: scores.shape[1]]):
            self.values["score" if len(outputs) == 1 else f"score_{name}"] = scores[:, i]

    def place(self, row: int) -> str:
        """Event, for messages."""
        return f"event {row}"

    def __call__(self, name: str) -> Any:
        """Values of a name, ``[E]``."""
        if name not in self.values:
            raise UnknownNameError(name, "the events", self.values)
        return self.values[name]

    in_file = __call__


def select_events(numbers: EventNumbers, text: str, size: int) -> NDArray[np.bool_]:
    """Mask of the events for which an expression is true, ``[E]``; all for an empty text.

    Raises
    ------
    ExpressionError
        If the text is no condition on the numbers of an event; the message names what there is.
    """
    if not text.strip():
        return np.ones(size, dtype=bool)
    names = ", ".join(numbers.values)
    try:
        mask = np.asarray(evaluate(text, numbers))
    except ExpressionError as problem:
        raise ExpressionError(f"{problem}; the events have {names}") from None
    if mask.shape != (size,) or mask.dtype != bool:
        first = next(iter(numbers.values))
        raise ExpressionError(
            f"{text!r} is no condition; write for example `weight > 0 and {first} > 1`; the events have "
            f"{names}"
        )
    return mask
