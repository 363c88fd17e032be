"""Shortest legal move of events to a decision boundary, for all events of a batch at once.

Minimise |u|² subject to F(u) = t inside bounds: the design point of structural reliability [Hasofer &
Lind, J. Eng. Mech. 100 (1974) 111; Rackwitz & Fiessler, Comput. Struct. 9 (1978) 489]. Each step goes
towards the shortest u on the tangent plane of F; a merit function decides on its length [Zhang & Der
Kiureghian, IFIP WG 7.5 (1995) 297].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hepxai.explainers.graph.legal_moves import LegalMoves

STRIDE = 4.0
"""Longest single step, in σ."""
BOUNDARY = 1e-6
"""Distance in the logit at which an event is on the boundary already."""
SHORTEST = 2.0**-9
"""Length of a step, relative to the full one, at which a search ends."""
TINY = 1e-3
"""Length of a move, in σ, below which the remaining step is compared with this number."""
BEYOND = (1.0, 1.001, 1.01, 1.05, 1.2, 1.6, 2.5)
"""Factors by which the end of a search is moved along its ray until it is across the boundary."""
HALVINGS = 10
"""Bisections along the ray; the first interval is the last 3 %."""

Score = Callable[[LegalMoves, Tensor], Tensor]
"""Distance ``s (F - t)`` of each event, ``[B]``: positive on its side of the boundary."""


@dataclass(frozen=True)
class Nearest:
    """End of the searches of a batch.

    Attributes
    ----------
    u : Tensor, shape [N, 3]
        Moves; 0 for events that do not flip.
    flipped, converged : Tensor of bool, shape [B]
    """

    u: Tensor
    flipped: Tensor
    converged: Tensor


@dataclass(frozen=True)
class _State:
    """Searches that go on.

    Attributes
    ----------
    event : Tensor of int64, shape [B]
        Place in the batch.
    moves : LegalMoves
    side : Tensor, shape [B]
        +1 or -1, so that the distance is positive before the search.
    u, slope : Tensor, shape [N, 3]
        Moves, and the gradient of the distance.
    g, length : Tensor, shape [B]
        Distance from the boundary, and relative length of the next step.
    """

    event: Tensor
    moves: LegalMoves
    side: Tensor
    u: Tensor
    slope: Tensor
    g: Tensor
    length: Tensor

    def take(self, rows: Tensor) -> _State:
        flat = self.moves.rows(rows)
        per_event = {n: getattr(self, n)[rows] for n in ("event", "side", "g", "length")}
        return _State(moves=self.moves.take(rows), u=self.u[flat], slope=self.slope[flat], **per_event)


@dataclass(frozen=True)
class _Descent:
    """Last move of a search, the shortest one seen across the boundary (0 for none), and convergence."""

    last: Tensor
    nearest: Tensor
    converged: Tensor

    @staticmethod
    def at(moves: LegalMoves, u: Tensor) -> _Descent:
        """Search that ends where it starts."""
        return _Descent(u, torch.zeros_like(u), torch.zeros(len(moves), dtype=torch.bool))


def _emphasised(moves: LegalMoves, u: Tensor) -> Tensor:
    """Moves in which each change is multiplied by its size relative to the largest of the event."""
    size = u.abs().amax(1)
    largest = size.new_zeros(len(moves)).scatter_reduce(0, moves.cloud.batch, size, "amax")
    return u * u.abs() / moves.spread(largest).clamp(min=1e-300)


@dataclass(frozen=True)
class BoundarySearch:
    """Search with its limits.

    Attributes
    ----------
    score : callable
        Distance of the events from the boundary; ``moves, u`` to ``[B]``.
    steps : int
        Largest number of steps.
    tolerance : float
        A search converges where the remaining step is shorter than this share of the move.
    radius : float
        Longest move |u|.
    """

    score: Score
    steps: int
    tolerance: float
    radius: float

    def __call__(self, moves: LegalMoves) -> Nearest:
        """Shortest moves that flip the events of a batch.

        Two searches: from no move, and from the end of the first one with its largest changes emphasised,
        which leaves saddle points where two particles share a change. Events that neither flips are
        searched once more, from far away along the gradient.
        """
        nowhere = torch.zeros_like(moves.sigma)
        with torch.no_grad():
            first = self.score(moves, nowhere)
        side = torch.where(first < 0, -1.0, 1.0).double()
        one = self._descend(moves, side, nowhere)
        two = self._descend(moves, side, self._inside(moves, _emphasised(moves, one.last)))
        nearest = self._shortest(moves, side, (one, two))
        if len(rows := (~nearest.flipped).nonzero()[:, 0]):
            nearest = self._with(nearest, rows, moves, self._from_afar(moves.take(rows), side[rows]))
        there = first.abs() <= BOUNDARY
        return Nearest(nearest.u * moves.spread(~there), nearest.flipped | there, nearest.converged | there)

    def _shortest(self, moves: LegalMoves, side: Tensor, searches: Sequence[_Descent]) -> Nearest:
        """Best of the ends of some searches, which have converged also where they agree."""
        ends, n = [u for d in searches for u in (d.last, d.nearest)], len(moves)
        copies = moves.take(torch.arange(n).repeat(len(ends)))  # all ends in one pass
        u, across = self._crossing(copies, side.repeat(len(ends)), torch.cat(ends))
        size = torch.where(across, copies.per_event(u**2), torch.inf).view(-1, n)
        size = torch.where(size <= self.radius**2 * (1 + 1e-6), size, torch.inf)
        best = size.min(0)
        chosen = best.indices[moves.cloud.batch][None, :, None].expand(1, -1, 3)
        u = u.view(len(ends), -1, 3).gather(0, chosen)[0]
        flipped = best.values.isfinite()
        converged = torch.stack([d.converged for d in searches]).gather(0, best.indices[None] // 2)[0]
        if len(searches) > 1:
            each = size.unflatten(0, (-1, 2)).amin(1)
            converged |= each.amax(0) <= best.values * (1 + 2 * self.tolerance)
        return Nearest(torch.where(moves.spread(flipped), u, 0.0), flipped, converged & flipped)

    def _from_afar(self, moves: LegalMoves, side: Tensor) -> Nearest:
        """Search that starts where a ray along the gradient, or along its signs, is across the boundary."""
        _, slope = self._slope(moves, side, torch.zeros_like(moves.sigma))
        start, across = torch.zeros_like(slope), torch.zeros(len(moves), dtype=torch.bool)
        for way in (slope, slope.sign()):
            unit = way / moves.spread(moves.per_event(way**2).sqrt().clamp(min=1e-300))
            for length in (STRIDE, (STRIDE * self.radius) ** 0.5, self.radius):
                trial = self._inside(moves, -unit * length)
                new = self._across(moves, side, trial) & ~across
                start, across = torch.where(moves.spread(new), trial, start), across | new
        return self._shortest(moves, side, (self._descend(moves, side, start), _Descent.at(moves, start)))

    def _with(self, nearest: Nearest, rows: Tensor, moves: LegalMoves, more: Nearest) -> Nearest:
        u, flipped, converged = (getattr(nearest, n).clone() for n in ("u", "flipped", "converged"))
        u[moves.rows(rows)], flipped[rows], converged[rows] = more.u, more.flipped, more.converged
        return Nearest(u, flipped, converged)

    # --- steps along tangent planes --------------------------------------------------------------

    def _descend(self, moves: LegalMoves, side: Tensor, u: Tensor) -> _Descent:
        """Search from a move, for all events together."""
        last, nearest = u.clone(), torch.zeros_like(u)
        shortest = torch.full((len(moves),), torch.inf, dtype=torch.float64)
        converged = torch.zeros(len(moves), dtype=torch.bool)
        ones = torch.ones(len(moves), dtype=torch.float64)
        g, slope = self._slope(moves, side, u)
        state = _State(torch.arange(len(moves)), moves, side, u, slope, g, ones)
        for _ in range(self.steps):
            goal = self._goal(state)
            rest, size = (state.moves.per_event(v**2).sqrt() for v in (goal - state.u, state.u))
            ready = rest <= self.tolerance * size.clamp(min=TINY)
            converged[state.event] = ready & (state.moves.per_event(state.slope**2) > 0)
            going = (~ready & (state.length > SHORTEST)).nonzero()[:, 0]
            last[moves.rows(state.event)] = state.u
            if not len(going):
                break
            goal, state = goal[state.moves.rows(going)], state.take(going)
            state, trial, crossed = self._step(state, goal)
            length = torch.where(crossed, state.moves.per_event(trial**2), torch.inf)
            closer = length < shortest[state.event]
            shortest[state.event] = torch.where(closer, length, shortest[state.event])
            flat = moves.rows(state.event)
            nearest[flat] = torch.where(state.moves.spread(closer), trial, nearest[flat])
        last[moves.rows(state.event)] = state.u
        return _Descent(last, nearest, converged)

    def _slope(self, moves: LegalMoves, side: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Distance from the boundary, and its gradient."""
        u = u.detach().requires_grad_()
        g = side * self.score(moves, u)
        if not g.requires_grad:  # nothing moves
            return g, torch.zeros_like(u)
        (slope,) = torch.autograd.grad(g.sum(), u)
        return g.detach(), torch.where(moves.sigma > 0, slope, 0.0)

    def _goal(self, state: _State) -> Tensor:
        """Shortest move on the tangent plane inside the bounds: ``clamp(κ slope)``, one κ for each event."""
        moves, slope = state.moves, state.slope
        level = moves.per_event(slope * state.u) - state.g
        goal, free = torch.zeros_like(slope), torch.ones_like(slope, dtype=torch.bool)
        for _ in range(3):  # quantities at a bound leave the rest to the others
            norm = moves.per_event(slope**2 * free)
            rest = level - moves.per_event(slope * goal * ~free)
            factor = torch.where(norm > 0, rest / norm.clamp(min=1e-300), 0.0)
            wanted = moves.spread(factor) * slope
            inside = torch.minimum(torch.maximum(wanted, moves.lower), moves.upper)
            goal = torch.where(free, inside, goal)
            free = free & (wanted == inside)
        size = moves.per_event(goal**2).sqrt()
        return goal * moves.spread((self.radius / size.clamp(min=1e-300)).clamp(max=1.0))

    def _step(self, state: _State, goal: Tensor) -> tuple[_State, Tensor, Tensor]:
        """State after a step that lowers ½|u|² + c|g|, or a shorter next step; the trial, if it crossed."""
        moves, way = state.moves, goal - state.u
        far = moves.per_event(way**2).sqrt()
        way = way * moves.spread(state.length * (STRIDE / far.clamp(min=STRIDE)))
        trial = torch.minimum(torch.maximum(state.u + way, moves.lower), moves.upper)
        g, slope = self._slope(moves, state.side, trial)
        norms = [moves.per_event(v**2).sqrt() for v in (state.u, goal, state.slope)]
        weight = 2 * torch.maximum(*norms[:2]) / norms[2].clamp(min=1e-300)
        merit = [moves.per_event(v**2) / 2 + weight * d.abs() for v, d in ((state.u, state.g), (trial, g))]
        lower = merit[1] < merit[0]
        taken = moves.spread(lower)
        after = replace(
            state,
            u=torch.where(taken, trial, state.u),
            slope=torch.where(taken, slope, state.slope),
            g=torch.where(lower, g, state.g),
            length=torch.where(lower, (2 * state.length).clamp(max=1.0), state.length / 2),
        )
        return after, trial, g <= 0

    # --- along the ray to the boundary -----------------------------------------------------------

    def _crossing(self, moves: LegalMoves, side: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Move at which the ray to ``u`` crosses the boundary, just behind it; False if it does not."""
        far = torch.zeros(len(moves), dtype=torch.float64)
        moving = moves.per_event(u**2) > 0
        for factor in BEYOND:
            open_ = (moving & (far == 0)).nonzero()[:, 0]
            if not len(open_):
                break
            crossed = self._across(moves.take(open_), side[open_], u[moves.rows(open_)] * factor)
            far[open_] = factor * crossed.double()
        near, flipped = torch.zeros_like(far), far > 0
        rows = flipped.nonzero()[:, 0]
        some, ray, of_rows = moves.take(rows), u[moves.rows(rows)], side[rows]
        a, b = near[rows], far[rows]
        for k in range(HALVINGS if len(rows) else 0):
            middle = 0.97 * b if k == 0 else (a + b) / 2
            crossed = self._across(some, of_rows, ray * some.spread(middle))
            a, b = torch.where(crossed, a, middle), torch.where(crossed, middle, b)
        far[rows] = b
        return self._inside(moves, u * moves.spread(far)), flipped

    def _across(self, moves: LegalMoves, side: Tensor, u: Tensor) -> Tensor:
        with torch.no_grad():
            return side * self.score(moves, self._inside(moves, u)) <= 0

    def _inside(self, moves: LegalMoves, u: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(u, moves.lower), moves.upper)
