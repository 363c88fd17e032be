"""The multijet sample in the repository: made by the shipped settings, selected, weighted, physical."""

from __future__ import annotations

from importlib.metadata import version

import awkward as ak
import multijet_helpers as helpers
import numpy as np
import pytest
import uproot

from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard, read
from hepxai.simulate import read_provenance
from hepxai.simulate.multijet.simulation import Multijet

SETTINGS = helpers.shipped_settings()


@pytest.fixture(scope="module", params=["signal", "background"])
def sample(request):
    with uproot.open(helpers.SHIPPED / f"{request.param}.root") as file:
        return request.param, file["Events"].arrays()


def test_made_by_the_shipped_settings(sample):
    name, events = sample
    provenance = read_provenance(helpers.SHIPPED / f"{name}.root")
    assert provenance["parts"]["settings"] == fingerprint(SETTINGS.settings_of(name))
    assert provenance["selected"] == len(events) >= 3000


def test_small_enough_to_ship():
    assert sum(path.stat().st_size for path in helpers.SHIPPED.glob("*.root")) < 3e6


def test_selection_holds(sample):
    _, events = sample
    assert ak.all(events.nJet >= SETTINGS.selection.jets_min)
    assert ak.all(events["HT"] > SETTINGS.selection.ht_min)
    np.testing.assert_allclose(events.HT, ak.sum(events.Jet_pt, axis=1), rtol=1e-5)
    assert ak.all(events.Jet_pt >= SETTINGS.detector.jet.pt_min)
    assert ak.all(abs(events.Jet_eta) <= SETTINGS.detector.jet.abs_eta_max)
    assert ak.all(events.Jet_pt[:, :-1] >= events.Jet_pt[:, 1:])


def test_weights(sample):
    name, events = sample
    weight = ak.to_numpy(events.genWeight).astype(float)
    assert weight.sum() == pytest.approx({"signal": 34, "background": 6000}[name], rel=0.1)
    effective = weight.sum() ** 2 / np.sum(weight**2) / len(weight)
    assert effective > {"signal": 0.99, "background": 0.6}[name]


def test_scores_tell_flavours_apart(sample):
    _, events = sample
    parton = ak.to_numpy(abs(ak.flatten(events.Jet_partonFlavour)))
    hadron = ak.to_numpy(ak.flatten(events.Jet_hadronFlavour))
    btag, qgl = (ak.to_numpy(ak.flatten(events[f"Jet_{k}"])) for k in ("btag", "qgl"))
    for code, low, high in ((5, 0.72, 0.82), (4, 0.12, 0.23), (0, 0.004, 0.018)):
        assert low < np.mean(btag[hadron == code] > SETTINGS.detector.btag.threshold) < high
    light = (parton >= 1) & (parton <= 3) & (hadron == 0)
    assert 0.7 < separation(qgl[light], qgl[parton == 21]) < 0.85


def separation(high, low):
    """Probability that one of ``high`` exceeds one of ``low``: the area under the ROC curve."""
    return np.mean(np.searchsorted(np.sort(low), high) / len(low))


def test_tops_are_in_the_signal_alone(sample):
    name, events = sample
    found = ak.mean(ak.sum(events.Jet_fromTop, axis=1))
    assert (4.5 < found < 6) if name == "signal" else (found == 0)


def test_the_card_reads_the_seeds_table():
    events = read(DatasetCard.find("ttbar_qcd")).events
    names = tuple(events.schema.globals)
    per_jet = ("pt", "eta", "phi", "mass", "btag", "qgl", "em", "had", "mu")
    assert names[:36] == tuple(f"jet{n}_{k}" for n in range(1, 5) for k in per_jet)
    assert names[36:] == ("n_jets", "n_bjets", "ht", "mean_delta_r")
    assert events.schema.classes == ("qcd", "ttbar")
    assert np.isfinite(events.globals).all()
    np.testing.assert_allclose(np.bincount(events.split) / len(events), [0.6, 0.1, 0.3], atol=0.02)


def test_mean_delta_r_is_over_the_pairs_of_an_event():
    events = read(DatasetCard.find("ttbar_qcd")).events
    column = events.globals[:, tuple(events.schema.globals).index("mean_delta_r")]
    for number in (0, 17, len(events) - 1):
        rows = slice(events.offsets[number], events.offsets[number + 1])
        eta, phi = events.p4[rows, 1], events.p4[rows, 2]
        i, j = np.triu_indices(len(eta), 1)
        turn = np.remainder(phi[i] - phi[j] + np.pi, 2 * np.pi) - np.pi
        assert column[number] == pytest.approx(np.hypot(eta[i] - eta[j], turn).mean(), rel=1e-5)


@pytest.mark.slow
def test_the_shipped_events_can_be_made_again(sample):
    pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
    pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")
    name, events = sample
    provenance = read_provenance(helpers.SHIPPED / f"{name}.root")
    shipped = provenance["versions"]
    if shipped != {package: version(package) for package in shipped}:
        pytest.skip("other package versions than those that made the shipped sample")
    index = {"signal": 0, "background": 3}[name]
    made = Multijet(SETTINGS, name).make(index).columns
    first = events[events.luminosityBlock == index + 1]
    assert first.event.tolist() == made["event"].tolist()
    for column in ("HT", "Jet_pt", "Jet_btag", "Jet_qgl", "Jet_emEF", "Jet_nConstituents", "Jet_fromTop"):
        flat = ak.to_numpy(ak.flatten(first[column], axis=None))
        # The generator is the same binary everywhere; numpy's vector units differ in the last bits.
        np.testing.assert_allclose(
            flat, made[column if column in made else column.replace("_", ".", 1)], rtol=1e-5
        )
