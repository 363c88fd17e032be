"""Baseline particles whose momentum is that of a particle: on shell, in (pt, η, φ)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepxai.events import P4, Events
from hepxai.events.momenta import DERIVED, ENERGY_FROM_MASS, FROM_POLAR

Array = NDArray[np.float64]
FOLLOW = FROM_POLAR | DERIVED | {"energy": ENERGY_FROM_MASS}
"""Features that follow from pt, eta, phi and mass."""


def momentum_features(events: Events) -> tuple[str, ...]:
    """Features that follow from the four-momenta: by name, and by value for nearly all particles.

    Raises
    ------
    ValueError
        If there is none: a baseline in (pt, η, φ) would be the same as the mean of every feature.
    """
    named = [f for f in events.schema.features if f in FOLLOW or f in P4]
    columns = zip(named, _columns(events.p4.astype(np.float64), named).T, strict=True)
    matches = {f: np.isclose(events.values_of(f), c, rtol=1e-2, atol=1e-3) for f, c in columns}
    features = tuple(f for f, same in matches.items() if same.mean() > 0.99)
    if not features:
        raise ValueError(
            f"none of the features {', '.join(events.schema.features)} follows from the momentum of its "
            "particle; take the baseline 'background_mean'"
        )
    return features


def with_momentum(
    particles: NDArray[np.float32], p4: Array, features: Sequence[str], replaced: Sequence[str]
) -> NDArray[np.float32]:
    """Particles ``[N, F]`` with some features computed from other momenta; those of pt 0 stay the same."""
    changed, moving = particles.copy(), p4[:, 0] > 0
    for name, column in zip(replaced, _columns(p4[moving], replaced).T, strict=True):
        changed[moving, features.index(name)] = column
    return changed


def polar_columns(events: Events) -> Events:
    """The same events with pt, η, cos φ, sin φ and mass for features, of which a mean has a direction."""
    pt, eta, phi, mass = events.p4.T
    schema = dataclasses.replace(
        events.schema, features=("pt", "eta", "cos_phi", "sin_phi", "mass"), units=("",) * 5, image=None
    )
    columns = np.stack([pt, eta, np.cos(phi), np.sin(phi), mass], axis=1)
    return events.replace(schema=schema, particles=columns.astype(np.float32))


def momenta(polar: NDArray[np.float32]) -> Array:
    """Four-momenta pt, η, φ, mass ``[T, 4]`` of means of `polar_columns`."""
    pt, eta, cos, sin, mass = polar.astype(np.float64).T
    return np.stack([pt, eta, np.arctan2(sin, cos), mass], axis=1)


def _columns(p4: Array, names: Sequence[str]) -> Array:
    components = dict(zip(P4, p4.T, strict=True))

    def quantity(name: str) -> Array:
        formula = FOLLOW.get(name)
        return components[name] if formula is None else formula.compute(*map(quantity, formula.inputs))

    with np.errstate(divide="ignore"):
        return np.stack([quantity(name) for name in names], axis=1) if names else np.empty((len(p4), 0))
