"""Figures of merit with signed weights and statistical errors."""

from hepxai.metrics.classification import (
    accuracy,
    auc,
    both_classes,
    classification_metrics,
    rejection,
    roc,
)
from hepxai.metrics.fidelity import fidelity

__all__ = ["accuracy", "auc", "both_classes", "classification_metrics", "fidelity", "rejection", "roc"]
