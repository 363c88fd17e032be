"""Choose the width of a dense network: train over a range, count active neurons, shrink, train again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepxai.core.chunks import evenly_spread
from hepxai.core.console import Advance, track
from hepxai.core.estimate import Estimate
from hepxai.core.files import read_json, write_json
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.metrics.multiclass import classification_metrics
from hepxai.models.card import DenseCard
from hepxai.studies.capacity.numbers import SPARE, Training, WidthPoint, WidthStudy, active_neurons
from hepxai.training import fit
from hepxai.training.checkpoint import training_key

RESULT = "result.json"


def choose_width(
    events: Events,
    card: DenseCard,
    widths: Sequence[int],
    *,
    folder: str | Path,
    seeds: int = 3,
    spare: float = SPARE,
    maximum: int = 5000,
    progress: bool = False,
) -> WidthStudy:
    """Train a dense network at several widths, before and after its layers are shrunk to the active neurons.

    At each width all hidden layers of the card get that many neurons. Their conductance in validation events
    tells which are active; see `Activity`. Then the layers get the largest number of active neurons of any
    seed, and are trained again, with the same seeds.

    Parameters
    ----------
    events : Events
        With two classes, a table, and the splits "train" and "valid".
    card : DenseCard
        Its number of layers and its training are kept.
    widths : sequence of int
    folder : path
        Each training has a folder of its own inside, with its model. Trainings that are finished are not
        repeated, and interrupted ones resume.
    seeds : int
        Trainings of each width, with seeds 1, 2, …
    spare : float
        See `hepxai.studies.capacity.numbers.active_neurons`.
    maximum : int
        Largest number of validation events, evenly spread, whose conductance is computed.
    progress : bool

    Raises
    ------
    TypeError
        The card is that of another kind of model.
    ValueError
        Widths or seeds that cannot be, or a folder with trainings of another study.
    """
    if not isinstance(card, DenseCard):
        raise TypeError(f"the card is of kind {card.kind!r}; neurons are counted in kind 'dense'")
    if not card.widths:
        raise ValueError("the card has no hidden layers, hence no neurons to count")
    chosen = sorted(set(widths))
    if not chosen or chosen[0] < 1 or seeds < 1:
        raise ValueError(f"widths={list(widths)}, seeds={seeds}; at least one of each, and at least 1 neuron")
    study = _Study(events, card, Path(folder), seeds, spare, maximum)
    with track("capacity", 2 * len(chosen) * seeds, show=progress) as advance:
        return WidthStudy(tuple(study.point(width, advance) for width in chosen), spare)


class _Study:
    """Settings as of `choose_width`."""

    def __init__(
        self, events: Events, card: DenseCard, folder: Path, seeds: int, spare: float, maximum: int
    ) -> None:
        self.events, self.card, self.folder = events, card, folder
        self.seeds, self.spare, self.maximum = seeds, spare, maximum

    def point(self, width: int, advance: Advance) -> WidthPoint:
        """All trainings of one width."""
        wide = (width,) * len(self.card.widths)
        folder = self.folder / f"width_{width}"
        before = self._trainings(wide, folder / "before", advance)
        shrunk = WidthPoint(width, before, ()).shrunk
        if shrunk == wide:
            advance(self.seeds)
            return WidthPoint(width, before, ())
        return WidthPoint(width, before, self._trainings(shrunk, folder / "after", advance))

    def _trainings(self, widths: tuple[int, ...], folder: Path, advance: Advance) -> tuple[Training, ...]:
        trainings = []
        for seed in range(1, self.seeds + 1):
            training = self.card.training.model_copy(update={"seed": seed})
            card = self.card.model_copy(update={"widths": widths, "training": training})
            trainings.append(self._training(card, folder / f"seed_{seed}"))
            advance(1, f"{'-'.join(map(str, widths))} neurons, seed {seed}")
        return tuple(trainings)

    def _training(self, card: DenseCard, folder: Path) -> Training:
        key = f"{training_key(card, self.events, None)} {card.training.epochs} {self.spare} {self.maximum}"
        if not (folder / RESULT).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / RESULT, _written(self._measured(card, folder)) | {"key": key})
        stored = read_json(folder / RESULT)
        if stored["key"] != key:
            raise ValueError(
                f"{folder} belongs to another study (card, events, epochs, threads, spare or maximum "
                "differ); choose another folder"
            )
        return _read(stored)

    def _measured(self, card: DenseCard, folder: Path) -> Training:
        model, _ = fit(card, self.events, folder=folder)
        model.save(folder / "model.safetensors")
        figures = classification_metrics(model.logits(self.events)[:, 0], self.events, ())
        valid = self.events.where("valid")
        rows = evenly_spread(len(valid), self.maximum)
        layers = active_neurons(explain(model, valid[rows], "conductance"), spare=self.spare)
        return Training(
            card.widths,
            card.training.seed,
            {split: figures[split] for split in ("train", "valid")},
            tuple(int(a.active.sum()) for a in layers),
            tuple(a.fewest for a in layers),
            tuple(a.undecided for a in layers),
        )


def _written(training: Training) -> dict[str, Any]:
    figures = {
        split: {name: e.to_json() for name, e in row.items()} for split, row in training.figures.items()
    }
    rest = {k: getattr(training, k) for k in ("widths", "seed", "active", "fewest", "undecided")}
    return {"figures": figures} | rest


def _read(stored: Mapping[str, Any]) -> Training:
    figures = {
        split: {name: Estimate.from_json(e) for name, e in row.items()}
        for split, row in stored["figures"].items()
    }
    counts = (tuple(stored[k]) for k in ("active", "fewest", "undecided"))
    return Training(tuple(stored["widths"]), stored["seed"], figures, *counts)
