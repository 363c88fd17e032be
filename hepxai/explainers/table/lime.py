"""LIME: a linear model of the score around every event."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import Array, BackgroundExplainer, PreparedBackground, one_by_one
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.libraries import RUNS, event_seeds, import_extra, isolated_rng
from hepxai.explainers.linear_fit import LinearFitExplainer
from hepxai.explainers.methods import register


@register("lime")
class Lime(LinearFitExplainer, BackgroundExplainer):
    """Slope of a linear model of the score around the event [Ribeiro et al., arXiv:1602.04938], by lime.

    Normal numbers are added to all columns of the event, with the standard deviations of the background
    rows; a ridge regression is fitted to the scores with weights ``exp(-d² / 2 w²)`` for the distance d in
    standard deviations and the width ``w = 0.75 √G``. The value of a column is its slope **per
    standard deviation**: a sensitivity, not a share of the score. The values add up to nothing.

    It runs four times on a quarter of the samples each: the values are the mean of the runs, and
    ``Attribution.error`` has the standard errors from their spread.

    Attributes
    ----------
    samples, minimum_r2
        See `hepxai.explainers.linear_fit.LinearFitExplainer`.
    sample, size, seed, rows
        See `hepxai.explainers.background.BackgroundExplainer`; the rows give the spread of the columns.
    """

    title = "local linear model of columns (LIME)"
    short_title = "LIME"
    unit = "logit per standard deviation"
    complete = False
    alternative: ClassVar[str] = "kernel_shap"
    sample: Literal["background", "all"] = "all"
    size: int = Field(default=1000, ge=1)

    def settings(self) -> dict[str, Any]:
        """Settings with the unit."""
        return super().settings() | {"unit": self.unit}

    def engine(self, prepared: PreparedBackground) -> Any:
        """LimeTabularExplainer."""
        assert prepared.rows is not None
        rows = prepared.rows.astype(np.float64)
        tabular = import_extra("lime.lime_tabular", self.name)
        with isolated_rng():
            engine = tabular.LimeTabularExplainer(
                rows,
                mode="regression",
                discretize_continuous=False,
                sample_around_instance=True,
                feature_selection="none",
            )
        # A column without spread stays where it is; lime would move it by 1, whatever its unit.
        engine.scaler.scale_ = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1e-30)
        return engine

    def batch_rows(self, events: Events) -> list[IntArray]:
        """One event at a time: its random numbers are its own."""
        return one_by_one(events)

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed slopes with errors; R² of the fits in the checks."""
        (x,), (seeds,) = batch.x.numpy(), event_seeds(batch.events, self.seed, RUNS)
        with isolated_rng():
            return self.joined([[self._fit(prepared, x, int(s)) for s in seeds]])

    def _fit(self, prepared: PreparedBackground, x: NDArray[np.float32], seed: int) -> tuple[Array, float]:
        """Slopes ``[G]`` per standard deviation and R² of one fit."""
        engine, points = prepared.engine, self.samples // RUNS
        engine.random_state = engine.base.random_state = np.random.RandomState(seed)
        fit = engine.explain_instance(
            x.astype(np.float64), prepared.score, num_features=len(x), num_samples=points
        )
        slopes = np.zeros(len(x))
        for column, slope in fit.local_exp[1]:
            slopes[column] = slope
        return slopes, float(fit.score)
