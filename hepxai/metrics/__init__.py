"""Figures of merit with signed weights and statistical errors."""

from hepxai.core.estimate import clopper_pearson
from hepxai.metrics.agreement import agreement_matrix, rank_agreement, top_agreement
from hepxai.metrics.classification import (
    accuracy,
    auc,
    auc_difference,
    balanced_accuracy,
    both_classes,
    rejection,
    roc,
)
from hepxai.metrics.fidelity import fidelity
from hepxai.metrics.hits import bending, cluster_shares, cluster_sizes, hits_per_row, lit_pixels, occupancy
from hepxai.metrics.isolation import attention_from_rest, isolation, pair_mean, pair_shares
from hepxai.metrics.momentum import efficiency, momentum_merit, turn_on
from hepxai.metrics.multiclass import (
    class_log_odds,
    class_logits,
    classification_metrics,
    confusion_matrix,
    mean_auc,
)
from hepxai.metrics.pixels import (
    dark_share,
    hit_rank_agreement,
    map_correlation,
    top_pixel_agreement,
    truth_share,
)
from hepxai.metrics.profile import correlation_ratio, explained_by, profile
from hepxai.metrics.significance import best_cut, discovery_significance, expected_limit, working_point
from hepxai.metrics.truth import find_truth, find_truth_in_slices, true_pt
from hepxai.metrics.truth_by_type import (
    null_within_types,
    truth_beyond_types,
    truth_by_type,
    truth_within_types,
)

__all__ = [
    "accuracy",
    "agreement_matrix",
    "attention_from_rest",
    "auc",
    "auc_difference",
    "balanced_accuracy",
    "bending",
    "best_cut",
    "both_classes",
    "class_log_odds",
    "class_logits",
    "classification_metrics",
    "clopper_pearson",
    "cluster_shares",
    "cluster_sizes",
    "confusion_matrix",
    "correlation_ratio",
    "dark_share",
    "discovery_significance",
    "efficiency",
    "expected_limit",
    "explained_by",
    "fidelity",
    "find_truth",
    "find_truth_in_slices",
    "hit_rank_agreement",
    "hits_per_row",
    "isolation",
    "lit_pixels",
    "map_correlation",
    "mean_auc",
    "momentum_merit",
    "null_within_types",
    "occupancy",
    "pair_mean",
    "pair_shares",
    "profile",
    "rank_agreement",
    "rejection",
    "roc",
    "top_agreement",
    "top_pixel_agreement",
    "true_pt",
    "truth_beyond_types",
    "truth_by_type",
    "truth_share",
    "truth_within_types",
    "turn_on",
    "working_point",
]
