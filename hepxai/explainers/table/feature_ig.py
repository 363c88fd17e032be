"""Integrated Gradients over the columns of the event-level table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers.base import Chunked, register
from hepxai.explainers.path import integrate
from hepxai.explainers.table.tables import TableExplainer
from hepxai.models.protocols import DifferentiableTable
from hepxai.models.target import Target


@register("feature_ig")
@dataclass(frozen=True, kw_only=True)
class FeatureIG(TableExplainer):
    """Integrated Gradients from a baseline row to the row of the event, on the logit.

    ``IG_f = (x_f - x'_f) ∫_0^1 ∂F(x' + t (x - x'))/∂x_f dt`` [Sundararajan et al., arXiv:1703.01365].

    Attributes
    ----------
    baseline, baseline_values
        See `hepxai.explainers.table.tables.TableExplainer`.
    steps, tolerance
        See `hepxai.explainers.path.PathExplainer`.
    """

    needs = DifferentiableTable

    def attribute(self, model: DifferentiableTable, events: Events, target: str) -> Attribution:
        """Signed attribution of every column, axes ("event", "feature")."""
        chunked, output, start = Chunked.of_table(events), Target.of(model.outputs, target), self.start()
        values, spans = np.empty(events.table()[0].shape, dtype=np.float32), []
        tables = chunked.tables(self.name, progress=self.progress)
        for rows, x in zip(chunked.chunks, tables, strict=True):
            change = x - start
            found = integrate(
                lambda x: output(model.forward_table(x)), start.expand_as(x), change, self.nodes()
            )
            values[rows] = (change * found.gradient).numpy()
            spans.append(found.output_change)
        output_change = chunked.per_event(spans)
        return Attribution(
            values,
            ("event", "feature"),
            events,
            self.name,
            target,
            settings=self.settings(),
            labels={"feature": events.schema.globals},
            residual=values.sum(1, dtype=np.float64) - output_change,
            output_change=output_change,
        )
