"""Runs under systematic variations: their events, settings and effect on the nominal run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.spread import with_systematic
from hepxai.cards import load_card
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.jagged import IntArray
from hepxai.datasets import DatasetCard
from hepxai.datasets.variations import unknown_variation
from hepxai.events import Events
from hepxai.events.pairing import pair_events
from hepxai.explainers import EXPLAINERS
from hepxai.run.manifest import RunError

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Split → figure of merit → ``{value, error}``."""


class AnyRun(Protocol):
    """A run, with or without a variation, as far as this module needs it."""

    @property
    def folder(self) -> Path:
        """Run folder."""

    @property
    def dataset(self) -> DatasetCard:
        """Card of the data set."""

    @property
    def events(self) -> Events:
        """All selected events."""

    def maps(self) -> dict[str, Attribution]:
        """Explanations by name."""


def chosen_variations(run: AnyRun, names: Sequence[str] | None) -> Sequence[str]:
    """Variations to do, all by default; see `Run.vary`.

    Raises
    ------
    RunError
        If the card has no such variation, or none.
    """
    shift, declared = run.dataset.variation, run.dataset.variation_names
    if shift or not declared:
        why = f"is itself under {shift}" if shift else "has no variations"
        raise RunError(
            f"{run.folder}: the data-set card {why}; start a run with a card that declares sources "
            "under variations:, see docs/systematics.md"
        )
    for name in names or ():
        if problem := unknown_variation(name, declared):
            raise RunError(f"{run.folder}: {problem}")
    return tuple(names or declared)


def varied_rows(nominal: Events, rows: IntArray, varied: Events) -> IntArray:
    """Rows under a variation of the events that are explained without it, rising.

    Events that leave the selection are missing. Of those that come into it, in the same splits, the same
    share is taken as of the nominal events.

    Parameters
    ----------
    nominal, varied : Events
        All events of a run, without and with the variation.
    rows : ndarray of int64
        Explained events of the first.
    """
    pairs = pair_events(nominal, varied)
    partners = pairs.second[np.isin(pairs.first, rows)]
    splits = np.unique(nominal.split[rows])
    share = len(rows) / max(1, int(np.isin(nominal.split, splits).sum()))
    came = pairs.only_second[np.isin(varied.split[pairs.only_second], splits)]
    chosen = came[evenly_spread(len(came), round(share * len(came)))]
    return np.sort(np.concatenate([partners, chosen]))


def changes_weights_alone(nominal: Events, varied: Events) -> bool:
    """True if a variation leaves everything that a model sees as it is."""
    return nominal.fingerprint(values=True) == varied.fingerprint(values=True)


def with_varied_maps(
    nominal: AnyRun, maps: Mapping[str, Attribution], sources: Mapping[str, Sequence[AnyRun]]
) -> dict[str, Attribution]:
    """Maps that carry those under the variations of all sources; with a warning, none.

    Parameters
    ----------
    nominal : Run
    maps : mapping
        Of this run.
    sources : mapping
        Source → runs under each of its alternatives.
    """
    every = {source: [(run, run.maps()) for run in runs] for source, runs in sources.items()}
    if not every:
        return dict(maps)
    carried = {}
    for key, one in maps.items():
        lacking = [
            run.dataset.variation
            for several in every.values()
            for run, varied in several
            if key not in varied
            or not same_request(one, varied[key])
            or not same_population(nominal.events, one, run.events, varied[key])
        ]
        if lacking:
            warnings.warn(
                f"{key} has no systematic error: {', '.join(map(str, lacking))} explained it for other "
                f"events, with other settings, or not at all; `hepxai vary {nominal.folder}` completes it",
                stacklevel=3,
            )
            carried[key] = one
        else:
            varied = {s: tuple(of[key] for _, of in several) for s, several in every.items()}
            carried[key] = one.replace(varied=varied)
    return carried


def same_request(one: Attribution, other: Attribution) -> bool:
    """True if two maps explain the same output with the same settings."""
    return one.target == other.target and requested_settings(one) == requested_settings(other)


def same_shift(folder: Path, dataset: DatasetCard) -> bool:
    """True if the card in the folder of a varied run defines its variation as this card does."""
    return load_card(folder / "dataset.yaml", DatasetCard).shift == dataset.shift


def same_population(nominal: Events, explained: Attribution, varied: Events, other: Attribution) -> bool:
    """True if two maps explain the same events, apart from those that only one selection has."""
    pairs = pair_events(explained.events, other.events)
    left, came = explained.events[pairs.only_first], other.events[pairs.only_second]
    in_both = (pair_events(left, varied), pair_events(came, nominal))
    return not any(len(both.first) for both in in_both)


def with_systematic_entries(
    metrics: Figures, varied: Mapping[str, Sequence[Figures]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of merit with ``syst``; see `hepxai.attribution.spread.with_systematic`.

    Parameters
    ----------
    metrics : mapping
    varied : mapping
        Source → such figures under each of its alternatives.
    """

    def estimates(figures: Figures) -> dict[str, dict[str, Estimate]]:
        return {s: {n: Estimate.from_json(e) for n, e in row.items()} for s, row in figures.items()}

    result = with_systematic(estimates(metrics), {s: [*map(estimates, of)] for s, of in varied.items()})
    return {s: as_json(row) for s, row in result.items()}


def requested_settings(attribution: Attribution) -> dict[str, Any]:
    """Settings that give the explainer of a map again; the rest depends on the population."""
    fields = EXPLAINERS[attribution.method].model_fields
    return {k: v for k, v in attribution.settings.items() if k in fields and k != "folder"}
