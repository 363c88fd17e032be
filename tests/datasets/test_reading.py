"""Reading: against a reader with loops, and the same events however they are stored."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ntuples import CARD, jagged, make_columns, write_rntuple, write_ttree
from slow_reader import features_of, read_slowly

from hepxai.cards import load_card
from hepxai.datasets import DatasetCard, ReadLog, iterate, read
from hepxai.events import Events

CardOf = Callable[..., DatasetCard]

MUONS = """
name: muons
samples: [{name: s, files: FILE, class: signal}]
labels: [signal]
particles:
  muon: BRANCHES
features: [energy, px, py, pz, pt, eta, phi, mass, charge]
"""


def muons(file: str, branches: str) -> str:
    """Card of one particle type."""
    return MUONS.replace("FILE", file).replace("BRANCHES", branches)


def assert_same(a: Events, b: Events, *, rtol: float = 0, ignore: tuple[str, ...] = ()) -> None:
    columns = {**a._event_columns(), **a._particle_columns(), "offsets": a.offsets}
    others = {**b._event_columns(), **b._particle_columns(), "offsets": b.offsets}
    for name in columns.keys() - set(ignore):
        np.testing.assert_allclose(columns[name], others[name], rtol=rtol, atol=rtol, err_msg=name)


def load(folder: Path, *overrides: str) -> DatasetCard:
    return load_card(folder / "card.yaml", DatasetCard, overrides)


# --- against loops -------------------------------------------------------------------------------


def test_equals_a_reader_with_loops(small: Path) -> None:
    events = read(load(small)).events
    slow = [(f, e) for f, (n, w) in enumerate((("background", 0.5), ("signal", 1.0)))
            for e in read_slowly(small / f"{n}.root", w)]  # fmt: skip
    assert len(events) == len(slow)
    assert events.schema.features[-3:] == ("is_muon", "is_jet", "is_met")
    assert events.file.tolist() == [f for f, _ in slow]
    assert events.label.tolist() == [f for f, _ in slow]
    for name in ("entry", "run", "luminosity_block", "event", "split"):
        assert getattr(events, name).tolist() == [getattr(e, name) for _, e in slow], name
    np.testing.assert_allclose(events.weight, [e.weight for _, e in slow])
    np.testing.assert_allclose(events.globals, [e.globals for _, e in slow], rtol=1e-5)
    for name in ("mass_mumu", "n_raw"):
        expected = [e.observers[name] for _, e in slow]
        np.testing.assert_allclose(events.observers[name], expected, rtol=1e-4, err_msg=name)


def test_particles_equal_those_of_a_reader_with_loops(small: Path) -> None:
    events = read(load(small)).events
    slow = [e for n in ("background", "signal") for e in read_slowly(small / f"{n}.root", 1)]
    particles = [p for e in slow for p in e.particles]
    assert events.counts.tolist() == [len(e.particles) for e in slow]
    assert events.type.tolist() == [p["type"] for p in particles]
    assert events.index.tolist() == [p["index"] for p in particles]
    assert events.truth["fromA"].tolist() == [bool(p.get("fromA", False)) for p in particles]
    expected = np.array([features_of(p) for p in particles])
    np.testing.assert_allclose(events.particles, expected, rtol=2e-5, atol=2e-5)
    p4 = [[p[n] for n in ("pt", "eta", "phi", "mass")] for p in particles]
    np.testing.assert_allclose(events.p4, p4, rtol=1e-6)


def test_files_cutflow_and_schema(small: Path) -> None:
    reading = read(load(small))
    events = reading.events
    assert [(f.sample, f.entries, Path(f.path).name) for f in reading.files] == [
        ("dy", 90, "background.root"),
        ("tt", 130, "signal.root"),
    ]
    assert events.files == tuple(map(str, reading.files))
    assert events.file_entries == (90, 130)
    assert events.samples == ("dy", "tt")
    np.testing.assert_array_equal(events.sample_numbers()[1], events.file)
    assert len(reading.files[0].sha256() or "") == 64
    assert events.schema.collections == ("Muon", "Jet", "MET")
    assert events.schema.units[:4] == ("GeV",) * 4
    assert (events.schema.globals, events.schema.global_units) == (("ht", "n_jets"), ("GeV", ""))
    rows = reading.cutflow.of("dy")
    assert [r.step for r in rows] == ["all entries", "some muon", "met"]
    mine = events.weight[events.file == 0]
    assert (rows[-1].entries, rows[-1].weight) == (len(mine), pytest.approx(mine.sum()))
    assert rows[-1].error == pytest.approx(np.sqrt(np.sum(mine**2)))
    assert rows[-1].efficiency == pytest.approx(rows[-1].weight / rows[0].weight)
    assert reading.notes == ()


# --- the same events, however they are stored ------------------------------------------------------


def test_rntuple_equals_ttree(small: Path) -> None:
    trees = read(load(small)).events
    write_rntuple(small / "signal.root", make_columns(130, seed=1) | counters(130, 1))
    write_rntuple(small / "background.root", make_columns(90, seed=2) | counters(90, 2))
    assert_same(trees, read(load(small)).events)


def counters(n: int, seed: int) -> dict[str, np.ndarray]:
    return {"nJet": ak.to_numpy(ak.num(make_columns(n, seed)["Jet_pt"])).astype(np.int32)}


@pytest.mark.parametrize("chunk", [11, 40, 1000, "20 kB"])
def test_chunks_do_not_matter(small: Path, chunk: int | str) -> None:
    assert_same(read(load(small)).events, read(load(small), chunk=chunk).events)


def test_iterate_gives_what_read_gives(small: Path) -> None:
    ledger = ReadLog()
    chunks = list(iterate(load(small), chunk=30, ledger=ledger))
    assert len(chunks) == 3 + 5
    reading = read(load(small))
    assert_same(Events.concatenate(chunks), reading.events)
    assert ledger.cutflow.rows == reading.cutflow.rows


def test_memory_is_flat(small: Path) -> None:
    def peak(entries: int) -> int:
        write_ttree(small / "signal.root", make_columns(entries, seed=1), chunk=2000)
        tracemalloc.start()
        for events in iterate(load(small), chunk=2000):
            del events
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(16_000) < 1.25 * peak(4_000)


def test_limit_is_per_sample(small: Path) -> None:
    everything, some = read(load(small)), read(load(small), limit=50)
    assert_same(some.events, everything.events[everything.events.entry < 50])
    assert [r.entries for r in some.cutflow.rows if r.step == "all entries"] == [50, 50]
    with pytest.raises(ValueError, match="limit is 0"):
        read(load(small), limit=0)


def test_mev_equals_gev(small: Path) -> None:
    gev = read(load(small)).events
    columns = make_columns(130, seed=1), make_columns(90, seed=2)
    for name, own in zip(("signal", "background"), columns, strict=True):
        for key in [k for k in own if k.endswith(("_pt", "_mass"))]:
            own[key] = own[key] * np.float32(1000)
        write_ttree(small / f"{name}.root", own)
    assert_same(gev, read(load(small, "units=MeV")).events, rtol=2e-6)


def cartesian(columns: dict[str, ak.Array]) -> dict[str, ak.Array]:
    wide = {k: ak.values_astype(columns[f"Muon_{k}"], np.float64) for k in ("pt", "eta", "phi", "mass")}
    p = {
        "Px": wide["pt"] * np.cos(wide["phi"]),
        "Py": wide["pt"] * np.sin(wide["phi"]),
        "Pz": wide["pt"] * np.sinh(wide["eta"]),
    }
    energy = np.sqrt(p["Px"] ** 2 + p["Py"] ** 2 + p["Pz"] ** 2 + wide["mass"] ** 2)
    return {f"Muon_{k}": v for k, v in p.items()} | {"Muon_E": energy}


FROM_ENERGY = """
    branches: {px: Muon_Px, py: Muon_Py, pz: Muon_Pz, E: Muon_E, q: Muon_charge}
    features: {charge: q}
"""
FROM_PATTERN = """
    branches: Muon_{}
    features: {charge: charge}
"""
FROM_MASS = """
    branches:
      px: Muon_Px
      py: Muon_Py
      pz: Muon_Pz
      mass: sqrt(maximum(0, Muon_E**2 - Muon_Px**2 - Muon_Py**2 - Muon_Pz**2))
    features: {charge: Muon_charge}
"""


@pytest.mark.parametrize("branches", [FROM_ENERGY, FROM_PATTERN, FROM_MASS])
def test_cartesian_equals_polar(tmp_path: Path, card_of: CardOf, branches: str) -> None:
    columns = make_columns(60)
    others = {k: columns[k] for k in ("run", "event", "luminosityBlock", "Muon_charge")}
    write_ttree(tmp_path / "polar.root", columns)
    write_ttree(tmp_path / "cartesian.root", cartesian(columns) | others)
    polar = read(card_of(muons("polar.root", FROM_PATTERN))).events
    assert_same(polar, read(card_of(muons("cartesian.root", branches))).events, rtol=1e-4)


def test_energy_instead_of_mass(tmp_path: Path, card_of: CardOf) -> None:
    columns = make_columns(60)
    columns["Muon_energy"] = cartesian(columns)["Muon_E"]
    write_ttree(tmp_path / "both.root", columns)
    both = read(card_of(muons("both.root", FROM_PATTERN))).events
    del columns["Muon_mass"]
    write_ttree(tmp_path / "energy.root", columns)
    assert_same(both, read(card_of(muons("energy.root", FROM_PATTERN))).events, rtol=1e-3, ignore=("files",))


def test_both_conventions_in_one_file(tmp_path: Path, card_of: CardOf) -> None:
    columns = make_columns(60)
    both = cartesian(columns)
    both["Muon_pt"] = columns["Muon_pt"] * np.float32(1.1)  # seen in the wild: they disagree
    others = {
        k: columns[k] for k in ("Muon_eta", "Muon_phi", "Muon_charge", "run", "event", "luminosityBlock")
    }
    write_ttree(tmp_path / "both.root", both | others)
    write_ttree(tmp_path / "right.root", columns)
    expected = read(card_of(muons("right.root", FROM_PATTERN))).events
    assert_same(expected, read(card_of(muons("both.root", FROM_PATTERN))).events, rtol=1e-4)


FLAT_PATTERNS = """
    branches: ["{}1", "{}2"]
    features: {charge: Q}
"""
FLAT_MAPPINGS = """
    branches:
      - {pt: pt1, eta: eta1, phi: phi1, mass: mass1, sign: Q1}
      - {pt: pt2, eta: eta2, phi: phi2, mass: mass2, sign: Q2}
    features: {charge: sign}
"""


@pytest.mark.parametrize("branches", [FLAT_PATTERNS, FLAT_MAPPINGS])
def test_flat_equals_jagged(tmp_path: Path, card_of: CardOf, branches: str) -> None:
    rng = np.random.default_rng(4)
    values = {k: rng.uniform(0.1, 3, (50, 2)).astype(np.float32) for k in ("pt", "eta", "phi", "mass")}
    values["Q"] = rng.choice([-1, 1], (50, 2)).astype(np.int32)
    event = {"event": np.arange(50)}
    write_ttree(
        tmp_path / "flat.root", {f"{k}{i + 1}": v[:, i] for k, v in values.items() for i in (0, 1)} | event
    )
    lists = {f"Muon_{k}": jagged(np.full(50, 2), v.ravel()) for k, v in values.items()}
    write_ttree(tmp_path / "lists.root", lists | event)
    expected = read(card_of(muons("lists.root", FROM_PATTERN.replace("charge}", "Q}")))).events
    assert_same(expected, read(card_of(muons("flat.root", branches))).events)


# --- particles -------------------------------------------------------------------------------------


def test_order_of_the_file_and_mass_of_the_card(tmp_path: Path, card_of: CardOf) -> None:
    pt = ak.Array([[20.0, 40, 30], [], [10]])
    zero = ak.zeros_like(pt)
    write_ttree(tmp_path / "f.root", {"Muon_pt": pt, "Muon_eta": zero, "Muon_phi": zero, "Muon_charge": zero})
    by_pattern = FROM_PATTERN + "    mass: 0.1\n"
    ordered = read(card_of(muons("f.root", by_pattern))).events
    assert ordered.p4[:, 0].tolist() == [40, 30, 20, 10]
    assert ordered.index.tolist() == [1, 2, 0, 0]
    assert ordered.counts.tolist() == [3, 0, 1]
    assert ordered.p4[:, 3].tolist() == [np.float32(0.1)] * 4
    as_in_file = read(card_of(muons("f.root", by_pattern + "    order_by: index\n"))).events
    assert as_in_file.p4[:, 0].tolist() == [20, 40, 30, 10]
    two = read(card_of(muons("f.root", by_pattern + "    max: 2\n"))).events
    assert two.p4[:, 0].tolist() == [40, 30, 10]


def test_transverse_momentum_from_components(tmp_path: Path, card_of: CardOf) -> None:
    write_ttree(tmp_path / "f.root", {"MET_px": np.array([3.0, 0.0]), "MET_py": np.array([-4.0, 0.0])})
    text = muons("f.root", "{branches: 'MET_{}'}").replace(", charge", "")
    events = read(card_of(text)).events
    np.testing.assert_allclose(events.p4, [[5, 0, np.arctan2(-4, 3), 0], [0, 0, 0, 0]], atol=1e-6)
    assert events.particles[0, :4].tolist() == pytest.approx([5, 3, -4, 0])
    assert events.index.tolist() == [-1, -1]


def test_cuts_that_look_at_other_particles(small: Path) -> None:
    near = read(
        load(small, "particles.jet.cuts=[abs(eta) < 2.4, 'nearest(self, muon) > 1.0']", "particles.jet.max=9")
    )
    events = near.events
    jet, muon = events.is_type("jet"), events.is_type("muon")
    for start, stop in zip(events.offsets, events.offsets[1:], strict=False):
        jets, muons = events.p4[start:stop][jet[start:stop]], events.p4[start:stop][muon[start:stop]]
        d_phi = np.abs(jets[:, None, 2] - muons[None, :, 2])
        d_phi = np.minimum(d_phi, 2 * np.pi - d_phi)
        assert np.all(np.hypot(d_phi, jets[:, None, 1] - muons[None, :, 1]) > 1.0)
    before = read(load(small, "particles.jet.cuts=[abs(eta) < 2.4]", "particles.jet.max=9")).events
    assert jet.sum() < before.is_type("jet").sum()


def test_features_that_sum_over_the_particles_left(small: Path) -> None:
    share = "particles.jet.features.share=pt / sum(pt)"
    names = "features=[pt, share]"
    for cut in ("particles.jet.cuts=pt > 20", "particles.jet.cuts=pt > 20 and share < 2"):
        events = read(load(small, share, names, cut)).events
        jets = events.is_type("jet")
        total = np.bincount(
            events.parent[jets], weights=events.values_of("share")[jets], minlength=len(events)
        )
        np.testing.assert_allclose(total[total > 0], 1, rtol=1e-5)


def test_particle_expressions_see_events_and_pairs(small: Path) -> None:
    more = ["particles.jet.features={btag: btag, n: count(opposite), away: 'nearest(self, opposite.first)'}"]
    more += ["particles.jet.cuts={far: abs(phi - met.phi) > 0.3 and count(self) < 9}", "features=[n, phi]"]
    events = read(load(small, *more)).events
    jets, met = events.is_type("jet"), events.is_type("met")
    apart = events.p4[jets, 2] - events.p4[met, 2][events.parent[jets]]
    assert (np.abs(apart) > 0.299).all()
    has_pair = np.isfinite(events.observers["mass_mumu"])[events.parent[jets]]
    assert ((events.values_of("n")[jets] > 0) == has_pair).all()


def test_one_value_per_event_with_cuts_is_a_list(small: Path) -> None:
    cut = "particles.met.cuts=pt > 20"
    events = read(load(small, cut, "selection=any(met.pt > 0)", "observers.m=first(met.pt)"), chunk=7).events
    assert (events.observers["m"] > 20).all()


def test_a_branch_called_like_its_type(tmp_path: Path, card_of: CardOf) -> None:
    columns = make_columns(20)
    write_ttree(tmp_path / "f.root", {"muon": columns["MET_pt"], "muon_phi": columns["MET_phi"]})
    text = muons("f.root", "{branches: {pt: muon, phi: muon_phi}}").replace(", charge", "")
    events = read(card_of(text + "selection: muon.pt > 10\n")).events
    assert len(events) == (columns["MET_pt"] > 10).sum()


def test_particle_cuts_are_counted(small: Path) -> None:
    rows = read(load(small)).cutflow.particle_rows
    assert [r[:2] for r in rows] == [("muon", "hard"), ("muon", "isolated"), ("jet", "abs(eta) < 2.4")]
    columns = [make_columns(130, 1), make_columns(90, 2)]
    assert rows[0][2] == sum(len(ak.flatten(c["Muon_pt"])) for c in columns)
    assert rows[0][3] == rows[1][2] > rows[1][3] > 0


def test_missing_values_are_replaced(small: Path) -> None:
    card = load(small, "missing.Jet_btag={values: [-1, .nan], replace: -0.5}", "particles.jet.max=50")
    jets = read(card).events
    btag = jets.values_of("btag")[jets.is_type("jet")]
    assert (btag == -0.5).any()
    assert not (btag == -1).any()


@pytest.mark.parametrize("sentinel", [-999.9, -9.99, -3000])
def test_missing_values_are_compared_as_the_branch_holds_them(small: Path, sentinel: float) -> None:
    for name, seed in (("signal", 1), ("background", 2)):
        columns = make_columns(100, seed=seed)
        columns["MET_pt"][::4] = sentinel
        write_ttree(small / f"{name}.root", columns)
    card = load(small, f"missing.MET_pt={{values: [{sentinel}], replace: 7}}", "observers={met: MET_pt}")
    values = read(card).events.observers["met"]
    assert (values == 7).sum() > 10
    assert (values > 0).all()


def test_missing_values_of_whole_numbers_and_conditions(small: Path) -> None:
    missing = ["missing.Muon_charge={values: -1, replace: 5}", "missing.trigger={values: 0, replace: 1}"]
    events = read(load(small, *missing, "observers={fired: trigger * 1}")).events
    assert set(events.values_of("charge")[events.is_type("muon")].tolist()) == {1, 5}
    assert (events.observers["fired"] == 1).all()


def test_labels_by_condition(small: Path) -> None:
    text = CARD.replace(", class: background", "").replace(", class: signal", "")
    condition = "{few: count(jet) < 2, many: count(jet) >= 2}"
    (small / "card.yaml").write_text(text.replace("[background, signal]", condition))
    events = read(load(small)).events
    assert events.schema.classes == ("few", "many")
    assert (events.label == (events.globals[:, 1] >= 2)).all()


def test_files_of_many_kinds(small: Path) -> None:
    write_ttree(small / "more_1.root", make_columns(20, seed=5), tree="Other")
    write_ttree(small / "more_0.root", make_columns(20, seed=6), tree="Other")
    write_ttree(small / "nothing.root", make_columns(0), tree="Events")
    files = f"[signal.root, '{small}/more_*.root:Other', 'file://{small}/nothing.root']"
    reading = read(load(small, f"samples.1.files={files}"))
    names = [Path(f.path).name for f in reading.files]
    assert names == ["background.root", "signal.root", "more_0.root", "more_1.root", "nothing.root"]
    assert reading.notes == (f"file://{small}/nothing.root:Events has no entries",)
    assert reading.events.file_entries == (90, 130, 20, 20, 0)
    assert set(reading.events.file.tolist()) == {0, 1, 2, 3}


def test_strings_can_be_compared(tmp_path: Path, card_of: CardOf) -> None:
    columns = make_columns(30) | {"kind": ak.Array(["GG", "TT", "GT"] * 10)}
    write_ttree(tmp_path / "f.root", columns)
    events = read(card_of(muons("f.root", FROM_PATTERN) + "selection: kind == 'GG'\n")).events
    assert events.entry.tolist() == list(range(0, 30, 3))


def test_optional_values_are_nan(tmp_path: Path, card_of: CardOf) -> None:
    columns = {k: v for k, v in make_columns(3).items() if not k.startswith("Jet")}
    write_rntuple(tmp_path / "f.root", columns | {"x": ak.Array([1.0, None, 3.0])})
    events = read(card_of(muons("f.root", FROM_PATTERN) + "observers: {x: x}\n")).events
    np.testing.assert_equal(events.observers["x"], [1.0, np.nan, 3.0])


def test_names_with_dots_are_branches(tmp_path: Path, card_of: CardOf) -> None:
    columns = {f"Jet.{k}": ak.Array([[1.0, 2], [3]]) for k in ("PT", "Eta", "Phi", "Mass", "Q")}
    write_ttree(tmp_path / "f.root", columns)
    for branches in ("Jet.{}", "{pt: Jet.PT, eta: Jet.Eta, phi: Jet.Phi, mass: Jet.Mass}"):
        quoted = branches if branches.startswith("{") else f"'{branches}'"
        text = muons("f.root", f"{{branches: {quoted}, features: {{charge: Jet.Q}}}}")
        events = read(card_of(text + "selection: max(Jet.PT) > 2.5\n")).events
        assert events.p4[:, 0].tolist() == [3]


def test_records_of_an_rntuple(tmp_path: Path, card_of: CardOf) -> None:
    columns = make_columns(60)
    write_ttree(tmp_path / "branches.root", columns)
    names = ("pt", "eta", "phi", "mass", "charge")
    numbers = {k: columns[k] for k in ("run", "luminosityBlock", "event")}
    with uproot.recreate(tmp_path / "records.root") as file:
        file.mkrntuple("Events", numbers | {"Muon": ak.zip({k: columns[f"Muon_{k}"] for k in names})})
    expected = read(card_of(muons("branches.root", FROM_PATTERN))).events
    assert_same(expected, read(card_of(muons("records.root", FROM_PATTERN.replace("Muon_", "Muon.")))).events)


def test_progress_bar_is_drawn_to_stderr(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(load(small), progress=True)
    assert "220/220" in capsys.readouterr().err


# --- any content -------------------------------------------------------------------------------------

lists = st.lists(st.lists(st.floats(1, 1000, width=32), max_size=5), min_size=1, max_size=30)


@pytest.mark.filterwarnings("ignore:.*if that means missing")  # any number may be an angle here
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pt=lists, chunk=st.integers(1, 40), rntuple=st.booleans())
def test_any_lists_come_back(
    tmp_path: Path, card_of: CardOf, pt: list[list[float]], chunk: int, rntuple: bool
) -> None:
    array = ak.values_astype(ak.Array([*pt, [1.0]])[:-1], np.float32)
    columns = {f"Muon_{k}": array for k in ("pt", "eta", "phi", "mass", "charge")}
    columns |= {"Muon_eta": array / 1000}
    (write_rntuple if rntuple else write_ttree)(tmp_path / "f.root", columns, chunk=8)
    text = muons("f.root", FROM_PATTERN + "    cuts: pt > 5\n    max: 3\n") + "selection: count(muon) != 1\n"
    expected = [(e, sorted((x for x in row if x > 5), reverse=True)[:3]) for e, row in enumerate(pt)]
    expected = [(e, row) for e, row in expected if len(row) != 1]
    if not expected:
        return
    events = read(card_of(text), chunk=chunk).events
    assert events.entry.tolist() == [e for e, _ in expected]
    assert events.counts.tolist() == [len(row) for _, row in expected]
    np.testing.assert_array_equal(events.p4[:, 0], np.float32([x for _, row in expected for x in row]))
    pairs = [(i, x) for e, _ in expected for i, x in enumerate(pt[e])]
    assert {(int(i), float(x)) for i, x in zip(events.index, events.p4[:, 0], strict=True)} <= set(pairs)
