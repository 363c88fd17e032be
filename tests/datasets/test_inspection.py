"""Inspecting a file nobody has seen before, drafting a card for it, and checking the card."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from ntuples import CARD, jagged, make_columns, write_rntuple, write_ttree
from rich.console import Console

from hepxai.cards import find_card, load_card
from hepxai.datasets import DatasetCard, ReadError, check_card, draft_card, inspect_file, read
from hepxai.datasets.inspection import BranchReport, FileReport, TreeReport, suspicious


def printed(report: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    return console.export_text()


def drafted(path: Path, *overrides: str) -> DatasetCard:
    card = path.with_suffix(".yaml")
    card.write_text(draft_card(inspect_file(path)))
    return load_card(card, DatasetCard, overrides)


@pytest.mark.parametrize("write", [write_ttree, write_rntuple])
def test_report(tmp_path: Path, write: Callable[..., Path]) -> None:
    columns = make_columns(60)
    columns["genWeight"][3], columns["genWeight"][4] = np.nan, np.inf
    columns["MET_phi"][7] = -999
    columns["kind"] = ak.Array(["GG", "TT"] * 30)
    report = inspect_file(write(tmp_path / "f.root", columns))
    (tree,) = report.trees
    assert (tree.name, tree.entries) == ("Events", 60)
    assert tree.kind == ("TTree" if write is write_ttree else "RNTuple")
    btag = tree.branch("Jet_btag")
    flat = ak.to_numpy(ak.flatten(columns["Jet_btag"]))
    assert (btag.shape, btag.count) == ("per particle", len(flat))
    assert btag.sentinels == ((-1.0, int((flat == -1).sum())),)
    assert (btag.low, btag.high) == (flat[flat != -1].min(), flat.max())
    assert tree.branch("kind").shape == "text"
    assert (tree.branch("genWeight").nan, tree.branch("genWeight").inf) == (1, 1)
    assert tree.branch("MET_phi").sentinels == ((-999.0, 1),)
    assert tree.branch("trigger").sentinels == tree.branch("Muon_charge").sentinels == ()
    text = printed(report)
    assert "1 NaN, 1 infinite" in text
    assert "1 × -999" in text


def test_entries_can_be_limited(tmp_path: Path) -> None:
    report = inspect_file(write_ttree(tmp_path / "f.root", make_columns(60)), entries=10)
    assert (report.trees[0].entries, report.trees[0].branch("event").count) == (60, 10)


def test_branches_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    columns = {"x": np.arange(3.0), "deep": ak.Array([[[1.0]], [], [[2.0, 3.0], []]])}
    report = inspect_file(write_rntuple(tmp_path / "f.root", columns))
    assert report.trees[0].branch("deep").shape == "other"
    assert report.trees[0].branch("x").high == 2


def test_files_without_trees(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "f.root") as file:
        file["h"] = np.histogram([1.0, 2.0])
    report = inspect_file(tmp_path / "f.root")
    assert report.trees == ()
    assert "has no TTree and no RNTuple" in printed(report)
    with pytest.raises(ReadError, match="has no TTree and no RNTuple to draft a card for"):
        draft_card(report)


def test_files_without_particles(tmp_path: Path) -> None:
    write_ttree(tmp_path / "f.root", {"x": np.arange(3.0)})
    with pytest.raises(ReadError, match="no branches that look like pt, eta, phi or px, py, pz"):
        draft_card(inspect_file(tmp_path / "f.root"))


def test_files_of_hits() -> None:
    hits = find_card("datasets", "muon_patterns").with_name("muons.root")
    with pytest.raises(
        ReadError, match=r"For hits of a detector see `image:` .*`hepxai cards muon_patterns`"
    ):
        draft_card(inspect_file(hits))


def test_missing_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"gone.root: does not exist"):
        inspect_file(tmp_path / "gone.root")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.2, 0.3, -1, -1], [(-1.0, 2)]),
        ([0.1, 0.2, 0.3, -999, -3000], [(-3000.0, 1), (-999.0, 1)]),
        ([-0.5, 0.2, 0.3, -1, -1], []),
        ([1.0, -1, -1, 1], []),
        ([0.1, 0.2, 999.0], [(999.0, 1)]),
        ([], []),
    ],
)
def test_suspicious(values: list[float], expected: list[tuple[float, int]]) -> None:
    assert list(suspicious(np.array(values, dtype=np.float32))) == expected


def test_positive_whole_numbers_are_not_suspicious() -> None:
    assert suspicious(np.array([999, 9999, -99])) == ((-99.0, 1),)


# --- drafts ----------------------------------------------------------------------------------------


def test_draft_of_nanoaod(tmp_path: Path) -> None:
    columns = make_columns(60)
    columns |= {f"GenPart_{k}": columns[f"Jet_{k}"] for k in ("pt", "eta", "phi", "mass")}
    card = drafted(write_ttree(tmp_path / "f.root", columns))
    assert list(card.particles) == ["muon", "jet", "met"]
    assert card.particles["muon"].branches == ("Muon_{}",)
    assert card.particles["met"].branches == ({"pt": "MET_pt", "phi": "MET_phi"},)
    assert card.weights == "genWeight"
    assert card.missing["Jet_btag"].values == (-1.0,)
    assert {"charge", "btag", "type"} <= set(card.features)
    assert card.units == "GeV"
    assert len(read(card).events) == 60
    assert "not used: GenPart_{}" in (tmp_path / "f.yaml").read_text()


def test_draft_for_two_classes_in_one_file(tmp_path: Path) -> None:
    """The lines that the draft suggests work as they are."""
    path = write_ttree(tmp_path / "f.root", make_columns(60) | {"is_signal": np.arange(60) % 3 == 0})
    text = draft_card(inspect_file(path))
    assert "# labels: {background: isSignal == 0, " in draft_card(
        inspect_file(write_ttree(tmp_path / "g.root", make_columns(9)))
    )
    lines = [line for line in text.splitlines() if not line.startswith("labels:")]
    chosen = "\n".join(lines).replace("# labels:", "labels:").replace(", class: signal}", "}", 1)
    (tmp_path / "card.yaml").write_text(chosen)
    events = read(load_card(tmp_path / "card.yaml", DatasetCard)).events
    assert events.schema.classes == ("background", "signal")
    assert events.label.tolist() == [int(i % 3 == 0) for i in range(60)]


def test_draft_of_records(tmp_path: Path) -> None:
    columns = make_columns(40)
    names = ("pt", "eta", "phi", "mass", "charge")
    with uproot.recreate(tmp_path / "f.root") as file:
        file.mkrntuple("Events", {"muon": ak.zip({k: columns[f"Muon_{k}"] for k in names})})
    card = drafted(tmp_path / "f.root")
    assert card.particles["muon"].branches == ("muon.{}",)
    assert read(card).events.n_particles == len(ak.flatten(columns["Muon_pt"]))


def test_draft_of_flat_cartesian_mev(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    columns = {f"{k}{i}": rng.normal(0, 40_000, 50) for i in (1, 2) for k in ("px", "py", "pz")}
    columns |= {f"E{i}": np.sqrt(sum(columns[f"{k}{i}"] ** 2 for k in ("px", "py", "pz"))) for i in (1, 2)}
    columns |= {f"Q{i}": rng.choice([-1, 1], 50) for i in (1, 2)} | {"RunNumber": np.ones(50, dtype=np.int32)}
    columns |= {"EventNumber": np.arange(50), "mcEventWeight": np.ones(50)}
    card = drafted(write_ttree(tmp_path / "f.root", columns, tree="nominal"))
    assert (card.tree, card.units, card.weights) == ("nominal", "MeV", "mcEventWeight")
    assert card.particles["particle"].branches == ("{}1", "{}2")
    assert (card.identity.run, card.identity.event) == ("RunNumber", "EventNumber")
    events = read(card).events
    assert events.counts.tolist() == [2] * 50
    assert events.particles[0, 0] == pytest.approx(max(columns["E1"][0], columns["E2"][0]) / 1000, rel=0.9)


def test_draft_without_mass_or_numbers(tmp_path: Path) -> None:
    columns = make_columns(30)
    keep = ("Muon_pt", "Muon_eta", "Muon_phi", "MET_pt", "MET_phi")
    card = drafted(write_ttree(tmp_path / "f.root", {k: columns[k] for k in keep}))
    assert card.particles["muon"].mass == pytest.approx(0.105658)
    assert "no event numbers" in read(card).notes[0]


def test_draft_of_an_empty_file(tmp_path: Path) -> None:
    card = drafted(write_ttree(tmp_path / "f.root", make_columns(0)))
    assert list(card.particles) == ["muon", "jet", "met"]
    with pytest.raises(ReadError, match="sample 'signal' has no entries"):
        read(card)


def padded(pad: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Up to four jets an event, in places that hold `pad` where there is none; and how many there are."""
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 5, 50)
    values = {"pt": (25, 90), "eta": (-2, 2), "phi": (-3, 3), "m": (1, 9)}
    places = {q: rng.uniform(*ends, (50, 4)).astype(np.float32) for q, ends in values.items()}
    return {q: np.where(np.arange(4) < counts[:, None], v, pad) for q, v in places.items()}, counts


@pytest.mark.parametrize("pad", [0, -999, np.nan])
@pytest.mark.parametrize("name", ["jet_{q}_{i}", "{q}_h1_j{i}", "Jet{i}_{q}"])
def test_draft_of_flat_columns(tmp_path: Path, pad: float, name: str) -> None:
    places, counts = padded(pad)
    columns = {name.format(q=q, i=i): v[:, i] for q, v in places.items() for i in range(4)}
    columns |= {f"PuppiMET_{q}": places[q][:, 0] * 0 + 1 for q in ("pt", "phi")} if pad == 0 else {}
    card = drafted(write_ttree(tmp_path / "f.root", columns))
    (jet, *others) = card.particles.values()
    assert len(jet.branches) == 4
    assert [p.branches for p in others] == [({"pt": "PuppiMET_pt", "phi": "PuppiMET_phi"},)] * (pad == 0)
    events = read(card).events
    assert (events.counts - len(others)).tolist() == counts.tolist()


@pytest.mark.parametrize("counter", ["nJet", "Jet_size", "n_jets", None])
def test_draft_of_fixed_arrays(tmp_path: Path, counter: str | None) -> None:
    places, counts = padded(0)
    columns = {f"Jet_{q}": v for q, v in places.items()} | ({counter: counts} if counter else {})
    with uproot.recreate(tmp_path / "f.root") as file:
        file.mktree("Events", {k: np.dtype((v.dtype, v.shape[1:])) for k, v in columns.items()}).extend(
            columns
        )
    branch = inspect_file(tmp_path / "f.root").trees[0].branch("Jet_pt")
    assert (branch.shape, branch.size, branch.count) == ("per particle", 4, 200)
    assert branch.high == places["pt"].max()
    card = drafted(tmp_path / "f.root")
    assert card.particles["jet"].cuts == {"filled": f"index < {counter}" if counter else "pt > 0"}
    assert read(card).events.counts.tolist() == counts.tolist()
    text = (tmp_path / "f.yaml").read_text()
    assert "not used" not in text
    assert "labels: [signal] # one class: nothing to tell apart; add another" in text


# --- checks ----------------------------------------------------------------------------------------


def test_check(small: Path) -> None:
    report = check_card(load_card(small / "card.yaml", DatasetCard), entries=50)
    assert report.entries == 50
    assert len(report.events) == sum(r.entries for r in report.ledger.cutflow.rows if r.step == "met")
    text = printed(report)
    for expected in (
        "Cut flow",
        "some muon",
        "Cuts on particles",
        "isolated",
        "mass_mumu (observer)",
        "train",
    ):
        assert expected in text
    assert any("have negative weights" in w for w in report.warnings)
    assert any("observer mass_mumu is NaN in" in w for w in report.warnings)


def warnings_of(small: Path, *overrides: str) -> str:
    return "\n".join(check_card(load_card(small / "card.yaml", DatasetCard, overrides)).warnings)


def test_check_warns(small: Path) -> None:
    units = warnings_of(small, "units=MeV", "particles.muon.cuts={}", "selection={}")
    numbers = r"[\d.]+ GeV"  # one line for the card, not one for each type
    found = (
        rf"the median pt is {numbers} for muon, {numbers} for jet, {numbers} for met: is units: MeV right\?"
    )
    assert len(re.findall(found, units)) == 1
    assert units.count("median pt") == 1
    assert "btag of jet is -1 for" in warnings_of(small, "missing={}", "particles.jet.max=20")
    assert "feature charge is 0 everywhere" in warnings_of(small, "particles.muon.features.charge=0 * pt")
    assert "no muon in any selected event" in warnings_of(small, "particles.muon.cuts=pt < 0", "selection={}")
    assert "fewer than two particles" in warnings_of(small, "particles.muon.cuts=pt < 0", "selection={}")
    assert "no event of class 'signal'" in warnings_of(small, "selection=event > 1500")
    assert "all weights are 0" in warnings_of(small, "weights=0")
    one = warnings_of(small, "labels=[signal]", "samples.0.class=signal")
    assert "the only class is 'signal'" in one


def test_check_of_an_empty_selection_is_a_warning(small: Path) -> None:
    report = check_card(load_card(small / "card.yaml", DatasetCard, ["selection=count(muon) > 50"]))
    assert "nothing is selected" in report.warnings[-1]
    assert "0.0%" in printed(report)


def test_events_numbered_by_entry_are_noted(tmp_path: Path, card_of: Callable[..., DatasetCard]) -> None:
    values = jagged(np.array([1, 2]), np.array([1.0, 2.0, 3.0]))
    write_ttree(tmp_path / "f.root", {f"Jet_{k}": values for k in ("pt", "eta", "phi", "mass")})
    text = "name: x\nsamples: [{name: s, files: f.root, class: a}]\nlabels: [a]\n"
    card = card_of(text + "particles: {jet: {branches: 'Jet_{}'}}\nfeatures: [pt]\n")
    reading = read(card)
    assert reading.notes[0].startswith(
        f"{tmp_path}/f.root:Events has no event numbers: events are numbered by file"
    )
    assert (reading.events.run.tolist(), reading.events.event.tolist()) == ([0, 0], [0, 1])


FOREIGN = ("[/b]x", "[red]y", ":smile:", "\\\\[z]")


def test_names_of_a_file_are_not_markup(tmp_path: Path) -> None:
    reports = tuple(BranchReport(name, f"{name}<t>", "per event") for name in FOREIGN)
    for tree in FOREIGN:
        text = printed(FileReport(f"{tree}.root", 1, (TreeReport(tree, "TTree", 1, reports),)))
        assert f"{tree} (TTree, 1 entries)" in text
        assert f"{tree}.root" in text
        assert all(f"{name}<t>" in text and f"\n{name} " in text for name in FOREIGN)


@pytest.mark.parametrize("name", FOREIGN)
def test_names_of_a_card_are_not_markup(small: Path, name: str) -> None:
    quoted = f"'{name}'"
    text = (
        CARD.replace("name: dy", f"name: {quoted}")
        .replace("some muon", quoted)
        .replace("hard:", f"{quoted}:")
    )
    text = text.replace("class: signal", f"class: {quoted}").replace(
        "background, signal]", f"background, {quoted}]"
    )
    text = text.replace("n_raw", quoted).replace("units: GeV", f"units: {quoted}")
    (small / "card.yaml").write_text(text)
    report = printed(check_card(load_card(small / "card.yaml", DatasetCard)))
    assert report.count(name) >= 7


def test_no_draft_with_braces_of_a_file(tmp_path: Path) -> None:
    columns = make_columns(60)
    columns |= {f"Mu{{x}}on_{c}": columns[f"Jet_{c}"] for c in ("pt", "eta", "phi", "mass")}
    names = list(columns)
    tree = TreeReport(
        "Events",
        "TTree",
        60,
        tuple(
            BranchReport(n, "float", "per particle" if isinstance(columns[n], ak.Array) else "per event")
            for n in names
        ),
    )
    text = draft_card(FileReport(str(tmp_path / "f.root"), 60, (tree,)))
    assert "Jet_{}" in text
    assert "Mu{x}on" not in text


def nano(path: Path) -> FileReport:
    """Names as long as those of NanoAOD."""
    columns = make_columns(60)
    columns["HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass3p8_or_a_longer_one"] = np.arange(60.0) - 12345
    columns["MET_phi"][7] = -999
    return inspect_file(write_ttree(path / "f.root", columns))


def narrow(report: Any, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(report)
    return console.export_text()


def test_numbers_stay_whole_on_a_narrow_terminal(tmp_path: Path) -> None:
    text = narrow(nano(tmp_path), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "1 × -999" in text
    assert "-1.234e+04" in text  # the lowest value of the branch with the long name
    first = "".join(line[:14].strip() for line in text.splitlines())
    assert "HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass3p8_or_a_longer_one" in first


def test_branches_can_be_chosen_by_name(tmp_path: Path) -> None:
    report = nano(tmp_path)
    (tree,) = inspect_file(report.path, match="Jet_*").trees
    assert tree.branches == tuple(b for b in report.trees[0].branches if b.name[:4] == "Jet_")
    with pytest.raises(
        ReadError, match=r"f.root: no branch matches 'Jet_ptt' \(did you mean 'Jet_pt'\?\); there"
    ):
        inspect_file(report.path, match="Jet_ptt")


def test_a_name_is_no_card() -> None:
    wrong: Any = "charged_higgs"
    with pytest.raises(
        TypeError, match=r"read\(card\): the first argument is the text 'charged_higgs', DatasetCard"
    ):
        read(wrong)
