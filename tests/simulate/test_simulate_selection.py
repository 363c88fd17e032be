"""Event selection and cut flow against a loop over events."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_helpers as helpers

from hepxai.simulate.charged_higgs.detector import Reconstructed
from hepxai.simulate.charged_higgs.simulation import dimuon, select
from hepxai.simulate.chunk import CutFlow
from hepxai.simulate.collection import Collection

SELECTION = helpers.shipped_settings().selection


def objects(rng, n_events, mean):
    event = np.repeat(np.arange(n_events), rng.poisson(mean, n_events))
    size = len(event)
    columns = {
        "pt": rng.exponential(30, size) + 5,
        "eta": rng.normal(0, 1, size),
        "phi": rng.uniform(-3, 3, size),
        "mass": np.full(size, 0.1),
        "charge": rng.choice([-1, 1], size),
        "btag": rng.random(size),
    }
    return Collection(event, columns, n_events).pt_ordered()


@pytest.fixture
def events():
    rng = np.random.default_rng(0)
    return Reconstructed(objects(rng, 400, 1), objects(rng, 400, 2), objects(rng, 400, 4), None, None)


def slow_step(events, i):
    """Number of steps that event ``i`` survives, counting 'generated'."""
    muons = [k for k in range(len(events.muons)) if events.muons.event[k] == i]
    jets = [k for k in range(len(events.jets)) if events.jets.event[k] == i]
    m = events.muons

    def mass():
        a, b = muons
        deta, dphi = m["eta"][a] - m["eta"][b], m["phi"][a] - m["phi"][b]
        return np.sqrt(2 * m["pt"][a] * m["pt"][b] * (np.cosh(deta) - np.cos(dphi)))

    checks = (
        lambda: sum(events.electrons.event == i) == 1,
        lambda: len(muons) == 2,
        lambda: m["charge"][muons].sum() == 0,
        lambda: mass() > 12,
        lambda: len(jets) >= 3,
        lambda: sum(events.jets["btag"][jets] > 0.5) >= 1,
    )
    return 1 + next((k for k, check in enumerate(checks) if not check()), len(checks))


def test_cutflow_is_the_event_loop(events):
    weight = np.random.default_rng(1).choice([1.0, -0.5], 400)
    passed, flow = select(events, weight, SELECTION, 0.5)
    survived = np.array([slow_step(events, i) for i in range(400)])
    assert passed.tolist() == np.flatnonzero(survived == 7).tolist()
    for step in range(7):
        alive = survived > step
        assert flow.counts[step] == alive.sum()
        assert flow.sum_weights[step] == pytest.approx(weight[alive].sum())
        assert flow.sum_weights2[step] == pytest.approx((weight[alive] ** 2).sum())
    assert 0 < len(passed) < 400
    assert np.all(np.diff(flow.counts) <= 0)


def test_charge_requirement_can_be_dropped(events):
    loose = SELECTION.model_copy(update={"opposite_charge": False})
    _, flow = select(events, np.ones(400), loose, 0.5)
    assert flow.steps[3] == "any charge"
    assert flow.counts[3] == flow.counts[2]


def test_dimuon_takes_the_two_hardest(events):
    mass, opposite = dimuon(events.muons)
    few = events.muons.counts < 2
    assert np.all(mass[few] == 0)
    assert not opposite[few].any()
    many = np.flatnonzero(events.muons.counts > 2)
    hardest = events.muons.take(np.flatnonzero(events.muons.event == many[0])[:2])
    alone = Collection(np.zeros(2, dtype=int), hardest.columns, 1)
    assert mass[many[0]] == pytest.approx(dimuon(alone)[0][0])


def test_cutflows_add_only_for_one_selection():
    flow = CutFlow(("generated",), np.array([3]), np.array([2.0]), np.array([3.0]))
    assert (flow + flow).counts.tolist() == [6]
    with pytest.raises(ValueError, match="different selections"):
        flow + CutFlow(("all",), flow.counts, flow.sum_weights, flow.sum_weights2)
