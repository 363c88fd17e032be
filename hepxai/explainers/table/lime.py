"""LIME: a linear model of the score around every event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.console import track
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, number, whole
from hepxai.explainers.base import register
from hepxai.explainers.libraries import RUNS, event_seeds, import_extra, isolated_rng, mean_and_error
from hepxai.models.protocols import Tabular
from hepxai.models.target import Target

Array = NDArray[np.float64]


@register("lime")
@dataclass(frozen=True, kw_only=True)
class Lime(BackgroundExplainer):
    """Slope of a linear model of the score around the event [Ribeiro et al., arXiv:1602.04938], by lime.

    Normal numbers are added to all columns of the event, with the standard deviations of the background
    rows; a ridge regression learns the scores, close points counting more: ``exp(-d² / 2 w²)`` with the
    distance d in standard deviations and the width ``w = 0.75 √G``. The value of a column is its slope **per
    standard deviation**: a sensitivity, not a share of the score. The values add up to nothing.

    It runs four times on a quarter of the samples each: the values are the mean of the runs, and
    ``Attribution.error`` has the standard errors from their spread.

    Attributes
    ----------
    samples : int
        Points around each event.
    minimum_r2 : float
        Mean R² of the local fits below which there is a warning.
    sample, size, seed, rows
        See `hepxai.explainers.background.BackgroundExplainer`; the rows tell the spread of the columns.
    """

    needs = Tabular
    samples: int = 2000
    minimum_r2: float = 0.5
    sample: str = "all"
    size: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("samples", self.samples, 10 * RUNS)
        number("minimum_r2", self.minimum_r2, 0)

    def attribute(self, model: Tabular, events: Events, target: str) -> Attribution:
        """Signed slopes with errors, axes ("event", "feature"); R² of the fits in the checks."""
        table, output = events.table()[0], Target.of(model.outputs, target)
        explainer = self._explainer()
        values, error, r2 = np.zeros(table.shape), np.zeros(table.shape), np.zeros(len(events))

        def score(x: NDArray[np.floating]) -> Array:
            return output(model.score_table(np.ascontiguousarray(x, dtype=np.float32)))

        seeds = event_seeds(events, self.seed, RUNS)
        with track(self.name, len(events), show=self.progress) as advance, isolated_rng():
            for e in range(len(events)):
                fits = [self._fit(explainer, table[e], score, int(s)) for s in seeds[e]]
                values[e], error[e] = mean_and_error([slopes for slopes, _ in fits])
                r2[e] = np.mean([found for _, found in fits])
                advance(1)
        return Attribution(
            values,
            ("event", "feature"),
            events,
            self.name,
            target,
            settings=self.settings() | {"unit": "logit per standard deviation"},
            labels={"feature": events.schema.globals},
            error=error,
            checks=self._quality(r2),
        )

    def checks(self, found: Attribution) -> dict[str, float]:
        """Mean R² of the local fits, and the share of events below ``minimum_r2``."""
        return dict(found.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Linear models that do not fit."""
        if checks.get("mean_r2", 1.0) >= self.minimum_r2:
            return ()
        return (
            f"the linear models around the events have a mean R² of {checks['mean_r2']:.2f}, below "
            f"{self.minimum_r2:g}: the score is not linear there, and their slopes say little; "
            "take kernel_shap",
        )

    def _quality(self, r2: Array) -> dict[str, float]:
        """Means over events, so that those of parts of a population combine."""
        if not len(r2):
            return {"mean_r2": 1.0, "poor_fits": 0.0}
        return {"mean_r2": float(r2.mean()), "poor_fits": float(np.mean(r2 < self.minimum_r2))}

    def _explainer(self) -> Any:
        rows = self.background().astype(np.float64)
        tabular = import_extra("lime.lime_tabular", self.name)
        with isolated_rng():
            made = tabular.LimeTabularExplainer(
                rows,
                mode="regression",
                discretize_continuous=False,
                sample_around_instance=True,
                feature_selection="none",
            )
        # A column without spread stays where it is; lime would move it by 1, whatever its unit.
        made.scaler.scale_ = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1e-30)
        return made

    def _fit(self, explainer: Any, x: NDArray[np.float32], score: Any, seed: int) -> tuple[Array, float]:
        """Slopes ``[G]`` per standard deviation and R² of one fit."""
        explainer.random_state = explainer.base.random_state = np.random.RandomState(seed)
        found = explainer.explain_instance(
            x.astype(np.float64), score, num_features=len(x), num_samples=self.samples // RUNS
        )
        slopes = np.zeros(len(x))
        for column, slope in found.local_exp[1]:
            slopes[column] = slope
        return slopes, float(found.score)
