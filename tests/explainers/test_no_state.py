"""Explaining leaves nothing behind on the model, nor in the world, also when it breaks in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from quick_settings import TABLES
from torch import nn
from torch_geometric.nn import MessagePassing

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, explain
from hepxai.explainers.graph.surrogate import fit_surrogate
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.table import SklearnModel, TableModel

pytestmark = pytest.mark.filterwarnings("ignore:lrp. biases absorb")  # the test model has a large one

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
MASKS = ("explain", "_edge_mask", "_loop_mask", "_apply_sigmoid")


@pytest.fixture
def model(model: NetworkModel) -> NetworkModel:
    """In a mixed mode: what an explanation changes must come back module by module."""
    model.network.train()
    model.network.head.eval()
    model.network.convolutions[1].eval()
    return model


@pytest.fixture
def tables(table_model: TableModel) -> TableModel:
    """The same for methods that explain a model of the table."""
    table_model.module.train()
    table_model.module[3].eval()
    return table_model


@pytest.fixture
def images(image_model: ImageModel) -> ImageModel:
    """The same for methods that explain a model of the image."""
    image_model.module.train()
    image_model.module[3].eval()
    return image_model


@pytest.fixture
def models(
    model: NetworkModel,
    tables: TableModel,
    tree_model: SklearnModel,
    images: ImageModel,
    soft_tree_model: NetworkModel,
) -> tuple[Any, ...]:
    return model, tables, tree_model, images, soft_tree_model


@pytest.fixture
def explained(method: str, models: tuple[Any, ...]) -> Any:
    return able(method, models)


def able(method: str, models: tuple[Any, ...]) -> Any:
    """The first one that the method can explain."""
    return next(m for m in models if EXPLAINERS[method].works_on(m))


def network_of(model: Any) -> nn.Module:
    """The torch module of a model; an empty one for trees."""
    names = ("network", "module")
    return next((getattr(model, n) for n in names if hasattr(model, n)), nn.Module())


@pytest.fixture(params=sorted(EXPLAINERS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings_of(method: str, trained: Any) -> dict[str, Any]:
    few = {"steps": 6}
    settings: dict[str, Any] = dict.fromkeys(("conductance", "edge_ig", "feature_ig", "node_ig"), few)
    settings["surrogate"] = few | {"trained": trained.surrogate}
    return (settings | TABLES).get(method, {})


def snapshot(network: nn.Module) -> dict[str, Any]:
    """All that could be left behind."""
    modules = dict(network.named_modules())
    convolutions = {n: m for n, m in modules.items() if isinstance(m, MessagePassing)}
    return {
        "modes": {n: m.training for n, m in modules.items()},
        "hooks": {n: [len(getattr(m, h)) for h in HOOKS] for n, m in modules.items()},
        "masks": {n: [getattr(m, a) for a in MASKS] for n, m in convolutions.items()},
        "attributes": {n: sorted(vars(m)) for n, m in modules.items()},
        "gradients": {n: (p.requires_grad, p.grad is None) for n, p in network.named_parameters()},
        "values": {n: v.numpy().tobytes() for n, v in network.state_dict().items()},
        "random numbers": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),  # noqa: NPY002
        "gradients on": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
    }


def estimator_of(model: Any) -> str:
    """All that a scikit-learn estimator holds."""
    return repr(sorted(vars(getattr(model, "estimator", nn.Module())).items()))


def columns(events: Events) -> dict[str, bytes]:
    return {
        n: getattr(events, n).tobytes() for n in ("particles", "p4", "offsets", "type", "weight", "label")
    }


def test_nothing_is_left(method: str, trained: Any, explained: Any, events: Events) -> None:
    before, given = snapshot(network_of(explained)), columns(events)
    estimator = estimator_of(explained)
    explain(explained, events, method, **settings_of(method, trained))
    after = snapshot(network_of(explained))
    for what, value in before.items():
        assert after[what] == value, what
    assert columns(events) == given
    assert estimator_of(explained) == estimator


@pytest.mark.parametrize("calls", [0, 3, 12, 15])
def test_nothing_is_left_after_an_error(
    method: str,
    trained: Any,
    explained: Any,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    """The network breaks at the first use of its first layer, when it is tried, or when it is explained."""
    if isinstance(explained, SklearnModel):
        pytest.skip("trees have no layers, nor hooks or modes that could stay behind")
    broken = network_of(trained.surrogate.model if method == "surrogate" else explained)
    before = snapshot(broken), snapshot(network_of(explained))
    left = iter(range(calls))
    parts = (getattr(broken, name) for name in ("convolutions", "features") if hasattr(broken, name))
    layer = type(next(parts, broken)[0])
    names = ("_alpha_and_value", "_total", "forward")
    whole = next(getattr(layer, name) for name in names if hasattr(layer, name))

    def breaking(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise RuntimeError("the power is out")
        return whole(*arguments)

    def several() -> None:
        for _ in range(16):
            explain(explained, events, method, **settings_of(method, trained))

    with monkeypatch.context() as patch:
        patch.setattr(layer, whole.__name__, breaking)
        with pytest.raises((RuntimeError, ValueError), match="the power is out"):
            several()
    assert (snapshot(broken), snapshot(network_of(explained))) == before


def test_training_a_surrogate_leaves_the_original(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(trained.model.network)
    card = trained.surrogate_card
    short = card.model_copy(update={"training": card.training.model_copy(update={"epochs": 1})})
    fit_surrogate(trained.model, trained.events, card=short)
    assert snapshot(trained.model.network) == before


def test_explanations_repeat_themselves(
    trained: Any, models: tuple[Any, ...], events: Events, toy: Callable[..., Events]
) -> None:
    """Bit by bit, although every method explained other events in between."""

    def by_method(population: Events) -> dict[str, Attribution]:
        return {m: explain(able(m, models), population, m, **settings_of(m, trained)) for m in EXPLAINERS}

    first, _, again = (by_method(population) for population in (events, toy(20, seed=9), events))
    for method, attribution in first.items():
        assert np.array_equal(attribution.values, again[method].values), method
        assert attribution.settings == again[method].settings, method
        assert attribution.checks == again[method].checks, method
