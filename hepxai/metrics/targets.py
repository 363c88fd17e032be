"""Figures of merit of a regression, split by split, with signed weights and errors."""

from __future__ import annotations

import numpy as np

from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.events import SPLITS, Events, Schema
from hepxai.metrics.momentum import THRESHOLD, WINDOW, momentum_merit

Figures = dict[str, Estimate]


def target_metrics(predicted: Array, events: Events) -> dict[str, Figures]:
    """All figures of merit of predicted targets, for each split that has events.

    Of every target t: ``mae_t``, the mean |predicted - true|; ``bias_t``, the mean predicted - true;
    ``gain_t``, how much smaller the mean |predicted - true| is than that of a constant, the median of the
    training split: a model that learned nothing gains nothing. Of a pt in GeV, those of
    `hepxai.metrics.momentum.momentum_merit` as well, the cut behind an @: ``mae_pt@7-13``,
    ``efficiency_pt@15``, ….

    Parameters
    ----------
    predicted : ndarray, shape [E, T]
    events : Events
        Those without a true value count for the fakes alone.

    Returns
    -------
    dict
        ``split → name → figure``.

    Raises
    ------
    ValueError
        If a prediction is not finite.
    """
    if bad := int((~np.isfinite(predicted)).sum()):
        raise ValueError(f"{bad} of {predicted.size} predictions are not finite")
    constant = _medians(events)
    splits = {split: events.split == number for number, split in enumerate(SPLITS)}
    return {
        split: _of_split(predicted[in_split], events[in_split], constant)
        for split, in_split in splits.items()
        if in_split.any()
    }


def _medians(events: Events) -> list[float]:
    """Median of each target in the training split, NaN without any."""
    finite = (t[np.isfinite(t)] for t in events.where("train").targets.T)
    return [float(np.median(t)) if len(t) else np.nan for t in finite]


def _of_split(predicted: Array, events: Events, constant: list[float]) -> Figures:
    merits: Figures = {}
    for k, name in enumerate(events.schema.targets):
        true = events.targets[:, k].astype(np.float64)
        labelled = np.isfinite(true)
        off, alone = (predicted[:, k] - true)[labelled], (constant[k] - true)[labelled]
        figures = {"mae": abs(off), "bias": off, "gain": abs(alone) - abs(off)}
        for figure, values in figures.items():
            merits[f"{figure}_{name}"] = ratio_mean(values, np.ones(len(values)), events.weight[labelled])
        if is_momentum(events.schema, name):
            merits |= _of_momentum(predicted[:, k], true, events.weight)
    return merits


def is_momentum(schema: Schema, target: str) -> bool:
    """True if the figures of merit of a transverse momentum apply to a target."""
    return target == "pt" and schema.target_units[schema.targets.index(target)] == "GeV"


def _of_momentum(predicted: Array, true: Array, weight: Array) -> Figures:
    merit = momentum_merit(predicted, true, weight)
    window, cut = f"{WINDOW[0]:g}-{WINDOW[1]:g}", f"{THRESHOLD:g}"
    inside = {f"mae_pt@{window}": merit.spread, f"bias_pt@{window}": merit.bias}
    return inside | {f"{name}_pt@{cut}": getattr(merit, name) for name in ("efficiency", "leak", "fakes")}
