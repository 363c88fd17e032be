"""The sample in the repository: made by the shipped settings, readable, selected, physical."""

from __future__ import annotations

from importlib.metadata import version

import awkward as ak
import numpy as np
import pytest
import simulate_helpers as helpers
import uproot

from hepxai.core.fingerprint import fingerprint
from hepxai.simulate import read_provenance

SETTINGS = helpers.shipped_settings()
DETECTOR = SETTINGS.detector


@pytest.fixture(scope="module", params=["signal", "background"])
def sample(request):
    with uproot.open(helpers.SHIPPED / f"{request.param}.root") as file:
        return request.param, file["Events"].arrays(), file["cutflow"].values()


def dimuon_mass(events):
    pt, eta, phi = (events[f"Muon_{k}"] for k in ("pt", "eta", "phi"))
    opening = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    return ak.to_numpy(np.sqrt(2 * pt[:, 0] * pt[:, 1] * opening))


def test_made_by_the_shipped_settings(sample):
    name, events, cutflow = sample
    provenance = read_provenance(helpers.SHIPPED / f"{name}.root")
    assert provenance["parts"]["settings"] == fingerprint(SETTINGS.settings_of(name))
    assert provenance["selected"] == len(events) == cutflow[-1] >= 4000


def test_selection_holds(sample):
    _, events, _ = sample
    assert ak.all(events.nElectron == 1)
    assert ak.all(events.nMuon == 2)
    assert ak.all(ak.sum(events.Muon_charge, axis=1) == 0)
    assert ak.all(events.nJet >= 3)
    assert ak.all(ak.any(events.Jet_btag > DETECTOR.btag.threshold, axis=1))
    assert dimuon_mass(events).min() > 12
    for name, cuts in (("Electron", DETECTOR.electron), ("Muon", DETECTOR.muon), ("Jet", DETECTOR.jet)):
        assert ak.all(events[f"{name}_pt"] >= cuts.pt_min)
        assert ak.all(abs(events[f"{name}_eta"]) <= cuts.abs_eta_max)
        assert ak.all(events[f"{name}_pt"][:, :-1] >= events[f"{name}_pt"][:, 1:])


def test_values_are_finite(sample):
    _, events, _ = sample
    for field in events.fields:
        assert np.all(np.isfinite(ak.to_numpy(ak.flatten(events[field], axis=None)))), field
    assert ak.all(abs(events.Jet_phi) <= np.pi + 1e-6)
    assert ak.all((events.Jet_btag > 0) & (events.Jet_btag < 1))


def test_dimuon_peak(sample):
    name, events, _ = sample
    mass = dimuon_mass(events)
    expected, width = {"signal": (90.0, (0.8, 1.8)), "background": (91.19, (2.0, 3.5))}[name]
    assert np.median(mass) == pytest.approx(expected, abs=0.6)
    core = (np.percentile(mass, 75) - np.percentile(mass, 25)) / 1.349
    assert width[0] < core < width[1]


def test_truth(sample):
    name, events, _ = sample
    assert ak.mean(ak.flatten(events.Muon_fromResonance)) > 0.99
    for collection in ("Electron", "Muon", "Jet"):
        fraction = ak.mean(ak.flatten(events[f"{collection}_fromHp"]))
        assert (fraction > 0.05) if name == "signal" else (fraction == 0)
    if name == "signal":
        # The W of the H+ gives either the electron or jets.
        assert not ak.any(ak.any(events.Electron_fromHp, axis=1) & ak.any(events.Jet_fromHp, axis=1))
        assert ak.all(events.Muon_fromHp == events.Muon_fromResonance)


def test_tagging(sample):
    _, events, _ = sample
    flavour, score = ak.flatten(events.Jet_hadronFlavour), ak.flatten(events.Jet_btag)
    # One tag is required, which lifts the b efficiency a little.
    for code, low, high in ((5, 0.74, 0.84), (4, 0.13, 0.22), (0, 0.005, 0.016)):
        assert low < np.mean(score[flavour == code] > DETECTOR.btag.threshold) < high


def test_events_are_unique_across_the_samples():
    identities = set()
    total = 0
    for name in SETTINGS.samples:
        with uproot.open(helpers.SHIPPED / f"{name}.root") as file:
            run, event = file["Events"].arrays(["run", "event"], how=tuple)
        identities |= set(zip(run.tolist(), event.tolist(), strict=True))
        total += len(run)
    assert len(identities) == total


@pytest.mark.slow
def test_the_shipped_events_can_be_made_again(sample):
    pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
    pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")
    name, events, _ = sample
    shipped = read_provenance(helpers.SHIPPED / f"{name}.root")["versions"]
    if shipped != {package: version(package) for package in shipped}:
        pytest.skip("other package versions than those that made the shipped sample")
    made = helpers.simulation(name).make(0).columns
    first = events[events.luminosityBlock == 1]
    assert first.event.tolist() == made["event"].tolist()
    for column in ("MET_pt", "Muon_pt", "Electron_pfRelIso", "Jet_pt", "Jet_btag", "Jet_nConstituents"):
        flat = ak.to_numpy(ak.flatten(first[column], axis=None))
        # The generator is the same binary everywhere; numpy's vector units differ in the last bits.
        np.testing.assert_allclose(
            flat, made[column if column in made else column.replace("_", ".")], rtol=1e-5
        )


@pytest.mark.slow
def test_root_reads_it():
    root = pytest.importorskip("ROOT", reason="reading with ROOT needs the extra root", exc_type=ImportError)
    frame = root.RDataFrame("Events", str(helpers.SHIPPED / "signal.root"))
    assert frame.Filter("Sum(Muon_charge) == 0 && Muon_fromResonance[0]").Count().GetValue() > 4000
