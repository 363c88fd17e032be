"""Array files: structured HDF5, Parquet with lists and padded arrays give the events of a plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from hepxai.datasets import ReadError, read_h5, read_padded, read_parquet
from hepxai.events import Events

E, M = 12, 5
JETS = np.dtype([("pt", "f4"), ("eta", "f4"), ("flavour", "i4"), ("weight", "f4")])
TRACKS = np.dtype([("d0", "f4"), ("pt", "f2"), ("eta", "f4"), ("phi", "f4"), ("fromB", "?"), ("valid", "?")])
FLAVOURS = {"ujets": 0, "cjets": 4, "bjets": 5}


def structured() -> tuple[np.ndarray, np.ndarray]:
    """Jets and tracks with gaps, as puma and salt have them."""
    rng = np.random.default_rng(0)
    jets, tracks = np.zeros(E, JETS), np.zeros((E, M), TRACKS)
    jets["flavour"] = rng.choice([0, 4, 5], E)
    for table in (jets, tracks):
        for name in {"pt", "eta", "weight", "d0", "phi"} & {*table.dtype.names}:
            table[name] = rng.uniform(0.5, 2, table.shape)
    tracks["valid"], tracks["fromB"] = rng.random((E, M)) < 0.6, rng.random((E, M)) < 0.5
    tracks["d0"][~tracks["valid"]] = np.nan
    return jets, tracks


@pytest.fixture
def salt(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["jets"], file["tracks"] = structured()
        file["plain"] = np.ones(3)
    return tmp_path / "jets.h5"


def test_structured_h5(salt: Path) -> None:
    events = read_h5(
        salt,
        ["d0", "pt"],
        globals=["pt", "eta"],
        label="flavour",
        classes=FLAVOURS,
        weight="weight",
        truth=["fromB"],
        observers=["eta"],
        units={"d0": "mm", "pt": "GeV"},
    )
    jets, tracks = structured()
    n = 0
    for e in range(E):
        for m in range(M):
            if tracks[e, m]["valid"]:
                assert events.particles[n].tolist() == [tracks[e, m]["d0"], np.float32(tracks[e, m]["pt"])]
                assert (events.parent[n], events.index[n]) == (e, m)
                assert events.truth["fromB"][n] == tracks[e, m]["fromB"]
                n += 1
        assert list(FLAVOURS.values())[events.label[e]] == jets[e]["flavour"]
        assert events.globals[e].tolist() == [jets[e]["pt"], jets[e]["eta"]]
        assert events.weight[e] == jets[e]["weight"]
        assert events.observers["eta"][e] == jets[e]["eta"]
    assert n == events.n_particles
    assert events.schema.classes == tuple(FLAVOURS)
    assert events.schema.types == ("track",)
    assert events.schema.units == ("mm", "GeV")
    assert events.files == (f"{salt}:tracks",)
    assert events.file_entries == (E,)
    part = read_h5(salt, ["d0"], limit=4)
    assert (len(part), part.file_entries) == (4, (E,))
    assert part.fingerprint() == read_h5(salt, ["d0", "pt"])[:4].fingerprint()


def columns() -> dict[str, Any]:
    """JetClass-like lists and numbers."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, M + 1, E)
    lists = {n: [rng.normal(size=c).tolist() for c in counts] for n in ("px", "py", "pz", "deta", "d0val")}
    lists["energy"] = [[9.0] * c for c in counts]
    names = rng.choice(["QCD", "Hbb"], E)
    one_hot = {f"label_{n}": (names == n).astype(np.int32) for n in ("QCD", "Hbb")}
    return {f"part_{n}": v for n, v in lists.items()} | one_hot | {"jet_pt": rng.uniform(500, 600, E)}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns()), tmp_path / "jets.parquet")
    return tmp_path / "jets.parquet"


def test_parquet(lists: Path) -> None:
    names = ["part_deta", "part_d0val"]
    events = read_parquet(lists, names, globals=["jet_pt"], label=["label_QCD", "label_Hbb"])
    expected, n = columns(), 0
    for e in range(E):
        for i in range(len(expected["part_px"][e])):
            value = {k: np.float32(expected[f"part_{k}"][e][i]) for k in ("px", "py", "deta", "d0val")}
            assert events.particles[n].tolist() == [value["deta"], value["d0val"]]
            np.testing.assert_allclose(events.p4[n, 0], np.hypot(value["px"], value["py"]), rtol=1e-6)
            np.testing.assert_allclose(events.p4[n, 2], np.arctan2(value["py"], value["px"]), rtol=1e-5)
            n += 1
        assert events.label[e] == expected["label_Hbb"][e]
    assert n == events.n_particles
    assert events.schema.classes == ("QCD", "Hbb")
    np.testing.assert_array_equal(events.globals[:, 0], expected["jet_pt"].astype(np.float32))


@pytest.mark.parametrize("suffix", ["h5", "npz"])
@pytest.mark.parametrize("with_mask", [True, False])
def test_padded(suffix: str, with_mask: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, mask, label = rng.uniform(0.1, 1, (E, M, 4)), rng.random((E, M)) < 0.5, np.arange(E) % 3
    x[~mask] = 0
    arrays = {"x": x, "mask": mask[..., None], "label": label}
    path = tmp_path / f"jets.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    names = ["pt", "eta", "phi", "mass"]
    events = read_padded(
        path, names, mask="mask" if with_mask else None, label="label", classes=["q", "t", "w"]
    )
    expected = Events.from_arrays(x, names, mask=mask)
    np.testing.assert_array_equal(events.particles, expected.particles)
    np.testing.assert_array_equal(events.p4, expected.p4)
    np.testing.assert_array_equal(events.index, expected.index)
    np.testing.assert_array_equal(events.label, label)


BAD = {
    "no file": (lambda p: read_h5(p / "no.h5", ["d0"]), r"no file .*no.h5; check the path"),
    "no HDF5": (lambda p: read_h5(p / "jets.parquet", ["d0"]), "is damaged, or of another format"),
    "no Parquet": (lambda p: read_parquet(p / "jets.h5", ["d0"]), "is damaged, or of another format"),
    "no archive": (lambda p: read_padded(p / "bad.npz", ["a"]), "is damaged, or of another format"),
    "no dataset": (
        lambda p: read_h5(p / "jets.h5", ["d0"], particles="hits"),
        "no dataset 'hits'; there are",
    ),
    "no fields": (lambda p: read_h5(p / "jets.h5", ["d0"], particles="plain"), "read_padded reads plain"),
    "swapped": (lambda p: read_h5(p / "jets.h5", ["pt"], particles="jets"), r"jets has shape \(12,\)"),
    "no valid": (lambda p: read_h5(p / "jets.h5", ["d0"], valid="real"), "no field 'real'.*valid="),
    "no field": (lambda p: read_h5(p / "jets.h5", ["d00"]), r"no particle column 'd00' \(did you mean 'd0'"),
    "no global": (
        lambda p: read_h5(p / "jets.h5", ["d0"], globals=["ht"]),
        "no event column 'ht'; there are",
    ),
    "flavour": (
        lambda p: read_h5(p / "jets.h5", ["d0"], label="flavour", classes={"u": 0, "c": 4}),
        r"flavour is 5 in \d+ events, which no class has; add it to classes",
    ),
    "no mass": (lambda p: read_h5(p / "jets.h5", ["d0"], p4="{}"), r"neither mass nor energy.*p4='none'"),
    "limit": (lambda p: read_h5(p / "jets.h5", ["d0"], limit=0), "limit is 0; it should be at least 1"),
    "no list": (lambda p: read_parquet(p / "jets.parquet", ["part_dta"]), "did you mean 'part_deta'"),
    "number": (lambda p: read_parquet(p / "jets.parquet", ["jet_pt"]), "no list column 'jet_pt'"),
    "pattern": (
        lambda p: read_parquet(p / "jets.parquet", ["part_px"], p4="part"),
        r"expected one \{\} in p4='part'; p4 takes a pattern.*'part_\{\}'",
    ),
    "one label": (
        lambda p: read_parquet(p / "jets.parquet", ["part_px"], label=["label_QCD"]),
        "have not one label among label_QCD; name the label columns of all",
    ),
    "lengths": (
        lambda p: read_parquet(p / "odd.parquet", ["part_px", "b"], p4="none"),
        "other numbers .* event 1",
    ),
    "None": (lambda p: read_parquet(p / "none.parquet", ["a"], p4="none"), "a has missing values"),
    "no array": (lambda p: read_padded(p / "x.npz", ["a"], x="X"), r"no array 'X'.*there are x, mask"),
    "features": (lambda p: read_padded(p / "x.npz", ["a"]), r"x has shape \(2, 3, 4\) for 1 features"),
    "mask": (lambda p: read_padded(p / "x.npz", [*"abcd"], mask="odd"), r"odd has shape \(2, 2\)"),
    "objects": (lambda p: read_padded(p / "pickled.npz", ["a"]), "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_clear_line(case: str, salt: Path, lists: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    x = np.ones((2, 3, 4))
    np.savez(tmp_path / "x.npz", x=x, mask=np.ones((2, 3)), odd=np.ones((2, 2)))
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object), mask=np.ones(1))
    odd = {"part_px": [[1.0], [2.0, 3.0]], "b": [[1.0], [2.0]]}
    pyarrow.parquet.write_table(pyarrow.table(odd), tmp_path / "odd.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": [[1.0, None]]}), tmp_path / "none.parquet")
    call, message = BAD[case]
    with pytest.raises(ReadError, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)
