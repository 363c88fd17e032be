"""The store of a scan: an Optuna journal, one file that several processes and machines share."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from hepxai.core.estimate import Estimate
from hepxai.core.formatting import real
from hepxai.scan.plan import Plan
from hepxai.scan.sampling import SEED_NAME, directions, quiet
from hepxai.scan.space import Point

JOURNAL, STUDY, RESULT = "study.journal", "scan", "result"
STATES = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_STATES = {name: state for state, name in STATES.items()}


@dataclass(frozen=True)
class Trial:
    """One training of one point.

    Attributes
    ----------
    number : int
    point : mapping
        ``model.KEY`` or ``dataset.KEY`` → value.
    seed : int
    state : str
        "running", "complete", "pruned" or "failed".
    metrics : mapping of str to Estimate
    events : mapping of str to int
        Events of each split, and "explained".
    histograms : mapping
        See `hepxai.scan.objectives.histograms`.
    auc : mapping of int to float
        Validation AUC after each epoch.
    seconds : float
        Time of its epochs.
    why : str
        Why it was pruned or failed.
    """

    number: int
    point: Point
    seed: int
    state: str
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    histograms: Mapping[str, Any] = field(default_factory=dict)
    auc: Mapping[int, float] = field(default_factory=dict)
    seconds: float = math.nan
    why: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state != "running"


class _Lock(JournalFileOpenLock):
    """A lock that a killed process does not leave behind, unlike Optuna's own."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self.lock.acquire()
        self._mend()
        return True

    def release(self) -> None:
        self.lock.release()

    def _mend(self) -> None:
        """Take away the part of a line that a process killed while writing left at the end."""
        with self.journal.open("rb+") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(size - 1, 0))
            if opened.read() not in (b"", b"\n"):
                opened.seek(0)
                opened.truncate(opened.read().rfind(b"\n") + 1)


class Store:
    """Trials of a scan.

    Attributes
    ----------
    plan : Plan
    study : optuna.Study
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        path = (folder / JOURNAL).resolve()
        with quiet():
            self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path)))
            self.study = self._opened(plan)
        self.plan = plan

    def _opened(self, plan: Plan) -> optuna.Study:
        try:  # looking at a scan writes nothing
            return optuna.load_study(study_name=STUDY, storage=self._storage)
        except KeyError:
            return optuna.create_study(
                storage=self._storage,
                study_name=STUDY,
                directions=directions(d for _, d in plan.objectives),
                load_if_exists=True,
            )

    def trials(self) -> list[Trial]:
        """All trials that were begun, by number."""
        return [_trial(t) for t in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> Trial:
        """One trial as it is now."""
        return _trial(self._frozen(number))

    def begin(self, point: Point, seed: int) -> None:
        """Enter a trial, in one write."""
        seeds = IntDistribution(1, self.plan.seeds)
        space = self.plan.space.distributions() | {SEED_NAME: seeds}
        params = dict(point) | {SEED_NAME: seed}
        with quiet():
            self.study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=space))

    def finish(self, done: Trial) -> None:
        """Enter what came out of a trial, and that it is done."""
        own = self._frozen(done.number)._trial_id
        kept = {k: getattr(done, k) for k in ("events", "histograms", "why")}
        kept |= {"auc": {k: _or_null(v) for k, v in done.auc.items()}, "seconds": _or_null(done.seconds)}
        kept["metrics"] = {
            name: {k: _or_null(v) for k, v in e.to_json().items()} for name, e in done.metrics.items()
        }
        values = [float(done.metrics[name].value) for name, _ in self.plan.objectives if done.metrics]
        self._storage.set_trial_user_attr(own, RESULT, kept)
        self._storage.set_trial_state_values(own, _STATES[done.state], values or None)

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]


def _trial(frozen: FrozenTrial) -> Trial:
    point = {k: v for k, v in frozen.params.items() if k != SEED_NAME}
    kept = dict(frozen.user_attrs.get(RESULT, {"seconds": None}))
    kept["metrics"] = {n: Estimate.from_json(e) for n, e in kept.get("metrics", {}).items()}
    kept["auc"] = {int(k): real(v) for k, v in kept.get("auc", {}).items()}
    kept["seconds"] = real(kept["seconds"])
    return Trial(frozen.number, point, int(frozen.params[SEED_NAME]), STATES[frozen.state], **kept)


def _or_null(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
