"""Hits as images: against a loop over hits, with and without noise, and everything that can be wrong."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepxai.cards import find_card
from hepxai.datasets.columns import ReadError
from hepxai.datasets.hits import HitAxis, HitImages, HitLayout, images_of, read_images

ROWS, COLUMNS = HitAxis("Hit_layer", 9), HitAxis("Hit_strip", 384)
LAYOUT = HitLayout(ROWS, COLUMNS, truth="Hit_fromMuon")
PATTERNS = Path(__file__).parents[2] / "datasets" / "muon_patterns"


def random_hits(events=60, seed=1, low=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(low, 30, events)
    total = counts.sum()
    fields = {
        "Hit_layer": rng.integers(0, 9, total),
        "Hit_strip": rng.integers(0, 12, total) * 30,  # repeats on purpose
        "Hit_fromMuon": rng.random(total) < 0.4,
    }
    return ak.Array({name: ak.unflatten(values, counts) for name, values in fields.items()})


def hits(layer, strip, truth=None):
    fields = {"Hit_layer": ak.values_astype(ak.Array(layer), np.int64)}
    fields["Hit_strip"] = ak.values_astype(ak.Array(strip), np.int64)
    if truth is not None:
        fields["Hit_fromMuon"] = ak.values_astype(ak.Array(truth), bool)
    return ak.Array(fields)


def slow_images(arrays, *, noise=True):
    images, truth = np.zeros((2, len(arrays), 1, 9, 384), dtype=np.uint8)
    for e, event in enumerate(arrays.to_list()):
        for row, column, real in zip(*(event[k] for k in LAYOUT.branches), strict=True):
            if noise or real:
                images[e, 0, row, column] = 1
            if real:
                truth[e, 0, row, column] = 1
    return images, truth


@pytest.mark.parametrize("noise", [True, False])
def test_images_are_those_of_a_loop(noise: bool) -> None:
    arrays = random_hits()
    found = images_of(arrays, HitLayout(ROWS, COLUMNS, "Hit_fromMuon", noise=noise))
    images, truth = slow_images(arrays, noise=noise)
    np.testing.assert_array_equal(found.dense("uint8"), images)
    np.testing.assert_array_equal(found.truth_mask(), truth.astype(bool))
    assert found.dense().dtype == np.float32
    assert found.dense("uint8").dtype == np.uint8


def test_the_sum_is_the_number_of_different_hits() -> None:
    arrays = random_hits()
    found = images_of(arrays, LAYOUT)
    different = [len(set(zip(e["Hit_layer"], e["Hit_strip"], strict=True))) for e in arrays.to_list()]
    assert found.dense().sum(axis=(1, 2, 3)).tolist() == different
    assert np.diff(found.offsets()).tolist() == different
    assert found.hits == ak.count(arrays["Hit_layer"])
    assert found.hits > len(found.row)


def test_without_noise_only_true_hits_light_pixels_and_the_rest_is_counted() -> None:
    arrays = random_hits()
    found = images_of(arrays, HitLayout(ROWS, COLUMNS, "Hit_fromMuon", noise=False))
    assert found.truth is not None
    assert found.truth.all()
    assert found.noise == ak.sum(~arrays["Hit_fromMuon"])
    assert images_of(arrays, LAYOUT).noise == 0


def test_a_pixel_of_noise_and_particle_is_the_particles() -> None:
    found = images_of(hits([[3, 3]], [[7, 7]], [[False, True]]), LAYOUT)
    assert (found.row.tolist(), found.column.tolist(), found.truth.tolist()) == ([3], [7], [True])


def test_order_of_hits_and_events() -> None:
    arrays = random_hits()
    whole = images_of(arrays, LAYOUT).dense("uint8")
    backwards = ak.Array({k: arrays[k][:, ::-1] for k in arrays.fields})
    np.testing.assert_array_equal(images_of(backwards, LAYOUT).dense("uint8"), whole)
    np.testing.assert_array_equal(images_of(arrays[[5]], LAYOUT).dense("uint8"), whole[[5]])
    np.testing.assert_array_equal(images_of(arrays[::-1], LAYOUT).dense("uint8"), whole[::-1])


def test_no_hits() -> None:
    found = images_of(hits([[], [2], []], [[], [9], []], [[], [True], []]), LAYOUT)
    assert len(found) == 3
    assert found.dense().sum(axis=(1, 2, 3)).tolist() == [0, 1, 0]
    nothing = images_of(hits([[], []], [[], []], [[], []]), LAYOUT)
    assert nothing.dense().shape == (2, 1, 9, 384)
    assert nothing.dense().sum() == 0
    none = images_of(random_hits()[:0], LAYOUT)
    assert none.dense().shape == (0, 1, 9, 384)


def test_all_strips_lit() -> None:
    row, column = np.divmod(np.arange(9 * 384), 384)
    found = images_of(hits([row], [column]), HitLayout(ROWS, COLUMNS))
    assert found.dense().min() == 1
    assert (found.hits, found.outside, found.noise) == (3456, 0, 0)


OUTSIDE = {
    "strip": ([[1], [2, 3]], [[5], [6, 384]], "Hit_layer = 3, Hit_strip = 384"),
    "layer": ([[1], [2, 9]], [[5], [6, 7]], "Hit_layer = 9, Hit_strip = 7"),
    "negative": ([[1], [2, -1]], [[5], [6, 7]], "Hit_layer = -1, Hit_strip = 7"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_a_hit_outside(case: str) -> None:
    layer, strip, where = OUTSIDE[case]
    with pytest.raises(ReadError) as error:
        images_of(hits(layer, strip), HitLayout(ROWS, COLUMNS))
    assert str(error.value) == (
        f"hits, entry 1: a hit at {where} lies outside the detector of 9 rows and 384 columns, "
        "with 1 such hits in 1 events here; correct the bins, or drop such hits with outside='drop'"
    )
    found = images_of(hits(layer, strip), HitLayout(ROWS, COLUMNS, outside="drop"))
    assert (found.hits, found.outside, len(found)) == (3, 1, 2)
    assert found.dense().sum(axis=(1, 2, 3)).tolist() == [1, 1]


def test_coordinates_are_binned_as_numpy_does() -> None:
    rng = np.random.default_rng(4)
    edges = np.array([-2.0, -0.5, 0.0, 1.0, 2.5])
    z = rng.uniform(-2, 2.5, (40, 6))
    z[0, :5] = edges
    radius = np.full_like(z, 4.5)
    arrays = ak.Array({"r": ak.from_regular(z * 0 + radius), "z": ak.from_regular(z)})
    found = images_of(arrays, HitLayout(HitAxis("r", (4.0, 5.0, 6.0)), HitAxis("z", tuple(edges))))
    expected = [np.histogram(row, edges)[0] > 0 for row in z]
    np.testing.assert_array_equal(found.dense("uint8")[:, 0, 0], np.array(expected))
    assert found.dense()[:, 0, 1].sum() == 0
    z[3, 2] = np.nan
    arrays = ak.Array({"r": radius, "z": z})
    with pytest.raises(ReadError, match=r"entry 3: .* z = nan lies outside"):
        images_of(arrays, HitLayout(HitAxis("r", (4.0, 5.0)), HitAxis("z", tuple(edges))))


def write(path: Path, arrays: ak.Array) -> Path:
    with uproot.recreate(path) as file:
        record = ak.zip({k.removeprefix("Hit_"): arrays[k] for k in arrays.fields})
        tree = file.mktree("Events", {"Hit": record.type.content})
        tree.extend({"Hit": record})
    return path


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_chunks_of_a_file_are_the_whole(tmp_path: Path, step: int) -> None:
    arrays = random_hits()
    path = write(tmp_path / "hits.root", arrays)
    parts = list(read_images(path, "Events", LAYOUT, step_size=step))
    assert sum(map(len, parts)) == len(arrays)
    whole = np.concatenate([p.dense("uint8") for p in parts])
    np.testing.assert_array_equal(whole, slow_images(arrays)[0])


def test_a_file_names_the_entry(tmp_path: Path) -> None:
    arrays = random_hits(low=1)
    strip = ak.flatten(arrays["Hit_strip"]).to_numpy().copy()
    strip[ak.sum(ak.num(arrays["Hit_strip"])[:41])] = 500  # the first hit of entry 41
    arrays["Hit_strip"] = ak.unflatten(strip, ak.num(arrays["Hit_layer"]))
    path = write(tmp_path / "hits.root", arrays)
    with pytest.raises(ReadError, match=r"hits\.root:Events, entry 41: a hit at .*Hit_strip = 500"):
        list(read_images(path, "Events", LAYOUT, step_size=10))


def test_files_trees_and_branches_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "hits.root", random_hits())
    with pytest.raises(ReadError, match="does not exist"):
        next(read_images(tmp_path / "hit.root", "Events", LAYOUT))
    with pytest.raises(ReadError, match=r"no tree 'Event' \(did you mean 'Events'"):
        next(read_images(path, "Event", LAYOUT))
    wrong = HitLayout(ROWS, HitAxis("Hit_stip", 384))
    with pytest.raises(ReadError, match=r"no branch 'Hit_stip' \(did you mean 'Hit_strip'"):
        next(read_images(path, "Events", wrong))
    other = HitLayout(ROWS, HitAxis("wire", 384))
    with pytest.raises(ReadError, match="no branch 'wire'; there are nHit, Hit_layer"):
        next(read_images(path, "Events", other))


def test_branches_of_another_shape() -> None:
    with pytest.raises(ReadError, match="entry 1: 'Hit_strip' and 'Hit_layer' differ in number of hits"):
        images_of(hits([[1], [2, 3]], [[1], [2]]), HitLayout(ROWS, COLUMNS))
    with pytest.raises(ReadError, match="'Hit_layer' must hold a list of hits per event"):
        images_of(ak.Array({"Hit_layer": [1, 2], "Hit_strip": [[1], [2]]}), HitLayout(ROWS, COLUMNS))
    for holds in ([None, [1]], [[None], [1]], ["a", "b"], [[[1]], [[2]]]):
        with pytest.raises(ReadError, match="'Hit_strip' must hold a list of hits per event, none missing"):
            images_of(ak.Array({"Hit_layer": [[1], [2]], "Hit_strip": holds}), HitLayout(ROWS, COLUMNS))
    with pytest.raises(ReadError, match="'Hit_strip' holds float64, not integers; give bin edges"):
        images_of(ak.Array({"Hit_layer": [[1]], "Hit_strip": [[1.0]]}), HitLayout(ROWS, COLUMNS))


def test_bad_layouts() -> None:
    with pytest.raises(ValueError, match="need the truth branch"):
        HitLayout(ROWS, COLUMNS, noise=False)
    with pytest.raises(ValueError, match="outside: found 'skip'; should be 'error' or 'drop'"):
        HitLayout(ROWS, COLUMNS, outside="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one bin, got 0"):
        HitAxis("layer", 0)
    for edges in ((1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, float("nan"), 2.0)):
        with pytest.raises(ValueError, match="bin edges must be two or more"):
            HitAxis("z", edges)
    with pytest.raises(ValueError, match="without a truth branch"):
        images_of(hits([[1]], [[1]]), HitLayout(ROWS, COLUMNS)).truth_mask()


def test_the_shipped_patterns() -> None:
    (found,) = read_images(PATTERNS / "muons.root", "Events", LAYOUT)
    (noise,) = read_images(PATTERNS / "noise.root", "Events", LAYOUT)
    assert (len(found), len(noise)) == (4000, 1000)
    assert found.hits == len(found.row)  # every strip is read out once
    assert not noise.truth_mask().any()
    assert found.dense("uint8").mean() > noise.dense("uint8").mean()


def test_any_other_ntuple() -> None:
    """Jets of the charged-Higgs sample as a calorimeter: nothing here knows muons."""
    path = find_card("datasets", "charged_higgs").with_name("signal.root")
    grid = np.linspace(-np.pi, np.pi, 17)
    layout = HitLayout(HitAxis("Jet_eta", tuple(np.linspace(-2.5, 2.5, 11))), HitAxis("Jet_phi", tuple(grid)))
    found: HitImages = next(read_images(path, "Events", layout, step_size=500))
    assert found.dense().shape == (500, 1, 10, 16)
    assert (found.dense().sum(axis=(1, 2, 3)) <= np.bincount(found.event)).all()
