"""TCAV: planted concepts are found, random directions are not, models do not share anything."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from image_helpers import image_events, image_model
from planted_concepts import CLASSES, BarNetwork, bar_events, bar_model
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from hepxai.concepts.figures import tcav_bars
from hepxai.concepts.ice import ice
from hepxai.concepts.sensitivity import TcavScores, holm, two_sided
from hepxai.concepts.study import strongest
from hepxai.concepts.tcav import tcav
from hepxai.concepts.vectors import _directions, concept_vector
from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.explainers.base import CheckWarning
from hepxai.models.wrappers.image import ImageModel

DIRECTIONS = np.eye(6)


@pytest.fixture(scope="module")
def events() -> Events:
    return bar_events(60, weight=np.random.default_rng(0).choice([-0.3, 1.0], 60, p=[0.1, 0.9]))


class Blind(BarNetwork):
    """Computes the maps and does not use them."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * super().forward(x)


class Wide(nn.Module):
    """Of 40 channels, the class "b" depends on four from ``channel`` on alone, by a curved function."""

    def __init__(self, channel: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.relu, self.channel = nn.Conv2d(1, 40, 3, padding=1), nn.ReLU(), channel

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.relu(self.conv(x)).mean((2, 3))
        four = pooled[:, self.channel : self.channel + 4].sum(1)
        signal = four + 0.1 * four**2
        return torch.stack([torch.zeros_like(signal), signal], 1)


def wide_model(channel: int = 3) -> tuple[ImageModel, Events]:
    images = np.random.default_rng(0).random((40, 1, 4, 5))
    events = Events.from_images(images, label=np.arange(40) % 2, classes=("a", "b"))
    return ImageModel(Wide(channel), ("a", "b"), events.schema, maps="relu"), events


def test_derivative_by_hand(events: Events) -> None:
    model = bar_model(events)
    scores = tcav(model, DIRECTIONS, events)
    assert scores.targets == ("empty-rest", "horizontal-rest", "vertical-rest")
    x, one = torch.as_tensor(events.image()), events.label == 1
    with torch.no_grad():
        maps, step = model.forward_maps(x, "relu")[1], 1e-2
        for k in range(6):
            move = step * torch.as_tensor(DIRECTIONS[k]).float()[None, :, None, None]
            z = [model.forward_after(m, "relu", x).double().numpy() for m in (maps, maps + move)]
            rise = ((z[1] - z[0]) @ (-0.5, 1, -0.5))[one] / step
            mean = events.weight[one] @ rise / events.weight[one].sum()
            assert float(scores.derivative.value[k, 1]) == pytest.approx(mean, abs=0.05)
            share = Estimate.of((rise > 1e-3).astype(float), events.weight[one])
            assert float(scores.score.value[k, 1]) == pytest.approx(float(share.value))


def test_step_and_derivative_agree(events: Events) -> None:
    model = bar_model(events)
    exact = tcav(model, DIRECTIONS, events, classes=["vertical"], random=400)
    stepped = tcav(model, DIRECTIONS, events, classes=["vertical"], step=0.01, random=400)
    np.testing.assert_allclose(stepped.derivative.value, exact.derivative.value, atol=0.05)
    np.testing.assert_allclose(stepped.derivative.band, exact.derivative.band, atol=0.05)


def test_a_planted_concept_is_found_and_two_models_have_their_own() -> None:
    for channel in (3, 7):
        model, events = wide_model(channel)
        directions = np.abs(np.random.default_rng(2).normal(size=(6, 40)))
        directions[4, channel : channel + 4] = 20  # the others are random
        found = tcav(model, directions, events, classes=["b"]).significant()[:, 0]
        np.testing.assert_array_equal(np.flatnonzero(found), [4])
    model, events = wide_model()
    other = wide_model()[0]
    concepts = ice(model, events, concepts=2)
    with pytest.raises(ValueError, match="concepts of another model"):
        tcav(other, concepts, events)
    again = tcav(other, concepts.directions, events, layer=concepts.layer)
    np.testing.assert_array_equal(again.score.value, tcav(model, concepts, events).score.value)


@pytest.mark.parametrize("share", [1.0, 0.2], ids=["dense", "sparse"])
def test_random_directions_are_significant_in_five_per_cent(share: float) -> None:
    """Size of the two-sided test over 400 directions, of which a share of the components is not 0."""
    model, events = wide_model()
    rng = np.random.default_rng(9)
    toys = np.abs(rng.normal(size=(400, 40))) * (rng.random((400, 40)) < share)
    with pytest.warns(CheckWarning, match="no corrected p-value"):
        scores = tcav(model, toys, events, classes=["b"], random=499)
    error = np.sqrt(0.05 * 0.95 / 400)
    rate = np.mean(scores.derivative.p_value <= 0.05)
    assert rate <= 0.05 + 3 * error
    assert share < 1 or rate >= 0.05 - 3 * error  # many sparse directions are 0 in all four channels
    assert np.mean(scores.score.p_value <= 0.05) <= 0.05 + 3 * error
    family = [holm(p).min() <= 0.05 for p in scores.derivative.p_value.reshape(-1, 4)]
    assert np.mean(family) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_concept_vectors_of_random_splits_have_the_size_of_the_test() -> None:
    rng, slope = np.random.default_rng(0), np.random.default_rng(1).normal(size=6)
    p_values = []
    for toy in range(200):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CheckWarning)
            vector = concept_vector("noise", *rng.normal(size=(2, 20, 6)), seed=toy)
        p_values.append(float(two_sided(vector.direction @ slope, vector.random(99, toy) @ slope)))
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 200))


def test_concept_vector_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    one, other = (
        rng.normal(size=(30, 4)) * (1, 2, 0, 3) + (2, 0, 1, 0),
        rng.normal(size=(20, 4)) * (1, 2, 0, 3) + (0, 0, 1, 0),
    )
    vector = concept_vector("c", one, other)
    pool, part = np.concatenate([one, other]), np.repeat([1.0, 0.0], [30, 20])
    scaler = StandardScaler().fit(pool)
    normal = RidgeClassifier(alpha=1.0).fit(scaler.transform(pool), part).coef_.ravel() / scaler.scale_
    np.testing.assert_allclose(vector.direction, normal / np.linalg.norm(normal), atol=1e-10)
    np.testing.assert_allclose(_directions(pool, part[None])[0], vector.direction, atol=1e-8)
    assert vector.direction[0] > 0.9
    assert float(vector.accuracy.value) > 0.7


def test_concepts_by_examples(events: Events) -> None:
    model, many = bar_model(events), bar_events(150, seed=3)
    bars, empty = many[many.label == 1], many[many.label == 0]
    scores = tcav(model, {"bar": bars}, events, counterexamples=empty)
    assert float(scores.score.value[0, 1]) == 1
    assert float(scores.accuracy["bar"].value) > 0.9
    assert scores.score.concept_error.shape == (1, 3)
    assert json.dumps(scores.to_json()) == json.dumps(TcavScores.from_json(scores.to_json()).to_json())


def test_regression_and_one_class() -> None:
    events = image_events(40)
    scores = tcav(image_model(8), np.eye(6)[:2], events)
    assert scores.classes == scores.targets == ("pt", "eta")


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([[0.01, 0.04], [0.03, 0.5]])), [[0.04, 0.09], [0.09, 0.5]])


def test_nothing_is_left_on_the_model(events: Events) -> None:
    model = bar_model(events)
    model.module.train()
    tcav(model, DIRECTIONS, events, classes=["empty"], step=0.1, random=240)
    assert all(m.training and not m._forward_hooks for m in model.module.modules())
    assert all(p.grad is None and p.requires_grad for p in model.module.parameters())


def test_bad_requests(events: Events) -> None:
    model = bar_model(events)
    with pytest.raises(KeyError, match=r"there is no 'vertcal' .*did you mean"):
        tcav(model, DIRECTIONS, events, classes=["vertcal"])
    some = events[events.label < 2]
    with pytest.raises(ValueError, match="is of class 'vertical'"):
        tcav(model, DIRECTIONS, some)
    assert tcav(model, DIRECTIONS, some, classes=["empty", "horizontal"]).classes == CLASSES[:2]
    with pytest.raises(ValueError, match=r"\[K, 6\] is needed"):
        tcav(model, np.eye(5), events)
    with pytest.raises(ValueError, match="points nowhere"):
        tcav(model, np.zeros((1, 6)), events)
    with pytest.raises(ValueError, match="need counter-examples"):
        tcav(model, {"bar": events}, events)
    with pytest.raises(ValueError, match="belong to examples"):
        tcav(model, DIRECTIONS, events, counterexamples=events)
    with pytest.raises(ValueError, match="both must be positive"):
        tcav(model, DIRECTIONS, events, step=-1.0)
    with pytest.raises(ValueError, match="at least 5"):
        tcav(model, {"bar": events[:3]}, events, counterexamples=events)


def test_a_target_that_does_not_depend_on_the_layer(events: Events) -> None:
    with pytest.warns(CheckWarning, match="does not depend on layer relu"):
        scores = tcav(ImageModel(Blind(), CLASSES, events.schema, maps="relu"), DIRECTIONS, events)
    assert not scores.significant().any()
    assert scores.independent.all()
    assert next(strongest(scores)) == "empty: does not depend on layer relu"
    assert scores._repr_html_().count("does not depend on layer relu") == 18
    assert tcav_bars(scores).axes[0].texts[0].get_text() == "does not depend on layer relu"


class Linear(BarNetwork):
    """Logit 1 is channel 0 less channel 1: the sign of a derivative is the same for all events."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.relu(self.conv(x)).mean((2, 3))
        return torch.stack([0 * pooled[:, 0], pooled[:, 0] - pooled[:, 1], 0 * pooled[:, 0]], 1)


def test_a_score_that_random_directions_have_too(events: Events) -> None:
    scores = tcav(ImageModel(Linear(), CLASSES, events.schema, maps="relu"), DIRECTIONS[:2], events)
    np.testing.assert_array_equal(scores.score.value[:, 1], [1, 0])
    assert scores.saturated[:, 1].all()
    assert not scores.independent[1]
    assert scores._repr_html_().count(", saturated") == 6
    assert all(ax.get_yticks().max() == 1 for ax in tcav_bars(scores).axes[:3])


def test_bars_without_circles(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unclipped line without points counts as one in the corner of the figure: frames became tiny."""
    scores = tcav(bar_model(events), DIRECTIONS, events)
    none = np.zeros_like(scores.saturated)
    monkeypatch.setattr(type(scores), "saturated", property(lambda _: none))
    figure = tcav_bars(scores)
    figure.draw_without_rendering()
    assert all(len(line.get_xdata()) for ax in figure.axes for line in ax.lines)
