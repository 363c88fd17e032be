"""A scan from the start to its table: adopted, resumed, shared, refused."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hepxai
import hepxai.scan.work
from hepxai.cards import dump_card
from hepxai.run import Run
from hepxai.scan import METRICS, Scan, ScanError, Table, TrialContext, write_scan
from hepxai.scan.objectives import histograms, measure
from hepxai.scan.store import JOURNAL

OVER = ["edge_dropout=0.1,0.3"]
BOTH = ("valid_auc", "pair_attention")
Cards = Callable[..., tuple[Any, Any]]


def numbers(table: Table) -> list[dict[str, Any]]:
    """Everything but times: independent of the workers."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in table.trial_rows()]
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in r.items()} for r in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cards: Cards) -> Scan:
    """Two values, two seeds; tests only look at it."""
    scan = Scan.start(tmp_path_factory.mktemp("scans") / "x", *cards(), OVER, seeds=2, objectives=BOTH)
    scan.run(progress=False)
    return scan


def test_the_front_door_has_it() -> None:
    assert hepxai.Scan is Scan


def test_every_trial_is_a_run_with_its_own_cards(finished: Scan) -> None:
    names = sorted(p.name for p in (finished.folder / "runs").iterdir())
    assert names == [f"edge_dropout={v},seed={s}" for v in (0.1, 0.3) for s in (1, 2)]
    for trial in finished.table().trials:
        run = Run.open(finished.trial_folder(trial))
        assert run.card.edge_dropout == trial.point["model.edge_dropout"]
        assert run.card.training.seed == trial.seed


def test_the_table_holds_what_the_runs_say(finished: Scan) -> None:
    table = finished.table()
    assert table.complete
    for trial in table.trials:
        run = Run.open(finished.trial_folder(trial))
        stored = run.metrics()["valid"]["auc"]
        assert float(trial.metrics["valid_auc"].value) == stored["value"]
        assert float(trial.metrics["valid_auc"].error) == stored["error"]
        again = measure(TrialContext(run, finished.plan.explain))
        applicable = {name for name, metric in METRICS.items() if "table" not in metric.needs}
        assert set(again) == applicable == set(trial.metrics)
        for name, estimate in again.items():
            np.testing.assert_allclose(float(estimate.value), float(trial.metrics[name].value), rtol=1e-9)
        assert trial.events["valid"] == trial.events["explained"] == len(run.events.where("valid"))
    row = table.rows()[0]
    values = [float(t.metrics["valid_auc"].value) for t in table.trials[:2]]
    assert row["valid_auc"] == pytest.approx(np.mean(values))
    assert row["valid_auc_error"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(2))
    assert row["valid_auc_spread"] == pytest.approx(np.std(values, ddof=1))
    assert row["complete"] == 2


def test_histograms_hold_every_pair_once(finished: Scan) -> None:
    trial = finished.table().trials[0]
    run = Run.open(finished.trial_folder(trial))
    evidence = TrialContext(run, finished.plan.explain)
    found = evidence.attention
    weight = np.repeat(found.events.weight, np.diff(found.offsets)).sum()
    for groups in trial.histograms.values():
        assert sum(sum(g["value"]) for g in groups) == pytest.approx(weight, rel=1e-4)
        assert {(g["class"], g["pairs"]) for g in groups} == {
            (c, p) for c in ("signal", "background") for p in ("focus", "other")
        }
    assert histograms(evidence) == trial.histograms


def test_fewer_events_are_evenly_spread(finished: Scan) -> None:
    run = Run.open(finished.trial_folder(finished.table().trials[0]))
    valid = run.events.where("valid")
    few = TrialContext(run, 7).attention.events
    assert len(few) == 7
    assert few.event[0] == valid.event[0]
    assert few.event[-1] == valid.event[-1]


def test_optuna_reads_the_store(finished: Scan) -> None:
    """The journal is a study that Optuna's own tools open."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    backend = JournalFileBackend(str(finished.folder / JOURNAL))
    study = optuna.load_study(study_name="scan", storage=JournalStorage(backend))
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    trial = study.trials[0]
    assert trial.params == {"model.edge_dropout": 0.1, "seed": 1}
    assert trial.values == [float(finished.table().trials[0].metrics[m].value) for m in BOTH]


def test_looking_changes_nothing(finished: Scan) -> None:
    before = (finished.folder / JOURNAL).read_bytes()
    table = Scan.open(finished.folder).run(progress=False)
    assert numbers(table) == numbers(finished.table())
    assert (finished.folder / JOURNAL).read_bytes() == before


def test_finished_runs_are_adopted(finished: Scan, cards: Cards, tmp_path: Path) -> None:
    """Made by `hepxai run --set`, or by another scan, in the place of the trial."""
    own = tmp_path / "y" / "runs" / "edge_dropout=0.3,seed=2"
    dataset, _ = cards()
    made = Run.start(own, dataset, cards("edge_dropout=0.3", "training.seed=2")[1])
    made.train(progress=False)
    before = (own / "history.json").read_bytes()
    scan = Scan.start(tmp_path / "y", *cards(), OVER, seeds=2, objectives=BOTH)
    assert numbers(scan.run(progress=False)) == numbers(finished.table())
    assert (own / "history.json").read_bytes() == before


# --- going on --------------------------------------------------------------------------------------


def test_a_trial_of_a_dead_process_is_taken_up(finished: Scan, cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=2, objectives=BOTH)
    scan.store().begin({"model.edge_dropout": 0.1}, 1)  # entered, never finished
    assert [t.state for t in scan.table().trials] == ["running"]
    assert numbers(scan.run(progress=False)) == numbers(finished.table())


def test_a_training_resumes_at_its_epoch(
    finished: Scan, cards: Cards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=2, objectives=BOTH)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(hepxai.scan.work, "measure", die)
        with pytest.raises(KeyboardInterrupt):
            scan.run(progress=False)
    trained = scan.folder / "runs" / "edge_dropout=0.1,seed=1" / "model.safetensors"
    before = trained.stat().st_mtime_ns
    assert numbers(scan.run(progress=False)) == numbers(finished.table())
    assert trained.stat().st_mtime_ns == before


def test_half_a_line_in_the_journal_is_mended(finished: Scan, cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=2, objectives=BOTH)
    scan.store().begin({"model.edge_dropout": 0.1}, 1)
    with (scan.folder / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":8,"worker_id":"')
    assert len(scan.table().trials) == 1
    assert numbers(scan.run(progress=False)) == numbers(finished.table())
    assert all(json.loads(line) for line in (scan.folder / JOURNAL).read_text().splitlines())


def test_trials_of_other_workers_are_skipped(cards: Cards, tmp_path: Path) -> None:
    from filelock import FileLock

    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=1)
    worker = hepxai.scan.work.Worker(scan.store(), "cpu")
    with worker.next_trial() as first, worker.next_trial() as second:
        assert first is not None
        assert second is not None
        assert (first.number, second.number) == (0, 1)
        with pytest.raises(TimeoutError), FileLock(scan.folder / "locks" / "0.lock", timeout=0):
            pass
    with worker.next_trial() as freed:
        assert freed is not None
        assert freed.number == 0


KILLED = """
import sys, hepxai.training.loop as t
from hepxai.scan import Scan
plain, done = t.save, []
def save(*a):
    plain(*a); done.append(1)
    if len(done) == 5: print("now", flush=True); import time; time.sleep(60)
t.save = save
Scan.open(sys.argv[1]).run(progress=False)
"""


@pytest.mark.slow
def test_a_killed_scan_resumes(finished: Scan, cards: Cards, tmp_path: Path) -> None:
    """SIGKILL in the middle of the third training; another process makes the same table."""
    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=2, objectives=BOTH)
    command = [sys.executable, "-c", KILLED, str(scan.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert [t.state for t in scan.table().trials] == ["complete", "complete", "running"]
    first = [(scan.trial_folder(t) / "history.json").read_bytes() for t in scan.table().trials[:2]]
    assert numbers(scan.run(progress=False)) == numbers(finished.table())
    again = [(scan.trial_folder(t) / "history.json").read_bytes() for t in scan.table().trials[:2]]
    assert again == first


@pytest.mark.slow
def test_two_workers_make_the_same_table(finished: Scan, cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=2, objectives=BOTH)
    assert numbers(scan.run(workers=2, progress=False)) == numbers(finished.table())


@pytest.mark.slow
def test_a_killed_worker_is_said_and_nothing_is_lost(finished: Scan, cards: Cards, tmp_path: Path) -> None:
    import multiprocessing
    import threading

    scan = Scan.start(tmp_path / "x", *cards(), OVER, seeds=2, objectives=BOTH)

    def kill_one() -> None:
        while not any(t.finished for t in scan.table().trials):
            time.sleep(0.05)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(ScanError, match=r"a worker died .* the same command resumes"):
        scan.run(workers=2, progress=False)
    killer.join()
    assert numbers(scan.run(progress=False)) == numbers(finished.table())


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_drawn_points_are_repeatable_and_may_be_more(sampler: str, cards: Cards, tmp_path: Path) -> None:
    over = ["edge_dropout=0.0..0.5", "training.learning_rate=1e-4..1e-2:log"]

    def start(name: str, trials: int) -> Scan:
        return Scan.start(tmp_path / name, *cards("training.epochs=1"), over, sampler=sampler, trials=trials)

    whole = start("whole", 3).run(progress=False)
    start("parts", 2).run(progress=False)
    parts = start("parts", 3).run(progress=False)
    assert numbers(parts) == numbers(whole)
    assert len({tuple(t.point.values()) for t in whole.trials}) == 3
    with pytest.raises(ScanError, match="holds a scan of 3 trials; ask for as many or more"):
        start("parts", 2)


def test_wrong_numbers_of_workers(finished: Scan) -> None:
    with pytest.raises(ScanError, match="0 workers; at least 1 is needed"):
        finished.run(workers=0)


def test_threads_are_left_as_they_were(finished: Scan) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        finished.run(progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_cards_are_kept_with_the_scan(finished: Scan, cards: Cards) -> None:
    dataset, card = cards()
    known = Scan.open(finished.folder)
    assert dump_card(known.dataset) == dump_card(dataset)
    assert dump_card(known.card) == dump_card(card)
    assert dataclasses.replace(known, dataset=finished.dataset, card=finished.card) == finished


def test_seeds_alone_are_a_scan_of_one_point(tmp_path: Path, cards: Cards) -> None:
    scan = Scan.start(tmp_path / "x", *cards(), [], seeds=2)
    (point,) = scan.run(progress=False).points
    assert (point.label, len(point.of("complete"))) == ("the cards as they are", 2)
    assert "scan of seeds" in write_scan(scan).read_text()
