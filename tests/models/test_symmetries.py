"""Symmetries: physics stays, directions change, and only as asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hepxai.events import Events
from hepxai.models.graph.cloud import Cloud
from hepxai.training.symmetries import check_symmetries, transformed

FEATURES = ("energy", "px", "py", "pz", "pt", "eta", "phi", "sin_phi", "cos_phi", "charge")
ALL = ("rotation", "mirror", "forward_backward")


@pytest.fixture
def cloud(toy: Callable[..., Events]) -> Cloud:
    """Toy particles with every momentum feature the cards know."""
    events = toy(400, smallest=0)
    pt, eta, phi, mass = events.p4.astype(np.float64).T
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    momentum = (energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))
    x = np.column_stack([*momentum, pt, eta, phi, np.sin(phi), np.cos(phi), np.arange(len(pt)) % 3])
    return Cloud(torch.as_tensor(x), torch.as_tensor(events.p4).double(), torch.as_tensor(events.offsets))


def column(cloud: Cloud, name: str) -> Tensor:
    return cloud.x[:, FEATURES.index(name)]


def products(cloud: Cloud) -> Tensor:
    """Minkowski products of each event's particles."""
    p = cloud.pad(cloud.x[:, :4])
    return (p * p.new_tensor([1, -1, -1, -1])) @ p.transpose(1, 2)


@pytest.mark.parametrize("symmetries", [*[(s,) for s in ALL], ALL])
def test_invariants_and_consistency(cloud: Cloud, symmetries: tuple[str, ...]) -> None:
    torch.manual_seed(3)
    moved = transformed(cloud, FEATURES, symmetries)
    assert not torch.equal(moved.x, cloud.x)
    energy = cloud.pad(cloud.x[:, :1]) + 1e-9
    # The angle is a float32: the scale is that of the terms that cancel.
    assert ((products(moved) - products(cloud)).abs() / (energy @ energy.transpose(1, 2))).max() < 1e-6
    for name in ("energy", "pt", "charge"):
        assert torch.equal(column(moved, name), column(cloud, name))
    pt, eta, phi = (column(moved, n) for n in ("pt", "eta", "phi"))
    torch.testing.assert_close(column(moved, "pz"), pt * eta.sinh())
    expected = {"px": pt * phi.cos(), "py": pt * phi.sin(), "sin_phi": phi.sin(), "cos_phi": phi.cos()}
    for name, value in expected.items():
        torch.testing.assert_close(column(moved, name), value, atol=1e-4, rtol=1e-6)
    assert (phi.abs() <= torch.pi).all()
    torch.testing.assert_close(moved.p4, torch.stack([pt, eta, phi, cloud.p4[:, 3]], 1), atol=1e-5, rtol=1e-6)


def test_rotation_is_uniform_and_one_for_an_event(cloud: Cloud) -> None:
    torch.manual_seed(0)
    turn = column(transformed(cloud, FEATURES, ["rotation"]), "phi") - column(cloud, "phi")
    first = cloud.ptr[:-1][cloud.counts > 0]
    same = torch.remainder(turn - turn[first].repeat_interleave(cloud.counts[cloud.counts > 0]), 2 * torch.pi)
    assert torch.minimum(same, 2 * torch.pi - same).max() < 1e-9
    per_event = torch.remainder(turn[first], 2 * torch.pi)
    assert per_event.cos().mean().abs() < 0.15
    assert per_event.sin().mean().abs() < 0.15


@pytest.mark.parametrize(
    ("symmetry", "odd", "even"), [("mirror", "py", "pz"), ("forward_backward", "pz", "py")]
)
def test_reflections_take_half_of_the_events(cloud: Cloud, symmetry: str, odd: str, even: str) -> None:
    torch.manual_seed(0)
    moved = transformed(cloud, FEATURES, [symmetry])
    assert torch.equal(column(moved, even), column(cloud, even))
    flipped = column(moved, odd) != column(cloud, odd)
    share = flipped[cloud.ptr[:-1][cloud.counts > 0]].double().mean()
    assert 0.4 < share < 0.6


def test_nothing_asked_nothing_done(cloud: Cloud) -> None:
    state = torch.get_rng_state()
    moved = transformed(cloud, FEATURES, [])
    assert torch.equal(moved.x, cloud.x)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_momenta_columns(cloud: Cloud) -> None:
    """A table of charges and no p4 has nothing to turn."""
    bare = Cloud(cloud.x[:, -1:], cloud.p4[:, :0], cloud.ptr)
    assert torch.equal(transformed(bare, ["charge"], ALL).x, bare.x)


def test_half_a_momentum_cannot_turn() -> None:
    with pytest.raises(ValueError, match=r"training.symmetries: rotation needs py beside px .*add it to"):
        check_symmetries(["px", "pz"], ["rotation"])
    with pytest.raises(ValueError, match="rotation needs cos_phi beside sin_phi"):
        check_symmetries(["sin_phi"], ALL)
    check_symmetries(["px", "pz"], ["mirror", "forward_backward"])
    check_symmetries(FEATURES, ALL)
