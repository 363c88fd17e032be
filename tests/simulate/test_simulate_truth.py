"""Ancestry, flavours and visibility on hand-written records."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_helpers as helpers

from hepxai.simulate.settings import Constituent
from hepxai.simulate.truth import ancestor, comes_from, has_quark, last_hadrons, visible, w_quarks

# id, status, mother, pt, eta, phi, mass
CHAIN = [
    (90, -11, 0, 1, 0, 0, 0),
    (37, -22, 0, 50, 0, 0, 130),
    (37, -52, 1, 50, 0, 0, 130),
    (24, -22, 2, 20, 0, 1, 30),
    (36, -22, 2, 30, 0, -1, 90),
    (24, -52, 3, 20, 0, 1, 30),
    (13, -23, 4, 20, 0, 1, 0.1),
    (-13, 23, 4, 30, 0, -2, 0.1),
    (13, 51, 6, 18, 0, 1, 0.1),
    (22, 51, 6, 2, 0, 1, 0),
    (2, -23, 5, 10, 1, 1, 0.3),
    (-1, -23, 5, 10, -1, 1, 0.3),
    (-24, -22, 0, 20, 0, 1, 80),
    (11, 23, 12, 30, 0, 2, 0.0005),
]


def test_ancestor_skips_copies_in_every_event():
    record = helpers.record(CHAIN, CHAIN)
    index = np.array([8, 7, 10, 13])
    for shift in (0, len(CHAIN)):
        assert (ancestor(record, index + shift) - shift).tolist() == [4, 4, 5, 12]


def test_lineage():
    record = helpers.record(CHAIN)
    index = np.array([8, 7, 10, 13])
    assert comes_from(record, index, 36).tolist() == [True, True, False, False]
    assert comes_from(record, index, 36, 37).tolist() == [True, True, False, False]
    assert comes_from(record, index, 24, 37).tolist() == [False, False, True, False]


def test_quarks_of_the_higgs_w():
    assert w_quarks(helpers.record(CHAIN, CHAIN)).tolist() == [10, 11, 24, 25]


@pytest.mark.parametrize(
    ("pdg", "flavour"),
    [
        *[(511, 5), (-521, 5), (5122, 5), (553, 5), (541, 5), (20513, 5), (421, 4), (-4122, 4), (443, 4)],
        *[(211, 0), (2212, 0), (310, 0), (5, 0), (4, 0), (5101, 0), (4203, 0), (22, 0), (1000020040, 0)],
    ],
)
def test_hadron_flavour_of_pdg_numbers(pdg, flavour):
    for number in (4, 5):
        assert has_quark(np.array([pdg]), number)[0] == (flavour == number)


def test_only_the_last_hadron_of_a_flavour_counts():
    decay = [
        (90, -11, 0, 1, 0, 0, 0),
        (513, -84, 0, 50, 0, 0, 5.3),
        (511, -91, 1, 50, 0, 0, 5.3),
        (-511, -92, 2, 50, 0, 0, 5.3),
        (411, -91, 3, 20, 0, 0, 1.9),
        (211, 91, 4, 10, 0, 0, 0.14),
    ]
    record = helpers.record(decay)
    assert last_hadrons(record, 5).tolist() == [3]
    assert last_hadrons(record, 4).tolist() == [4]


def test_visible_particles():
    particles = [
        (211, 83, 0, 5, 0, 0, 0.14),
        (12, 23, 0, 5, 0, 0, 0),
        (-14, 23, 0, 5, 0, 0, 0),
        (22, -51, 0, 5, 0, 0, 0),
        (211, 83, 0, 0.1, 0, 0, 0.14),
        (211, 83, 0, 5, 4.9, 0, 0.14),
        (211, 83, 0, 5, -5.1, 0, 0.14),
        (2212, 63, 0, 0, 0, 0, 0.94),
    ]
    seen = Constituent(pt_min=0.2, abs_eta_max=5)
    assert visible(helpers.record(particles), seen).tolist() == [0, 5]
