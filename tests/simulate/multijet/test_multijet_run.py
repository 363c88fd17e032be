"""Samples of a few multijet events: branches, weights, numbers, truth."""

from __future__ import annotations

import math

import awkward as ak
import multijet_helpers as helpers
import numpy as np
import pytest
import uproot

from hepxai.simulate import SimulationError, read_provenance, simulate
from hepxai.simulate.chunk import ChunkTask, load_chunk, store_chunk

pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")

TARGET = 20


def run(folder, out, events=TARGET, **options):
    return simulate(folder, out, events, **{"samples": ["background"], "progress": False, **options})


def events_of(path):
    with uproot.open(path) as file:
        return file["Events"].arrays()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return helpers.write_settings(tmp_path_factory.mktemp("settings"), helpers.quick())


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("made"))["background"]


def test_selection_holds(made):
    events = events_of(made.path)
    assert made.generated % 60 == 0
    assert list(made.cutflow) == ["generated", "not vetoed", "at least 4 jets", "HT > 300 GeV"]
    assert ak.all(events.nJet >= 4)
    np.testing.assert_allclose(events.HT, ak.sum(events.Jet_pt, axis=1), rtol=1e-5)
    assert ak.all(events.HT > 300)
    assert ak.all(events.Jet_pt[:, :-1] >= events.Jet_pt[:, 1:])


def test_branches_follow_nanoaod(made):
    with uproot.open(made.path) as file:
        types = {k: v.typename for k, v in file["Events"].items()}
    assert types["run"] == types["luminosityBlock"] == "uint32_t"
    assert types["event"] == "uint64_t"
    assert types["genWeight"] == types["HT"] == "float"
    assert types["nJet"] == "int32_t"
    for name in ("pt", "eta", "phi", "mass", "btag", "qgl", "emEF", "hadEF", "muEF", "width", "ptD"):
        assert types[f"Jet_{name}"] == "float[]"
    for name in ("nConstituents", "hadronFlavour", "partonFlavour"):
        assert types[f"Jet_{name}"] == "int32_t[]"
    assert types["Jet_fromTop"] == "bool[]"


def test_values_are_in_range(made):
    events = events_of(made.path)
    for field in events.fields:
        assert np.all(np.isfinite(ak.to_numpy(ak.flatten(events[field], axis=None)))), field
    fractions = [ak.flatten(events[f"Jet_{name}"]) for name in ("emEF", "hadEF", "muEF")]
    np.testing.assert_allclose(sum(fractions), 1, rtol=1e-5)
    assert all(ak.all(f >= 0) for f in fractions)
    for name in ("btag", "qgl"):
        assert ak.all((events[f"Jet_{name}"] > 0) & (events[f"Jet_{name}"] < 1))
    assert set(np.unique(np.abs(ak.flatten(events.Jet_partonFlavour)))) <= {0, 1, 2, 3, 4, 5, 21}
    assert not ak.any(ak.flatten(events.Jet_fromTop))


def test_weights_add_up_to_the_selected_cross_section(made):
    events, slices = events_of(made.path), read_provenance(made.path)["slices"]
    assert [s["name"] for s in slices] == ["pT-hat 300-450", "pT-hat 450-700"]
    expected = sum(s["cross_section_pb"] * s["selected"] / s["generated"] for s in slices)
    assert ak.sum(events.genWeight) == pytest.approx(expected, rel=1e-5)
    assert sum(s["selected"] for s in slices) == len(events)
    with uproot.open(made.path) as file:
        weighted = file["cutflow_weighted"]
        assert weighted.values()[0] == pytest.approx(sum(s["cross_section_pb"] for s in slices))
        assert weighted.values()[-1] == pytest.approx(expected, rel=1e-5)
        assert weighted.variances()[-1] == pytest.approx(ak.sum(events.genWeight**2), rel=1e-4)
    assert np.unique(events.genWeight).tolist() == pytest.approx(sorted(s["weight_pb"] for s in slices))


def test_each_event_weighs_what_its_slice_does(made):
    events, slices = events_of(made.path), read_provenance(made.path)["slices"]
    of = (ak.to_numpy(events.luminosityBlock) - 1) % 2
    np.testing.assert_allclose(events.genWeight, [slices[i]["weight_pb"] for i in of], rtol=1e-6)


def test_events_are_numbered_by_their_hard_process(made):
    events = events_of(made.path)
    block = ak.to_numpy(events.luminosityBlock).astype(int) - 1
    first = block // 2 * 60 + block % 2 * 40 + 1
    inside = ak.to_numpy(events.event).astype(int) - first
    assert np.all((inside >= 0) & (inside < np.where(block % 2 == 0, 40, 20)))


@pytest.mark.slow
def test_more_chunks_and_other_chunk_sizes_keep_the_normalisation(made, tmp_path):
    """Three times the events, in shorter chunks: the cross section is the same within its error."""
    short = [helpers.part(300, 450, 20), helpers.part(450, 700, 10)]
    folder = helpers.write_settings(tmp_path / "short", helpers.quick(*short))
    more = run(folder, tmp_path / "out", 3 * TARGET, seed=1)["background"]
    sums = []
    for path in (made.path, more.path):
        weight = ak.to_numpy(events_of(path).genWeight).astype(float)
        sums.append((weight.sum(), math.sqrt((weight**2).sum())))
    (one, error), (other, its_error) = sums
    assert abs(one - other) < 4 * math.hypot(error, its_error)
    assert more.generated > made.generated


def test_stored_chunks_and_workers_do_not_change_the_events(folder, made, tmp_path):
    run(folder, tmp_path, 1, keep_chunks=True)
    (tmp_path / "background.root").unlink()
    again = run(folder, tmp_path, workers=2)["background"]
    first, second = events_of(made.path), events_of(again.path)
    assert all(ak.array_equal(first[name], second[name]) for name in first.fields)
    assert read_provenance(again.path) == read_provenance(made.path)


def test_the_signal_marks_the_quarks_of_the_tops(folder, tmp_path):
    signal = run(folder, tmp_path, 5, samples=["signal"])["signal"]
    events = events_of(signal.path)
    assert 2 < ak.mean(ak.sum(events.Jet_fromTop, axis=1)) <= 6
    assert set(np.unique(events.genWeight)) == {
        np.float32(read_provenance(signal.path)["slices"][0]["weight_pb"])
    }


def test_a_slice_that_nothing_of_survives_is_refused(tmp_path):
    content = helpers.quick(helpers.part(300, 450, 30), helpers.part(30, 31, 2))
    folder = helpers.write_settings(tmp_path / "settings", content)
    with pytest.raises(SimulationError, match="slice 'pT-hat 30-31': no event survived the veto"):
        run(folder, tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [({"veto": {"ht_min": 12_000.0}}, [20, 0, 0, 0]), ({"selection": {"ht_min": 12_000.0}}, None)],
)
def test_a_chunk_without_selected_events(tmp_path, changes, counts):
    content = helpers.quick(helpers.part(300, 450, 20))
    for key, values in changes.items():
        content[key] |= values
    task = ChunkTask(helpers.simulation(content), 0, tmp_path / "chunk.safetensors")
    chunk = task.simulation.make(0)
    assert chunk.selected == 0
    assert chunk.columns["Jet.pt"].dtype == np.float32
    assert counts is None or chunk.cutflow.counts.tolist() == counts
    assert store_chunk(task) == 0
    assert load_chunk(task.path).cutflow.counts.tolist() == chunk.cutflow.counts.tolist()
