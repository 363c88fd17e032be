"""Drafted variations: names of NanoAOD and coffea, and cards that read what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import make_columns, write_ttree

from hepxai.cards import load_card
from hepxai.datasets import DatasetCard, draft_card, inspect_file, read
from hepxai.datasets.variation_drafts import shifted_branches

Columns = dict[str, Any]


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("Jet_pt_jesTotalUp", "Jet_pt", ("Jet_pt", "jesTotal", "up")),
        ("Jet_pt_jesTotalDown", "Jet_pt Jet", ("Jet_pt", "jesTotal", "down")),
        ("MET_T1_pt_jer_up", "MET_pt MET_T1_pt", ("MET_T1_pt", "jer", "up")),
        ("PuppiMET_ptJESUp", "PuppiMET_pt", ("PuppiMET_pt", "JES", "up")),
        ("puWeightUp", "puWeight", ("puWeight", "puWeight", "up")),
        ("puWeightUp", "", ("", "puWeight", "up")),
        (
            "L1PreFiringWeight_Dn",
            "L1PreFiringWeight_Nom",
            ("L1PreFiringWeight_Nom", "L1PreFiringWeight", "down"),
        ),
        ("btagWeight_CSVV2_up", "btagWeight", ("btagWeight", "CSVV2", "up")),
        ("btagWeight_DeepCSVB_down", "", ("", "btagWeight_DeepCSVB", "down")),
        ("weight_pileupUp", "weight", ("weight", "pileup", "up")),
        ("Muon_SF_up", "Muon_SF", ("Muon_SF", "Muon_SF", "up")),
        ("Jet_JES_jes.up.pt", "Jet_pt", ("Jet_pt", "JES_jes", "up")),
        ("Jet_JER_down_mass", "Jet_mass", ("Jet_mass", "JER", "down")),
        ("Jet_btagSF_shape_up_jes", "Jet_btagSF_shape", ("Jet_btagSF_shape", "Jet_btagSF_shape_jes", "up")),
        ("lep.pt_es_UP", "lep.pt", ("lep.pt", "es", "up")),
        ("Jet_pt", "", None),
        ("nSetup", "", None),
        ("backup", "back", None),
        ("Electron_dEscaleUp", "Electron_pt", None),
        ("HLT_Mu17_up", "Muon_pt", None),
        ("up", "", None),
    ],
)
def test_names(name: str, names: str, expected: tuple[str, ...] | None) -> None:
    found = [s[1:] for s in shifted_branches([name, *names.split()]) if s.name == name]
    assert found == ([] if expected is None else [expected])


def nano(n: int) -> Columns:
    """Columns of NanoAOD with branches of variations of many kinds."""
    columns, rng = make_columns(n), np.random.default_rng(5)
    for name in ("Jet_pt", "Jet_mass", "MET_pt", "MET_phi"):
        for factor, side in ((1.1, "Up"), (0.9, "Down")):
            columns[f"{name}_jesTotal{side}"] = (
                (columns[name] * np.float32(factor)).astype(np.float32)
                if name[0] == "M"
                else ak.values_astype(columns[name] * factor, np.float32)
            )
    for name, size in (("LHEScaleWeight", 9), ("PSWeight", 4), ("LHEPdfWeight", 103)):
        columns[name] = ak.unflatten(rng.uniform(0.5, 1.5, n * size).astype(np.float32), size)
    for name in (
        "btagWeight",
        "btagWeight_up",
        "btagWeight_down",
        "genWeight_up",
        "genWeight_dn",
        "puWeightUp",
    ):
        columns[name] = rng.uniform(0.9, 1.1, n).astype(np.float32)
    for name in ("Muon_SF", "Muon_SF_up", "Muon_SF_down"):
        counts = ak.num(columns["Muon_pt"])
        columns[name] = ak.unflatten(rng.uniform(0.9, 1.1, int(ak.sum(counts))).astype(np.float32), counts)
    return columns


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("draft") / "nano.root"
    write_ttree(path, nano(80))
    card = path.with_suffix(".yaml")
    card.write_text(draft_card(inspect_file(path)))
    return card


def test_all_kinds_are_drafted(draft: Path) -> None:
    card = load_card(draft, DatasetCard)
    assert set(card.variations) == {
        "jesTotal",
        "btagWeight",
        "genWeight",
        "Muon_SF",
        "lhe_scale",
        "isr",
        "fsr",
    }
    up = {name: v.up for name, v in card.variations.items()}
    moved = {n: f"{n}_jesTotalUp" for n in ("Jet_pt", "Jet_mass", "MET_pt", "MET_phi")}
    assert up["jesTotal"].branches == moved
    assert up["genWeight"].branches == {"genWeight": "genWeight_up"}
    assert card.variations["genWeight"].down.branches == {"genWeight": "genWeight_dn"}
    assert up["btagWeight"].weight == "btagWeight_up / btagWeight"
    assert up["Muon_SF"].weight == "exp(sum(log(Muon_SF_up / Muon_SF)))"
    assert (up["lhe_scale"].weight, up["isr"].weight) == ("nth(LHEScaleWeight, 8)", "nth(PSWeight, 0)")
    assert card.variations["fsr"].down.weight == "nth(PSWeight, 3)"


def test_comments_say_what_to_look_at(draft: Path) -> None:
    text = draft.read_text()
    assert "variations: # systematic uncertainties, see docs/systematics.md" in text
    assert "  # not both up and down: puWeightUp" in text
    assert "  # LHEPdfWeight has 103 members: no up and down, but a set to combine" in text
    assert "Muon_SF: # product over all particles of the file" in text
    assert "jesTotalUp" not in text.partition("variations:")[0]  # no particle type, no feature


def test_the_draft_reads_what_it_says(draft: Path) -> None:
    card, columns = load_card(draft, DatasetCard), nano(80)
    nominal = read(card).events
    for name in ("jesTotal_down", "genWeight_up", "btagWeight_up", "fsr_up"):
        events = read(card.varied(name)).events
        np.testing.assert_array_equal(events.entry, nominal.entry)
        assert (
            events.fingerprint(values=True) != nominal.fingerprint(values=True)
            or (events.weight != nominal.weight).any()
        )
    entry = nominal.entry
    jets = read(card.varied("jesTotal_up")).events
    expected = ak.sum(columns["Jet_pt_jesTotalUp"], axis=1)[entry]
    pt = np.where(jets.is_type("jet"), jets.p4[:, 0], 0)
    np.testing.assert_allclose(np.bincount(jets.parent, weights=pt, minlength=len(jets)), expected, rtol=1e-5)
    ratio = {
        n: read(card.varied(n)).events.weight / nominal.weight for n in ("Muon_SF_down", "lhe_scale_down")
    }
    product = ak.prod(columns["Muon_SF_down"] / columns["Muon_SF"], axis=1)[entry]
    np.testing.assert_allclose(ratio["Muon_SF_down"], product, rtol=1e-5)
    np.testing.assert_allclose(ratio["lhe_scale_down"], columns["LHEScaleWeight"][entry, 0], rtol=1e-5)


def test_corrected_nominal_branches_are_pointed_out(tmp_path: Path) -> None:
    columns = make_columns(30)
    columns |= {f"Jet_pt_{n}": columns["Jet_pt"] for n in ("nom", "jerUp", "jerDown")}
    write_ttree(tmp_path / "f.root", columns)
    text = draft_card(inspect_file(tmp_path / "f.root"))
    assert "  jer: # the file has Jet_pt_nom, too: should the card read that?" in text


@pytest.mark.parametrize(
    "extra", [{}, {"Jet_pt_jerUp": "Jet_pt"}, {"Jet_pt_jerUp": "MET_pt", "Jet_pt_jerDown": "MET_pt"}]
)
def test_nothing_to_draft(tmp_path: Path, extra: dict[str, str]) -> None:
    """No variations, half of one, and branches of another form than the nominal."""
    columns = make_columns(30)
    write_ttree(tmp_path / "f.root", columns | {n: columns[o] for n, o in extra.items()})
    card = tmp_path / "card.yaml"
    card.write_text(draft_card(inspect_file(tmp_path / "f.root")))
    assert "\nvariations:" not in card.read_text()
    assert load_card(card, DatasetCard).variations == {}
