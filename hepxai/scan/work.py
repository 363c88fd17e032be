"""Work on a scan: take a trial that no other process has, train, measure, store the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hepxai.cards import CardError, dump_card
from hepxai.datasets import DatasetCard, ReadError, Reading, read
from hepxai.events import SPLITS, Events
from hepxai.explainers import CannotExplainError
from hepxai.models.card import ModelCard
from hepxai.models.protocols import Model
from hepxai.run import Run
from hepxai.run.ensemble import one_thread
from hepxai.scan.objectives import METRICS, TrialContext, first_attention, histograms, measure, need_tabular
from hepxai.scan.sampling import below_median, next_point
from hepxai.scan.space import ScanError, cards_with
from hepxai.scan.store import Store, Trial, trial_folder
from hepxai.scan.table import Table
from hepxai.training import History, fit

PAUSE = 1.0
"""Seconds between two checks of trials that other processes work on."""
FEW = 32
"""Events of each class and split in a test of the model's abilities."""

_LACKS = {"attention": "it has no attention layer", "table": "it is no model of the event-level table"}
_TRIES: dict[str, Callable[[Model, Events], object]] = {
    "attention": first_attention,
    "table": lambda model, _: need_tabular(model),
}


class _PrunedError(Exception):
    """Stop of a training, with its history as argument."""


class _RefusedError(Exception):
    """Settings with which training is impossible, or without a result."""


def work(store: Store, device: str, after_trial: Callable[[], None]) -> None:
    """Work until every trial is finished, by this process or by another one."""
    worker = Worker(store, device)
    with one_thread():
        while True:
            with worker.next_trial() as trial:
                if trial is None:
                    return
                store.finish(worker.result(trial))
            after_trial()


@dataclass
class Worker:
    """Worker process of a scan, with the events of the last trial in memory.

    Attributes
    ----------
    store : Store
    device : str
    card : str
        Data-set card of ``reading``.
    reading : Reading, optional
    tested : bool
        True after the test that the model has the abilities that the objectives need.
    """

    store: Store
    device: str
    card: str = ""
    reading: Reading | None = None
    tested: bool = False

    # --- choice of a trial ---------------------------------------------------------------------

    @contextmanager
    def next_trial(self) -> Iterator[Trial | None]:
        """Give a trial, locked for this process within the context, or None when all are finished."""
        while True:
            trials = self.store.trials()
            for trial in trials:
                if not trial.finished:
                    with self._lock(trial.number) as locked:
                        # Another process may have finished it before the lock.
                        if locked and not (current := self.store.trial(trial.number)).finished:
                            yield current
                            return
            if len(trials) < self.store.plan.trials:
                self._begin()
            elif all(t.finished for t in trials):
                yield None
                return
            else:
                time.sleep(PAUSE)

    @contextmanager
    def _lock(self, number: int) -> Iterator[bool]:
        """Hold the lock of a trial, which the system releases when a process dies."""
        lock = FileLock(self._locks() / f"{number}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _locks(self) -> Path:
        folder = self.store.folder / "locks"
        folder.mkdir(exist_ok=True)
        return folder

    def _begin(self) -> None:
        """Register the next trial, whose point and seed follow from its number."""
        plan = self.store.plan
        with FileLock(self._locks() / "begin.lock"):
            trials = self.store.trials()
            number, seed = divmod(len(trials), plan.seeds)
            if number < plan.points:
                results = Table(plan, tuple(trials)).results()
                point = results[number][0] if seed else next_point(plan, number, results)
                self.store.begin(point, seed + 1)

    # --- training and measurement --------------------------------------------------------------

    def result(self, trial: Trial) -> Trial:
        """Train and measure. A problem with the settings of this trial alone marks the trial as failed."""
        try:
            return self._measured(trial, self._trained(trial))
        except (_RefusedError, FloatingPointError) as problem:
            return dataclasses.replace(trial, state="failed", why=str(problem))
        except _PrunedError as reason:
            (history,) = reason.args
            why = f"after epoch {len(history)}, the best validation AUC was below the median of finished ones"
            return dataclasses.replace(trial, state="pruned", why=why, **_course(history))

    def _trained(self, trial: Trial) -> Run:
        plan = self.store.plan
        overrides = plan.space.overrides(trial.point, trial.seed)
        try:
            dataset, card = cards_with(self.store.folder, overrides)
        except CardError as problem:  # incompatible values
            raise _RefusedError(str(problem)) from None
        reading = self._read(dataset)
        self._test_abilities(reading.events, card)
        run = Run.start(trial_folder(self.store.folder, trial), dataset, card).on(reading)
        run.train(device=self.device, progress=False, after_epoch=self._prune if plan.prune else None)
        return run

    def _read(self, dataset: DatasetCard) -> Reading:
        """Events of a card, cached for the next trial, since most scans never change it."""
        card = dump_card(dataset)
        if self.reading is None or card != self.card:
            self.reading = None  # two populations would need twice the memory
            try:
                self.reading = read(dataset)
            except (CardError, ReadError) as problem:
                if not self.store.plan.space.reads_anew:
                    raise  # every point would fail in the same way
                raise _RefusedError(str(problem)) from None
            self.card = card
        return self.reading

    def _prune(self, history: History) -> None:
        finished = [t.auc for t in self.store.trials() if t.state == "complete"]
        if below_median(_aucs(history), finished):
            raise _PrunedError(history)

    def _measured(self, trial: Trial, run: Run) -> Trial:
        plan, context = self.store.plan, TrialContext(run, self.store.plan.explain)
        metrics, attention = measure(context), histograms(context)
        for name, _ in plan.objectives:
            if name not in metrics:
                raise _cannot(name, _LACKS["table" if "table" in METRICS[name].needs else "attention"])
            if not np.isfinite(metrics[name].value):
                raise _RefusedError(f"{name} has no value")
        events = {s: int((run.events.split == i).sum()) for i, s in enumerate(SPLITS)}
        events |= {"explained": len(context.attention.events)} if attention else {}
        results = {"metrics": metrics, "events": events, "histograms": attention, **_course(run.history())}
        return dataclasses.replace(trial, state="complete", **results)

    def _test_abilities(self, events: Events, card: ModelCard) -> None:
        """Test on a few events, before the long trainings, that the model has what the objectives need."""
        objectives = [name for name, _ in self.store.plan.objectives]
        needs = {ability: n for n in objectives for ability in _LACKS if ability in METRICS[n].needs}
        if self.tested or not needs:
            return
        self.tested = True
        few = _few(events)
        short = card.training.model_copy(update={"trees" if hasattr(card.training, "trees") else "epochs": 1})
        try:
            model, _ = fit(card.model_copy(update={"training": short}), few, device=self.device)
            for ability, objective in needs.items():
                try:
                    _TRIES[ability](model, few[:2])
                except CannotExplainError as problem:
                    raise _cannot(objective, str(problem)) from None
        except FloatingPointError:
            return  # this point fails in its own trial


def _cannot(objective: str, why: str) -> ScanError:
    return ScanError(
        f"objective {objective} cannot be computed for this model ({why}); choose another objective"
    )


def _few(events: Events) -> Events:
    """First events of each class in the training and in the validation split."""
    rows = [
        np.flatnonzero((events.label == label) & (events.split == split))[:FEW]
        for label in np.unique(events.label)
        for split in (0, 1)
    ]
    return events[np.sort(np.concatenate(rows))]


def _aucs(history: History) -> dict[int, float]:
    return {i: row["valid_auc"] for i, row in enumerate(history, start=1) if "valid_auc" in row}


def _course(history: History) -> dict[str, Any]:
    return {"auc": _aucs(history), "seconds": float(sum(row["seconds"] for row in history))}
