"""Settings with which methods that are slow by default are quick."""

from __future__ import annotations

from typing import Any

RESOLUTION = {"pt": "0.1 * pt + 1", "eta": 0.2, "phi": 0.2}
TABLES: dict[str, dict[str, Any]] = {
    "counterfactual": {
        "resolutions": dict.fromkeys(("electron", "muon", "jet", "met"), RESOLUTION),
        "logit": 0.4195,  # amid the scores of the networks with random weights
        "steps": 4,
    },
    "deep_shap": {"size": 10},
    "image_lime": {"samples": 320},
    "rise": {"samples": 256},
    "gradient_shap": {"size": 10, "samples": 10},
    "image_deep_shap": {"size": 5},
    "image_gradient_shap": {"size": 10, "samples": 10},
    "image_kernel_shap": {"samples": 300},
    "kernel_shap": {"size": 5},
    "l2x": {"epochs": 2},
    "lime": {"samples": 80},
}
