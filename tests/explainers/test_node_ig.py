"""Integrated Gradients over particle features: against Captum, loops and their own promise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from slow_reference import SlowNetwork, double, with_counts
from torch import Tensor

from hepxai.attribution.residuals import relative_residual
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.explainers.graph.baseline_particles import momentum_features
from hepxai.explainers.graph.node_ig import NodeIG, background_mean
from hepxai.models.graph.cloud import Cloud
from hepxai.models.network import NetworkModel

BASELINE = (30.0, 0.5, -0.2, 0.0, 0.4)


@pytest.mark.parametrize("baseline", ["zero", "background_mean", BASELINE])
def test_equals_captum(model: NetworkModel, events: Events, baseline: str | tuple[float, ...]) -> None:
    """Captum's Integrated Gradients on the flattened event, with the neighbour lists of the event."""
    found = explain(model, events, "node_ig", baseline=baseline, steps=10)
    start = np.array(found.settings["baseline_values"], dtype=np.float32)
    for e in range(12):
        one = events[[e]]
        cloud = Cloud.of(one)
        lists = model.neighbour_lists(cloud)

        def output(x: Tensor, cloud: Cloud = cloud, lists: dict[str, Tensor] = lists) -> Tensor:
            return torch.stack([model.forward_cloud(cloud.with_features(row), lists)[0, 0] for row in x])

        if not len(cloud.x):
            continue
        expected = IntegratedGradients(output).attribute(
            cloud.x[None], torch.as_tensor(start[one.type])[None], n_steps=10, method="gausslegendre"
        )
        own = slice(events.offsets[e], events.offsets[e + 1])
        np.testing.assert_allclose(found.values[own], expected[0].detach(), rtol=1e-4, atol=2e-6)


def test_equals_the_loop_over_events(
    toy: Callable[..., Events], make_model: Callable[..., NetworkModel]
) -> None:
    events = with_counts(toy(60, seed=1), [4, 0, 1, 6, 2])
    model = make_model(
        events,
        {"kind": "transformer", "width": 6, "heads": 2},
        {"kind": "graph", "width": 6},
        {"kind": "dynamic_edge", "width": 6, "neighbours": 2},
    )
    model.network.double()
    events = double(events)
    found = explain(model, events, "node_ig", baseline="zero", steps=5)
    for e in range(len(events)):
        slow = SlowNetwork(model, events[[e]])
        value = torch.zeros_like(slow.x)
        for node, share in zip(*np.polynomial.legendre.leggauss(5), strict=True):
            x = ((node + 1) / 2 * slow.x).requires_grad_()
            logit = slow.logits(x=x, lists=slow.lists)[0]
            value += share / 2 * slow.x * torch.autograd.grad(logit, x, materialize_grads=True)[0]
        own = slice(events.offsets[e], events.offsets[e + 1])
        np.testing.assert_allclose(found.values[own], value, rtol=1e-8, atol=1e-11)
        change = slow.logits(lists=slow.lists) - slow.logits(x=torch.zeros_like(slow.x), lists=slow.lists)
        assert found.output_change[e] == pytest.approx(float(change[0].detach()), rel=1e-8, abs=1e-11)
        assert found.residual[e] == pytest.approx(float(value.sum()) - found.output_change[e], abs=1e-10)


def test_completeness(model: NetworkModel, events: Events) -> None:
    found = explain(model, events, "node_ig")
    assert found.axes == ("particle", "feature")
    assert found.labels == {"feature": events.schema.features}
    assert found.checks["median_residual"] <= 0.01
    median = np.nanquantile(relative_residual(found), 0.5, method="higher")
    assert found.checks["median_residual"] == pytest.approx(median)
    total = found.sum("feature").sum("particle").values
    np.testing.assert_allclose(total - found.output_change, found.residual, atol=1e-5)


def test_a_particle_at_its_baseline_has_no_share(model: NetworkModel, events: Events) -> None:
    particles = events.particles.copy()
    particles[5] = BASELINE
    particles[6, 2] = BASELINE[2]
    found = explain(model, events.replace(particles=particles), "node_ig", baseline=BASELINE, steps=4)
    assert not found.values[5].any()
    assert found.values[6, 2] == 0
    assert found.values[6].any()


# --- baselines -----------------------------------------------------------------------------------


def test_background_mean_is_a_weighted_mean_by_type(events: Events) -> None:
    found = background_mean(events)
    assert found.shape == (4, 5)
    for code in range(4):
        total, norm = np.zeros(5), 0.0
        for e in range(len(events)):
            for p in range(events.offsets[e], events.offsets[e + 1]):
                if events.label[e] == 0 and events.type[p] == code:
                    total += events.weight[e] * events.particles[p]
                    norm += events.weight[e]
        np.testing.assert_allclose(found[code], total / norm, rtol=1e-5)


def test_background_mean_of_a_type_that_the_background_lacks(events: Events) -> None:
    no_muon = events.replace(type=np.where(events.label[events.parent] == 0, 0, events.type))
    found = background_mean(no_muon)
    assert found[0].any()
    assert not found[1:].any()


def test_background_mean_needs_background(events: Events) -> None:
    with pytest.raises(ValueError, match="no event of class 'background' to average for the baseline"):
        background_mean(events[events.label == 1])


def test_baselines_on_shell(model: NetworkModel, events: Events) -> None:
    """pt, η and φ are features of the toy events: mean pt and η, and the direction of the mean (cos, sin)."""
    events = events.replace(split=np.zeros(len(events), dtype=np.int64))
    own = (events.label[events.parent] == 0) & (events.type == 2)
    weight = events.weight[events.parent][own]
    pt, eta, phi, _ = (np.average(c[own], weights=weight) for c in events.p4.T)
    cos, sin = (np.average(f(events.p4[own, 2]), weights=weight) for f in (np.cos, np.sin))
    found = explain(model, events, "node_ig", baseline="on_shell_mean", steps=4)
    np.testing.assert_allclose(
        found.settings["baseline_values"][2][:3], [pt, eta, np.arctan2(sin, cos)], rtol=1e-4
    )
    assert phi != pytest.approx(np.arctan2(sin, cos))
    mean = explain(model, events, "node_ig", steps=4).settings["baseline_values"]
    np.testing.assert_allclose(found.settings["baseline_values"][2][3:], mean[2][3:], rtol=1e-5)
    kept = explain(model, events, "node_ig", baseline="own_direction", steps=4)
    assert not kept.select(feature="eta").values.any(), "η and φ of every particle are those of its baseline"
    assert not kept.select(feature="phi").values.any()
    assert kept.select(feature="pt").values.any()
    settings = json.loads(json.dumps(kept.settings))
    part = explain(model, events[:4], "node_ig", **settings)
    np.testing.assert_allclose(part.values, kept[:4].values, rtol=1e-5, atol=1e-6)


def test_baseline_momenta_make_a_particle(toy: Callable[..., Events]) -> None:
    """E² = p² + m² for the baselines of cartesian features, which a mean of each feature misses by far."""
    events = toy(200, seed=2)
    pt, eta, phi, mass = events.p4.astype(np.float64).T
    p = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
    energy = np.sqrt(p[0] ** 2 + p[1] ** 2 + p[2] ** 2 + mass**2)
    schema = dataclasses.replace(events.schema, features=("energy", "px", "py", "pz", "charge"))
    cartesian = events.replace(
        schema=schema, particles=np.column_stack([energy, *p, events.particles[:, 3]]).astype(np.float32)
    )
    assert momentum_features(cartesian) == ("energy", "px", "py", "pz")
    for baseline, off_shell in (
        ("background_mean", True),
        ("on_shell_mean", False),
        ("own_direction", False),
    ):
        start = NodeIG(baseline=baseline, steps=2).prepare(None, cartesian, "signal").start(cartesian)
        square = start[:, 0] ** 2 - (start[:, 1:4] ** 2).sum(axis=1)
        assert ((square > 0.1 * start[:, 0] ** 2).all()) == off_shell
        if not off_shell:
            assert (abs(square - 0.01) < 1e-5 * start[:, 0] ** 2).all()  # masses of 0.1, in float32
    slope = start[:, 3] / np.hypot(start[:, 1], start[:, 2])
    np.testing.assert_allclose(np.arcsinh(slope), eta, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r"none of the features .* follows from the momentum"):
        momentum_features(cartesian.replace(particles=cartesian.particles + 50))


@pytest.mark.parametrize(
    "baseline", [BASELINE, list(BASELINE), np.array(BASELINE), np.array(BASELINE, dtype=np.float32)]
)
def test_given_baseline_is_stored(
    model: NetworkModel, events: Events, baseline: tuple[float, ...] | np.ndarray
) -> None:
    found = explain(model, events, "node_ig", baseline=baseline, steps=2)
    kept = json.loads(json.dumps(found.settings))
    assert kept["steps"] == 2
    np.testing.assert_allclose(kept["baseline"], BASELINE, rtol=1e-6)
    np.testing.assert_allclose(kept["baseline_values"], [BASELINE] * 4, rtol=1e-6)


def test_baseline_of_every_type(model: NetworkModel, events: Events) -> None:
    """What a run settled on its whole population is given for a part of it."""
    values = background_mean(events.where("train"))  # where there is one, the baseline comes from it
    whole = explain(model, events, "node_ig", steps=3)
    part = explain(model, events[:4], "node_ig", steps=3, baseline_values=values)
    assert json.loads(json.dumps(part.settings))["baseline"] == "background_mean"
    np.testing.assert_allclose(part.values, whole[:4].values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"baseline": "mean"},
            "node_ig.baseline='mean'; should be 'background_mean', 'on_shell_mean', 'own_direction', 'zero'",
        ),
        ({"baseline": (1.0, 2.0)}, r"baseline has shape \(2,\); the events have features"),
        ({"baseline_values": np.zeros((4, 3)).tolist()}, r"baseline_values has shape \(4, 3\), not \(4, 5\)"),
        ({"steps": -1}, "steps=-1; should be greater than or equal to 1"),
    ],
)
def test_wrong_settings(
    model: NetworkModel, events: Events, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explain(model, events, "node_ig", **settings)


def test_a_mean_of_weights_that_nearly_cancel_is_refused(model: NetworkModel, events: Events) -> None:
    """Of -1 and 1.0001 in turns the mean energy was -9970 GeV; the baselines that are named work."""
    weight = np.where(np.arange(len(events)) % 2 == 0, 1.0001, -1.0)
    cancelling = events.replace(weight=weight, label=np.zeros_like(events.label))
    message = (
        r"no mean of the particles of type '\w+': the weights of \d+ entries nearly cancel, .* effective"
    )
    with pytest.raises(ValueError, match=message):
        explain(model, cancelling, "node_ig", steps=2)
    for baseline in ("zero", BASELINE):
        explain(model, cancelling, "node_ig", baseline=baseline, steps=2)
