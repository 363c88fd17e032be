"""Attributions over toy events."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepxai.attribution import Attribution, Pairs

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def make_pair_map(events, seed=0, heads=None, method="edge_ig"):
    rng = np.random.default_rng(seed)
    pairs = Pairs.complete(events)
    shape = (len(pairs.src),) if heads is None else (len(pairs.src), 1, heads)
    axes = ("pair",) if heads is None else ("pair", "layer", "head")
    return Attribution(rng.normal(size=shape), axes, events, method, "signal", pairs=pairs)


def make_attention(events, seed=0):
    raw = make_pair_map(events, seed, heads=2, method="attention")
    weight = np.exp(raw.values)
    total = np.stack([np.bincount(raw.pairs.dst, w, events.n_particles) for w in weight[:, 0].T], axis=1)
    return raw.replace(values=weight / total[raw.pairs.dst][:, None], unit="")


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
    return make_pair_map


@pytest.fixture
def attention():
    """Factory of attention of two heads."""
    return make_attention


@pytest.fixture
def node_map():
    """Factory of maps over particles and features."""
    return make_node_map
