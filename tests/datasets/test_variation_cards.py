"""Variations on cards: names, refusals with line and remedy, and the check on files."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from ntuples import CARD
from rich.console import Console
from varied_ntuples import SCALE, card_in, varied

from hepxai.cards import CardError, dump_card, load_card
from hepxai.datasets import CheckReport, DatasetCard, ReadError, check_card, read

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
            "neither new_variables nor globals has 'jet'; write jet.pt, say",
        ),
        ("{a: {expressions: {n_jet: 1}}}", r"globals has 'n_jet' \(did you mean 'n_jets'\?\)"),
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
