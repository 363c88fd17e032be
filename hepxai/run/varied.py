"""Events and settings for the explanations under a systematic variation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.spread import with_systematic
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.pairing import pair_events
from hepxai.explainers import EXPLAINERS

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Split → figure of merit → ``{value, error}``."""


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
