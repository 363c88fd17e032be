"""Settings with which methods that are slow by default are quick."""

from __future__ import annotations

from typing import Any

TABLES: dict[str, dict[str, Any]] = {
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
