"""Completeness residuals of an attribution, relative to the change of the output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution

ROUNDING = 1e-6
"""Rounding of single precision, in units of the largest change of an output."""


def relative_residual(attribution: Attribution) -> NDArray[np.float64]:
    """Completeness residual of each event over the change of its output; NaN where nothing changed.

    A change and a residual below ``ROUNDING`` of the largest change are nothing, as those of an event without
    hits are. The relative residual of an event is infinite if its values or its change are NaN.
    """
    if attribution.residual is None or attribution.output_change is None:
        raise ValueError(f"{attribution.method} promises no completeness")
    residual, output_change = np.abs(attribution.residual), np.abs(attribution.output_change)
    defined = np.isfinite(residual) & np.isfinite(output_change)
    floor = ROUNDING * np.max(output_change[defined], initial=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(
            output_change == 0, np.where(residual == 0, np.nan, np.inf), residual / output_change
        )
    relative = np.where((output_change <= floor) & (residual <= floor), np.nan, relative)
    return np.where(defined, relative, np.inf)


def residual_checks(attribution: Attribution) -> dict[str, float]:
    """Median and 90 % quantile of the relative residual over the events."""
    relative = relative_residual(attribution)
    relative = relative[~np.isnan(relative)]
    # "higher" does not interpolate: some residuals may be infinite.
    median, tail = np.quantile(relative, [0.5, 0.9], method="higher") if len(relative) else (0.0, 0.0)
    return {"median_residual": float(median), "p90_residual": float(tail)}
