"""Shares of events that flip within the uncertainties, beside nominal variations [arXiv:2605.07470]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hepxai.core.estimate import Array, Estimate, share
from hepxai.core.jagged import IntArray, take_rows
from hepxai.datasets.resolutions import resolutions_of
from hepxai.events import Events
from hepxai.events.pairing import pair_events
from hepxai.explainers.batches import batches, default_rows
from hepxai.explainers.graph.counterfactual import Counterfactual, PreparedCounterfactual
from hepxai.explainers.graph.legal_moves import LegalMoves
from hepxai.explainers.methods import resolve_target
from hepxai.models.protocols import Differentiable
from hepxai.studies.hidden_sensitivity.shifts import Varied, envelope_of, momentum_changes

ALL = "all"
"""Name of the row in which all types move."""
FIXED = ("drop_below", "largest_chi2", "moving")
"""Settings of the method that the study sets itself."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Sensitivity:
    """Weighted shares of events whose decision flips when the particles of a type move.

    Attributes
    ----------
    particle : str
        Type, or "all".
    envelope : Estimate
        For some change with χ² ≤ n² of the pt, η, φ of the particles of an event, each in its own direction.
    shifts : mapping of str to Estimate
        Under each nominal variation; without variations when the pt of all of them is shifted up or down
        together, by n σ.
    either : Estimate
        For at least one of the shifts.
    hidden : Estimate
        Within the envelope, but for no shift.
    """

    particle: str
    envelope: Estimate
    shifts: Mapping[str, Estimate]
    either: Estimate
    hidden: Estimate

    @property
    def columns(self) -> dict[str, Estimate]:
        """All shares by name."""
        return {"envelope": self.envelope, **self.shifts, "either": self.either, "hidden": self.hidden}


@dataclass(frozen=True)
class HiddenSensitivity:
    """Sensitivity of the decisions of a model to the resolution, by particle type.

    Attributes
    ----------
    target : str
    n : float
        Size of the envelope and of the shifts, in σ.
    entries : tuple of Sensitivity
        One for each type, and one for all together.
    envelope : mapping of str to ndarray of bool, shape [E]
        Events that flip within the envelope, by type.
    shifts : mapping of str to mapping of str to ndarray of bool, shape [E]
        Events that flip under each shift, by type.
    """

    target: str
    n: float
    entries: tuple[Sensitivity, ...]
    envelope: Mapping[str, Flags]
    shifts: Mapping[str, Mapping[str, Flags]]

    @staticmethod
    def of(
        target: str,
        n: float,
        weight: Array,
        envelope: Mapping[str, Flags],
        shifts: Mapping[str, Mapping[str, Flags]],
    ) -> HiddenSensitivity:
        """Shares of events that flip, from the events and their weights ``[E]``."""
        entries = tuple(_entry(name, envelope[name], shifts[name], weight) for name in envelope)
        return HiddenSensitivity(target, n, entries, envelope, shifts)

    @staticmethod
    def joined(
        parts: Sequence[HiddenSensitivity], rows: Sequence[IntArray], events: Events
    ) -> HiddenSensitivity:
        """Result for all events from results of some, at the given rows."""
        order, first = np.argsort(np.concatenate(rows)), parts[0]
        envelope = {t: np.concatenate([p.envelope[t] for p in parts])[order] for t in first.envelope}
        shifts = {
            t: {n: np.concatenate([p.shifts[t][n] for p in parts])[order] for n in of}
            for t, of in first.shifts.items()
        }
        return HiddenSensitivity.of(first.target, first.n, events.weight, envelope, shifts)

    def rows(self) -> list[dict[str, Any]]:
        """One record per type: value, error and interval of each share."""
        return [
            {"particle": e.particle, **{c: s.to_json() for c, s in e.columns.items()}} for e in self.entries
        ]

    def __getitem__(self, particle: str) -> Sensitivity:
        for entry in self.entries:
            if entry.particle == particle:
                return entry
        raise KeyError(f"no row {particle!r}; there are {', '.join(e.particle for e in self.entries)}")

    def __str__(self) -> str:
        """Table of the shares."""
        names = [f"χ² ≤ {self.n**2:g}", *list(self.entries[0].columns)[1:]] if self.entries else []
        table = [("particle", *names)]
        table += [(e.particle, *map(str, e.columns.values())) for e in self.entries]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in table)
        return "\n".join(lines)


def hidden_sensitivity(
    model: Differentiable,
    events: Events,
    *,
    n: float = 1.0,
    target: str | None = None,
    types: Sequence[str] | None = None,
    varied: Varied | None = None,
    **settings: Any,
) -> HiddenSensitivity:
    """Shares of events that flip within the uncertainties, per particle type and in total.

    A shift of a calibration moves all particles of a type together. A network can also be sensitive to a
    change in which each particle moves in its own direction, and such a change is as probable as the
    uncertainties say. The share of the envelope is a lower limit: a search may miss a flip.

    With variations, σ of a particle is its resolution and its shift under each source (the larger one of the
    alternatives) in quadrature, at a fixed mass. A nominal variation of one type moves the momenta of these
    particles as the variation does; that of all is the event as read under the variation, with everything
    that changes in it. Events that leave the selection do not flip, and a variation of weights flips none.

    Parameters
    ----------
    model : Differentiable
    events : Events
    n : float
        Size of the envelope χ² ≤ n², and of the shifts without variations, in σ.
    target : str, optional
        Output whose sign is the decision; may be left out if there is one.
    types : sequence of str, optional
        Particle types of the rows; by default all with a σ of pt, η or φ above 0.
    varied : mapping, optional
        Source → name of the variation → events, read with `DatasetCard.varied`.
    **settings
        Of the method, such as ``resolutions``, ``logit`` and ``steps``; see
        `hepxai.explainers.graph.counterfactual.Counterfactual`.

    Raises
    ------
    ValueError
        If n is not positive, a resolution is missing, or two particles have the same place in the file.
    """
    if not n > 0:
        raise ValueError(f"n={n}; a positive number of σ is needed")
    if reserved := sorted(settings.keys() & set(FIXED)):
        raise ValueError(f"{reserved[0]} is set here for each row; give types= and n= instead")
    explained, varied = resolve_target(Counterfactual, model, events.schema, target), varied or {}
    method = Counterfactual(**settings, largest_chi2=float(n) ** 2)
    scorer = _Scorer(method.prepare(model, events, explained), events, float(n), varied)
    chosen = scorer.movable() if types is None else tuple(types)
    groups = {name: scorer.sigma_of((name,)) for name in chosen} | {ALL: scorer.sigma_of(chosen)}
    envelope = {name: scorer.envelope(sigma) for name, sigma in groups.items()}
    shifts = {name: scorer.shifts(groups[name]) for name in chosen}
    shifts[ALL] = scorer.events_as_read() or scorer.shifts(groups[ALL])
    return HiddenSensitivity.of(explained, float(n), events.weight, envelope, shifts)


class _Scorer:
    """Decisions of a model after moves of the particles of events, in units of their σ."""

    def __init__(self, prepared: PreparedCounterfactual, events: Events, n: float, varied: Varied) -> None:
        self.prepared, self.population, self.n = prepared, events, n
        self.varied = {name: one for several in varied.values() for name, one in several.items()}
        self.recoil = bool(prepared.explainer.recoil)
        resolution = resolutions_of(events, prepared.resolutions)
        self.sigma = np.hypot(resolution, envelope_of(events, varied, recoil=self.recoil))

    def movable(self) -> tuple[str, ...]:
        """Types with a σ above 0."""
        names = self.population.schema.types
        return tuple(t for t in names if self.sigma[self.population.is_type(t)].any())

    def sigma_of(self, types: Sequence[str]) -> Array:
        """σ of the particles of some types, 0 for all others, ``[N, 3]``."""
        moving = np.isin(self.population.type, [self.population.schema.code(t) for t in types])
        return np.where(moving[:, None], self.sigma, 0.0)

    def envelope(self, sigma: Array) -> Flags:
        """Events that flip for some move with χ² ≤ n²."""
        flips = np.zeros(len(self.population), dtype=bool)
        for rows, moves, _ in self._moves(sigma):
            flips[rows] = self.prepared.search(moves).flipped.numpy()
        return flips

    def shifts(self, sigma: Array) -> dict[str, Flags]:
        """Events that flip when the particles with a σ move together."""
        changes = {name: self._moved(one) for name, one in self.varied.items()}
        if not changes:
            up = np.stack([sigma[:, 0], *np.zeros((2, len(sigma)))], axis=1)
            changes = {"pt up": self.n * up, "pt down": -self.n * up}
        with np.errstate(divide="ignore", invalid="ignore"):
            units = {k: np.where(sigma > 0, change / sigma, 0.0) for k, change in changes.items()}
        return {name: self._flips(sigma, u) for name, u in units.items()}

    def _moved(self, varied: Events) -> Array:
        return momentum_changes(self.population, varied, recoil=self.recoil)

    def _flips(self, sigma: Array, u: Array) -> Flags:
        flips = np.zeros(len(self.population), dtype=bool)
        for rows, moves, flat in self._moves(sigma):
            shift = torch.minimum(torch.maximum(torch.as_tensor(u[flat]), moves.lower), moves.upper)
            with torch.no_grad():
                before, after = (self.prepared.distance(moves, v) for v in (torch.zeros_like(shift), shift))
            flips[rows] = ((before >= 0) != (after >= 0)).numpy()
        return flips

    def _moves(self, sigma: Array) -> Iterator[tuple[IntArray, LegalMoves, IntArray]]:
        """Rows of the events of each batch, their moves, and flat indices of their particles."""
        events = self.population
        for batch in batches("graph", events, default_rows("graph", events)):
            flat, _ = take_rows(events.offsets, batch.rows)
            yield batch.rows, self.prepared.moves(batch.x, batch.events, sigma[flat]), flat

    def events_as_read(self) -> dict[str, Flags]:
        """Events that flip under each variation."""
        return {name: self._flips_as_read(one) for name, one in self.varied.items()}

    def _flips_as_read(self, varied: Events) -> Flags:
        pairs, flips = pair_events(self.population, varied), np.zeros(len(self.population), dtype=bool)
        before, after = (self._above(e) for e in (self.population[pairs.first], varied[pairs.second]))
        flips[pairs.first] = before != after
        return flips

    def _above(self, events: Events) -> Flags:
        """True where the output is at least the logit of the decision, ``[E]``."""
        logits = torch.as_tensor(self.prepared.model.logits(events))
        return (self.prepared.output(logits) >= float(self.prepared.explainer.logit)).numpy()


def _entry(name: str, envelope: Flags, shifts: Mapping[str, Flags], weight: Array) -> Sensitivity:
    either = np.any([*shifts.values()], axis=0)
    what = f"share of events that flip when {name} particles move"
    one, two, three = (share(f, weight, what) for f in (envelope, either, envelope & ~either))
    return Sensitivity(name, one, {k: share(f, weight, what) for k, f in shifts.items()}, two, three)
