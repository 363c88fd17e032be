"""Branches of more than numbers: ROOT's vectors, leaf lists, equal names, and what uproot cannot read."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from ntuples import make_columns, write_ttree
from uproot.interpretation.jagged import AsJagged

from hepxai.cards import CardError, load_card
from hepxai.datasets import DatasetCard, ReadError, draft_card, inspect_file, read
from hepxai.datasets.inspection import BranchReport
from hepxai.events import Events

ROOT = pytest.importorskip("ROOT")
ROOT.gErrorIgnoreLevel = ROOT.kFatal  # it warns of classes that it streams in its own way
CardOf = Callable[..., DatasetCard]
#: One lepton an event, and 0 to 2 jets: pt, eta, phi, mass.
LEPTONS = [(20.0 + i, 0.3, 0.2, 0.1) for i in range(30)]
JETS = [[(30.0 + k, 1.0, 1.0, 5.0) for k in range(i % 3)] for i in range(30)]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File with everything that may hold a four-momentum."""
    folder = tmp_path_factory.mktemp("objects")
    with chdir(folder):  # where ROOT leaves the dictionary that it compiles
        return write_objects(folder / "objects.root")


def write_objects(path: Path) -> Path:
    polar, cartesian = ROOT.Math.PtEtaPhiMVector, ROOT.Math.PxPyPzEVector
    file, tree = ROOT.TFile(str(path), "RECREATE"), ROOT.TTree("Events", "")
    lead, electron, missing = ROOT.TLorentzVector(), cartesian(), ROOT.TVector2()
    lep1, lep2, number, mu = polar(), polar(), array("q", [0]), array("f", [0] * 4)
    jets, several = ROOT.std.vector[ROOT.TLorentzVector](), ROOT.std.vector[cartesian]()
    clones = ROOT.TClonesArray("TLorentzVector", 5)
    tree.Branch("event", number, "event/L")
    tree.Branch("mu", mu, "pt/F:eta/F:phi/F:m/F")
    once = {"lead": lead, "dotted.": lead, "lep1": lep1, "lep2": lep2, "electron": electron, "MET": missing}
    for name, value in (once | {"jets": jets, "several": several, "clones": clones}).items():
        tree.Branch(name, value)
    for name, value in {"whole": lead, "unsplit": lep1, "memberwise": several, "packed": clones}.items():
        tree.Branch(name, value, 32000, 0)
    for i, lepton in enumerate(LEPTONS):
        number[0], mu[:] = i, array("f", lepton)
        lead.SetPtEtaPhiM(*lepton)
        lep1.SetCoordinates(*lepton)
        lep2.SetCoordinates(50 + i, -1, 2, 0.1)
        electron.SetPxPyPzE(lead.Px(), lead.Py(), lead.Pz(), lead.E())
        missing.SetMagPhi(lepton[0], lepton[2])
        for values in (jets, several):
            values.clear()
        clones.Clear()
        for k, jet in enumerate(JETS[i]):
            one = ROOT.TLorentzVector()
            one.SetPtEtaPhiM(*jet)
            jets.push_back(one)
            several.push_back(cartesian(one.Px(), one.Py(), one.Pz(), one.E()))
            clones.ConstructedAt(k).SetPtEtaPhiM(*jet)
        tree.Fill()
    tree.Write()
    file.Close()
    return path


def card_text(path: Path, particle: str, more: str = "") -> str:
    return (
        f"name: x\nsamples: [{{name: s, files: {path}, class: a}}]\nlabels: [a]\n"
        f"features: [pt, eta, phi, mass]\nparticles: {{lep: {particle}}}\n{more}"
    )


def momenta(events: Events) -> np.ndarray:
    return np.stack([events.values_of(n) for n in ("pt", "eta", "phi", "mass")], axis=1)


@pytest.mark.parametrize(
    "branches",
    [
        *("lead", "dotted", "dotted.", "whole", "lep1", "electron", "mu", "'mu.{}'"),
        "'lep1.fCoordinates.f{}'",
        "{px: lead.fP.fX, py: lead.fP.fY, pz: lead.fP.fZ, E: lead.fE}",
        "{pt: mu.pt, eta: mu.eta, phi: mu.phi, mass: mu.m}",
        "{pt: sqrt(lead.fP.fX**2 + lead.fP.fY**2), eta: lep1.fCoordinates.fEta, phi: mu.phi, mass: mu.m * 1}",
    ],
)
def test_one_lepton(objects: Path, card_of: CardOf, branches: str) -> None:
    events = read(card_of(card_text(objects, f"{{branches: {branches}}}"))).events
    assert events.counts.tolist() == [1] * 30
    np.testing.assert_allclose(momenta(events), LEPTONS, rtol=2e-6, atol=4e-3)


@pytest.mark.parametrize(
    "branches",
    [
        *("jets", "clones", "several"),
        "{px: jets.fP.fX, py: jets.fP.fY, pz: jets.fP.fZ, E: jets.fE}",
        "{px: clones/fP.fX, py: clones.fP.fY, pz: clones.fP.fZ, E: clones/clones.fE}",
    ],
)
def test_lists_of_jets(objects: Path, card_of: CardOf, branches: str) -> None:
    events = read(card_of(card_text(objects, f"{{branches: {branches}}}"))).events
    assert events.counts.tolist() == [len(jets) for jets in JETS]
    np.testing.assert_allclose(momenta(events), [j for jets in JETS for j in jets[::-1]], rtol=1e-4)


def test_several_objects_are_one_type(objects: Path, card_of: CardOf) -> None:
    events = read(card_of(card_text(objects, "{branches: [lep1, lep2], order_by: index}"))).events
    assert events.values_of("pt")[:4].tolist() == [20, 50, 21, 51]


def test_missing_momentum_as_an_object(objects: Path, card_of: CardOf) -> None:
    events = read(card_of(card_text(objects, "{branches: MET}"))).events
    np.testing.assert_allclose(events.values_of("pt"), [pt for pt, *_ in LEPTONS], rtol=1e-6)


def test_inspection_lists_members_and_reasons(objects: Path) -> None:
    (tree,) = inspect_file(objects).trees
    assert (tree.branch("lead.fE").shape, tree.branch("clones.fP.fX").shape) == ("per event", "per particle")
    assert (tree.branch("mu.pt").low, tree.branch("mu.pt").high) == (20, 49)
    assert tree.branch("lep2.fCoordinates.fPt").high == 79
    assert "uproot has no columns for it" in tree.branch("packed").problem
    for name in ("memberwise.fCoordinates.fX", "unsplit.fCoordinates.fPt"):
        problem = "whole objects, whose bytes uproot misreads"
        assert tree.branch(name) == BranchReport(name, tree.branch(name).type, "other", problem=problem)


def test_draft_of_objects(objects: Path, tmp_path: Path) -> None:
    text = draft_card(inspect_file(objects, match="[ejM]*"))
    assert all(
        line in text for line in ("branches: jets\n", "branches: electron\n", "{px: MET.fX, py: MET.fY}")
    )
    (tmp_path / "card.yaml").write_text(text)
    events = read(load_card(tmp_path / "card.yaml", DatasetCard)).events
    assert events.n_particles == sum(map(len, JETS)) + 2 * 30


# --- refusals, and what they advise ----------------------------------------------------------------


def refused(card: DatasetCard, kind: type[ValueError] = CardError) -> str:
    with pytest.raises(kind) as problem:
        read(card)
    return str(problem.value)


@pytest.mark.parametrize(
    "name",
    [
        "lep2.fCoordinates.fPt",
        "lep2/fCoordinates.fPt",
        "lep2/fCoordinates/fCoordinates.fPt",
    ],
)
def test_equal_names_are_told_apart_by_their_paths(objects: Path, card_of: CardOf, name: str) -> None:
    def text(pt: str) -> str:
        missing = "missing: {lep2.fCoordinates.fPt: {values: [53], replace: 1}}"
        other = "eta: 0 * mu.pt, phi: 0 * mu.pt, mass: 0 * mu.pt"
        return card_text(objects, f"{{branches: {{pt: {pt}, {other}}}}}", missing)

    message = refused(card_of(text("fCoordinates.fPt")))
    advice = (
        "2 branches of {} are called 'fCoordinates.fPt'; write lep1.fCoordinates.fPt or lep2.fCoordinates.fPt"
    )
    assert message.endswith(advice.format(f"{objects}:Events"))
    pt = read(card_of(text(name))).events.values_of("pt")
    assert pt[:5].tolist() == [50, 51, 52, 1, 54]  # missing: holds whichever name is used


@pytest.mark.parametrize(("stored", "split"), [("memberwise", "several"), ("unsplit", "lep1")])
def test_misread_objects_are_refused(objects: Path, card_of: CardOf, stored: str, split: str) -> None:
    message = refused(card_of(card_text(objects, f"{{branches: {stored}}}")), ReadError)
    assert f"branch {stored} holds whole objects, whose bytes uproot misreads" in message
    assert message.endswith("write it with a split level (the default of TTree::Branch), or as numbers")
    assert read(card_of(card_text(objects, f"{{branches: {split}}}"))).events.n_particles == 30


def test_types_without_columns(objects: Path, card_of: CardOf) -> None:
    message = refused(card_of(card_text(objects, "{branches: lead}", "weights: packed")))
    assert "weights: branch packed of" in message
    assert message.endswith("has type TClonesArray, not numbers")


def test_what_uproot_cannot_read_is_no_damaged_file(
    objects: Path, card_of: CardOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("of a kind\nin file x")

    monkeypatch.setattr(AsJagged, "basket_array", refuse)
    message = refused(card_of(card_text(objects, "{branches: lead}", "weights: sum(jets.fE)")), ReadError)
    reason = "uproot cannot read branch jets (NotImplementedError: of a kind), although its bytes are whole"
    assert message == f"{objects}:Events: {reason}; leave it off the card"
    assert read(card_of(card_text(objects, "{branches: lead}"))).events.n_particles == 30


def test_a_pattern_without_braces_that_is_no_object(tmp_path: Path, card_of: CardOf) -> None:
    path = write_ttree(tmp_path / "f.root", make_columns(20))
    message = refused(card_of(card_text(path, "{branches: Muon}")))
    assert "found no momenta for Muon in" in message
    assert "(did you mean 'Muon_{}'?)" in message
    assert read(card_of(card_text(path, "{branches: 'Muon_{}'}"))).events.n_particles > 0


# --- files that uproot can open --------------------------------------------------------------------

ODD = """
enum HepxaiColour { kHepxaiRed, kHepxaiBlue };
void hepxai_odd(const char* path) {
  TFile file(path, "RECREATE");
  file.mkdir("deep/er")->cd();
  TNtuple ntuple("nt", "", "x:y"); ntuple.Fill(1, 2); ntuple.Write();
  file.cd();
  TTree none("none", ""); none.Write();
  TTree tree("Events", "");
  double x; std::string text; std::vector<std::string> texts; std::vector<std::vector<float>> nested;
  std::map<int, double> map; std::pair<int, float> pair; std::bitset<8> bits; std::vector<bool> flags;
  char letters[8] = "abc"; int matrix[2][3] = {{1, 2, 3}, {4, 5, 6}}; HepxaiColour colour = kHepxaiBlue;
  auto named = new TNamed("n", "t"); auto histogram = new TH1D("h", "", 3, 0, 1);
  std::set<int> set; std::deque<float> deque; UChar_t byte;
  tree.Branch("x", &x); tree.Branch("text", &text); tree.Branch("texts", &texts);
  tree.Branch("nested", &nested);
  tree.Branch("map", &map); tree.Branch("pair", &pair); tree.Branch("bits", &bits);
  tree.Branch("flags", &flags);
  tree.Branch("letters", letters, "letters/C"); tree.Branch("matrix", matrix, "matrix[2][3]/I");
  tree.Branch("colour", &colour, "colour/I"); tree.Branch("named", &named);
  tree.Branch("histogram", &histogram);
  tree.Branch("set", &set); tree.Branch("deque", &deque); tree.Branch("byte", &byte, "byte/b");
  for (int i = 0; i < 5; i++) {
    x = i; byte = i; text = "a"; texts = {"b", "c"}; nested = {{1, 2}, {}}; map = {{i, 2.}}; pair = {i, 2};
    bits = i; flags = {true, false}; set = {i}; deque = {1.f * i};
    tree.Fill();
    if (i == 2) tree.Write("", TObject::kWriteDelete * 0);
  }
  tree.Write();
}
"""


def test_odd_files_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "odd.root"
    ROOT.gInterpreter.Declare(ODD)
    ROOT.hepxai_odd(str(path))
    report = inspect_file(path)
    assert {t.name: t.entries for t in report.trees} == {"Events": 5, "deep/er/nt": 1, "none": 0}
    tree = report.trees[0]
    assert (tree.branch("x").low, tree.branch("x").high) == (0, 4)
    shapes = {n: tree.branch(n).shape for n in ("text", "texts", "nested", "flags", "matrix")}
    assert shapes == {
        "text": "text",
        "texts": "text",
        "flags": "per particle",
        "nested": "other",
        "matrix": "other",
    }
    with uproot.open(path) as file:
        listed = {n.split(".")[0] for n in (b.name for b in tree.branches)}
        assert {k.split("/")[0] for k in file["Events"].keys()} <= listed  # noqa: SIM118


def test_two_branches_of_one_name(tmp_path: Path, card_of: CardOf) -> None:
    path = tmp_path / "twice.root"
    file, tree = ROOT.TFile(str(path), "RECREATE"), ROOT.TTree("Events", "")
    one, two = array("f", [1]), array("f", [2])
    for name, value in (("pt", one), ("pt", two), ("eta", one), ("phi", one)):
        tree.Branch(name, value, f"{name}/F")
    tree.Fill()
    tree.Write()
    file.Close()
    listed = inspect_file(path).trees[0].branches
    assert [b.name for b in listed if not b.problem] == ["pt", "eta", "phi"]
    assert [b.name for b in listed if "hidden by another branch of its name" in b.problem] == ["pt"]
    card = card_of(card_text(path, "{branches: '{}', mass: 0}"))
    message = f"2 branches of {path}:Events are called 'pt'; rename all but one in the file"
    assert refused(card).endswith(message)
    file = ROOT.TFile(str(path), "UPDATE")
    tree = file.Get("Events")
    tree.GetListOfBranches().At(1).SetName("pt2")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    assert read(card).events.values_of("pt").tolist() == [1]


def test_damaged_bytes_are_told_from_types_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_ttree(tmp_path / "f.root", make_columns(200), chunk=200)
    with uproot.open(path) as file:
        start = int(file["Events"]["Muon_pt"].member("fBasketSeek")[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + bytes(200) + whole[start + 200 :])
    (tree,) = inspect_file(path).trees
    assert tree.branch("Muon_pt").problem.startswith("truncated or damaged")
    assert [b.name for b in tree.branches if b.problem] == ["Muon_pt"]
    assert tree.branch("Jet_pt").count > 0
    path.write_bytes(whole[:-200])
    with pytest.raises(ReadError, match=r"f.root: cannot be read .* truncated or damaged, copy it again"):
        inspect_file(path)


def test_only_matching_branches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ttree(tmp_path / "f.root", make_columns(60))
    asked: list[Any] = []
    arrays = uproot.TTree.arrays
    monkeypatch.setattr(
        uproot.TTree, "arrays", lambda tree, names, **k: asked.append(names) or arrays(tree, names, **k)
    )
    inspect_file(path, match="Muon_*")
    (names,) = asked  # in one go
    assert names
    assert all(name.startswith("Muon_") for name in names)
