"""Derivatives of a target along directions in a layer: exact, or by a step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.concepts.layers import chunks, pooled_gradients
from hepxai.concepts.populations import Population
from hepxai.events import Events
from hepxai.explainers.base import CheckWarning
from hepxai.models.protocols import HasFeatureMaps, HasLayerCut

Array = NDArray[np.float64]
Slopes = Callable[[Array], Array]


def slopes_of(
    model: HasFeatureMaps, events: Events, population: Population, layer: str, step: float | None
) -> Slopes:
    """Function from directions ``[D, c]`` to the derivatives of the target along them, ``[E, D]``.

    Parameters
    ----------
    model : HasFeatureMaps
    events : Events
        Events of the population.
    population : Population
    layer : str
    step : float, optional
        Length of a step along each direction at all positions; None is the exact derivative, for which the
        model is asked once, whatever the number of directions.

    Warns
    -----
    CheckWarning
        If all derivatives are 0.
    """
    if step is not None:
        assert isinstance(model, HasLayerCut)
        return partial(_stepped, model, events, population, layer, step)
    gradients = pooled_gradients(model, events, layer, population.output)
    if not gradients.any():
        warnings.warn(
            f"{population.target} does not depend on layer {layer} for any event of {population.name}: all "
            "derivatives are 0, and so are all scores",
            CheckWarning,
            stacklevel=3,
        )
    return lambda directions: gradients @ directions.T


def _stepped(
    model: HasLayerCut, events: Events, population: Population, layer: str, step: float, directions: Array
) -> Array:
    parts = []
    for chunk in chunks(model, events, layer):
        moves = torch.as_tensor(step * directions, dtype=chunk.maps.dtype)[:, None, :, None, None]

        def value(maps: Tensor, x: Tensor = chunk.x) -> Tensor:
            return population.output(model.forward_after(maps, layer, x)).double()

        with torch.no_grad():
            before = value(chunk.maps)
            parts.append(torch.stack([value(chunk.maps + move) - before for move in moves], 1).numpy() / step)
    return np.concatenate(parts)
