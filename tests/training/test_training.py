"""Training: it learns, is reproducible, resumes after a kill, and refuses bad input."""

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
import torch
from torch.optim.lr_scheduler import CyclicLR

from hepxai.core.files import read_tensors
from hepxai.core.jagged import parents
from hepxai.events import Events
from hepxai.metrics import auc
from hepxai.models.card import ModelCard, Training
from hepxai.models.ensemble import Ensemble
from hepxai.models.network import NetworkModel
from hepxai.training import History, fit, loss_weights, validation_loss
from hepxai.training.loop import learning_rates
from hepxai.training.samples import Sample

ToyEvents = Callable[..., Events]


def make_card(**training: Any) -> ModelCard:
    return ModelCard.model_validate(
        {
            "convolutions": [
                {"kind": "transformer", "width": 8, "heads": 2},
                {"kind": "dynamic_edge", "width": 8, "neighbours": 3},
            ],
            "edge_dropout": 0.1,
            "dense": [8],
            "alpha_dropout": 0.1,
            "training": {"epochs": 4, "batch_size": 64, "learning_rate": 0.01} | training,
        }
    )


def learnable(events: Events) -> Events:
    """Signal particles have a larger b-tag score."""
    particles = events.particles.copy()
    particles[:, 4] += 0.5 * events.label[parents(events.offsets)]
    return events.replace(particles=particles)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return learnable(toy(300, smallest=1))


def numbers(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def same(a: NetworkModel, b: NetworkModel) -> bool:
    mine, theirs = a.network.state_dict(), b.network.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in mine.items())


# --- learning -----------------------------------------------------------------------------------


def test_learns(events: Events) -> None:
    model, history = fit(make_card(epochs=15), events)
    assert [row["epoch"] for row in history] == list(range(1, 16))
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert max(row["valid_auc"] for row in history) > 0.9
    test = events.where("test")
    assert auc(model.logits(test)[:, 0], test.label == 1, test.weight).value > 0.9
    assert not model.network.training


def test_columns_of_the_history(events: Events) -> None:
    _, history = fit(make_card(epochs=1), events)
    columns = "epoch learning_rate train_loss valid_loss valid_accuracy valid_auc seconds"
    assert list(history[0]) == columns.split()
    json.dumps(history, allow_nan=False)


def weighted_loss(model: NetworkModel, events: Events, **training: Any) -> float:
    weight = loss_weights(events, make_card(**training).training, balance=True)
    z = model.logits(events)[:, 0]
    return float(np.mean(weight * (np.logaddexp(0, z) - events.label * z)))


@pytest.mark.parametrize(("monitor", "epochs"), [("loss", 25), ("auc", 12)])
def test_returns_the_best_epoch(toy: ToyEvents, monitor: str, epochs: int) -> None:
    """Random labels, a high learning rate: later epochs only get worse."""
    noise = toy(200, seed=1, smallest=1)
    settings = {"learning_rate": 0.03, "negative_weights": "abs", "monitor": monitor, "calibrate": False}
    model, history = fit(make_card(epochs=epochs, **settings), noise)
    losses, areas = ([row[column] for row in history] for column in ("valid_loss", "valid_auc"))
    valid = noise.where("valid")
    if monitor == "loss":
        assert losses[-1] > min(losses)
        assert weighted_loss(model, valid, negative_weights="abs") == pytest.approx(min(losses), rel=1e-5)
    else:
        assert areas[-1] < max(areas)
        assert np.argmax(areas) != np.argmin(losses)
        area = auc(model.logits(valid)[:, 0], valid.label == 1, valid.weight).value
        assert area == pytest.approx(max(areas))


def test_calibration_fits_the_validation_split_and_keeps_the_ranking(events: Events) -> None:
    raw, _ = fit(make_card(epochs=12, calibrate=False), events)
    calibrated, _ = fit(make_card(epochs=12), events)
    z, fitted = (m.logits(events)[:, 0] for m in (raw, calibrated))
    scale, shift = np.polyfit(z, fitted, 1)
    assert scale > 0
    np.testing.assert_allclose(fitted, scale * z + shift, atol=1e-4)
    valid = events.where("valid")
    assert weighted_loss(calibrated, valid) < weighted_loss(raw, valid)
    # No other scale or shift does better: the reference of the fit.
    weight, z = loss_weights(valid, make_card().training, balance=True), calibrated.logits(valid)[:, 0]
    doubt = 1 / (len(valid) + 2)
    target = doubt + (1 - 2 * doubt) * valid.label
    best = np.mean(weight * (np.logaddexp(0, z) - target * z))
    for a, b in ((0.97, 0), (1.03, 0), (1, -0.03), (1, 0.03)):
        other = a * z + b
        assert np.mean(weight * (np.logaddexp(0, other) - target * other)) > best


def test_calibration_of_many_classes(toy: ToyEvents) -> None:
    events = toy(300, smallest=1)
    schema = dataclasses.replace(events.schema, classes=("a", "b", "c"))
    three = events.replace(schema=schema, label=np.arange(300) % 3, weight=np.ones(300))
    three = three.replace(split=np.arange(300) // 3 % 3)
    card = {"epochs": 3, "learning_rate": 0.05}
    raw, calibrated = (fit(make_card(calibrate=c, **card), three)[0] for c in (False, True))
    valid = three.where("valid")
    losses = []
    for model in (raw, calibrated):
        z = model.logits(valid)
        losses.append(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), valid.label]))
    assert losses[1] <= losses[0]


def test_symmetries_change_the_training_and_resume(events: Events, tmp_path: Path) -> None:
    px, py = events.p4[:, 0] * np.cos(events.p4[:, 2]), events.p4[:, 0] * np.sin(events.p4[:, 2])
    schema = dataclasses.replace(events.schema, features=("px", "py", "pz", "charge", "btag"))
    turned = events.replace(schema=schema, particles=np.column_stack([px, py, events.particles[:, 2:]]))
    names = ["rotation", "mirror", "forward_backward"]
    plain, _ = fit(make_card(), turned)
    whole, _ = fit(make_card(symmetries=names), turned)
    fit(make_card(symmetries=names, epochs=2), turned, folder=tmp_path)
    resumed, _ = fit(make_card(symmetries=names), turned, folder=tmp_path)
    assert not same(plain, whole)
    assert same(resumed, whole)
    lonely = turned.replace(schema=dataclasses.replace(schema, features=("px", "y", "pz", "charge", "btag")))
    with pytest.raises(ValueError, match=r"training.symmetries: rotation needs py beside px"):
        fit(make_card(symmetries=names), lonely)


def test_early_stopping(toy: ToyEvents) -> None:
    noise = toy(200, smallest=1)
    _, history = fit(make_card(epochs=40, learning_rate=0.05, early_stopping=3, monitor="loss"), noise)
    best = int(np.argmin([row["valid_loss"] for row in history]))
    assert len(history) == best + 1 + 3 < 40


def test_one_class_is_refused(events: Events) -> None:
    schema = dataclasses.replace(events.schema, classes=("events",))
    with pytest.raises(
        ValueError, match=r"learns classes, two or more; the events have events: list .*\(or give label=\)$"
    ):
        fit(ModelCard.find("lstm"), events.replace(schema=schema, label=np.zeros_like(events.label)))


def test_three_classes(events: Events) -> None:
    label = np.where((events.label == 1) & (events.counts > 5), 2, events.label)
    three = dataclasses.replace(events.schema, classes=("ttZ", "ttH", "HpHm"))
    model, history = fit(make_card(epochs=20), events.replace(label=label, schema=three))
    assert model.logits(events.replace(schema=three)).shape == (300, 3)
    assert max(row["valid_accuracy"] for row in history) > 0.7
    assert max(row["valid_auc"] for row in history) > 0.75


def test_learns_given_probabilities(events: Events) -> None:
    """As a surrogate does; the labels of the events are not needed."""
    targets = events.label.astype(np.float32)
    blind = events.replace(label=np.zeros(300, dtype=np.int64))
    model, history = fit(make_card(epochs=15), blind, targets=targets)
    assert max(row["valid_auc"] for row in history) > 0.9  # against what it was given
    own = events.where("test")
    assert auc(model.logits(own)[:, 0], own.label == 1, abs(own.weight)).value > 0.9


# --- reproducibility ---------------------------------------------------------------------------


def test_same_seed_same_numbers(events: Events) -> None:
    one, history = fit(make_card(), events)
    torch.rand(17)
    again, second = fit(make_card(), events)
    assert same(one, again)
    assert numbers(history) == numbers(second)
    other, third = fit(make_card(seed=2), events)
    assert not same(one, other)
    assert numbers(history) != numbers(third)


def test_global_random_numbers_are_not_touched(events: Events) -> None:
    torch.manual_seed(3)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit(make_card(epochs=2), events)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_resumes_in_the_middle(events: Events, tmp_path: Path) -> None:
    whole, history = fit(make_card(epochs=5), events)
    fit(make_card(epochs=2), events, folder=tmp_path)
    model, resumed = fit(make_card(epochs=5), events, folder=tmp_path)
    assert same(model, whole)
    assert numbers(resumed) == numbers(history)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    again, repeated = fit(make_card(epochs=5), events, folder=tmp_path)  # a finished training is not repeated
    assert same(model, again)
    assert repeated == resumed
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before


KILLED = """
import sys
sys.path[:0] = [f"{sys.argv[1]}/training", f"{sys.argv[1]}/helpers"]
from toy_events import make_events
from test_training import learnable, make_card
from hepxai.training import fit
fit(make_card(epochs=int(sys.argv[3])), learnable(make_events(300, smallest=1)), folder=sys.argv[2])
"""


def epochs_done(checkpoint: Path) -> int:
    return len(json.loads(read_tensors(checkpoint)[1]["state"])["history"]) if checkpoint.exists() else 0


def test_kill_and_resume(events: Events, tmp_path: Path) -> None:
    """`kill -9` somewhere in the fourth epoch or later: the numbers are those of an uninterrupted run."""
    epochs, checkpoint = 30, tmp_path / "checkpoint.safetensors"
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(tmp_path), str(epochs)]
    process = subprocess.Popen(arguments, env=environment)
    while epochs_done(checkpoint) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= epochs_done(checkpoint) < epochs
    card = make_card(epochs=epochs)
    model, history = fit(card, events, folder=tmp_path)
    whole, uninterrupted = fit(card, events)
    assert numbers(history) == numbers(uninterrupted)
    assert same(model, whole)


def test_a_checkpoint_of_another_training_is_refused(events: Events, tmp_path: Path) -> None:
    card = make_card(epochs=1)
    fit(card, events, folder=tmp_path)
    others: dict[str, tuple[ModelCard, Events, Any]] = {
        "card": (make_card(epochs=1, learning_rate=0.02), events, None),
        "weight": (card, events.replace(weight=2 * events.weight), None),
        "momenta": (card, events.replace(p4=events.p4 + 1), None),
        "split": (card, events.replace(split=(events.split + 1) % 3), None),
        "targets": (card, events, events.label.astype(np.float32)),
    }
    for other, population, targets in others.values():
        with pytest.raises(ValueError, match=r"belongs to another training .*choose another folder or rem"):
            fit(other, population, folder=tmp_path, targets=targets)


@pytest.mark.parametrize("kind", ["network", "trees"])
def test_a_checkpoint_of_other_threads_is_refused(events: Events, tmp_path: Path, kind: str) -> None:
    """Sums in another order are other numbers; both remedies of the message work."""
    trees = ["training.trees=4", "training.step=2"]
    card = make_card(epochs=1) if kind == "network" else ModelCard.find("boosted_trees", trees)
    threads = torch.get_num_threads()
    fit(card, events, folder=tmp_path)
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(
            ValueError, match=rf"with {threads} torch threads, not {threads + 1}, .*`hepxai --threads"
        ):
            fit(card, events, folder=tmp_path)
        torch.set_num_threads(threads)
        fit(card, events, folder=tmp_path)
        torch.set_num_threads(threads + 1)
        (tmp_path / "checkpoint.safetensors").unlink()
        fit(card, events, folder=tmp_path)
    finally:
        torch.set_num_threads(threads)


# --- learning rate and batches -------------------------------------------------------------------


@pytest.mark.parametrize(("period", "lowest"), [(10.0, 0.1), (4.0, 0.01), (2.5, 1.0)])
def test_cyclic_learning_rate_is_torchs(period: float, lowest: float) -> None:
    steps = 8
    training = Training.model_validate({"schedule": {"period": period, "lowest": lowest}})
    top = training.learning_rate
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = CyclicLR(optimiser, lowest * top, top, step_size_up=int(period * steps / 2))
    for epoch in range(12):
        for rate in learning_rates(training, epoch, steps):
            assert rate == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
            optimiser.step()
            scheduler.step()


def test_constant_learning_rate() -> None:
    training = Training.model_validate({"schedule": {"kind": "constant"}})
    assert set(learning_rates(training, 3, 5)) == {training.learning_rate}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_any_batch_size(toy: ToyEvents, size: int) -> None:
    """The batch norm refuses a single event: no batch may have only one, also of an odd number."""
    events = toy(31, smallest=1, seed=2)
    events = events.replace(split=np.arange(31) % 2, label=np.arange(31) // 2 % 2)
    assert len(events.where("train")) % 2 == 0
    assert len(events.where("valid")) % 2 == 1
    for swap in (0, 1):
        _, history = fit(
            make_card(epochs=1, batch_size=size), events.replace(split=(events.split + swap) % 2)
        )
        assert np.isfinite(history[0]["train_loss"])


# --- weights -------------------------------------------------------------------------------------


def weigh(events: Events, policy: str, *, balance: bool = False) -> np.ndarray:
    training = Training.model_validate({"negative_weights": policy})
    return loss_weights(events, training, balance=balance)


def test_policies_for_negative_weights(toy: ToyEvents) -> None:
    events = toy(400)
    w = events.weight
    assert (w < 0).any()
    for policy, expected in {"keep": w, "drop": w.clip(min=0), "abs": abs(w)}.items():
        found = weigh(events, policy)
        assert abs(found).mean() == pytest.approx(1)
        np.testing.assert_allclose(found * abs(expected).mean(), expected)
    with pytest.raises(ValueError, match=r"events have negative weights .*choose keep, drop or abs"):
        weigh(events, "error")
    positive = events.replace(weight=abs(w))
    np.testing.assert_allclose(weigh(positive, "error"), weigh(positive, "keep"))
    assert np.array_equal(events.weight, w)


@pytest.mark.parametrize("policy", ["keep", "drop", "abs"])
def test_classes_are_balanced(toy: ToyEvents, policy: str) -> None:
    events = toy(400)
    events = events.replace(weight=events.weight * np.where(events.label == 1, 20.0, 1.0))
    found = weigh(events, policy, balance=True)
    total = np.bincount(events.label, weights=found)
    assert total[0] == pytest.approx(total[1])
    assert abs(found).mean() == pytest.approx(1)
    for c in (0, 1):
        own = (events.label == c) & (found != 0)
        ratio = found[own] / weigh(events, policy)[own]
        np.testing.assert_allclose(ratio, ratio[0])


SAMPLES = {"samples": ("dy", "tt"), "file_entries": (9999, 9999)}


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("policy", ["keep", "drop", "abs"])
def test_samples_are_balanced_as_by_hand(toy: ToyEvents, policy: str, classes: bool) -> None:
    """Samples of unequal weight and size in both classes, against weights divided by their sums."""
    events = toy(400).replace(**SAMPLES)
    events = events.replace(weight=events.weight * np.where(events.file == 1, 7.0, 1.0))
    training = {"negative_weights": policy, "sample_balance": True, "class_balance": classes}
    found = loss_weights(events, Training.model_validate(training), balance=True)
    by_hand = {"keep": events.weight, "drop": events.weight.clip(min=0), "abs": abs(events.weight)}[policy]
    totals = np.array([by_hand[events.label == c].sum() for c in (0, 1)])
    by_hand = by_hand.copy()
    for c in (0, 1):
        for sample in (0, 1):
            rows = (events.label == c) & (events.file == sample)
            by_hand[rows] *= (1.0 if classes else totals[c]) / by_hand[rows].sum()
    np.testing.assert_allclose(found, by_hand / abs(by_hand).mean())


def test_a_network_with_balanced_samples_is_that_of_events_weighted_by_hand(events: Events) -> None:
    events = events.replace(**SAMPLES, weight=abs(events.weight) * np.where(events.file == 1, 5.0, 1.0))
    weight = events.weight.copy()
    for split in (0, 1):
        for c in (0, 1):
            rows = [(events.split == split) & (events.label == c) & (events.file == s) for s in (0, 1)]
            for own in rows:
                weight[own] /= weight[own].sum()
    balanced, history = fit(make_card(epochs=2, sample_balance=True), events)
    by_hand, other = fit(make_card(epochs=2), events.replace(weight=weight))
    for one, two in zip(history, other, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-5)
        assert one["valid_loss"] == pytest.approx(two["valid_loss"], rel=1e-5)
    plain, _ = fit(make_card(epochs=2), events)
    distances = [np.abs(m.logits(events) - balanced.logits(events)).max() for m in (by_hand, plain)]
    assert distances[0] < 1e-3 < distances[1]


def test_one_sample_for_each_class_changes_nothing(toy: ToyEvents) -> None:
    events = toy(100)
    events = events.replace(**SAMPLES, file=events.label)
    one, two = (loss_weights(events, Training(sample_balance=b), balance=True) for b in (True, False))
    np.testing.assert_allclose(one, two)
    off = loss_weights(events, Training(sample_balance=True), balance=False)
    np.testing.assert_allclose(off, weigh(events, "keep"))


def test_samples_that_cannot_be_balanced(toy: ToyEvents) -> None:
    events, training = toy(100), Training(sample_balance=True)
    with pytest.raises(ValueError, match="samples of these events are not known; read them"):
        loss_weights(events, training, balance=True)
    events = events.replace(**SAMPLES)
    bad = events.replace(weight=np.where(events.file == 1, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"sample 'tt' of class 'background' .*negative_weights: abs"):
        loss_weights(bad, training, balance=True)
    loss_weights(bad, Training(sample_balance=True, negative_weights="abs"), balance=True)
    with pytest.raises(ValueError, match="samples are balanced inside their classes"):
        Training(sample_balance=True, loss="mae")


@pytest.mark.parametrize("balance", [False, True])
def test_events_of_weight_zero_do_not_change_the_loss(toy: ToyEvents, balance: bool) -> None:
    """The mean over events of weight times loss stays what it was."""
    events = toy(200)
    more = Events.concatenate([events, toy(80, seed=1).replace(weight=np.zeros(80))])
    loss = np.random.default_rng(0).random(280)
    small, large = (weigh(e, "keep", balance=balance) for e in (events, more))
    assert (large[200:] == 0).all()
    assert np.mean(large * loss) == pytest.approx(np.mean(small * loss[:200]))


def test_dropped_events_leave_the_loss_as_it_is(toy: ToyEvents) -> None:
    """The loss of training and validation is on one scale, whatever the fraction of negative weights."""
    events = toy(400)
    events = events.replace(weight=np.where(np.arange(400) % 3 == 0, -1.0, 1.0))
    model = NetworkModel.build(make_card(negative_weights="drop"), events.schema)
    for split in ("train", "valid"):
        sample = Sample.of(model, events, split)
        assert float(sample.loss_weight.abs().mean()) == pytest.approx(1)
        used = events.where(split)
        size = len(used) if split == "valid" else int((used.weight > 0).sum())
        assert len(sample.inputs) == len(sample.target) == size


@pytest.mark.parametrize("policy", ["keep", "drop", "abs"])
def test_trains_with_negative_weights(events: Events, policy: str) -> None:
    _, history = fit(make_card(epochs=8, negative_weights=policy), events)
    assert max(row["valid_auc"] for row in history) > 0.85


@pytest.mark.parametrize("policy", ["keep", "drop", "abs"])
@pytest.mark.parametrize("balance", [False, True])
def test_loss_is_the_weighted_cross_entropy(events: Events, policy: str, balance: bool) -> None:
    """One batch, nothing dropped out: the first loss can be worked out by hand."""
    events = events.replace(weight=np.where(np.arange(300) % 4 == 0, -1.5, 1.0))
    card = make_card(epochs=1, batch_size=1000, negative_weights=policy, class_balance=balance)
    card = card.model_copy(update={"edge_dropout": 0.0, "alpha_dropout": 0.0})
    _, history = fit(card, events)
    train = events.where("train")
    torch.manual_seed(card.training.seed)
    network = NetworkModel.build(card, events.schema).network
    network.standardise.fit(torch.as_tensor(train.particles))
    used = train[train.weight > 0] if policy == "drop" else train
    with torch.no_grad():
        z = network.train()(used.graph())[:, 0].double().numpy()
    weight = abs(used.weight) if policy == "abs" else used.weight.copy()
    if balance:
        for c in (0, 1):
            weight[used.label == c] /= weight[used.label == c].sum()
    expected = np.sum(weight * (np.logaddexp(0, z) - used.label * z)) / abs(weight).sum()
    assert history[0]["train_loss"] == pytest.approx(expected, rel=1e-4)


# --- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_one_class_only(events: Events, split: str, balance: bool) -> None:
    label = np.where(events.split == ("train", "valid").index(split), 0, events.label)
    with pytest.raises(ValueError, match=f"class 'signal' has no events in the {split} split"):
        fit(make_card(class_balance=balance), events.replace(label=label))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_splits(events: Events, split: str) -> None:
    number = ("train", "valid").index(split)
    moved = np.where(events.split == number, 2, events.split)
    with pytest.raises(ValueError, match=f"the {split} split has 0 events to use; training needs at least 2"):
        fit(make_card(), events.replace(split=moved))


def test_weights_that_leave_nothing(events: Events) -> None:
    zero = events.replace(weight=np.zeros(300))
    with pytest.raises(ValueError, match="class 'background' has no positive total weight"):
        fit(make_card(), zero)
    with pytest.raises(ValueError, match="all weights are zero"):
        fit(make_card(class_balance=False), zero)
    negative = events.replace(weight=-np.ones(300))
    with pytest.raises(ValueError, match="the train split has 0 events to use"):
        fit(make_card(negative_weights="drop"), negative)


def test_a_loss_that_runs_away(events: Events) -> None:
    with pytest.raises(FloatingPointError, match=r"training loss is .* in epoch 1: lower training.learning_"):
        fit(make_card(epochs=3, learning_rate=1e30), events)


def test_a_missing_device_is_said_at_once(events: Events) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match="torch sees no CUDA device here; use cpu"):
        fit(make_card(), events, device="cuda")


def test_arguments_in_another_order(events: Events) -> None:
    wrong: Any = fit
    with pytest.raises(
        TypeError, match=r"fit\(card, events\): the first argument is of type Events, ModelCard is"
    ):
        wrong(events, make_card())
    with pytest.raises(TypeError, match="the first argument is the text 'transformer', ModelCard is needed"):
        wrong("transformer", events)
    with pytest.raises(
        TypeError, match="the second argument is of type ParticleGNNCard, Events is needed there; hepxai"
    ):
        wrong(make_card(), make_card())


def test_validation_loss_is_that_of_the_history(events: Events) -> None:
    """Without calibration the model is that of the history; with it, its loss is lower."""
    raw, history = fit(make_card(epochs=2, calibrate=False), events)
    training = make_card(epochs=2).training
    best = max(history, key=lambda row: row["valid_auc"])
    before = validation_loss(raw.logits(events), events, training)
    assert before == pytest.approx(best["valid_loss"], rel=1e-5)
    model, _ = fit(make_card(epochs=2, calibrate=True), events)
    assert validation_loss(model.logits(events), events, training) < before


def test_a_card_of_several_trainings_is_refused(events: Events) -> None:
    """One network would be trained, silently; the remedy of the message works."""
    with pytest.raises(ValueError, match=r"asks for 2 .*hepxai run --trainings.*hepxai.Ensemble"):
        fit(make_card(trainings=2), events)
    models = [fit(make_card(epochs=1, trainings=1, seed=seed), events)[0] for seed in (1, 2)]
    logits = [model.logits(events) for model in models]
    np.testing.assert_allclose(Ensemble(tuple(models)).logits(events), np.mean(logits, axis=0), rtol=1e-5)
