"""Images that a detector can hand out, or should not: every method over images, every model of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from image_helpers import LAYERS, SCHEMA, STRIPS, image_events, image_model, other_shape, with_hits
from quick_settings import TABLES

from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, explain
from hepxai.explainers.image.soft_tree import tree_paths
from hepxai.explainers.methods import configure
from hepxai.influence.tracin import self_influence, tracin
from hepxai.metrics.faithfulness import quick_concern
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.studies.comparison.numbers import compare, compare_methods

EVERY = [(row, column) for row in range(LAYERS) for column in range(STRIPS)]
OTHER = (
    "the model was trained on images of 1 channel of 5 x 16 pixels, these events have 1 channel of 5 x 17 "
    "pixels; read them with the data-set card of the training"
)


def own_model(kind: str, seed: int = 0, **settings: Any) -> NetworkModel:
    """One of the package's, with random weights."""
    card = ModelCard.model_validate({"kind": kind, "training": {"loss": "mae"}} | settings)
    torch.manual_seed(seed)
    return NetworkModel.build(card, SCHEMA)


def convolutional(*dense: int, width: int = 3, seed: int = 0) -> NetworkModel:
    return own_model("convolutional", seed, channels=[width], dense=dense, kernel=3)


MODELS = {
    "module, linear head": image_model(),
    "module, dense head": image_model(7),
    "card, linear head": convolutional(),
    "card, dense head": convolutional(4),
    "soft tree": own_model("soft_tree", channels=[4], depth=2),
}
QUICK: dict[str, dict[str, Any]] = TABLES | {
    "image_deep_shap": {"rows": image_events(5)},
    "image_gradient_shap": {"rows": image_events(10), "samples": 10},
    "image_kernel_shap": {"samples": 640},
    "image_ig": {"steps": 64},
    "smoothgrad": {"samples": 3},
}
CASES = [
    pytest.param(method, kind, id=f"{method}, {kind}")
    for kind, model in MODELS.items()
    for method, explainer in sorted(EXPLAINERS.items())
    if explainer.works_on(model) and method != "surrogate"
]


def targeted(events: Events) -> Events:
    return events.replace(targets=np.ones((len(events), 2), dtype=np.float32))


def test_one_line_says_what_a_model_of_images_is() -> None:
    model = convolutional()
    size = sum(p.numel() for p in model.network.parameters())
    assert repr(model) == f"<ConvolutionalModel: pt, eta of images 1 x 5 x 16, {size} weights>"


def test_there_is_a_case_for_every_method_over_images() -> None:
    methods = {case.values[0] for case in CASES}
    assert methods == {n for n, e in EXPLAINERS.items() if e.reads == "image"}


FAITHLESS = {"faithfulness": -0.5, "faithfulness_error": 0.1, "faithfulness_events": 12.0}
GOOD = {"gain_over_random": 1.0, "gain_over_random_error": 0.1, "held_out_events": 100.0}
GOOD |= {"masks": 500.0, "mean_r2": 1.0, "relative_error": 0.0}
BAD = {"ablated_activation": 0.0, "explained_share": 0.0, "gain_over_random": 0.0, "held_out_events": 0.0}
BAD |= {
    "bias_share": 1.0,
    "mean_r2": 0.0,
    "relative_error": 9.0,
    "similarity_of_outputs": 1.0,
    "unresolved": 1.0,
}


@pytest.mark.parametrize("method", sorted({case.values[0] for case in CASES}))
def test_no_method_loses_the_concern_about_faithfulness(method: str) -> None:
    """With and without concerns of its own."""
    model = next(m for m in MODELS.values() if EXPLAINERS[method].works_on(m))
    prepared = configure(method, QUICK.get(method, {})).prepare(model, image_events(), "pt")
    for others in (GOOD, GOOD | BAD):
        assert set(quick_concern(FAITHLESS)) <= set(prepared.concerns(others | FAITHLESS))


@pytest.mark.filterwarnings("ignore::hepxai.explainers.CheckWarning")  # random weights, two events
@pytest.mark.parametrize(("method", "kind"), CASES)
def test_no_hits_and_all_pixels_lit(method: str, kind: str) -> None:
    events = with_hits(image_events(), [[], EVERY])
    found = explain(MODELS[kind], events, method, target="pt", **QUICK.get(method, {}))
    assert found.values.shape == (2, LAYERS, STRIPS)
    # Where all pixels are alike the maxima that a tree pools are ties, and rounding picks the winner. The
    # selector of l2x is trained on the given events.
    for row in () if method == "l2x" else (0,) if kind == "soft tree" else (0, 1):
        alone = explain(MODELS[kind], events[[row]], method, target="pt", **QUICK.get(method, {}))
        np.testing.assert_allclose(alone.values[0], found.values[row], rtol=1e-4, atol=1e-6)
    if method == "image_ig":
        assert not found.values[0].any()
        scores = MODELS[kind].score_image(events.image())[:, 0]
        missing = found.values[1].sum() - (scores[1] - scores[0])
        assert abs(missing) <= 0.02 * np.abs(found.values[1]).sum()


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_images_of_another_shape(method: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^{OTHER}$"):
        explain(MODELS[kind], other_shape(image_events()), method, target="pt", **QUICK.get(method, {}))


def test_numbers_over_images_without_hits() -> None:
    """They are left out, and counted; without any others nothing can be said."""
    model, dark = MODELS["module, dense head"], with_hits(image_events(), [[], []])
    maps = compare_methods(model, dark, "pt", {"saliency": {}, "ram": {}})
    found = compare(maps, truth="fromMuon", k=5)
    assert found.rank.left_out[0, 1] == 2
    assert np.isnan(found.rank.mean.value[0, 1])
    for share in found.shares.values():
        assert share.left_out == 2
        assert np.isnan(share.among_hits.value)


def test_paths_through_a_soft_tree() -> None:
    found = tree_paths(MODELS["soft tree"], with_hits(image_events(), [[], EVERY]))
    np.testing.assert_allclose(found.paths.sum(1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match=f"^{OTHER}$"):
        tree_paths(MODELS["soft tree"], other_shape(image_events()))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("card, dense head", "1 dense layers lie between the mean over the pixels and the outputs"),
        ("module, dense head", "the outputs of the module are not linear in the pooled maps of layer 3"),
    ],
)
def test_a_head_that_is_not_linear(kind: str, message: str) -> None:
    with pytest.raises(CannotExplainError, match=f"{message}.*head='gradient' works"):
        explain(MODELS[kind], image_events(), "ram", target="pt", head="linear")


# --- influence of training images -----------------------------------------------------------------------

LAST = [kind for kind in MODELS if kind != "soft tree"]


@pytest.mark.parametrize("kind", LAST)
def test_influence_of_images_without_hits_and_all_lit(kind: str) -> None:
    states, train = [(MODELS[kind], 0.1)], targeted(with_hits(image_events(), [[], EVERY, [(0, 1)]]))
    found = tracin(states, train, train, k=1)
    assert np.isfinite(found.values).all()
    assert (found.values[:, 0] >= found.values[:, 1]).all()
    alone = tracin(states, train, train[[0]], k=1)
    np.testing.assert_allclose(alone.values[0], found.values[0], rtol=1e-4, atol=1e-7)
    assert (self_influence(states, train).values > 0).all()


@pytest.mark.parametrize("kind", LAST)
@pytest.mark.parametrize("which", [0, 1], ids=["training", "asked about"])
def test_influence_with_images_of_another_shape(kind: str, which: int) -> None:
    populations = [targeted(image_events()) for _ in range(2)]
    populations[which] = other_shape(populations[which])
    with pytest.raises(ValueError, match=f"^{OTHER}$"):
        tracin([(MODELS[kind], 0.1)], *populations)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (
            lambda: convolutional(width=5),
            "parameter 'convolutions.0.weight' has shape (5, 1, 3, 3), in the first (3, 1, 3, 3)",
        ),
        (lambda: convolutional(4), "parameter 'head.0.weight' has shape (4, 3), in the first (2, 3)"),
        (image_model, "it has no parameter 'convolutions.0.weight'"),
    ],
    ids=["wider", "deeper", "module"],
)
def test_checkpoints_of_another_architecture(other: Callable[[], Any], difference: str) -> None:
    states = [(convolutional(), 0.1), (convolutional(seed=1), 0.1), (other(), 0.1)]
    events = targeted(image_events())
    kinds = [" (a Sequential)", " (a ConvolutionalNetwork)"] if other is image_model else ["", ""]
    message = re.escape(
        f"checkpoint 3{kinds[0]} has another architecture than the first{kinds[1]}: {difference}"
    )
    assert np.isfinite(tracin(states[:2], events, events).values).all()
    for call in (lambda: tracin(states, events, events), lambda: self_influence(states, events)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("n", [0, 2, 5])
def test_fewer_training_images_than_proponents(n: int) -> None:
    events = targeted(image_events())
    message = f"3 proponents and opponents asked for; there are {n} training events"
    with pytest.raises(ValueError, match=message):
        tracin([(convolutional(), 0.1)], events[:n], events, k=3)
