"""Integrated Gradients over particle features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.estimate import weighted_mean
from hepxai.core.jagged import row_sum
from hepxai.events import Events
from hepxai.explainers.base import Chunked, register
from hepxai.explainers.graph.baseline_particles import (
    momenta,
    momentum_features,
    polar_columns,
    with_momentum,
)
from hepxai.explainers.path import BASELINE_REMEDY, PathExplainer, integrate
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import Differentiable
from hepxai.models.target import Target

ON_SHELL = ("on_shell_mean", "own_direction")
BASELINES = ("background_mean", *ON_SHELL, "zero")


@register("node_ig")
@dataclass(frozen=True, kw_only=True)
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
        Baseline particle of every type; worked out from ``baseline`` unless given.
    baseline_momenta : sequence of sequences, shape [T, 4], optional
        pt, η, φ and mass of the baseline particles, for "own_direction"; worked out unless given.
    momentum_features : sequence of str, optional
        Features that follow from them; worked out unless given.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    needs = Differentiable
    baseline: str | Sequence[float] | Events = "background_mean"
    baseline_values: Sequence[Sequence[float]] | None = None
    baseline_momenta: Sequence[Sequence[float]] | None = None
    momentum_features: Sequence[str] | None = None

    def prepare(self, model: Differentiable, events: Events, target: str) -> Self:
        """Settle the baseline particles and the number of steps."""
        values = self._baseline(events).tolist()
        name = self.baseline
        if isinstance(name, Events):
            name = f"mean of {len(name)} events"
        elif not isinstance(name, str):
            name = [float(b) for b in name]
        settled = dataclasses.replace(self, baseline=name, baseline_values=values)
        if name in ON_SHELL and self.baseline_values is None:
            settled = settled._on_shell(_known(events))
        return settled.with_steps(model, events, target)

    def attribute(self, model: Differentiable, events: Events, target: str) -> Attribution:
        """Signed attribution of every particle feature, axes ("particle", "feature")."""
        if self.baseline_values is None:
            raise ValueError("no baseline has been worked out; call prepare or explain")
        if self.baseline == "own_direction" and self.baseline_momenta is None:
            raise ValueError("no baseline_momenta have been worked out; call prepare or explain")
        chunked = Chunked.of(events)
        output = Target.of(model.outputs, target)
        values, changes = [], []
        starts = chunked.clouds_of(events.replace(particles=self._start(events)))
        for cloud, start in zip(chunked.clouds(self.name, progress=self.progress), starts, strict=True):
            value, change = _chunk(model, cloud, start.x, output, self.nodes())
            values.append(value)
            changes.append(change)
        attribution = chunked.per_particle(values).reshape(-1, len(events.schema.features))
        output_change = chunked.per_event(changes)
        return Attribution(
            attribution,
            ("particle", "feature"),
            events,
            self.name,
            target,
            settings=self.settings(),
            labels={"feature": events.schema.features},
            residual=row_sum(attribution.sum(1, dtype=np.float64), events.offsets) - output_change,
            output_change=output_change,
        )

    def _on_shell(self, known: Events) -> Self:
        """Copy whose baseline particles have the mean momentum in (pt, η, φ) and mass."""
        names, p4 = momentum_features(known), momenta(background_mean(polar_columns(known)))
        values = np.asarray(self.baseline_values, dtype=np.float32)
        settled = dataclasses.replace(
            self, baseline_values=with_momentum(values, p4, known.schema.features, names).tolist()
        )
        if self.baseline == "on_shell_mean":
            return settled
        return dataclasses.replace(settled, baseline_momenta=p4.tolist(), momentum_features=names)

    def _start(self, events: Events) -> NDArray[np.float32]:
        """Baseline of every particle, ``[N, F]``."""
        particles = np.asarray(self.baseline_values, dtype=np.float32)[events.type]
        if self.baseline_momenta is None or self.momentum_features is None:
            return particles
        p4 = np.asarray(self.baseline_momenta, dtype=np.float64)[events.type]
        p4[:, 1:3] = events.p4[:, 1:3]
        return with_momentum(particles, p4, events.schema.features, self.momentum_features)

    def _baseline(self, events: Events) -> NDArray[np.float32]:
        """Baseline particle of every type, ``[T, F]``."""
        features = events.schema.features
        shape = (len(events.schema.types), len(features))
        if self.baseline_values is not None:
            values = np.asarray(self.baseline_values, dtype=np.float32)
            if values.shape != shape:
                raise ValueError(f"baseline_values has shape {values.shape}, not {shape}: types by features")
            return values
        if isinstance(self.baseline, str):
            if self.baseline not in BASELINES:
                known = ", ".join(BASELINES)
                raise ValueError(
                    f"baseline {self.baseline!r}; choose {known} or give {len(features)} numbers"
                )
            return np.zeros(shape, np.float32) if self.baseline == "zero" else background_mean(_known(events))
        if isinstance(self.baseline, Events):
            events.schema.need_equal(self.baseline.schema)
            return mean_particles(self.baseline, np.ones(self.baseline.n_particles, dtype=bool))
        given = np.asarray(self.baseline, dtype=np.float32)
        if given.shape != shape[1:]:
            raise ValueError(f"baseline has shape {given.shape}; the events have features {features}")
        return np.broadcast_to(given, shape)


def _chunk(
    model: Differentiable, cloud: Cloud, start: Tensor, output: Target, steps: int
) -> tuple[Tensor, Tensor]:
    lists = model.neighbour_lists(cloud)
    change = cloud.x - start
    found = integrate(
        lambda x: output(model.forward_cloud(cloud.with_features(x), lists)), start, change, steps
    )
    return change * found.gradient, found.output_change


def _known(events: Events) -> Events:
    """Training events where there are any of the first class: those the model has learned from."""
    train = events.where("train")
    return train if (train.label == 0).any() else events


def background_mean(events: Events) -> NDArray[np.float32]:
    """Weighted mean features of each particle type in the first class of the card, ``[T, F]``.

    0 for a type that this class lacks.

    Raises
    ------
    ValueError
        Without an event of this class, or where the weights of a type nearly cancel.
    """
    own = events.label[events.parent] == 0
    if not own.any():
        raise ValueError(
            f"no event of class {events.schema.classes[0]!r} to average for the baseline; "
            "explain a population that has both classes, or give a baseline"
        )
    return mean_particles(events, own)


def mean_particles(events: Events, own: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Weighted mean features of each type of some particles, ``[T, F]``; 0 for a type without any."""
    weight = events.weight[events.parent][own]
    mean = np.zeros((len(events.schema.types), events.particles.shape[1]), dtype=np.float32)
    for code in range(len(mean)):
        of_type = events.type[own] == code
        if of_type.any():
            what = f"the particles of type {events.schema.types[code]!r}"
            mean[code] = weighted_mean(events.particles[own][of_type], weight[of_type], what, BASELINE_REMEDY)
    return mean
