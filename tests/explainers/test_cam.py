"""Grad-CAM, Eigen-CAM, Ablation-CAM: against loops written from the papers, captum, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from image_networks import energy_images
from torch import Tensor, nn

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, CheckWarning, SettingError, explain
from hepxai.explainers.image import ablation_cam
from hepxai.explainers.image.eigen_cam import first_component
from hepxai.explainers.image.feature_maps import upsampled
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.image import ImageModel

SHAPE = (2, 6, 14)
CLASSES = ("quark", "gluon", "top")
METHODS = ("grad_cam", "eigen_cam", "ablation_cam")
OWN: dict[str, Any] = {"upsample": False}


class Network(nn.Module):
    """A skip connection, a functional pooling, a dense head; the maps are smaller than the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.block, self.last = nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 6, (2, 3))
        self.head = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 2)
        h = h + torch.tanh(self.block(h))
        return self.head(nn.functional.relu(self.last(h), inplace=True).mean((2, 3)))


@pytest.fixture(scope="module")
def events() -> Events:
    """Real-valued images of three classes."""
    return energy_images(5, lit=0.4, shape=SHAPE, classes=CLASSES, empty=0)


@pytest.fixture(scope="module")
def model(events: Events) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(Network(), CLASSES, events.schema)


def contrast(outputs: Tensor) -> Tensor:
    return outputs[:, 2] - outputs[:, :2].mean(1)


def maps_and_slopes(model: ImageModel, events: Events, layer: str) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(events.image()).requires_grad_(True)
    outputs, maps = model.forward_maps(x, layer)
    (slope,) = torch.autograd.grad(contrast(outputs).sum(), maps)
    return maps.detach(), slope


def explained(model: Any, events: Events, method: str, **settings: Any) -> Attribution:
    return explain(model, events, method, target="top-rest", **settings)


def slow_ablation(model: ImageModel, events: Events, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[E, K]`` and maps of Desai and Ramaswamy, undivided: a pass for each image and channel."""
    module, weights, maps = model.module.eval(), [], []
    submodule = module.get_submodule(layer)
    for e in range(len(events)):
        x, seen = torch.as_tensor(events[[e]].image()), []
        hook = submodule.register_forward_hook(lambda m, i, o, seen=seen: seen.append(o.clone()))
        with torch.no_grad():
            full = contrast(module(x))
        hook.remove()
        for k in range(seen[0].shape[1]):

            def without(m: nn.Module, i: Any, o: Tensor, k: int = k) -> Tensor:
                o = o.clone()
                o[:, k] = 0
                return o

            hook = submodule.register_forward_hook(without)
            with torch.no_grad():
                weights.append(float(full - contrast(module(x))))
            hook.remove()
        maps.append(seen[0][0].numpy())
    return np.reshape(weights, (len(events), -1)), np.stack(maps)


# --- the formulas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["stem", "block", "last"])
@pytest.mark.parametrize("weights", ["mean", "elementwise"])
def test_grad_cam_is_the_sum_of_the_paper(
    model: ImageModel, events: Events, layer: str, weights: str
) -> None:
    maps, slope = maps_and_slopes(model, events, layer)
    expected = np.zeros((len(events), *maps.shape[2:]))
    for e in range(len(events)):
        for k in range(maps.shape[1]):
            alpha = slope[e, k].mean() if weights == "mean" else slope[e, k]
            expected[e] += (alpha * maps[e, k]).numpy()
    attribution = explained(model, events, "grad_cam", layer=layer, weights=weights, **OWN)
    np.testing.assert_allclose(attribution.values, expected, rtol=1e-4, atol=1e-6)
    assert attribution.settings["layer"] == layer


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_is_captums(model: ImageModel, events: Events, relu: bool) -> None:
    x, module = torch.as_tensor(events.image()), model.module.eval()
    cam = LayerGradCam(lambda x: contrast(module(x)), module.block)
    expected = cam.attribute(x, relu_attributions=relu).detach()[:, 0]
    values = explained(model, events, "grad_cam", layer="block", relu=relu, **OWN).values
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    product = LayerGradientXActivation(lambda x: contrast(module(x)), module.block)
    elementwise = explained(model, events, "grad_cam", layer="block", weights="elementwise", **OWN)
    expected = product.attribute(x).detach().sum(1)
    np.testing.assert_allclose(elementwise.values, expected, rtol=1e-4, atol=1e-6)
    ram = explained(model, events, "ram", layer="block", head="gradient", **OWN)
    np.testing.assert_allclose(ram.values, elementwise.values * expected[0].numel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["stem", "block", "last"])
def test_ablation_cam_is_the_sum_of_the_paper(model: ImageModel, events: Events, layer: str) -> None:
    weights, maps = slow_ablation(model, events, layer)
    expected = np.zeros((len(events), *maps.shape[2:]))
    for e in range(len(events)):
        for k in range(maps.shape[1]):
            expected[e] += weights[e, k] * maps[e, k]
    attribution = explained(model, events, "ablation_cam", layer=layer, **OWN)
    np.testing.assert_allclose(attribution.values, expected, rtol=1e-4, atol=1e-5)
    assert attribution.checks["ablated_activation"] == 1
    assert not any(m._forward_hooks for m in model.module.modules())


@pytest.mark.parametrize("budget", [1, 700])
def test_chunks_of_channels_do_not_matter(
    model: ImageModel, events: Events, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = explained(model, events, "ablation_cam", layer="block").values
    monkeypatch.setattr(ablation_cam, "VALUES", budget)
    values = explained(model, events, "ablation_cam", layer="block").values
    np.testing.assert_allclose(values, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("layer", ["stem", "last"])
def test_eigen_cam_is_the_singular_vector(
    model: ImageModel, events: Events, layer: str, centred: bool
) -> None:
    maps, _ = maps_and_slopes(model, events, layer)
    attribution = explained(model, events, "eigen_cam", layer=layer, centred=centred, **OWN)
    shares = []
    for e in range(len(events)):
        samples = maps[e].numpy().astype(np.float64).reshape(maps.shape[1], -1).T  # a place a row
        mean = samples.mean(1)
        samples = samples - samples.mean(0) * centred
        _, size, vectors = np.linalg.svd(samples, full_matrices=False)
        expected = (samples @ vectors[0]).reshape(maps.shape[2:])
        expected *= np.sign((expected.ravel() * mean).sum())
        np.testing.assert_allclose(attribution.values[e], expected, rtol=1e-4, atol=1e-5)
        shares.append(size[0] ** 2 / (size**2).sum())
    assert attribution.checks["explained_share"] == pytest.approx(np.mean(shares), rel=1e-5)


@pytest.mark.parametrize("centred", [True, False])
def test_component_of_many_channels_and_few_places(centred: bool) -> None:
    """The smaller of the two matrices is decomposed: the same with channels that are 0 added."""
    maps = torch.rand(3, 5, 4, 7, generator=torch.Generator().manual_seed(2))
    few, share = first_component(maps, centred=centred)
    many = torch.cat([maps, torch.zeros(3, 60, 4, 7)], 1)
    values, same = first_component(many, centred=centred)
    torch.testing.assert_close(values, few)
    torch.testing.assert_close(same, share)
    for flipped in (maps.flip(1), maps * 3):
        torch.testing.assert_close(first_component(flipped, centred=centred)[1], share)
    one, _ = first_component(maps[1:2], centred=centred)
    torch.testing.assert_close(one, values[1:2])


def test_component_of_maps_without_variance() -> None:
    values, share = first_component(torch.stack([torch.zeros(4, 3, 5), torch.full((4, 3, 5), 0.1)]))
    assert not values.any()
    assert (share == 1).all()


# --- what holds for all ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_common_change_of_all_logits(method: str, model: ImageModel, events: Events) -> None:
    """A contrast stays what it is when any g(x) is added to all logits."""

    class Shifted(Network):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 5 + x.square().sum((1, 2, 3))[:, None]

    module = Shifted()
    module.load_state_dict(model.module.state_dict())
    other = ImageModel(module, CLASSES, events.schema)
    for layer in ("stem", "last"):
        expected = explained(model, events, method, layer=layer).values
        values = explained(other, events, method, layer=layer).values
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_pixels_of_the_image(method: str, model: ImageModel, events: Events) -> None:
    own = explained(model, events, method, **OWN).values
    assert own.shape[1:] == (2, 5)
    attribution = explained(model, events, method)
    assert attribution.axes == ("event", "row", "column")
    expected = upsampled(torch.as_tensor(own), SHAPE[1:])
    np.testing.assert_allclose(attribution.values, expected, rtol=1e-4, atol=1e-6)
    empty = explained(model, events[:0], method)
    assert empty.values.shape == (0, *SHAPE[1:])
    alone = explained(model, events[[3]], method)
    np.testing.assert_allclose(alone.values[0], attribution.values[3], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["grad_cam", "ablation_cam"])
def test_no_negative_values(method: str, model: ImageModel, events: Events) -> None:
    signed = explained(model, events, method, layer="block", **OWN).values
    assert (signed < 0).any()
    positive = explained(model, events, method, layer="block", relu=True, **OWN).values
    np.testing.assert_array_equal(positive, np.maximum(signed, 0))
    assert explained(model, events, method, layer="block", relu=True).values.min() == 0


def test_the_component_is_the_same_for_every_class(model: ImageModel, events: Events) -> None:
    first, second = (explain(model, events, "eigen_cam", target=name) for name in ("quark", "top-rest"))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.unit == first.settings["unit"] == "activation"
    ablation = explained(model, events, "ablation_cam")
    assert ablation.unit == ablation.settings["unit"] == "logit × activation"


@pytest.mark.parametrize("dense", [[], [4]])
def test_the_networks_of_the_package(events: Events, dense: list[int]) -> None:
    """Behind a mean over the pixels and a linear layer, all is known by hand."""
    card = ModelCard.model_validate(
        {"kind": "convolutional", "channels": [3, 4], "kernel": 3, "dense": dense}
    )
    torch.manual_seed(1)
    model = NetworkModel.build(card, events.schema)
    assert model.outputs == CLASSES
    for layer in model.feature_layers:
        for method in METHODS:
            assert explained(model, events, method, layer=layer).values.any()
    if dense:
        return
    _, maps = model.forward_maps(torch.as_tensor(events.image()), "conv_2")
    weight = contrast(model.readout_weights()[0].T)
    maps = maps.detach()
    pixels = maps.shape[2] * maps.shape[3]
    grad = explained(model, events, "grad_cam").values
    np.testing.assert_allclose(grad * pixels, explained(model, events, "ram").values, rtol=1e-4, atol=1e-6)
    by_hand = torch.einsum("k,bk,bkrc->brc", weight, maps.mean((2, 3)), maps)
    ablation = explained(model, events, "ablation_cam").values
    np.testing.assert_allclose(ablation, by_hand, rtol=1e-3, atol=1e-5)


def test_a_constant_added_to_a_regression() -> None:
    """The weights are differences, not divided by the output."""
    rng = np.random.default_rng(1)
    events = Events.from_images(rng.random((3, 1, 5, 9)).astype(np.float32))
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(84, 1))
    model = ImageModel(module, ("pt",), events.schema)
    before = explain(model, events, "ablation_cam", target="pt").values
    with torch.no_grad():
        module[3].bias.sub_(module[3].bias.item() + float(model.logits(events)[0, 0]))  # F(A) near 0
    np.testing.assert_allclose(explain(model, events, "ablation_cam", target="pt").values, before, atol=1e-5)


# --- some of the channels --------------------------------------------------------------------------------


def test_a_fraction_of_the_channels(model: ImageModel, events: Events) -> None:
    layer = "block"
    weights, maps = slow_ablation(model, events, layer)
    _, slope = maps_and_slopes(model, events, layer)
    size = np.abs(maps * slope.numpy()).sum((2, 3))
    expected, shares = np.zeros((len(events), *maps.shape[2:])), []
    for e in range(len(events)):
        chosen = np.argsort(-size[e])[:3]
        for k in chosen:
            expected[e] += weights[e, k] * maps[e, k]
        shares.append(np.abs(maps[e, chosen]).sum() / np.abs(maps[e]).sum())
    attribution = explained(model, events, "ablation_cam", layer=layer, ratio_channels_to_ablate=0.6, **OWN)
    np.testing.assert_allclose(attribution.values, expected, rtol=1e-4, atol=1e-5)
    assert attribution.checks["ablated_activation"] == pytest.approx(np.mean(shares), rel=1e-5)


def test_few_channels_are_a_concern(model: ImageModel, events: Events) -> None:
    with pytest.warns(CheckWarning, match=r"channels that are ablated have \d+ % of the activation.*; raise"):
        attribution = explained(model, events, "ablation_cam", ratio_channels_to_ablate=0.01)
    assert len(attribution.concerns) == 1
    assert not explained(model, events, "ablation_cam", ratio_channels_to_ablate=0.9).concerns


def test_the_cost_is_announced(
    model: ImageModel, events: Events, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explained(model, events, "ablation_cam", layer="last")
    assert not capsys.readouterr().err
    monkeypatch.setattr(ablation_cam, "LONG", 0.0)
    explained(model, events, "ablation_cam", layer="last", ratio_channels_to_ablate=0.7)
    line = "5 events with 4 of 6 channels need 20 passes behind layer last, about 0 seconds; fewer events"
    assert line in capsys.readouterr().err


def test_the_measured_cost_is_small(
    model: ImageModel, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image, as of one box: the measurement must not take as long as the map."""
    passes = []
    whole = ablation_cam.PreparedAblation.without

    def counted(self: Any, x: Tensor, maps: Tensor, channels: Tensor) -> Tensor:
        passes.append(channels.numel())
        return whole(self, x, maps, channels)

    monkeypatch.setattr(ablation_cam.PreparedAblation, "without", counted)
    explained(model, events[:1], "ablation_cam", layer="last")
    assert passes == [1, 1, 6]


def test_little_variance_is_a_concern(events: Events) -> None:
    """Independent maps have no common component."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    noise = Events.from_images(rng.normal(size=(2, 12, 9, 9)).astype(np.float32))
    layer = nn.Conv2d(12, 12, 1, bias=False)
    nn.init.dirac_(layer.weight)
    model = ImageModel(nn.Sequential(layer, nn.Flatten(), nn.Linear(972, 1)), ("pt",), noise.schema)
    with pytest.warns(CheckWarning, match=r"first component has only \d+ % of the variance of the maps"):
        explain(model, noise, "eigen_cam", target="pt")


# --- maps of another shape than the image's ---------------------------------------------------------------


class Pyramid:
    """Maps of many channels and another aspect; the images are needed behind them."""

    view, outputs, feature_layers = "image", ("box",), ("pyramid",)

    def forward_image(self, x: Tensor) -> Tensor:
        return self.forward_maps(x, "pyramid")[0]

    def score_image(self, x: np.ndarray) -> np.ndarray:
        return self.forward_image(torch.as_tensor(x)).detach().double().numpy()

    def logits(self, events: Events) -> np.ndarray:
        return self.score_image(events.image())

    def forward_maps(self, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        scale = torch.linspace(-1, 1, 320)[:, None, None]
        maps = torch.sin(3 * scale * nn.functional.interpolate(x[:, :1], size=(7, 3)))
        return self.forward_after(maps, layer, x), maps

    def forward_after(self, maps: Tensor, layer: str, x: Tensor) -> Tensor:
        return (maps.amax((2, 3)).square().sum(1) + x.mean((1, 2, 3)) + 2)[:, None]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:.*may be")
def test_many_channels_of_one_event(method: str, events: Events) -> None:
    together = explain(Pyramid(), events[:2], method, target="box")
    alone = explain(Pyramid(), events[[1]], method, target="box")
    assert alone.values.shape == (1, *SHAPE[1:])
    assert alone.values.any()
    np.testing.assert_allclose(alone.values[0], together.values[1], rtol=1e-4, atol=1e-5)


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_layers_without_maps(method: str, model: ImageModel, events: Events) -> None:
    listed = r"^the model has no layer 'head' with maps; it has stem, block, last\. Name other layers"
    with pytest.raises(ValueError, match=listed):
        explained(model, events, method, layer="head")
    flat = ImageModel(model.module, CLASSES, events.schema, maps="head.0")
    with pytest.raises(ValueError, match=r"layer head.0 gives \(\d, 8\); maps are \[event, map, row"):
        explained(flat, events, method)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(168, 3))
    with pytest.raises(ValueError, match=r"^the model has no layer '' with maps; it has none\. Name other"):
        explained(ImageModel(dense, CLASSES, events.schema), events, method)


def test_models_without_maps(events: Events) -> None:
    class Scores:
        view, outputs = "image", ("a",)

        def logits(self, events: Events) -> np.ndarray:
            return np.zeros((len(events), 1))

    with pytest.raises(
        CannotExplainError, match="ablation_cam needs HasLayerCut; Scores has no feature_layers"
    ):
        explain(Scores(), events, "ablation_cam")


@pytest.mark.parametrize("ratio", [0.0, 1.2, -0.1])
def test_ratios_that_are_none(ratio: float, model: ImageModel, events: Events) -> None:
    with pytest.raises(SettingError, match=f"^ablation_cam.ratio_channels_to_ablate={ratio}; should be"):
        explained(model, events, "ablation_cam", ratio_channels_to_ablate=ratio)


@pytest.mark.parametrize(
    ("method", "settings", "check"),
    [
        ("eigen_cam", {}, "explained_share"),
        ("ablation_cam", {"ratio_channels_to_ablate": 0.4}, "ablated_activation"),
    ],
)
def test_empty_images_do_not_dilute_the_checks(
    model: ImageModel, events: Events, method: str, settings: dict[str, Any], check: str
) -> None:
    images = np.concatenate([events.image(), np.zeros((9, *SHAPE), dtype=np.float32)])
    many = Events.from_images(images, label=np.arange(14) % 3, classes=CLASSES)
    few, diluted = (explained(model, e, method, layer="block", **settings) for e in (events, many))
    assert diluted.checks[check] == pytest.approx(few.checks[check], rel=1e-5)
