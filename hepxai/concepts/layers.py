"""Activations and gradients of a convolutional layer, in chunks of flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.core.chunks import evenly_spread, image_rows, in_order
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import splitmix64
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.libraries import event_seeds
from hepxai.models.protocols import HasFeatureMaps, HasLayerCut
from hepxai.models.target import Target

Array = NDArray[np.float64]


class Chunk(NamedTuple):
    """Events at a layer: rows, images ``[B, T, R, C]``, outputs ``[B, O]``, maps ``[B, c, h, w]``."""

    rows: IntArray
    x: Tensor
    outputs: Tensor
    maps: Tensor


def layer_of(model: Any, layer: str | None, *, needs: type = HasLayerCut) -> str:
    """Name of a layer with maps, by default the last one.

    Raises
    ------
    CannotExplainError
        If the model has no maps.
    ValueError
        If it has no such layer.
    """
    if not isinstance(model, needs):
        raise CannotExplainError(
            f"concepts need {needs.__name__}, maps of a convolutional layer; {type(model).__name__} has none"
        )
    assert isinstance(model, HasFeatureMaps)
    layers = model.feature_layers
    if not layers or layer not in (None, *layers):
        raise ValueError(f"the model has no layer {layer!r} with maps; it has {', '.join(layers) or 'none'}")
    return layers[-1] if layer is None else layer


def chunks(model: HasFeatureMaps, events: Events, layer: str) -> Iterator[Chunk]:
    """Events at a layer, a few at a time, without gradients.

    Raises
    ------
    FloatingPointError
        If an activation is not finite.
    """
    for rows in image_rows(len(events), events.image_layout().shape):
        x = torch.as_tensor(events[rows].image())
        with torch.no_grad():
            outputs, maps = model.forward_maps(x, layer)
        if not maps.isfinite().all():
            raise FloatingPointError(
                f"layer {layer} has activations that are not finite; look for extreme pixels (`hepxai check`)"
            )
        yield Chunk(rows, x, outputs.detach(), maps.detach())


def position_sample(
    model: HasFeatureMaps, events: Events, layer: str, number: int, seed: int
) -> NDArray[np.float32]:
    """Activations ``[N, c]`` at random positions of a layer, as many from every event, without blank ones.

    A position where all channels are 0 adds nothing to any factorisation. Which positions are taken depends
    on the event and the seed, not on the other events.

    Parameters
    ----------
    number : int
        Number of positions; all if there are fewer. Of more events than this, an evenly spread part is read.
    """
    events = events[evenly_spread(len(events), number)]
    each = -(-number // max(len(events), 1))
    seeds = event_seeds(events, seed)[:, 0]
    parts = []
    for chunk in chunks(model, events, layer):
        refuse_negative(model, chunk.maps, layer)
        vectors = chunk.maps.flatten(2).transpose(1, 2).numpy()  # [B, P, c]
        order = splitmix64(seeds[chunk.rows, None].astype(np.uint64) ^ splitmix64(_numbers(vectors.shape[1])))
        taken = np.sort(np.argsort(order, axis=1, kind="stable")[:, :each], axis=1)
        sample = np.take_along_axis(vectors, taken[:, :, None], axis=1).reshape(-1, vectors.shape[2])
        parts.append(sample[sample.any(axis=1)])
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def _numbers(size: int) -> NDArray[np.uint64]:
    return np.arange(size, dtype=np.uint64)


def refuse_negative(model: Any, maps: Tensor, layer: str) -> None:
    """Refuse maps with negative activations, and name the layers that have none."""
    if not maps.numel() or (least := float(maps.min())) >= 0:
        return
    module = getattr(model, "module", None)
    modules = module.named_modules() if isinstance(module, nn.Module) else ()
    names = [name for name, m in modules if isinstance(m, nn.ReLU)]
    remedy = ", nn.ReLU() as a module in place of a function or another activation"
    if names:
        remedy = f": ImageModel(net, outputs, schema, maps={names[-1]!r}); there are {', '.join(names)}"
    raise ValueError(
        f"layer {layer} has negative activations, down to {least:.3g}: a non-negative factorisation needs "
        f"maps behind a ReLU. Name the layer of the activation{remedy}"
    )


def pooled_gradients(model: HasFeatureMaps, events: Events, layer: str, output: Target) -> Array:
    """Gradient of an output, summed over the positions of a layer: ``Σ_p ∂F/∂A_c(p)``, ``[E, c]``.

    Its product with a direction P is the derivative of the output along P at all positions at once,
    ``lim [F(A + εP) - F(A)]/ε``.
    """
    parts, rows = [], image_rows(len(events), events.image_layout().shape)
    for chunk in rows:
        x = torch.as_tensor(events[chunk].image()).requires_grad_(True)  # connects the maps with the outputs
        with torch.enable_grad():
            outputs, maps = model.forward_maps(x, layer)
            (slope,) = torch.autograd.grad(output(outputs).sum(), maps, materialize_grads=True)
        parts.append(slope.sum((2, 3)).double().numpy())
    gradients = in_order(parts, rows, (0, 0))
    if not np.isfinite(gradients).all():
        raise FloatingPointError(f"the gradient at layer {layer} is not finite")
    return gradients


def pooled_maps(model: HasFeatureMaps, events: Events, layer: str) -> Array:
    """Mean of the maps of a layer over its positions, ``[E, c]``."""
    parts = [c.maps.mean((2, 3)).double().numpy() for c in chunks(model, events, layer)]
    return np.concatenate(parts) if parts else np.zeros((0, 0))
