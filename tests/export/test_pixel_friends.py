"""Friends of maps over pixels, and of what a regression says, against loops over the particles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.export.friends import write_friends
from hepxai.export.rootspec import macro

LAYOUT = ImageLayout(
    ImageAxis("eta", (-2.5, -1.0, 0.0, 1.0, 2.5)), ImageAxis("phi", (-3.0, 0.0, 3.2)), ("muon", "jet")
)
SHAPE = (4, 2)


@pytest.fixture
def events(nano) -> Events:
    """Electrons and missing momentum are not drawn, and some muons and jets lie outside."""
    return nano.events.replace(schema=dataclasses.replace(nano.events.schema, image=LAYOUT))


def make_map(events: Events, *, shape: tuple[int, int] = SHAPE, seed: int = 0) -> Attribution:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(events), *shape)).astype(np.float32)
    output_change = values.sum((1, 2)).astype(np.float64)
    return Attribution(
        values,
        ("event", "row", "column"),
        events,
        "image_ig",
        "pt",
        residual=np.zeros(len(events)),
        output_change=output_change,
        error=np.abs(values).astype(np.float64),
    )


def pixel_of(events: Events, particle: int) -> tuple[int, int] | None:
    """Row and column by hand, as the edges of the layout are written."""
    if events.schema.types[events.type[particle]] not in LAYOUT.types:
        return None
    found = []
    for axis, value in ((LAYOUT.rows, events.p4[particle, 1]), (LAYOUT.columns, events.p4[particle, 2])):
        edges = np.array(axis.bins, dtype=np.float32)
        bins = [i for i in range(len(edges) - 1) if edges[i] <= value < edges[i + 1]]
        if not bins:
            return None
        found.append(bins[0])
    return found[0], found[1]


def test_particles_get_the_value_of_their_pixel(events: Events, tmp_path: Path) -> None:
    some = np.flatnonzero(events.label == 1)[::-1]
    made = make_map(events)[some]
    trees = [uproot.open(p)["hepxai"].arrays() for p in write_friends(tmp_path, events, [made])]
    explained, lit, dark = {int(e): i for i, e in enumerate(some)}, 0, 0
    for event in range(len(events)):
        row = trees[events.file[event]][int(events.entry[event])]
        own = explained.get(event)
        assert row["hepxai_image_ig_explained"] == (own is not None)
        first = events.offsets[event]
        assert len(row["hepxai_particle_image_ig"]) == events.counts[event]
        for k, value in enumerate(row["hepxai_particle_image_ig"]):
            pixel = pixel_of(events, first + k)
            error = row["hepxai_particle_image_ig_error"][k]
            if own is None or pixel is None:
                assert value == error == -999
                dark += own is not None
            else:
                assert value == made.values[own][pixel]
                assert error == pytest.approx(abs(value))
                lit += 1
    assert lit > 50
    assert dark > 50


def test_what_it_adds_up_to_stands_beside_the_event(events: Events, tmp_path: Path) -> None:
    made = make_map(events)
    for number, path in enumerate(write_friends(tmp_path, events, [made])):
        own = events.file == number
        found = uproot.open(path)["hepxai"]["hepxai_image_ig_output_change"].array(library="np")
        np.testing.assert_allclose(found[events.entry[own]], made.output_change[own], rtol=1e-6)


def test_parts_of_files_do_not_matter(events: Events, tmp_path: Path, monkeypatch) -> None:
    whole = write_friends(tmp_path / "whole", events, [make_map(events)])
    monkeypatch.setattr("hepxai.export.friends._CHUNK", 7)
    parts = write_friends(tmp_path / "parts", events, [make_map(events)])
    for a, b in zip(whole, parts, strict=True):
        one, two = (uproot.open(p)["hepxai"].arrays().to_list() for p in (a, b))
        assert one == two


def test_a_map_in_other_pixels_is_refused(events: Events, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the map of image_ig has 2 x 2 pixels, the image 4 x 2"):
        write_friends(tmp_path, events, [make_map(events, shape=(2, 2))])
    assert not list(tmp_path.iterdir())


def test_predictions_are_called_after_their_target(events: Events, tmp_path: Path) -> None:
    """Two numbers of a regression are no logits of the two classes."""
    said = {"pt": np.arange(len(events), dtype=np.float64), "eta": np.full(len(events), 0.5)}
    paths = write_friends(tmp_path, events, predictions=said)
    for number, path in enumerate(paths):
        tree, own = uproot.open(path)["hepxai"], events.file == number
        assert not [name for name in tree if "score" in name or "probability" in name]
        found = tree["hepxai_predicted_pt"].array(library="np")
        np.testing.assert_array_equal(found[events.entry[own]], said["pt"][own])
        assert (found[np.setdiff1d(np.arange(len(found)), events.entry[own])] == -999).all()
    assert '{"hepxai_predicted_eta"},' in (tmp_path / "friends.C").read_text()


def test_predictions_of_other_events_are_refused(events: Events, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"predictions of pt have shape \(3,\) for"):
        write_friends(tmp_path, events, predictions={"pt": np.zeros(3)})


def test_without_predictions_the_macro_draws_none(events: Events) -> None:
    assert "predicted" not in macro(Path(), events, {})
