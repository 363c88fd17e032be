"""Time steps: order, means with errors in loops, and integrated gradients of a recurrent network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hepxai.attribution import Attribution
from hepxai.attribution.means import step_means
from hepxai.attribution.reductions import at_step, pt_rank
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models.card import ModelCard
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.lstm import time_order
from hepxai.models.network import NetworkModel
from hepxai.plots.matrices import step_matrix

pytestmark = pytest.mark.filterwarnings(
    "ignore:the score depends on the order of the particles"
)  # of equal pT


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    """Some with particles of the same pT."""
    events = toy(60, seed=4)
    p4 = events.p4.copy()
    p4[::3, 0] = 25
    return events.replace(p4=p4)


@pytest.fixture
def model(events: Events) -> NetworkModel:
    torch.manual_seed(2)
    card = ModelCard.model_validate({"kind": "lstm", "width": 6, "layers": 2, "dense": [5]})
    model = NetworkModel.build(card, events.schema)
    model.adapt(events)
    return model


@pytest.fixture
def found(model: NetworkModel, events: Events) -> Attribution:
    return explain(model, events, "node_ig", baseline="zero", steps=16)


def test_ranks_are_those_of_the_network(events: Events) -> None:
    order = time_order(Cloud.of(events)).numpy()
    rank = pt_rank(events)
    for a, b in zip(events.offsets, events.offsets[1:], strict=False):
        assert rank[order[a:b]].tolist() == list(range(b - a))
        slow = sorted(range(a, b), key=lambda i: (-events.p4[i, 0], i))
        assert slow == order[a:b].tolist()


def test_completeness_over_particles_and_steps(
    model: NetworkModel, events: Events, found: Attribution
) -> None:
    """All steps and features of an event add up to what the score changes from the baseline to the event."""
    with torch.no_grad():
        cloud = Cloud.of(events)
        base = model.forward_cloud(cloud.with_features(torch.zeros_like(cloud.x)))[:, 0]
    change = model.logits(events)[:, 0] - base.double().numpy()
    total = sum(
        at_step(found, s).sum("feature").sum("particle").values for s in range(int(events.counts.max()))
    )
    np.testing.assert_allclose(total, change, rtol=1e-2, atol=1e-4)
    assert found.checks["p90_residual"] < 1e-2
    assert change[events.counts == 0].tolist() == [0] * int((events.counts == 0).sum())


def test_integral_by_many_steps_of_equal_size(
    model: NetworkModel, events: Events, found: Attribution
) -> None:
    """The definition, event by event: Riemann sums."""
    for e in (0, 3, 8):
        one = events[[e]]
        cloud, total = Cloud.of(one), 0.0
        for t in (np.arange(100) + 0.5) / 100:
            x = (t * cloud.x).requires_grad_()
            (slope,) = torch.autograd.grad(model.forward_cloud(cloud.with_features(x))[0, 0], x)
            total = total + cloud.x * slope / 100
        own = found.values[events.offsets[e] : events.offsets[e + 1]]
        np.testing.assert_allclose(own, total, rtol=1e-2, atol=1e-4)


def test_means_and_errors_in_loops(events: Events, found: Attribution) -> None:
    means = step_means(found, 4)
    assert means.axes == ("class", "step", "feature")
    assert means.labels[1] == ("1", "2", "3", "4")
    for c in range(2):
        for s in range(4):
            rows = [e for e in range(60) if events.label[e] == c and events.counts[e] > s]
            order = [
                sorted(range(*events.offsets[e : e + 2]), key=lambda i: (-events.p4[i, 0], i)) for e in rows
            ]
            values = np.array([found.values[o[s]] for o in order], dtype=np.float64)
            w = events.weight[rows]
            mean = w @ values / w.sum()
            error = np.sqrt(len(w) / (len(w) - 1) * (w**2) @ (values - mean) ** 2) / abs(w.sum())
            np.testing.assert_allclose(means.value[c, s], mean, rtol=1e-5, atol=1e-8)
            np.testing.assert_allclose(means.error[c, s], error, rtol=1e-5, atol=1e-8)
            assert (means.events[c, s] == len(rows)).all()


def test_permuted_particles_have_the_same_steps(model: NetworkModel, toy: Callable[..., Events]) -> None:
    events = toy(20, seed=6)
    order = np.concatenate(
        [np.arange(a, b)[::-1] for a, b in zip(events.offsets, events.offsets[1:], strict=False)]
    )
    turned = events.replace(
        particles=events.particles[order],
        p4=events.p4[order],
        type=events.type[order],
        index=events.index[order],
    )
    maps = [explain(model, e, "node_ig", baseline="zero", steps=4) for e in (events, turned)]
    a, b = (step_means(m, 3) for m in maps)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-4, atol=1e-6)


def test_figure(found: Attribution, events: Events) -> None:
    ax = step_matrix(found, "signal", steps=5)
    assert ax.get_ylabel() == "time step, by falling pT"
    assert [t.get_text() for t in ax.get_yticklabels()] == list("12345")
    ratio = ax.images[0].get_array() / step_means(found, 5).value[1]  # a power of ten is taken out
    np.testing.assert_allclose(ratio, ratio[0, 0])
    ax.figure.draw_without_rendering()


def test_no_particles(found: Attribution, events: Events) -> None:
    empty = found[events.counts == 0]
    assert step_means(empty).value.shape == (2, 0, 5)
    with pytest.raises(ValueError, match="a time step is a particle; node_ig has the axes event, feature"):
        at_step(found.sum("particle"), 0)
