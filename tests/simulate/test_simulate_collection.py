"""Pairings and kinematics against loops and the vector package."""

from __future__ import annotations

import numpy as np
import pytest
import vector

from hepxai.simulate.collection import (
    Collection,
    close_pairs,
    delta_r,
    four_momentum,
    nearest,
    pair_mass,
    same_event_pairs,
    wrapped,
)


def random_collection(seed: int, n_events: int = 12, size: int = 40) -> Collection:
    rng = np.random.default_rng(seed)
    columns = {
        "pt": rng.exponential(30, size) + 1,
        "eta": rng.normal(0, 2, size),
        "phi": rng.uniform(-np.pi, np.pi, size),
        "mass": rng.exponential(2, size),
    }
    return Collection(np.sort(rng.integers(0, n_events, size)), columns, n_events)


def test_same_event_pairs_is_the_double_loop():
    a, b = random_collection(0), random_collection(1, size=25)
    slow = [(i, j) for i in range(len(a)) for j in range(len(b)) if a.event[i] == b.event[j]]
    assert list(zip(*same_event_pairs(a.event, b.event, 12), strict=True)) == slow


def test_close_pairs_is_the_double_loop():
    a, b = random_collection(2), random_collection(3)
    slow = {}
    for i in range(len(a)):
        for j in range(len(b)):
            p, q = (vector.obj(pt=c["pt"][k], eta=c["eta"][k], phi=c["phi"][k]) for c, k in ((a, i), (b, j)))
            if a.event[i] == b.event[j] and p.deltaR(q) < 1.5:
                slow[i, j] = p.deltaR(q)
    i, j, distance = close_pairs(a, b, 1.5)
    assert list(zip(i, j, strict=True)) == list(slow)
    np.testing.assert_allclose(distance, list(slow.values()))


def test_nearest_keeps_one_pair_an_owner():
    owner, distance = np.array([3, 1, 3, 1, 7]), np.array([0.5, 0.1, 0.2, 0.4, 0.3])
    assert nearest(owner, distance).tolist() == [1, 2, 4]
    assert nearest(np.zeros(0, dtype=int), np.zeros(0)).tolist() == []


def test_pair_mass_is_that_of_vector():
    a, b = random_collection(4), random_collection(5)
    p, q = (vector.array({k: c[k] for k in ("pt", "eta", "phi", "mass")}) for c in (a, b))
    np.testing.assert_allclose(pair_mass(a, b), (p + q).mass, rtol=1e-7)
    np.testing.assert_allclose(four_momentum(*(a[k] for k in ("pt", "eta", "phi", "mass")))[3], p.energy)


def test_angles_wrap():
    assert wrapped(np.array([np.pi, 3.5, -3.5])) == pytest.approx([-np.pi, 3.5 - 2 * np.pi, 2 * np.pi - 3.5])
    assert delta_r(np.zeros(1), np.array([3.1]), np.zeros(1), np.array([-3.1]))[0] == pytest.approx(
        2 * np.pi - 6.2
    )


def test_pt_order_within_events():
    ordered = random_collection(6).pt_ordered()
    same = ordered.event[1:] == ordered.event[:-1]
    assert np.all(np.diff(ordered["pt"])[same] <= 0)
    assert np.all(np.diff(ordered.event) >= 0)
    assert ordered.counts.sum() == 40
