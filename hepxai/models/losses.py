"""Losses of trainings, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from hepxai.events import Events

Loss = Literal["cross_entropy", "mae", "mse"]


def known_loss(kind: str) -> Loss:
    """Refuse, with a ValueError, a loss that is none of `Loss`."""
    if kind not in get_args(Loss):
        raise ValueError(f"loss={kind!r}; choose one of {', '.join(get_args(Loss))}")
    return cast(Loss, kind)


def loss_of_outputs(kind: Loss, names: Sequence[str], outputs: Tensor, events: Events) -> Tensor:
    """Loss of every event, ``[E]``, for outputs of a user's model; see `event_loss`.

    A ValueError if the outputs are targets of the events, but the loss is for classes.
    """
    if kind == "cross_entropy" and names and set(names) <= set(events.schema.targets):
        raise ValueError(
            f"the outputs {', '.join(names)} are targets of the data set, the loss is cross_entropy, of its "
            "classes; give the loss of the training, as in loss='mae' or loss='mse'"
        )
    return event_loss(kind, outputs, events)


def event_loss(kind: Loss, outputs: Tensor, events: Events) -> Tensor:
    """Loss of every event, ``[E]``, without its weight.

    Parameters
    ----------
    kind : str
        "cross_entropy" of the logits with the labels; "mae" or "mse", the mean absolute or squared difference
        from the finite ``events.targets``, in their units; NaN without any.
    outputs : Tensor, shape [E, O]
        One logit for two classes, one per class otherwise; or one value per target.
    events : Events

    Raises
    ------
    ValueError
        If there is no such loss, or the outputs are not one per target.
    """
    if known_loss(kind) == "cross_entropy":
        return cross_entropy(outputs, torch.as_tensor(events.label))
    target = torch.as_tensor(events.targets).to(outputs)
    if target.shape != outputs.shape:
        raise ValueError(
            f"{outputs.shape[1]} outputs for the targets {', '.join(events.schema.targets) or '(none)'}"
        )
    return distance(outputs, target, kind)


def distance(outputs: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean absolute ("mae") or squared ("mse") difference over the finite targets, ``[E]``."""
    if kind not in ("mae", "mse"):
        raise ValueError(f"loss={kind!r} is no distance; choose mae or mse")
    finite = target.isfinite()
    difference = torch.where(finite, outputs - target.nan_to_num(), 0.0)
    size = difference.abs() if kind == "mae" else difference.square()
    return size.sum(1) / finite.sum(1)


def cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every event, ``[E]``.

    Parameters
    ----------
    logits : Tensor, shape [E, O]
    target : Tensor, shape [E]
        Labels; with one logit also probabilities of the second class.
    smoothing : float
        Distance of the targets from 0 and 1.
    """
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    soft = smoothing + (1 - 2 * smoothing) * target.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits[:, 0], soft, reduction="none")
