"""ICE on a network whose concepts are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_events import make_images
from image_helpers import image_events, image_model
from planted_concepts import CLASSES, BarNetwork, bar_events, bar_model
from torch import nn

from hepxai.concepts import choice as choice_module
from hepxai.concepts.choice import ConceptChoice, choose_concepts
from hepxai.concepts.fidelity import correlation, r_squared
from hepxai.concepts.ice import ice
from hepxai.concepts.layers import position_sample
from hepxai.concepts.result import Concepts
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, CheckWarning
from hepxai.models.wrappers.image import ImageModel


@pytest.fixture(scope="module")
def events() -> Events:
    return bar_events(150)


@pytest.fixture(scope="module")
def concepts(events: Events) -> Concepts:
    return ice(bar_model(events), events, concepts=3)


def test_the_planted_concepts_are_found(concepts: Concepts, events: Events) -> None:
    assert float(concepts.fidelity["decisions"].value) == 1
    assert float(concepts.reconstruction.value) < 0.05
    horizontal, vertical = (int(concepts.directions[:, c].argmax()) for c in ([0, 1], [2, 3]) for c in [c[0]])
    assert horizontal != vertical
    for k, label in ((horizontal, 1), (vertical, 2)):
        assert (events.label[concepts.typical(events, 5)[k]] == label).all()
        assert (events.label[concepts.typical(events, 5, least=True)[k]] != label).all()
    change = concepts.importance(events).change
    assert change.value[horizontal, 1] > 10 * change.error[horizontal, 1] > 0
    assert abs(change.value[vertical, 1]) < 0.1 * change.value[vertical, 2]


def test_score_maps_are_where_the_bar_is(concepts: Concepts, events: Events) -> None:
    maps = concepts.scores(events[:6])
    assert maps.shape == (6, 3, 8, 12)
    assert (maps >= 0).all()
    np.testing.assert_allclose(concepts.mean_scores(events)[:6], maps.mean((2, 3)), rtol=1e-5)
    np.testing.assert_allclose(concepts.scores(events[[4]]), maps[[4]], atol=1e-6)
    np.testing.assert_array_equal(
        concepts.scores(events[:2], upsample=True), maps[:2]
    )  # as large as the image
    assert concepts.scores(events[:0]).shape == (0, 3, 8, 12)
    k = int(concepts.directions[:, 0].argmax())
    image, row = events[[1]].image()[0, 0], int(maps[1, k].max(1).argmax())
    assert (image[row] == 1).sum() >= 3


def test_reconstruction_by_hand(concepts: Concepts, events: Events) -> None:
    """Error and fidelity of the definition, on events that are held out."""
    model = concepts.model
    test = bar_events(40, seed=5, weight=np.random.default_rng(0).choice([-0.4, 1.0], 40))
    found = ice(model, events, test=test, concepts=2, seed=3)
    with torch.no_grad():
        outputs, maps = model.forward_maps(torch.as_tensor(test.image()), "relu")
        scores = torch.as_tensor(found.scores(test))
        back = torch.einsum("bkhw,kc->bchw", scores, torch.as_tensor(found.directions).float())
        after = model.forward_after(back, "relu", torch.as_tensor(test.image()))
    w = test.weight
    lost, norm = ((back - maps) ** 2).sum((1, 2, 3)).numpy(), (maps**2).sum((1, 2, 3)).numpy()
    assert float(found.reconstruction.value) == pytest.approx(np.sqrt((w @ lost) / (w @ norm)), rel=1e-4)
    same = (outputs.argmax(1) == after.argmax(1)).numpy()
    assert float(found.fidelity["decisions"].value) == pytest.approx((w @ same) / w.sum())
    z, y = (t.double().numpy() - t.double().numpy().mean(1, keepdims=True) for t in (outputs, after))
    mean = (w @ z) / w.sum()
    r2 = 1 - (w @ (z - y) ** 2) / (w @ (z - mean) ** 2)
    np.testing.assert_allclose(found.fidelity["r2"].value, r2, rtol=1e-3)


def test_errors_of_the_fidelity_are_those_of_toys() -> None:
    rng = np.random.default_rng(0)
    toys = []
    for _ in range(300):
        z = rng.normal(size=(100, 1))
        toys.append((z, z + 0.5 * rng.normal(size=z.shape), rng.choice([-0.3, 1.0], 100, p=[0.1, 0.9])))
    for measure in (r_squared, correlation):
        estimates = [measure(*toy) for toy in toys]
        spread = np.std([float(e.value[0]) for e in estimates])
        assert np.mean([float(e.error[0]) for e in estimates]) == pytest.approx(spread, rel=0.2)


def test_positions_depend_on_the_event_only(events: Events) -> None:
    model = bar_model(events)
    whole = position_sample(model, events[:20], "relu", 200, 1)
    turned = position_sample(model, events[:20][::-1], "relu", 200, 1)
    np.testing.assert_array_equal(np.sort(whole, axis=0), np.sort(turned, axis=0))
    assert whole.any(axis=1).all()
    assert not np.array_equal(whole, position_sample(model, events[:20], "relu", 200, 2))


def test_the_number_is_chosen_by_the_rule(events: Events) -> None:
    choice = choose_concepts(bar_model(events), events, (1, 2, 3, 4), seeds=(0, 1))
    assert choice.number == 3
    assert "smallest number of concepts whose fidelity is within one standard error" in choice.reason
    assert (np.diff(choice.error.value.mean(1)) < 0.01).all()
    assert choice.similarity[2, 0] > 0.9
    assert choice.chance[2] < 0.9
    assert ConceptChoice.from_json(choice.to_json()).reason == choice.reason
    assert not choice.limit


def test_a_best_number_that_is_the_largest_tried(events: Events) -> None:
    model = bar_model(events)
    with pytest.warns(
        CheckWarning, match="best number is the largest that was tried, 2: .* up to 6, by numbers="
    ):
        choice = choose_concepts(model, events, (1, 2), seeds=(0,))
    assert choice.limit in ConceptChoice.from_json(choice.to_json()).reason
    assert not choose_concepts(model, events, (6,), seeds=(0,)).limit  # the layer cannot have more


def test_an_interrupted_comparison_resumes(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepxai.core.resume.SECONDS", 0.0)
    model, path = bar_model(events), tmp_path / "state"
    factorise, asked = choice_module.nonnegative_directions, []

    def interrupted(vectors: Any, number: int, *rest: Any) -> Any:
        asked.append(number)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return factorise(vectors, number, *rest)

    monkeypatch.setattr(choice_module, "nonnegative_directions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose_concepts(model, events, (3, 4), seeds=(0,), unfinished=path)
    resumed = choose_concepts(model, events, (3, 4), seeds=(0,), unfinished=path)
    assert asked == [3, 4, 4]
    assert not path.exists()
    assert resumed.to_json() == choose_concepts(model, events, (3, 4), seeds=(0,)).to_json()


def test_regression() -> None:
    events = image_events(60)
    found = ice(image_model(), events, concepts=4)
    assert "decisions" not in found.fidelity
    assert found.fidelity["r2"].value.shape == (2,)
    assert found.importance(events).change.value.shape == (len(found), 2)
    with pytest.warns(CheckWarning, match="the R² may still rise"):
        assert choose_concepts(image_model(), events, (1, 4), seeds=(0,)).merit == "R²"


def test_one_logit_and_several_channels() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 3, 5, 4))
    events = Events.from_images(images, label=np.arange(40) % 2, channels=("a", "b", "c"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1))
    found = ice(ImageModel(net, ("signal",), events.schema, maps="1"), events, concepts=2)
    assert found.scores(events, upsample=True).shape == (40, 2, 5, 4)
    assert found.importance(events).classes == events.schema.classes
    assert 0 <= float(found.fidelity["decisions"].value) <= 1


def test_saved_and_loaded(concepts: Concepts, tmp_path: Path) -> None:
    concepts.save(tmp_path / "c.safetensors")
    loaded = Concepts.load(tmp_path / "c.safetensors", concepts.model)
    np.testing.assert_array_equal(loaded.directions, concepts.directions)
    assert str(loaded.fidelity["decisions"]) == str(concepts.fidelity["decisions"])
    assert loaded.settings == concepts.settings
    other = bar_model(bar_events(3))
    with torch.no_grad():
        other.module.conv.bias += 1
    with pytest.raises(ValueError, match="concepts of another model"):
        Concepts.load(tmp_path / "c.safetensors", other)


def test_negative_activations_are_refused_and_the_remedy_works(events: Events) -> None:
    with pytest.raises(ValueError, match=r"layer conv has negative activations.* maps='relu'\)"):
        ice(bar_model(events, maps=None), events)
    assert len(ice(bar_model(events, maps="relu"), events, concepts=2)) == 2


def test_bad_requests(events: Events) -> None:
    model = bar_model(events)
    with pytest.raises(ValueError, match="no layer 'top' with maps; it has relu"):
        ice(model, events, layer="top")
    with pytest.raises(ValueError, match="choose 1 to 6"):
        ice(model, events, concepts=7)
    with pytest.raises(ValueError, match="test= has the events that are factorised"):
        ice(model, events, test=events)
    with pytest.raises(ValueError, match="at least 2 of each"):
        ice(model, events[:2])
    with pytest.raises(ValueError, match="one or more different seeds"):
        choose_concepts(model, events, seeds=(1, 1))
    dead = BarNetwork()
    with torch.no_grad():
        dead.conv.bias.fill_(-100)
    with pytest.raises(ValueError, match="layer relu is 0 at every position"):
        ice(ImageModel(dead, CLASSES, events.schema, maps="relu"), events)
    with pytest.raises(CannotExplainError, match="concepts need HasLayerCut"):
        ice(object(), make_images(4))  # type: ignore[arg-type]
