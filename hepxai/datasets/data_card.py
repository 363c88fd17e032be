"""Cards that read the unlabelled data of a data-set card, or other files than those that it lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepxai.cards import Source, nearest
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.samples import DataSample, Sample
from hepxai.datasets.sources import is_remote
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


def card_of_files(card: DatasetCard, files: Sequence[str], sample: str | None = None) -> DatasetCard:
    """Card that reads other files in the same way.

    Parameters
    ----------
    card : DatasetCard
    files : sequence of str
        Paths, patterns or URLs, with ``:tree`` where the tree is not that of the card.
    sample : str, optional
        Sample of the card whose class and weight the events of the files have; by default they are unlabelled
        data, see `data_card`.

    Raises
    ------
    CardError
        If the card has no such sample.
    """
    paths = absolute_paths(files)
    if sample is None:
        data = (DataSample(name=DATA, files=paths),)
        return data_card(card.model_copy(update={"data": data}))
    names = [s.name for s in card.samples]
    if sample not in names:
        raise card.error(
            ("samples",), f"no sample {sample!r}{nearest(sample, names)}; it has {', '.join(names)}"
        )
    chosen = card.samples[names.index(sample)].model_copy(update={"files": paths})
    return card.model_copy(update={"samples": (chosen,), "data": ()})


def absolute_paths(files: Sequence[str]) -> tuple[str, ...]:
    """Paths from the working folder as absolute ones; URLs as they are."""
    return tuple(f if is_remote(f) else str(Path(f).expanduser().absolute()) for f in files)


def card_of_file(card: DatasetCard, path: str, tree: str, sample: str) -> DatasetCard:
    """Card that reads a single tree of those that a card lists."""
    chosen = next(s for s in card.samples if s.name == sample)
    name = path if tree == card.tree else f"{path}:{tree}"
    copy = card.model_copy(update={"samples": (chosen.model_copy(update={"files": (name,)}),), "data": ()})
    copy._source = Source()  # no line of the card names this file
    return copy


def _source(source: Source) -> Source:
    """Lines of the entries under ``data:`` as those of the samples."""
    lines = {place: line for place, line in source.lines.items() if place[:1] != ("samples",)}
    lines |= {("samples", *p[1:]): line for p, line in source.lines.items() if p[:1] == ("data",)}
    return Source(source.path, lines)
