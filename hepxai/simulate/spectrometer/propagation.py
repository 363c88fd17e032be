"""Flight of muons through calorimeter and toroid, in the bending plane (r, z), all at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.simulate.spectrometer.settings import Calorimeter, SpectrometerSettings, Toroid

Floats = NDArray[np.float64]

MASS = 0.1056583755
"""Mass of the muon, GeV (PDG 2024)."""
CURVATURE = 0.299792458
"""GeV / (T m): change of a momentum component per field integral, charge one."""
_HIGHLAND = 0.0136  # GeV
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class Muons:
    """Muons at the collision point: pt (GeV), eta, charge (±1), each of shape ``[M]``."""

    pt: Floats
    eta: Floats
    charge: NDArray[np.int32]


@dataclass(frozen=True)
class Tracks:
    """Muons at the calorimeter's outer face, each of shape ``[M]``.

    Attributes
    ----------
    z : ndarray
        Position, m.
    angle : ndarray
        Angle of flight to the radial direction, rad; positive towards larger z.
    momentum : ndarray
        GeV; 0 for a muon that the calorimeter stopped.
    charge : ndarray
    """

    z: Floats
    angle: Floats
    momentum: Floats
    charge: NDArray[np.int32]


def cross_calorimeter(muons: Muons, calorimeter: Calorimeter, normals: NDArray[np.float64]) -> Tracks:
    """Fly straight to the outer face; lose energy and scatter on the way.

    The loss is Gaussian and grows with the path, as cosh(eta). The width of the projected angle is that of
    Highland (PDG, Passage of particles through matter, Multiple scattering through small angles), with
    ``(beta p)^2`` replaced by the product of its values before and after, exact for a momentum that falls
    linearly along the path. Angle and displacement are correlated as there, which without energy loss is
    ``path * width * (n1 / sqrt(12) + n2 / 2)``; with it, the later part of the path scatters more.

    Parameters
    ----------
    muons : Muons
    calorimeter : Calorimeter
    normals : ndarray, shape [M, 3]
        Standard normal numbers: for the loss, the displacement, the angle.
    """
    slant = np.cosh(muons.eta)
    before = muons.pt * slant
    spread = np.maximum(1 + calorimeter.straggling * normals[:, 0], 0)
    energy = np.hypot(before, MASS) - calorimeter.energy_loss * slant * spread
    after = np.sqrt(np.maximum(energy**2 - MASS**2, 0)) * (energy > MASS)
    width = _highland(calorimeter.radiation_lengths * slant, before, after)
    path = (calorimeter.outer_radius - calorimeter.inner_radius) * slant
    arm, spread_of_arm = _lever(before, after)
    shift = path * width * (spread_of_arm * normals[:, 1] + arm * normals[:, 2])
    angle = np.arctan(np.sinh(muons.eta))
    z = calorimeter.outer_radius * np.sinh(muons.eta) + shift * slant  # at the face, not across the path
    return Tracks(z, angle + width * normals[:, 2], after, muons.charge)


def _highland(thickness: Floats, before: Floats, after: Floats) -> Floats:
    """Width of the projected scattering angle, rad; 0 for a stopped muon."""
    scale = np.sqrt(_beta_p(before) * _beta_p(after))
    width = _HIGHLAND * np.sqrt(thickness) * (1 + 0.038 * np.log(thickness))
    return np.divide(width, scale, out=np.zeros_like(scale), where=scale > 0)


def _lever(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the distance between scattering and exit, as fractions of the path."""
    to_go = (1 + _NODES) / 2
    density = _WEIGHTS / (after[:, None] + (before - after)[:, None] * to_go) ** 2
    density /= density.sum(axis=1, keepdims=True)
    mean = density @ to_go
    return mean, np.sqrt(density @ to_go**2 - mean**2)


def _beta_p(momentum: Floats) -> Floats:
    return momentum**2 / np.hypot(momentum, MASS)


def field_integral(toroid: Toroid, radius: Floats) -> Floats:
    """Integral of the field over r, from the inside out to ``radius``, T m."""
    reached = np.clip(radius, toroid.inner_radius, toroid.outer_radius)
    return toroid.field * toroid.inner_radius * np.log(reached / toroid.inner_radius)


def cross_layers(tracks: Tracks, settings: SpectrometerSettings) -> tuple[Floats, NDArray[np.bool_]]:
    """Crossings of muons with the layers.

    A field that depends on r alone conserves ``p sin(angle) - q * integral of B dr``: the angle at every
    radius is known exactly, and z is the integral of its tangent (Gauss–Legendre between the radii).
    Muons that turn back never reach the layers outside; their way back is left out.

    Returns
    -------
    z : ndarray, shape [M, L]
        m; meaningless where the layer is not reached.
    reached : ndarray of bool, shape [M, L]
    """
    bounds, layer = _bounds(settings)
    nodes = (bounds[1:] + bounds[:-1])[:, None] / 2 + np.diff(bounds)[:, None] / 2 * _NODES
    weights = np.diff(bounds)[:, None] / 2 * _WEIGHTS
    outward = (tracks.momentum > 0) & (np.abs(tracks.angle) < np.pi / 2)
    bend = np.divide(CURVATURE * tracks.charge, tracks.momentum, out=np.zeros_like(tracks.z), where=outward)
    z = np.repeat(tracks.z[:, None], len(bounds), axis=1)
    for segment in range(len(bounds) - 1):  # segments, not muons
        sine = np.sin(tracks.angle)[:, None] + bend[:, None] * field_integral(settings.toroid, nodes[segment])
        z[:, segment + 1] = z[:, segment] + _tangent(sine) @ weights[segment]
    sine = np.sin(tracks.angle)[:, None] + bend[:, None] * field_integral(settings.toroid, bounds)
    alive = np.logical_and.accumulate(np.abs(sine) < 1, axis=1) & outward[:, None]
    return z[:, layer], alive[:, layer]


def _bounds(settings: SpectrometerSettings) -> tuple[Floats, NDArray[np.int64]]:
    """Radii between which to integrate, none across the field's edges; which of them are the layers."""
    radii = np.array(settings.layers.radii)
    edges = [settings.calorimeter.outer_radius, settings.toroid.inner_radius, settings.toroid.outer_radius]
    every = np.unique(np.concatenate([radii, edges]))
    bounds = every[every <= radii[-1]]
    return bounds, np.searchsorted(bounds, radii)


def _tangent(sine: Floats) -> Floats:
    inside = np.clip(sine, -1 + 1e-9, 1 - 1e-9)
    return inside / np.sqrt(1 - inside**2)
