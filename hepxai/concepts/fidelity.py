"""Reconstruction of a layer from concepts, and the outputs that the reconstruction gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.concepts.factorisation import nonnegative_scores
from hepxai.concepts.layers import Chunk, chunks, refuse_negative
from hepxai.core.estimate import Estimate, effective, ratio_mean, share, weighted_mean
from hepxai.events import Events
from hepxai.models.protocols import HasLayerCut
from hepxai.models.target import decides_classes
from hepxai.training.predictions import predicted_class

Array = NDArray[np.float64]


class Reconstruction(NamedTuple):
    """A layer put back as ``S P``.

    Attributes
    ----------
    error : Estimate
        Relative error of the layer, ``√(Σ w‖A - SP‖² / Σ w‖A‖²)``.
    fidelity : dict of str to Estimate
        ``decisions``: fraction of events with the same decision (classes only); ``constant_decisions``: that
        of the best constant decision, which needs no concepts. ``r2``, ``correlation`` and
        ``mse`` of the outputs, ``[O]``; of several classes, of the logits less their mean in each event.
    """

    error: Estimate
    fidelity: dict[str, Estimate]

    @property
    def figure_of_merit(self) -> Estimate:
        """Fraction of equal decisions; for a regression R², the mean over the outputs."""
        if "decisions" in self.fidelity:
            return self.fidelity["decisions"]
        r2 = self.fidelity["r2"]
        varies = np.isfinite(r2.value)  # R² of a constant output is undefined
        if not varies.any():
            return Estimate(np.asarray(np.nan), np.asarray(np.nan), r2.n_eff)
        return Estimate(r2.value[varies].mean(), np.sqrt(np.mean(r2.error[varies] ** 2)), r2.n_eff)


def score_maps(maps: Tensor, directions: Tensor) -> Tensor:
    """Scores ``[B, K, h, w]`` of maps ``[B, c, h, w]``."""
    size, _, height, width = maps.shape
    scores = nonnegative_scores(maps.movedim(1, 3).flatten(0, 2), directions)
    return scores.reshape(size, height, width, -1).movedim(3, 1)


def put_back(scores: Tensor, directions: Tensor) -> Tensor:
    """Maps ``[B, c, h, w]`` of scores ``[B, K, h, w]``."""
    return torch.einsum("bkhw,kc->bchw", scores, directions)


def reconstruction(model: HasLayerCut, events: Events, layer: str, values: Array) -> Reconstruction:
    """Reconstruction by directions ``[K, c]``.

    Raises
    ------
    ValueError
        If a map is negative.
    """
    size, outputs = len(events), len(model.outputs)
    lost, norm = np.zeros(size), np.zeros(size)
    before, after = np.zeros((size, outputs)), np.zeros((size, outputs))
    for chunk in chunks(model, events, layer):
        refuse_negative(model, chunk.maps, layer)
        norm[chunk.rows] = chunk.maps.double().square().sum((1, 2, 3)).numpy()
        before[chunk.rows] = chunk.outputs.double().numpy()
        lost[chunk.rows], after[chunk.rows] = _one(model, chunk, layer, values)
    decides, weight = decides_classes(model.outputs, events.schema), events.weight
    return Reconstruction(_root(ratio_mean(lost, norm, weight)), _fidelity(before, after, weight, decides))


def _one(model: HasLayerCut, chunk: Chunk, layer: str, values: Array) -> tuple[Array, Array]:
    """Squared error ``[B]`` of the maps, and outputs ``[B, O]`` of their reconstruction."""
    directions = torch.as_tensor(values, dtype=chunk.maps.dtype)
    maps = put_back(score_maps(chunk.maps, directions), directions)
    with torch.no_grad():
        outputs = model.forward_after(maps, layer, chunk.x)
    return (maps - chunk.maps).double().square().sum((1, 2, 3)).numpy(), outputs.double().numpy()


def _root(square: Estimate) -> Estimate:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.sqrt(square.value)
        return Estimate(value, np.where(value > 0, square.error / (2 * value), 0.0), square.n_eff)


def _fidelity(before: Array, after: Array, weight: Array, decides: bool) -> dict[str, Estimate]:
    figures = {}
    if decides:
        decision = predicted_class(before)
        always = [share(decision == c, weight, "rate of a constant decision") for c in np.unique(decision)]
        figures["decisions"] = share(decision == predicted_class(after), weight, "fidelity")
        figures["constant_decisions"] = max(always, key=lambda e: float(e.value))
        if before.shape[1] > 1:  # a shift of all logits changes no class
            before, after = (z - z.mean(axis=1, keepdims=True) for z in (before, after))
    return figures | {
        "r2": r_squared(before, after, weight),
        "correlation": correlation(before, after, weight),
        "mse": Estimate.of((after - before) ** 2, weight),
    }


def r_squared(before: Array, after: Array, weight: Array) -> Estimate:
    """``1 - Σ w (z' - z)² / Σ w (z - z̄)²`` of each output, ``[O]``, with its linearised error."""
    lost = (after - before) ** 2
    total = (before - _mean(before, weight)) ** 2
    parts = [ratio_mean(a, b, weight) for a, b in zip(lost.T, total.T, strict=True)]
    values, errors = (np.array([getattr(p, n) for p in parts]) for n in ("value", "error"))
    return Estimate(1 - values, errors, min(p.n_eff for p in parts))


def correlation(before: Array, after: Array, weight: Array) -> Estimate:
    """Weighted linear correlation of each output, ``[O]``.

    The error is linearised: an event with standard scores u and v contributes ``u v - r (u² + v²)/2``.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v = (_standardised(z, weight) for z in (before, after))
        value = _mean(u * v, weight)
        pull = weight[:, None] * (u * v - value * (u**2 + v**2) / 2)
    error = np.sqrt(np.sum(pull**2, axis=0)) / abs(weight.sum())
    return Estimate(value, error, effective(weight))


def _standardised(z: Array, weight: Array) -> Array:
    centred = z - _mean(z, weight)
    return np.asarray(centred / np.sqrt(_mean(centred**2, weight)))


def _mean(values: Array, weight: Array) -> Array:
    return weighted_mean(values, weight, "the outputs", "measure the fidelity on other events")
