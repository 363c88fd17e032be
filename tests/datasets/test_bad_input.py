"""Bad input: every case with its message. Nothing is lost in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import CARD, make_columns, write_rntuple, write_ttree

from hepxai.cards import CardError, load_card
from hepxai.datasets import DatasetCard, ReadError, inspect_file, read
from hepxai.datasets.sources import readable


def load(folder: Path, *overrides: str) -> DatasetCard:
    return load_card(folder / "card.yaml", DatasetCard, overrides)


def message(folder: Path, *overrides: str, kind: type[ValueError] = ReadError) -> str:
    with pytest.raises(kind) as error:
        read(load(folder, *overrides))
    return str(error.value).replace(f"{folder}/", "")


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "card.yaml").read_text().splitlines()
    return next(i for i, line in enumerate(lines, start=1) if text in line)


# --- files -----------------------------------------------------------------------------------------


def test_missing_file(small: Path) -> None:
    card = small / "card.yaml"
    card.write_text(CARD.replace("signal.root", "singal.root"))
    assert message(small) == (
        f"card.yaml:{line_of(small, 'singal')}: samples.1.files.0: singal.root: does not exist "
        "(did you mean 'signal.root'?); give the path of a ROOT file"
    )
    assert message(small, "samples.1.files=[signal.root, gone/x.root]") == (
        "override 'samples.1.files=[signal.root, gone/x.root]': samples.1.files.1: gone/x.root: "
        "does not exist; give the path of a ROOT file"
    )


def test_not_root(small: Path) -> None:
    (small / "signal.root").write_text("pt,eta,phi\n")
    where = f"card.yaml:{line_of(small, 'signal.root')}: samples.1.files.0"
    expected = (
        f"{where}: signal.root: not a ROOT file (starts with b'pt,e'); give a file made by ROOT or uproot"
    )
    assert message(small) == expected
    (small / "signal.root").write_bytes(b"")
    assert message(small).startswith(f"{where}: signal.root: not a ROOT file (is empty)")


@pytest.mark.parametrize("write", [write_ttree, write_rntuple])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.99])
def test_truncated_file(small: Path, write: Callable[..., Path], share: float) -> None:
    path = write(small / "signal.root", make_columns(200, seed=1))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    card = load(small, "observers={}", "selection=count(muon) > 0")
    with pytest.raises(
        ReadError, match=r"signal\.root.*cannot be read .*truncated or damaged, copy it again"
    ):
        read(card)


def test_damaged_bytes_in_the_middle(small: Path) -> None:
    whole = bytearray((small / "signal.root").read_bytes())
    whole[2000:3000] = bytes(1000)
    (small / "signal.root").write_bytes(whole)
    with pytest.raises(ReadError, match=r"signal\.root.*cannot be read"):
        read(load(small))


def test_wrong_tree(small: Path) -> None:
    wrong = "no tree 'events' (did you mean 'Events'? Names are case-sensitive); it has Events"
    listed = message(small, "samples.1.files=signal.root:events")
    assert listed.endswith(f"samples.1.files.0: signal.root: {wrong}")
    card = small / "card.yaml"
    card.write_text(f"{CARD}tree: events\n")
    assert message(small) == f"card.yaml:{line_of(small, 'tree:')}: tree: background.root: {wrong}"


def test_a_tree_that_the_card_does_not_name(small: Path) -> None:
    write_ttree(small / "signal.root", make_columns(20), tree="mini")
    assert message(small) == "card.yaml:2: tree: signal.root: no tree 'Events'; it has mini"


def test_empty_tree(small: Path) -> None:
    write_ttree(small / "signal.root", make_columns(0))
    expected = "sample 'tt' has no entries (signal.root:Events); take it off the card or give other files"
    assert message(small) == expected


# --- overrides of a good card ------------------------------------------------------------------------

CARD_ERRORS = {
    "samples.1.files=[signal.root, more_*.root]": "samples.1.files.1: no file matches more_*.root; check the "
    "folder and the pattern",
    "samples.1.files=file://gone_*.root": "gone_*.root; check the folder and the pattern",
    "samples.1.files=[signal.root, '*.root']": "background.root:Events is listed twice (also in sample 'dy')",
    "weights=genWieght": "weights: no branch or variable 'genWieght' in background.root:Events (did "
    "you mean 'genWeight'?)",
    "observers.m=first(oposite.mass)": "no branch or variable 'oposite.mass' in background.root:Events (did "
    "you mean 'opposite'?)",
    "globals.quark_gluon=qgScore": "globals.quark_gluon.expression: no branch or variable 'qgScore' in "
    "background.root:Events",
    "particles.muon.cuts={good: relIso < 0.2}": "particles.muon.cuts.good: no branch or variable 'relIso' in "
    "background.root:Events (did you mean 'pfRelIso'?)",
    "missing.Jet_btga={values: -2}": "Jet_btga: no branch 'Jet_btga' in background.root:Events (did you mean "
    "'Jet_btag'?)",
    "particles.muon.branches='Muons_{}'": "particles.muon.branches: found no momenta for Muons_{} in "
    "background.root:Events (did you mean 'Muon_{}'?); needs pt, eta, phi or px, py, pz",
    "particles.muon.branches='muon_{}'": "(did you mean 'Muon_{}'? Names are case-sensitive)",
    "particles.muon.branches='{}_1'": "particles.muon.branches: found no momenta for {}_1 in "
    "background.root:Events; needs",
    "weights=Muon_pt": "weights: 'Muon_pt' is one value per particle, not one number per event; write for "
    "example sum(",
    "selection={met: MET_pt}": "selection.met: should be true or false, not a number; compare it with",
    "new_variables.MET_pt=MET_pt * 2": "new_variables.MET_pt: 'MET_pt' is a branch of background.root:Events",
    "new_variables={a: b + 1, b: a + 1} weights=a": "new_variables.a: needs itself: a -> b -> a; break the",
    "particles.muon.cuts=count(jet) > 0 particles.jet.cuts=count(muon) > 0": "particles.muon: needs itself: "
    "muon -> jet -> muon; break the circle",
}
READ_ERRORS = {
    "samples.1.files=.": ": is a folder; give the path of a ROOT file",
    "samples.1.files=file://gone.root": "gone.root: cannot be read (FileNotFoundError: ",
    "samples.1.files=file://gone/x.root": "; check the address and the network",
    "identity={run: run, event: MET_pt}": "background.root:Events: branch MET_pt holds float32; identity: "
    "event needs whole numbers",
    "particles.met.branches={px: 0 * MET_pt, py: 0 * MET_pt} selection={}": "log_pt of met is -inf",
    "particles.met.branches={px: 0 * MET_pt, py: 0.0 * MET_pt} selection={}": "cut such particles away with "
    "selection: isfinite(met.log_pt), or correct 0 * MET_pt, 0",
    "globals.best=max(jet.btag)": "globals: best (max(jet.btag)) is nan",
    "selection={many: count(muon) > 100}": "no event passes the selection of small (dy, all entries: 90; dy, "
    "many: 0; tt, all entries: 130; tt, many: 0); loosen selection: on the card",
}


@pytest.mark.parametrize("overrides", [*CARD_ERRORS, *READ_ERRORS])
def test_a_mistake_in_the_card(small: Path, overrides: str) -> None:
    kind = CardError if overrides in CARD_ERRORS else ReadError
    parts = re.split(r" (?=\w+(?:\.\w+)*=)", overrides)
    assert (CARD_ERRORS | READ_ERRORS)[overrides] in message(small, *parts, kind=kind)


LACKING = {
    "background Muon_mass": "background.root:Events has neither mass nor energy; write mass: and a number",
    "background Muon_eta": "particles.muon.branches: found only pt and phi in background.root:Events; "
    "particles need eta",
    "signal genWeight": "no branch or variable 'genWeight' in signal.root:Events",
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_branch_that_one_file_lacks(small: Path, lacking: str) -> None:
    sample, branch = lacking.split()
    write_ttree(small / f"{sample}.root", {k: v for k, v in make_columns(20).items() if k != branch})
    assert LACKING[lacking] in message(small, kind=CardError)


# --- branches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_ttree, write_rntuple])
def test_string_branch_as_feature(small: Path, write: Callable[..., Path]) -> None:
    write(small / "background.root", make_columns(40) | {"kind": ak.Array(["GG", "TT"] * 20)})
    text = message(small, "particles.muon.features.charge=kind", "observers={}", kind=CardError)
    expected = (
        "particles.muon.features.charge: kind in background.root:Events holds string, not one number per"
    )
    assert expected in text
    text = message(small, "globals.ht=kind", "observers={}", kind=CardError)
    assert "globals.ht.expression: 'kind' is text, not one number per event" in text


def test_unequal_lists(small: Path) -> None:
    columns = make_columns(60, seed=2)
    pt = columns["Muon_pt"].to_list()
    pt[41] = [*pt[41], 50.0]
    columns["Muon_pt"] = ak.values_astype(ak.Array(pt), np.float32)
    columns["nJet"] = columns["run"]
    write_rntuple(small / "background.root", columns)
    text = message(small)
    n = len(pt[41])
    assert re.match(
        rf"background\.root:Events: entry 41: Muon_\w+ has {n - 1} values, Muon_pt has {n}; "
        r"branches of one particle type need the same length",
        text,
    )


# --- values ----------------------------------------------------------------------------------------


def spoil(columns: dict[str, Any], name: str, entry: int, value: float) -> None:
    values = columns[name].to_list()
    values[entry] = [value] * max(1, len(values[entry]))
    columns[name] = ak.values_astype(ak.Array(values), np.float32)


@pytest.mark.parametrize(
    ("name", "what"),
    [("Jet_phi", "phi of jet is nan ("), ("genWeight", "the weight (genWeight times 0.5) is nan, 1")],
)
def test_nan_in_momenta_and_weights(small: Path, name: str, what: str) -> None:
    columns = make_columns(60, seed=2)
    entry = int(np.flatnonzero(ak.num(columns["Jet_pt"]) > 0)[-1])
    if name == "genWeight":
        columns[name][entry] = np.nan
    else:
        spoil(columns, name, entry, np.nan)
    write_ttree(small / "background.root", columns)
    problem = message(small, "selection={}", "particles.jet.cuts={}")
    assert problem.startswith(f"background.root:Events: entry {entry}: {what}")


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_nan_and_infinity_in_features(small: Path, value: float, text: str) -> None:
    columns = make_columns(60, seed=2)
    entry = int(np.flatnonzero(ak.num(columns["Jet_pt"]) > 0)[-1])
    spoil(columns, "Jet_btag", entry, value)
    write_ttree(small / "background.root", columns)
    problem = message(small, "selection={}", "particles.jet.cuts={}", "particles.jet.order_by=index")
    assert problem.startswith(f"background.root:Events: entry {entry}: btag of jet is {text} (")
    assert f"missing: {{Jet_btag: {{values: [{text.replace('nan', '.nan').replace('inf', '.inf')}]" in problem


def test_nan_of_particles_that_are_cut_away(small: Path) -> None:
    columns = make_columns(90, seed=2)
    eta = np.where(columns["Jet_eta"] > 2, np.nan, columns["Jet_eta"])
    columns["Jet_eta"] = ak.values_astype(eta, np.float32)
    write_ttree(small / "background.root", columns)
    assert np.isfinite(read(load(small)).events.particles).all()


# --- events ----------------------------------------------------------------------------------------


def test_duplicate_event_numbers(small: Path) -> None:
    columns = make_columns(90, seed=2)
    columns["event"][70], columns["luminosityBlock"][70] = columns["event"][5], columns["luminosityBlock"][5]
    write_ttree(small / "background.root", columns)
    assert message(small) == (
        "sample 'dy': 1 duplicate event numbers, first background.root:Events entry 5 and "
        "background.root:Events entry 70; remove the copy, set identity: on the card, "
        "or write duplicates: allow"
    )
    assert len(read(load(small, "duplicates=allow")).events)


def test_duplicates_in_two_files_of_a_sample(small: Path) -> None:
    write_ttree(small / "copy.root", make_columns(130, seed=1))
    text = message(small, "samples.1.files=[signal.root, copy.root]")
    assert "sample 'tt': 130 duplicate event numbers, first " in text
    assert "signal.root:Events entry" in text
    assert "copy.root:Events entry" in text


@pytest.mark.parametrize(
    ("expression", "text", "remedy"),
    [
        ("event % 0", "in 'event % 0': a whole number divided by 0; write for", "event % maximum(nJet, 1)"),
        ("1 // (nJet - nJet)", "write for example x // maximum(y, 1)", "1 // maximum(nJet - nJet, 1)"),
        ("nth(Muon_pt, 0.5)", "in 'nth(Muon_pt, 0.5)': a position is a whole number", "nth(Muon_pt, 0)"),
        ("sum(muon.pt.pt)", "in 'muon.pt.pt': no attribute 'pt'", "sum(muon.pt)"),
        ("event * 10 ** 18", "does not fit into 64 bits; write 1.0 * x", "1.0 * event * 10 ** 18"),
        ("Muon_pt[Muon_charge]", "not numbers; for positions write take(", "sum(Muon_pt[Muon_charge > 0])"),
    ],
)
def test_expressions_that_would_be_wrong(small: Path, expression: str, text: str, remedy: str) -> None:
    card = small / "card.yaml"
    card.write_text(CARD.replace("nJet * 1", expression))
    problem = message(small, kind=CardError)
    assert problem.startswith(f"card.yaml:{line_of(small, 'n_raw')}: observers.n_raw: ")
    assert text in problem
    card.write_text(CARD.replace("nJet * 1", remedy))
    assert len(read(load(small)).events)


def test_a_chain_of_variables_without_end(small: Path) -> None:
    for length, refused in ((400, True), (20, False)):
        chain = ", ".join(f"a{i}: a{i + 1} + 1" for i in range(length))
        overrides = [f"new_variables={{{chain}, a{length}: 1}}", "observers={a: a0}", "selection={}"]
        if refused:
            text = message(small, *overrides, kind=CardError)
            assert "new_variables.a" in text
            assert "nested too deeply; use fewer new_variables" in text
        else:
            assert (read(load(small, *overrides)).events.observers["a"] == 21).all()


def test_one_class_only(small: Path) -> None:
    text = message(small, "selection={one file: event < 1500}")
    assert re.fullmatch(
        r"no event of class 'background' is left, only \d+ of signal; loosen selection:, check labels:, "
        "or take the class off the card",
        text,
    )


def test_events_in_no_class_and_in_two(small: Path) -> None:
    text = CARD.replace(", class: background", "").replace(", class: signal", "")
    (small / "card.yaml").write_text(text.replace("[background, signal]", "{a: nJet > 1, b: nJet > 2}"))
    problem = message(small, kind=CardError)
    assert re.match(
        r"card.yaml:6: labels: background.root:Events: entry \d+ belongs to (no class|a and b)", problem
    )
    assert "make the conditions exclude each other and cover all events" in problem


# --- missing values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branch", "missing", "place", "found", "holds"),
    [
        ("Muon_charge", "{values: [-1, -9.99]}", "values.1", "-9.99", "whole numbers of 64 bits"),
        ("Muon_charge", "{values: .nan}", "values.0", "nan", "whole numbers of 64 bits"),
        ("Muon_charge", "{values: 2.0e+19}", "values.0", "2e+19", "whole numbers of 64 bits"),
        ("Muon_charge", "{values: -1, replace: 1.0e+19}", "replace", "1e+19", "whole numbers of 64 bits"),
        ("Muon_charge", "{values: -1, replace: 2.5}", "replace", "2.5", "whole numbers of 64 bits"),
        ("Muon_charge", "{values: -1, replace: .nan}", "replace", "nan", "whole numbers of 64 bits"),
        ("Muon_fromA", "{values: 1, replace: 2}", "replace", "2", "true and false (1 and 0)"),
        ("Jet_btag", "{values: -1.0e+300}", "values.0", "-1e+300", "float32 numbers"),
        ("Jet_btag", "{values: -1, replace: 1.0e+300}", "replace", "1e+300", "float32 numbers"),
    ],
)
def test_missing_values_that_a_branch_cannot_hold(
    small: Path, branch: str, missing: str, place: str, found: str, holds: str
) -> None:
    card = small / "card.yaml"
    card.write_text(
        CARD.replace("missing:\n", f"missing:\n  {branch}: {missing}\n").replace(
            "  Jet_btag: {values: [-1], replace: 0}\n", ""
        )
    )
    text = message(small, kind=CardError)
    assert text.startswith(
        f"card.yaml:{line_of(small, branch)}: missing.{branch}.{place}: {found} does not fit"
    )
    assert f"{branch} of background.root:Events holds {holds}; write one that" in text


# --- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [MemoryError, KeyboardInterrupt])
def test_too_little_memory_is_not_a_damaged_file(problem: type[BaseException]) -> None:
    with pytest.raises(problem), readable("signal.root"):
        raise problem


def test_too_little_memory_is_not_an_unknown_type(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("hepxai.datasets.branches.Column.of", exhausted)
    with pytest.raises(MemoryError):
        read(load(small))
    with pytest.raises(MemoryError):
        inspect_file(small / "signal.root")
