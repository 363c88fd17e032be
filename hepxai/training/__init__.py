"""Training of models of all kinds of cards: signed weights, class balance, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hepxai.core.arguments import check_type
from hepxai.events import SPLITS, Events
from hepxai.models.card import CommonTraining, ModelCard, NetworkCard
from hepxai.models.image.detection.card import DetectorCard
from hepxai.training.checkpoint import kept_checkpoints
from hepxai.training.history import History, mean_loss
from hepxai.training.loop import fit_network
from hepxai.training.samples import loss_weights

__all__ = ["History", "fit", "kept_checkpoints", "loss_weights", "validation_loss"]


def fit(
    card: ModelCard,
    events: Events,
    *,
    folder: str | Path | None = None,
    targets: NDArray[np.floating] | None = None,
    device: str = "cpu",
    progress: bool = False,
    after_epoch: Callable[[History], None] | None = None,
) -> tuple[Any, History]:
    """Train on the "train" split, validate on "valid" after every epoch, return the best epoch's model.

    Parameters
    ----------
    card : ModelCard
        Of any kind.
    events : Events
        With both splits.
    folder : path, optional
        Folder of ``checkpoint.safetensors``. Training resumes from it, with the results of an uninterrupted
        training.
    targets : ndarray, shape [E] or [E, T], optional
        Scores of another model to learn: probabilities of the second class instead of the labels (for a
        surrogate; classes are then not balanced), or the numbers of a regression.
    device : str
    progress : bool
        Show a progress bar.
    after_epoch : callable, optional
        Called with the history so far before every epoch but the first, also on resuming. An exception
        stops the training, which can be resumed from its checkpoint.

    Returns
    -------
    model
        Of the card's kind (`hepxai.models.network.NetworkModel`, …). Weights of the best epoch by the card's
        ``monitor``, calibrated where the card says so, on the CPU.
    history : list of dict
        Per epoch: ``epoch, learning_rate, train_loss, valid_loss, valid_accuracy, valid_auc, seconds``, all
        before the calibration; the AUC of more than two classes is the mean of that of each against all
        others. A regression has ``valid_mae_<target>``, in the target's unit, in place of
        accuracy and AUC; its losses are in units of the targets' spread. Boosted trees have a row for every
        step: ``trees, train_loss, valid_loss, train_accuracy, train_auc, valid_accuracy, …``. A detector has
        ``valid_average_precision`` in place of accuracy and AUC.

    Raises
    ------
    ValueError
        If the card does not suit the events, or asks for several trainings.
    """
    check_type(card, ModelCard, "fit(card, events)", "first", "hepxai.ModelCard.find(name) gives one")
    check_type(events, Events, "fit(card, events)", "second", "hepxai.read(card).events has them")
    if card.training.trainings > 1:
        raise ValueError(
            f"fit trains one model, and this card asks for {card.training.trainings} (training.trainings): "
            "make a run, `hepxai run --trainings` or hepxai.Run.start(folder, dataset, card), or fit cards "
            "with training.trainings=1 and several training.seed, and give the models to hepxai.Ensemble"
        )
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch sees no CUDA device here; use cpu")
    if isinstance(card, DetectorCard):
        from hepxai.training.detector import fit_detector  # needs torchvision

        _refuse_for_detector(targets, device)
        return fit_detector(
            card,
            events,
            folder=None if folder is None else Path(folder),
            progress=progress,
            after_epoch=after_epoch,
        )
    if targets is None and (problem := card.incompatibility(events.schema.classes, events.schema.targets)):
        raise ValueError(problem)
    train: Callable[..., tuple[Any, History]] = fit_network
    if not isinstance(card, NetworkCard):
        from hepxai.training.trees import fit_trees  # scikit-learn takes a second to import

        train = fit_trees
    return train(
        card,
        events,
        folder=None if folder is None else Path(folder),
        targets=targets,
        device=device,
        progress=progress,
        after_epoch=after_epoch,
    )


def _refuse_for_detector(targets: object, device: str) -> None:
    """Refuse options that the training of a detector lacks."""
    if targets is not None or torch.device(device).type != "cpu":
        raise ValueError("a detector learns the boxes of its events on the CPU; leave out targets and device")


def validation_loss(logits: NDArray[np.floating], events: Events, training: CommonTraining) -> float:
    """Cross-entropy on the "valid" split, as in the history, of the logits ``[E, O]`` of all events."""
    valid = events.split == SPLITS.index("valid")
    weight = loss_weights(events[valid], training, balance=True)
    return mean_loss(np.asarray(logits)[valid], events.label[valid], weight)
