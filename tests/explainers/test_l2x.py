"""L2X: planted truths are found, the relaxation and the post-hoc check by hand, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from image_networks import SHAPE, Shifted, energy_images, energy_model
from torch import nn

from hepxai.attribution import Attribution
from hepxai.core import chunks
from hepxai.events import Events
from hepxai.explainers import CheckWarning, explain
from hepxai.explainers.image.l2x import L2X
from hepxai.explainers.image.selector import Patches, relaxed_selection
from hepxai.models.wrappers.image import ImageModel

PLANTED = (10, 31, 40)
QUICK: dict[str, Any] = {"k": 5, "patch": (1, 1), "epochs": 8}


def planted_network(outputs: int) -> nn.Sequential:
    """Outputs that depend on three of 6 x 9 pixels."""
    last = nn.Linear(54, outputs)
    with torch.no_grad():
        last.weight.zero_()
        last.weight[0, list(PLANTED)] = torch.tensor([2.0, -2.0, 2.0])
        last.bias[:] = -0.7
    return nn.Sequential(nn.Flatten(), last)


@pytest.fixture(scope="module")
def hits() -> Events:
    rng = np.random.default_rng(0)
    images = (rng.random((500, 1, 6, 9)) < 0.4).astype(np.float32)
    return Events.from_images(images, label=np.arange(500) % 2, classes=("g", "q"))


@pytest.fixture(scope="module")
def planted(hits: Events) -> ImageModel:
    return ImageModel(planted_network(1), ("q",), hits.schema)


@pytest.fixture(scope="module")
def selection(planted: ImageModel, hits: Events) -> Attribution:
    return explain(planted, hits, "l2x", **QUICK)


def strongest(found: Attribution) -> set[int]:
    return set(np.argsort(-found.values.mean(0).ravel())[:3].tolist())


def test_planted_pixels_are_found(selection: Attribution) -> None:
    assert strongest(selection) == set(PLANTED)
    np.testing.assert_allclose(selection.values.sum((1, 2)), 1, rtol=1e-5)
    assert (selection.values >= 0).all()
    checks = selection.checks
    assert checks["post_hoc_accuracy"] > 0.85
    assert checks["random_accuracy"] < 0.75
    assert checks["gain_over_random"] > 5 * checks["gain_over_random_error"] > 0
    assert checks["held_out_events"] == 125


@pytest.mark.parametrize("target", ["pt", "pt-eta"])
def test_planted_pixels_of_a_regression(target: str) -> None:
    """Real-valued pixels; the other target depends on nothing."""
    rng = np.random.default_rng(1)
    images = rng.exponential(5, (500, 1, 6, 9)) * (rng.random((500, 1, 6, 9)) < 0.4)
    events = Events.from_images(images, targets={"pt": np.zeros(500), "eta": np.zeros(500)})
    model = ImageModel(planted_network(2), ("pt", "eta"), events.schema)
    found = explain(model, events, "l2x", target=target, **QUICK)
    assert strongest(found) == set(PLANTED)
    assert found.checks["post_hoc_r2"] > 0.8
    assert found.checks["random_r2"] < 0.4
    assert found.unit == "probability"


def test_post_hoc_check_by_hand(planted: ImageModel, hits: Events, selection: Attribution) -> None:
    """Event by event: the decision from the five most probable pixels."""
    _, held_out = L2X(**QUICK).parts(hits)
    agree = []
    for e in held_out:
        x = hits.image()[e]
        on = np.zeros(54, dtype=np.float32)
        on[np.argsort(-selection.values[e].ravel())[:5]] = 1
        one, other = planted.score_image(np.stack([x, x * on.reshape(x.shape)]))[:, 0]
        agree.append((one > 0) == (other > 0))
    assert np.mean(agree) == pytest.approx(selection.checks["post_hoc_accuracy"])


def test_relaxed_selection_by_hand() -> None:
    """Largest of k samples; with a low temperature it is k-hot, in proportion to the probabilities."""
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    torch.manual_seed(0)
    got = relaxed_selection(logits, 2, 0.7)
    torch.manual_seed(0)
    gumbel = -torch.log(-torch.log(torch.rand((2, 1, 3))))
    samples = [torch.softmax((logits[0] + g[0]) / 0.7, 0) for g in gumbel]
    np.testing.assert_allclose(got[0], torch.stack(samples).max(0).values, rtol=1e-5)
    hot = relaxed_selection(logits.expand(20000, 3), 1, 1e-3)
    np.testing.assert_allclose(hot.mean(0), [0.5, 0.3, 0.2], atol=0.02)


def test_patches_by_hand() -> None:
    patches = Patches((1, 5, 7), (2, 3))
    assert (patches.grid, patches.number) == ((3, 3), 9)
    expected = [[3 * (i // 2) + j // 3 for j in range(7)] for i in range(5)]
    np.testing.assert_array_equal(patches.pixels(torch.arange(9.0)[None])[0], expected)
    x = torch.rand(1, 1, 5, 7)
    assert patches.means(x)[0, 0, 2, 2] == x[0, 0, 4, 6]
    assert float(patches.means(x)[0, 0, 0, 1]) == pytest.approx(float(x[0, 0, :2, 3:6].mean()))


def test_same_selector_for_any_chunk(
    planted: ImageModel, hits: Events, selection: Attribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for events in another order, in training and test; another seed gives another."""
    prepared = L2X(**QUICK).prepare(planted, hits, "q")
    np.testing.assert_allclose(prepared.attribute(hits[[3]]).values[0], selection.values[3], rtol=1e-4)
    monkeypatch.setattr(chunks, "PIXELS", 200)
    np.testing.assert_allclose(prepared.attribute(hits[:9]).values, selection.values[:9], rtol=1e-4)
    assert prepared.attribute(hits[:0]).values.shape == (0, 6, 9)
    monkeypatch.undo()
    other = L2X(**QUICK | {"epochs": 1, "seed": 1}).prepare(planted, hits, "q")
    assert not np.allclose(other.attribute(hits[:9]).values, selection.values[:9], rtol=1e-2)
    orders = hits[:40], hits[39::-1]
    few = [L2X(**QUICK).prepare(planted, e, "q").attribute(hits[:9]).values for e in orders]
    np.testing.assert_allclose(*few, rtol=1e-3)


def test_classes_of_a_contrast() -> None:
    """Unchanged if a function is added to all logits; a contrast of two classes is another question."""
    events = energy_images(40)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 3))
    settings = {"k": 2, "epochs": 1, "patch": (2, 3)}
    probabilities = []
    for model in (energy_model(net, events), energy_model(Shifted(net), events)):
        prepared = L2X(**settings).prepare(model, events, "t-rest")
        probabilities.append(prepared.attribute(events).values)
    np.testing.assert_allclose(*probabilities, rtol=1e-3)
    two = L2X(**settings).prepare(energy_model(net, events), events, "t-g").attribute(events).values
    assert not np.allclose(two, probabilities[0], rtol=1e-4)


def test_a_useless_selection_warns() -> None:
    """A model that says the same of all images has nothing to select; few events cannot be held out."""
    events = energy_images(20)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 3))
    nn.init.zeros_(net[1].weight)
    with pytest.warns(CheckWarning, match="4 selected patches are not better than random ones"):
        found = explain(energy_model(net, events), events, "l2x", target="t-g", epochs=1)
    assert "not better than a constant answer: accuracy 1.000 ± 0.000, constant 1.000" in str(found.caveat)
    assert found.settings["patch"] == [1, 1]
    assert found.checks["constant_accuracy"] == 1
    with pytest.warns(CheckWarning) as raised:
        explain(energy_model(net, events), events[:3], "l2x", target="t-g", epochs=1)
    assert "fewer than 4 events" in str([str(w.message) for w in raised])
    nothing = explain(energy_model(net, events), events[:0], "l2x", target="t-g")
    assert nothing.values.shape == (0, 4, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 55, "patch": (1, 1)}, "l2x.k=55; an image of 6 x 9 has 54 patches of 1 x 1 pixels"),
        ({"k": 10, "patch": (2, 3)}, "l2x.k=10; an image of 6 x 9 has 9 patches of 2 x 3 pixels"),
        ({"k": 0}, "l2x.k=0; should be greater than or equal to 1"),
        ({"patch": (7, 1)}, "l2x.patch is 7 x 1, larger than the images of 6 x 9"),
        ({"patch": (1, 0)}, r"l2x.patch=\(1, 0\); should be greater than 0"),
        ({"epochs": 0}, "l2x.epochs=0; should be greater than or equal to 1"),
        ({"temperature": 0}, "l2x.temperature=0; should be greater than 0"),
        ({"seed": -1}, "l2x.seed=-1; should be greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_be(
    planted: ImageModel, hits: Events, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explain(planted, hits, "l2x", **settings)


def test_progress_of_the_training(
    planted: ImageModel, hits: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    L2X(k=3, epochs=2, progress=True).prepare(planted, hits[:40], "q")
    shown = capsys.readouterr().err
    assert "l2x: training" in shown
    assert "2/2" in shown
