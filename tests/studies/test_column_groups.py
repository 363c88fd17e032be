"""Columns of a table by kind, each by itself, and events without some."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hepxai.events import Events
from hepxai.metrics import auc
from hepxai.studies.column_groups import column_aucs, column_kinds, without_columns


@pytest.fixture
def jets(wide_table: Events) -> Events:
    schema = dataclasses.replace(wide_table.schema, globals=("jet1_btag", "ht", "jet2_btag", "lepton1_pt"))
    return wide_table.replace(schema=schema)


def test_kinds_join_numbered_objects(jets: Events) -> None:
    kinds = column_kinds(jets)
    assert kinds == {"btag": ("jet1_btag", "jet2_btag"), "ht": ("ht",), "lepton1_pt": ("lepton1_pt",)}


def test_aucs_take_the_better_direction(jets: Events) -> None:
    flipped = jets.replace(globals=jets.globals * np.array([-1, 1, 1, 1], dtype=np.float32))
    aucs, same = column_aucs(jets), column_aucs(flipped)
    values = [float(e.value) for e in aucs.values()]
    assert values == sorted(values, reverse=True)
    assert min(values) >= 0.5
    first = auc(jets.globals[:, 0].astype(np.float64), jets.label == 1, jets.weight)
    assert (
        float(aucs["jet1_btag"].value) == float(first.value) == pytest.approx(float(same["jet1_btag"].value))
    )


def test_events_without_columns(jets: Events) -> None:
    fewer = without_columns(jets, {"jet1_btag", "jet2_btag"})
    table, names = fewer.table()
    assert names == ("ht", "lepton1_pt")
    assert np.array_equal(table, jets.globals[:, [1, 3]])
