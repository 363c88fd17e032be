"""Jets: constituents, energy fractions, tracks, scores and truth, on hand-written events."""

from __future__ import annotations

import math

import multijet_helpers as helpers
import numpy as np
import pytest

from hepxai.simulate.collection import Collection
from hepxai.simulate.jets import Constituents, nearest_jets
from hepxai.simulate.jets import find_jets as cluster
from hepxai.simulate.multijet.substructure import (
    energy_fractions,
    likelihood_terms,
    quark_gluon_score,
    substructure,
)
from hepxai.simulate.multijet.truth import decay_quarks, parton_flavour
from hepxai.simulate.truth import visible

pytest.importorskip("fastjet", reason="jets need the extra simulate")

DETECTOR = helpers.shipped_settings().detector
PION, PHOTON, NEUTRON, MUON, NEUTRINO, B_HADRON = 211, 22, 2112, 13, 12, 521


def random_event(seed, particles=60):
    """Pions, photons, neutrons and muons in four directions."""
    rng = np.random.default_rng(seed)
    axis = rng.integers(0, 4, particles)
    return [
        (
            rng.choice([PION, -PION, PHOTON, NEUTRON, MUON], p=[0.35, 0.3, 0.25, 0.08, 0.02]),
            1,
            0,
            rng.exponential(8) + 0.3,
            -1.5 + axis[i] + rng.normal(0, 0.1),
            1.5 * axis[i] + rng.normal(0, 0.1),
            0.139,
        )
        for i in range(particles)
    ]


def find_jets(record):
    return cluster(record, visible(record, DETECTOR.jet.constituent), DETECTOR.jet.radius)


def perfect(resolution):
    return resolution.model_copy(update={"constant": 0.0, "stochastic": 0.0, "noise": 0.0, "linear": 0.0})


def perfect_tracks():
    tracks = DETECTOR.tracks
    always = tracks.efficiency.model_copy(update={"plateau": 1.0, "half_point": -1e3})
    return tracks.model_copy(
        update={"efficiency": always, "resolution": tuple(map(perfect, tracks.resolution))}
    )


def perfect_fractions():
    return DETECTOR.fractions.model_copy(
        update={name: perfect(getattr(DETECTOR.fractions, name)) for name in ("em", "hadron", "muon")}
    )


def test_constituents_are_what_the_jet_is_made_of():
    event = helpers.record(random_event(1), random_event(2))
    jets, inside = find_jets(event)
    assert len(jets) > 4
    for name in ("px", "py", "pz"):
        summed = np.bincount(inside.jet, weights=getattr(event, name)[inside.particle], minlength=len(jets))
        pt, phi = jets["pt"], jets["phi"]
        expected = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(jets["eta"])}[name]
        np.testing.assert_allclose(summed, expected, rtol=1e-6)
    np.testing.assert_array_equal(event.event[inside.particle], jets.event[inside.jet])
    assert not np.any(np.diff(inside.jet) < 0)


def test_an_event_alone_is_the_event_in_a_batch():
    batch = find_jets(helpers.record(random_event(3), random_event(4)))[0]
    alone = find_jets(helpers.record(random_event(4)))[0]
    second = batch.take(batch.event == 1)
    for name in ("pt", "eta", "phi", "mass"):
        np.testing.assert_allclose(second[name], alone[name], rtol=1e-12)


def test_neutrinos_are_not_seen_and_b_hadrons_only_mark():
    event = [
        (90, -11, 0, 1.0, 0.0, 0.0, 0.0),  # the event itself
        (B_HADRON, -1, 0, 60.0, 0.0, 0.0, 5.28),
        (PION, 1, 0, 50.0, 0.0, 0.0, 0.139),
        (NEUTRINO, 1, 0, 40.0, 0.0, 0.01, 0.0),
    ]
    jets, inside = find_jets(helpers.record(event))
    assert jets["hadronFlavour"].tolist() == [5]
    assert inside.particle.tolist() == [2]
    assert jets["pt"] == pytest.approx([50.0])


def test_constituents_of_chosen_jets():
    inside = Constituents(np.array([0, 0, 1, 2, 2]), np.array([7, 3, 5, 1, 2]))
    chosen = inside.of(np.array([2, 0]))
    assert chosen.jet.tolist() == [0, 0, 1, 1]
    assert chosen.particle.tolist() == [1, 2, 7, 3]
    assert inside.of(np.array([], dtype=int)).jet.tolist() == []


def test_fractions_are_those_of_the_constituents_and_add_up():
    event = helpers.record(random_event(5))
    jets, inside = find_jets(event)
    found = energy_fractions(event, inside, len(jets), perfect_fractions(), np.random.default_rng(0))
    for jet in range(len(jets)):
        members = inside.particle[inside.jet == jet]
        energy = {"emEF": 0.0, "hadEF": 0.0, "muEF": 0.0}
        for particle in members:
            kind = {PHOTON: "emEF", MUON: "muEF"}.get(int(event.id[particle]), "hadEF")
            energy[kind] += event.energy[particle]
        for name, value in energy.items():
            assert found[name][jet] == pytest.approx(value / sum(energy.values()))
    smeared = energy_fractions(event, inside, len(jets), DETECTOR.fractions, np.random.default_rng(0))
    np.testing.assert_allclose(sum(smeared.values()), 1, rtol=1e-12)
    assert not np.allclose(smeared["emEF"], found["emEF"])


def test_substructure_is_the_formula():
    event = helpers.record(random_event(6), random_event(7))
    jets, inside = find_jets(event)
    found = substructure(event, inside, jets, perfect_tracks(), np.random.default_rng(0))
    for jet in range(len(jets)):
        pts, moments = [], []
        for particle in inside.particle[inside.jet == jet]:
            pt = math.hypot(event.px[particle], event.py[particle])
            eta = math.asinh(event.pz[particle] / pt)
            phi = math.atan2(event.py[particle], event.px[particle])
            if int(event.id[particle]) in (PHOTON, NEUTRON) or pt <= 1 or abs(eta) >= 2.5:
                continue
            turn = math.remainder(phi - jets["phi"][jet], 2 * math.pi)
            pts.append(pt)
            moments.append(pt * math.hypot(eta - jets["eta"][jet], turn))
        assert found["nConstituents"][jet] == len(pts)
        if pts:
            assert found["width"][jet] == pytest.approx(sum(moments) / sum(pts))
            assert found["ptD"][jet] == pytest.approx(math.sqrt(sum(p * p for p in pts)) / sum(pts))


def test_a_jet_without_tracks_is_finite():
    event = helpers.record([(PHOTON, 1, 0, 80.0, 0.0, 0.0, 0.0)])
    jets, inside = find_jets(event)
    found = substructure(event, inside, jets, DETECTOR.tracks, np.random.default_rng(0))
    assert {k: v.tolist() for k, v in found.items()} == {"nConstituents": [0], "width": [0], "ptD": [0]}
    score = quark_gluon_score(jets.adding(**found), DETECTOR.quark_gluon)
    assert 0 < score[0] < 1


def test_the_score_is_the_logistic_function_of_the_logarithms():
    jets = Collection(
        np.zeros(2, int),
        {
            "nConstituents": np.array([4, 20]),
            "width": np.array([0.03, 0.15]),
            "ptD": np.array([0.8, 0.3]),
            "pt": np.array([120.0, 120.0]),
        },
        1,
    )
    score = quark_gluon_score(jets, DETECTOR.quark_gluon)
    c, pt = DETECTOR.quark_gluon, math.log(1.2)
    n, w = math.log(5), math.log(0.04)
    ratio = c.intercept + c.log_tracks * n + c.log_width * w + c.pt_d * 0.8 + c.log_pt * pt
    ratio += c.log_tracks_log_pt * n * pt + c.log_width_log_pt * w * pt
    assert score[0] == pytest.approx(1 / (1 + math.exp(-ratio)))
    assert score[0] > 0.8 > 0.2 > score[1]
    assert likelihood_terms(jets).keys() == type(c).model_fields.keys()


def jets_at(*places):
    eta, phi = np.array(places).T
    columns = {"pt": np.full(len(eta), 50.0), "eta": eta, "phi": phi}
    return Collection(np.zeros(len(eta), int), columns, 1)


def test_parton_flavour_is_that_of_the_hardest_parton_of_the_shower():
    event = helpers.record(
        [
            (2212, -12, 0, 1.0, 5.0, 0.0, 0.9),
            (21, -23, 0, 90.0, 0.0, 0.0, 0.0),  # the gluon that was
            (1, -51, 1, 60.0, 0.1, 0.0, 0.0),  # splits
            (2, -41, 0, 200.0, 0.0, 0.1, 0.0),  # an incoming parton does not count
            (3, 1, 0, 99.0, 0.0, 0.1, 0.0),  # nor what is no outgoing parton
            (-4, -43, 0, 40.0, 1.0, 2.0, 1.5),
            (5, -23, 0, 4.0, -2.0, 2.0, 4.8),  # too soft
        ]
    )
    jets = jets_at((0.05, 0.0), (1.1, 2.1), (-2.0, 2.0))
    assert parton_flavour(jets, event, 0.4).tolist() == [21, -4, 0]


def test_quarks_of_the_top_are_matched_to_the_nearest_jet():
    event = helpers.record(
        [
            (90, -11, 0, 1.0, 0.0, 0.0, 0.0),  # the event itself
            (6, -22, 0, 100.0, 0.0, 0.0, 173.0),
            (6, -62, 1, 105.0, 0.0, 0.0, 173.0),
            (24, -22, 2, 60.0, 0.5, 0.0, 80.0),
            (5, -23, 2, 60.0, -1.0, 0.0, 4.8),
            (24, -52, 3, 60.0, 0.5, 0.0, 80.0),
            (1, -23, 5, 40.0, 1.0, 0.0, 0.0),
            (-2, -23, 5, 40.0, 0.0, 3.0, 0.0),
            (5, -23, 0, 40.0, 2.0, -2.0, 4.8),  # not from the top
            (24, -22, 0, 60.0, 0.5, 0.0, 80.0),
            (3, -23, 9, 40.0, -2.0, -2.0, 0.0),  # nor this W
        ]
    )
    assert decay_quarks(event).tolist() == [4, 6, 7]
    jets = jets_at((-1.1, 0.0), (1.3, 0.0), (1.05, 0.0), (2.0, -2.0), (-2.0, -2.0))
    assert nearest_jets(event, decay_quarks(event), jets, 0.4).tolist() == [True, False, True, False, False]
