"""Figures: every function takes numbers and an ``ax``, and returns the ``ax``."""

from hepxai.metrics.maps import single
from hepxai.plots.agreement import method_agreement
from hepxai.plots.display import event_display
from hepxai.plots.focus import focus_distribution, focus_profile
from hepxai.plots.hits import bending_map, cluster_size_shares, hit_display, hit_occupancy, hits_in_rows
from hepxai.plots.images import (
    attribution_image,
    convergence_figure,
    smoothgrad_shares,
    smoothgrad_stability,
    truth_shares,
)
from hepxai.plots.influence import influence_captions, influence_images
from hepxai.plots.means import relative_to_uniform
from hepxai.plots.momentum import momentum_residuals, turn_on_curve
from hepxai.plots.scores import roc_curve, score_distributions, score_ratio
from hepxai.plots.sculpting import mass_shapes, score_profile, shape_ratios, shapes
from hepxai.plots.soft_tree import tree_and_masks, tree_diagram
from hepxai.plots.steps import step_matrix
from hepxai.plots.style import style
from hepxai.plots.tables import correlation_dendrogram, importance_bars, method_correlation, neuron_bars
from hepxai.plots.training import training_curve
from hepxai.plots.trust import fidelity_points, residuals
from hepxai.plots.truth import truth_finding, truth_slices
from hepxai.plots.types import feature_matrix, pair_types, particle_types
from hepxai.plots.values import beeswarm, value_distribution, value_figure, value_scatter

__all__ = [
    "attribution_image",
    "beeswarm",
    "bending_map",
    "cluster_size_shares",
    "convergence_figure",
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
    "influence_captions",
    "influence_images",
    "mass_shapes",
    "method_agreement",
    "method_correlation",
    "momentum_residuals",
    "neuron_bars",
    "pair_types",
    "particle_types",
    "relative_to_uniform",
    "residuals",
    "roc_curve",
    "score_distributions",
    "score_profile",
    "score_ratio",
    "shape_ratios",
    "shapes",
    "single",
    "smoothgrad_shares",
    "smoothgrad_stability",
    "step_matrix",
    "style",
    "training_curve",
    "tree_and_masks",
    "tree_diagram",
    "truth_finding",
    "truth_shares",
    "truth_slices",
    "turn_on_curve",
    "value_distribution",
    "value_figure",
    "value_scatter",
]
