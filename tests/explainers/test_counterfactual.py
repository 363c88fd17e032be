"""Counterfactuals: the analytic optimum of a mass rule, legality, losses, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
from mass_rule import (
    RESOLUTIONS,
    FeatureMassRule,
    MassRule,
    PtRule,
    X,
    dimuon_events,
    exact_chi2,
    features_of,
    masses,
    square_and_slope,
)
from toy_events import make_events

from hepxai.attribution import Attribution
from hepxai.datasets.resolutions import declared, resolutions_of
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CheckWarning, SettingError, explain
from hepxai.explainers.graph.legal_moves import LegalMoves
from hepxai.export.friends import write_friends
from hepxai.metrics.counterfactuals import flipped_within, mean_changes
from hepxai.models.graph.cloud import Cloud

pytestmark = pytest.mark.filterwarnings("ignore:the score depends on the order")
FAR = {"resolutions": RESOLUTIONS, "largest_chi2": 1e4}


@pytest.fixture(scope="module")
def events() -> Events:
    return dimuon_events(60, seed=1)


@pytest.fixture(scope="module")
def found(events: Events) -> Attribution:
    return explain(MassRule(), events, "counterfactual", **FAR)


def sigma_of(events: Events) -> np.ndarray:
    return resolutions_of(events, declared(events, RESOLUTIONS, events.schema.types))


def moved_by(found: Attribution) -> tuple[LegalMoves, torch.Tensor]:
    """The moves of a result, for all events in one batch."""
    prepared = EXPLAINERS["counterfactual"](**FAR).prepare(MassRule(), found.events, "signal")
    return prepared.moves(Cloud.of(found.events), found.events), torch.as_tensor(found.values)


# --- the optimum -----------------------------------------------------------------------------------------


def test_the_derivative_of_the_reference(events: Events) -> None:
    p4 = events.p4.reshape(-1, 5, 4)[0, :2].astype(float)
    square, slope = square_and_slope(p4)
    assert square == pytest.approx(masses(p4[None])[0] ** 2, rel=1e-6)
    for at in np.ndindex(2, 3):
        step = np.zeros((2, 4))
        step[at] = 1e-5
        numeric = (square_and_slope(p4 + step)[0] - square_and_slope(p4 - step)[0]) / 2e-5
        assert slope[at] == pytest.approx(numeric, rel=1e-5, abs=1e-3)


def exact(events: Events) -> np.ndarray:
    p4, sigma = events.p4.reshape(-1, 5, 4), sigma_of(events).reshape(-1, 5, 3)
    return np.array([exact_chi2(p[:2], s[:2]) for p, s in zip(p4, sigma, strict=True)])


def test_the_optimum_of_the_mass_rule(events: Events, found: Attribution) -> None:
    ratio = found.event_columns["chi2"][:12] / exact(events[:12])
    assert 0.99 < ratio.min() <= ratio.max() < 1.05
    assert found.checks["share_converged"] == found.checks["share_flipped"] == 1
    assert not found.concerns


@pytest.mark.slow
def test_the_optimum_of_the_mass_rule_in_many_events() -> None:
    """From the momenta, and from the features that follow from them."""
    events = dimuon_events(200, seed=2)
    expected = exact(events)
    for rule in (MassRule(), FeatureMassRule(slope=1.0)):
        found = explain(rule, events, "counterfactual", **FAR)
        ratio = found.event_columns["chi2"] / expected
        assert 0.98 < ratio.min() <= ratio.max() < 1.05
        assert np.median(ratio) < 1.002
        assert found.checks["illegal"] == 0


def test_any_monotone_function_of_the_mass(events: Events, found: Attribution) -> None:
    for rule in (MassRule(slope=0.5), FeatureMassRule(slope=30.0)):
        other = explain(rule, events, "counterfactual", **FAR)
        np.testing.assert_allclose(
            other.event_columns["chi2"], found.event_columns["chi2"], rtol=0.01, atol=1e-3
        )


def test_the_mass_is_reached_from_both_sides(events: Events, found: Attribution) -> None:
    moves, u = moved_by(found)
    before = masses(events.p4.reshape(-1, 5, 4))
    after = masses(moves.moved(u).p4.numpy().reshape(-1, 5, 4))
    np.testing.assert_allclose(after, X, rtol=0.02)
    assert ((after - X) * (before - X) <= 1e-3).all()
    assert {0, 1} == set(events.label.tolist())


def test_no_change_on_the_boundary(events: Events) -> None:
    for e in range(4):
        one = events[[e]]
        found = explain(MassRule(), one, "counterfactual", logit=float(MassRule().logits(one)[0, 0]), **FAR)
        assert not found.values.any()
        assert found.event_columns["chi2"] == 0
        assert found.event_columns["flipped"] == found.event_columns["converged"] == 1


def test_rotation_in_phi(events: Events, found: Attribution) -> None:
    p4 = events.p4.astype(np.float64)
    angle = np.random.default_rng(5).uniform(-np.pi, np.pi, len(events))
    p4[:, 2] = np.remainder(p4[:, 2] + angle[events.parent] + np.pi, 2 * np.pi) - np.pi
    particles = events.particles.copy()
    particles[:, :5] = features_of(p4)
    rotated = events.replace(p4=p4.astype(np.float32), particles=particles)
    for rule in (MassRule(), FeatureMassRule()):
        other = explain(rule, rotated, "counterfactual", **FAR)
        np.testing.assert_allclose(
            other.event_columns["chi2"], found.event_columns["chi2"], rtol=0.01, atol=1e-3
        )


def test_a_sum_of_pt_is_a_plane(events: Events) -> None:
    """χ² = (Σ pt - t)² / Σ σ²: the distance from a plane."""
    rule, given = PtRule(threshold=250.0), {"resolutions": RESOLUTIONS, "recoil": False}
    found = explain(rule, events, "counterfactual", **given, largest_chi2=1e4)
    total = events.p4[:, 0].astype(float).reshape(-1, 5).sum(1)
    square = (sigma_of(events)[:, 0] ** 2).reshape(-1, 5).sum(1)
    np.testing.assert_allclose(found.event_columns["chi2"], (total - 250) ** 2 / square, rtol=5e-3, atol=1e-6)


# --- legality --------------------------------------------------------------------------------------------


def test_every_event_is_legal(events: Events, found: Attribution) -> None:
    """Checked from the values alone, and in the features that the network gets."""
    moves, u = moved_by(found)
    p4, values, sigma = events.p4.astype(float), found.values, sigma_of(events)
    after = p4.copy()
    after[:, :3] += sigma * values
    assert (after[:, 0] > 0).all()
    assert (np.abs(after[events.is_type("muon"), 1]) <= 3 + 1e-5).all()
    assert (np.abs(sigma[:, 2] * values[:, 2]) <= np.pi + 1e-6).all()
    cloud = moves.moved(u)
    energy, *momentum, log_pt, charge = cloud.x.double().numpy().T
    shell = np.sqrt(sum(p**2 for p in momentum) + p4[:, 3] ** 2)
    np.testing.assert_allclose(energy, shell, rtol=1e-5)
    np.testing.assert_allclose(log_pt, np.log(np.hypot(momentum[0], momentum[1])), atol=1e-5)
    np.testing.assert_array_equal(charge, events.values_of("charge"))
    np.testing.assert_array_equal(cloud.p4[:, 3].numpy(), events.p4[:, 3])
    assert (cloud.p4[:, 2].abs() <= np.pi + 1e-6).all()
    visible = ~events.is_type("met")
    np.testing.assert_allclose(cloud.p4[:, :2].numpy()[visible], after[visible, :2], rtol=1e-5, atol=1e-5)
    assert (moves.illegal(u) == 0).all()
    assert found.checks["illegal"] == 0


def test_a_change_of_zero_is_none(events: Events) -> None:
    prepared = EXPLAINERS["counterfactual"](**FAR).prepare(MassRule(), events, "signal")
    moves = prepared.moves(Cloud.of(events), events)
    cloud = moves.moved(torch.zeros_like(moves.sigma))
    np.testing.assert_array_equal(cloud.x.numpy(), events.particles)
    np.testing.assert_allclose(cloud.p4.numpy(), events.p4, rtol=1e-6)


@pytest.mark.parametrize(
    ("particle", "quantity", "size"), [(0, 0, -1e3), (0, 1, 300.0), (0, 2, 200.0), (4, 0, 1.0)]
)
def test_what_is_illegal_is_noticed(events: Events, particle: int, quantity: int, size: float) -> None:
    prepared = EXPLAINERS["counterfactual"](**FAR).prepare(MassRule(), events, "signal")
    moves = prepared.moves(Cloud.of(events), events)
    u = torch.zeros_like(moves.sigma)
    u[particle, quantity] = size
    assert moves.illegal(u)[0] == 1
    assert (moves.illegal(u)[1:] == 0).all()


@pytest.mark.filterwarnings("ignore::hepxai.explainers.CheckWarning")  # not all events flip
def test_the_acceptance(events: Events) -> None:
    """Of the card, of the setting, or of the events; a particle outside may stay there."""
    events = events[:30]
    given = {"muon": {**RESOLUTIONS["muon"], "pt": "0.001 * pt", "eta": 1.0, "phi": 1e-3, "max_eta": 1.0}}
    settings = {"resolutions": given, "moving": ["muon"], "largest_chi2": 1e4}
    found = explain(MassRule(), events, "counterfactual", **settings)
    muon, eta = events.is_type("muon"), events.p4[:, 1].astype(float)
    after = eta + found.values[:, 1]
    assert (np.abs(after[muon]) <= np.maximum(1.0, np.abs(eta[muon])) + 1e-5).all()
    assert (np.abs(np.abs(after[muon]) - 1) < 1e-4).any()  # at the edge
    given["muon"].pop("max_eta")
    stored = explain(MassRule(), events, "counterfactual", **settings).settings["acceptance"]
    assert stored == {"muon": pytest.approx(np.abs(eta[muon]).max())}
    own = explain(MassRule(), events, "counterfactual", acceptance={"muon": 2.0}, **settings)
    assert own.settings["acceptance"] == {"muon": 2.0}


@pytest.mark.parametrize("recoil", [True, False])
def test_missing_momentum_balances_the_others(events: Events, recoil: bool) -> None:
    found = explain(MassRule(), events, "counterfactual", recoil=recoil, **FAR)
    prepared = EXPLAINERS["counterfactual"](recoil=recoil, **FAR).prepare(MassRule(), events, "signal")
    cloud = prepared.moves(Cloud.of(events), events).moved(torch.as_tensor(found.values))
    change = cloud.x.double().numpy()[:, 1:3] - events.particles[:, 1:3]
    total = change.reshape(-1, 5, 2).sum(1)
    assert not found.values[events.is_type("met")].any()
    if recoil:
        np.testing.assert_allclose(total, 0, atol=1e-4)
    else:
        assert not change[events.is_type("met")].any()
        assert np.abs(total).max() > 1


def test_the_derivatives_of_the_moves(events: Events) -> None:
    """With missing momentum that balances; by finite differences."""
    prepared = EXPLAINERS["counterfactual"](**FAR).prepare(MassRule(), events, "signal")
    moves = prepared.moves(Cloud.of(events[:2]), events[:2])
    u = (
        0.3 * torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ).requires_grad_()
    assert torch.autograd.gradcheck(moves.momenta, (u,))


@pytest.mark.filterwarnings("ignore::hepxai.explainers.CheckWarning")  # not all events flip
def test_only_some_types_move(events: Events) -> None:
    found = explain(PtRule(threshold=250.0), events, "counterfactual", moving=["jet"], **FAR)
    assert not found.values[~events.is_type("jet")].any()
    assert found.settings["moving"] == ["jet"]


# --- lost particles ----------------------------------------------------------------------------------------


def test_lost_particles_against_a_loop(events: Events) -> None:
    """Sum of pt: the loss of a particle at its threshold, and the distance of the rest from the plane."""
    most, threshold, cut = 400.0, 270.0, 25.0
    found = explain(
        PtRule(threshold=threshold),
        events,
        "counterfactual",
        resolutions=RESOLUTIONS,
        recoil=False,
        drop_below=cut,
        largest_chi2=most,
    )
    pt, sigma = events.p4[:, 0].astype(float).reshape(-1, 5), sigma_of(events)[:, 0].reshape(-1, 5)
    for e in range(len(events)):
        side = pt[e].sum() - threshold
        options = {-1: side**2 / np.sum(sigma[e] ** 2)}
        for i in range(4):  # not the missing momentum
            others = np.arange(5) != i
            rest = pt[e, others].sum() - threshold
            depth = max(pt[e, i] - cut, 0) / sigma[e, i]
            options[i] = depth**2 + (0 if rest * side <= 0 else rest**2 / np.sum(sigma[e, others] ** 2))
        best = min(options, key=lambda i: options[i])
        if options[best] > most:
            continue
        assert found.event_columns["chi2"][e] == pytest.approx(options[best], rel=0.01, abs=1e-5)
        assert found.event_columns["dropped"][e] == best
        own = found.values[found.offsets[e] : found.offsets[e + 1]]
        assert np.sum(own**2) == pytest.approx(found.event_columns["chi2"][e], rel=1e-6)
        if best >= 0:
            assert own[best, 0] == pytest.approx(-max(pt[e, best] - cut, 0) / sigma[e, best])
    assert (found.event_columns["dropped"] >= 0).any()
    assert found.checks["illegal"] == 0


# --- the result -------------------------------------------------------------------------------------------


def test_what_is_stored(events: Events, found: Attribution, tmp_path: Path) -> None:
    chi2 = found.event_columns["chi2"]
    per_event = np.add.reduceat((found.values**2).sum(1), found.offsets[:-1])
    np.testing.assert_allclose(per_event, chi2)
    assert (found.axes, found.unit, found.labels) == (
        ("particle", "feature"),
        "σ",
        {"feature": ("pt", "eta", "phi")},
    )
    assert found.checks["median_chi2"] == pytest.approx(np.median(chi2))
    found.save(tmp_path / "map.safetensors")
    again = Attribution.load(tmp_path / "map.safetensors", events)
    np.testing.assert_array_equal(again.event_columns["chi2"], chi2)
    halves = Attribution.concatenate([found[:20], found[20:]])
    np.testing.assert_array_equal(halves.event_columns["chi2"], chi2)
    assert found.select(particle="muon", feature="pt").event_columns.keys() == found.event_columns.keys()
    with pytest.raises(ValueError, match="chi2 has 60 rows for 20 events"):
        found[:20].replace(event_columns=found.event_columns)


def test_friend_trees(tmp_path: Path) -> None:
    events = make_events(30, seed=3, smallest=2)
    rule = PtRule(threshold=150.0)
    resolution = {"pt": "0.1 * pt", "eta": 0.1, "phi": 0.1}
    with pytest.warns(CheckWarning, match="no legal change up to χ² = 4 was found"):
        found = explain(
            rule,
            events,
            "counterfactual",
            resolutions=dict.fromkeys(events.schema.types, resolution),
            largest_chi2=4.0,
        )
    files = write_friends(tmp_path, events, [found])
    with uproot.open(files[0]) as file:
        rows = file["hepxai"].arrays()
    chi2 = found.event_columns["chi2"][events.file == 0]
    explained = rows[rows.hepxai_counterfactual_explained]
    np.testing.assert_allclose(explained.hepxai_counterfactual_chi2, np.nan_to_num(chi2, nan=-999), rtol=1e-6)
    assert "hepxai_particle_counterfactual_pt" in rows.fields
    assert "hepxai_counterfactual_flipped" in rows.fields


def test_events_that_do_not_flip(events: Events, found: Attribution) -> None:
    with pytest.warns(
        CheckWarning, match="no legal change up to χ² = 9 was found that flips .* their values are 0"
    ):
        near = explain(MassRule(), events, "counterfactual", resolutions=RESOLUTIONS, largest_chi2=9.0)
    flips = found.event_columns["chi2"] <= 9
    np.testing.assert_array_equal(near.event_columns["flipped"] > 0, flips)
    assert np.isnan(near.event_columns["chi2"][~flips]).all()
    assert not near.values[~flips[events.parent]].any()
    assert near.checks["share_flipped"] == pytest.approx(flips.mean())


def test_too_few_steps_are_said(events: Events) -> None:
    with pytest.warns(CheckWarning, match=r"did not converge in .* upper limit; more steps than 1 may help"):
        found = explain(MassRule(), events, "counterfactual", steps=1, **FAR)
    assert 0 < found.checks["share_converged"] < found.checks["share_flipped"]
    assert found.checks["illegal"] == 0
    full = explain(MassRule(), events, "counterfactual", **FAR).event_columns["chi2"]
    flipped = found.event_columns["flipped"] > 0
    assert (found.event_columns["chi2"][flipped] > 0.99 * full[flipped]).all()


def test_missing_resolutions_and_settings(events: Events) -> None:
    with pytest.raises(ValueError, match="no resolutions for muon, jet, met; write on the data-set card"):
        explain(MassRule(), events, "counterfactual")
    with pytest.raises(ValueError, match="no resolutions for jet, met"):
        explain(MassRule(), events, "counterfactual", resolutions={"muon": RESOLUTIONS["muon"]})
    explain(MassRule(), events[:5], "counterfactual", moving=["muon"], **FAR)
    for bad in ({"steps": 0}, {"tolerance": 1.0}, {"drop_below": -1.0}, {"largest_chi2": 0.0}):
        with pytest.raises(SettingError, match=f"counterfactual.{next(iter(bad))}="):
            explain(MassRule(), events, "counterfactual", resolutions=RESOLUTIONS, **bad)
    with pytest.raises(KeyError, match="no particle type 'tau'"):
        explain(MassRule(), events, "counterfactual", moving=["tau"], **FAR)


def test_resolutions_of_the_schema(events: Events, found: Attribution) -> None:
    own = Events.from_arrays(
        np.random.default_rng(0).uniform(20, 50, (3, 2, 4)) * [1, 0.02, 0.02, 0],
        ["pt", "eta", "phi", "mass"],
        types=("muon",),
        resolutions={"muon": {"pt": 1, "eta": 0.01, "phi": 0.01}},
    )
    result: Any = explain(PtRule(threshold=70.0), own, "counterfactual", largest_chi2=1e4)
    total = own.p4[:, 0].astype(float).reshape(-1, 2).sum(1)
    np.testing.assert_allclose(result.event_columns["chi2"], (total - 70) ** 2 / 2, rtol=5e-3)


# --- the population ----------------------------------------------------------------------------------------


def test_means_and_shares_against_a_loop(events: Events, found: Attribution) -> None:
    chi2, weight = found.event_columns["chi2"], events.weight
    for n in (1.0, 5.0):
        shares = flipped_within(found, n)
        for c, name in enumerate(events.schema.classes):
            rows = events.label == c
            expected = np.sum(weight[rows] * (chi2[rows] <= n**2)) / np.sum(weight[rows])
            assert shares[name].value == pytest.approx(expected)
            assert shares[name].error > 0
    means = mean_changes(found)
    muon, signal = events.is_type("muon"), events.label[events.parent] == 1
    rows = muon & signal
    expected = np.average(np.abs(found.values[rows, 0]), weights=weight[events.parent][rows])
    value, error = means.at(**{"class": "signal", "particle": "muon", "feature": "pt"})
    assert value == pytest.approx(expected)
    assert 0 < error < value
    with pytest.raises(ValueError, match="attention has no χ² per event; explain with 'counterfactual'"):
        flipped_within(found.replace(method="attention", event_columns={}))
