"""Boosted trees trained in steps: weights, the best number, killed and resumed, what is refused."""

from __future__ import annotations

import dataclasses
import json
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
from sklearn.ensemble import HistGradientBoostingClassifier

import hepxai.training.trees
from hepxai.core.files import read_tensors
from hepxai.events import Events
from hepxai.metrics import auc
from hepxai.models.card import BoostedTreesCard, ModelCard
from hepxai.models.table.boosted_trees import (
    ALGORITHMS,
    BoostedTreesModel,
    estimator_of,
    number_of_trees,
    set_number_of_trees,
    unweighted_bins,
)
from hepxai.training import History, fit, loss_weights

ToyEvents = Callable[..., Events]


def make_card(algorithm: str = "hist_gradient_boosting", **training: Any) -> BoostedTreesCard:
    own = {"trees": 12, "step": 5} | training
    if algorithm != "hist_gradient_boosting":
        own = {"negative_weights": "abs"} | own
    kind = {"kind": "boosted_trees", "algorithm": algorithm, "smallest_leaf": 5}
    card = ModelCard.model_validate(kind | {"training": own})
    assert isinstance(card, BoostedTreesCard)
    return card


def learnable(events: Events) -> Events:
    """The first column says what the class is; the second one knows nothing."""
    table = events.globals.copy()
    table[:, 0] += 3 * events.label
    return events.replace(globals=table)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return learnable(toy(400))


def numbers(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def same(a: BoostedTreesModel, b: BoostedTreesModel, events: Events) -> bool:
    return np.array_equal(a.score_table(events.globals), b.score_table(events.globals))


# --- it learns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learns(events: Events, algorithm: str) -> None:
    model, history = fit(make_card(algorithm), events)
    assert [row["trees"] for row in history] == [5, 10, 12]
    losses, quality = ["train_loss", "valid_loss"], ["accuracy", "auc"]
    scores = [f"{s}_{q}" for s in ("train", "valid") for q in quality]
    assert list(history[0]) == ["trees", *losses, *scores, "seconds"]
    assert history[-1]["valid_auc"] > 0.85
    test = events.where("test")
    assert auc(model.score_table(test.globals)[:, 0], test.label == 1, test.weight).value > 0.85
    json.dumps(history, allow_nan=False)


@pytest.mark.filterwarnings("ignore:AUC is:hepxai.core.estimate.OutOfRangeWarning")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_history_by_hand(events: Events, algorithm: str) -> None:
    """Figures of each row are those of a model of so many trees."""
    card = make_card(algorithm, class_balance=False)
    _, history = fit(card, events)
    for row in history:
        shorter = make_card(algorithm, class_balance=False, trees=int(row["trees"]))
        short, _ = fit(shorter, events)
        if number_of_trees(short.estimator) != row["trees"]:
            continue  # an earlier step was better, and is what the model has
        for split in ("train", "valid"):
            own = events.where(split)
            z = short.score_table(own.globals)[:, 0]
            weight = loss_weights(own, card.training, balance=False)
            expected = np.mean(weight * (np.logaddexp(0, z) - own.label * z))
            assert row[f"{split}_loss"] == pytest.approx(expected, rel=1e-6)
            area = auc(z, own.label == 1, own.weight).value
            assert row[f"{split}_auc"] == pytest.approx(float(area), rel=1e-6)


def test_equals_scikit_learn(events: Events) -> None:
    """One fit with the same weights gives the same trees as many steps."""
    card = make_card(trees=15, step=4)
    model, _ = fit(card, events)
    train = events.where("train")
    plain = HistGradientBoostingClassifier(
        max_iter=number_of_trees(model.estimator), min_samples_leaf=5, random_state=1, early_stopping=False
    )
    weight = loss_weights(train, card.training, balance=True)
    plain.fit(train.globals, train.label, sample_weight=weight)
    assert np.array_equal(model.score_table(events.globals)[:, 0], plain.decision_function(events.globals))


def test_three_classes(events: Events) -> None:
    schema = dataclasses.replace(events.schema, classes=("qcd", "ttbar", "ttH"))
    label = np.where((events.label == 1) & (events.globals[:, 1] > 0), 2, events.label)
    three = events.replace(schema=schema, label=label)
    for algorithm in ALGORITHMS:
        model, history = fit(make_card(algorithm), three)
        assert model.score_table(three.globals).shape == (400, 3)
        assert history[-1]["valid_accuracy"] > 0.7
        assert history[-1]["valid_auc"] > 0.8


def test_weights_matter(events: Events) -> None:
    """An event of weight 0 is not there; signed weights and the balance are those of the networks' loss."""
    zero = events.replace(weight=np.where(np.arange(400) % 3 == 0, 0.0, 1.0))
    noise = zero.globals.copy()
    noise[np.arange(400) % 3 == 0, 0] = 50.0
    model, _ = fit(make_card(), zero.replace(globals=noise))
    assert auc(model.score_table(zero.globals)[:, 0], zero.label == 1, zero.weight).value > 0.85
    signed, absolute = (fit(make_card(negative_weights=p), events)[0] for p in ("keep", "abs"))
    assert not same(signed, absolute, events)


# --- the best number of trees --------------------------------------------------------------------


def test_bins_do_not_know_the_weights(events: Events) -> None:
    """Signed weights have no quantiles, and scikit-learn's weighted ones take minutes."""
    estimators = []
    for weights in (np.ones(len(events)), np.where(np.arange(len(events)) % 5 == 0, -1.0, 3.0)):
        estimator = estimator_of(make_card())
        set_number_of_trees(estimator, 2)
        with unweighted_bins(estimator):
            estimator.fit(events.globals, events.label, sample_weight=weights)
        assert "_bin_data" not in vars(estimator)
        estimators.append(estimator)
    one, other = (e._bin_mapper.bin_thresholds_ for e in estimators)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_best_number_of_trees(toy: ToyEvents) -> None:
    """Noise: more trees only get worse on the validation split."""
    noise = toy(300, seed=4).replace(weight=np.ones(300))
    model, history = fit(make_card(trees=60, step=5), noise)
    losses = [row["valid_loss"] for row in history]
    assert losses[-1] > min(losses)
    kept = int(history[int(np.argmin(losses))]["trees"])
    assert number_of_trees(model.estimator) == kept < 60
    own = noise.where("valid")
    z = model.score_table(own.globals)[:, 0]
    weight = loss_weights(own, model.card.training, balance=True)
    assert min(losses) == pytest.approx(np.mean(weight * (np.logaddexp(0, z) - own.label * z)))
    stopped, short = fit(make_card(trees=60, step=5, early_stopping=15), noise)
    assert len(short) < len(history)
    assert numbers(short) == numbers(history)[: len(short)]
    assert short[-1]["trees"] - number_of_trees(stopped.estimator) == 15


def test_a_forest_keeps_all_its_trees(toy: ToyEvents) -> None:
    model, _ = fit(make_card("random_forest", trees=13), toy(300, seed=4))
    assert number_of_trees(model.estimator) == 13


# --- it repeats itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_trees(events: Events, algorithm: str) -> None:
    one, history = fit(make_card(algorithm), events)
    again, second = fit(make_card(algorithm), events)
    assert same(one, again, events)
    assert numbers(history) == numbers(second)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stopped_and_resumed(events: Events, tmp_path: Path, algorithm: str) -> None:
    """Also with another number of trees, as for epochs: the same as in one go, to the last bit."""
    whole, history = fit(make_card(algorithm, trees=20), events)
    fit(make_card(algorithm, trees=10), events, folder=tmp_path)
    model, resumed = fit(make_card(algorithm, trees=20), events, folder=tmp_path)
    assert same(model, whole, events)
    assert numbers(resumed) == numbers(history)


def test_a_finished_training_is_not_repeated(events: Events, tmp_path: Path) -> None:
    model, history = fit(make_card(), events, folder=tmp_path)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    again, second = fit(make_card(), events, folder=tmp_path)
    assert same(model, again, events)
    assert second == history
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before


KILLED = """
import sys
sys.path[:0] = [*sys.argv[1:3], f"{sys.argv[1]}/helpers"]
import hepxai.training.trees
from toy_events import make_events
from test_trees import learnable, make_card
from hepxai.training import fit
hepxai.core.resume.SECONDS = 0
fit(make_card(trees=int(sys.argv[4])), learnable(make_events(400)), folder=sys.argv[3])
"""


def rows_done(checkpoint: Path) -> int:
    return len(json.loads(read_tensors(checkpoint)[1]["state"])["history"]) if checkpoint.exists() else 0


def test_kill_and_resume(events: Events, tmp_path: Path) -> None:
    """`kill -9` after the third step or later: the trees are those of an uninterrupted training."""
    trees, checkpoint = 400, tmp_path / "checkpoint.safetensors"
    here = Path(__file__).parent
    arguments = [sys.executable, "-c", KILLED, str(here.parent), str(here), str(tmp_path), str(trees)]
    process = subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    while rows_done(checkpoint) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= rows_done(checkpoint) < trees / 5
    model, history = fit(make_card(trees=trees), events, folder=tmp_path)
    whole, uninterrupted = fit(make_card(trees=trees), events)
    assert numbers(history) == numbers(uninterrupted)
    assert same(model, whole, events)


def test_checkpoints_are_not_written_all_the_time(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(checkpoint: Any, arrays: Any, state: Any) -> None:
        written.append(state["history"][-1]["trees"])

    monkeypatch.setattr(hepxai.training.trees.Checkpoint, "write", write)
    fit(make_card(), events, folder=tmp_path)
    assert written == [12]
    monkeypatch.setattr(hepxai.core.resume, "SECONDS", 0)
    fit(make_card(), events, folder=tmp_path)
    assert written == [12, 5, 10, 12]


def test_a_checkpoint_of_another_training_is_refused(events: Events, tmp_path: Path) -> None:
    fit(make_card(), events, folder=tmp_path)
    for card, own in (
        (make_card(learning_rate=0.2), events),
        (make_card(), events.replace(weight=2 * events.weight)),
        (make_card(), events.replace(globals=2 * events.globals)),
    ):
        with pytest.raises(ValueError, match=r"belongs to another training .*choose another folder"):
            fit(card, own, folder=tmp_path)


def test_told_the_history_and_stopped(events: Events, tmp_path: Path) -> None:
    """As a scan does that prunes."""
    seen: list[int] = []

    class StopError(Exception):
        pass

    def after(history: History) -> None:
        seen.append(len(history))
        if len(history) == 2:
            raise StopError

    with pytest.raises(StopError):
        fit(make_card(), events, after_epoch=after)
    assert seen == [1, 2]


# --- what cannot be learned ----------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["gradient_boosting", "random_forest"])
def test_negative_weights(events: Events, algorithm: str) -> None:
    message = (
        rf"\d+ training events have negative weights; {algorithm} takes none: say training.negative_weights: "
        "drop or abs, or algorithm: hist_gradient_boosting"
    )
    with pytest.raises(ValueError, match=message):
        fit(make_card(algorithm, negative_weights="keep"), events)
    fit(make_card(algorithm, negative_weights="drop"), events)
    with pytest.raises(ValueError, match=r"the model card says training\.negative_weights: error"):
        fit(make_card(algorithm, negative_weights="error"), events)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_one_class_and_empty_splits(events: Events, split: str) -> None:
    number = ("train", "valid").index(split)
    one = events.replace(label=np.where(events.split == number, 0, events.label))
    with pytest.raises(ValueError, match=f"class 'signal' has no events in the {split} split"):
        fit(make_card(), one)
    empty = events.replace(split=np.where(events.split == number, 2, events.split))
    with pytest.raises(ValueError, match=f"the {split} split has 0 events to use"):
        fit(make_card(), empty)


def test_weights_that_leave_nothing(events: Events) -> None:
    zero = events.replace(weight=np.zeros(400))
    with pytest.raises(ValueError, match="class 'background' has no positive total weight"):
        fit(make_card(), zero)
    with pytest.raises(ValueError, match="all weights are zero"):
        fit(make_card(class_balance=False), zero)


@pytest.mark.parametrize("rows", [slice(None), [5]])
def test_values_that_are_not_finite(events: Events, rows: Any) -> None:
    table = events.globals.copy()
    table[rows, 1] = np.nan
    with pytest.raises(ValueError, match=r"not finite: njet in \d+ of 400 events; give them a number"):
        fit(make_card(), events.replace(globals=table))


def test_a_constant_column_is_nothing(events: Events) -> None:
    table = events.globals.copy()
    table[:, 1] = 13_000
    with pytest.warns(UserWarning, match="constant in the training split: njet; the model learns nothing"):
        _, history = fit(make_card(), events.replace(globals=table))
    assert history[-1]["valid_auc"] > 0.85


def test_what_trees_do_not_do(events: Events) -> None:
    with pytest.raises(
        ValueError, match="boosted trees learn the labels or targets of the events; others are"
    ):
        fit(make_card(), events, targets=events.label.astype(np.float32))
