"""Legal moves of particles in units of their resolution: momenta, and all features that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hepxai.datasets.resolutions import QUANTITIES
from hepxai.events import Events
from hepxai.events.schema import Resolution
from hepxai.explainers.graph.baseline_particles import FOLLOW
from hepxai.models.graph.cloud import Cloud

LEAST = 1e-3
"""Smallest pT after a move, as a share of the pT before."""
ROUNDING = 1e-5
"""Relative violation of a bound that single precision may leave."""


def momentum_columns(p4: Tensor, names: Sequence[str]) -> Tensor:
    """Features ``[N, K]`` that follow from pt, η, φ and mass ``p4 [N, 4]``, differentiable.

    A mass below 0 is that of a particle with p > E, as in ROOT: E² = p² - m².
    """
    pt, eta, phi, mass = p4.unbind(1)
    formulas = {
        "pt": lambda: pt,
        "eta": lambda: eta,
        "phi": lambda: phi,
        "mass": lambda: mass,
        "px": lambda: pt * phi.cos(),
        "py": lambda: pt * phi.sin(),
        "pz": lambda: pt * eta.sinh(),
        "energy": lambda: ((pt * eta.cosh()) ** 2 + mass * mass.abs()).clamp(min=1e-30).sqrt(),
        "log_pt": lambda: pt.clamp(min=1e-30).log(),
        "sin_phi": lambda: phi.sin(),
        "cos_phi": lambda: phi.cos(),
    }
    return torch.stack([formulas[n]() for n in names], dim=1) if names else pt.new_zeros(len(pt), 0)


def features_that_follow(events: Events) -> tuple[str, ...]:
    """Features that are quantities of the momentum: by name, and by value for nearly all particles."""
    names = [f for f in events.schema.features if f in FOLLOW or f in QUANTITIES or f == "mass"]
    columns = momentum_columns(torch.as_tensor(events.p4.astype(np.float64)), names).numpy()
    differs = [
        (~np.isclose(events.values_of(n), c, rtol=1e-2, atol=1e-3)).mean() if len(c) else 0.0
        for n, c in zip(names, columns.T, strict=True)
    ]
    return tuple(n for n, share in zip(names, differs, strict=True) if share < 0.01)


def acceptance(events: Events, resolutions: Mapping[str, Resolution]) -> dict[str, float]:
    """Largest |η| of each type: of the resolution, else of the events."""
    limits = {}
    for name, resolution in resolutions.items():
        eta = np.abs(events.p4[events.is_type(name), 1])
        limits[name] = resolution.max_eta or float(eta.max(initial=0.0))
    return limits


@dataclass(frozen=True)
class LegalMoves:
    """Moves ``u [N, 3]`` of the particles of a batch: pt + σ u₀, η + σ u₁, φ + σ u₂ at a fixed mass.

    Attributes
    ----------
    cloud : Cloud
    sigma : Tensor of float64, shape [N, 3]
        Resolutions; 0 for a quantity that does not move.
    lower, upper : Tensor of float64, shape [N, 3]
        Bounds of u: pT > 0, |η| within the acceptance, |Δφ| ≤ π.
    recoils : Tensor of bool, shape [N]
        Missing momenta, which balance the moves of all other particles of their event.
    names : tuple of str
        Features that follow from the momenta.
    columns : tuple of int
        Their columns.
    """

    cloud: Cloud
    sigma: Tensor
    lower: Tensor
    upper: Tensor
    recoils: Tensor
    names: tuple[str, ...]
    columns: tuple[int, ...]

    @staticmethod
    def of(
        cloud: Cloud,
        events: Events,
        sigma: np.ndarray,
        limits: Mapping[str, float],
        names: Sequence[str],
        *,
        recoil: bool,
    ) -> LegalMoves:
        """Moves of the events of a cloud; a particle without pT does not move."""
        most = np.array([limits.get(t, np.inf) for t in events.schema.types])[events.type]
        pt, eta = events.p4[:, 0].astype(np.float64), events.p4[:, 1].astype(np.float64)
        most = np.maximum(most, np.abs(eta))  # what is outside already may stay there
        sigma = np.where((pt > 0)[:, None], sigma, 0.0)
        room = np.stack([pt * (1 - LEAST), most + eta, np.full(len(pt), np.pi)], axis=1)
        above = np.stack([np.full(len(pt), np.inf), most - eta, np.full(len(pt), np.pi)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            lower, upper = (np.where(sigma > 0, side / sigma, 0.0) for side in (room, above))
        balance = (events.index == -1) if recoil else np.zeros(len(pt), dtype=bool)
        columns = tuple(events.schema.column(n) for n in names)
        bounds = (torch.as_tensor(-lower), torch.as_tensor(upper))
        return LegalMoves(
            cloud, torch.as_tensor(sigma), *bounds, torch.as_tensor(balance), tuple(names), columns
        )

    def __len__(self) -> int:
        return len(self.cloud)

    @cached_property
    def p4(self) -> Tensor:
        """Momenta before the moves, ``[N, 4]``, in double precision."""
        return self.cloud.p4.double()

    @cached_property
    def before(self) -> Tensor:
        """Features that follow from the momenta, before the moves."""
        return momentum_columns(self.p4, self.names)

    def rows(self, events: Tensor) -> Tensor:
        """Flat indices of the particles of some events, one event after the other."""
        counts, start = self.cloud.counts[events], self.cloud.ptr[events]
        shift = torch.repeat_interleave(start - (counts.cumsum(0) - counts), counts)
        return shift + torch.arange(len(shift))

    def take(self, events: Tensor) -> LegalMoves:
        """Moves of some of the events; an event may be there several times."""
        return self._of_particles(self.cloud.take(events), self.rows(events))

    def _of_particles(self, cloud: Cloud, flat: Tensor) -> LegalMoves:
        """Moves of the particles with some flat indices, in a cloud of theirs."""
        bounds = self.lower[flat], self.upper[flat]
        return LegalMoves(cloud, self.sigma[flat], *bounds, self.recoils[flat], self.names, self.columns)

    def without(self, particles: Tensor) -> tuple[LegalMoves, Tensor]:
        """Copies of events, each without one of the particles; flat indices of the particles that stay."""
        copies = self.cloud.batch[particles]
        flat, counts = self.rows(copies), self.cloud.counts[copies]
        rest = flat[flat != torch.repeat_interleave(particles, counts)]
        ptr = torch.cat([counts.new_zeros(1), (counts - 1).cumsum(0)])
        cloud = Cloud(self.cloud.x[rest], self.cloud.p4[rest], ptr)
        return self._of_particles(cloud, rest), rest

    def per_event(self, values: Tensor) -> Tensor:
        """Sum of ``values [N, 3]`` over the particles and quantities of each event, ``[B]``."""
        return values.new_zeros(len(self)).index_add(0, self.cloud.batch, values.sum(1))

    def spread(self, values: Tensor) -> Tensor:
        """Values ``[B]`` of the events for each of their particles, ``[N, 1]``."""
        return values[self.cloud.batch][:, None]

    # --- moved particles -----------------------------------------------------------------------

    def momenta(self, u: Tensor) -> Tensor:
        """Momenta after the moves, ``[N, 4]``; differentiable."""
        moved = self.p4[:, :3] + self.sigma * u
        polar = torch.cat([moved, self.p4[:, 3:]], dim=1)
        if self.recoils.any():
            polar = self._balanced(polar)
        return torch.stack([*polar[:, :2].T, self._periodic(polar[:, 2]), polar[:, 3]], dim=1)

    def _periodic(self, phi: Tensor) -> Tensor:
        """φ in the range from -π to π, or from 0 to 2π where it was outside of the former."""
        base = torch.where(self.p4[:, 2].abs() <= torch.pi, -torch.pi, 0.0)
        turns = ((phi.detach() - base) / (2 * torch.pi)).floor()
        return phi - 2 * torch.pi * turns

    def _balanced(self, polar: Tensor) -> Tensor:
        """Missing momenta reduced by the sum of the changes of all other particles of the event."""
        plane = ("px", "py")
        change = momentum_columns(polar, plane) - momentum_columns(self.p4, plane)
        visible = change.masked_fill(self.recoils[:, None], 0.0)
        total = visible.new_zeros(len(self), 2).index_add(0, self.cloud.batch, visible)
        at = self.recoils.nonzero()[:, 0]
        x, y = (momentum_columns(polar[at], plane) - total[self.cloud.batch[at]]).unbind(1)
        pt, phi = (x**2 + y**2).clamp(min=1e-12).sqrt(), torch.atan2(y, x)
        rows = torch.stack([pt, polar[at, 1], phi, polar[at, 3]], dim=1)
        return polar.index_copy(0, at, rows)

    def moved(self, u: Tensor) -> Cloud:
        """Particles after the moves; features change by the difference of their formulas."""
        p4 = self.momenta(u)
        x = self.cloud.x
        change = (momentum_columns(p4, self.names) - self.before).to(x.dtype)
        changed = x.index_add(1, torch.tensor(self.columns, dtype=torch.int64), change)
        return Cloud(changed, p4.to(self.cloud.p4.dtype), self.cloud.ptr)

    def illegal(self, u: Tensor) -> Tensor:
        """Number of particles of each event that break a rule after the moves, ``[B]``.

        Rules: finite numbers; pT > 0; u within its bounds; the mass unchanged; E² - p² = m² where energy and
        momentum are features; quantities without a resolution unchanged.
        """
        cloud = self.moved(u)
        pt, _, phi, mass = cloud.p4.double().unbind(1)
        slack = ROUNDING * (1 + u.abs())
        bad = ((u < self.lower - slack) | (u > self.upper + slack)).any(1)
        bad |= ~cloud.x.isfinite().all(1) | ~cloud.p4.isfinite().all(1)
        bad |= (pt <= 0) & (self.p4[:, 0] > 0)
        bad |= (mass != self.p4[:, 3]) | (phi.abs() > 2 * torch.pi + ROUNDING)
        bad |= ((u != 0) & (self.sigma == 0)).any(1) | self._off_shell(cloud.x)
        return torch.zeros(len(self), dtype=torch.float64).index_add(0, self.cloud.batch, bad.double())

    def _off_shell(self, x: Tensor) -> Tensor:
        """Particles whose features energy, px, py, pz have another mass than before."""
        place = dict(zip(self.names, self.columns, strict=True))
        if not {"energy", "px", "py", "pz"} <= place.keys():
            return torch.zeros(len(x), dtype=torch.bool)

        def square(features: Tensor) -> tuple[Tensor, Tensor]:
            e, *p = (features[:, place[n]].double() for n in ("energy", "px", "py", "pz"))
            return e**2 - sum(c**2 for c in p), e

        (new, energy), (old, first) = square(x), square(self.cloud.x)
        return (new - old).abs() > ROUNDING * (energy**2 + first**2)
