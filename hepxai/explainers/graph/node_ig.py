"""Integrated Gradients over particle features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PlainValidator

from hepxai.core.estimate import weighted_mean
from hepxai.events import Events
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.graph.baseline_particles import (
    momenta,
    momentum_features,
    polar_columns,
    with_momentum,
)
from hepxai.explainers.methods import register
from hepxai.explainers.path import BASELINE_REMEDY, PathExplainer, PreparedPath, check_baseline
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import Differentiable

ON_SHELL = ("on_shell_mean", "own_direction")
BASELINES = ("background_mean", *ON_SHELL, "zero")
Particles = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PreparedNodes(PreparedPath):
    """Node Integrated Gradients with its baseline particles.

    Attributes
    ----------
    baseline : ndarray of float32, shape [T, F]
        Baseline particle of every type.
    momenta : ndarray, shape [T, 4], optional
        Their pt, η, φ and mass, where every particle keeps its own η and φ.
    features : sequence of str
        Features that follow from these.
    """

    baseline: Particles
    momenta: NDArray[np.float64] | None = None
    features: Sequence[str] | None = None

    def settings(self) -> dict[str, Any]:
        """Settings with the baseline particles."""
        baseline_momenta = None if self.momenta is None else self.momenta.tolist()
        names = None if self.features is None else list(self.features)
        return super().settings() | {
            "baseline_values": self.baseline.tolist(),
            "baseline_momenta": baseline_momenta,
            "momentum_features": names,
        }

    def start(self, events: Events) -> Particles:
        """Baseline of every particle, ``[N, F]``."""
        particles = self.baseline[events.type]
        if self.momenta is None or self.features is None:
            return particles
        p4 = self.momenta[events.type]
        p4[:, 1:3] = events.p4[:, 1:3]
        return with_momentum(particles, p4, events.schema.features, self.features)


@register("node_ig")
class NodeIG(PathExplainer):
    """Integrated Gradients from baseline particles to the particles of the event, on the logit.

    ``IG_if = (x_if - x'_if) ∫_0^1 ∂F(x' + t (x - x'))/∂x_if dt``, with the neighbour lists and the pair
    features of the event itself along the whole path.

    Attributes
    ----------
    baseline : str, sequence of float or Events
        "background_mean": each particle starts as the weighted mean particle of its type in the
        first class of the given events (all 0 for a type that this class lacks). Each feature is averaged by
        itself: momenta of all directions cancel while energies do not, so that it is no physical particle.
        "on_shell_mean": momenta are averaged in (pt, η, φ) and mass instead, and px, py, pz, energy … follow
        from them. "own_direction": the same, but every particle keeps its own η and φ. "zero": all
        features 0, in physical units. Or F values, or events whose weighted mean particle of each type is
        taken.
    baseline_values : sequence of sequences, shape [T, F], optional
        Baseline particle of every type; computed from ``baseline`` unless given.
    baseline_momenta : sequence of sequences, shape [T, 4], optional
        pt, η, φ and mass of the baseline particles, for "own_direction"; computed unless given.
    momentum_features : sequence of str, optional
        Features that follow from them; computed unless given.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    title = "integrated gradients over particles (node IG)"
    short_title = "node IG"
    axes = ("particle", "feature")
    default_for = "graph"
    needs = Differentiable
    baseline: Annotated[
        str | Sequence[float] | Events,
        PlainValidator(partial(check_baseline, names=BASELINES, numbers="a number for each feature")),
    ] = "background_mean"
    baseline_values: Sequence[Sequence[float]] | None = None
    baseline_momenta: Sequence[Sequence[float]] | None = None
    momentum_features: Sequence[str] | None = None

    def prepare(self, model: Differentiable, events: Events, target: str) -> PreparedNodes:
        """Compute the baseline particles and the number of steps."""
        baseline, p4, names = self._baseline(events), self.baseline_momenta, self.momentum_features
        if self.baseline in ON_SHELL and self.baseline_values is None:
            training = _training(events)
            means = momenta(background_mean(polar_columns(training)))
            follow = momentum_features(training)
            baseline = with_momentum(baseline, means, events.schema.features, follow)
            if self.baseline == "own_direction":
                p4, names = means.tolist(), follow
        elif self.baseline == "own_direction" and p4 is None:
            raise ValueError("baseline 'own_direction' with baseline_values needs baseline_momenta, too")
        prepared = PreparedNodes(
            explainer=self,
            model=model,
            target=target,
            steps=0,
            baseline=baseline,
            momenta=None if p4 is None else np.asarray(p4, dtype=np.float64),
            features=names,
        )
        return self.with_steps(prepared, events)

    def attribute_batch(self, prepared: PreparedNodes, batch: Batch[Cloud]) -> Part:
        """Signed attribution of every particle feature."""
        model, cloud = prepared.model, batch.x
        lists = model.neighbour_lists(cloud)
        start = torch.as_tensor(prepared.start(batch.events))
        return prepared.integral(lambda x: model.forward_cloud(cloud.with_features(x), lists), start, cloud.x)

    def _baseline(self, events: Events) -> Particles:
        """Baseline particle of every type ``[T, F]``, before momenta are averaged."""
        features, baseline = events.schema.features, self.baseline
        shape = (len(events.schema.types), len(features))
        if self.baseline_values is not None:
            values = np.asarray(self.baseline_values, dtype=np.float32)
            if values.shape != shape:
                raise ValueError(f"baseline_values has shape {values.shape}, not {shape}: types by features")
            return values
        if isinstance(baseline, str):
            if baseline == "zero":
                return np.zeros(shape, np.float32)
            return background_mean(_training(events))
        if isinstance(baseline, Events):
            events.schema.need_equal(baseline.schema)
            return mean_particles(baseline, np.ones(baseline.n_particles, dtype=bool))
        numbers = np.asarray(baseline, dtype=np.float32)
        if numbers.shape != shape[1:]:
            raise ValueError(f"baseline has shape {numbers.shape}; the events have features {features}")
        return np.broadcast_to(numbers, shape)


def _training(events: Events) -> Events:
    """Training events where there are any of the first class: those the model has learned from."""
    train = events.where("train")
    return train if (train.label == 0).any() else events


def background_mean(events: Events) -> Particles:
    """Weighted mean features of each particle type in the first class of the card, ``[T, F]``.

    0 for a type that this class lacks.

    Raises
    ------
    ValueError
        Without an event of this class, or where the weights of a type nearly cancel.
    """
    background = events.label[events.parent] == 0
    if not background.any():
        raise ValueError(
            f"no event of class {events.schema.classes[0]!r} to average for the baseline; "
            "explain a population that has both classes, or give a baseline"
        )
    return mean_particles(events, background)


def mean_particles(events: Events, which: NDArray[np.bool_]) -> Particles:
    """Weighted mean features of each type of some particles, ``[T, F]``; 0 for a type without any."""
    weight = events.weight[events.parent][which]
    mean = np.zeros((len(events.schema.types), events.particles.shape[1]), dtype=np.float32)
    for code in range(len(mean)):
        of_type = events.type[which] == code
        if of_type.any():
            what = f"the particles of type {events.schema.types[code]!r}"
            particles = events.particles[which][of_type]
            mean[code] = weighted_mean(particles, weight[of_type], what, BASELINE_REMEDY)
    return mean
