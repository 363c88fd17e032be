"""Figures: every function takes numbers and an ``ax``, and returns the ``ax``."""

from hepxai.metrics.reductions import reduced
from hepxai.plots.agreement import method_agreement
from hepxai.plots.diagnostics import fidelity_points, residuals
from hepxai.plots.display import event_display
from hepxai.plots.focus import focus_distribution, focus_profile
from hepxai.plots.hits import bending_map, cluster_size_shares, hit_display, hit_occupancy, hits_in_rows
from hepxai.plots.images import (
    attribution_image,
)
from hepxai.plots.means import relative_to_uniform
from hepxai.plots.momentum import momentum_residuals, turn_on_curve
from hepxai.plots.profiles import score_profile
from hepxai.plots.scores import roc_curve, score_distributions, score_ratio
from hepxai.plots.steps import step_matrix
from hepxai.plots.style import style
from hepxai.plots.tables import correlation_dendrogram, importance_bars, method_correlation, neuron_bars
from hepxai.plots.training import training_curve
from hepxai.plots.truth import truth_finding, truth_slices
from hepxai.plots.types import feature_matrix, pair_types, particle_types
from hepxai.plots.values import beeswarm, value_distribution, value_figure, value_scatter

__all__ = [
    "attribution_image",
    "beeswarm",
    "bending_map",
    "cluster_size_shares",
    "correlation_dendrogram",
    "event_display",
    "feature_matrix",
    "fidelity_points",
    "focus_distribution",
    "focus_profile",
    "hit_display",
    "hit_occupancy",
    "hits_in_rows",
    "importance_bars",
    "method_agreement",
    "method_correlation",
    "momentum_residuals",
    "neuron_bars",
    "pair_types",
    "particle_types",
    "reduced",
    "relative_to_uniform",
    "residuals",
    "roc_curve",
    "score_distributions",
    "score_profile",
    "score_ratio",
    "step_matrix",
    "style",
    "training_curve",
    "truth_finding",
    "truth_slices",
    "turn_on_curve",
    "value_distribution",
    "value_figure",
    "value_scatter",
]
