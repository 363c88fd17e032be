"""Samples of a data-set card: simulation, and unlabelled data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from hepxai.cards import Card, entry_error
from hepxai.datasets.expressions import Expression
from hepxai.datasets.names import require
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


def gives_classes(labels: Mapping[str, str | None]) -> bool:
    """True if samples give the class of an event."""
    return bool(labels) and not any(labels.values())


def check_samples(samples: Sequence[Sample], labels: Mapping[str, str | None]) -> None:
    """Refuse samples of equal names, and classes that are missing or do not fit the labels.

    Parameters
    ----------
    samples : sequence of Sample
    labels : mapping of str to str or None
        Classes; a condition for each where samples do not say which.
    """
    names, by_sample = [s.name for s in samples], gives_classes(labels)
    for i, sample in enumerate(samples):
        if sample.name in names[:i]:
            raise entry_error(f"two samples are called {sample.name!r}; rename one", "samples", i, "name")
        if by_sample and sample.class_ is None:
            text = f"no class; write class: and one of {', '.join(labels)}, or list data under data:"
            raise entry_error(text, "samples", i)
        if not by_sample and sample.class_ is not None:
            why = "labels are conditions" if labels else "the card has no labels"
            raise entry_error(f"{why}, so samples have no class; leave it out", "samples", i, "class")
        if by_sample:
            require("class", str(sample.class_), labels, "samples", i, "class")
    for name in labels if by_sample else ():
        if name not in {s.class_ for s in samples}:
            text = f"no sample has the class {name!r}; add one, or take the class out"
            raise entry_error(text, "labels", name)


def check_data(samples: Sequence[Sample], data: Sequence[DataSample]) -> None:
    """Refuse data samples with the name of another sample."""
    names = [s.name for s in samples] + [s.name for s in data]
    for i, sample in enumerate(data):
        if names.count(sample.name) > 1:
            raise entry_error(f"two samples are called {sample.name!r}; rename one", "data", i, "name")
