"""Features of ordered particle pairs, from their four-momenta."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def _delta_phi(a: Tensor, b: Tensor) -> Tensor:
    return torch.remainder(a[..., 2] - b[..., 2] + torch.pi, 2 * torch.pi) - torch.pi


def _delta_eta(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 1] - b[..., 1]


def _delta_r(a: Tensor, b: Tensor) -> Tensor:
    return torch.hypot(_delta_eta(a, b), _delta_phi(a, b))


def _signed_square(mass: Tensor, momentum: Tensor) -> Tensor:
    """m² with the sign of the mass, as in ROOT; E² = p² + m² is not below 0."""
    return torch.maximum(mass * mass.abs(), -(momentum**2))


def _mass(a: Tensor, b: Tensor) -> Tensor:
    # m² = m1² + m2² + 2 (E1 E2 - p1·p2), with E1 E2 - p1·p2 as two sums of positive terms: the difference
    # itself would cancel for light, collinear particles, even in double precision.
    a, b = a.double(), b.double()
    p1, p2 = (p[..., 0] * torch.cosh(p[..., 1]) for p in (a, b))
    m1, m2 = _signed_square(a[..., 3], p1), _signed_square(b[..., 3], p2)
    product = torch.sqrt((p1**2 + m1) * (p2**2 + m2))
    slow = (m1 * p2**2 + m2 * p1**2 + m1 * m2) / (product + p1 * p2).clamp(min=1e-300)
    half = torch.sinh(_delta_eta(a, b) / 2) ** 2 + torch.sin(_delta_phi(a, b) / 2) ** 2
    square = m1 + m2 + 2 * (slow + 2 * a[..., 0] * b[..., 0] * half)
    return torch.sign(square) * torch.sqrt(square.abs())


def _log_mass(a: Tensor, b: Tensor) -> Tensor:
    return torch.log(_mass(a, b).clamp(min=1e-3))


PAIR_FEATURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "delta_eta": _delta_eta,
    "delta_phi": _delta_phi,
    "delta_r": _delta_r,
    "mass": _mass,
    "log_mass": _log_mass,
}


def pair_features(target: Tensor, source: Tensor, names: Sequence[str]) -> Tensor:
    """Features of pairs of particles.

    Parameters
    ----------
    target, source : Tensor, shape [..., 4]
        pt [GeV], eta, phi, mass [GeV]; broadcast against each other.
    names : sequence of str
        Keys of ``PAIR_FEATURES``: ``delta_eta``, ``delta_phi`` (both target - source, the latter from
        -π to π), ``delta_r``, ``mass`` [GeV] and ``log_mass`` (of GeV, floored at 1 MeV). Masses
        below 0 follow ROOT: E² = max(p² - m², 0), and a pair with p > E has the mass -√(p² - E²).

    Returns
    -------
    Tensor, shape [..., K]
    """
    unknown = [n for n in names if n not in PAIR_FEATURES]
    if unknown:
        raise KeyError(f"no pair feature {unknown[0]!r}; there are {', '.join(PAIR_FEATURES)}")
    return torch.stack([PAIR_FEATURES[n](target, source).to(target.dtype) for n in names], dim=-1)
