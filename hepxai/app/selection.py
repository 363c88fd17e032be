"""Selection of events by an expression of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.evaluation import UnknownNameError, evaluate
from hepxai.events import SPLITS, Events


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
        self.texts = {
            "class": np.asarray(events.schema.classes)[events.label],
            "split": np.asarray(SPLITS)[events.split],
        }

    def place(self, row: int) -> str:
        """Event, for messages."""
        return f"event {row}"

    def __call__(self, name: str) -> Any:
        """Values of a name, ``[E]``."""
        if name not in self.values:
            raise UnknownNameError(name, "the events", self.values)
        return self.values[name]

    in_file = __call__


def selected(numbers: EventNumbers, text: str, size: int) -> NDArray[np.bool_]:
    """Mask of the events for which an expression is true, ``[E]``; all for an empty text.

    Raises
    ------
    ExpressionError
        If the text is no condition on the numbers of an event; the message names what there is.
    """
    if not text.strip():
        return np.ones(size, dtype=bool)
    mask = np.asarray(evaluate(text, numbers))
    if mask.shape != (size,) or mask.dtype != bool:
        names = ", ".join(list(numbers.values)[:12])
        raise ExpressionError(
            f"{text!r} is no condition; write for example `weight > 0 and {names.split(', ')[0]} > 1`"
        )
    return mask
