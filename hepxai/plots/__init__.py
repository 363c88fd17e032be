"""Figures: every function takes numbers and an ``ax``, and returns the ``ax``."""

from hepxai.plots.display import event_display
from hepxai.plots.focus import focus_distribution, focus_profile
from hepxai.plots.means import relative_to_uniform, single
from hepxai.plots.scores import roc_curve, score_distributions
from hepxai.plots.style import style
from hepxai.plots.training import training_curve
from hepxai.plots.trust import fidelity_points, residuals
from hepxai.plots.types import feature_matrix, pair_types, particle_types

__all__ = [
    "event_display",
    "feature_matrix",
    "fidelity_points",
    "focus_distribution",
    "focus_profile",
    "pair_types",
    "particle_types",
    "relative_to_uniform",
    "residuals",
    "roc_curve",
    "score_distributions",
    "single",
    "style",
    "training_curve",
]
