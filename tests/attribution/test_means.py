"""Means over groups, reductions and relative attention."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toy_maps import make_attention, make_map

from hepxai.attribution import Attribution, Pairs
from hepxai.attribution.means import bin_means, focus_means, pair_means, type_means
from hepxai.attribution.reductions import (
    in_focus,
    layers,
    quantity,
    reduced,
    reference_value,
    relative_to_uniform,
    sums_to_one,
)
from hepxai.core.binning import equal_bins
from hepxai.plots.matrices import scale_of


def test_pair_means_are_selected_populations(toy):
    attribution = make_map(toy(60))
    means = pair_means(attribution)
    for row in means.rows():
        own = attribution.events.label == attribution.events.schema.classes.index(row["class"])
        chosen = attribution.select(source=row["sender"], destination=row["receiver"])
        slow = chosen.population(own)
        np.testing.assert_equal([row["value"], row["error"]], [slow.value, slow.error])
        sizes = np.diff(chosen.offsets)[own]
        assert (row["entries"], row["events"]) == (sizes.sum(), np.count_nonzero(sizes))
    assert means.axes == ("class", "receiver", "sender")


def test_type_means_keep_features(toy):
    events = toy(30)
    values = np.random.default_rng(1).normal(size=(events.n_particles, 2))
    attribution = Attribution(
        values, ("particle", "feature"), events, "node_ig", "signal", labels={"feature": ("a", "b")}
    )
    means = type_means(attribution)
    assert means.labels[2] == ("a", "b")
    slow = attribution.select(particle="jet", feature="b").population(events.label == 1)
    np.testing.assert_allclose(
        means.at(**{"class": "signal", "particle": "jet", "feature": "b"}), [slow.value, slow.error]
    )


def test_focus_and_the_rest_are_everything(toy):
    attribution = make_map(toy(40))
    means = focus_means(attribution, ("jet", "muon"))
    assert means.entries.sum() == len(attribution.values)
    slow = attribution.select(pair=("muon", "jet")).population(attribution.events.label == 1)
    assert means.at(**{"class": "signal", "pairs": "jet–muon pairs"}) == (slow.value, slow.error)


def test_relative_attention_is_one_on_average_in_every_event(toy):
    attribution = make_attention(toy(40, smallest=2))
    assert sums_to_one(attribution)
    relative = reduced(relative_to_uniform(attribution))
    np.testing.assert_allclose(relative.mean("pair").values, 1.0)
    assert quantity(relative) == "attention × (n − 1)"
    assert not sums_to_one(make_map(toy(10)))


def test_colours_are_centred_on_what_says_nothing(toy):
    attribution = make_attention(toy(10, smallest=3))
    relative = reduced(relative_to_uniform(attribution))
    assert (reference_value(relative), reference_value(attribution), reference_value(make_map(toy(3)))) == (
        1,
        0,
        0,
    )
    values = np.array([0.4, 1.2])
    _, norm = scale_of(relative, values)
    assert (norm.vmin, norm.vcenter, norm.vmax) == pytest.approx((0.4, 1, 1.6))
    assert norm(1.0) == 0.5
    _, far = scale_of(relative, np.array([0.1, 5.0]))
    assert (far.vmin, far.vcenter, far.vmax) == (0, 1, 5)  # attention is never below 0
    _, signed = scale_of(make_map(toy(3)), np.array([0.2, 0.5]))
    assert (signed.vmin, signed.vcenter, signed.vmax) == (-0.5, 0, 0.5)  # also where no value is negative
    assert not hasattr(scale_of(attribution, values)[1], "vcenter")


def test_relative_attention_counts_the_neighbours_of_a_sparse_layer(toy):
    events = toy(1, smallest=4, largest=4)
    pairs = Pairs(np.array([1, 2, 3]), np.array([0, 0, 1]), np.array([0, 3]))
    attribution = Attribution(
        np.array([0.5, 0.5, 1.0]), ("pair",), events, "attention", "signal", pairs=pairs
    )
    np.testing.assert_allclose(relative_to_uniform(attribution).values, 1.0)


def test_single_averages_heads_and_asks_for_a_layer(toy):
    attribution = make_map(toy(10), heads=3)
    np.testing.assert_allclose(reduced(attribution).values, attribution.values.mean(axis=(1, 2)))
    np.testing.assert_allclose(reduced(attribution, head="head 2").values, attribution.values[:, 0, 1])
    two = attribution.replace(values=np.concatenate([attribution.values, -attribution.values], axis=1))
    with pytest.raises(ValueError, match="name one layer of layer 1, layer 2"):
        reduced(two)
    assert list(layers(two)) == ["layer 1", "layer 2"]
    np.testing.assert_allclose(reduced(two, layer="layer 2").values, -attribution.values.mean(axis=(1, 2)))


def test_profile_leaves_nan_out(toy):
    attribution = make_map(toy(40))
    observer = attribution.events.observers["mass_mumu"].copy()
    observer[::4] = np.nan
    edges = equal_bins(observer, 4)
    means = bin_means(attribution, observer, edges)
    inside = (observer >= edges[1]) & (observer < edges[2]) & (attribution.events.label == 0)
    slow = attribution.population(inside)
    assert (means.value[0, 1], means.error[0, 1]) == (slow.value, slow.error)
    known = np.isin(
        np.repeat(np.arange(40), np.diff(attribution.offsets)), np.flatnonzero(np.isfinite(observer))
    )
    assert means.entries.sum() == known.sum()


def test_maps_over_particles_have_no_pairs(toy):
    events = toy(5)
    attribution = Attribution(np.ones(events.n_particles), ("particle",), events, "node_ig", "signal")
    with pytest.raises(ValueError, match="needs a pair axis"):
        in_focus(attribution, ("muon", "muon"))


def test_empty_population(toy):
    attribution = make_map(toy(0))
    assert np.isnan(pair_means(attribution).value).all()
    assert (focus_means(attribution, ("muon", "muon")).events == 0).all()


def test_quantity_of_a_target_without_unit(toy):
    events = toy(10)
    schema = dataclasses.replace(events.schema, targets=("eta",), target_units=("",))
    events = events.replace(schema=schema, targets=np.zeros((10, 1), dtype=np.float32))
    attribution = make_map(events).replace(method="node_ig", target="eta", settings={"unit": ""})
    assert quantity(attribution) == "attribution to eta"
