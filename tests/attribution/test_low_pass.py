"""Low-pass filter of maps: single waves, both ends of sigma, sums, and the published definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from hepxai.attribution import Attribution
from hepxai.attribution.low_pass import filtered, kept_waves, low_pass, usual_sigma
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, CheckWarning, explain
from hepxai.explainers.base import SettingError
from hepxai.explainers.image.images import MapExplainer
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.models.protocols import Model
from hepxai.models.wrappers.image import ImageModel

SHAPE = (7, 30)
TINY = {
    "image_deep_shap": {"size": 2},
    "image_gradient_shap": {"size": 2, "samples": 4},
    "image_kernel_shap": {"block": (4, 15), "samples": 16},
    "image_lime": {"block": (4, 15), "samples": 80},
    "image_partition_shap": {"block": (4, 15)},
    "l2x": {"epochs": 1},
    "rise": {"samples": 64},
    "smoothgrad": {"samples": 3},
}
BASES = sorted(n for n, e in EXPLAINERS.items() if issubclass(e, MapExplainer) and n != "forgrad")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def events() -> Events:
    rng = np.random.default_rng(0)
    images = rng.exponential(1, (5, 2, *SHAPE)).astype(np.float32)
    return Events.from_images(images, label=np.arange(5) % 2, classes=("g", "t"))


@pytest.fixture(scope="module")
def model(events: Events) -> ImageModel:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return ImageModel(nn.Sequential(*layers), ("g", "t"), events.schema)


def wave(rows: int, columns: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Plane wave with so many periods along each axis."""
    r, c = np.indices(shape)
    return np.cos(2 * np.pi * (rows * r / shape[0] + columns * c / shape[1]) + 0.3)


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 0), (3, 0), (0, 1), (0, 9), (0, 15), (2, 5), (-2, 5), (1, -14)]
)
@pytest.mark.parametrize("sigma", [1.0, 4.3, 10.0, 13.0, 20.0])
def test_a_wave_stays_or_goes_whole(rows: int, columns: int, sigma: float) -> None:
    """By its frequency in periods a pixel, the same along both axes."""
    frequency = np.hypot(rows / SHAPE[0], columns / SHAPE[1])
    plane = wave(rows, columns)
    stays = frequency <= sigma / max(SHAPE)
    found = filtered(plane, sigma)
    np.testing.assert_allclose(found.values, plane if stays else 0, atol=1e-12)
    assert found.power_removed == pytest.approx(0 if stays else 1, abs=1e-12)
    turned = filtered(plane.T, sigma).values.T
    np.testing.assert_allclose(turned, found.values, atol=1e-12)


def test_both_ends() -> None:
    values = np.random.default_rng(1).normal(1, 1, (4, *SHAPE)).astype(np.float32)
    assert filtered(values, 30).values is values
    nothing = filtered(values, 0)
    assert not nothing.values.any()
    assert (nothing.power_removed == 1).all()
    mean = filtered(values, 0.5)
    np.testing.assert_allclose(
        mean.values, np.broadcast_to(values.mean((1, 2), keepdims=True), values.shape), rtol=1e-4
    )
    assert mean.values.dtype == np.float32
    assert filtered(0 * values, 5).power_removed.tolist() == [0] * 4
    for sigma in (-1, 31, float("nan")):
        with pytest.raises(ValueError, match=r"sigma=.*; it goes from 0 .* longer side of the map, 30"):
            filtered(values, sigma)


@pytest.mark.parametrize("size", [16, 224])
def test_equals_the_published_filter_on_square_maps(size: int) -> None:
    """Circle of radius sigma around the zero frequency of the shifted spectrum."""
    values = np.random.default_rng(2).normal(size=(size, size))
    for sigma in (1, size // 15, size // 3):
        y, x = np.ogrid[:size, :size]
        mask = np.hypot(x - size // 2, y - size // 2) <= sigma
        expected = np.fft.ifft2(np.fft.fft2(values) * np.fft.ifftshift(mask)).real
        np.testing.assert_allclose(filtered(values, sigma).values, expected, atol=1e-10)
    assert usual_sigma(224, 224) == 15


def test_power_that_is_removed() -> None:
    values = np.stack([2 * wave(0, 1) + wave(0, 12), wave(0, 12)])
    np.testing.assert_allclose(filtered(values, 5).power_removed, [0.2, 1], atol=1e-12)


def test_default_keeps_a_wave_along_every_axis() -> None:
    assert usual_sigma(9, 384) == pytest.approx(384 / 9)
    keep = kept_waves(9, 384, usual_sigma(9, 384))
    assert keep[1, 0]
    assert not keep[2, 0]
    assert keep[0, 42]
    assert not keep[0, 43]


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ("saliency", {}),
        ("image_ig", {"steps": 6, "channels": "each"}),
        ("smoothgrad", {"samples": 3}),
        ("lrp", {}),
    ],
)
@pytest.mark.parametrize("sigma", [None, 0.0, 6.0, 30.0])
def test_the_method_is_the_filter_of_the_base(
    events: Events, model: ImageModel, base: str, settings: dict[str, object], sigma: float | None
) -> None:
    plain = explain(model, events, base, target="t-g", **settings)
    found = explain(model, events, "forgrad", target="t-g", base=base, base_settings=settings, sigma=sigma)
    expected = low_pass(plain, sigma)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-9)
    assert found.axes == plain.axes
    assert found.checks["power_removed"] == pytest.approx(expected.checks["power_removed"])
    assert expected.settings["low_pass"]["power_removed"] == expected.checks["power_removed"]
    json.dumps(found.settings)
    if plain.residual is None:
        assert found.residual is None
        return
    kept = plain.residual if sigma != 0 else -plain.output_change
    for one in (found, expected):
        np.testing.assert_allclose(one.residual, kept, atol=1e-5 * np.abs(plain.output_change).max() + 1e-6)


@pytest.fixture(scope="module")
def models(events: Events, model: ImageModel) -> list[Model]:
    """For every method one of them at least."""
    cards = ({"kind": "convolutional", "channels": [3], "dense": []}, {"kind": "soft_tree", "channels": [3]})
    own = [NetworkModel.build(ModelCard.model_validate(c | {"kernel": 3}), events.schema) for c in cards]
    return [model, *own]


@pytest.mark.parametrize("base", BASES)
def test_every_base(events: Events, models: list[Model], base: str) -> None:
    """Also those that attribute otherwise than batch by batch, or announce what they cost."""
    model = next(m for m in models if EXPLAINERS[base].works_on(m))
    settings = TINY.get(base, {})
    plain = explain(model, events, base, target="t", **settings)
    found = explain(model, events, "forgrad", target="t", base=base, base_settings=settings, sigma=6.0)
    expected = low_pass(plain, 6.0)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-9)
    assert (found.axes, found.unit, found.labels) == (plain.axes, plain.unit, plain.labels)
    assert (found.method, found.error) == ("forgrad", None)
    for name in ("residual", "output_change"):
        assert (getattr(found, name) is None) == (getattr(plain, name) is None)
        if getattr(plain, name) is not None:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)


def test_the_additivity_of_the_base_is_checked(events: Events, model: ImageModel) -> None:
    settings = {"size": 2, "tolerance": 1e-12}
    with pytest.raises(ArithmeticError, match="do not add up to the score"):
        explain(model, events, "forgrad", target="t", base="image_deep_shap", base_settings=settings)


def test_the_bar_of_the_base(events: Events, model: ImageModel, capsys: pytest.CaptureFixture[str]) -> None:
    explain(model, events, "forgrad", target="t", progress=True)
    assert "saliency" in capsys.readouterr().err
    prepared = EXPLAINERS["forgrad"](progress=True).prepare(model, events, "t")
    prepared.silent().attribute(events)
    assert not capsys.readouterr().err


def test_what_it_warns_of(events: Events, model: ImageModel) -> None:
    with pytest.warns(CheckWarning, match="no wave along the 7 rows stays, .* sigma of at least 4.29 keeps"):
        explain(model, events, "forgrad", target="t-g", sigma=3.0)
    with pytest.warns(CheckWarning, match="removed 100.00 % of the power of the maps; give a larger sigma"):
        explain(model, events, "forgrad", target="t-g", sigma=0.0)
    assert not explain(model, events, "forgrad", target="t-g", sigma=4.3).concerns


def test_the_default_warns_where_most_of_a_small_map_is_gone() -> None:
    """Integrated gradients of single pixels have little power in long waves."""
    images = (np.random.default_rng(5).random((8, 1, 25, 25)) > 0.9).astype(np.float32)
    events = Events.from_images(images, label=np.arange(8) % 2, classes=("g", "t"))
    signs = torch.as_tensor(np.random.default_rng(6).choice([-1.0, 1.0], (1, 625))).float()
    net = nn.Sequential(nn.Flatten(), nn.Linear(625, 1))
    with torch.no_grad():
        net[1].weight.copy_(signs)
    linear = ImageModel(net, ("t",), events.schema)
    with pytest.warns(CheckWarning, match=r"removed 9\d\.\d\d % .* larger sigma \(25 removes nothing\)"):
        found = explain(linear, events, "forgrad", base="image_ig", base_settings={"steps": 2})
    assert 0.9 < found.checks["power_removed"] < 0.99


def test_what_it_refuses(events: Events, model: ImageModel) -> None:
    cases = (
        ({"base": "edge_ig"}, SettingError, "forgrad.base='edge_ig'; maps over pixels come from .*saliency"),
        ({"base": "forgrad"}, SettingError, "forgrad.base='forgrad'; maps over"),
        ({"base_settings": {"signd": True}}, SettingError, "saliency.signd=True; no such setting"),
        ({"sigma": 31.0}, ValueError, "sigma=31; it goes from 0"),
        ({"base": "soft_tree"}, CannotExplainError, "forgrad with base='soft_tree' needs .*choose another"),
    )
    for settings, error, message in cases:
        with pytest.raises(error, match=message):
            explain(model, events, "forgrad", target="t-g", **settings)
    table = Attribution(np.zeros((5, 2)), ("event", "feature"), events, "feature_ig", "t")
    with pytest.raises(ValueError, match="needs a map over pixels; feature_ig has event, feature"):
        low_pass(table)
    assert len(explain(model, events[:0], "forgrad", target="t-g").values) == 0
