"""Samples of a data-set card: simulation, and unlabelled data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from hepxai.cards import Card, entry_error
from hepxai.datasets.expressions import Expression
from hepxai.datasets.short_forms import listed

Files = Annotated[tuple[str, ...], BeforeValidator(listed, str | list[str]), Field(min_length=1)]


class Sample(Card):
    """Files of one kind of events."""

    name: str
    files: Files
    class_: str | None = Field(default=None, alias="class")
    weight: Expression = "1"


class DataSample(Card):
    """Files of unlabelled data; the weights of the simulation do not apply to them."""

    name: str
    files: Files
    weight: Expression = "1"


def check_data(samples: Sequence[Sample], data: Sequence[DataSample]) -> None:
    """Refuse data samples with the name of another sample."""
    names = [s.name for s in samples] + [s.name for s in data]
    for i, sample in enumerate(data):
        if names.count(sample.name) > 1:
            raise entry_error(f"two samples are called {sample.name!r}; rename one", "data", i, "name")
