"""Methods that fit a linear model to the scores around an event: runs, errors and quality of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from hepxai.attribution import Attribution
from hepxai.explainers.base import Explainer
from hepxai.explainers.batches import Part
from hepxai.explainers.libraries import RUNS, Array, mean_and_error


class LinearFitExplainer(Explainer):
    """Local linear model, fitted in independent runs [LIME: Ribeiro et al., arXiv:1602.04938].

    Attributes
    ----------
    alternative : str
        Method to take where the fit is poor (class attribute).
    samples : int
        Points around each event, for all runs together.
    minimum_r2 : float
        Mean R² of the local fits below which there is a warning.
    """

    alternative: ClassVar[str]
    has_errors = True
    samples: int = Field(default=2000, ge=10 * RUNS)
    minimum_r2: float = Field(default=0.5, ge=0)

    def joined(self, fits: Sequence[Sequence[tuple[Array, float]]]) -> Part:
        """Mean and error of each event's runs; ``fits[event][run]`` has values and R², NaN without a fit."""
        maps = [mean_and_error([values for values, _ in runs]) for runs in fits]
        r2 = np.array([np.mean([r for _, r in runs]) for runs in fits])
        poor = np.where(np.isnan(r2), np.nan, r2 < self.minimum_r2)
        checks = {"mean_r2": r2, "poor_fits": poor}
        values, error = (np.stack([m[i] for m in maps]) for i in (0, 1))
        return Part(values=values, error=error, checks=checks)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Mean R² of the local fits, and the share of events below ``minimum_r2``."""
        return {"mean_r2": 1.0, "poor_fits": 0.0} | dict(attribution.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Concerns of the view, and local linear models with a poor fit."""
        if checks["mean_r2"] >= self.minimum_r2:
            return super().concerns(checks)
        poor = (
            f"the linear models around the events have a mean R² of {checks['mean_r2']:.2f}, below "
            f"{self.minimum_r2:g}: the score is not linear there, and their slopes say little; "
            f"take {self.alternative}"
        )
        return (*super().concerns(checks), poor)
