"""One split in a training: inputs, targets, signed weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.events import SPLITS, Events
from hepxai.models.card import CommonTraining
from hepxai.models.network import Inputs, NetworkModel


@dataclass(frozen=True)
class Sample:
    """One split on the device: inputs, targets, loss weights; labels and signed weights for metrics.

    Attributes
    ----------
    inputs : Inputs, of E events
    target : Tensor
        Labels ``[E]``, probabilities of the second class ``[E]``, or the numbers ``[E, T]`` of a regression,
        NaN where an event has none.
    loss_weight : Tensor, shape [E]
    label, weight : ndarray, shape [E]
    """

    inputs: Inputs
    target: Tensor
    loss_weight: Tensor
    label: NDArray[np.int64]
    weight: NDArray[np.float64]

    @staticmethod
    def of(
        model: NetworkModel,
        events: Events,
        split: str,
        targets: NDArray[np.floating] | None = None,
        device: str = "cpu",
    ) -> Sample:
        """Events of a split that the card's policy for negative weights accepts, and that have a target."""
        training = model.card.training
        if training.regression and targets is None:
            targets = events.targets
        used = _used_rows(events, split, training, targets)
        part = events[used]
        _check_classes(part, split, needed=targets is None)
        weight = loss_weights(part, training, balance=targets is None)
        target, label = _targets_and_labels(model, part, None if targets is None else targets[used])
        return Sample(
            model.inputs.of(part).to(device),
            torch.as_tensor(target, device=device),
            torch.as_tensor(weight, dtype=torch.float32, device=device),
            label,
            part.weight,
        )


def _targets_and_labels(
    model: NetworkModel, events: Events, targets: NDArray[np.floating] | None
) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """Targets of the loss, and labels of the metrics."""
    if targets is None:
        return events.label, events.label
    if model.card.training.regression:
        return targets.reshape(len(events), len(model.outputs)).astype(np.float32), events.label
    return targets, (targets > 0.5).astype(np.int64)


def used_events(events: Events, split: str, training: CommonTraining) -> Events:
    """Events of a split that take part in the loss; refuses a split that lacks a class to learn."""
    used = events[_used_rows(events, split, training, events.targets if training.regression else None)]
    _check_classes(used, split, needed=not training.regression)
    return used


def _used_rows(
    events: Events, split: str, training: CommonTraining, targets: NDArray[np.floating] | None = None
) -> NDArray[np.bool_]:
    used = events.split == SPLITS.index(split)
    if split == "train" and training.negative_weights == "drop":
        used &= events.weight >= 0
    if training.regression and targets is not None:
        used &= np.isfinite(targets.reshape(len(events), -1)).any(axis=1)
    return np.asarray(used)


def _check_classes(events: Events, split: str, *, needed: bool = True) -> None:
    """Refuse a split with fewer than two events, or without events of a class if classes are needed."""
    if len(events) < 2:
        raise ValueError(f"the {split} split has {len(events)} events to use; training needs at least 2")
    missing = [c for i, c in enumerate(events.schema.classes) if not (events.label == i).any()]
    if needed and missing:
        raise ValueError(
            f"class {missing[0]!r} has no events in the {split} split; there are no classes to separate"
        )


def loss_weights(events: Events, training: CommonTraining, *, balance: bool) -> NDArray[np.float64]:
    """Weights in the loss under the card's policy, scaled to a mean magnitude of 1.

    Parameters
    ----------
    events : Events
    training : CommonTraining
    balance : bool
        Apply ``sample_balance`` and ``class_balance`` of the card; False where no classes are learned.

    Raises
    ------
    ValueError
        If the weights of a class or sample to be balanced sum to zero or less, if all weights are zero, if
        samples to be balanced are not known, or if there are negative weights and the policy is "error".
    """
    weight = events.weight.copy()
    if (weight < 0).any():
        if training.negative_weights == "error":
            raise ValueError(
                f"{(weight < 0).sum()} events have negative weights and the model card says "
                "training.negative_weights: error; choose keep, drop or abs"
            )
        weight = {"keep": weight, "drop": weight.clip(min=0), "abs": abs(weight)}[training.negative_weights]
    classes = events.schema.classes
    if balance and training.sample_balance:
        weight = _balanced_samples(events, weight)
    if balance and training.class_balance:
        total = np.bincount(events.label, weights=weight, minlength=len(classes))
        if (total <= 0).any():
            empty = classes[int(np.argmax(total <= 0))]
            raise ValueError(f"class {empty!r} has no positive total weight: the classes cannot be balanced")
        weight = weight / total[events.label]
    if not weight.any():
        raise ValueError("all weights are zero: there is nothing to learn from")
    return np.asarray(weight / np.abs(weight).mean())


def _balanced_samples(events: Events, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights with the same total in every sample of a class that has events; that of the class stays."""
    (names, sample), classes = events.sample_numbers(), events.schema.classes
    shape = (len(classes), len(names))
    group = events.label * len(names) + sample
    number, total = (np.bincount(group, w, np.prod(shape)).reshape(shape) for w in (None, weight))
    if (bad := (number > 0) & (total <= 0) & ((number > 0).sum(axis=1) > 1)[:, None]).any():
        c, s = np.argwhere(bad)[0]
        raise ValueError(
            f"sample {names[s]!r} of class {classes[c]!r} has no positive total weight: its samples cannot "
            "be balanced; say training.negative_weights: abs, or leave training.sample_balance out"
        )
    several = (number > 0).sum(axis=1, keepdims=True)
    wanted = np.where(several > 1, total.sum(axis=1, keepdims=True) / np.maximum(several, 1), total)
    factor = np.divide(wanted, total, out=np.ones(shape), where=total != 0)
    return np.asarray(weight * factor.ravel()[group])
