"""Card that reads the unlabelled data of a data-set card, apart from its simulation."""

from __future__ import annotations

from typing import Any

from hepxai.cards import Source
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.samples import Sample
from hepxai.events.schema import DATA
from hepxai.events.splits import ALL_FOLDS, Split


def data_card(card: DatasetCard) -> DatasetCard:
    """Card that reads the samples under ``data:`` as events of the single class "data".

    Selection, particles, features and globals are those of the given card, so that its models score the
    events. Weights of the simulation, targets, truth masks, variations and the observers under
    ``simulation_only:`` are left out. Every event is a test event.

    Raises
    ------
    CardError
        If the card lists no data.
    """
    if not card.data:
        raise card.error(
            ("data",), "no data samples; list them, as in data: [{name: run1, files: run1.root}]"
        )
    observers = {n: o for n, o in card.observers.items() if n not in card.simulation_only}
    focus = card.focus
    if focus is not None and focus.observer not in observers:
        focus = focus.model_copy(update={"observer": None})
    changes: dict[str, Any] = {
        "samples": tuple(Sample.model_validate(s.model_dump() | {"class": DATA}) for s in card.data),
        "labels": {DATA: None},
        "weights": "1",
        "particles": {n: p.model_copy(update={"truth": {}}) for n, p in card.particles.items()},
        "observers": observers,
        "focus": focus,
        "split": Split(folds=2, fold=ALL_FOLDS),
    }
    without: dict[str, Any] = {
        "data": (),
        "simulation_only": (),
        "targets": {},
        "variations": {},
        "variation": None,
    }
    copy = card.model_copy(update=changes | without)
    copy._source = _source(card._source)
    return copy


def _source(source: Source) -> Source:
    """Lines of the entries under ``data:`` as those of the samples."""
    lines = {place: line for place, line in source.lines.items() if place[:1] != ("samples",)}
    lines |= {("samples", *p[1:]): line for p, line in source.lines.items() if p[:1] == ("data",)}
    return Source(source.path, lines)
