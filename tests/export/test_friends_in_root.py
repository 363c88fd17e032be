"""Friend trees opened by ROOT itself: RDataFrame, Draw, TTreeReader and the C++ macro."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import vector

from hepxai.export.friends import write_friends

with warnings.catch_warnings():  # the wheel calls itself an alpha on import
    warnings.simplefilter("ignore")
    ROOT = pytest.importorskip("ROOT", reason="needs ROOT: pip install 'hepxai[root]'", exc_type=ImportError)

ROOT.gROOT.SetBatch(True)


@pytest.fixture(scope="module")
def friends(nano, explain, tmp_path_factory) -> Path:
    """Folder of friends: attention of all events, edge_ig of the signal only."""
    folder, events = tmp_path_factory.mktemp("friends"), nano.events
    made = [
        explain["attention"](events),
        explain["edge_ig"](events[events.label == 1]),
        explain["node_ig"](events),
    ]
    write_friends(folder, events, made, scores=np.linspace(-4, 4, len(events)))
    return folder


@pytest.fixture(params=[False, True], ids=["one thread", "threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[bool]:
    if request.param:
        ROOT.EnableImplicitMT(2)
    yield request.param
    if request.param:
        ROOT.DisableImplicitMT()


def chains(nano: Any, folder: Path) -> tuple[Any, Any]:
    """Chain of the inputs with the chain of friends, joined by hand."""
    chain, friend = ROOT.TChain(), ROOT.TChain()
    for source, path in zip(nano.events.files, sorted(folder.glob("*.root")), strict=True):
        name, _, tree = source.rpartition(":")
        chain.AddFile(name, ROOT.TTree.kMaxEntries, tree)
        friend.AddFile(str(path), ROOT.TTree.kMaxEntries, "hepxai")
    chain.AddFriend(friend, "hepxai")
    return chain, friend


def in_entry_order(nano: Any) -> Iterator[tuple[dict[str, Any], int | None]]:
    """(collections, event or None) of all entries of the chain."""
    events = nano.events
    at = {(f, e): i for i, (f, e) in enumerate(zip(events.file, events.entry, strict=True))}
    for f, entries in enumerate(nano.content):
        for e, collections in enumerate(entries):
            yield collections, at.get((f, e))


def muon_pairs(nano: Any, attribution: Any, element: tuple[int, ...]) -> list[tuple[float, float, float]]:
    """(mass, value, weight) of all ordered muon pairs, from the inputs alone."""
    found, events = [], attribution.events
    for event in range(len(events)):
        muons = nano.content[events.file[event]][events.entry[event]]["Muon"]
        p4 = [vector.obj(pt=m[0], eta=m[1], phi=m[2], mass=m[3]) for m in muons.astype(float)]
        for p in range(attribution.offsets[event], attribution.offsets[event + 1]):
            src, dst = attribution.pairs.src[p], attribution.pairs.dst[p]
            if events.type[src] == events.type[dst] == 1:
                mass = (p4[events.index[src]] + p4[events.index[dst]]).mass
                found.append((mass, attribution.values[(p, *element)], events.weight[event]))
    return found


def frame_of(nano: Any, folder: Path, how: str) -> tuple[Any, Any]:
    """RDataFrame, and what must outlive it."""
    if how == "FromSpec":  # the working folder is that of the friends
        return ROOT.RDF.Experimental.FromSpec("friends.json"), None
    held = chains(nano, folder)
    return ROOT.RDataFrame(held[0]), held


@pytest.mark.parametrize("how", ["FromSpec", "AddFriend"])
def test_rows_are_aligned(nano, friends, threads, how, monkeypatch):
    monkeypatch.chdir(friends)
    frame, _held = frame_of(nano, friends, how)
    names = ["event", "Muon_pt", "hepxai_selected", "hepxai_score", "hepxai_label", "hepxai_particle_type"]
    names += ["hepxai_particle_index", "hepxai_edge_ig_value"]
    columns = frame.AsNumpy(names)
    score = np.linspace(-4, 4, len(nano.events))
    in_order = np.argsort(columns["event"])  # threads finish in any order
    for place, (collections, event) in zip(in_order, in_entry_order(nano), strict=True):
        row = {name: columns[name][place] for name in names}
        assert np.array_equal(row["Muon_pt"], collections["Muon"][:, 0])
        assert bool(row["hepxai_selected"]) == (event is not None)
        assert row["hepxai_score"] == pytest.approx(-999 if event is None else score[event])
        assert row["hepxai_label"] == (-1 if event is None else nano.events.label[event])
        own = slice(*nano.events.offsets[event : event + 2]) if event is not None else slice(0)
        assert list(row["hepxai_particle_type"]) == nano.events.type[own].tolist()
        assert list(row["hepxai_particle_index"]) == nano.events.index[own].tolist()
        n = own.stop - (own.start or 0)
        signal = event is not None and nano.events.label[event] == 1
        assert len(row["hepxai_edge_ig_value"]) == (n * (n - 1) if signal else 0)


MASS = """
ROOT::RVec<std::size_t> a = {0}_src[muons], b = {0}_dst[muons];
return InvariantMasses(Take(Muon_pt, a), Take(Muon_eta, a), Take(Muon_phi, a), Take(Muon_mass, a),
                       Take(Muon_pt, b), Take(Muon_eta, b), Take(Muon_phi, b), Take(Muon_mass, b));
"""


@pytest.mark.parametrize(
    ("method", "column", "element"), [("attention", "value_conv_2_head1", (1, 1)), ("edge_ig", "value", ())]
)
def test_values_of_the_muon_pair_against_its_mass(
    nano, explain, friends, threads, method, column, element, monkeypatch
):
    monkeypatch.chdir(friends)
    frame, _ = frame_of(nano, friends, "FromSpec")
    name = f"hepxai_{method}"
    drawn = (
        frame.Filter("hepxai_selected")
        .Define("muons", f"{name}_src_type == 1 && {name}_dst_type == 1")
        .Define("mass", MASS.format(name))
        .Define("value", f"{name}_{column}[muons]")
        .Histo2D(("h", "", 20, 0.0, 200.0, 10, -1.0, 1.0), "mass", "value", "hepxai_weight")
    )
    events = nano.events if method == "attention" else nano.events[nano.events.label == 1]
    pairs = muon_pairs(nano, explain[method](events), element)
    assert len(pairs) > 50
    x, y, w = np.array(pairs).T
    expected, _, _ = np.histogram2d(x, y, bins=(np.linspace(0, 200, 21), np.linspace(-1, 1, 11)), weights=w)
    found = [[drawn.GetBinContent(i + 1, j + 1) for j in range(10)] for i in range(20)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_draw(nano, friends):
    chain, _friend = chains(nano, friends)
    n = chain.Draw("event:hepxai_score", "hepxai_selected", "goff")
    order, score = np.argsort(nano.events.event), np.linspace(-4, 4, len(nano.events))
    assert [chain.GetV1()[i] for i in range(n)] == nano.events.event[order].tolist()
    assert [chain.GetV2()[i] for i in range(n)] == pytest.approx(score[order])
    n = chain.Draw("Muon_pt[hepxai_edge_ig_src]", "hepxai_edge_ig_src_type == 1", "goff")
    types, signal = nano.events.type, nano.events.label == 1
    muons = [np.sum(types[slice(*nano.events.offsets[e : e + 2])] == 1) for e in np.flatnonzero(signal)]
    assert n == np.sum(muons * (nano.events.counts[signal] - 1))


def test_tree_reader(nano, friends):
    chain, _friend = chains(nano, friends)
    reader = ROOT.TTreeReader(chain)
    pt = ROOT.TTreeReaderArray["float"](reader, "Muon_pt")
    selected = ROOT.TTreeReaderValue["bool"](reader, "hepxai_selected")
    kind = ROOT.TTreeReaderArray["int"](reader, "hepxai.hepxai_particle_type")
    index = ROOT.TTreeReaderArray["int"](reader, "hepxai.hepxai_particle_index")
    for collections, event in in_entry_order(nano):
        assert reader.Next()
        assert bool(selected.Get()[0]) == (event is not None)
        found = [pt[i] for t, i in zip(kind, index, strict=True) if t == 1]
        kept = -np.sort(-collections["Muon"][:, 0]) if event is not None else np.zeros(0)
        assert found == kept[kept > 8].tolist()
    assert not reader.Next()


def run_macro(folder: Path, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("root", path=str(Path(sys.executable).parent)) or shutil.which("root")
    if program is None:
        pytest.skip("the root program is not on the path")
    call = f"{folder / 'friends.C'}({', '.join(map(json.dumps, arguments))})"
    command = [program, "-l", "-b", "-q", call]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=120, check=False)


def test_the_macro_draws_from_a_moved_folder(nano, explain, friends, tmp_path: Path):
    """Friends that moved without their inputs are told so, with the remedy."""
    moved = shutil.copytree(friends, tmp_path / "elsewhere" / "moved")
    done = run_macro(moved, tmp_path)
    assert done.returncode == 1
    remedy = r'name the folder where they were written, friends\.C\("", "/where/they/were"\)'
    assert re.search(rf"nothing is drawn: no tree Events in .*z/nano\.root\. .*{remedy}", done.stderr)
    assert not (tmp_path / "friends_plots.root").exists()
    done = run_macro(moved, tmp_path, "", str(friends))
    assert done.returncode == 0, done.stderr
    drawn = uproot.open(tmp_path / "friends_plots.root")
    signal = nano.events.label == 1
    total = drawn["hepxai_probability_of_signal"].values(flow=True).sum()
    assert total == pytest.approx(nano.events.weight[signal].sum())
    for name, events, element in (
        ("attention_value_conv_1_head0", nano.events, (0, 0)),
        ("edge_ig_value", nano.events[signal], ()),
    ):
        histogram = drawn[f"hepxai_{name}"]
        pairs = muon_pairs(nano, explain[name.partition("_value")[0]](events), element)
        x, y, w = np.array(pairs).T
        edges = [axis.edges() for axis in histogram.axes]
        expected, _, _ = np.histogram2d(x, y, bins=edges, weights=w)
        assert histogram.values(flow=True).sum() == pytest.approx(w.sum())
        # masses are single precision there: a few pairs fall on the other side of a bin edge
        assert np.abs(histogram.values() - expected).sum() < 0.05 * np.abs(w).sum()


@pytest.mark.slow
def test_the_macro_names_a_type_that_is_not_there(friends, tmp_path: Path):
    done = run_macro(friends, tmp_path, "tau")
    assert "no particle type tau here" in done.stderr
    assert done.returncode == 1


@pytest.fixture
def pair(nano, explain, tmp_path: Path) -> Path:
    """Folder with the inputs and, in ``friends``, their friends."""
    files = []
    for number, source in enumerate(nano.events.files):
        path, _, tree = source.rpartition(":")
        files.append(f"{shutil.copy(path, tmp_path / f'{number}.root')}:{tree}")
    write_friends(
        tmp_path / "friends", nano.events.replace(files=tuple(files)), scores=np.zeros(len(nano.events))
    )
    return tmp_path


def rewrite(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    """Replace the first input by one with other event numbers."""

    def apply(folder: Path) -> None:
        with uproot.open(folder / "0.root") as file:
            event = change(file["Events/event"].array(library="np"))
        with uproot.recreate(folder / "0.root") as file:
            file.mktree("Events", {"event": event.dtype}).extend({"event": event})

    return apply


def exchange_two(event: np.ndarray) -> np.ndarray:
    event[[30, 34]] = event[[34, 30]]
    return event


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "0.root").unlink(),
            r"no tree Events in .*0\.root\. If the friends were moved",
        ),
        (lambda folder: (folder / "0.root").write_bytes(b"root"), r"no tree Events in .*0\.root"),
        (lambda folder: (folder / "friends" / "000_0.root").unlink(), r"no tree hepxai in .*000_0\.root"),
        (rewrite(lambda event: event[:69]), r"0\.root is not .* \(69 entries, 70 of them explained\)"),
        (rewrite(lambda event: event[::-1]), r"0\.root is not .* \(event \d+ at entry \d+, \d+ explained\)"),
        (rewrite(exchange_two), r"event \d+ at entry 3[04], 3[04] explained\)\. Put that file back"),
    ],
)
def test_the_macro_refuses_inputs_that_are_not_those_explained(pair: Path, change, message: str):
    change(pair)
    done = run_macro(pair / "friends", pair)
    assert done.returncode == 1
    assert re.search(f"nothing is drawn: .*{message}", done.stderr), done.stderr
    assert not (pair / "friends_plots.root").exists()


@pytest.mark.slow
def test_inputs_and_friends_move_together(pair: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch):
    """Friends in exchanged places are refused; put back, they are drawn."""
    moved = Path(shutil.move(pair, tmp_path_factory.mktemp("moved") / "all"))
    for name in ("friends.json", "friends.C"):
        assert str(pair) not in (moved / "friends" / name).read_text()
    for code in (1, 0):
        for old, new in (("000_0.root", "x"), ("002_2.root", "000_0.root"), ("x", "002_2.root")):
            (moved / "friends" / old).rename(moved / "friends" / new)
        assert run_macro(moved / "friends", moved).returncode == code
    monkeypatch.chdir(moved / "friends")
    frame = ROOT.RDF.Experimental.FromSpec("friends.json").Filter("hepxai_selected")
    assert frame.Count().GetValue() == frame.Filter("hepxai_event == event").Count().GetValue() == 69


@pytest.mark.slow
@pytest.mark.parametrize(
    ("identity", "events", "drawn"),
    [
        ((), [5, 9], True),  # not read from a card: nothing is known of the branches
        (("", "", "number"), [5, 9], True),
        (("", "", "number"), [5, 8], False),
        (("number", "", ""), [5, 9], False),  # their run is 0
        (("run", "luminosityBlock", "event"), [0, 1], True),  # without event numbers: numbered by entry
        (("run", "luminosityBlock", "event"), [5, 9], False),
    ],
)
def test_identities_by_other_names_and_by_entry(
    nano, tmp_path: Path, identity: tuple[str, ...], events: list[int], drawn: bool
):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"number": np.uint64}).extend({"number": np.array([5, 9], dtype=np.uint64)})
    two = nano.events[np.flatnonzero(nano.events.file == 0)[:2]].replace(
        schema=replace(nano.events.schema, identity=identity),
        run=np.zeros(2, dtype=np.int64),
        event=np.array(events),
        entry=np.array([0, 1]),
        files=(f"{tmp_path / 'a.root'}:Events",),
        file_entries=(2,),
    )
    write_friends(tmp_path / "friends", two)
    assert run_macro(tmp_path / "friends", tmp_path).returncode == (0 if drawn else 1)


@pytest.mark.slow
def test_the_macro_compiles_whatever_the_names_hold(nano, explain, tmp_path: Path):
    bad = 'Muon_pt, a) + gSystem->Exec("touch owned"); //'
    schema = replace(
        nano.events.schema,
        types=('m"u\x01\n??/', "lepton", "jet", "met"),  # without muons the first type is drawn
        collections=(bad, "Muon", "Jet", "MET"),
        classes=("t t̄ + jets", '"; signal'),
    )
    events = nano.events.replace(schema=schema)
    scores = np.zeros(len(events))
    write_friends(tmp_path / "odd", events, [explain["edge_ig"](events)], scores=scores)
    done = run_macro(tmp_path / "odd", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "owned").exists()
    assert uproot.open(tmp_path / "friends_plots.root").classnames() == {
        "hepxai_edge_ig_value;1": "TH1D",
        "hepxai_probability_of_t_t____jets;1": "TH1D",
        "hepxai_probability_of____signal;1": "TH1D",
    }
