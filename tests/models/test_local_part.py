"""Networks evaluated where an image differs from another: against the whole network, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.models.image.local import local_part
from hepxai.models.network import NetworkModel
from hepxai.models.protocols import HasLocalPart
from hepxai.models.wrappers.image import ImageModel

ROWS, COLUMNS, IMAGES, RECTANGLES = 9, 37, 3, 60


def pooled() -> list[nn.Module]:
    inner = nn.Sequential(nn.Conv2d(4, 5, (3, 5), padding=(1, 2)), nn.BatchNorm2d(5), nn.GELU())
    return [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(True), inner, nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def strided() -> list[nn.Module]:
    first = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2)]
    second = [nn.Conv2d(4, 5, 3, stride=(1, 2), dilation=(1, 2)), nn.ELU(), nn.AvgPool2d(2, padding=1)]
    return [*first, *second, nn.Flatten()]


def uneven() -> list[nn.Module]:
    first = [nn.Conv2d(2, 4, (1, 2), stride=2, padding="valid"), nn.MaxPool2d(3, 2, 1, ceil_mode=True)]
    return [*first, nn.Conv2d(4, 4, (1, 4), padding="same"), nn.AdaptiveMaxPool2d((1, 2)), nn.Flatten()]


def whole(layers: Callable[[], list[nn.Module]]) -> nn.Sequential:
    torch.manual_seed(0)
    features = nn.Sequential(*layers()).double().eval()
    norm = next((m for m in features.modules() if isinstance(m, nn.BatchNorm2d)), None)
    if norm is not None:
        norm.running_mean.normal_()
    width = features(torch.zeros(1, 2, ROWS, COLUMNS, dtype=torch.float64)).shape[1]
    return nn.Sequential(*features, nn.Linear(width, 3).double()).eval()


@pytest.fixture(params=[pooled, strided, uneven])
def network(request: pytest.FixtureRequest) -> nn.Sequential:
    return whole(request.param)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("each", [False, True])
def test_replaced_rectangles(network: nn.Sequential, each: bool) -> None:
    rng = np.random.default_rng(0)
    x, fill = torch.randn(2, IMAGES, 2, ROWS, COLUMNS, dtype=torch.float64)
    top, left = (rng.integers(0, n, RECTANGLES) for n in (ROWS, COLUMNS))
    bottom, right = (
        np.minimum(a + rng.integers(1, 7, RECTANGLES), n) for a, n in ((top, ROWS), (left, COLUMNS))
    )
    image, channel = rng.integers(0, IMAGES, RECTANGLES), rng.integers(0, 2, RECTANGLES)
    other = x[image].clone()
    for i, (a, b, c, d) in enumerate(zip(top, bottom, left, right, strict=True)):
        t = slice(channel[i], channel[i] + 1) if each else slice(None)
        other[i, t, a:b, c:d] = fill[image[i], t, a:b, c:d]
    before = x.clone()
    network.train()
    found = local_part(network).replaced(
        x, fill, image, (top, bottom), (left, right), channel if each else None
    )
    assert all(m.training for m in network.modules())
    torch.testing.assert_close(found, network.eval()(other).detach(), rtol=0, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("number", [0, 1, 4, 200])
def test_constant_stretches_are_left_out(network: nn.Sequential, number: int) -> None:
    rng = np.random.default_rng(number)
    lit = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    lit[rng.integers(0, ROWS, number), rng.integers(0, COLUMNS, number)] = True
    x = torch.where(lit, torch.randn(4, 2, ROWS, COLUMNS, dtype=torch.float64), 0.3)
    local = local_part(network)
    collapsed = local.collapse(lit)
    torch.testing.assert_close(
        local.outputs(collapsed.of(x), collapsed), network(x).detach(), rtol=0, atol=1e-12
    )
    if number == 0:
        assert len(collapsed.columns) < COLUMNS
    if number == 200:
        assert len(collapsed.columns) == COLUMNS


class Doubled(nn.Conv2d):
    """A subclass that may do anything."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x) + x.mean()


@pytest.mark.parametrize(
    ("layers", "number"),
    [
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), Doubled(2, 2, 3), nn.Flatten()], 2),
        ([nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten()], 1),
        ([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()], 1),
        ([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")], 1),
        ([Doubled(1, 2, 3), nn.Flatten()], 0),
        ([nn.Flatten(), nn.Linear(4, 1)], 0),
    ],
)
def test_layers_that_mix_all_pixels_are_the_rest(layers: list[nn.Module], number: int) -> None:
    local = local_part(nn.Sequential(*layers))
    assert (0 if local is None else len(local.layers)) == number


def test_a_hook_on_the_sequence_is_not_passed_by() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    net.register_forward_hook(lambda m, a, out: 2 * out)
    assert local_part(net) is None


def test_only_a_module_that_is_called_as_it_is() -> None:
    events = Events.from_images(np.zeros((2, 1, 4, 5), np.float32), label=np.arange(2), classes=("a", "b"))
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(12, 1))
    assert ImageModel(net, ("b",), events.schema).local_part() is not None
    called = ImageModel(net, ("b",), events.schema, call=lambda m, x: -m(x))
    assert called.local_part() is None


BLOCKS = [{"channels": 3, "pool": [2, 2], "dropout": 0.3}, {"channels": 4, "kernel": [3, 5]}]


@pytest.mark.parametrize(
    "card",
    [
        {"kind": "convolutional", "channels": [3, 4], "kernel": 3, "dense": []},
        {"kind": "convolutional", "channels": [3, 4], "kernel": 3, "dense": [6]},
        {"kind": "cnn", "blocks": BLOCKS, "reduce": "mean", "dense": [6]},
        {"kind": "cnn", "blocks": BLOCKS, "reduce": "flatten", "dense": []},
        {"kind": "soft_tree", "channels": [3, 4], "kernel": 3},
    ],
)
def test_own_networks(card: dict[str, Any]) -> None:
    """A replaced rectangle, and constant stretches left out."""
    rng = np.random.default_rng(1)
    images = rng.exponential(1, (5, 1, 6, 160)) * (rng.random((5, 1, 6, 160)) < 0.005)
    events = Events.from_images(images.astype(np.float32), label=np.arange(5) % 2, classes=("a", "b"))
    model = NetworkModel.build(ModelCard.model_validate(card), events.schema)
    assert isinstance(model, HasLocalPart)
    local = model.local_part()
    x, n = torch.as_tensor(events.image()), np.arange(5)
    for i in n:
        collapsed = local.collapse((x[i] != 0).any(0))
        assert len(collapsed.columns) < 160
        found = local.outputs(collapsed.of(x[[i]]), collapsed)
        np.testing.assert_allclose(found, model.score_image(x[[i]].numpy()), atol=1e-6)
    found = local.replaced(x, torch.zeros_like(x), n, (n, n + 1), (n + 3, n + 9))
    for i in n:
        x[i, :, i, i + 3 : i + 9] = 0
    np.testing.assert_allclose(found, model.score_image(x.numpy()), atol=1e-6)
