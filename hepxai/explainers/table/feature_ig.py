"""Integrated Gradients over the columns of the event-level table."""

from __future__ import annotations

from torch import Tensor

from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import register
from hepxai.explainers.table.tables import PreparedTable, TableExplainer
from hepxai.models.protocols import DifferentiableTable


@register("feature_ig")
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

    title = "integrated gradients over columns (feature IG)"
    short_title = "feature IG"
    axes = ("event", "feature")
    needs = DifferentiableTable

    def attribute_batch(self, prepared: PreparedTable, batch: Batch[Tensor]) -> Part:
        """Signed attribution of every column."""
        start = prepared.start.expand_as(batch.x)
        return prepared.integral(prepared.model.forward_table, start, batch.x)
