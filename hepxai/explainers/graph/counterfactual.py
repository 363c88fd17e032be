"""Counterfactuals: smallest legal change of the momenta of an event that flips the decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.estimate import Array
from hepxai.datasets.resolutions import QUANTITIES, declared, resolutions_of
from hepxai.events import Events
from hepxai.events.schema import Resolution
from hepxai.explainers.base import Explainer, Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.graph.boundary_search import BoundarySearch
from hepxai.explainers.graph.legal_moves import LegalMoves, acceptance, features_that_follow
from hepxai.explainers.graph.lost_particles import Shortest, or_one_lost
from hepxai.explainers.methods import register
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import Differentiable

Resolutions = Mapping[str, Mapping[str, str | float]]


@dataclass(frozen=True, kw_only=True)
class PreparedCounterfactual(Prepared):
    """Counterfactual search with what depends on the population.

    Attributes
    ----------
    resolutions : mapping of str to Resolution
        Of the types that may move.
    limits : mapping of str to float
        Largest |η| of these types.
    names : tuple of str
        Features that follow from the momenta.
    """

    resolutions: Mapping[str, Resolution]
    limits: Mapping[str, float]
    names: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """Settings with resolutions, acceptance and features."""
        entries = {
            t: {"pt": r.pt, "eta": r.eta, "phi": r.phi} | ({"max_eta": r.max_eta} if r.max_eta else {})
            for t, r in self.resolutions.items()
        }
        return super().settings() | {
            "resolutions": entries,
            "moving": list(self.resolutions),
            "acceptance": dict(self.limits),
            "momentum_features": list(self.names),
        }

    def labels(self, events: Events) -> dict[str, tuple[str, ...]]:
        """The quantities that move."""
        return {"feature": QUANTITIES}

    def moves(self, cloud: Cloud, events: Events, sigma: Array | None = None) -> LegalMoves:
        """Legal moves of the particles of some events, in units of the resolution or of another σ."""
        sigma = resolutions_of(events, self.resolutions) if sigma is None else sigma
        return LegalMoves.of(cloud, events, sigma, self.limits, self.names, recoil=self.explainer.recoil)

    def distance(self, moves: LegalMoves, u: Tensor) -> Tensor:
        """Target minus the logit to reach, ``[B]``, after moves; differentiable."""
        outputs = self.model.forward_cloud(moves.moved(u))
        target: Tensor = self.output(outputs)
        return target.double() - float(self.explainer.logit)

    @property
    def search(self) -> BoundarySearch:
        """Search for the nearest change."""
        steps, tolerance = self.explainer.steps, self.explainer.tolerance
        return BoundarySearch(self.distance, steps, tolerance, math.sqrt(self.explainer.largest_chi2))


@register("counterfactual")
class Counterfactual(Explainer):
    """Smallest legal change of an event that flips the decision, in units of detector resolution.

    ``min χ² = Σ_i (Δpt_i/σ)² + (Δη_i/σ)² + (Δφ_i/σ)²`` subject to ``F(x') = logit``; the values are the
    signed changes in σ. Masses stay, pT > 0, |η| stays within the acceptance, φ is periodic. Features
    that follow from the momenta are computed again, and missing momentum balances the changes of all
    other particles; all other features and the event-level features stay. The optimiser is
    `hepxai.explainers.graph.boundary_search`; networks that search for neighbours search again at each
    step.

    Per event (`Attribution.event_columns`): ``chi2`` (NaN without a flip), ``flipped``, ``converged``,
    and with ``drop_below`` the position ``dropped`` of the lost particle (-1 for none). Checks:
    ``median_chi2`` of the events that flip, ``share_flipped``, ``share_converged``, and ``illegal``, the
    number of particles that break a rule, which is 0.

    Attributes
    ----------
    logit : float
        Value of the target to reach; 0 is the decision between two classes.
    resolutions : mapping, optional
        Resolution of each particle type, as on the data-set card, which they replace:
        ``{"muon": {"pt": "0.02 * pt", "eta": 0.001, "phi": 0.001}}``.
    moving : sequence of str, optional
        Particle types that may move; all by default.
    recoil : bool
        Missing momentum balances the changes of the others. It may move by its own resolution besides.
    drop_below : float, optional
        pT threshold [GeV] of the selection: one particle may also be lost, at the cost of moving its pT
        down to the threshold, ``((pt - drop_below) / σ)²``. Missing momentum is not lost.
    steps : int
        Largest number of steps of the search.
    tolerance : float
        The search has converged where the remaining step is shorter than this share of the change.
    largest_chi2 : float
        Largest χ² of a change.
    acceptance : mapping of str to float, optional
        Largest |η| of each type. By default ``max_eta`` of the resolution, else that of the explained events.
    momentum_features : sequence of str, optional
        Features that follow from the momenta; recognised by name and value unless given.
    """

    title = "smallest change that flips the decision (counterfactual)"
    short_title = "counterfactual"
    unit = "σ"
    axes = ("particle", "feature")
    needs = Differentiable
    hard_limits: ClassVar[Mapping[str, float]] = {"illegal": 0.0}
    logit: float = 0.0
    resolutions: Resolutions | None = None
    moving: Sequence[str] | None = None
    recoil: bool = True
    drop_below: float | None = Field(default=None, gt=0)
    steps: int = Field(default=60, ge=1, le=10_000)
    tolerance: float = Field(default=0.03, gt=0, lt=1)
    largest_chi2: float = Field(default=400.0, gt=0)
    acceptance: Mapping[str, float] | None = None
    momentum_features: Sequence[str] | None = None

    def prepare(self, model: Differentiable, events: Events, target: str) -> PreparedCounterfactual:
        """Look up resolutions, acceptance and the features that follow from the momenta.

        Raises
        ------
        ValueError
            If a type that may move has no resolution.
        """
        types = tuple(events.schema.types if self.moving is None else self.moving)
        resolutions = declared(events, self.resolutions, types)
        resolutions_of(events, resolutions)  # refused before the search
        names = features_that_follow(events) if self.momentum_features is None else self.momentum_features
        limits = acceptance(events, resolutions) | dict(self.acceptance or {})
        return PreparedCounterfactual(
            explainer=self,
            model=model,
            target=target,
            resolutions=resolutions,
            limits=limits,
            names=tuple(names),
        )

    def attribute_batch(self, prepared: PreparedCounterfactual, batch: Batch[Cloud]) -> Part:
        """Signed changes in σ of every particle."""
        moves = prepared.moves(batch.x, batch.events)
        best = Shortest.of(moves, prepared.search(moves))
        if self.drop_below is not None:
            best = or_one_lost(prepared.search, moves, best, self.drop_below)
        columns = {"chi2": torch.where(best.flipped, best.chi2, torch.nan), "flipped": best.flipped.double()}
        columns |= {"converged": best.converged.double()}
        if self.drop_below is not None:
            columns["dropped"] = best.dropped.double()
        return Part(values=best.u, event_columns=columns, checks={"illegal": moves.illegal(best.u).numpy()})

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Median χ² of the events that flip, shares of events that flip and converge, illegal particles."""
        columns = attribution.event_columns
        checks = dict(attribution.checks)
        if not columns or not len(columns["chi2"]):
            return checks
        flipped = columns["flipped"] > 0
        if flipped.any():
            checks["median_chi2"] = float(np.median(columns["chi2"][flipped]))
        shares = {f"share_{n}": float(columns[n].mean()) for n in ("flipped", "converged")}
        return checks | shares

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Searches that did not converge, and events that do not flip."""
        if "share_flipped" not in checks:
            return ()
        lost = 1 - checks["share_flipped"]
        early = checks["share_flipped"] - checks["share_converged"]
        sentences = []
        if early > 1e-9:
            sentences.append(
                f"the search did not converge in {100 * early:.3g} % of the events: their χ² is an upper "
                f"limit; more steps than {self.steps} may help, unless the score jumps, as where neighbours "
                "are searched"
            )
        if lost > 1e-9:
            sentences.append(
                f"no legal change up to χ² = {self.largest_chi2:g} was found that flips {100 * lost:.3g} % "
                "of the events: their values are 0"
            )
        if checks.get("illegal", 0.0) > 0:
            sentences.append(f"{checks['illegal']:.3g} particles an event break a rule after the change")
        return tuple(sentences)
