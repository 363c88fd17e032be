"""Soft trees: against a walk through the tree written from the paper, their penalty, what they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_events import make_images

from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.models.image.soft_tree import SoftTreeModel, TreePass
from hepxai.models.network import NetworkModel


def make_model(events: Events, **keys: Any) -> SoftTreeModel:
    own = {"kind": "soft_tree", "channels": [5, 4], "depth": 3, "training": {"loss": "mae"}} | keys
    torch.manual_seed(0)
    model = SoftTreeModel.fresh(ModelCard.model_validate(own), events.schema)
    with torch.no_grad():
        model.network.train()
        model.network(torch.as_tensor(events.image()))  # batch statistics that are not 0 and 1
        model.network.nodes.weight.mul_(5)
    model.network.eval()
    return model


@pytest.fixture
def events() -> Events:
    return make_images()


def walk(model: SoftTreeModel, latent: list[float], node: int, probability: float, found: list[Any]) -> None:
    """Both ways from a node, as in section 3 of the paper; leaves from left to right."""
    inner = len(model.network.nodes.bias)
    if node >= inner:
        found.append((node - inner, probability))
        return
    weight, bias = model.network.nodes.weight[node].tolist(), float(model.network.nodes.bias[node].detach())
    right = 1 / (1 + math.exp(-sum(w * x for w, x in zip(weight, latent, strict=True)) - bias))
    walk(model, latent, 2 * node + 1, probability * (1 - right), found)
    walk(model, latent, 2 * node + 2, probability * right, found)


def test_paths_and_outputs_are_those_of_a_walk(events: Events) -> None:
    model = make_model(events)
    x = torch.as_tensor(events.image()[:6])
    tree = model.forward_tree(x)
    for e in range(6):
        found: list[Any] = []
        walk(model, tree.latent[e].flatten().tolist(), 0, 1.0, found)
        assert [leaf for leaf, _ in found] == list(range(8))
        np.testing.assert_allclose(tree.paths[e].numpy(), [p for _, p in found], rtol=1e-4, atol=1e-7)
        slow = sum(p * model.network.leaves[leaf].detach().numpy() for leaf, p in found)
        np.testing.assert_allclose(tree.outputs[e].numpy(), slow, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.logits(events)[:6], tree.outputs.numpy(), rtol=1e-5, atol=1e-6)


def test_shapes_and_sums(events: Events) -> None:
    model = make_model(events)
    tree = model.forward_tree(torch.as_tensor(events.image()))
    assert tree.nodes.shape == tree.reached.shape == (60, 7)
    assert tree.latent.shape == (60, 4, 1, 10)
    assert model.node_weights().shape == (7, 4, 1, 10)
    torch.testing.assert_close(tree.paths.sum(1), torch.ones(60))
    for level in ([0], [1, 2], [3, 4, 5, 6]):
        torch.testing.assert_close(tree.reached[:, level].sum(1), torch.ones(60))
    seen = (model.node_weights()[None] * tree.latent[:, None]).sum((2, 3, 4)) + model.network.nodes.bias
    torch.testing.assert_close(torch.sigmoid(seen), tree.nodes, rtol=1e-4, atol=1e-5)


def test_the_tree_of_the_study_has_the_latent_size_of_the_study() -> None:
    events = make_images(4, rows=9, columns=384)
    model = SoftTreeModel.fresh(ModelCard.find("muon_soft_tree"), events.schema)
    assert model.network.latent_shape == (16, 1, 48)
    assert (len(model.network.nodes.bias), len(model.network.leaves)) == (31, 32)


def test_the_penalty_is_that_of_the_paper(events: Events) -> None:
    tree = make_model(events).forward_tree(torch.as_tensor(events.image()))
    total = 0.0
    for node in range(7):
        reached = [float(p) for p in tree.reached[:, node]]
        right = [float(p) for p in tree.nodes[:, node]]
        share = sum(a * b for a, b in zip(reached, right, strict=True)) / sum(reached)
        depth = 0 if node == 0 else 1 if node < 3 else 2
        total -= 2.0**-depth * (0.5 * math.log(share) + 0.5 * math.log(1 - share))
    constant = 3 * math.log(2)  # 1 node, 2 halves, 4 quarters
    assert float(tree.imbalance()) == pytest.approx(total - constant, rel=1e-4)


def test_balanced_nodes_cost_nothing_and_dead_ones_are_finite() -> None:
    half = torch.full((4, 3), 0.5)
    nothing = torch.zeros(1)
    assert TreePass(half, half, nothing, nothing, nothing).imbalance() == pytest.approx(0, abs=1e-6)
    one_way = torch.ones(4, 3, requires_grad=True)
    cost = TreePass(one_way, half, nothing, nothing, nothing).imbalance()
    never = TreePass(half, torch.zeros(4, 3), nothing, nothing, nothing).imbalance()
    assert torch.isfinite(cost)
    assert torch.isfinite(never)
    assert cost > 5


def test_units_go_into_the_leaves(events: Events) -> None:
    model = make_model(events)
    before = model.logits(events)
    model.rescale(torch.tensor([5.0, 0.3]), torch.tensor([10.0, 0.5]))
    np.testing.assert_allclose(model.logits(events), before * [5, 0.3] + [10, 0.5], rtol=1e-5, atol=1e-5)


def test_alone_as_in_a_batch(events: Events) -> None:
    many = make_images(90)
    model = make_model(many)
    whole = model.logits(many)
    for e in (0, 9, 89):
        np.testing.assert_allclose(model.logits(many[[e]]), whole[[e]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.score_image(many.image()), whole, rtol=1e-5, atol=1e-6)


def test_differentiable_in_the_pixels(events: Events) -> None:
    model = make_model(events)
    x = torch.as_tensor(events.image()[:3]).requires_grad_()
    tree = model.forward_tree(x)
    assert torch.autograd.grad(tree.paths[:, 2].sum(), x, retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(tree.outputs.sum(), x)[0].abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in model.network.parameters())


def test_saved_and_loaded(events: Events, tmp_path: Path) -> None:
    model = make_model(events)
    model.save(tmp_path / "model.safetensors")
    again = NetworkModel.load(tmp_path / "model.safetensors")
    assert isinstance(again, SoftTreeModel)
    np.testing.assert_array_equal(again.logits(events), model.logits(events))


def test_images_that_are_too_small(events: Events) -> None:
    with pytest.raises(ValueError, match="images of 6 x 40 pixels are halved 3 times and nothing is left"):
        make_model(events, channels=[4, 4, 4])
    with pytest.raises(ValueError, match=r"the model reads \[B, 1, 6, 40\]"):
        make_model(events).forward_tree(torch.zeros(1, 1, 9, 384))
