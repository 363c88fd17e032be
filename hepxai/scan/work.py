"""The work on a scan: take a trial that nobody works on, train it, measure it, enter it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from hepxai.cards import CardError, dump_card
from hepxai.datasets import DatasetCard, ReadError, Reading, read
from hepxai.events import SPLITS, Events
from hepxai.explainers import CannotExplainError
from hepxai.models.card import ModelCard
from hepxai.models.protocols import Model
from hepxai.run import Run
from hepxai.scan.objectives import METRICS, TrialContext, first_attention, histograms, measure, need_tabular
from hepxai.scan.sampling import below_median, next_point
from hepxai.scan.space import ScanError, cards_with
from hepxai.scan.store import Store, Trial
from hepxai.scan.table import Table
from hepxai.training import History, fit

if TYPE_CHECKING:
    from hepxai.scan.scan import Scan

PAUSE = 1.0
"""Seconds between two looks at trials that other processes work on."""
FEW = 32


_LACKS = {"attention": "it has no attention layer", "table": "it is no model of the event-level table"}
_TRIES: dict[str, Callable[[Model, Events], object]] = {
    "attention": first_attention,
    "table": lambda model, _: need_tabular(model),
}


class _PrunedError(Exception):
    """Stops a training."""


class _RefusedError(Exception):
    """These settings cannot be trained with, or give no result."""


def work(scan: Scan, device: str, after_trial: Callable[[], None]) -> None:
    """Work until every trial is finished, by this process or by another one."""
    bench = Worker(scan, scan.store(), device)
    with one_thread():
        while True:
            with bench.taken() as trial:
                if trial is None:
                    return
                bench.store.finish(bench.done(trial))
            after_trial()


@contextmanager
def one_thread() -> Iterator[None]:
    """Pin torch to one thread: sums in another order are other numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Worker:
    """What a worker has at hand: the scan, its store, and the events of the data set read last."""

    scan: Scan
    store: Store
    device: str
    card: str = ""
    reading: Reading | None = None
    rehearsed: bool = False

    # --- which trial ---------------------------------------------------------------------------

    @contextmanager
    def taken(self) -> Iterator[Trial | None]:
        """Give a trial that is this process's alone as long as it lives, or None when all are finished."""
        while True:
            trials = self.store.trials()
            for trial in trials:
                if not trial.finished:
                    with self._alone(trial.number) as alone:
                        # It may have been finished between the look and the lock.
                        if alone and not (now := self.store.trial(trial.number)).finished:
                            yield now
                            return
            if len(trials) < self.scan.plan.trials:
                self._begin()
            elif all(t.finished for t in trials):
                yield None
                return
            else:
                time.sleep(PAUSE)

    @contextmanager
    def _alone(self, number: int) -> Iterator[bool]:
        """Hold the lock of a trial. The system lets go of it when a process dies, however that happens."""
        lock = FileLock(_locks(self.scan.folder) / f"{number}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _begin(self) -> None:
        """Enter the next trial, whose point and seed follow from its number."""
        plan = self.scan.plan
        with FileLock(_locks(self.scan.folder) / "begin.lock"):
            trials = self.store.trials()
            point, seed = divmod(len(trials), plan.seeds)
            if point < plan.points:
                known = trials[point * plan.seeds].point if seed else None
                chosen = known or next_point(plan, point, Table(plan, tuple(trials)).known())
                self.store.begin(chosen, seed + 1)

    # --- doing it ------------------------------------------------------------------------------

    def done(self, trial: Trial) -> Trial:
        """Train and measure; what goes wrong with these settings alone makes the trial a failed one."""
        try:
            return self._measured(trial, self._trained(trial))
        except (_RefusedError, FloatingPointError) as problem:
            return dataclasses.replace(trial, state="failed", why=str(problem))
        except _PrunedError as reason:
            return self._pruned(trial, *reason.args)

    def _trained(self, trial: Trial) -> Run:
        plan = self.scan.plan
        overrides = plan.space.overrides(trial.point, trial.seed)
        try:
            dataset, card = cards_with(self.scan.folder, overrides)
        except CardError as problem:  # two values that do not go together
            raise _RefusedError(str(problem)) from None
        reading = self._read(dataset)
        self._rehearse(dataset, card)
        run = Run.start(self.scan.trial_folder(trial), dataset, card).on(reading)
        run.train(device=self.device, progress=False, after_epoch=self._prune if plan.prune else None)
        return run

    def _read(self, dataset: DatasetCard) -> Reading:
        """Events of a card, kept for the next trial: most scans never change it."""
        card = dump_card(dataset)
        if self.reading is None or card != self.card:
            self.reading = None  # two at a time would need twice the memory
            try:
                self.reading = read(dataset)
            except (CardError, ReadError) as problem:
                if not self.scan.plan.space.reads_anew:
                    raise  # no point will do better
                raise _RefusedError(str(problem)) from None
            self.card = card
        return self.reading

    def _prune(self, history: History) -> None:
        finished = [t.auc for t in self.store.trials() if t.state == "complete"]
        if below_median(_aucs(history), finished):
            raise _PrunedError(history)

    def _pruned(self, trial: Trial, history: History) -> Trial:
        why = (
            f"after epoch {len(history)}, the best validation AUC was below the median of finished trainings"
        )
        return dataclasses.replace(trial, state="pruned", why=why, **_course(history))

    def _measured(self, trial: Trial, run: Run) -> Trial:
        evidence = TrialContext(run, self.scan.plan.explain)
        metrics, found = measure(evidence), histograms(evidence)
        for name, _ in self.scan.plan.objectives:
            if name not in metrics:
                raise _cannot(name, _LACKS["table" if "table" in METRICS[name].needs else "attention"])
            if not np.isfinite(metrics[name].value):
                raise _RefusedError(f"{name} has no value")
        events = {s: int((run.events.split == i).sum()) for i, s in enumerate(SPLITS)}
        events |= {"explained": len(evidence.attention.events)} if found else {}
        made = {"metrics": metrics, "events": events, "histograms": found, **_course(run.history())}
        return dataclasses.replace(trial, state="complete", **made)

    def _rehearse(self, dataset: DatasetCard, card: ModelCard) -> None:
        """Find out on a few events whether the model has what the objectives need, before hours are spent."""
        need = {a: n for n, _ in self.scan.plan.objectives for a in _LACKS if a in METRICS[n].needs}
        if self.rehearsed or not need:
            return
        self.rehearsed = True
        few = _few(self._read(dataset).events)
        short = card.training.model_copy(update={"trees" if hasattr(card.training, "trees") else "epochs": 1})
        try:
            model, _ = fit(card.model_copy(update={"training": short}), few, device=self.device)
            for ability, objective in need.items():
                try:
                    _TRIES[ability](model, few[:2])
                except CannotExplainError as problem:
                    raise _cannot(objective, str(problem)) from None
        except FloatingPointError:
            return  # this point fails in its own trial


def _locks(folder: Path) -> Path:
    found = folder / "locks"
    found.mkdir(exist_ok=True)
    return found


def _cannot(objective: str, why: str) -> ScanError:
    return ScanError(
        f"objective {objective} cannot be worked out for this model ({why}); choose another objective"
    )


def _few(events: Events) -> Events:
    """The first events of each class in the training and in the validation split."""
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
