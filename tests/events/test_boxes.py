"""True boxes from particles, and selections of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from box_events import BOXES, box_events, from_objects

from hepxai.events import Events
from hepxai.events.boxes import Boxes, overlaps

OBJECTS = [[(3, 0)], [], [(0, 1), (20, 0)]]


def boxes_of(events: Events, **changes: object) -> Boxes:
    options = {"classes": ("narrow", "wide"), **BOXES, **changes}
    return Boxes.of(events, **options)  # type: ignore[arg-type]


def test_boxes_are_the_particles_of_a_type() -> None:
    events = from_objects(OBJECTS)
    boxes = boxes_of(events)
    assert boxes.offsets.tolist() == [0, 1, 1, 3]
    assert boxes.event.tolist() == [0, 2, 2]
    assert boxes.edges.tolist() == [[3, 0, 5, 4], [0, 0, 7, 4], [20, 0, 22, 4]]
    assert boxes.label.tolist() == [0, 1, 0]
    assert (events.type[boxes.particle] == 1).all()
    assert repr(boxes) == "<Boxes: 3 (narrow, wide) in 3 events>"


def test_selections() -> None:
    boxes = boxes_of(from_objects(OBJECTS))
    wide = boxes.keep(boxes.label == 1)
    assert wide.offsets.tolist() == [0, 0, 0, 1]
    assert boxes[[2, 0]].offsets.tolist() == [0, 2, 3]
    assert boxes[[2, 0]].edges[:, 0].tolist() == [0, 20, 3]
    assert len(boxes[1]) == 0
    assert len(boxes_of(box_events(0))) == 0


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("right", 3, "1 boxes of muon are empty or outside the image of 4 x 32 pixels; look at left, bottom"),
        ("right", 33, "outside the image"),
        ("left", -1, "outside the image"),
        ("top", np.nan, "empty or outside"),
        ("kind", 2, r"kind holds 2 \(1 such\); write 0 to 1, for narrow, wide"),
        ("kind", 0.5, r"kind holds 0.5"),
    ],
)
def test_wrong_boxes_are_refused(column: str, value: float, message: str) -> None:
    events = from_objects(OBJECTS)
    particles = events.particles.copy()
    particles[np.flatnonzero(events.type == 1)[0], events.schema.column(column)] = value
    with pytest.raises(ValueError, match=message):
        boxes_of(events.replace(particles=particles))


def test_unknown_names_are_refused() -> None:
    events = from_objects(OBJECTS)
    with pytest.raises(KeyError, match="no particle type 'jet'; the card has hit, muon"):
        boxes_of(events, particle="jet")
    with pytest.raises(KeyError, match="no particle feature 'pdg'"):
        boxes_of(events, label="pdg")
    with pytest.raises(ValueError, match="score has 1 rows for 2 boxes"):
        Boxes(
            np.array([0, 2]), np.zeros((2, 4), np.float32), np.zeros(2, int), np.ones(1), np.zeros(2, int), ()
        )


def test_overlap_by_hand() -> None:
    one = np.array([[0, 0, 4, 2], [0, 0, 4, 2], [0, 0, 4, 2], [0, 0, 0, 0]], dtype=np.float32)
    other = np.array([[2, 0, 6, 2], [0, 0, 4, 2], [9, 9, 10, 10], [0, 0, 0, 0]], dtype=np.float32)
    np.testing.assert_allclose(overlaps(one, other), [1 / 3, 1, 0, 0])
