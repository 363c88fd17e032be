"""Figures: every function takes numbers and an ``ax``, and returns the ``ax``."""

from hepxai.plots.bars import correlation_dendrogram, entry_bars, importance_bars, neuron_bars, particle_types
from hepxai.plots.class_maps import class_mean_maps
from hepxai.plots.diagnostics import fidelity_points, residuals
from hepxai.plots.display import event_display
from hepxai.plots.energies import energy_image, mean_energy
from hepxai.plots.focus import focus_distribution
from hepxai.plots.images import (
    attribution_image,
    bending_map,
    cluster_size_shares,
    hit_display,
    hit_occupancy,
    hits_in_rows,
    mean_map,
)
from hepxai.plots.label import experiment_label
from hepxai.plots.matrices import (
    class_confusion,
    feature_matrix,
    method_agreement,
    method_correlation,
    pair_types,
    step_matrix,
)
from hepxai.plots.momentum import momentum_residuals, turn_on_curve
from hepxai.plots.overview import plot
from hepxai.plots.profiles import entry_profile, focus_profile, score_profile
from hepxai.plots.roc import roc_curve
from hepxai.plots.scores import (
    class_scores,
    overtraining,
    sample_scores,
    score_distributions,
    score_figure,
    score_ratio,
)
from hepxai.plots.significance import limit_scan, significance_scan
from hepxai.plots.style import style
from hepxai.plots.training import training_curve
from hepxai.plots.truth import truth_baselines, truth_finding, truth_slices
from hepxai.plots.values import beeswarm, value_distribution, value_figure, value_scatter

__all__ = [
    "attribution_image",
    "beeswarm",
    "bending_map",
    "class_confusion",
    "class_mean_maps",
    "class_scores",
    "cluster_size_shares",
    "correlation_dendrogram",
    "energy_image",
    "entry_bars",
    "entry_profile",
    "event_display",
    "experiment_label",
    "feature_matrix",
    "fidelity_points",
    "focus_distribution",
    "focus_profile",
    "hit_display",
    "hit_occupancy",
    "hits_in_rows",
    "importance_bars",
    "limit_scan",
    "mean_energy",
    "mean_map",
    "method_agreement",
    "method_correlation",
    "momentum_residuals",
    "neuron_bars",
    "overtraining",
    "pair_types",
    "particle_types",
    "plot",
    "residuals",
    "roc_curve",
    "sample_scores",
    "score_distributions",
    "score_figure",
    "score_profile",
    "score_ratio",
    "significance_scan",
    "step_matrix",
    "style",
    "training_curve",
    "truth_baselines",
    "truth_finding",
    "truth_slices",
    "turn_on_curve",
    "value_distribution",
    "value_figure",
    "value_scatter",
]
