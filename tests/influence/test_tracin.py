"""TracIn: against captum, the paper in loops, mislabelled events, and its limits."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.influence import TracInCP
from torch import Tensor, nn

from hepxai.core import resume as keeping
from hepxai.events import Events, Schema
from hepxai.explainers import CannotExplainError
from hepxai.influence import tracin as module
from hepxai.influence import training_gradients as gradients
from hepxai.influence.result import Influence
from hepxai.influence.tracin import self_influence, tracin
from hepxai.influence.training_gradients import Directions, last_layer_gradients
from hepxai.models.card import ModelCard
from hepxai.models.hooks import last_layer_io, last_linear
from hepxai.models.losses import event_loss
from hepxai.models.network import NetworkModel
from hepxai.models.protocols import HasLastLayer
from hepxai.models.wrappers.table import TableModel
from hepxai.training import fit, kept_checkpoints

RATES = (0.1, 0.05, 0.02)


def regression(events: Events) -> Events:
    """Two targets per event."""
    schema = dataclasses.replace(events.schema, targets=("pt", "eta"), target_units=("GeV", ""))
    values = np.random.default_rng(1).normal(size=(len(events), 2)).astype(np.float32)
    return events.replace(schema=schema, targets=values, weight=np.ones(len(events)))


def net(outputs: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, outputs)).eval()


def checkpoints(
    events: Events, loss: str = "cross_entropy", outputs: int = 1
) -> list[tuple[TableModel, float]]:
    names = tuple(f"o{i}" for i in range(outputs))
    nets = [net(outputs, seed) for seed in range(len(RATES))]
    return [(TableModel(n, names, events.schema, loss=loss), r) for n, r in zip(nets, RATES, strict=True)]


@pytest.fixture
def train(toy: Callable[..., Events]) -> Events:
    return toy(60, seed=1)


@pytest.fixture
def test(toy: Callable[..., Events]) -> Events:
    return toy(7, seed=2)


def everything(states: Any, train: Events, test: Events, **settings: Any) -> np.ndarray:
    """Influence of all training events, ``[E, E_train]``, as the lists have it."""
    found = tracin(states, train, test, k=len(train) // 2, **settings)
    table = np.full((len(test), len(train)), np.nan)
    for side in (0, 1):
        np.put_along_axis(table, found.rows[:, side], found.values[:, side], axis=1)
    # Of values that are equal in the middle the first rows are in both lists, the others in none.
    left, middle = np.isnan(table), found.values[:, :, -1]
    assert np.array_equal(middle[left.any(1), 0], middle[left.any(1), 1])
    return np.where(left, middle[:, :1], table)


# --- what it is -------------------------------------------------------------------------------------


def written_out(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Loss of every event, from its formula."""

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        if kind == "cross_entropy":
            logits = outputs if outputs.shape[1] > 1 else torch.cat([0 * outputs, outputs], 1)
            return -logits.softmax(1).gather(1, target[:, None])[:, 0].log()
        return ((outputs - target).abs() if kind == "mae" else (outputs - target) ** 2).mean(1)

    loss.reduction = "none"
    return loss


def by_captum(states: Any, train: Events, test: Events, kind: str, layers: list[str] | None) -> np.ndarray:
    own = copy.deepcopy(states[0][0].module)
    targets = [e.label if kind == "cross_entropy" else e.targets for e in (train, test)]
    data = torch.utils.data.TensorDataset(*map(torch.as_tensor, (train.globals, targets[0])))

    def load(model: nn.Module, number: str) -> float:
        model.load_state_dict(states[int(number)][0].module.state_dict())
        return states[int(number)][1]

    names = [str(i) for i in range(len(states))]
    peer = TracInCP(own, data, names, load, layers=layers, loss_fn=written_out(kind), batch_size=16)
    return peer.influence((torch.as_tensor(test.globals), torch.as_tensor(targets[1]))).numpy()


@pytest.mark.parametrize(
    ("kind", "outputs"), [("cross_entropy", 1), ("cross_entropy", 2), ("mae", 2), ("mse", 2)]
)
def test_equals_captum(train: Events, test: Events, kind: str, outputs: int) -> None:
    train, test = (e if kind == "cross_entropy" else regression(e) for e in (train, test))
    states = checkpoints(train, kind, outputs)
    found = everything(states, train, test, weight=np.ones(len(train)))
    np.testing.assert_allclose(found, by_captum(states, train, test, kind, ["4"]), rtol=1e-4, atol=1e-6)


def gradient(model: TableModel, events: Events, row: int, layer: nn.Module) -> Tensor:
    """Of one event, by autograd."""
    one = events[[row]]
    loss = model.training_loss(model.forward_table(torch.as_tensor(one.globals)), one)[0]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(layer.parameters()))])


@pytest.mark.parametrize("normalise", [False, True])
def test_equals_the_definition(train: Events, test: Events, normalise: bool) -> None:
    """Σ_t η_t w ∇ℓ(z)·∇ℓ(z') in loops; as a mean cosine with normalise."""
    states = checkpoints(train)
    found = everything(states, train, test, normalise=normalise)
    weight = train.weight / np.abs(train.weight).mean()
    for e in range(len(test)):
        for z in range(0, len(train), 7):
            total = 0.0
            for model, rate in states:
                mine, theirs = (gradient(model, s, r, model.module[4]) for s, r in ((test, e), (train, z)))
                theirs = theirs * weight[z]
                if normalise:
                    mine, theirs = mine / mine.norm(), theirs / theirs.norm()
                total += rate / (sum(RATES) if normalise else 1) * float(mine @ theirs)
            assert found[e, z] == pytest.approx(total, rel=1e-4, abs=1e-6)


def test_one_step_of_training_is_what_is_predicted(train: Events, test: Events) -> None:
    """A small step on one training event, of the last layer, changes the loss by the influence."""
    (state, *_), rate = checkpoints(train), 1e-3
    found = everything([(state[0], rate)], train, test, weight=np.ones(len(train)))
    for z in (0, 13):
        moved = copy.deepcopy(state[0].module).double()
        model = TableModel(moved, state[0].outputs, train.schema)
        before = loss(model, test)
        step = gradient(state[0], train, z, state[0].module[4]).double()
        with torch.no_grad():
            moved[4].weight -= rate * step[:-1].view_as(moved[4].weight)
            moved[4].bias -= rate * step[-1:]
        np.testing.assert_allclose(before - loss(model, test), found[:, z], rtol=2e-2, atol=1e-7)


def loss(model: TableModel, events: Events) -> np.ndarray:
    x = torch.as_tensor(events.globals).double()
    return event_loss("cross_entropy", model.module(x), events).detach().numpy()


# --- lists ------------------------------------------------------------------------------------------


def test_proponents_and_opponents(train: Events, test: Events) -> None:
    states = checkpoints(train)
    found, table = tracin(states, train, test, k=4), everything(states, train, test)
    order = np.argsort(-table, axis=1, kind="stable")
    assert np.array_equal(found.proponents, order[:, :4])
    assert np.array_equal(np.sort(found.opponents), np.sort(order[:, -4:]))
    np.testing.assert_allclose(found.values[:, 0], np.take_along_axis(table, order[:, :4], 1))
    assert (np.diff(found.values[:, 0]) <= 0).all()
    assert (np.diff(found.values[:, 1]) >= 0).all()
    assert found.checks["distinct_proponents"] == len(np.unique(found.proponents)) / 28
    assert found.settings == {
        "learning_rates": list(RATES), "loss": "cross_entropy", "layers": "last", "normalise": False, "k": 4,
    }  # fmt: skip
    assert self_influence(states, train).settings["loss"] == "cross_entropy"


def test_blocks_do_not_matter(train: Events, test: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    states = checkpoints(train)
    whole = [tracin(states, train, test, **s) for s in ({}, {"normalise": True})]
    own = self_influence(states, train)
    monkeypatch.setattr(module, "ROWS", 5)
    parts = [tracin(states, train, test, **s) for s in ({}, {"normalise": True})]
    for a, b in zip(whole, parts, strict=True):
        assert np.array_equal(a.rows, b.rows)
        np.testing.assert_allclose(a.values, b.values, rtol=1e-5)
    np.testing.assert_allclose(self_influence(states, train).values, own.values, rtol=1e-5)


@pytest.mark.parametrize("after", [1, 4])
def test_killed_and_resumed_is_uninterrupted(
    train: Events, test: Events, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int
) -> None:
    monkeypatch.setattr(module, "ROWS", 9)
    monkeypatch.setattr(keeping, "SECONDS", 0.0)
    states, path = checkpoints(train), tmp_path / "state.safetensors"
    calls: dict[str, Callable[..., Any]] = {
        "tracin": lambda **own: tracin(states, train, test, **own).values,
        "self": lambda **own: self_influence(states, train, **own).values,
    }
    for call in calls.values():
        whole, count = call(), itertools.count()

        def breaks(*arguments: Any, count: Any = count) -> Any:
            if next(count) == after + 3:
                raise KeyboardInterrupt
            return last_layer_gradients(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(gradients, "last_layer_gradients", breaks)
            with pytest.raises(KeyboardInterrupt):
                call(unfinished=path)
        if path.exists():
            with pytest.raises(ValueError, match="is the state of something else"):
                self_influence(states, train, weight=np.ones(60), unfinished=path)
        assert np.array_equal(call(unfinished=path), whole)
        assert not path.exists()


def test_the_same_event_twice_comes_in_the_order_of_the_rows(train: Events, test: Events) -> None:
    states, twice = checkpoints(train), train[np.repeat(np.arange(60), 2)]
    found = tracin(states, twice, test, k=4)
    assert (found.proponents[:, ::2] + 1 == found.proponents[:, 1::2]).all()
    assert (found.opponents[:, ::2] + 1 == found.opponents[:, 1::2]).all()


def test_an_event_alone_is_the_event_among_others(train: Events, test: Events) -> None:
    states = checkpoints(train)
    for settings in ({}, {"layers": "all", "directions": 8}):
        found = tracin(states, train, test, **settings)
        alone = tracin(states, train, test[[3]], **settings)
        assert np.array_equal(alone.rows[0], found.rows[3])
        np.testing.assert_allclose(alone.values[0], found.values[3], rtol=1e-5, atol=1e-8)


def test_weights_are_signed(train: Events, test: Events) -> None:
    states, weight = checkpoints(train), np.ones(len(train))
    plain = everything(states, train, test, weight=weight)
    weight[3], weight[4] = -2, 0
    found = everything(states, train, test, weight=weight)
    np.testing.assert_allclose(found[:, 3], -2 * plain[:, 3])
    assert (found[:, 4] == 0).all()
    np.testing.assert_allclose(
        everything(states, train, test, weight=weight, normalise=True)[:, 3],
        -everything(states, train, test, weight=abs(weight), normalise=True)[:, 3],
    )
    assert self_influence(states, train, weight=weight).values[3] < 0


def test_normalised_values_are_cosines(train: Events) -> None:
    states = checkpoints(train)
    found = everything(states, train, train, normalise=True, weight=np.ones(len(train)))
    assert np.abs(found).max() <= 1 + 1e-6
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-5)


def test_normalised_an_event_with_a_huge_loss_does_not_top_every_list(train: Events, test: Events) -> None:
    train, test = regression(train), regression(test)
    targets = train.targets.copy()
    targets[11] = 1e3
    states, huge = checkpoints(train, "mse", 2), train.replace(targets=targets)
    plain, fair = (tracin(states, huge, test, k=1, normalise=n) for n in (False, True))
    assert (plain.rows == 11).any(axis=(1, 2)).all()
    assert (fair.rows == 11).any(axis=(1, 2)).mean() < 0.5
    assert plain.checks["distinct_proponents"] < fair.checks["distinct_proponents"]


def test_no_events(train: Events) -> None:
    found = tracin(checkpoints(train), train, train[:0], k=2)
    assert found.rows.shape == found.values.shape == (0, 2, 2)
    assert len(self_influence(checkpoints(train), train[:0]).values) == 0


def test_nothing_is_left_behind(train: Events, test: Events) -> None:
    model = TableModel(net(1).train(), ("o0",), train.schema)
    before = copy.deepcopy(model.module.state_dict())
    for layers in ("last", "all"):
        tracin([(model, 0.1)], train, test, layers=layers, directions=2)
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    assert model.module.training
    assert not model.module[4]._forward_hooks
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())


# --- all layers -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_layers_scatter_about_captum_as_their_errors_say(train: Events, test: Events) -> None:
    train, test = train.replace(weight=np.ones(60)), test
    states = checkpoints(train)
    expected = by_captum(states, train, test, "cross_entropy", None)
    pulls = []
    for seed in range(20):
        found = tracin(states, train, test, k=5, layers="all", directions=32, seed=seed)
        truth = np.take_along_axis(expected[:, None], found.rows, axis=2)
        assert found.error is not None
        pulls.append((found.values - truth) / found.error)
    pulls = np.concatenate(pulls)
    # Lists of the same run share their directions: 20 independent means.
    assert abs(pulls.mean()) < 0.25
    assert 0.85 < pulls.std() < 1.25
    assert (np.diff(found.values[:, 0]) <= 0).all()


def test_many_directions_come_close_to_captum(train: Events, test: Events) -> None:
    states = checkpoints(train)[:1]
    expected = by_captum(states, train, test, "cross_entropy", None)
    found = everything(states, train, test, layers="all", directions=1000, weight=np.ones(60))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


def test_slopes_are_those_of_autograd(train: Events) -> None:
    model = checkpoints(train)[0][0]
    found = Directions(3, (1, 0)).along(model, train, 2).left * np.sqrt(3)
    grads = torch.stack([gradient(model, train, z, model.module) for z in range(4)])
    size = grads.shape[1]
    for k in range(3):
        key = np.random.SeedSequence([1, 0, 2, k]).generate_state(1)[0]
        random = torch.Generator().manual_seed(int(key))
        signs = [
            torch.randint(0, 2, p.shape, generator=random, dtype=torch.int8)
            for p in model.module.parameters()
        ]
        v = 2 * torch.cat([s.flatten() for s in signs]).float() - 1
        assert len(v) == size
        np.testing.assert_allclose(found[:4, k], grads @ v, rtol=1e-4, atol=1e-6)


def test_self_influence_of_all_layers(train: Events) -> None:
    train = train.replace(weight=np.ones(60))
    states = checkpoints(train)
    found = self_influence(states, train, layers="all", directions=400)
    expected = [
        sum(rate * float(gradient(m, train, z, m.module).square().sum()) for m, rate in states)
        for z in range(60)
    ]
    pulls = (found.values - expected) / found.error
    assert np.abs(pulls).max() < 5
    assert np.median(found.error / expected) < 0.12


# --- mislabelled events -----------------------------------------------------------------------------


def test_self_influence_finds_mislabelled_events(toy: Callable[..., Events], tmp_path: Path) -> None:
    """One event in twenty gets the label of the other class before the training."""
    events = toy(800, seed=4)
    rng = np.random.default_rng(5)
    right = (events.globals[:, 0] + 0.5 * events.globals[:, 1] > 0).astype(np.int64)
    wrong = rng.random(800) < 0.05
    events = events.replace(label=np.where(wrong, 1 - right, right), weight=np.ones(800))
    model = net(1, 3).train()
    adam, states = torch.optim.Adam(model.parameters(), lr=0.01), []
    x, y = torch.as_tensor(events.globals), torch.as_tensor(events.label).float()
    for epoch in range(60):
        adam.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y).backward()
        adam.step()
        if epoch in (19, 39, 59):
            states.append((TableModel(copy.deepcopy(model).eval(), ("signal",), events.schema), 0.01))
    found = self_influence(states, events)
    first = np.argsort(-found.values)[: int(wrong.sum())]
    assert wrong[first].mean() > 0.8
    assert (found.axes, found.method, found.target) == (("event",), "self_influence", "loss")
    diagonal = [tracin(states, events[[z, z]], events[[z]], k=1).values[0, 0, 0] for z in (0, 1, 2)]
    np.testing.assert_allclose(found.values[:3], diagonal, rtol=1e-5)
    found.save(tmp_path / "self.safetensors")


def test_with_the_mean_absolute_error_wrong_targets_do_not_stand_out(train: Events) -> None:
    """Its slope is ±1 however far off a target is; that of the squared error grows."""
    near = regression(train)
    far = near.replace(targets=near.targets + 100)
    found = {
        (kind, name): self_influence(checkpoints(train, kind, 2), events, weight=np.ones(60)).values
        for kind in ("mae", "mse")
        for name, events in (("near", near), ("far", far))
    }
    np.testing.assert_allclose(found["mae", "far"], found["mae", "near"], rtol=1e-4)
    assert (found["mse", "far"] > 100 * found["mse", "near"]).mean() > 0.9


# --- models -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Picture:
    """A convolutional net on images of the events, as one of the package's own models would be."""

    module: nn.Sequential
    schema: Schema
    outputs: tuple[str, ...] = ("pt", "eta")
    view: str = "image"

    def logits(self, events: Events) -> np.ndarray:
        return self.last_layer(events)[0].detach().double().numpy()

    def last_layer(self, events: Events) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(events.globals)[:, :, None] * torch.linspace(0, 1, 6)[None, None]
        return last_layer_io(last_linear(self.module), lambda: self.module(x[:, None]))

    def training_loss(self, z: Tensor, events: Events) -> Tensor:
        return event_loss("mae", 2 * z + 1, events)  # targets are standardised: 2 and 1 undo that


def picture(events: Events, seed: int) -> Picture:
    torch.manual_seed(seed)
    maps = (nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return Picture(nn.Sequential(*maps, nn.Flatten(), nn.Linear(3, 2)).eval(), events.schema)


def test_a_net_on_images(train: Events, test: Events) -> None:
    train, test = regression(train), regression(test)
    states = [(picture(train, s), 0.1) for s in (0, 1)]
    assert isinstance(states[0][0], HasLastLayer)
    found = everything(states, train, test)
    total = 0.0
    for model, rate in states:
        with torch.no_grad():
            (z, a), (z2, a2) = (model.last_layer(e) for e in (test[[2]], train[[9]]))
        # |2 z + 1 - y| / 2 has the slope ±1.
        r, r2 = (
            torch.sign(2 * z + 1 - torch.as_tensor(e.targets)) for z, e in ((z, test[[2]]), (z2, train[[9]]))
        )
        total += rate * float((r @ r2.T) * (a @ a2.T + 1))
    assert found[2, 9] == pytest.approx(total, rel=1e-4)
    assert tracin(states, train, test, layers="all", directions=4).error is not None


# --- the result -------------------------------------------------------------------------------------


def test_save_and_load(train: Events, test: Events, tmp_path: Path) -> None:
    path = tmp_path / "influence.safetensors"
    for settings in ({}, {"layers": "all", "directions": 4}):
        found = tracin(checkpoints(train), train, test, **settings)
        found.save(path)
        again = Influence.load(path, test, train)
        assert np.array_equal(again.rows, found.rows)
        assert np.array_equal(again.values, found.values)
        assert (again.error is None) == (found.error is None)
        assert (again.settings, again.checks) == (found.settings, found.checks)
    with pytest.raises(ValueError, match="of other training events than the 59 given"):
        Influence.load(path, test, train[1:])
    with pytest.raises(ValueError, match="of other events than the 6 given"):
        Influence.load(path, test[1:], train)


def test_awkward(train: Events, test: Events) -> None:
    found = tracin(checkpoints(train), train, test, k=2)
    lists = found.to_awkward()
    assert lists.fields == ["proponent", "opponent"]
    assert lists.proponent.fields == ["row", "value", "file", "entry"]
    assert np.array_equal(lists.opponent.row, found.opponents)
    assert np.array_equal(lists.proponent.entry, train.entry[found.proponents])
    assert "2 proponents and opponents of 7 events among 60" in repr(found)


# --- bad input --------------------------------------------------------------------------------------


def test_no_checkpoints(train: Events, test: Events) -> None:
    with pytest.raises(ValueError, match="no checkpoints are given; keep some in the training"):
        tracin([], train, test)
    with pytest.raises(TypeError, match=r"checkpoint 1 is TableModel; pairs \(model, rate\) are needed"):
        tracin([checkpoints(train)[0][0]], train, test)


def test_checkpoints_of_another_architecture(train: Events, test: Events) -> None:
    (first, *_), other = checkpoints(train), nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))
    other = TableModel(other, ("o0",), train.schema)
    with pytest.raises(
        ValueError,
        match=r"checkpoint 2 has another architecture .*'2.weight' has shape \(1, 5\), in the first \(4, 5\)",
    ):
        tracin([first, (other, 0.1)], train, test)
    named = TableModel(first[0].module, ("other",), train.schema)
    with pytest.raises(
        ValueError, match=r"checkpoint 2 has the outputs \('other',\), the first has \('o0',\)"
    ):
        tracin([first, (named, 0.1)], train, test)


@pytest.mark.parametrize("rate", [0, -0.1, float("nan"), "fast"])
def test_learning_rates(train: Events, test: Events, rate: Any) -> None:
    with pytest.raises(
        ValueError, match=r"checkpoint 1 has the learning rate .*; a number above 0 is needed"
    ):
        tracin([(checkpoints(train)[0][0], rate)], train, test)


def test_models_that_cannot(train: Events, test: Events) -> None:
    class Scores:
        view, outputs = "table", ("signal",)

        def logits(self, events: Events) -> np.ndarray:
            return np.zeros((len(events), 1))

    with pytest.raises(CannotExplainError, match="Scores has no last_layer, module, training_loss"):
        tracin([(Scores(), 0.1)], train, test)
    squashed = TableModel(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), ("o0",), train.schema)
    with pytest.raises(ValueError, match=r"not those of the last linear layer \(1, 2\)"):
        tracin([(squashed, 0.1)], train, test)
    none = TableModel(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2)), ("a", "b"), train.schema)
    with pytest.raises(ValueError, match=r"Sequential has no nn\.Linear"):
        tracin([(none, 0.1)], train, test)


@pytest.mark.parametrize("k", [0, 31, 61])
def test_fewer_training_events_than_asked(train: Events, test: Events, k: int) -> None:
    message = f"{k} proponents and opponents asked for; there are 60 training events, and k goes from"
    with pytest.raises(ValueError, match=message):
        tracin(checkpoints(train), train, test, k=k)


def test_no_training_event_is_proponent_and_opponent(train: Events, test: Events) -> None:
    found = tracin(checkpoints(train), train, test, k=30)
    assert (np.sort(found.rows.reshape(7, -1)) == np.arange(60)).all()


def test_the_loss_must_be_said_where_outputs_are_targets(train: Events, test: Events) -> None:
    """The labels are 0 and 1, and would do as classes of two outputs."""
    train, test = regression(train), regression(test)
    silent = [(TableModel(net(2), ("pt", "eta"), train.schema), 0.1)]
    message = "outputs pt, eta are targets .* the loss is cross_entropy.*loss='mae' or loss='mse'"
    for layers in ("last", "all"):
        with pytest.raises(ValueError, match=message):
            tracin(silent, train, test, layers=layers)
        with pytest.raises(ValueError, match=message):
            self_influence(silent, train, layers=layers)
    said = [(dataclasses.replace(silent[0][0], loss="mse"), 0.1)]
    assert tracin(said, train, test).settings["loss"] == "mse"
    assert self_influence(said, train).settings["loss"] == "mse"
    mixed = [*said, (dataclasses.replace(silent[0][0], loss="mae"), 0.1)]
    with pytest.raises(ValueError, match="checkpoint 2 has the loss mae, the first has mse"):
        tracin(mixed, train, test)


def test_a_state_of_another_loss_is_refused(
    train: Events, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "ROWS", 9)
    monkeypatch.setattr(keeping, "SECONDS", 0.0)
    train, path, count = regression(train), tmp_path / "state.safetensors", itertools.count()

    def breaks(*arguments: Any) -> Any:
        if next(count) == 3:
            raise KeyboardInterrupt
        return last_layer_gradients(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(gradients, "last_layer_gradients", breaks)
        with pytest.raises(KeyboardInterrupt):
            self_influence(checkpoints(train, "mae", 2)[:1], train, unfinished=path)
    assert path.exists()
    with pytest.raises(ValueError, match="is the state of something else"):
        self_influence(checkpoints(train, "mse", 2)[:1], train, unfinished=path)


def test_settings(train: Events, test: Events) -> None:
    states = checkpoints(train)
    with pytest.raises(ValueError, match="layers='first'; choose last or all"):
        tracin(states, train, test, layers="first")
    with pytest.raises(ValueError, match="directions=1; at least 2 are needed"):
        tracin(states, train, test, layers="all", directions=1)
    with pytest.raises(ValueError, match="normalise=True needs layers='last'"):
        tracin(states, train, test, layers="all", normalise=True)
    with pytest.raises(ValueError, match=r"weight has shape \(7,\); 60 finite numbers are needed"):
        tracin(states, train, test, weight=np.ones(7))


def test_events_without_a_target(train: Events, test: Events) -> None:
    train, test = regression(train), regression(test)
    targets = test.targets.copy()
    targets[4] = np.nan
    place = f"event {test.event[4]}, entry {test.entry[4]} of {test.files[test.file[4]]}"
    where = f"the first is {re.escape(place)}: "
    untold = test.replace(targets=targets)
    with pytest.raises(FloatingPointError, match=f"for 1 of 7 events, {where}it has no target pt, eta; take"):
        tracin(checkpoints(train, "mae", 2), train, untold)
    targets[4] = 1e30  # its square is infinite
    with pytest.raises(FloatingPointError, match=f"{where}are its inputs finite"):
        tracin(checkpoints(train, "mse", 2), train, test.replace(targets=targets))
    with pytest.raises(ValueError, match="1 outputs for the targets pt, eta"):
        tracin(checkpoints(train, "mae", 1), train, test)


def test_events_of_another_card(train: Events, test: Events) -> None:
    other = test.replace(schema=dataclasses.replace(test.schema, globals=("njet", "ht")))
    with pytest.raises(ValueError, match="these events have them in another order"):
        tracin(checkpoints(train), train, other)


# --- the package's own models ------------------------------------------------------------------------------


def own_model(kind: str, events: Events) -> NetworkModel:
    """Random weights; batch statistics and scales of the events."""
    cards: dict[str, dict[str, Any]] = {
        "particle_gnn": {
            "convolutions": [{"kind": "transformer", "width": 4}, {"kind": "dynamic_edge", "width": 4}],
            "dense": [4],
        },
        "dense": {"kind": "dense", "widths": [5, 4]},
        "convolutional": {
            "kind": "convolutional", "channels": [3], "dense": [], "kernel": 3, "training": {"loss": "mae"},
        },
    }  # fmt: skip
    torch.manual_seed(21)
    model = NetworkModel.build(ModelCard.model_validate(cards[kind]), events.schema)
    model.adapt(events)
    return model


@pytest.mark.parametrize("kind", ["particle_gnn", "dense", "convolutional"])
def test_own_models(train: Events, test: Events, kind: str) -> None:
    """The gradient of each event by itself, by autograd, through the whole network."""
    train, test = regression(train), regression(test)
    model = own_model(kind, train)
    assert isinstance(model, HasLastLayer)
    assert tracin([(model, 0.5)], train, test).settings["loss"] == model.card.training.loss
    z, a = model.last_layer(train)
    np.testing.assert_allclose(z.detach(), model.logits(train), rtol=1e-5, atol=1e-6)
    last = last_linear(model.network)
    torch.testing.assert_close(a @ last.weight.T + last.bias, z)

    def of(events: Events, row: int) -> Tensor:
        one = events[[row]]
        loss = model.training_loss(model.last_layer(one)[0], one)[0]
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [last.weight, last.bias])])

    found = everything([(model, 0.5)], train, test, weight=np.ones(len(train)))
    for e, n in ((0, 1), (3, 40), (6, 59)):
        assert found[e, n] == pytest.approx(0.5 * float(of(test, e) @ of(train, n)), rel=1e-3, abs=1e-6)
    assert [len(part) for part in model.last_layer(train[:0])] == [0, 0]


@pytest.mark.parametrize("kind", ["particle_gnn", "dense", "convolutional"])
def test_all_layers_of_own_models(train: Events, kind: str) -> None:
    train = regression(train)
    model = own_model(kind, train)
    slopes = Directions(2, (0, 0)).along(model, train, 0).left * np.sqrt(2)
    for k in range(2):
        random = torch.Generator().manual_seed(int(np.random.SeedSequence([0, 0, 0, k]).generate_state(1)[0]))
        parameters = list(model.module.parameters())
        signs = [torch.randint(0, 2, p.shape, generator=random, dtype=torch.int8) * 2 - 1 for p in parameters]
        for e in (0, 31):
            loss = model.training_loss(model.last_layer(train)[0], train)[e]
            grads = torch.autograd.grad(loss, parameters, materialize_grads=True)
            expected = sum(float((g * s).sum()) for g, s in zip(grads, signs, strict=True))
            assert float(slopes[e, k]) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_checkpoints_that_a_training_kept(train: Events, test: Events, tmp_path: Path) -> None:
    """From the card to the lists; in the units of the targets."""
    train = regression(train).replace(split=np.arange(60) % 2)
    card = ModelCard.model_validate(
        {
            "kind": "dense",
            "widths": [4],
            "training": {"loss": "mae", "epochs": 3, "batch_size": 8, "keep_checkpoints": [1, 3]},
        }
    )
    fit(card, train, folder=tmp_path)
    states = kept_checkpoints(tmp_path)
    assert len(states) == 2
    own = train.where("train")
    found = everything(states, own, regression(test), weight=np.ones(30))
    total = 0.0
    for model, rate in states:
        (z, a), (z2, a2) = (model.last_layer(e) for e in (regression(test)[[1]], own[[4]]))
        aims = (torch.as_tensor(e.targets) for e in (regression(test)[[1]], own[[4]]))
        r, r2 = (torch.sign(out - aim) / 2 for out, aim in zip((z, z2), aims, strict=True))
        total += rate * float((r @ r2.T).detach() * (a @ a2.T + 1).detach())
    assert found[1, 4] == pytest.approx(total, rel=1e-4)


def test_a_soft_tree_has_no_last_linear_layer(train: Events, soft_tree_model: NetworkModel) -> None:
    with pytest.raises(ValueError, match="not those of the last linear layer"):
        tracin([(soft_tree_model, 0.1)], train, train)
