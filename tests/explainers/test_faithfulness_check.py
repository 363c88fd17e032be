"""The faithfulness that is stored with every map over pixels."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from image_helpers import image_events
from torch import Tensor, nn

from hepxai.events import Events
from hepxai.explainers import CheckWarning, Part, Prepared, explain
from hepxai.explainers.batches import Batch
from hepxai.explainers.image.images import MapExplainer
from hepxai.explainers.methods import resolve_target
from hepxai.models.wrappers.image import ImageModel


class Shuffled(MapExplainer):
    """The exact map of a linear network with its pixels in reverse order."""

    name = "shuffled"

    def attribute_batch(self, prepared: Prepared, batch: Batch[Tensor]) -> Part:
        weight = prepared.model.module[1].weight[0].detach().view(1, *batch.x.shape[2:])
        return Part(values=weight.flip(1, 2).expand(len(batch.rows), -1, -1))


@pytest.fixture(scope="module")
def events() -> Events:
    return image_events(30, noise=8)


@pytest.fixture(scope="module")
def model(events: Events) -> ImageModel:
    torch.manual_seed(1)
    size = int(np.prod(events.image_layout().shape))
    return ImageModel(nn.Sequential(nn.Flatten(), nn.Linear(size, 2)), ("pt", "eta"), events.schema)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("saliency", {"signed": True}),
        ("image_ig", {"steps": 2}),
        ("image_ig", {"steps": 2, "baseline": "blurred"}),
        ("image_ig", {"steps": 2, "baseline": 0.5, "channels": "each"}),
        ("smoothgrad", {"samples": 2}),
    ],
)
def test_a_linear_network(events: Events, model: ImageModel, method: str, settings: dict) -> None:
    checks = explain(model, events, method, target="pt", **settings).checks
    assert checks["faithfulness"] == pytest.approx(1, abs=0.01)
    assert checks["faithfulness_events"] >= 12
    assert ("median_residual" in checks) == (method == "image_ig")


@pytest.mark.parametrize("method", ["image_gradient_shap", "image_deep_shap"])
def test_pixels_are_removed_to_the_background(events: Events, model: ImageModel, method: str) -> None:
    """All background images are 5: a linear network's map is its weight times x - 5, not x."""
    rows = np.full((3, *events.image_layout().shape), 5.0, dtype=np.float32)
    checks = explain(model, events, method, target="pt", rows=rows).checks
    assert checks["faithfulness"] == pytest.approx(1, abs=0.01)


def test_a_shuffled_map_warns(events: Events, model: ImageModel) -> None:
    with pytest.warns(CheckWarning, match="shuffled: the map does not tell which regions change the output"):
        attribution = Shuffled().explain(model, events, "pt")
    assert abs(attribution.checks["faithfulness"]) < 0.3
    assert "does not tell" in (attribution.caveat or "")


def test_contrasts_and_few_events(events: Events, model: ImageModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert resolve_target(Shuffled, model, events.schema, "pt-eta") == "pt-eta"
    made = explain(model, events, "saliency", target="pt-eta", signed=True)
    assert made.checks["faithfulness"] == pytest.approx(1, abs=0.01)
    few = Shuffled().explain(model, events[:7], "pt")  # too few for a verdict
    assert few.checks["faithfulness_events"] < 8
    assert not few.concerns
    assert "faithfulness" not in Shuffled().explain(model, events[:0], "pt").checks


def test_the_check_is_the_same_each_time(events: Events, model: ImageModel) -> None:
    one, two = (explain(model, events, "saliency", target="pt").checks for _ in range(2))
    assert one == two
