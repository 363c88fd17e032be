"""Colours and markers of particle types."""

from __future__ import annotations

from itertools import permutations

from hepxai.plots.style import TYPE_COLOURS, type_looks


def test_the_look_of_a_type_does_not_depend_on_the_order() -> None:
    types = ("jet", "hadron", "met", "muon", "track")
    looks = [dict(zip(order, type_looks(order), strict=True)) for order in permutations(types)]
    assert all(look == looks[0] for look in looks)
    assert len(set(looks[0].values())) == len(types)
    assert len(set(type_looks([f"type_{i}" for i in range(12)]))) == len(TYPE_COLOURS)
