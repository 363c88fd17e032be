"""Hidden sensitivity: decisions that flip within the resolution although coherent shifts do not show it."""

from hepxai.studies.hidden_sensitivity.numbers import (
    FIXED,
    HiddenSensitivity,
    Sensitivity,
    hidden_sensitivity,
)

__all__ = ["FIXED", "HiddenSensitivity", "Sensitivity", "hidden_sensitivity"]
