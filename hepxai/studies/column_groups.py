"""Columns of the event-level table: groups of the same quantity, and events without some columns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

import numpy as np

from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.metrics.classification import auc


def column_kinds(events: Events) -> dict[str, tuple[str, ...]]:
    """Columns of the same quantity of different objects: ``jet1_btag, jet2_btag, …`` are "btag"."""
    groups: dict[str, list[str]] = {}
    for name in events.schema.globals:
        numbered = re.fullmatch(r"[a-z]+\d+_(\w+)", name)
        groups.setdefault(numbered.group(1) if numbered else name, []).append(name)
    return {kind if len(names) > 1 else names[0]: tuple(names) for kind, names in groups.items()}


def column_aucs(events: Events) -> dict[str, Estimate]:
    """AUC of a cut on each column in its better direction, the largest first."""
    table, names = events.table()
    aucs = {}
    for name, column in zip(names, table.T, strict=True):
        one = auc(column.astype(np.float64), events.label == 1, events.weight)
        aucs[name] = one if one.value >= 0.5 else Estimate(1 - one.value, one.error, one.n_eff)
    return dict(sorted(aucs.items(), key=lambda item: -float(item[1].value)))


def without_columns(events: Events, columns: Collection[str]) -> Events:
    """The same events without some columns of their table."""
    schema = events.schema
    places = [i for i, name in enumerate(schema.globals) if name not in columns]
    names, units = (tuple(row[i] for i in places) for row in (schema.globals, schema.global_units))
    smaller = dataclasses.replace(schema, globals=names, global_units=units)
    return events.replace(globals=np.ascontiguousarray(events.globals[:, places]), schema=smaller)
