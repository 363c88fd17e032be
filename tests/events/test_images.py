"""Which pixel a particle lights: against numpy's histogram, and edges of every kind."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hepxai.events import Schema
from hepxai.events.images import ImageAxis, ImageLayout


def test_coordinates_are_binned_as_numpy_does() -> None:
    edges = (-2.0, -0.5, 0.0, 1.0, 2.5)
    values = np.concatenate([np.random.default_rng(4).uniform(-2, 2.5, 200), edges])
    found = ImageAxis("z", edges).index(values)
    np.testing.assert_array_equal(np.bincount(found, minlength=4), np.histogram(values, edges)[0])


def test_bin_numbers() -> None:
    values = np.array([0, 3, 4, -1, 1.5, np.nan, np.inf], dtype=np.float32)
    assert ImageAxis("layer", 4).index(values).tolist() == [0, 3, -1, -1, -1, -1, -1]


@pytest.mark.parametrize("edge", [0.1, 0.3, 0.7, 1.05])
def test_a_value_on_an_edge_of_the_card_is_on_the_edge_of_the_ntuple(edge: float) -> None:
    axis = ImageAxis("eta", (edge - 1, edge, edge + 1))
    assert axis.index(np.array([edge], dtype=np.float32)).tolist() == [1]


def test_outside_is_minus_one_along_either_axis() -> None:
    layout = ImageLayout(ImageAxis("layer", 2), ImageAxis("x", (0.0, 1.0, 2.0, 3.0)), ("hit",))
    assert layout.shape == (1, 2, 3)
    assert layout.pixels(np.array([0, 1, 2, 1]), np.array([0.5, 3.0, 0.5, 3.5])).tolist() == [0, 5, -1, -1]


@pytest.mark.parametrize("bins", [0, -3])
def test_an_axis_needs_a_bin(bins: int) -> None:
    with pytest.raises(ValueError, match=f"layer: an axis needs at least one bin, got {bins}"):
        ImageAxis("layer", bins)


@pytest.mark.parametrize("edges", [(1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, float("nan"), 2.0)])
def test_edges_rise(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="z: bin edges must be two or more, each above the one before"):
        ImageAxis("z", edges)


def test_a_schema_with_an_image_survives_json() -> None:
    layout = ImageLayout(ImageAxis("layer", 9), ImageAxis("x", (0.0, 0.5, 1.0)), ("hit",))
    schema = Schema(("layer", "x"), ("", ""), ("hit",), ("events",), image=layout)
    assert Schema.from_json(schema.to_json()) == schema
    assert ImageLayout.from_json(json.loads(json.dumps(dataclasses.asdict(layout)))) == layout
