"""KernelSHAP: Shapley values of the columns of the event-level table, for any model of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.console import track
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, whole
from hepxai.explainers.base import register
from hepxai.explainers.libraries import RUNS, event_seeds, import_extra, isolated_rng, mean_and_error
from hepxai.models.protocols import Tabular
from hepxai.models.target import Target

Array = NDArray[np.float64]


@register("kernel_shap")
@dataclass(frozen=True, kw_only=True)
class KernelShap(BackgroundExplainer):
    """Shapley values of the columns, by shap's KernelExplainer [Lundberg and Lee, arXiv:1705.07874].

    ``φ_f = Σ_{S ⊆ G∖f} s! (g-s-1)! / g! [v(S ∪ f) - v(S)]``, where v(S) is the mean score of the background
    rows that have the columns S of the event; by a weighted linear regression on sets S, under the
    constraint that the values and the mean score of the rows add up to the score.

    If there are no more than ``samples`` sets, all are taken and the values are exact. If there are more,
    the regression runs four times on a quarter of the samples each, drawn independently: the values are the
    mean of the runs, and ``Attribution.error`` has the standard errors from their spread.

    One event costs ``samples * size`` scores.

    Attributes
    ----------
    samples : int
        Sets that are scored for each event: 2048 is all of them for up to 11 columns.
    sample, size, seed, rows, expected
        See `hepxai.explainers.background.BackgroundExplainer`.
    """

    needs = Tabular
    samples: int = 2048
    size: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("samples", self.samples, 1)

    def attribute(self, model: Tabular, events: Events, target: str) -> Attribution:
        """Signed values with errors, axes ("event", "feature")."""
        table, output = events.table()[0], Target.of(model.outputs, target)
        runs = self._runs(table.shape[1])
        explainer = self._explainer(model, output)
        values, error = np.zeros(table.shape), np.zeros(table.shape)
        seeds = event_seeds(events, self.seed, runs)
        with track(self.name, len(events), show=self.progress) as advance, isolated_rng():
            for e in range(len(events)):
                found = [self._run(explainer, table[e : e + 1], int(s), runs) for s in seeds[e]]
                values[e], error[e] = mean_and_error(found)
                advance(1)
        score = output(model.score_table(table))
        return self.result(values, score, events, target, error)

    def _runs(self, columns: int) -> int:
        """1 if all sets can be taken; else so many that their spread says how far they can be trusted."""
        if columns < 60 and 2**columns - 2 <= self.samples:
            return 1
        if self.samples < 16 * columns:
            raise ValueError(
                f"samples={self.samples}; at least {16 * columns} are needed for {columns} columns"
            )
        return RUNS

    def _explainer(self, model: Tabular, output: Target) -> Any:
        def score(x: NDArray[np.floating]) -> Array:
            return output(model.score_table(np.ascontiguousarray(x, dtype=np.float32)))

        rows = self.background()
        shap = import_extra("shap", self.name)
        with isolated_rng():
            return shap.KernelExplainer(score, rows)

    def _run(self, explainer: Any, x: NDArray[np.float32], seed: int, runs: int) -> Array:
        np.random.seed(seed)  # noqa: NPY002 - what shap draws from
        # Its default, ten columns at most, would give 0 to all others.
        found = explainer.shap_values(x, nsamples=self.samples // runs, l1_reg=False, silent=True)
        return np.asarray(found, dtype=np.float64).reshape(-1)
