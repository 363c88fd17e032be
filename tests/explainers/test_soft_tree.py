"""Soft trees: against the paper in loops, and what the masks promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.image.soft_tree import TreePaths, path_masks, route, spread, tree_paths
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel

DEPTH = 3
SIZE = (9, 40)


def with_hits(toy: Callable[..., Events], n: int, seed: int = 3) -> Events:
    """Events whose particles light pixels; some have none."""
    events = toy(n, seed=seed, largest=12)
    rng = np.random.default_rng(seed)
    particles = events.particles.copy()
    particles[:, 3], particles[:, 4] = rng.integers(0, 9, len(particles)), rng.integers(0, 40, len(particles))
    layout = ImageLayout(ImageAxis("charge", 9), ImageAxis("btag", 40), ("muon", "jet"))
    schema = dataclasses.replace(events.schema, image=layout, targets=("pt", "eta"), target_units=("GeV", ""))
    targets = rng.normal(size=(n, 2)).astype(np.float32)
    return events.replace(schema=schema, particles=particles, targets=targets)


def build(events: Events) -> NetworkModel:
    """A tree with random weights and random batch statistics."""
    torch.manual_seed(1)
    card = ModelCard.model_validate(
        {"kind": "soft_tree", "channels": [6, 5], "depth": DEPTH, "training": {"loss": "mae"}}
    )
    model = NetworkModel.build(card, events.schema)
    for module in model.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.2, 1)
    torch.nn.init.normal_(model.network.nodes.weight, std=0.3)
    torch.nn.init.normal_(model.network.nodes.bias)
    model.network.eval()
    return model


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return with_hits(toy, 20)


@pytest.fixture
def model(events: Events) -> NetworkModel:
    return build(events)


@pytest.fixture
def paths(model: NetworkModel, events: Events) -> TreePaths:
    return tree_paths(model, events)


# --- the whole tree -----------------------------------------------------------------------------------


def test_equals_the_paper(model: NetworkModel, events: Events, paths: TreePaths) -> None:
    """p_i = σ(w_i·h + b_i), P(leaf) the product over the nodes on the way, in loops."""
    linear, leaves = model.network.nodes, model.network.leaves
    for e in range(len(events)):
        with torch.no_grad():
            h = model.network.latent(torch.as_tensor(events[[e]].image())).double()[0]
        total = 0.0
        for leaf in range(2**DEPTH):
            node, probability = 0, 1.0
            for turn in f"{leaf:0{DEPTH}b}":
                w, b = linear.weight.detach()[node].double(), float(linear.bias.detach()[node])
                right = 1 / (1 + np.exp(-float(w @ h.flatten()) - b))
                assert paths.right[e, node] == pytest.approx(right, abs=1e-6)
                assert paths.reached[e, node] == pytest.approx(probability, abs=1e-6)
                mask = (w.view_as(h) * h).sum(0)
                np.testing.assert_allclose(paths.masks[e, node], mask, rtol=1e-4, atol=1e-5)
                probability *= right if turn == "1" else 1 - right
                node = 2 * node + (2 if turn == "1" else 1)
            assert paths.paths[e, leaf] == pytest.approx(probability, abs=1e-6)
            total += probability * leaves[leaf].detach().double().numpy()
        np.testing.assert_allclose(paths.predictions[e], total, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(paths.predictions, model.logits(events), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(paths.paths.sum(1), 1, rtol=1e-5)
    assert paths.outputs == ("pt", "eta")
    assert "8 paths of 20 events" in repr(paths)


def test_routes() -> None:
    """All leaves of a tree, by walking."""
    for depth in (1, 2, 5):
        nodes, right = route(np.arange(2**depth), 2**depth - 1)
        for leaf in range(2**depth):
            node, way = 0, []
            for turn in f"{leaf:0{depth}b}":
                way.append(node)
                node = 2 * node + 1 + int(turn)
            assert nodes[leaf].tolist() == way
            assert right[leaf].tolist() == [t == "1" for t in f"{leaf:0{depth}b}"]


def test_the_most_probable_path(paths: TreePaths) -> None:
    for e in range(len(paths.events)):
        nodes, right = paths.route(e)
        taken = np.where(right, paths.right[e, nodes], 1 - paths.right[e, nodes])
        assert taken.prod() == pytest.approx(paths.paths[e].max(), rel=1e-5)
    other, _ = paths.route(0, leaf=7)
    assert other.tolist() == [0, 2, 6]


def test_masks_on_the_pixels_keep_their_sum(paths: TreePaths) -> None:
    mask = paths.mask(3, 2)
    assert mask.shape == SIZE
    assert mask.sum() == pytest.approx(float(paths.masks[3, 2].sum()), rel=1e-4)


@pytest.mark.parametrize("size", [(9, 40), (8, 40), (2, 10), (1, 384)])
def test_spreading_keeps_sums_and_places(size: tuple[int, int]) -> None:
    maps = torch.randn(3, 2, 10)
    found = spread(maps, size)
    assert found.shape == (3, *size)
    torch.testing.assert_close(found.sum((1, 2)), maps.sum((1, 2)), rtol=1e-4, atol=1e-5)
    one = torch.zeros(1, 2, 10)
    one[0, 1, 4] = 1
    row, column = np.unravel_index(int(spread(one, size).argmax()), size)
    assert abs((column + 0.5) / size[1] - 0.45) < 0.06
    assert abs((row + 0.5) / size[0] - 0.75) <= 0.25


# --- the most probable path ------------------------------------------------------------------------------


def test_positive_pixels_speak_for_the_path(model: NetworkModel, events: Events, paths: TreePaths) -> None:
    found = explain(model, events, "soft_tree", target="pt")
    assert found.axes == ("event", "row", "column")
    linear = model.network.nodes.bias.detach().numpy()
    for e in range(len(events)):
        nodes, right = paths.route(e)
        sign = np.where(right, 1, -1)
        expected = sum(s * paths.mask(e, n) for s, n in zip(sign, nodes, strict=True))
        np.testing.assert_allclose(found.values[e], expected, rtol=1e-3, atol=1e-5)
        odds = np.log(paths.right[e, nodes] / (1 - paths.right[e, nodes]))
        assert found.output_change[e] == pytest.approx(
            float((sign * (odds - linear[nodes])).sum()), rel=1e-2, abs=1e-3
        )
    assert np.abs(found.residual).max() < 1e-4
    assert found.checks["p90_residual"] < 1e-3


def test_every_output_has_the_same_path(model: NetworkModel, events: Events) -> None:
    pt, eta = (explain(model, events, "soft_tree", target=t).values for t in ("pt", "eta"))
    assert np.array_equal(pt, eta)


def test_through_the_convolutions_only_lit_pixels_count(model: NetworkModel, events: Events) -> None:
    found = explain(model, events, "soft_tree", target="pt", upsampling="gradient")
    lit = events.image().max(1) > 0
    assert (found.values[~lit] == 0).all()
    assert found.values[lit].any()
    e = int(np.argmax(lit.sum((1, 2))))
    x = torch.as_tensor(events[[e]].image()).requires_grad_()
    tree = model.forward_tree(x)
    nodes, right = route(np.asarray(int(tree.paths.argmax())), 7)
    score = sum((1 if r else -1) * torch.logit(tree.nodes[0, n]) for n, r in zip(nodes, right, strict=True))
    (slope,) = torch.autograd.grad(score, x)
    np.testing.assert_allclose(found.values[e], (x * slope)[0].sum(0).detach(), rtol=1e-3, atol=1e-4)


def test_masks_of_the_nodes_through_the_convolutions(
    model: NetworkModel, events: Events, paths: TreePaths
) -> None:
    """Against autograd node by node; with the signs of the path they are the attribution."""
    masks = path_masks(model, events)
    assert masks.shape == (len(events), DEPTH, *SIZE)
    found = explain(model, events, "soft_tree", target="pt", upsampling="gradient")
    for e in range(len(events)):
        nodes, right = paths.route(e)
        np.testing.assert_allclose(
            (masks[e] * np.where(right, 1, -1)[:, None, None]).sum(0), found.values[e], rtol=1e-4, atol=1e-6
        )
        x = torch.as_tensor(events[[e]].image()).requires_grad_(True)
        for node, mask in zip(nodes, masks[e], strict=True):
            score = model.network.nodes.weight[node] @ model.network.latent(x).flatten()
            (slope,) = torch.autograd.grad(score, x)
            np.testing.assert_allclose(mask, (x * slope)[0].sum(0).detach(), rtol=1e-4, atol=1e-6)


def test_without_biases_the_lit_pixels_have_all_of_it(model: NetworkModel, events: Events) -> None:
    """ReLU and maximum are homogeneous: Euler's theorem."""
    for module in model.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.zeros_(module.bias)
            module.running_mean.zero_()
    found = explain(model, events, "soft_tree", target="pt", upsampling="gradient")
    assert np.abs(found.residual).max() < 1e-3


@pytest.mark.parametrize("upsampling", ["bilinear", "gradient"])
def test_an_event_alone_and_permuted_hits(model: NetworkModel, events: Events, upsampling: str) -> None:
    whole = explain(model, events, "soft_tree", target="pt", upsampling=upsampling)
    for e in (0, 7):
        alone = explain(model, events[[e]], "soft_tree", target="pt", upsampling=upsampling)
        np.testing.assert_allclose(alone.values[0], whole.values[e], rtol=1e-3, atol=1e-5)
    order = np.concatenate(
        [np.arange(a, b)[::-1] for a, b in zip(events.offsets, events.offsets[1:], strict=False)]
    )
    turned = events.replace(
        particles=events.particles[order], type=events.type[order], p4=events.p4[order],
        truth={k: v[order] for k, v in events.truth.items()},
    )  # fmt: skip
    again = explain(model, turned, "soft_tree", target="pt", upsampling=upsampling)
    assert np.array_equal(again.values, whole.values)


def test_no_hits_and_all_lit(model: NetworkModel, events: Events) -> None:
    empty = events[events.counts == 0]
    assert len(empty)
    assert np.isfinite(explain(model, empty, "soft_tree", target="pt").values).all()
    assert not explain(model, empty, "soft_tree", target="pt", upsampling="gradient").values.any()
    assert len(explain(model, events[:0], "soft_tree", target="pt").values) == 0


# --- bad input ---------------------------------------------------------------------------------------------


def test_bad_input(model: NetworkModel, events: Events, table_model: object) -> None:
    with pytest.raises(CannotExplainError, match="TableModel has no forward_tree, node_weights"):
        tree_paths(table_model, events)
    with pytest.raises(ValueError, match="upsampling='nearest'; should be 'bilinear' or 'gradient'"):
        explain(model, events, "soft_tree", target="pt", upsampling="nearest")
    with pytest.raises(ValueError, match="there are no events to follow through the tree"):
        tree_paths(model, events[:0])
    layout = dataclasses.replace(events.schema.image, columns=ImageAxis("btag", 48))
    other = events.replace(schema=dataclasses.replace(events.schema, image=layout))
    with pytest.raises(ValueError, match="the model was trained on images of"):
        tree_paths(model, other)
