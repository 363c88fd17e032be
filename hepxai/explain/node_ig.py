"""Integrated Gradients over particle features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explain.base import Chunked, Explainer, register
from hepxai.explain.path import choose_steps, integrate, probe_rows, residual_checks
from hepxai.jagged import row_sum
from hepxai.models.base import Differentiable
from hepxai.models.cloud import Cloud

BASELINES = ("background_mean", "zero")


@register("node_ig")
@dataclass(frozen=True, kw_only=True)
class NodeIG(Explainer):
    """Integrated Gradients from baseline particles to the particles of the event, on the logit.

    ``IG_if = (x_if - x'_if) ∫_0^1 ∂F(x' + t (x - x'))/∂x_if dt``, with the neighbour lists and the pair
    features of the event itself along the whole path.

    Attributes
    ----------
    baseline : str or sequence of float
        "background_mean": each particle starts as the weighted mean particle of its type in the
        first class of the given events. "zero": all features 0, in physical units. Or F values.
    steps : int, optional
        Gauss-Legendre nodes; by default as many as bring the median residual within ``tolerance``.
    tolerance : float
        Wanted median relative residual.
    """

    needs = Differentiable
    baseline: str | Sequence[float] = "background_mean"
    steps: int | None = None
    tolerance: float = 0.01

    def explain(self, model: Differentiable, events: Events, target: str) -> Attribution:
        """Signed attribution of every particle feature, axes ("particle", "feature")."""
        baseline = self._baseline(events)
        probe = events[probe_rows(len(events))]
        steps = self.steps or choose_steps(
            lambda n: self._run(model, probe, target, baseline, n, progress=False), self.tolerance
        )
        found = self._run(model, events, target, baseline, steps, progress=self.progress)
        shown: Any = self.baseline if isinstance(self.baseline, str) else list(self.baseline)
        return found.replace(
            checks=residual_checks(found, steps),
            settings=self.settings()
            | {"steps": steps, "baseline": shown, "baseline_values": baseline.tolist()},
        )

    def _baseline(self, events: Events) -> NDArray[np.float32]:
        """Baseline particle of every type, ``[T, F]``."""
        shape = (len(events.schema.types), len(events.schema.features))
        if isinstance(self.baseline, str):
            if self.baseline not in BASELINES:
                raise ValueError(
                    f"baseline {self.baseline!r}; choose {', '.join(BASELINES)} or give {shape[1]} numbers"
                )
            return np.zeros(shape, np.float32) if self.baseline == "zero" else background_mean(events)
        given = np.asarray(self.baseline, dtype=np.float32)
        if given.shape != shape[1:]:
            raise ValueError(
                f"baseline has shape {given.shape}; the events have features {events.schema.features}"
            )
        return np.broadcast_to(given, shape)

    def _run(
        self,
        model: Differentiable,
        events: Events,
        target: str,
        baseline: NDArray[np.float32],
        steps: int,
        *,
        progress: bool,
    ) -> Attribution:
        chunked = Chunked.of(events)
        output = model.outputs.index(target)
        start = events.replace(particles=baseline[events.type])
        values, spans = [], []
        starts = Chunked(start, chunked.chunks).clouds("", progress=False)
        for cloud, origin in zip(chunked.clouds("node_ig", progress=progress), starts, strict=True):
            value, change = _chunk(model, cloud, origin.x, output, steps)
            values.append(value)
            spans.append(change)
        attribution = chunked.per_particle(values).reshape(-1, len(events.schema.features))
        span = chunked.per_event(spans)
        residual = row_sum(attribution.sum(1, dtype=np.float64), events.offsets) - span
        return Attribution(
            attribution,
            ("particle", "feature"),
            events,
            self.name,
            target,
            labels={"feature": events.schema.features},
            residual=residual,
            span=span,
        )


def _chunk(
    model: Differentiable, cloud: Cloud, start: Tensor, output: int, steps: int
) -> tuple[Tensor, Tensor]:
    lists = model.neighbour_lists(cloud)
    change = cloud.x - start
    found = integrate(
        lambda x: model.forward_cloud(cloud.with_features(x), lists)[:, output], start, change, steps
    )
    with torch.no_grad():
        return change * found.gradient, found.span


def background_mean(events: Events) -> NDArray[np.float32]:
    """Weighted mean features of each particle type in the first class of the card, ``[T, F]``."""
    own = events.label[events.parent] == 0
    if not own.any():
        raise ValueError(
            f"no event of class {events.schema.classes[0]!r} to average for the baseline; "
            "explain a population that has both classes, or give a baseline"
        )
    weight = events.weight[events.parent][own]
    mean = np.zeros((len(events.schema.types), events.particles.shape[1]), dtype=np.float32)
    for code in np.unique(events.type):
        of_type = events.type[own] == code
        if of_type.any() and weight[of_type].sum() != 0:
            mean[code] = np.average(events.particles[own][of_type], axis=0, weights=weight[of_type])
    return mean
