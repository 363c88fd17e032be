"""Rest of a network behind a layer: equal to a pass of the whole, and only the rest runs where possible."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hepxai.events import Events
from hepxai.models.wrappers import layer_cut
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.modules import call_module

SHAPE = (2, 6, 10)


class Residual(nn.Module):
    """Two blocks with skip connections, functional activations and a functional head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.stem(x)), inplace=True)
        h = F.relu(self.first(h) + h)
        h = h + F.gelu(self.second(h))
        return self.scale * self.head(F.dropout(h, 0.5, self.training).mean((2, 3)))


class BatchSize(Residual):
    """Takes a number from the image that is needed behind every layer."""

    def forward(self, x: Tensor) -> Tensor:
        events = x.shape[0]
        h = F.adaptive_avg_pool2d(torch.relu(self.second(torch.relu(self.first(self.stem(x))))), 1)
        return self.head(h.view(events, -1))


class InPlace(Residual):
    """Overwrites what a layer has given, and does not use the result of the call."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.stem(x))
        h += 1
        F.relu(h, inplace=True)
        return self.head(self.second(h).relu_().amax((2, 3)))


class Branches(Residual):
    """Depends on its values, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(self.stem(x)))
        return self.head((h if h.sum() > 0 else -h).mean((2, 3)))


class Tuples(Residual):
    """Returns more than the outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(self.stem(x))
        return h, self.head(torch.cat([h, x], 1)[:, 1:5].square().mean((2, 3)))


def chain() -> nn.Sequential:
    first = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.LazyLinear(3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "residual": Residual,
    "batch size": BatchSize,
    "in place": InPlace,
    "branches": Branches,
    "tuples": Tuples,
}
TRACED = {"chain", "residual", "batch size", "in place", "tuples"}


@pytest.fixture(scope="module")
def events() -> Events:
    return Events.from_images(np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32))


def build(events: Events, module: nn.Module) -> ImageModel:
    module(torch.zeros(2, *SHAPE))
    picks = isinstance(module, Tuples)
    call = {"call": lambda net, x: net(x)[1]} if picks else {}
    return ImageModel(module, ("a", "b", "c"), events.schema, **call)


def whole_pass(model: ImageModel, maps: Tensor, layer: str, x: Tensor) -> Tensor:
    """Outputs of the module with a hook that replaces the output of the layer."""
    module = model.module.eval()
    hook = module.get_submodule(layer).register_forward_hook(lambda *_: maps.clone())
    with torch.no_grad():
        outputs = model.call(module, x.clone())
    hook.remove()
    module.train()
    return outputs


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, events: Events) -> tuple[str, ImageModel]:
    torch.manual_seed(1)
    return request.param, build(events, NETWORKS[request.param]().train())


def test_equal_to_a_whole_pass(network: tuple[str, ImageModel], events: Events) -> None:
    (name, model), x = network, torch.as_tensor(events.image())
    called = [n for n in model.feature_layers if name not in ("branches", "tuples") or n != "second"]
    for layer in called:
        outputs, maps = model.forward_maps(x, layer)
        maps = maps.detach()
        torch.testing.assert_close(model.forward_after(maps, layer, x), outputs, msg=layer)
        for scale in (0.0, -1.5):
            given = maps * scale
            before = given.clone()
            after = model.forward_after(given, layer, x).detach()
            torch.testing.assert_close(after, whole_pass(model, given, layer, x), msg=layer)
            torch.testing.assert_close(given, before, rtol=0, atol=0)
        traced = [halves for _, halves in layer_cut._TRACES[model.module].values()]
        assert all(h is not None for h in traced) == (name in TRACED)


def test_one_image_repeated(network: tuple[str, ImageModel], events: Events) -> None:
    """An expanded image is the same as copies of it."""
    (_, model), x = network, torch.as_tensor(events.image())[:1]
    maps = model.forward_maps(x, "first" if hasattr(model.module, "first") else "0.0")[1].detach()
    layer = "first" if hasattr(model.module, "first") else "0.0"
    many = maps * torch.linspace(-1, 1, 7)[:, None, None, None]
    repeated = model.forward_after(many, layer, x.expand(7, *SHAPE))
    torch.testing.assert_close(repeated, whole_pass(model, many, layer, x.repeat(7, 1, 1, 1)))
    torch.testing.assert_close(model.forward_after(many[3:4], layer, x), repeated[3:4])


def test_gradients_are_those_of_a_whole_pass(network: tuple[str, ImageModel], events: Events) -> None:
    (_, model), x = network, torch.as_tensor(events.image())
    layer = "first" if hasattr(model.module, "first") else "0.0"
    outputs, maps = model.forward_maps(x.clone().requires_grad_(True), layer)
    (expected,) = torch.autograd.grad(outputs[:, 1].sum(), maps)
    given = maps.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(model.forward_after(given, layer, x)[:, 1].sum(), given)
    torch.testing.assert_close(slope, expected)


def test_only_the_rest_runs(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    x = torch.as_tensor(events.image())
    for module, layer, before in ((chain(), "0.2", 0), (Residual(), "second", 2), (Residual(), "norm", 0)):
        model = build(events, module)
        object.__setattr__(model, "maps", layer)
        maps = model.forward_maps(x, layer)[1].detach()
        model.forward_after(maps, layer, x)  # traced and compared
        images: list[int] = []

        def counted(self: nn.Conv2d, h: Tensor, images: list[int] = images) -> Tensor:
            images.append(len(h))
            return self._conv_forward(h, self.weight, self.bias)

        with monkeypatch.context() as patch:
            patch.setattr(nn.Conv2d, "forward", counted)
            model.forward_after(maps[:1].repeat(4, 1, 1, 1), layer, x[:1].expand(4, *SHAPE))
        behind = [4, 4] if layer == "norm" else []
        assert images == [1] * before + behind


def test_a_change_of_the_module_is_seen(events: Events) -> None:
    torch.manual_seed(1)
    model, x = build(events, Residual()), torch.as_tensor(events.image())
    maps = model.forward_maps(x, "first")[1].detach()
    before = model.forward_after(maps, "first", x)
    model.module.scale = 3.0
    torch.testing.assert_close(model.forward_after(maps, "first", x), 3 * before)
    model.module.second = nn.Conv2d(4, 4, 1)
    after = model.forward_after(maps, "first", x)
    torch.testing.assert_close(after.detach(), whole_pass(model, maps, "first", x))
    hook = model.module.norm.register_forward_hook(lambda m, i, o: o * 2)
    after = model.forward_after(maps, "first", x)
    torch.testing.assert_close(after.detach(), whole_pass(model, maps, "first", x))
    hook.remove()


def test_double_precision(events: Events) -> None:
    model, x = build(events, chain()), torch.as_tensor(events.image())
    model.module.double()
    outputs, maps = model.forward_maps(x, "0.2")
    torch.testing.assert_close(model.forward_after(maps, "0.2", x), outputs)


class Listed(Residual):
    """Takes a number from a list."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = [1.0]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scales[0]


def test_a_change_in_a_list_is_seen_after_the_next_maps(events: Events) -> None:
    torch.manual_seed(1)
    model, x = build(events, Listed()), torch.as_tensor(events.image())
    maps = model.forward_maps(x, "first")[1].detach()
    before = model.forward_after(maps, "first", x)
    model.module.scales[0] = 10.0
    outputs, maps = model.forward_maps(x, "first")
    torch.testing.assert_close(outputs, 10 * before)
    torch.testing.assert_close(model.forward_after(maps, "first", x), outputs)


def test_a_module_in_its_call_is_freed(events: Events) -> None:
    module = Residual()
    model = ImageModel(module, ("a", "b", "c"), events.schema, call=lambda _, x, net=module: net(x))
    x = torch.as_tensor(events.image())
    model.forward_after(model.forward_maps(x, "first")[1].detach(), "first", x)
    reference = weakref.ref(module)
    del model, module
    gc.collect()
    assert reference() is None


def test_one_channel_is_compared_with_other_maps() -> None:
    """A rest that reads other maps than those given agrees only for the module's own."""
    module = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = torch.rand(2, 1, 6, 6)
    maps = module[0](x).detach()
    halves = layer_cut._halves(layer_cut._Called(module, call_module), "module.0")
    assert halves
    assert layer_cut._agrees(halves, module, call_module, "0", maps, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_cut, "_rest", lambda *a: module(a[-1]))  # the maps are ignored
        assert not layer_cut._agrees(halves, module, call_module, "0", maps, x)


# --- bad input -------------------------------------------------------------------------------------------


class Twice(Residual):
    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.head(self.first(torch.relu(self.first(h))).mean((2, 3)))


def test_layers_that_are_not_called_once(events: Events) -> None:
    model, x = build(events, Twice()), torch.as_tensor(events.image())
    maps = torch.zeros(5, 4, 6, 10)
    with pytest.raises(ValueError, match=r"^the module calls layer first twice for one batch: use"):
        model.forward_after(maps, "first", x)
    with pytest.raises(ValueError, match=r"^the module does not call its layer second; name one"):
        model.forward_after(maps, "second", x)
    assert not any(m._forward_hooks for m in model.module.modules())


def test_maps_and_images_that_do_not_fit(events: Events) -> None:
    model, x = build(events, Branches()), torch.as_tensor(events.image())
    with pytest.raises(ValueError, match=r"^layer first gives \(5, 4, 6, 10\), not \(5, 4, 3, 3\)$"):
        model.forward_after(torch.zeros(5, 4, 3, 3), "first", x)
    with pytest.raises(ValueError, match=r"^maps of 2 images and 5 images$"):
        model.forward_after(torch.zeros(2, 4, 6, 10), "first", x)
    with pytest.raises(ValueError, match="no maps of layer 'head'; there are stem, first, second"):
        model.forward_after(torch.zeros(5, 4, 6, 10), "head", x)
    with pytest.raises(ValueError, match=r"images \(5, 1, 6, 10\) for a model of 2 channels"):
        model.forward_after(torch.zeros(5, 4, 6, 10), "first", x[:, :1])
