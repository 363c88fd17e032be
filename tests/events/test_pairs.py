"""Pair features against the `vector` library, and where they are numerically delicate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from hepxai.events.pair_features import PAIR_FEATURES, pair_features

NAMES = tuple(PAIR_FEATURES)


def random_p4(n: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    pt, mass = rng.exponential(50, n) + 1, rng.exponential(5, n)
    eta, phi = rng.normal(0, 2, n), rng.uniform(-np.pi, np.pi, n)
    return torch.tensor(np.stack([pt, eta, phi, mass], axis=1))


def with_vector(p4: torch.Tensor) -> vector.VectorNumpy4D:
    return vector.array(dict(zip(("pt", "eta", "phi", "mass"), p4.numpy().T, strict=True)))


def mass(a: list[float], b: list[float], dtype: torch.dtype = torch.float32) -> float:
    return float(pair_features(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype), ["mass"]))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_equals_vector(seed):
    target, source = random_p4(200, seed), random_p4(200, seed + 1)
    a, b = with_vector(target), with_vector(source)
    expected = {
        "delta_eta": a.deltaeta(b),
        "delta_phi": a.deltaphi(b),
        "delta_r": a.deltaR(b),
        "mass": (a + b).mass,
        "log_mass": np.log((a + b).mass),
    }
    found = pair_features(target, source, NAMES)
    for k, name in enumerate(NAMES):
        np.testing.assert_allclose(found[:, k], expected[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_exchange_turns_the_differences_round_and_keeps_the_rest():
    a, b = random_p4(100, 1), random_p4(100, 2)
    there, back = pair_features(a, b, NAMES), pair_features(b, a, NAMES)
    sign = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0])
    torch.testing.assert_close(there, back * sign.double())


def test_keeps_the_type_and_broadcasts():
    a, b = random_p4(3, 1).float()[:, None], random_p4(4, 2).float()[None]
    found = pair_features(a, b, ["mass", "delta_r"])
    assert found.shape == (3, 4, 2)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (3.0, -3.0, 6.0 - 2 * math.pi),
        (-3.0, 3.0, 2 * math.pi - 6.0),
        (0.1, -0.1, 0.2),
        (9.0, 0.0, 9.0 - 2 * math.pi),
        (4 * math.pi, 0.0, 0.0),
    ],
)
def test_phi_wraps_round(a, b, expected):
    target, source = torch.tensor([20.0, 0.0, a, 0.0]).double(), torch.tensor([20.0, 0.0, b, 0.0]).double()
    found = pair_features(target, source, ["delta_phi", "delta_r"])
    assert found.tolist() == pytest.approx([expected, abs(expected)], abs=1e-6)


@given(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32))
def test_phi_differences_stay_in_half_a_turn(a, b):
    found = pair_features(torch.tensor([1.0, 0, a, 0]), torch.tensor([1.0, 0, b, 0]), ["delta_phi"])
    assert abs(float(found)) <= np.float32(math.pi)


def test_a_massless_particle_beside_itself_has_no_mass():
    assert mass([500.0, 4.0, 0.3, 0.0], [500.0, 4.0, 0.3, 0.0]) == 0
    log = pair_features(*[torch.tensor([500.0, 4.0, 0.3, 0.0])] * 2, ["log_mass"])
    assert float(log) == pytest.approx(math.log(1e-3))  # the floor, not -inf


@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("eta", [0.0, 2.5, 5.0])
def test_nearly_collinear_massless_particles_do_not_cancel(angle, eta):
    a, b = [500.0, eta, 0.0, 0.0], [300.0, eta, angle, 0.0]
    expected = math.sqrt(2 * 500 * 300 * 2) * math.sin(angle / 2)
    assert mass(a, b, torch.float64) == pytest.approx(expected, rel=1e-12)


def test_two_muons_of_one_direction_have_twice_the_mass_of_one():
    muon = 0.1056583755
    assert mass([900.0, 3.0, 1.0, muon], [900.0, 3.0, 1.0, muon]) == pytest.approx(2 * muon, rel=1e-6)


@given(st.lists(st.floats(0, 2e3, width=32), min_size=4, max_size=4), st.floats(-5, 5, width=32))
def test_mass_is_at_least_the_sum_of_the_masses(momenta, eta):
    a, b = [momenta[0], eta, 0.5, momenta[1]], [momenta[2], -eta, -3.0, momenta[3]]
    assert mass(a, b) >= (momenta[1] + momenta[3]) * (1 - 1e-6)


def test_an_unknown_feature_is_named_with_the_known_ones():
    with pytest.raises(KeyError, match=r"no pair feature 'mas'; there are delta_eta, .*log_mass"):
        pair_features(random_p4(1, 0), random_p4(1, 1), ["mas"])


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [(5.0, 5.0, 90.55385138), (-5.0, 5.0, 89.99828524), (-5.0, -5.0, 89.44271910), (-999.0, 0.0, 45.0)],
)
def test_masses_below_zero_follow_root(one, two, expected):
    """Back to back at 45 GeV the momenta cancel: the mass is the sum of √max(45² ± m², 0)."""
    assert mass([45.0, 0.0, 0.0, one], [45.0, 0.0, math.pi, two], torch.float64) == pytest.approx(expected)


def test_masses_of_any_sign_equal_vector():
    rng = np.random.default_rng(3)
    a, b = random_p4(500, 5), random_p4(500, 6)
    for p4 in (a, b):
        p4[:, 3] = torch.tensor(rng.normal(0, 60, 500))
    expected = (with_vector(a) + with_vector(b)).mass
    assert (expected < 0).any()
    found = pair_features(a, b, ["mass"])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)
