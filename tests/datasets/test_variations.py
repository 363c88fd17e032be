"""Variations: what a varied card reads is what a file or a card made by hand gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import CARD, write_rntuple, write_ttree
from varied_ntuples import JETS, SCALE, Columns, card_in, folder, need_equal, plain, varied

from hepxai.datasets import DatasetCard, read
from hepxai.events import pair_events


@pytest.mark.parametrize(
    "alternative",
    [
        {"expressions": {"jet.pt": "pt * 1"}},
        {"expressions": {k: e.format("1.0") for k, e in SCALE.items()}},
        {"expressions": {"jet.px": "px + 0", "jet.py": "py", "muon.eta": "eta", "met.phi": "phi - 0.0"}},
        {"expressions": {"muon.pt": "nominal.muon.pt", "jet.btag": "btag * 1.0", "muon.charge": "charge"}},
        {"expressions": {"ht": "nominal.ht_raw * 0 + sum(jet.pt)", "ht_raw": "sum(Jet_pt)"}},
        {"branches": {"Jet_pt": "Jet_pt_same", "MET_phi": "MET_phi_same"}},
        {"branches": {"Jet_{}": "Jet_{}_same"}},
        {"weight": "1"},
        {"weight": "genWeight / genWeight"},
    ],
)
def test_no_shift_changes_no_bit(tmp_path: Path, alternative: Any) -> None:
    same = ("Jet_pt", "Jet_eta", "Jet_btag", "MET_phi")
    folder(tmp_path, lambda c: c | {f"{n}_same": c[n] for n in same})
    text = CARD.replace("new_variables:\n", "new_variables:\n  ht_raw: sum(Jet_pt)\n")
    need_equal(varied(tmp_path, alternative, text=text), plain(tmp_path, text=text))


@pytest.mark.parametrize(
    "branches", ["{px: P_px, py: P_py, pz: P_pz, E: P_E}", "{pt: P_pt, eta: P_eta, phi: P_phi, E: P_E}"]
)
@pytest.mark.parametrize("expression", ["jet.pt: pt * 1.0", "jet.pz: pz + 0"])
def test_no_shift_changes_no_bit_of_momenta_with_energies(
    tmp_path: Path, branches: str, expression: str
) -> None:
    """Most roundings of px from pt from px, and of E from m from E, would be seen."""
    text = re.sub(r"branches: Jet_{}", f"branches: {branches}", CARD).replace("features: {btag: btag}", "", 1)
    text = (
        text.replace("order_by: -btag", "")
        .replace(", btag", "")
        .replace("missing:\n  Jet_btag: {values: [-1], replace: 0}\n", "")
    )
    folder(tmp_path, with_energies)
    alternative = {"expressions": dict([expression.split(": ")])}
    need_equal(varied(tmp_path, alternative, text=text), plain(tmp_path, text=text))


def with_energies(columns: Columns) -> Columns:
    pt, eta, phi, mass = (columns[n] for n in JETS)
    p = {
        "pt": pt,
        "eta": eta,
        "phi": phi,
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
    }
    p["E"] = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    return columns | {f"P_{k}": ak.values_astype(v, np.float32) for k, v in p.items()}


@pytest.mark.parametrize("write", [write_ttree, write_rntuple])
@pytest.mark.parametrize(
    ("branches", "exchanged"),
    [
        (
            {"Jet_pt": "Jet_pt_jesUp", "MET_pt": "MET_pt_jesDown"},
            {"Jet_pt": "Jet_pt_jesUp", "MET_pt": "MET_pt_jesDown"},
        ),
        ({"Jet_{}": "Jet_{}_jesUp"}, {"Jet_pt": "Jet_pt_jesUp", "Jet_mass": "Jet_mass_jesUp"}),
        (
            {"Jet_pt": "Jet_pt_jesUp", "Jet_{}": "Jet_{}_jesDown"},
            {"Jet_pt": "Jet_pt_jesUp", "Jet_mass": "Jet_mass_jesDown"},
        ),
        ({"genWeight": "genWeight_jesUp"}, {"genWeight": "genWeight_jesUp"}),
    ],
)
def test_exchanged_branches_are_those_of_a_file_with_them(
    tmp_path: Path, branches: dict[str, str], exchanged: dict[str, str], write: Any
) -> None:
    """In patterns, new variables, observers and weights alike; missing values are those of the nominal."""
    text = CARD.replace("n_raw: nJet * 1", "raw: sum(Jet_pt) + MET_pt").replace(
        "missing:\n", "missing:\n  MET_pt: {values: [-5], replace: 7}\n"
    )

    def with_missing(columns: Columns) -> Columns:
        for name in ("MET_pt", "MET_pt_jesDown"):
            columns[name][::4] = -5
        return columns

    here = folder(tmp_path / "a", with_missing, write)
    there = folder(
        tmp_path / "b", lambda c: (w := with_missing(c)) | {n: w[o] for n, o in exchanged.items()}, write
    )
    events, expected = varied(here, {"branches": branches}, text=text), plain(there, text=text)
    need_equal(events, expected)
    assert (
        expected.fingerprint(values=True) != plain(here, text=text).fingerprint(values=True)
        or "genWeight" in branches
    )


def test_expressions_are_the_shift_made_by_hand(tmp_path: Path) -> None:
    """All jets of the file move, and the missing momentum takes the opposite, before any cut."""

    def by_hand(columns: Columns) -> Columns:
        pt, phi, met, angle = (columns[n] for n in ("Jet_pt", "Jet_phi", "MET_pt", "MET_phi"))
        scaled = pt * np.float32(1.3)
        px = met * np.cos(angle) - ak.to_numpy(ak.sum((scaled - pt) * np.cos(phi), axis=1))
        py = met * np.sin(angle) - ak.to_numpy(ak.sum((scaled - pt) * np.sin(phi), axis=1))
        moved = {"MET_pt": np.hypot(px, py), "MET_phi": np.arctan2(py, px)}
        moved = {k: v.astype(np.float32) for k, v in moved.items()}
        return columns | moved | {"Jet_pt": scaled, "Jet_mass": columns["Jet_mass"] * np.float32(1.3)}

    here, there = folder(tmp_path / "a"), folder(tmp_path / "b", by_hand)
    events = varied(here, {"expressions": {k: e.format(1.3) for k, e in SCALE.items()}})
    expected = plain(there)
    np.testing.assert_array_equal(events.entry, expected.entry)
    np.testing.assert_array_equal(events.split, expected.split)
    jets = events.is_type("jet")
    np.testing.assert_array_equal(events.particles[jets], expected.particles[jets])
    np.testing.assert_array_equal(events.globals, expected.globals)
    met = events.is_type("met")
    np.testing.assert_allclose(events.p4[met], expected.p4[met], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(events.particles[met], expected.particles[met], rtol=1e-4, atol=1e-4)


def test_vector_sum_of_all_momenta_does_not_move(files: Path) -> None:
    """Without cuts, jets and missing momentum balance each other."""
    text = CARD.replace("    cuts: abs(eta) < 2.4\n", "").replace("    max: 3\n", "")
    text = text.replace("  met: met.pt > 5 or trigger\n", "")
    events, nominal = (
        varied(files, {"expressions": {k: e.format(0.7) for k, e in SCALE.items()}}, text=text),
        plain(files, text=text),
    )
    for name in ("px", "py"):
        sums = [np.bincount(e.parent, weights=e.values_of(name), minlength=len(e)) for e in (events, nominal)]
        np.testing.assert_allclose(*sums, atol=1e-3)


def test_threshold_of_the_propagation(files: Path) -> None:
    """Only jets that were above 20 GeV are propagated, whatever they are afterwards."""
    shift = "(shifted.jet.{0} - nominal.jet.{0})[nominal.jet.pt > 20]"
    soft = {f"met.{c}": f"{c} - sum({shift.format(c)})" for c in ("px", "py")}
    events = varied(files, {"expressions": {"jet.pt": "where(pt > 20, pt, pt * 1.5)"} | soft})
    nominal = plain(files)
    pairs = pair_events(nominal, events)
    before, after = (
        e.p4[e.is_type("met")][rows] for e, rows in ((nominal, pairs.first), (events, pairs.second))
    )
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_events_migrate_both_ways_and_pair(files: Path, factor: float) -> None:
    """At most 2 muons above, and 1 above a higher threshold: a scale moves events in and out."""
    text = CARD.replace("  some muon: count(muon) >= 1\n", "  one: count(muon[muon.pt > 25]) == 1\n")
    events, nominal = (
        varied(files, {"expressions": {"muon.pt": f"pt * {factor}"}}, text=text),
        plain(files, text=text),
    )
    pairs = pair_events(nominal, events)
    assert len(pairs.first) > 20
    assert len(pairs.only_first) > 2
    assert len(pairs.only_second) > 2
    for name in ("file", "entry", "run", "luminosity_block", "event", "split", "label", "weight"):
        np.testing.assert_array_equal(
            getattr(nominal, name)[pairs.first], getattr(events, name)[pairs.second]
        )
    passed = {(f, e) for f, e in zip(nominal.file.tolist(), nominal.entry.tolist(), strict=True)}
    came = events[pairs.only_second]
    assert not passed & set(zip(came.file.tolist(), came.entry.tolist(), strict=True))
    everything = plain(files, "selection=event >= 0", "particles.muon.cuts=pfRelIso < 0.8", text=text)
    pt = everything.p4[:, 0] * np.float32(factor)
    hard = everything.is_type("muon") & (pt > 25)
    n = np.bincount(everything.parent[hard], minlength=len(everything))
    trigger = read(card_in(files, {}, "selection=trigger or met.pt > 5")).events
    allowed = set(zip(trigger.file.tolist(), trigger.entry.tolist(), strict=True))
    expected = [
        p
        for p, k in zip(zip(everything.file.tolist(), everything.entry.tolist(), strict=True), n, strict=True)
        if k == 1 and p in allowed
    ]
    assert expected == list(zip(events.file.tolist(), events.entry.tolist(), strict=True))


def test_order_and_limit_follow_the_shift(files: Path) -> None:
    """The three leading jets in b-tag are others where the b-tag is turned around."""
    events = varied(files, {"expressions": {"jet.btag": "1 - btag"}})
    expected = plain(files, "particles.jet.features.btag=1 - take(Jet_btag, index)")
    need_equal(events, expected)


@pytest.mark.parametrize("weight", ["1 - 0.4 * count(muon)", "genWeight", "0", "nth(jet.pt * 0 + 2, 0)"])
def test_a_weight_is_reweighting_by_hand(files: Path, weight: str) -> None:
    """Signed, with the same events and particles."""
    defined = f"where(isfinite({weight}), {weight}, -1)"
    events, nominal = varied(files, {"weight": defined}), plain(files)
    need_equal(events, nominal, but=("weight",))
    factor = plain(files, f"observers.factor={defined}").observers["factor"]
    np.testing.assert_array_equal(events.weight, nominal.weight * factor)
    assert (events.weight < 0).any() or weight in ("0", "genWeight")


def test_a_weight_sees_the_shifted_quantities(files: Path) -> None:
    shift = {"expressions": {"jet.btag": "btag + 0.2"}}
    weight = "1 + sum(jet.btag) - sum(nominal.jet.btag[abs(nominal.jet.eta) < 9])"
    events = varied(
        files, shift | {"weight": weight}, "particles.jet={branches: 'Jet_{}', features: {btag: btag}}"
    )
    n_jets = np.bincount(events.parent[events.is_type("jet")], minlength=len(events))
    nominal = plain(files)
    np.testing.assert_array_equal(events.entry, nominal.entry)
    np.testing.assert_allclose(events.weight, nominal.weight * (1 + 0.2 * n_jets), rtol=1e-5)


def test_chunks_do_not_matter(files: Path) -> None:
    card = card_in(files, {"one": {"expressions": {k: e.format(1.1) for k, e in SCALE.items()}}}).varied(
        "one"
    )
    need_equal(read(card, chunk=60).events, read(card).events)


def test_new_variables_and_globals_are_redefined(files: Path) -> None:
    """A new variable wherever it is used; a global there only."""
    text = CARD.replace("new_variables:\n", "new_variables:\n  activity: sum(Jet_pt)\n")
    text = text.replace("  n_raw: nJet * 1", "  activity: activity\n  n: count(jet)")
    alternative = {
        "expressions": {
            "activity": "nominal.activity * 2 + shifted.met.pt",
            "n_jets": "count(jet) + nominal.activity",
        }
    }
    events, nominal = varied(files, alternative, text=text), plain(files, text=text)
    met, activity = nominal.p4[nominal.is_type("met"), 0], nominal.observers["activity"]
    np.testing.assert_allclose(events.observers["activity"], 2 * activity + met, rtol=1e-6)
    np.testing.assert_allclose(events.globals[:, 1], nominal.globals[:, 1] + activity, rtol=1e-5)
    need_equal(events, nominal, but=("observers.activity", "globals"))


def test_identity_and_split_never_move(tmp_path: Path) -> None:
    """Even where the branch of the event number is exchanged, and where files have no event numbers."""
    folder(tmp_path, lambda c: c | {"other": c["event"] + 7})
    events, nominal = varied(tmp_path, {"branches": {"event": "other"}}), plain(tmp_path)
    need_equal(events, nominal)
    for name in ("event", "run"):
        folder(tmp_path, lambda c, name=name: {k: v for k, v in c.items() if k != name})
        nominal = plain(tmp_path)
        events = varied(tmp_path, {"expressions": {"jet.pt": "pt * 1.0"}})
        need_equal(events, nominal)


def test_units_and_flat_branches(tmp_path: Path) -> None:
    """Expressions are in GeV whatever the file is in; one expression for all places of a flat ntuple."""
    rng, n = np.random.default_rng(0), 50
    columns = {f"{q}{i}": rng.uniform(1, 3, n) for q in ("eta", "phi") for i in (1, 2)}
    columns |= {f"pt{i}": rng.uniform(20_000, 90_000, n) for i in (1, 2)}
    write_ttree(tmp_path / "f.root", columns)
    write_ttree(tmp_path / "g.root", columns | {f"pt{i}": columns[f"pt{i}"] * 1.5 + 1000 for i in (1, 2)})
    text = """
name: flat
units: MeV
samples: [{name: all, files: f.root, class: one}]
labels: [one]
particles:
  lepton: {branches: ["{}1", "{}2"], mass: 0.105, cuts: pt > 40}
features: [pt, energy]
"""
    events = varied(tmp_path, {"expressions": {"lepton.pt": "pt * 1.5 + 1"}}, text=text)
    expected = plain(tmp_path, "samples.0.files=g.root", text=text)
    np.testing.assert_array_equal(events.index, expected.index)
    np.testing.assert_allclose(events.p4, expected.p4, rtol=1e-6)
    np.testing.assert_allclose(events.particles, expected.particles, rtol=1e-6)


def test_hits_are_shifted() -> None:
    """Features of particles without momenta move in the image."""
    shift = "variations={one: {expressions: {hit.strip: strip + 1}}}"
    card = DatasetCard.find("muon_patterns", [shift, "image.outside=drop"])
    events, nominal = (read(c, limit=40).events.image() for c in (card.varied("one"), card))
    np.testing.assert_array_equal(events[..., 1:], nominal[..., :-1])
    assert not events[..., 0].any()
