"""Run of several trainings, of several folds, or of both, with their spread as an error."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hepxai.attribution import Attribution
from hepxai.attribution.spread import with_spread
from hepxai.attribution.trainings import common_settings, stack_trainings
from hepxai.core.estimate import Estimate
from hepxai.core.files import read_tensors
from hepxai.core.jagged import IntArray
from hepxai.core.workers import run_jobs
from hepxai.datasets import DatasetCard
from hepxai.events import SPLITS, Events
from hepxai.events.splits import ALL_FOLDS
from hepxai.models.card import ModelCard
from hepxai.models.ensemble import Ensemble
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run.manifest import RunError
from hepxai.run.populations import remove_products
from hepxai.run.run import Run
from hepxai.run.scores import SCORES
from hepxai.run.varied import chosen_variations
from hepxai.training import History

MEMBERS = "members"
"""Folder of the runs of the single trainings."""


@dataclasses.dataclass(frozen=True)
class EnsembleRun(Run):
    """Run whose model is the mean of several trainings; each is a run of its own in ``members/``.

    With ``training.trainings`` of the model card, the score is the mean logit, and every explanation has an
    axis "training". With ``fold: all`` of the data-set card's split, every event is scored and explained by
    the trainings that have not seen it, and counts as a test event.

    Each training uses one thread, so that its numbers do not depend on the machine.
    """

    @classmethod
    def fits(cls, dataset: DatasetCard, card: ModelCard) -> bool:
        """True if the cards ask for several trainings or all folds."""
        trained_here = not isinstance(card, PythonCard)
        return trained_here and (dataset.split.fold == ALL_FOLDS or card.training.trainings > 1)

    def single(self) -> Run:
        """Refuse: the layers of two networks do not correspond.

        Raises
        ------
        RunError
            Always; the message names the run of a single training.
        """
        first = self._folder(0, 0)
        raise RunError(
            f"{self.folder} has {len(self.members)} networks, whose layers and epochs do not correspond: "
            f"look at each alone, as {first}"
        )

    def workers(self, requested: int | None = None) -> int:
        """Processes for the steps of this run; by default one for each core that this process may use."""
        if requested is not None:
            return requested
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def trainings(self) -> int:
        """Trainings of every fold."""
        return self.card.training.trainings

    @property
    def folds(self) -> int:
        """Folds of the events; 1 if one split serves all trainings."""
        folds = self.dataset.split.folds if self.dataset.split.fold == ALL_FOLDS else None
        return folds or 1

    @cached_property
    def members(self) -> dict[str, Run]:
        """Runs of the single trainings by name, the folds one after the other."""
        return {
            self._name(fold, training): self._member(fold, training)
            for fold in range(self.folds)
            for training in range(self.trainings)
        }

    def _name(self, fold: int, training: int) -> str:
        names = [f"fold {fold + 1}"] if self.folds > 1 else []
        return ", ".join([*names, *([f"training {training + 1}"] if self.trainings > 1 else [])])

    def _folder(self, fold: int, training: int) -> Path:
        return self.folder / MEMBERS / self._name(fold, training).replace(", ", "-").replace(" ", "")

    def _member(self, fold: int, training: int) -> Run:
        dataset, card = self.dataset, self.card
        if self.folds > 1:
            split = dataset.split.model_copy(update={"fold": fold})
            dataset = dataset.model_copy(update={"split": split})
        changes = {"trainings": 1, "seed": card.training.seed + training}
        card = card.model_copy(update={"training": card.training.model_copy(update=changes)})
        run = self._start(fold, training, dataset, card)
        if self.folds == 1:
            return run.on(self.reading)
        if SCORES not in run.manifest.names():  # its process reads the events, with the split of its fold
            return run
        events = self.events.replace(split=read_tensors(run.folder / SCORES)[0]["split"])
        return run.on(dataclasses.replace(self.reading, events=events))

    def _start(self, fold: int, training: int, dataset: DatasetCard, card: ModelCard) -> Run:
        """Begin or open the run of a training; under a variation, that of the nominal training."""
        name = self._name(fold, training)
        if isinstance(self.nominal, EnsembleRun):
            return self.nominal.members[name].variation(str(self.dataset.variation))
        folder = self._folder(fold, training)
        if SCORES in self.manifest.names() and not folder.is_dir():
            raise RunError(
                f"{folder} is missing, and the rest of the run relies on it; put back a copy of it, "
                "or start afresh with another --out"
            )
        return Run.start(folder, dataset, card)

    # --- steps -------------------------------------------------------------------------------

    @cached_property
    def model(self) -> Ensemble:
        """Mean of all trainings; of several folds it has seen every event."""
        return Ensemble(tuple(member.model for member in self.members.values()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the model."""
        return next(iter(self.members.values())).outputs

    @property
    def score_spread(self) -> NDArray[np.float64] | None:
        """Standard deviation of the logits of the trainings, ``[E, O]``; None for a single one."""
        return self.scores_of_trainings.std(axis=0, ddof=1) if self.trainings > 1 else None

    @cached_property
    def scores_of_trainings(self) -> NDArray[np.float64]:
        """Logits of the single trainings, ``[T, E, O]``, whose mean are the `scores`."""
        stored = read_tensors(self._finished(SCORES, "train"))[0]
        return stored["trainings"]

    def histories(self) -> dict[str, History]:
        """Figures of every epoch of each training, by its name."""
        return {name: member.history() for name, member in self.members.items()}

    def explain(
        self,
        methods: Sequence[str] | None = None,
        *,
        split: str = "test",
        maximum: int | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        targets: Sequence[str] | None = None,
        workers: int | None = None,
    ) -> dict[str, Attribution]:
        """Explain a population by every training; see `Run.explain`, and `train` for ``workers``.

        Raises
        ------
        RunError
            For another split than test in a run of all folds, whose other networks learned from the event.
        """
        if self.folds > 1 and split != "test":
            raise RunError(
                f"{split} events of {self.folds} folds trained most of the networks; each event is explained "
                "as a test event: leave --split out"
            )
        before = self._rows()
        options: dict[str, Any] = {"split": split, "settings": settings, "targets": targets}
        options["maximum"] = None if maximum is None else -(-maximum // self.folds)
        with self.manifest.locked():
            jobs = {name: (run, methods, options) for name, run in self.members.items()}
            run_jobs(_explain, jobs, self.workers(workers))
        if before is not None and not _same(before, self._rows() or []):
            remove_products(self.folder)  # they are about other events
        return self.maps()

    def vary(self, names: Sequence[str] | None = None, *, workers: int | None = None) -> None:
        """Score and explain under systematic variations, by every training; see `Run.vary`."""
        chosen = chosen_variations(self, names)
        members = self.members.items()  # a job for each variation: they last longer than a training's share
        jobs = {f"{name}, {v}": (run, [v]) for v in chosen for name, run in members}
        run_jobs(_vary, jobs, self.workers(workers))
        for name in chosen:
            self._varied(name).train(workers=1)

    def _rows(self) -> list[IntArray] | None:
        """Rows of the events that each training explains; None before all have an explanation."""
        rows = [member.populations.rows() for member in self.members.values()]
        return None if any(r is None for r in rows) else [r for r in rows if r is not None]

    def maps(self) -> dict[str, Attribution]:
        """Explanations that all trainings have, by method; of several trainings with the axis "training"."""
        self._check_rows()
        by_member = [member.maps() for member in self.members.values()]
        shared = [m for m in by_member[0] if all(m in maps for maps in by_member)]
        if missing := {m for maps in by_member for m in maps} - set(shared):
            warnings.warn(
                f"left out, as not every training of {self.folder} has it: {', '.join(sorted(missing))}; "
                "explain again to complete it",
                stacklevel=2,
            )
        return {method: self._together([maps[method] for maps in by_member]) for method in shared}

    def _check_rows(self) -> None:
        """Refuse trainings of one fold that explain different events."""
        rows = self._rows() or []
        for first in range(0, len(rows), self.trainings):
            for place in range(first + 1, min(first + self.trainings, len(rows))):
                if not np.array_equal(rows[first], rows[place]):
                    one, other = (list(self.members.values())[i].folder for i in (first, place))
                    raise RunError(
                        f"{one} explains {len(rows[first])} events and {other} {len(rows[place])} or "
                        f"others; `hepxai explain {self.folder} -n {len(rows[first])}` makes them the same"
                    )

    def _together(self, maps: Sequence[Attribution]) -> Attribution:
        """Maps of all members as one: folds in the order of the events, trainings along an axis.

        Neurons and heads of two networks do not correspond: neurons are those of the first, heads averaged.
        """
        if "neuron" in maps[0].axes:
            note = f"{next(iter(self.members))} alone (neurons of two networks do not correspond)"
            return maps[0].replace(title=f"{maps[0].title}, {note}")
        maps = [_heads_averaged(m) for m in maps]
        singles = [self._over_folds(maps[training :: self.trainings]) for training in range(self.trainings)]
        return stack_trainings(singles) if self.trainings > 1 else singles[0]

    def _over_folds(self, maps: Sequence[Attribution]) -> Attribution:
        if len(maps) == 1:
            return maps[0]
        settings = common_settings(maps)
        joined = Attribution.concatenate([m.replace(settings=settings) for m in maps])
        return joined[np.lexsort((joined.events.entry, joined.events.file))]

    # --- other events ------------------------------------------------------------------------

    def score_events(self, events: Events) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Mean logits ``[E, O]`` of events that are not of the run, and their spread over trainings."""
        singles = self.model.member_logits(events)
        return singles.mean(axis=0), singles.std(axis=0, ddof=1) if len(singles) > 1 else None

    def explain_events(self, events: Events, names: Sequence[str]) -> dict[str, Attribution]:
        """Explain events that are not of the run by every training; see `Run.explain_events`."""
        by_member = [member.explain_events(events, names) for member in self.members.values()]
        return {name: self._together([maps[name] for maps in by_member]) for name in names}

    # --- training ----------------------------------------------------------------------------

    def _fitted(
        self,
        *,
        device: str,
        progress: bool,
        after_epoch: Callable[[History], None] | None,
        workers: int | None,
    ) -> tuple[NDArray[np.float64], History, list[str]]:
        if after_epoch is not None:
            raise RunError("after_epoch is of one training; give it to the members of this run")
        jobs = {name: (run, device, progress) for name, run in self.members.items()}
        run_jobs(_train, jobs, self.workers(workers), show=progress)
        self.__dict__.pop("members")  # now with their events
        logits = self._scores_of_members()
        if self.trainings > 1 and not logits.std(axis=0).any():
            warnings.warn(
                "all trainings give the same scores: this model does not depend on its seed, and the "
                "spread of the trainings is 0; train once, or use folds",
                stacklevel=2,
            )
        return logits, [], []

    def _scores_of_members(self) -> NDArray[np.float64]:
        """Logits of each training, ``[T, E, O]``, of an event by the fold in which it is a test event."""
        logits = np.stack([member.scores for member in self.members.values()])
        if self.folds == 1:
            return logits
        by_fold = logits.reshape(self.folds, self.trainings, *logits.shape[1:])
        events = np.arange(len(self.events))
        return np.stack([by_fold[self.fold_of_events, t, events] for t in range(self.trainings)])

    @cached_property
    def fold_of_events(self) -> IntArray:
        """Fold in which each event is a test event, from 0, ``[E]``."""
        first = list(self.members.values())[:: self.trainings]
        return np.asarray(np.argmax([run.events.split == SPLITS.index("test") for run in first], axis=0))

    def _figures_of_merit(self, logits: NDArray[np.float64]) -> dict[str, dict[str, Estimate]]:
        """Figures of the mean logits with their spread over trainings, and those of each fold."""
        figures = super()._figures_of_merit(logits)
        if self.trainings > 1:
            singles = [super(EnsembleRun, self)._figures_of_merit(one[None]) for one in logits]
            figures = with_spread(figures, singles)
        for fold in range(self.folds if self.folds > 1 else 0):
            rows = self.fold_of_events == fold
            figures[f"fold {fold + 1}"] = self.merits(logits.mean(axis=0)[rows], self.events[rows])["test"]
        return figures

    def _seed(self) -> Any:
        first: int = self.card.training.seed
        return list(range(first, first + self.trainings))


def _heads_averaged(attribution: Attribution) -> Attribution:
    several = "head" in attribution.axes and attribution.values.shape[attribution.axis("head")] > 1
    return attribution.mean("head") if several else attribution


def _same(one: Sequence[IntArray], other: Sequence[IntArray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@contextmanager
def one_thread() -> Iterator[None]:
    """Pin torch, BLAS and OpenMP to one thread: the order of sums changes numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _train(run: Run, device: str, progress: bool) -> None:
    with one_thread():
        run.train(device=device, progress=progress)


def _vary(run: Run, names: Sequence[str]) -> None:
    with one_thread():
        run.vary(names)


def _explain(run: Run, methods: Sequence[str] | None, options: Mapping[str, Any]) -> None:
    with one_thread():
        run.explain(methods, **options)
