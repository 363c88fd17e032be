"""Discrete changes: an event that loses one particle at the pT threshold of the selection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hepxai.explainers.graph.boundary_search import BoundarySearch, Nearest
from hepxai.explainers.graph.legal_moves import LegalMoves


@dataclass(frozen=True)
class Shortest:
    """Shortest change of each event.

    Attributes
    ----------
    u : Tensor, shape [N, 3]
        Changes in σ.
    chi2 : Tensor, shape [B]
        Infinite for events that do not flip.
    flipped, converged : Tensor of bool, shape [B]
    dropped : Tensor of int64, shape [B]
        Position of the lost particle in its event, -1 for none.
    """

    u: Tensor
    chi2: Tensor
    flipped: Tensor
    converged: Tensor
    dropped: Tensor

    @staticmethod
    def of(moves: LegalMoves, nearest: Nearest) -> Shortest:
        """Changes of a search, without a loss."""
        chi2 = torch.where(nearest.flipped, moves.per_event(nearest.u**2), torch.inf)
        nothing = torch.full((len(moves),), -1, dtype=torch.int64)
        return Shortest(nearest.u, chi2, nearest.flipped, nearest.converged, nothing)


def or_one_lost(search: BoundarySearch, moves: LegalMoves, best: Shortest, threshold: float) -> Shortest:
    """Shortest change of each event, also with one particle lost.

    A loss costs the χ² of moving the pT down to the threshold; the other particles may move besides. Only
    losses that are cheaper than the best change so far are tried.
    """
    depth = (moves.p4[:, 0] - threshold).clamp(min=0) / moves.sigma[:, 0].clamp(min=1e-300)
    bound = best.chi2.clamp(max=search.radius**2)[moves.cloud.batch]
    particles = ((moves.sigma[:, 0] > 0) & ~moves.recoils & (depth**2 < bound)).nonzero()[:, 0]
    others, flat = moves.without(particles)
    after = _search(search, moves, others, moves.cloud.batch[particles])
    event, chi2 = moves.cloud.batch[particles], others.per_event(after.u**2) + depth[particles] ** 2
    chi2 = torch.where(after.flipped & (chi2 <= search.radius**2), chi2, torch.inf)
    lowest = best.chi2.scatter_reduce(0, event, chi2, "amin")
    chosen = ((chi2 == lowest[event]) & (chi2 < best.chi2[event])).nonzero()[:, 0]
    chosen = chosen[_first_of_each(event[chosen])]
    return _replaced(best, moves, _Losses(particles, flat, others, after, chi2, depth[particles]), chosen)


def _search(search: BoundarySearch, moves: LegalMoves, others: LegalMoves, event: Tensor) -> Nearest:
    """Shortest change of the other particles; none where the loss alone flips the event."""
    with torch.no_grad():
        whole, part = (search.score(m, torch.zeros_like(m.sigma)) for m in (moves, others))
    flips = part * whole[event] <= 0
    u, flipped, converged = torch.zeros_like(others.sigma), flips.clone(), flips.clone()
    rows = (~flips).nonzero()[:, 0]
    if len(rows):
        nearest = search(others.take(rows))
        u[others.rows(rows)] = nearest.u
        flipped[rows], converged[rows] = nearest.flipped, nearest.converged
    return Nearest(u, flipped, converged)


@dataclass(frozen=True)
class _Losses:
    """Candidates: particles, flat indices of the others, and their changes."""

    particles: Tensor
    flat: Tensor
    others: LegalMoves
    after: Nearest
    chi2: Tensor
    depth: Tensor


def _first_of_each(event: Tensor) -> Tensor:
    """Mask of the first entry of each event; events in rising order."""
    first = torch.ones(len(event), dtype=torch.bool)
    first[1:] = event[1:] != event[:-1]
    return first


def _replaced(best: Shortest, moves: LegalMoves, losses: _Losses, chosen: Tensor) -> Shortest:
    particle = losses.particles[chosen]
    event, rows = moves.cloud.batch[particle], losses.others.rows(chosen)
    u, chi2 = best.u.clone(), best.chi2.clone()
    flipped, converged, dropped = best.flipped.clone(), best.converged.clone(), best.dropped.clone()
    u[losses.flat[rows]] = losses.after.u[rows]
    u[particle] = 0.0
    u[particle, 0] = -losses.depth[chosen]
    chi2[event], flipped[event] = losses.chi2[chosen], True
    converged[event], dropped[event] = losses.after.converged[chosen], particle - moves.cloud.ptr[event]
    return Shortest(u, chi2, flipped, converged, dropped)
