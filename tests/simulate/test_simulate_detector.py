"""Leptons, jets and missing momentum on small hand-written events."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_helpers as helpers

from hepxai.simulate.charged_higgs.leptons import find_leptons
from hepxai.simulate.collection import Collection
from hepxai.simulate.truth import ELECTRON, MUON, kinematics, visible

pytest.importorskip("fastjet", reason="jets need the extra simulate")

from hepxai.simulate.charged_higgs.detector import missing_momentum, reconstruct, select_jets
from hepxai.simulate.jets import find_jets

DETECTOR = helpers.shipped_settings().detector
PERFECT = helpers.perfect(helpers.shipped_settings()).detector


def found(particles, pdg, lepton, *, seed=0, taken=None):
    record = helpers.record(*particles)
    objects = kinematics(record, visible(record, DETECTOR.jet.constituent))
    taken = np.zeros(len(objects), dtype=bool) if taken is None else taken
    return find_leptons(objects, pdg, lepton, np.random.default_rng(seed), taken)


def test_electron_gathers_its_photons_and_a_muon_does_not():
    event = [(11, 1, 0, 30, 0.5, 1, 0), (22, 1, 0, 10, 0.55, 1, 0), (22, 1, 0, 7, 0.5, 1.15, 0)]
    electron = found([event], ELECTRON, PERFECT.electron.model_copy(update={"isolation": _loose()}))
    assert electron.leptons["pt"] == pytest.approx([40])
    assert electron.used.tolist() == [True, True, False]
    assert electron.leptons["pfRelIso"] == pytest.approx([7 / 40])
    muon_event = [(13, *event[0][1:]), *event[1:]]
    muon = found([muon_event], MUON, PERFECT.muon.model_copy(update={"isolation": _loose()}))
    assert muon.leptons["pt"] == pytest.approx([30])
    assert muon.leptons["pfRelIso"] == pytest.approx([17 / 30])


def _loose():
    return DETECTOR.electron.isolation.model_copy(update={"maximum": 10.0})


def test_a_photon_between_two_electrons_belongs_to_the_nearer():
    event = [(11, 1, 0, 40, 0, 0, 0), (-11, 1, 0, 30, 0.12, 0, 0), (22, 1, 0, 5, 0.05, 0, 0)]
    electrons = found([event], ELECTRON, PERFECT.electron).leptons
    assert electrons["pt"] == pytest.approx([45, 30])
    assert electrons["charge"].tolist() == [-1, 1]


def test_acceptance_isolation_and_threshold():
    lonely = [(13, 1, 0, 30, 0, 0, 0.1)]
    in_jet = [(13, 1, 0, 30, 0, 0, 0.1), (211, 1, 0, 20, 0.1, 0, 0.14)]
    soft = [(13, 1, 0, 14, 0, 0, 0.1)]
    forward = [(13, 1, 0, 30, 2.45, 0, 0.1)]
    result = found([lonely, in_jet, soft, forward], MUON, PERFECT.muon)
    assert result.leptons.counts.tolist() == [1, 0, 0, 0]
    # Forward muons leave nothing behind; soft and unisolated ones stay part of the jets.
    assert result.lost.tolist() == [False, False, False, False, True]


def test_muons_are_found_with_the_given_efficiency_and_resolution():
    n = 20_000
    result = found([[(13, 1, 0, 50, 0, 0, 0.1)]] * n, MUON, DETECTOR.muon)
    expected = DETECTOR.muon.efficiency.plateau
    assert len(result.leptons) / n == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))
    assert len(result.leptons) + result.lost.sum() == n
    assert result.leptons["pt"].mean() == pytest.approx(50, abs=0.02)
    assert result.leptons["pt"].std() / 50 == pytest.approx(np.hypot(0.010, 1e-4 * 50), rel=0.05)


def test_electron_that_is_not_found_stays_in_the_jets():
    n = 2000
    result = found([[(11, 1, 0, 50, 0, 0, 0)]] * n, ELECTRON, DETECTOR.electron)
    assert not result.lost.any()
    assert result.used.sum() == len(result.leptons) < 0.95 * n


def antikt(momenta, radius):
    """Anti-kt by its definition: merge the pair or beam distance that is smallest. Rapidity, E scheme."""
    left = [np.array(p) for p in momenta]
    jets = []
    while left:
        kt2 = [p[0] ** 2 + p[1] ** 2 for p in left]
        rapidity = [0.5 * np.log((p[3] + p[2]) / (p[3] - p[2])) for p in left]
        phi = [np.arctan2(p[1], p[0]) for p in left]
        best = min((1 / kt2[i], i, None) for i in range(len(left)))
        for i in range(len(left)):
            for j in range(i):
                dphi = np.remainder(phi[i] - phi[j] + np.pi, 2 * np.pi) - np.pi
                distance = ((rapidity[i] - rapidity[j]) ** 2 + dphi**2) / radius**2
                best = min(best, (min(1 / kt2[i], 1 / kt2[j]) * distance, i, j), key=lambda x: x[0])
        _, i, j = best
        if j is None:
            jets.append(left.pop(i))
        else:
            left[j] = left[j] + left.pop(i)
    return sorted(jets, key=lambda p: -np.hypot(p[0], p[1]))


def random_events(n=5, size=25):
    rng = np.random.default_rng(3)

    def row():
        return (211, 1, 0, rng.exponential(6) + 0.3, rng.normal(0, 1), rng.uniform(-3, 3), 0.14)

    return [[row() for _ in range(size)] for _ in range(n)] + [[]]


def test_jets_are_anti_kt():
    record = helpers.record(*random_events())
    jets = find_jets(record, np.arange(len(record.id)), 0.4)[0].pt_ordered()
    momenta = np.stack([record.px, record.py, record.pz, record.energy], axis=1)
    slow = [antikt(momenta[record.event == e], 0.4) for e in range(record.n_events)]
    hard = [(e, j) for e, event in enumerate(slow) for j in event if np.hypot(j[0], j[1]) > 5]
    assert jets.event.tolist() == [e for e, _ in hard]
    np.testing.assert_allclose(jets["pt"], [np.hypot(*j[:2]) for _, j in hard])
    masses = [np.sqrt(j[3] ** 2 - j[:3] @ j[:3]) for _, j in hard]
    np.testing.assert_allclose(jets["mass"], masses, atol=1e-5)


def test_ghost_hadrons_give_the_flavour_and_change_nothing_else():
    pions = [(211, 1, 0, 20, 0, 0, 0.14), (211, 1, 0, 30, 0, 2, 0.14), (211, 1, 0, 25, 0, -2, 0.14)]
    hadrons = [
        (511, -83, 0, 40, 0.1, 0.1, 5.3),
        (411, -91, 3, 20, 0.1, 0.0, 1.9),
        (421, -83, 0, 9, 0, 2, 1.9),
    ]
    jets = find_jets(helpers.record(pions + hadrons), np.arange(3), 0.4)[0].pt_ordered()
    assert jets["pt"] == pytest.approx([30, 25, 20])
    assert jets["hadronFlavour"].tolist() == [4, 0, 5]
    assert jets["nConstituents"].tolist() == [1, 1, 1]


def test_jets_near_leptons_are_dropped_and_higgs_quarks_matched_once():
    record = helpers.record(
        [
            (37, -22, 0, 40, 0, 0, 130),
            (24, -22, 0, 40, 0, 0, 30),
            (2, -23, 1, 30, 0.1, 0, 0.3),
            (-1, -23, 1, 30, 2.0, 0, 0.3),
        ]
    )
    columns = {
        "pt": np.array([50.0, 40, 35, 15]),
        "eta": np.array([0.0, 0.3, -1, 2]),
        "phi": np.array([0.0, 0, 2, 0]),
    }
    columns |= {"true_pt": columns["pt"], "hadronFlavour": np.zeros(4, dtype=int)}
    jets = Collection(np.zeros(4, dtype=int), columns, 1)
    lepton = Collection(np.zeros(1, dtype=int), {"eta": np.array([-1.3]), "phi": np.array([2.1])}, 1)
    chosen = select_jets(jets, (lepton,), record, PERFECT, np.random.default_rng(0))
    assert chosen["pt"].tolist() == [50, 40]
    assert chosen["fromHp"].tolist() == [True, False]


def test_a_perfect_detector_measures_the_invisible_momentum():
    record = helpers.record(*random_events())
    objects = kinematics(record, visible(record, PERFECT.jet.constituent))
    jets = find_jets(record, objects["record"], 0.4)[0]
    jets = jets.adding(true_pt=jets["pt"], true_phi=jets["phi"])
    pt, phi = missing_momentum(objects, (), jets, PERFECT, np.random.default_rng(0))
    for name, component in (("px", np.cos), ("py", np.sin)):
        total = np.bincount(record.event, weights=getattr(record, name), minlength=record.n_events)
        np.testing.assert_allclose(pt * component(phi), -total, atol=1e-9)


def test_soft_term_is_smeared_by_the_root_of_its_sum():
    record = helpers.record(*[[(211, 1, 0, 4, 0, 0.3 * k, 0.14) for k in range(20)]] * 4000)
    objects = kinematics(record, np.arange(len(record.id)))
    nothing = objects.take(np.zeros(len(objects), dtype=bool))
    empty = nothing.adding(true_pt=nothing["pt"], true_phi=nothing["phi"])
    pt, phi = missing_momentum(objects, (), empty, DETECTOR, np.random.default_rng(0))
    assert np.std(pt * np.cos(phi)) == pytest.approx(0.6 * np.sqrt(80), rel=0.05)


def test_events_without_particles_survive():
    events = reconstruct(helpers.record([], [], weight=[1, 1]), DETECTOR, 36, np.random.default_rng(0))
    assert events.met_pt.tolist() == [0, 0]
    assert events.muons.counts.tolist() == events.jets.counts.tolist() == [0, 0]
