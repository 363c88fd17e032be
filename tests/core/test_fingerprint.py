"""Fingerprints: what changes them, and what does not."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from torch import nn

from hepxai.core.fingerprint import fingerprint


def test_json_is_hashed_as_text_with_sorted_keys():
    value = {"b": [1, 2.5, None], "a": "x"}
    assert fingerprint(value) == hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@pytest.mark.parametrize(
    "other",
    [
        np.nextafter(np.arange(6.0), 9),
        np.arange(6.0).reshape(2, 3),
        np.arange(6),
        np.arange(5.0),
        np.zeros(0),
    ],
    ids=["value", "shape", "type", "length", "empty"],
)
def test_arrays_differ_by_value_shape_and_type(other):
    assert fingerprint(np.arange(6.0)) != fingerprint(other)
    assert fingerprint(np.arange(12.0)[::2]) == fingerprint(np.arange(0.0, 12.0, 2))


def test_parts_and_their_order_count():
    one, two = np.arange(2.0), np.arange(3.0)
    assert len({fingerprint(one, two), fingerprint(two, one), fingerprint(one), fingerprint("", one)}) == 4
    assert fingerprint(1, 23) != fingerprint(12, 3)


def test_models_differ_by_their_parameters():
    layer = nn.Linear(2, 1)
    before = fingerprint(layer)
    assert fingerprint(nn.Sequential(layer)) != before  # other names
    layer.bias.data += 1e-6
    assert fingerprint(layer) != before
