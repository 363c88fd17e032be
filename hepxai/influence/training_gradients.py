"""Gradients of the training loss of single events, at checkpoints of a training."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import forward_ad

from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError
from hepxai.models.protocols import HasLastLayer

Checkpoints = Sequence[tuple[HasLastLayer, float]]
Layers = Literal["last", "all"]


class Gradient(NamedTuple):
    """Gradients of a batch of events as outer products: ``g·g' = (left·left')(right·right')``.

    Attributes
    ----------
    left : Tensor, shape [B, O]
    right : Tensor, shape [B, H]
    """

    left: Tensor
    right: Tensor

    def length(self) -> Tensor:
        """Norm of every gradient, ``[B]``."""
        return self.left.square().sum(1).sqrt() * self.right.square().sum(1).sqrt()

    def times(self, factor: Tensor | float) -> Gradient:
        """Gradients times a number, or a number each ``[B]``."""
        column = factor[:, None] if isinstance(factor, Tensor) else factor
        return Gradient(self.left * column, self.right)

    def unit(self) -> Gradient:
        """Gradients of length 1, but for those of length 0."""
        length = self.length()
        return self.times(torch.where(length > 0, 1 / length, 0.0))

    def take(self, rows: slice | Tensor) -> Gradient:
        """Gradients of some of the events."""
        return Gradient(self.left[rows], self.right[rows])


Gradients = list[Gradient]
"""One for each checkpoint."""


def check_checkpoints(checkpoints: Checkpoints) -> None:
    """Refuse anything but a sequence of states of one model, each with a learning rate.

    Raises
    ------
    CannotExplainError
        A model lacks a member of `hepxai.models.protocols.HasLastLayer`.
    TypeError
        Something else than pairs (model, learning rate).
    ValueError
        No checkpoints, different architectures or losses, or a learning rate that is none.
    """
    if not len(checkpoints):
        raise ValueError("no checkpoints are given; keep some in the training (training.keep_checkpoints)")
    pairs: Sequence[Any] = checkpoints
    for number, pair in enumerate(pairs, start=1):
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"checkpoint {number} is {type(pair).__name__}; pairs (model, rate) are needed")
        _check(pair[0], pair[1], f"checkpoint {number}")
        _same_architecture(pairs[0][0], pair[0], f"checkpoint {number}")


def _check(model: Any, rate: Any, name: str) -> None:
    if not isinstance(model, HasLastLayer):
        lacking = [m for m in dir(HasLastLayer) if not m.startswith("_") and not hasattr(model, m)]
        raise CannotExplainError(
            f"{name}: influence of training events needs HasLastLayer; {type(model).__name__} has no "
            f"{', '.join(lacking)}"
        )
    if not (isinstance(rate, int | float) and 0 < rate < math.inf):
        raise ValueError(f"{name} has the learning rate {rate!r}; a number above 0 is needed")


def _same_architecture(first: HasLastLayer, other: HasLastLayer, name: str) -> None:
    if first.outputs != other.outputs:
        raise ValueError(f"{name} has the outputs {other.outputs}, the first has {first.outputs}")
    mine, theirs = ({n: tuple(p.shape) for n, p in m.module.named_parameters()} for m in (first, other))
    for parameter in {**mine, **theirs}:
        shapes = mine.get(parameter), theirs.get(parameter)
        if shapes[0] != shapes[1]:
            kinds = [type(m.module).__name__ for m in (first, other)]
            kind, of_first = (f" (a {k})" if kinds[0] != kinds[1] else "" for k in reversed(kinds))
            raise ValueError(
                f"{name}{kind} has another architecture than the first{of_first}: "
                f"{_difference(parameter, *shapes)}"
            )
    if _loss_of(first) != _loss_of(other):
        raise ValueError(f"{name} has the loss {_loss_of(other)}, the first has {_loss_of(first)}")


def _difference(parameter: str, mine: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> str:
    if mine is None or theirs is None:
        return f"{'it' if theirs is None else 'the first'} has no parameter {parameter!r}"
    return f"parameter {parameter!r} has shape {theirs}, in the first {mine}"


def _loss_of(model: HasLastLayer) -> str | None:
    """Name of the loss, of models that have one."""
    loss = getattr(model, "loss", None)
    return loss if isinstance(loss, str) else None


def last_layer_gradients(model: HasLastLayer, events: Events) -> Gradient:
    """Gradients of the weight and bias of the last linear layer: outer product of r = ∂ℓ/∂z with (a, 1)."""
    with torch.no_grad():
        z, a = model.last_layer(events)
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = model.training_loss(z, events)
        (slope,) = torch.autograd.grad(loss.sum(), z)
    gradient = Gradient(slope, torch.cat([a.detach(), a.new_ones(len(a), 1)], dim=1))
    _finite(model, events, loss, *gradient)
    return gradient


@dataclass(frozen=True)
class Directions:
    """Random directions in the space of all parameters, entries ±1.

    Attributes
    ----------
    number : int
    seed : tuple of int
        Directions of another seed, or of another checkpoint, are independent of these.
    """

    number: int
    seed: tuple[int, ...]

    def along(self, model: HasLastLayer, events: Events, checkpoint: int) -> Gradient:
        """Slope of the loss of every event along each direction, ``left [B, K]`` over √K; ``right`` is 1.

        By forward differentiation: one pass gives the slopes of all events along one direction.
        """
        probe, slopes = _Probe(model), []
        with torch.no_grad():
            _finite(model, events, probe(events))
        for number in range(self.number):
            key = np.random.SeedSequence([*self.seed, checkpoint, number]).generate_state(1)[0]
            slopes.append(_slope(probe, events, torch.Generator().manual_seed(int(key))))
        left = torch.stack(slopes, dim=1) / math.sqrt(self.number)
        _finite(model, events, left)
        return Gradient(left, left.new_ones(len(left), 1))


class _Probe(nn.Module):
    """Loss of every event, as a function of the parameters of the model."""

    def __init__(self, model: HasLastLayer) -> None:
        super().__init__()
        self.trained, self.model = model.module, model

    def forward(self, events: Events) -> Tensor:
        return self.model.training_loss(self.model.last_layer(events)[0], events)


def _slope(probe: _Probe, events: Events, random: torch.Generator) -> Tensor:
    with forward_ad.dual_level(), torch.no_grad():
        moved = {}
        for name, value in probe.named_parameters():
            sign = torch.randint(0, 2, value.shape, generator=random, dtype=torch.int8).mul_(2).sub_(1)
            moved[name] = forward_ad.make_dual(value.detach(), sign.to(value))
        loss = torch.func.functional_call(probe, moved, (events,))
        slope = forward_ad.unpack_dual(loss).tangent
    return torch.zeros_like(loss) if slope is None else slope


def _finite(model: HasLastLayer, events: Events, *columns: Tensor) -> None:
    """Refuse events whose loss, or its gradient, is no number; the slope of |NaN| would be 0."""
    good = torch.stack([part.isfinite().reshape(len(events), -1).all(1) for part in columns]).all(0)
    if not good.all():
        first = events[[int(good.int().argmin())]]
        raise FloatingPointError(
            f"the loss or its gradient is not finite for {int((~good).sum())} of {len(events)} events, the "
            f"first is event {first.event[0]}, entry {first.entry[0]} of {first.files[first.file[0]]}: "
            f"{_reason(model, first)}"
        )


def _reason(model: HasLastLayer, event: Events) -> str:
    names = event.schema.targets
    if names and _loss_of(model) != "cross_entropy" and not np.isfinite(event.targets).any():
        return f"it has no target {', '.join(names)}; take events[np.isfinite(events.targets).any(1)]"
    return "are its inputs finite, and did the training converge?"


@dataclass(frozen=True)
class Source:
    """Gradients of the loss at checkpoints, and their products.

    Attributes
    ----------
    checkpoints, layers, directions, seed, normalise
        See `hepxai.influence.tracin.tracin`.
    draw : int
        Directions of another draw are independent.
    """

    checkpoints: Checkpoints
    layers: Layers
    directions: int
    seed: int
    normalise: bool = False
    draw: int = 0

    def __post_init__(self) -> None:
        check_checkpoints(self.checkpoints)
        if self.layers not in ("last", "all"):
            raise ValueError(f"layers={self.layers!r}; choose last or all")
        if self.directions < 2:
            raise ValueError(f"directions={self.directions}; at least 2 are needed for an error")
        if self.normalise and self.layers == "all":
            raise ValueError("normalise=True needs layers='last': lengths are not known along directions")

    @property
    def models(self) -> list[HasLastLayer]:
        """One for each checkpoint."""
        return [model for model, _ in self.checkpoints]

    def afresh(self) -> Source:
        """Same, along directions of their own."""
        return dataclasses.replace(self, draw=self.draw + 1)

    def settings(self) -> dict[str, Any]:
        """JSON values; with the loss, if the model has a name for it."""
        settings: dict[str, Any] = {"learning_rates": [float(rate) for _, rate in self.checkpoints]}
        loss = _loss_of(self.models[0])
        settings |= {} if loss is None else {"loss": loss}
        settings |= {"layers": self.layers, "normalise": self.normalise}
        return settings | ({"directions": self.directions, "seed": self.seed} if self.layers == "all" else {})

    def of(self, events: Events) -> Gradients:
        """Gradients of the loss of every event at each checkpoint."""
        gradients = [self._at(t, events) for t in range(len(self.checkpoints))]
        return [g.unit() for g in gradients] if self.normalise else gradients

    def _at(self, number: int, events: Events) -> Gradient:
        model = self.checkpoints[number][0]
        if self.layers == "last":
            return last_layer_gradients(model, events)
        return Directions(self.directions, (self.seed, self.draw)).along(model, events, number)

    def learned(self, gradients: Gradients) -> Gradients:
        """Gradients times the learning rate of each checkpoint; rates of cosines sum to 1."""
        rates = np.array([rate for _, rate in self.checkpoints], dtype=np.float64)
        rates = rates / rates.sum() if self.normalise else rates
        return [g.times(float(rate)) for g, rate in zip(gradients, rates, strict=True)]

    def products(self, mine: Gradients, theirs: Gradients) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Product of gradients row by row ``[B]``, and its error, 0 where it is exact."""
        pairs = list(zip(mine, theirs, strict=True))
        if self.layers == "last":
            total = sum_of((a.left * b.left).sum(1) * (a.right * b.right).sum(1) for a, b in pairs)
            return total.numpy(), np.zeros(len(total))
        each = self.directions * sum_of(a.left * b.left for a, b in pairs)
        return each.mean(1).numpy(), (each.std(1) / math.sqrt(self.directions)).numpy()

    def table(self, mine: Gradients, theirs: Gradients) -> Tensor:
        """Product of all gradients of two batches, ``[B, B']``."""
        return sum_of(
            (a.left @ b.left.t()).mul_(a.right @ b.right.t()) for a, b in zip(mine, theirs, strict=True)
        )


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """Sum over the checkpoints, in double precision."""
    return functools.reduce(operator.add, (part.double() for part in parts))
