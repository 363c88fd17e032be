"""Attributions as HDF5 beside the file of the events: each value at the place of its particle."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from hepxai.attribution import Attribution, Pairs
from hepxai.datasets import read_h5
from hepxai.events import Events
from hepxai.export.h5 import write_h5

E, M = 2500, 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    tracks = np.zeros((E, M), [("d0", "f4"), ("z0", "f4"), ("valid", "?")])
    tracks["d0"], tracks["valid"] = rng.normal(size=(E, M)), rng.random((E, M)) < 0.6
    path = tmp_path_factory.mktemp("salt") / "jets.h5"
    with h5py.File(path, "w") as file:
        file["jets"], file["tracks"] = np.zeros(E, [("pt", "f4"), ("eta", "f4")]), tracks
    return path


@pytest.fixture(scope="module")
def events(source: Path) -> Events:
    """Some of the events, in another order than in the file."""
    rows = np.random.default_rng(1).permutation(E)[: E // 2]
    return read_h5(source, ["d0", "z0"], globals=["pt", "eta"])[rows]


def made(events: Events, axes: tuple[str, ...], rows: int, *shape: int, **options) -> Attribution:
    values = np.random.default_rng(2).normal(size=(rows, *shape)).astype(np.float32)
    return Attribution(values, axes, events, "made_up", "signal", **options)


def test_every_value_is_at_its_place(events: Events, source: Path, tmp_path: Path) -> None:
    pairs, names = Pairs.complete(events), {"feature": events.schema.features}
    maps = {
        "particles": made(events, ("particle",), events.n_particles),
        "features": made(events, ("particle", "feature"), events.n_particles, 2, labels=names),
        "pairs": made(events, ("pair",), len(pairs.src), pairs=pairs),
        "heads": made(events, ("pair", "layer", "head"), len(pairs.src), 1, 2, pairs=pairs),
        "columns": made(
            events, ("event", "feature"), len(events), 2, labels={"feature": events.schema.globals}
        ),
    }
    maps["some"] = maps["particles"].keep(maps["particles"].values > 0)
    write_h5(tmp_path / "out.h5", maps)
    with h5py.File(tmp_path / "out.h5") as file, h5py.File(source) as original:
        stored = {name: file[name][:] for name in maps}
        valid = original["tracks"]["valid"]
    assert stored["particles"].shape == stored["features"].shape == (E, M)
    assert stored["pairs"].shape == (E, M, M)
    assert stored["heads"].shape == (E, M, M, 1, 2)
    assert stored["features"].dtype.names == ("d0", "z0")
    assert stored["columns"].dtype.names == ("pt", "eta")
    explained = np.isin(np.arange(E), events.entry)
    np.testing.assert_array_equal(np.isfinite(stored["particles"]), valid & explained[:, None])
    np.testing.assert_array_equal(np.isfinite(stored["columns"]["pt"]), explained)
    for e in range(0, len(events), 37):  # a plain loop
        row, one = events.entry[e], slice(*events.offsets[e : e + 2])
        for i in range(one.start, one.stop):
            place = events.index[i]
            assert stored["particles"][row, place] == maps["particles"].values[i]
            assert list(stored["features"][row, place]) == maps["features"].values[i].tolist()
            positive = maps["particles"].values[i] > 0
            assert np.isfinite(stored["some"][row, place]) == positive
        for p in range(*pairs.offsets[e : e + 2]):
            at = (row, events.index[pairs.dst[p]], events.index[pairs.src[p]])
            assert stored["pairs"][at] == maps["pairs"].values[p]
            assert stored["heads"][at].tolist() == maps["heads"].values[p].tolist()
        assert list(stored["columns"][row]) == maps["columns"].values[e].tolist()
    assert np.isfinite(stored["pairs"]).sum() == len(pairs.src)


def test_attributes_say_what_it_is(events: Events, tmp_path: Path) -> None:
    one = made(events, ("particle",), events.n_particles, settings={"steps": 3}, concerns=("careful",))
    write_h5(tmp_path / "out.h5", {"a": one})
    with h5py.File(tmp_path / "out.h5") as file:
        stored = dict(file["a"].attrs)
    assert (stored["method"], stored["target"], stored["axes"]) == ("made_up", "signal", "particle")
    assert (json.loads(stored["settings"]), stored["caution"]) == ({"steps": 3}, "careful")


def test_what_cannot_be_written_is_refused(events: Events, source: Path, tmp_path: Path) -> None:
    one, out = made(events, ("particle",), events.n_particles), tmp_path / "out.h5"
    with pytest.raises(ValueError, match="is the file of the events"):
        write_h5(source, {"a": one}, overwrite=True)
    with pytest.raises(ValueError, match="longest=2, but a particle is at place 4"):
        write_h5(out, {"a": one}, longest=2)
    with pytest.raises(ValueError, match="no attributions"):
        write_h5(out, {})
    gone = one.replace(events=events.replace(files=("gone.h5:tracks",)))
    with pytest.raises(ValueError, match="is not known; give longest=4"):
        write_h5(out, {"a": gone})
    several = one.replace(events=events.replace(files=("a:b", "c:d"), file_entries=(E, E)))
    with pytest.raises(ValueError, match="2 files"):
        write_h5(out, {"a": several})
    assert not out.exists()
    write_h5(out, {"a": gone}, longest=4)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_h5(out, {"a": one})
    write_h5(out, {"a": one}, overwrite=True)
