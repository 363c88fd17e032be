"""Variations: what a varied card reads is what a file or a card made by hand gives."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import yaml
from ntuples import CARD, make_columns, write_rntuple, write_ttree
from rich.console import Console

from hepxai.cards import CardError, dump_card, load_card
from hepxai.datasets import CheckReport, DatasetCard, ReadError, check_card, read
from hepxai.events import Events, pair_events

Columns = dict[str, Any]
FILES = (("signal", 130, 1), ("background", 90, 2))
JETS = "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"
SCALE = {
    "jet.pt": "pt * {0}",
    "jet.mass": "mass * {0}",
    "met.px": "px - sum(shifted.jet.px - nominal.jet.px)",
    "met.py": "py - sum(shifted.jet.py - nominal.jet.py)",
}


def columns_of(n: int, seed: int) -> Columns:
    """Columns with shifted branches of jets and missing momentum, and varied weights."""
    columns, rng = make_columns(n, seed), np.random.default_rng(seed + 100)
    for name in ("Jet_pt", "Jet_mass", "MET_pt", "genWeight"):
        for side in ("Up", "Down"):
            values = columns[name]
            flat = ak.to_numpy(ak.flatten(values)) if isinstance(values, ak.Array) else values
            moved = (flat * rng.normal(1, 0.2, len(flat))).astype(np.float32)
            is_list = isinstance(values, ak.Array)
            columns[f"{name}_jes{side}"] = ak.unflatten(moved, ak.num(values)) if is_list else moved
    return columns


def folder(path: Path, change: Callable[[Columns], Columns] = lambda c: c, write: Any = write_ttree) -> Path:
    """Folder with the files of the card, changed by hand."""
    path.mkdir(exist_ok=True)
    for name, n, seed in FILES:
        write(path / f"{name}.root", change(columns_of(n, seed)))
    return path


@pytest.fixture(scope="module")
def ntuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("ntuples"))


@pytest.fixture
def files(tmp_path: Path, ntuples: Path) -> Path:
    """Folder of the test's own with links to the unchanged files."""
    for name, *_ in FILES:
        (tmp_path / f"{name}.root").symlink_to(ntuples / f"{name}.root")
    return tmp_path


def card_in(path: Path, variations: Any, *overrides: str, text: str = CARD) -> DatasetCard:
    (path / "card.yaml").write_text(text + yaml.safe_dump({"variations": variations}, sort_keys=False))
    return load_card(path / "card.yaml", DatasetCard, overrides)


def plain(path: Path, *overrides: str, text: str = CARD) -> Events:
    """Events of the card without variations."""
    (path / "plain.yaml").write_text(text)
    return read(load_card(path / "plain.yaml", DatasetCard, overrides)).events


def varied(path: Path, alternative: Any, *overrides: str, text: str = CARD) -> Events:
    card = card_in(path, {"one": alternative}, *overrides, text=text)
    return read(card.varied("one")).events


def need_equal(first: Events, second: Events, *, but: tuple[str, ...] = ()) -> None:
    """Equal bit by bit, but for the names of the files."""
    assert first.schema == second.schema
    mine, theirs = (
        e._event_columns() | e._particle_columns() | {"offsets": e.offsets} for e in (first, second)
    )
    assert mine.keys() == theirs.keys()
    for name in mine.keys() - {*but}:
        assert mine[name].dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


# --- closure -------------------------------------------------------------------------------------


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


# --- the card --------------------------------------------------------------------------------------


def test_names_and_round_trip(small: Path) -> None:
    variations = {
        "jes": {"up": {"branches": {"Jet_pt": "Jet_eta"}}, "down": {"expressions": {"jet.pt": "pt"}}},
        "shower": {"weight": 2},
    }
    card = card_in(small, variations)
    assert card.variation_names == ("jes_up", "jes_down", "shower")
    assert card.varied("shower").varied(None) == card
    for one in (card, card.varied("jes_up")):
        (small / "dumped.yaml").write_text(dump_card(one))
        dumped = load_card(small / "dumped.yaml", DatasetCard)
        assert dumped == one
        assert dumped.shift == one.shift
    assert load_card(small / "card.yaml", DatasetCard, ["variation=jes_up"]) == card.varied("jes_up")
    with pytest.raises(
        CardError, match=r"card.yaml:\d+: variations: no variation 'jes_uo' \(did you mean 'jes_up'\?\)"
    ):
        card.varied("jes_uo")
    with pytest.raises(CardError, match=r"variation: no variation 'x'; there are jes_down, jes_up, shower"):
        card_in(small, variations, "variation=x")


@pytest.mark.parametrize(
    ("variations", "message"),
    [
        ("{a b: {weight: 1}}", "variations.a b: 'a b' is not a name"),
        ("{None: {weight: 1}}", "variations.None: 'None' is not a name"),
        ("{nominal: {weight: 1}}", "variations.nominal: 'nominal' is taken"),
        ("{a: {up: {weight: 1}, down: {weight: 2}}, a_up: {weight: 1}}", "variations.a_up: 'a_up' is taken"),
        (
            "{a: {up: {weight: 1}}}",
            "variations.a.up: up without down; write both, or for a single alternative",
        ),
        ("{a: {down: {weight: 1}}}", "variations.a.down: down without up"),
        ("{a: {up: {weight: 1}, down: {weight: 2}, weight: 3}}", "variations.a.weight: beside up and down"),
        ("{a: {}}", "variations.a: changes nothing; write branches:, expressions: or weight:"),
        ("{a: {up: {weight: 1}, down: {}}}", "variations.a.down: changes nothing"),
        ("{a: {wieght: 1}}", r"variations.a.wieght: unknown key \(did you mean 'weight'\?\)"),
        (
            "{a: {up: {wieght: 1}, down: {}}}",
            r"variations.a.up.wieght: unknown key \(did you mean 'weight'\?\)",
        ),
        ("{a: 3}", "variations.a: found 3; should be a mapping"),
        ("{a: {weight: 1 +}}", "variations.a.weight: in '1 \\+': syntax not understood"),
        (
            "{a: {branches: {'Jet_{}': Jet_up}}}",
            r"variations.a.branches.Jet_\{\}: found 'Jet_up'; write two branches",
        ),
        (
            "{a: {branches: {Jet_pt: Jet_pt}}}",
            "variations.a.branches.Jet_pt: 'Jet_pt' is exchanged for itself",
        ),
        (
            "{a: {expressions: {jets.pt: pt}}}",
            r"variations.a.expressions.jets.pt: no particle type 'jets' \(did you mean 'jet'",
        ),
        (
            "{a: {expressions: {jet: pt}}}",
            "no new variable and no entry of globals: is called 'jet'; write jet.pt, say",
        ),
        ("{a: {expressions: {n_jet: 1}}}", r"is called 'n_jet' \(did you mean 'n_jets'\?\)"),
        (
            "{a: {expressions: {jet.energy: energy}}}",
            "'energy' follows from the others; .* write jet.pt and jet.mass",
        ),
        (
            "{a: {expressions: {jet.pt: pt, jet.px: px}}}",
            "found pt, px; write pt, eta, phi, mass or px, py, pz, mass, not both",
        ),
    ],
)
def test_refused_cards(small: Path, variations: str, message: str) -> None:
    card = small / "card.yaml"
    card.write_text(CARD + f"variations: {variations}\n")
    line = len(CARD.splitlines()) + 1
    with pytest.raises(CardError, match=message) as error:
        load_card(card, DatasetCard)
    assert str(error.value).startswith(f"{card}:{line}: variations.a") or f":{line}: " in str(error.value)


@pytest.mark.parametrize("kind", ["particles", "new_variables"])
def test_names_of_variations_are_reserved(small: Path, kind: str) -> None:
    entry = "shifted: {branches: 'Jet_{}'}" if kind == "particles" else "shifted: 1"
    text = CARD.replace(f"{kind}:\n", f"{kind}:\n  {entry}\n")
    with pytest.raises(CardError, match=f"{kind}.shifted: 'shifted' has a meaning in the expressions"):
        card_in(small, {"a": {"weight": "2"}}, text=text)
    card_in(small, {}, text=text)  # without variations it has none


def test_hits_have_no_momenta(small: Path) -> None:
    text = CARD.replace("features: [energy", "features: [layer, energy")
    text = text.replace(
        "selection:\n", "  hit: {branches: 'Hit_{}', momenta: none, features: {layer: layer}}\nselection:\n"
    )
    with pytest.raises(
        CardError, match=r"hit.pt: hit has no momenta \(momenta: none\); shift one of its features"
    ):
        card_in(small, {"a": {"expressions": {"hit.pt": "pt"}}}, text=text)
    card_in(small, {"a": {"expressions": {"hit.layer": "layer"}}}, text=text)


# --- what only the files tell ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alternative", "message"),
    [
        (
            {"branches": {"Jet_pz": "Jet_pt"}},
            r"branches.Jet_pz: no branch 'Jet_pz' in .*background.root:Events \(did you mean 'Jet_p",
        ),
        (
            {"branches": {"Jet_pt": "Jet_pt_jesUpp"}},
            r"branches.Jet_pt: no branch 'Jet_pt_jesUpp' .*\(did you mean 'Jet_pt_jesUp'\?\)",
        ),
        (
            {"branches": {"Jet_{}": "Jet_{}_jsUp"}},
            r"Jet_\{\}: no branch of .* has the form Jet_\{\}_jsUp \(did you mean 'Jet_pt_jesUp'\?\)",
        ),
        (
            {"branches": {"Jet_pt": "MET_pt"}},
            "Jet_pt holds var \\* float32 and MET_pt holds float32 .*; both need the same form",
        ),
        (
            {"expressions": {"jet.btga": "1"}},
            r"jet.btga: jet of .* has no 'btga' to shift \(did you mean 'btag'\?\); there are pt, ",
        ),
        (
            {"expressions": {"met.eta": "1"}},
            "expressions.met.eta: met of .* has no 'eta' to shift; there are pt, phi",
        ),
        (
            {"expressions": {"jet.pt": "ptt"}},
            r"expressions.jet.pt: no branch or variable 'ptt' in .*variation one\) \(did you mean 'pt'",
        ),
        ({"expressions": {"jet.pt": "nominal.jt.pt"}}, "expressions.jet.pt: no branch or variable 'jt.pt'"),
        (
            {"expressions": {"jet.pt": "muon.pt"}},
            r"background.root:Events \(variation one\): entry \d+: muon.pt has \d values",
        ),
        ({"expressions": {"jet.pt": "pt / 0"}}, r"entry \d+: .* of jet is inf"),
        (
            {"expressions": {"jet.pt": "pt + sum(shifted.jet.pt)"}},
            "needs itself: jet -> jet|needs its own result; write nominal.jet.pt",
        ),
        (
            {"expressions": {"ht_raw": "ht_raw * 2"}},
            "expressions.ht_raw: needs itself: ht_raw -> ht_raw; break the circle, or write nominal.ht_raw",
        ),
        (
            {"weight": "muon.pt"},
            "variations.one.weight: 'muon.pt' is one value per particle, not one number per event",
        ),
        ({"weight": "1 / count(jet)"}, r"the weight \(genWeight times 0.5 times 1 / count\(jet\)\) is inf"),
        ({"weight": "shift.jet.pt"}, "variations.one.weight: no branch or variable 'shift.jet.pt'"),
    ],
)
def test_refused_while_reading(files: Path, alternative: Any, message: str) -> None:
    text = CARD.replace("new_variables:\n", "new_variables:\n  ht_raw: sum(Jet_pt)\n")
    text = text.replace("  n_raw: nJet * 1", "  ht_raw: ht_raw")
    card = card_in(files, {"one": alternative}, text=text)
    read(card)  # the nominal card does not mind
    with pytest.raises((CardError, ReadError), match=message):
        read(card.varied("one"))


def test_base_expressions_do_not_know_the_prefixes(files: Path) -> None:
    with pytest.raises(CardError, match=r"observers.x: no branch or variable 'nominal.met.pt'"):
        varied(files, {"weight": "2"}, "observers.x=nominal.met.pt")


# --- check -------------------------------------------------------------------------------------------


def warned(card: DatasetCard) -> tuple[list[str], str, CheckReport]:
    report, console = check_card(card), Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    return [w for w in report.warnings if w.startswith("variation ")], console.export_text(), report


def test_check_compares_variations(files: Path) -> None:
    variations = {
        "jes": {
            "up": {"expressions": {k: e.format(1.3) for k, e in SCALE.items()}},
            "down": {"expressions": {"jet.pt": "pt * 0.7"}},
        },
        "nothing": {"branches": {"Jet_pt_jesUp": "Jet_pt_jesDown"}},
        "lumi": {"weight": "1.5"},
    }
    card = card_in(files, variations)
    warnings, text, report = warned(card)
    assert [w.split()[1] for w in warnings] == ["jes_down", "nothing"]
    assert "moves momenta, but not the missing transverse momentum" in warnings[0]
    assert "changes nothing that the model or the weight depends on" in warnings[1]
    events, pairs = report.variations["jes_up"]
    sizes = [len(rows) for rows in (events, pairs.first, pairs.only_first, pairs.only_second)]
    row = f"jes_up +│ {' │ '.join(f' *{n}' for n in sizes)} │"
    assert re.search(row, text)
    assert re.search(r"lumi .* 1\.5000", text)
    assert "Variations" not in warned(card.varied("lumi"))[1]  # compared with the nominal card only


def test_the_remedy_of_the_warning_works(files: Path) -> None:
    alone = {"expressions": {"jet.pt": "pt * 0.7"}}
    ((warning, *_), *_) = warned(card_in(files, {"one": alone}))
    (component,) = re.findall(r"met.px: (.*), and met.py", warning)
    more = {"met.px": component, "met.py": component.replace("px", "py")}
    assert warned(card_in(files, {"one": {"expressions": alone["expressions"] | more}}))[0] == []
