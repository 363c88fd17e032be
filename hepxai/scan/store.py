"""Store of a scan: an Optuna journal, one file that several processes and machines share."""

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
from hepxai.scan.space import Point, folder_name

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
        Reason why it was pruned or failed.
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
        """True unless it is running."""
        return self.state != "running"


def trial_folder(folder: Path, trial: Trial) -> Path:
    """Folder of the run of a trial of the scan in ``folder``."""
    return folder / "runs" / folder_name(trial.point, trial.seed)


class _Lock(JournalFileOpenLock):
    """Lock that ends with its process, unlike that of Optuna."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        """Lock, and remove the part of a line that a process killed while writing left at the end."""
        self.lock.acquire()
        with self.journal.open("rb+") as journal:
            size = journal.seek(0, os.SEEK_END)
            journal.seek(max(size - 1, 0))
            if journal.read() not in (b"", b"\n"):
                journal.seek(0)
                journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self.lock.release()


class Store:
    """Trials of a scan.

    Attributes
    ----------
    folder : Path
        Of the scan.
    plan : Plan
    study : optuna.Study
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        path = (folder / JOURNAL).resolve()
        with quiet():
            self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path)))
            self.study = self._open_study(plan)
        self.folder, self.plan = folder, plan

    def _open_study(self, plan: Plan) -> optuna.Study:
        try:  # opening a scan writes nothing
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
        space = self.plan.space.distributions() | {SEED_NAME: IntDistribution(1, self.plan.seeds)}
        params = dict(point) | {SEED_NAME: seed}
        with quiet():
            self.study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=space))

    def finish(self, trial: Trial) -> None:
        """Enter the result of a trial, and its final state."""
        number = self._frozen(trial.number)._trial_id
        result = {k: getattr(trial, k) for k in ("events", "histograms", "why")}
        result |= {"auc": {k: _or_null(v) for k, v in trial.auc.items()}, "seconds": _or_null(trial.seconds)}
        result["metrics"] = {
            name: {k: _or_null(v) for k, v in e.to_json().items()} for name, e in trial.metrics.items()
        }
        values = [float(trial.metrics[name].value) for name, _ in self.plan.objectives if trial.metrics]
        self._storage.set_trial_user_attr(number, RESULT, result)
        self._storage.set_trial_state_values(number, _STATES[trial.state], values or None)

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]


def _trial(frozen: FrozenTrial) -> Trial:
    point = {k: v for k, v in frozen.params.items() if k != SEED_NAME}
    result = dict(frozen.user_attrs.get(RESULT, {"seconds": None}))
    result["metrics"] = {n: Estimate.from_json(e) for n, e in result.get("metrics", {}).items()}
    result["auc"] = {int(k): real(v) for k, v in result.get("auc", {}).items()}
    result["seconds"] = real(result["seconds"])
    return Trial(frozen.number, point, int(frozen.params[SEED_NAME]), STATES[frozen.state], **result)


def _or_null(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
