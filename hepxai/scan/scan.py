"""Scan: one folder with many runs, one store and one table of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from hepxai.cards import dump_card
from hepxai.core.console import say, track
from hepxai.core.files import holds_only, refuse_links, remove_leftovers, write_json, write_text
from hepxai.core.formatting import measured
from hepxai.core.workers import WorkerError, worker_pool
from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard
from hepxai.scan.objectives import METRICS
from hepxai.scan.plan import Plan
from hepxai.scan.space import ScanError, Space, cards_with, folder_name
from hepxai.scan.store import Store, Trial, trial_folder
from hepxai.scan.table import Table
from hepxai.scan.work import work

SETTINGS = "scan.json"
FOLDERS = ("*", "runs/*")
"""Patterns of paths that must not be links out of a scan; runs check their own folders."""
INTERVAL = 0.5
"""Seconds between two checks for finished trials."""


@dataclass(frozen=True)
class Scan:
    """Many trainings over values of card entries, resumable, shared by processes and machines.

    Attributes
    ----------
    folder : Path
    dataset : DatasetCard
    card : ModelCard
        Cards without the scanned values.
    plan : Plan
    """

    folder: Path
    dataset: DatasetCard
    card: ModelCard
    plan: Plan

    # --- start and open ------------------------------------------------------------------------

    @staticmethod
    def start(
        folder: str | Path,
        dataset: DatasetCard,
        card: ModelCard,
        over: Sequence[str] | Mapping[str, Any],
        *,
        seeds: int = 1,
        objectives: Sequence[str] = ("valid_auc",),
        sampler: str = "grid",
        trials: int | None = None,
        explain: int = 5000,
        prune: bool = False,
        sampler_seed: int = 0,
    ) -> Scan:
        """Begin in a new folder, or resume a scan of the same settings.

        Parameters
        ----------
        folder : path
            New, empty, of the same scan, or with nothing but finished runs in ``runs/``: those are adopted.
        dataset, card : DatasetCard, ModelCard
        over : sequence of str, or mapping
            ``["edge_dropout=0.1,0.2", "training.learning_rate=1e-4..1e-2:log"]``, or
            ``{"edge_dropout": [0.1, 0.2]}``. Entries of the model card; ``dataset.KEY`` for those of the
            data-set card.
        seeds : int
            Trainings of every point.
        objectives : sequence of str
            Names in ``METRICS``, with ``:max`` or ``:min`` to turn one round.
        sampler : str
            "grid", "random" or "tpe".
        trials : int, optional
            Points to try, for "random" and "tpe"; may be raised on resuming.
        explain : int
            Validation events to explain, at most.
        prune : bool
            Stop trainings whose validation AUC stays below the median.
        sampler_seed : int
            Of "random" and "tpe".

        Raises
        ------
        ScanError, CardError
            Before anything is written or trained.
        """
        plan = Plan.make(
            Space.parse(over),
            seeds=seeds,
            sampler=sampler,
            trials=trials,
            objectives=objectives,
            explain=explain,
            prune=prune,
            sampler_seed=sampler_seed,
        )
        scan = Scan(Path(folder), dataset, card, plan)
        with TemporaryDirectory() as scratch:
            scan._write_cards(Path(scratch))
            plan.check(Path(scratch))
        scan._claim()
        return scan

    @staticmethod
    def open(folder: str | Path) -> Scan:
        """Open the folder of a scan.

        Raises
        ------
        ScanError
            If the folder holds no scan.
        """
        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            raise ScanError(f"{folder} is no scan; make one with `hepxai scan`")
        refuse_links(folder, *FOLDERS)
        try:
            plan = Plan.from_json(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ScanError(
                f"{folder / SETTINGS} is damaged ({error}); put back a copy of it, or move "
                f"{folder / 'runs'} into a new folder and scan there: finished runs are adopted"
            ) from None
        return Scan(folder, *cards_with(folder, []), plan)

    # --- steps -------------------------------------------------------------------------------

    def run(self, *, workers: int = 1, device: str = "cpu", progress: bool = True) -> Table:
        """Train and measure unfinished trials. Other processes, on other machines too, may do the same.

        Parameters
        ----------
        workers : int
            Processes; with one, this process. The table does not depend on it, except with "tpe" and
            pruning, whose decisions depend on the finished trials.
        device : str
            Torch device of the trainings.
        progress : bool
            Show a bar, and a line for each trial.

        Raises
        ------
        ScanError
            If a worker died, or an objective cannot be computed. The same call resumes from there.
        """
        if workers < 1:
            raise ScanError(f"{workers} workers; at least 1 is needed")
        with self._progress(progress) as update:
            if workers == 1:
                work(self.store(), device, update)
            else:
                self._in_processes(workers, device, update)
        return self.table()

    def table(self) -> Table:
        """Results so far."""
        return Table(self.plan, tuple(self.store().trials()))

    def store(self) -> Store:
        """Newly opened store."""
        return Store(self.folder, self.plan)

    def trial_folder(self, trial: Trial) -> Path:
        """Folder of the run of a trial."""
        return trial_folder(self.folder, trial)

    # --- workers -------------------------------------------------------------------------------

    def _in_processes(self, workers: int, device: str, update: Callable[[], None]) -> None:
        try:
            with worker_pool(workers) as executor:  # a training that it stops resumes from its last epoch
                futures = [executor.submit(_worker, self.folder, device) for _ in range(workers)]
                pending: set[Future[None]] = set(futures)
                while pending:
                    done, pending = wait(pending, timeout=INTERVAL, return_when=FIRST_EXCEPTION)
                    update()
                    for future in done:
                        future.result()  # raises what the worker raised
        except WorkerError:
            raise ScanError(
                f"a worker died (killed, or out of memory); nothing is lost, the same command resumes in "
                f"{self.folder}"
            ) from None
        finally:
            update()

    @contextmanager
    def _progress(self, show: bool) -> Iterator[Callable[[], None]]:
        """Progress bar, as a function that shows the trials finished since its last call."""
        store = self.store()
        finished = {t.number for t in store.trials() if t.finished}
        with track("scan", self.plan.trials, show=show, done=len(finished)) as advance:

            def update() -> None:
                for trial in store.trials():
                    if trial.finished and trial.number not in finished:
                        finished.add(trial.number)
                        advance(1)
                        if show:
                            say(self._line(trial))

            yield update

    def _line(self, trial: Trial) -> str:
        name = folder_name(trial.point, trial.seed)
        if trial.state != "complete":
            return f"{name}  {trial.state}: {trial.why}"
        metrics = dict.fromkeys([*(m for m, _ in self.plan.objectives), "valid_auc"])
        figures = "  ".join(
            f"{METRICS[m].label(self.dataset)} {measured(float(e.value), float(e.error))}"
            for m in metrics
            if (e := trial.metrics.get(m)) is not None
        )
        return f"{name}  {figures}  {trial.seconds:.0f} s"

    # --- bookkeeping -----------------------------------------------------------------------------

    def _cards(self) -> dict[str, str]:
        return {"dataset.yaml": dump_card(self.dataset), "model.yaml": dump_card(self.card)}

    def _write_cards(self, folder: Path) -> None:
        for name, text in self._cards().items():
            write_text(folder / name, text)

    def _claim(self) -> None:
        """Claim a new folder for this scan, or check that it belongs to it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ScanError(f"{self.folder} is a file; choose another folder")
        is_scan = (self.folder / SETTINGS).is_file()
        # A start that was killed before it wrote its settings leaves cards; runs may be there to be adopted.
        if not is_scan and not holds_only(self.folder, self._cards(), ("runs", ".lock", SETTINGS)):
            raise ScanError(f"{self.folder} exists and is no scan; choose another folder or empty this one")
        refuse_links(self.folder, *FOLDERS)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            remove_leftovers(self.folder)
            if (self.folder / SETTINGS).is_file():
                self._check_same(Scan.open(self.folder))
            else:
                self._write_cards(self.folder)
            write_json(self.folder / SETTINGS, self.plan.to_json())

    def _check_same(self, stored: Scan) -> None:
        holds = f"{self.folder} holds a scan"
        for name, text in self._cards().items():
            if text != stored._cards()[name]:
                card = "data-set card" if name == "dataset.yaml" else "model card"
                raise ScanError(f"{holds} with another {card}; choose another folder")
        new_plan, stored_plan = (
            {k: json.dumps(v) for k, v in s.plan.to_json().items()} for s in (self, stored)
        )
        for key in [k for k in new_plan if k != "points" and new_plan[k] != stored_plan[k]]:
            raise ScanError(
                f"{holds} with {key} {stored_plan[key]}, not {new_plan[key]}; choose another folder"
            )
        if self.plan.points < stored.plan.points:
            raise ScanError(f"{holds} of {stored.plan.points} trials; ask for as many or more")


def _worker(folder: Path, device: str) -> None:
    work(Scan.open(folder).store(), device, lambda: None)
