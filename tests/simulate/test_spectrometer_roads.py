"""Roads of muons: the muon of each hit, and the range of each muon's hits."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import simulate_helpers
import spectrometer_helpers as helpers
import uproot

from hepxai.core.jagged import offsets_from_counts, parents
from hepxai.datasets import DatasetCard, read
from hepxai.simulate import load_settings, simulate
from hepxai.simulate.spectrometer.digitisation import Strips
from hepxai.simulate.spectrometer.roads import NONE, Roads
from hepxai.simulate.spectrometer.simulation import Spectrometer

FOLDER = simulate_helpers.DATASETS / "muon_detection"


def test_by_hand() -> None:
    """Two muons in event 0, one without hits in event 1, one in event 2; two muons fire one strip."""
    fired = Strips(*np.array([(1, 0, 5), (0, 0, 5), (0, 2, 7), (1, 0, 6), (3, 8, 9)]).T)  # muon, layer, strip
    roads = Roads(fired, np.array([0, 0, 1, 2]))
    assert roads.of_events().event.tolist() == [0, 0, 0, 0, 2]
    hits = Strips(
        *np.array([(0, 0, 5), (0, 0, 6), (0, 1, 1), (0, 2, 7), (1, 0, 5), (2, 8, 9), (2, 8, 300)]).T
    )
    assert roads.muon_of(hits).tolist() == [0, 1, NONE, 0, NONE, 0, NONE]
    expected = {
        "layerLow": [0, 0, NONE, 8],
        "layerHigh": [2, 0, NONE, 8],
        "stripLow": [5, 5, NONE, 9],
        "stripHigh": [7, 6, NONE, 9],
        "layers": [2, 1, 0, 1],
    }
    assert {k: v.tolist() for k, v in roads.ranges().items()} == expected


def test_no_muons() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    roads = Roads(Strips(nothing, nothing, nothing), nothing)
    assert roads.muon_of(Strips(np.zeros(2, int), np.zeros(2, int), np.arange(2))).tolist() == [NONE, NONE]
    assert roads.ranges()["layers"].tolist() == []


def test_roads_change_no_event() -> None:
    """The draws and all other branches are those of a sample without them."""
    settings = helpers.settings_with().model_copy(update={"chunk_events": 200})
    plain = Spectrometer(settings, "dimuons").make(0).columns
    roads = Spectrometer(settings.model_copy(update={"roads": True}), "dimuons").make(0).columns
    assert not [k for k in plain if not np.array_equal(plain[k], roads[k])]
    assert {k.split(".")[1] for k in roads.keys() - plain.keys()} >= {"muon", "layers", "stripLow"}


def test_ranges_are_those_of_the_hits() -> None:
    """Slowly, muon by muon; a strip that both muons fired counts for both, and has the first."""
    settings = load_settings(FOLDER).model_copy(update={"chunk_events": 200})
    columns = Spectrometer(settings, "muons").make(0).columns
    hit_event = parents(offsets_from_counts(columns["Hit.counts"]))
    muon_event = parents(offsets_from_counts(columns["Muon.counts"]))
    first = offsets_from_counts(columns["Muon.counts"])
    np.testing.assert_array_equal(columns["Hit.muon"] >= 0, columns["Hit.fromMuon"])
    for muon in range(len(muon_event)):
        event = muon_event[muon]
        own = (hit_event == event) & (columns["Hit.muon"] == muon - first[event])
        if not own.any():
            continue
        for name in ("layer", "strip"):
            low, high = columns[f"Muon.{name}Low"][muon], columns[f"Muon.{name}High"][muon]
            values = columns[f"Hit.{name}"][own]
            assert low <= values.min()
            assert high >= values.max()
            shared = (columns["Hit.fromMuon"] & (hit_event == event)).sum() > own.sum()
            assert shared or (low, high) == (values.min(), values.max())


def test_the_shipped_sample(tmp_path: Path) -> None:
    made = simulate(FOLDER, tmp_path, 4000, progress=False)["muons"]
    with uproot.open(FOLDER / "muons.root") as shipped, uproot.open(made.path) as fresh:
        assert ak.array_equal(shipped["Events"].arrays(), fresh["Events"].arrays())
    assert (FOLDER / "muons.root").stat().st_size < 700_000


def test_the_card() -> None:
    """Boxes around all hits of a muon, which the image does not draw."""
    events = read(DatasetCard.find("muon_detection")).events
    assert events.image_layout().types == ("hit",)
    schema, muon = events.schema, events.is_type("muon")
    boxes = np.bincount(events.parent[muon], minlength=len(events))
    assert np.bincount(boxes).tolist() == [459, 1018, 1213, 783, 527]
    column = {name: events.particles[:, schema.column(name)] for name in schema.features}
    for row in np.flatnonzero(muon)[:100]:
        hits = ~muon & (events.parent == events.parent[row]) & (column["muon"] == column["muon"][row])
        assert (column["strip"][hits] >= column["left"][row]).all()
        assert (column["strip"][hits] + 1 <= column["right"][row]).all()
        assert (column["layer"][hits] >= column["bottom"][row]).all()
        assert (column["layer"][hits] + 1 <= column["top"][row]).all()
    pt = column["muon_pt"][muon]
    np.testing.assert_array_equal(column["pt_class"][muon], np.digitize(pt, [5, 10]))
