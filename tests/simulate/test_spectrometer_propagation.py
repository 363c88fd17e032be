"""Flight of muons: against one followed slowly, and what must be so."""

from __future__ import annotations

import numpy as np
import pytest
import spectrometer_helpers as helpers

from hepxai.simulate.spectrometer.propagation import (
    MASS,
    Muons,
    Tracks,
    cross_calorimeter,
    cross_layers,
    field_integral,
)

SETTINGS = helpers.settings_with()
RADII = np.array(SETTINGS.layers.radii)


def muons_of(pt, eta, charge=1):
    pt, eta, charge = np.broadcast_arrays(np.asarray(pt, float), np.asarray(eta, float), charge)
    return Muons(np.atleast_1d(pt), np.atleast_1d(eta), np.atleast_1d(charge).astype(np.int32))


def flown(pt, eta, charge=1, settings=SETTINGS):
    """Layers crossed by muons that scatter nowhere and lose the mean energy."""
    muons = muons_of(pt, eta, charge)
    return cross_layers(
        cross_calorimeter(muons, settings.calorimeter, np.zeros((len(muons.pt), 3))), settings
    )


def test_tracks_are_those_followed_slowly() -> None:
    rng = np.random.default_rng(3)
    momentum = np.concatenate([rng.uniform(0.5, 20, 12), [0.2, 0.8, 1.2, 300.0]])
    number = len(momentum)
    tracks = Tracks(
        rng.uniform(0, 5, number), rng.uniform(-0.2, 0.9, number), momentum, rng.choice([-1, 1], number)
    )
    z, reached = cross_layers(tracks, SETTINGS)
    assert 0 < reached[:, -1].sum() < number  # both those that come through and those that turn back
    for i in range(number):
        charge, start = int(tracks.charge[i]), float(tracks.z[i])
        slow = helpers.slow_track(start, float(tracks.angle[i]), float(momentum[i]), charge, SETTINGS)
        assert reached[i].tolist() == [s is not None for s in slow]
        expected = np.array([s for s in slow if s is not None])
        # A strip is some 2 cm; shortly before a track turns back, tan(angle) diverges.
        steep = np.abs(np.diff(expected, prepend=expected[0])) > 3 * np.diff(
            RADII[: len(expected)], prepend=4.5
        )
        np.testing.assert_allclose(z[i, reached[i]][~steep], expected[~steep], atol=2e-3)


def test_without_field_the_flight_is_straight() -> None:
    z, reached = flown([5.0, 20.0], [0.1, 1.0], settings=helpers.settings_with(toroid={"field": 0.0}))
    assert reached.all()
    np.testing.assert_allclose(np.arcsinh(z / RADII), np.array([[0.1], [1.0]]).repeat(9, axis=1), rtol=1e-12)


def test_bending_changes_sign_with_charge_and_field() -> None:
    plus, minus = flown(10.0, 0.0, 1)[0], flown(10.0, 0.0, -1)[0]
    np.testing.assert_allclose(plus, -minus, atol=1e-12)
    assert (plus[0, 3:] > 0).all()
    flipped = helpers.settings_with(toroid={"field": -SETTINGS.toroid.field})
    np.testing.assert_allclose(flown(10.0, 0.3, 1, flipped)[0], flown(10.0, 0.3, -1)[0], rtol=1e-12)


def test_bending_falls_with_pt() -> None:
    pt = np.array([5.0, 8.0, 12.0, 20.0, 200.0])
    bend = flown(pt, 0.0)[0][:, -1]
    assert (np.diff(bend) < 0).all()
    # At small angles the deflection is that of the momentum behind the calorimeter.
    after = pt[-2:] - SETTINGS.calorimeter.energy_loss
    assert bend[-2] / bend[-1] == pytest.approx(after[1] / after[0], rel=0.03)


def test_field_integral() -> None:
    toroid = SETTINGS.toroid
    radius = np.linspace(toroid.inner_radius, 9.8, 20001)
    field = toroid.field * toroid.inner_radius / radius
    assert field_integral(toroid, np.array([9.8]))[0] == pytest.approx(np.trapezoid(field, radius), rel=1e-6)
    assert field_integral(toroid, np.array([4.0, 20.0])).tolist() == [
        0.0,
        field_integral(toroid, np.array([toroid.outer_radius]))[0],
    ]


def test_the_calorimeter_takes_energy_by_the_path() -> None:
    eta = np.array([0.0, 1.0])
    tracks = cross_calorimeter(muons_of(10.0, eta), SETTINGS.calorimeter, np.zeros((2, 3)))
    expected = np.hypot(10 * np.cosh(eta), MASS) - 3 * np.cosh(eta)
    np.testing.assert_allclose(np.hypot(tracks.momentum, MASS), expected, rtol=1e-12)
    np.testing.assert_allclose(tracks.z, 4.25 * np.sinh(eta), rtol=1e-12)


def test_slow_muons_stop() -> None:
    z, reached = flown([0.3, 1.0, 2.9, 5.0], 0.5)
    assert reached.any(axis=1).tolist() == [False, False, False, True]
    assert np.isfinite(z).all()


def test_a_muon_without_energy_left_never_turns_into_nan() -> None:
    pt = np.full(20_000, 3.0)
    normals = np.random.default_rng(1).standard_normal((len(pt), 3))
    tracks = cross_calorimeter(muons_of(pt, 0.0), SETTINGS.calorimeter, normals)
    z, _ = cross_layers(tracks, SETTINGS)
    assert np.isfinite(z).all()
    assert np.isfinite(tracks.angle).all()


@pytest.mark.parametrize("pt", [5.0, 20.0])
def test_scattering_is_that_of_many_thin_slices(pt: float) -> None:
    """Slices scatter with the momentum that is left; drift in between adds up to the displacement."""
    number, slices = 40_000, 200
    muons = muons_of(np.full(number, pt), 0.5)
    rng = np.random.default_rng(7)
    smooth = SETTINGS.calorimeter.model_copy(update={"straggling": 0.0})
    fast = cross_calorimeter(muons, smooth, rng.standard_normal((number, 3)))

    slant = np.cosh(0.5)
    thickness = 100 * slant
    length = 2.75 * slant / slices
    energy, angle, shift = np.hypot(pt * slant, MASS), np.zeros(number), np.zeros(number)
    for _ in range(slices):
        energy -= 3.0 * slant / slices
        beta_p = (energy**2 - MASS**2) / energy
        width = 0.0136 / beta_p * np.sqrt(thickness / slices) * (1 + 0.038 * np.log(thickness))
        shift += angle * length
        angle += width * rng.standard_normal(number)
    straight = np.arctan(np.sinh(0.5))
    assert np.std(fast.angle - straight) == pytest.approx(np.std(angle), rel=0.02)
    displaced = (fast.z - 4.25 * np.sinh(0.5)) / slant
    assert np.std(displaced) == pytest.approx(np.std(shift), rel=0.03)
    assert np.corrcoef(fast.angle, displaced)[0, 1] == pytest.approx(
        np.corrcoef(angle, shift)[0, 1], abs=0.02
    )


def test_muons_do_not_know_each_other() -> None:
    rng = np.random.default_rng(2)
    tracks = Tracks(
        rng.uniform(0, 5, 50), rng.uniform(0, 0.8, 50), rng.uniform(1, 20, 50), rng.choice([-1, 1], 50)
    )
    z, reached = cross_layers(tracks, SETTINGS)
    for i in (0, 17, 49):
        one = Tracks(*(getattr(tracks, k)[i : i + 1] for k in ("z", "angle", "momentum", "charge")))
        alone, there = cross_layers(one, SETTINGS)
        np.testing.assert_allclose(alone[0][there[0]], z[i][reached[i]], rtol=1e-12)
