"""Training loop, and the figures of merit of each epoch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hepxai.core.console import say, track
from hepxai.core.estimate import OutOfRangeWarning, ratio_mean
from hepxai.metrics import accuracy, auc, both_classes, mean_auc
from hepxai.models.losses import cross_entropy

History = list[dict[str, float]]


class Course(Protocol):
    """State of a training: its history, and the condition for its end."""

    history: History

    @property
    def length(self) -> int:
        """Epochs or trees so far."""

    @property
    def exhausted(self) -> bool:
        """True if the training has reached its end."""


def train_to_the_end(
    state: Course,
    step: Callable[[], None],
    unit: str,
    total: int,
    *,
    progress: bool,
    after_epoch: Callable[[History], None] | None,
) -> None:
    """Call ``step`` until the state is exhausted; see `hepxai.training.fit` for the options."""
    if progress and state.history and not state.exhausted:
        say(f"training resumes at {unit} {state.length + 1} of {total}")
    with track("training", total, show=progress, done=state.length) as advance:
        while not state.exhausted:
            if after_epoch is not None and state.history:
                after_epoch(state.history)
            before = state.length
            step()
            advance(state.length - before, _status(state.history[-1]))


def _status(row: dict[str, float]) -> str:
    """Text beside the progress bar."""
    columns = {"loss": "train_loss", "valid": "valid_loss", "AUC": "valid_auc"}
    return "  ".join(f"{name} {row[key]:.4f}" for name, key in columns.items() if key in row)


def monitored(row: dict[str, float], monitor: str) -> float:
    """Monitored figure of a row of the history, larger for a better model."""
    return row["valid_auc"] if monitor == "auc" and "valid_auc" in row else -row["valid_loss"]


def refuse_divergence(loss: float, where: str, *, finite: bool = True) -> None:
    """Raise a FloatingPointError with the remedies if a training diverged."""
    if not (math.isfinite(loss) and finite):
        raise FloatingPointError(
            f"the training loss is {loss} {where}: lower training.learning_rate, or "
            "training.negative_weights: abs if negative weights make the loss unbounded"
        )


def mean_loss(
    logits: NDArray[np.floating], label: NDArray[np.int64], loss_weight: NDArray[np.floating]
) -> float:
    """Mean cross-entropy under the weights of the loss."""
    losses = cross_entropy(torch.as_tensor(logits), torch.as_tensor(label))
    return float((torch.as_tensor(loss_weight) * losses).mean())


def errors(
    difference: NDArray[np.floating],
    weight: NDArray[np.float64],
    names: Sequence[str],
    split: str = "valid",
) -> dict[str, float]:
    """Mean absolute error of each target, from the differences ``[E, T]``, as columns of the history."""
    total, has_target = np.nan_to_num(difference), np.isfinite(difference).astype(np.float64)
    return {
        f"{split}_mae_{name}": float(ratio_mean(total[:, i], has_target[:, i], weight).value)
        for i, name in enumerate(names)
    }


def scores(
    logits: NDArray[np.float64], label: NDArray[np.int64], weight: NDArray[np.float64], split: str = "valid"
) -> dict[str, float]:
    """Accuracy and AUC, of several classes the mean of each against all others, as columns of the history."""
    score, signal = logits[:, 0], label == 1
    with warnings.catch_warnings():  # warn for the trained model only, not for every epoch
        warnings.simplefilter("ignore", OutOfRangeWarning)
        if logits.shape[1] > 1:
            correct = (logits.argmax(1) == label).astype(np.float64)
            columns = {f"{split}_accuracy": float(ratio_mean(correct, np.ones(len(correct)), weight).value)}
            area = mean_auc(logits, label, weight)
            return columns if area is None else columns | {f"{split}_auc": float(area.value)}
        columns = {f"{split}_accuracy": float(accuracy(score, signal, weight).value)}
        if both_classes(signal, weight):
            columns[f"{split}_auc"] = float(auc(score, signal, weight).value)
    return columns
