"""Shapley values of particles and Shapley interactions of pairs."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from hepxai.core.console import say
from hepxai.core.jagged import IntArray, all_pairs
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Explainer, Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.coalitions import (
    Array,
    CoalitionScorer,
    complete,
    index_weights,
    permutations,
    skipping,
    subsets,
)
from hepxai.explainers.methods import register
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import Differentiable
from hepxai.models.target import Target

LARGEST = 16
"""Largest number of particles with exact values: 65,536 coalitions per event."""
SCORES = 65_536
"""Largest number of scores of a batch with several events: a second or two of work."""
LONG = 5.0
"""Expected seconds above which the cost is announced."""
PROBED = 20_000
"""Number of scores below which the time is not measured: fast with any network."""


@dataclass(frozen=True, kw_only=True)
class PreparedShapley(Prepared):
    """Shapley method with the score of the empty event."""

    empty: float

    def settings(self) -> dict[str, Any]:
        """Settings with the score of the empty event; interactions have no direction."""
        settings = super().settings() | {"empty": self.empty, "baseline": "the event with no particle"}
        return settings | ({"directed": False} if self.explainer.order == 2 else {})

    def scorer(self, cloud: Cloud) -> CoalitionScorer:
        """Scores of coalitions of the particles of events of one multiplicity."""
        return CoalitionScorer(self.model, cloud, self.output, self.empty)

    def announce(self, events: Events) -> None:
        """Print the number of scores that the events need and the expected time.

        Raises
        ------
        ValueError
            If they need more than ``max_evaluations``.
        """
        explainer: ShapleyExplainer = self.explainer
        work, budget = explainer.evaluations(events.counts), explainer.max_evaluations
        total, most = int(work.sum()), int(events.counts.max(initial=0))
        population = f"{explainer.name}: {len(events):,} events of up to {most} particles"
        need = f"{population} need {total:,} scores of the model"
        if budget is not None and total > budget:
            fit = int(np.searchsorted(np.cumsum(work), budget, side="right"))
            cheapest = explainer.model_copy(update={"exact_up_to": 2, "repeats": 16})
            least = int(cheapest.evaluations(events.counts).sum())
            raise ValueError(
                f"{need}, more than max_evaluations={budget}; explain fewer events (the first "
                f"{fit} fit), raise the budget, or sample less: exact_up_to=2 and repeats=16 need {least:,}"
            )
        seconds = 0.0 if explainer.quiet else total * self._seconds(events, work)
        if seconds > LONG:
            duration = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
            say(f"{need}, about {duration}; fewer events, or a smaller `repeats`, take less")

    def _seconds(self, events: Events, work: IntArray) -> float:
        """Time of one score, measured on the most expensive events; 0 if there is little to compute."""
        if work.sum() < PROBED:
            return 0.0
        n = int(np.argmax(np.bincount(events.counts, weights=work)))
        row = torch.as_tensor(np.flatnonzero(events.counts == n)[:1])
        scorer = self.scorer(Cloud.of(events).take(row))
        sets = [np.tile(np.arange(k), (1, 64, 1)) for k in {max(n // 2, 1), n}]
        scorer.scores(sets[0])  # the first call of a network is slower
        start = time.perf_counter()
        for members in sets:
            scorer.scores(members)
        return (time.perf_counter() - start) / (64 * len(sets))


class ShapleyExplainer(Explainer):
    """Shapley interaction index of ``order`` particles, on the logit; see the two methods below.

    ``v(S)`` is the score of the event that has the particles S and no others: the network gets the smaller
    event, searches neighbours in it and reads out over it.

    Attributes
    ----------
    exact_up_to : int
        Number of particles, 2 to ``LARGEST``, up to which all 2^n coalitions are scored. For larger events
        the sum over S is stratified by the size of S, and the strata in the middle are sampled without bias;
        ``Attribution.error`` has the standard errors, 0 for exact values.
    repeats : int
        Independent samples of n permutations for each larger event
        (see `hepxai.explainers.coalitions.permutations`); at least 16 for a reliable standard error. Sizes
        with at most ``repeats * n`` coalitions are enumerated instead.
    seed : int
        Seed of the permutations.
    empty : float, optional
        Score of the event without particles; by default that of the model.
    max_evaluations : int, optional
        Largest total number of scores: a population that needs more is refused before any computation.
    quiet : bool
        Do not print the expected time before the computation; short computations never print it.
    """

    needs = Differentiable
    complete = True
    has_errors = True
    order: ClassVar[int]
    exact_up_to: int = Field(default=12, ge=2, le=LARGEST)
    repeats: int = Field(default=32, ge=16, le=10**6)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    empty: float | None = None
    max_evaluations: int | None = Field(default=None, ge=1)
    quiet: bool = Field(default=False, exclude=True)

    def prepare(self, model: Differentiable, events: Events, target: str) -> PreparedShapley:
        """Compute the score of the empty event."""
        empty = _empty_score(self.name, model, events, target) if self.empty is None else self.empty
        return PreparedShapley(explainer=self, model=model, target=target, empty=empty)

    def batch_rows(self, events: Events) -> list[IntArray]:
        """Events of one multiplicity, as many as ``SCORES`` allows."""
        parts: list[IntArray] = []
        for n in map(int, np.unique(events.counts)):
            size, rows = max(SCORES // self._work(n), 1), np.flatnonzero(events.counts == n)
            parts += np.split(rows, range(size, len(rows), size))
        return parts

    def attribute_batch(self, prepared: PreparedShapley, batch: Batch[Cloud]) -> Part:
        """Signed values with errors."""
        scorer = prepared.scorer(batch.x)
        n, sizes = scorer.n, self._sizes(scorer.n)
        score = scorer.scores_by_size(sizes)
        values: Array = np.concatenate(list(score.values()), axis=1) @ index_weights(n, self.order, sizes).T
        error = np.zeros_like(values)
        if len(sizes) <= n:
            rest, error = self._sampled(scorer, batch.events, score)
            values = values + rest
        flat = (self.entries(part, n).ravel() for part in (values, error))
        return Part(values=next(flat), error=next(flat), output_change=self.output_change(n, score))

    def evaluations(self, counts: IntArray) -> IntArray:
        """Number of scores that each event needs, from its number of particles."""
        different, place = np.unique(counts, return_inverse=True)
        work: IntArray = np.array([self._work(int(n)) for n in different], dtype=np.int64)[place]
        return work

    @abstractmethod
    def output_change(self, n: int, score: Mapping[int, Array]) -> Array:
        """Sum ``[E]`` of the values of an event, from the scores of all coalitions of some sizes."""

    @abstractmethod
    def differences(self, order: IntArray, start: Array) -> tuple[Array, IntArray]:
        """Score differences along permutations, and the number of the set T of each difference.

        Both ``[E, R, n, n-t+1]``, S growing along the last axis, from ``order [E, R, n, n]`` and
        ``start [E, R, n, n+1]``, the scores of their first particles.
        """

    @abstractmethod
    def entries(self, values: Array, n: int) -> Array:
        """Entries of the attribution, from the values of the sets T."""

    def _sizes(self, n: int) -> tuple[int, ...]:
        """Sizes whose coalitions are all scored."""
        return tuple(k for k in range(n + 1) if n <= self.exact_up_to or comb(n, k) <= self.repeats * n)

    def _work(self, n: int) -> int:
        """Scores that an event of n particles needs."""
        sizes = self._sizes(n)
        return sum(comb(n, k) for k in sizes) + self.repeats * n * (n + 1 - len(sizes))

    def _sampled(
        self, scorer: CoalitionScorer, events: Events, score: Mapping[int, Array]
    ) -> tuple[Array, Array]:
        """Contribution of the sampled strata of S, with its standard error, ``[E, P]``."""
        order = permutations(events, self.repeats, self.seed)
        difference, number = self.differences(order, scorer.joining(order, score))
        sampled = ~complete(scorer.n, self.order, tuple(score))
        mean, error = _means(difference[..., sampled], number[..., sampled], comb(scorer.n, self.order))
        return sampled.mean() * mean, sampled.mean() * error


@register("shapley")
class Shapley(ShapleyExplainer):
    """Shapley values of particles: contribution of each to the score, averaged over all orders of joining.

    ``φ_i = Σ_{S ⊆ N∖i} s! (n-s-1)! / n! [v(S ∪ i) - v(S)]`` (Shapley, 1953). They add up to
    ``output_change = v(N) - v(∅)``, the score of the event less that of the empty one.

    Attributes
    ----------
    exact_up_to, repeats, seed, empty, max_evaluations, quiet
        See `ShapleyExplainer`.
    """

    title = "Shapley values of particles"
    short_title = "shapley"
    axes = ("particle",)
    order = 1

    def output_change(self, n: int, score: Mapping[int, Array]) -> Array:
        """``v(N) - v(∅)``."""
        return score[n][:, 0] - score[0][:, 0]

    def differences(self, order: IntArray, start: Array) -> tuple[Array, IntArray]:
        """Contribution of each particle to those before it."""
        return np.diff(start, axis=-1), order

    def entries(self, values: Array, n: int) -> Array:
        """One for each particle."""
        return values


@register("shapley_interaction")
class ShapleyInteraction(ShapleyExplainer):
    """Shapley interactions of pairs: joint contribution of two particles beyond those of each alone.

    ``I_ij = Σ_{S ⊆ N∖ij} s! (n-s-2)! / (n-1)! [v(S ∪ ij) - v(S ∪ i) - v(S ∪ j) + v(S)]`` (Grabisch and
    Roubens, Int. J. Game Theory 28 (1999) 547). Each of the two ordered pairs has half of it, as in SHAP: the
    entries of a pair of particles add up to its interaction, and ``φ_i - Σ_j I_ij / 2`` is left for i itself.

    The entries of an event add up to ``output_change = 1/2 Σ_i {[v(N) - v(N∖i)] - [v(i) - v(∅)]}``: half of
    the sum over particles of the contribution to all others minus that to the empty event.

    Attributes
    ----------
    exact_up_to, repeats, seed, empty, max_evaluations, quiet
        See `ShapleyExplainer`.
    """

    title = "Shapley interactions of pairs"
    short_title = "shapley interaction"
    axes = ("pair",)
    order = 2

    def output_change(self, n: int, score: Mapping[int, Array]) -> Array:
        """Half of the summed contributions of the particles as the last one, less those as the first."""
        change: Array = n * (score[n] + score[0])[:, 0] / 2
        for k in (1, n - 1):
            change = change - (score[k].sum(axis=1) if n else 0.0) / 2
        return change

    def differences(self, order: IntArray, start: Array) -> tuple[Array, IntArray]:
        """Second differences for particles next to each other: with both, either and none."""
        both, first, none = start[..., 2:], start[..., 1:-1], start[..., :-2]
        number = _number(start.shape[-2])[order[..., :-1], order[..., 1:]]
        return both - first - skipping(start) + none, number

    def entries(self, values: Array, n: int) -> Array:
        """One for each ordered pair: half of the interaction."""
        src, dst, _ = all_pairs(np.array([0, n]))
        return values[:, _number(n)[src, dst]] / 2


def _number(n: int) -> IntArray:
    """Row of a pair among `subsets`, in either order, ``[n, n]``."""
    first, second = subsets(n, 2).T
    number = np.zeros((n, n), dtype=np.int64)
    number[first, second] = number[second, first] = np.arange(len(first))
    return number


def _means(difference: Array, number: IntArray, size: int) -> tuple[Array, Array]:
    """Mean difference of each set T over independent samples, with its standard error, ``[E, P]``.

    Samples that contain T contain it equally often, at equally likely positions, so the mean over them is
    unbiased. The error is infinite for a T in fewer than two samples.
    """
    samples = difference.shape[:2]
    row = np.arange(np.prod(samples)).reshape(*samples, 1, 1)
    flat, shape = (row * size + number).ravel(), (*samples, size)
    total = np.bincount(flat, difference.ravel(), minlength=row.size * size).reshape(shape)
    times = np.bincount(flat, minlength=row.size * size).reshape(shape)
    each, has = total / np.maximum(times, 1), times > 0
    many = has.sum(axis=1)
    mean = each.sum(axis=1) / np.maximum(many, 1)
    square = (has * (each - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.where(many > 1, np.sqrt(square / np.maximum(many * (many - 1), 1)), np.inf)


def _empty_score(method: str, model: Differentiable, events: Events, target: str) -> float:
    """Score that the model gives to an event with no particle."""
    cloud = Cloud.of(events)
    no_particle = torch.zeros(1, 0, dtype=torch.int64)
    with torch.no_grad():
        try:
            score = float(Target.of(model.outputs, target)(model.forward_cloud(cloud.regroup(no_particle))))
            if not np.isfinite(score):
                raise ValueError(f"the score is {score}")
        except Exception as problem:  # a user's model may raise anything here
            if len(events):  # a model that cannot score any event raises its own error
                model.forward_cloud(cloud.take(torch.tensor([int(np.argmax(events.counts))])))
            raise CannotExplainError(
                f"{method} needs the score of an event with no particle, and {type(model).__name__} gives "
                f"none ({type(problem).__name__}: {problem}). Set it, e.g. empty=0.0; or tell the pooling of "
                "a torch_geometric module the number of events, as in global_add_pool(x, batch.batch, "
                "size=batch.num_graphs)"
            ) from problem
    return score
