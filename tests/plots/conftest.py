"""Attributions over toy events."""

from __future__ import annotations

import numpy as np
import pytest
from toy_maps import make_attention, make_map

from hepxai.attribution import Attribution


def make_node_map(events):
    values = np.random.default_rng(0).normal(size=(events.n_particles, 5))
    labels = {"feature": events.schema.features}
    residual, output_change = np.linspace(-0.1, 0.1, len(events)), np.ones(len(events))
    return Attribution(
        values,
        ("particle", "feature"),
        events,
        "node_ig",
        "signal",
        labels=labels,
        residual=residual,
        output_change=output_change,
    )


@pytest.fixture
def pair_map():
    """Factory of signed maps over pairs."""
    return make_map


@pytest.fixture
def attention():
    """Factory of attention of two heads."""
    return make_attention


@pytest.fixture
def node_map():
    """Factory of maps over particles and features."""
    return make_node_map
