"""Whole simulations of a few multijet events: files, weights, workers, interruption."""

from __future__ import annotations

import ast
import json
import math
import shutil
from pathlib import Path

import awkward as ak
import multijet_helpers as helpers
import numpy as np
import pytest
import uproot

from hepxai.simulate import OutputExistsError, SimulationError, SimulationInterrupted, read_provenance
from hepxai.simulate.multijet import MultijetConfig, run, simulate_multijet
from hepxai.simulate.multijet.chunk import ChunkTask, load_chunk, make_chunk, store_chunk

pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")

TARGET = 20


def simulate(folder, out, events=TARGET, **options):
    options = {"samples": ["background"], "progress": False, **options}
    return simulate_multijet(folder, out, events, **options)


def events_of(path):
    with uproot.open(path) as file:
        return file["Events"].arrays()


def same(first: Path, second: Path) -> bool:
    a, b = events_of(first), events_of(second)
    return a.fields == b.fields and all(ak.array_equal(a[f], b[f]) for f in a.fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return helpers.write_settings(tmp_path_factory.mktemp("settings"), helpers.quick())


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """A simulation that nothing disturbed, by one process; its chunks are kept."""
    return simulate(folder, tmp_path_factory.mktemp("made"), keep_chunks=True)["background"]


def test_file_holds_what_the_result_says(made):
    events = events_of(made.path)
    assert len(events) == made.selected >= TARGET
    assert made.generated % 60 == 0
    assert list(made.cutflow) == ["generated", "not vetoed", "at least 4 jets", "HT > 300 GeV"]
    assert ak.all(events.nJet >= 4)
    np.testing.assert_allclose(events.HT, ak.sum(events.Jet_pt, axis=1), rtol=1e-5)
    assert ak.all(events.HT > 300)
    assert ak.all(events.Jet_pt[:, :-1] >= events.Jet_pt[:, 1:])
    assert len(np.unique(events.event)) == len(events)


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
    more = simulate(folder, tmp_path / "out", 3 * TARGET, seed=1)["background"]
    sums = []
    for path in (made.path, more.path):
        weight = ak.to_numpy(events_of(path).genWeight).astype(float)
        sums.append((weight.sum(), math.sqrt((weight**2).sum())))
    (one, error), (other, its_error) = sums
    assert abs(one - other) < 4 * math.hypot(error, its_error)
    assert more.generated > made.generated


def test_workers_do_not_change_the_events(folder, made, tmp_path):
    result = simulate(folder, tmp_path, workers=2)["background"]
    assert same(result.path, made.path)
    assert read_provenance(result.path) == read_provenance(made.path)
    assert not (tmp_path / ".chunks").exists()


def test_provenance_determines_the_run(made):
    provenance = read_provenance(made.path)
    assert provenance["versions"].keys() >= {"pythia8mc", "fastjet", "numpy"}
    assert provenance["settings"]["samples"]["background"]["commands"].startswith("! Background: QCD")
    assert provenance["requested"] == TARGET
    assert provenance["generator_failures"] == 0
    json.dumps(provenance)


def interrupt_after(monkeypatch, chunks):
    left = iter(range(chunks))

    def interrupted(task):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return store_chunk(task)

    monkeypatch.setattr(run, "store_chunk", interrupted)


def test_interrupted_run_goes_on_where_it_was(folder, made, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 1)
    with pytest.raises(SimulationInterrupted):
        simulate(folder, tmp_path)
    (kept,) = (tmp_path / ".chunks" / "background").glob("*.safetensors")
    written = kept.stat().st_mtime_ns
    monkeypatch.setattr(run, "store_chunk", store_chunk)
    assert same(simulate(folder, tmp_path, keep_chunks=True)["background"].path, made.path)
    assert kept.stat().st_mtime_ns == written


def test_kept_chunks_serve_a_larger_run(folder, made, tmp_path):
    out = shutil.copytree(made.path.parent, tmp_path / "out")
    files = {p: p.stat().st_mtime_ns for p in (out / ".chunks" / "background").glob("*.safetensors")}
    assert len(files) * 30 == made.generated
    with pytest.raises(OutputExistsError, match="holds more events"):
        simulate(folder, out, 1)
    assert same(out / "background.root", made.path)
    larger = simulate(folder, out, made.selected + 1, keep_chunks=True)["background"]
    assert larger.selected > made.selected
    assert all(p.stat().st_mtime_ns == written for p, written in files.items())
    assert simulate(folder, out, made.selected + 1)["background"].reused


def test_the_signal_marks_the_quarks_of_the_tops(folder, tmp_path):
    signal = simulate(folder, tmp_path, 5, samples=["signal"])["signal"]
    events = events_of(signal.path)
    assert 2 < ak.mean(ak.sum(events.Jet_fromTop, axis=1)) <= 6
    assert set(np.unique(events.genWeight)) == {
        np.float32(read_provenance(signal.path)["slices"][0]["weight_pb"])
    }


def test_a_slice_that_nothing_of_survives_is_refused(tmp_path):
    content = helpers.quick(helpers.part(300, 450, 30), helpers.part(30, 31, 2))
    folder = helpers.write_settings(tmp_path / "settings", content)
    with pytest.raises(SimulationError, match="slice 'pT-hat 30-31': no event survived the veto"):
        simulate(folder, tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [({"veto": {"ht_min": 12_000.0}}, [20, 0, 0, 0]), ({"selection": {"ht_min": 12_000.0}}, None)],
)
def test_a_chunk_without_selected_events(tmp_path, changes, counts):
    content = helpers.quick(helpers.part(300, 450, 20))
    for key, values in changes.items():
        content[key] |= values
    config = MultijetConfig.model_validate(content)
    commands = {"commands": (helpers.SHIPPED / "background.cmnd").read_text()}
    sample = config.samples["background"].model_copy(update=commands)
    config = config.model_copy(update={"samples": {"background": sample}})
    task = ChunkTask(config, "background", 0, tmp_path / "chunk.safetensors")
    chunk = make_chunk(task)
    assert chunk.selected == 0
    assert chunk.columns["Jet.pt"].dtype == np.float32
    assert counts is None or chunk.cutflow.counts.tolist() == counts
    assert store_chunk(task) == 0
    assert load_chunk(task).cutflow.counts.tolist() == chunk.cutflow.counts.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": 0}, "events must be at least 1, got 0"),
        ({"samples": ["tt"]}, "no sample 'tt' in the settings; there are signal, background"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_wrong_arguments(folder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(folder, tmp_path, **options)


FOLDER = Path(run.__file__).parent


def imported(path, seen):
    """Modules of the simulation that ``path`` imports, directly or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hepxai.simulate."):
            name = node.module.removeprefix("hepxai.simulate.")
            if name not in seen:
                seen.add(name)
                imported(FOLDER.parent / f"{name.replace('.', '/')}.py", seen)
    return seen


def test_every_module_that_makes_events_is_hashed():
    hashed = {f"multijet.{name}" for name in run._SOURCES} | set(run._SHARED)
    # Settings are hashed by their values; of chunk, leptons, selection ... only the cut flow's class is used.
    aside = {"config", "multijet.config", "chunk", "selection", "reconstruction", "leptons"}
    assert imported(FOLDER / "chunk.py", {"multijet.chunk"}) - aside == hashed
