"""Figures of merit with signed weights and statistical errors."""

from hepxai.metrics.agreement import agreement_matrix, rank_agreement, top_agreement
from hepxai.metrics.classification import (
    accuracy,
    auc,
    balanced_accuracy,
    both_classes,
    classification_metrics,
    rejection,
    roc,
)
from hepxai.metrics.dependence import distance_correlation, if_independent
from hepxai.metrics.fidelity import fidelity
from hepxai.metrics.isolation import attention_from_rest, isolation, pair_mean, pair_shares
from hepxai.metrics.profile import correlation_ratio, explained_by, profile
from hepxai.metrics.sculpting import sculpting, shape, threshold_at
from hepxai.metrics.truth import find_truth, find_truth_in_slices, true_pt

__all__ = [
    "accuracy",
    "agreement_matrix",
    "attention_from_rest",
    "auc",
    "balanced_accuracy",
    "both_classes",
    "classification_metrics",
    "correlation_ratio",
    "distance_correlation",
    "explained_by",
    "fidelity",
    "find_truth",
    "find_truth_in_slices",
    "if_independent",
    "isolation",
    "pair_mean",
    "pair_shares",
    "profile",
    "rank_agreement",
    "rejection",
    "roc",
    "sculpting",
    "shape",
    "threshold_at",
    "top_agreement",
    "true_pt",
]
