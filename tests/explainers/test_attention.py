"""Attention: PyG's own coefficients, each with the pair that it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from slow_reference import all_pairs
from torch_geometric.nn import TransformerConv

from hepxai.events import Events
from hepxai.events.pair_features import pair_features
from hepxai.explainers import CannotExplainError, explain
from hepxai.models.network import NetworkModel


@pytest.mark.parametrize("pairs", [(), ("delta_r", "log_mass")])
def test_equals_pyg_pair_by_pair(
    toy: Callable[..., Events], make_model: Callable[..., NetworkModel], pairs: tuple[str, ...]
) -> None:
    events = toy(15)
    events = events.replace(schema=dataclasses.replace(events.schema, pair_features=pairs))
    layer = {"kind": "transformer", "width": 8, "heads": 2}
    model = make_model(events, layer, layer)
    found = explain(model, events, "attention")
    assert found.axes == ("pair", "layer", "head")
    assert found.labels == {"layer": ("transformer_1", "transformer_2"), "head": ("0", "1")}
    for e in range(len(events)):
        one = events[[e]]
        x = model.network.standardise(torch.as_tensor(one.particles))
        p4 = torch.as_tensor(one.p4)
        # In a random order, so that only the labels of the pairs can bring them together.
        edges = (
            np.random.default_rng(e)
            .permutation(np.array(all_pairs(len(x))).reshape(-1, 2).astype(np.int64))
            .T
        )
        edge_index = torch.as_tensor(edges)
        attributes = pair_features(p4[edges[1]], p4[edges[0]], pairs) if pairs else None
        own = slice(found.offsets[e], found.offsets[e + 1])
        place = {
            (s - events.offsets[e], d - events.offsets[e]): row
            for s, d, row in zip(found.pairs.src[own], found.pairs.dst[own], found.values[own], strict=True)
        }
        assert len(place) == edges.shape[1]
        for number, module in enumerate(model.network.convolutions):
            plain = TransformerConv(x.shape[1], 4, heads=2, edge_dim=len(pairs) or None)
            plain.load_state_dict(module.conv.state_dict())
            with torch.no_grad():
                x, (_, alpha) = plain.eval()(x, edge_index, attributes, return_attention_weights=True)
            x = torch.relu(x)
            for (s, d), expected in zip(edges.T, alpha, strict=True):
                np.testing.assert_allclose(place[s, d][number], expected, rtol=1e-4, atol=1e-6)


def test_coefficients_of_a_receiver_add_up_to_one(model: NetworkModel, events: Events) -> None:
    found = explain(model, events, "attention")
    total = np.zeros((events.n_particles, *found.values.shape[1:]))
    np.add.at(total, found.pairs.dst, found.values)
    has_sender = (events.counts > 1)[events.parent]
    np.testing.assert_allclose(total[has_sender], 1, atol=1e-5)
    assert not total[~has_sender].any()
    assert found.checks["max_row_deviation"] == pytest.approx(abs(total[has_sender] - 1).max(), abs=1e-6)
    assert found.checks["max_row_deviation"] < 1e-5


def test_dropout_is_off(model: NetworkModel, events: Events) -> None:
    model.network.train()
    first = explain(model, events, "attention")
    assert np.array_equal(first.values, explain(model, events, "attention").values)


def test_no_attention_layer(events: Events, make_model: Callable[..., NetworkModel]) -> None:
    model = make_model(events, {"kind": "graph", "width": 4})
    with pytest.raises(
        CannotExplainError, match=r"no attention layer .*; these methods work on it: counterfactual, edge_ig"
    ):
        explain(model, events, "attention")


def test_layers_with_other_heads(events: Events, make_model: Callable[..., NetworkModel]) -> None:
    layers = [{"kind": "transformer", "width": 8, "heads": h} for h in (2, 1)]
    model = make_model(events, *layers)
    found = explain(model, events, "attention")
    assert found.axes == ("pair", "head")
    assert found.labels == {"head": ("transformer_1 0", "transformer_1 1", "transformer_2 0")}
    for name, part in (("transformer_1", found.values[:, :2]), ("transformer_2", found.values[:, 2:])):
        alone = explain(model, events, "attention", layer=name)
        assert alone.axes == ("pair", "layer", "head")
        np.testing.assert_array_equal(alone.values[:, 0], part)
    with pytest.raises(KeyError, match="no attention layer 'graph_1'; there are transformer_1, trans"):
        explain(model, events, "attention", layer="graph_1")


def test_no_pairs_at_all(toy: Callable[..., Events], model: NetworkModel) -> None:
    found = explain(model, toy(8, largest=1), "attention")
    assert found.values.shape == (0, 1, 2)
    assert found.checks["max_row_deviation"] == 0
    nothing = explain(model, toy(8)[:0], "attention")
    assert len(nothing.values) == 0
