"""TreeSHAP: Shapley values of the columns of the event-level table, exact for models made of trees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator
from scipy.special import expit
from torch import Tensor

from hepxai.core.estimate import weighted_mean
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.background import Array, BackgroundExplainer, PreparedBackground, Table
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.methods import register
from hepxai.explainers.table.leaf_shapley import TreeShapley
from hepxai.explainers.table.trees import need_trees
from hepxai.models.protocols import HasTrees
from hepxai.models.table.rows import need_values
from hepxai.models.target import Target
from hepxai.models.wrappers.booster_files import UnsupportedTreesError
from hepxai.models.wrappers.ensembles import BOOSTERS, FORESTS, Ensemble, family

ROWS = 16_384
"""Events at a time."""
REMEDY = "give other `rows`, or draw some by |weight| with size=…"


@dataclass(frozen=True, kw_only=True)
class PreparedTrees(PreparedBackground):
    """TreeSHAP of an estimator.

    Attributes
    ----------
    ensemble : Ensemble
    weight : ndarray, shape [K], or None
        Of the background rows; their sum is 1.
    """

    ensemble: Ensemble
    weight: Array | None

    def settings(self) -> dict[str, Any]:
        """Settings with the unit and the reference."""
        return super().settings() | {"unit": self.unit(None), "reference": self._reference()}

    def _reference(self) -> str:
        if self.rows is not None:
            return f"weighted mean of {len(self.rows)} background rows"
        if self.ensemble.kind is BOOSTERS and self.ensemble.last.single_precision:
            return "training events, weighted by the second derivative of the loss"
        return "training events, each counted once"

    def unit(self, events: Events | None) -> str:
        """Probability for forests of classification trees, the unit of the target for a regression."""
        if self.ensemble.gives_probabilities:
            return "probability"
        schema = self.model.schema
        units = dict(zip(schema.targets, schema.target_units, strict=True))
        return "logit" if hasattr(self.ensemble.last, "classes_") else units.get(self.target, "prediction")

    def score(self, table: Table) -> Array:
        """Explained quantity ``[E]``: the score, or the probability of which it is the log-odds."""
        score = self.model.score_table(np.ascontiguousarray(table, dtype=np.float32))
        if self.ensemble.gives_probabilities:
            score = expit(score) if len(self.model.outputs) == 1 else np.exp(score)
        return self.output(score)

    def mean_score(self, events: Events) -> float:
        """v(∅): of the rows, by the model itself; else that of the trees and the constant of the model."""
        if self.rows is not None and self.weight is not None:
            return float(self.weight @ self.score(self.rows))
        if self.ensemble.kind is FORESTS or not len(events):
            return float(self.engine.expected)
        row = events.table()[0][:1]
        trees = sum(tree.score(self.ensemble.inputs(row))[0] for tree in self.engine.trees)
        return float(self.engine.expected + self.score(row)[0] - trees)


@register("tree_shap")
class TreeShap(BackgroundExplainer):
    """Shapley values of the columns of a model made of trees [Lundberg et al., arXiv:1905.04610].

    ``φ_f = Σ_{S ⊆ G∖f} s! (g-s-1)! / g! [v(S ∪ f) - v(S)]``, where v(S) is the mean score if only the columns
    S are known. Boosted trees are explained on their score (log-odds); forests of classification trees
    average probabilities, and it is the probability of the target that they are explained on. For the
    computation see `hepxai.explainers.table.leaf_shapley`.

    Every event is checked: values and mean must add up to the score of the library.

    Attributes
    ----------
    baseline : str
        Average in v(S). "path_dependent": over both sides of a cut in an unknown column, in proportion to the
        training events on them. Each counts once, whatever its weight (HistGradientBoosting stores no other
        numbers); XGBoost stores no numbers of events, but the sums of their second derivatives of the loss.
        "interventional": over the unknown columns of the background rows, with their signed weights.
    tolerance : float
        Largest |residual| of an event, as a share of Σ_f |φ_f| or of the change of the score.
    sample : str
        Of "interventional", as all that follow. "background": the rows are the first class of the given
        events. "all": all of them.
    size : int, optional
        Rows that are drawn, in proportion to |weight|; each counts as 1 or, with a negative weight, as -1.
        By default all events are taken, with their weights: the time depends little on their number.
    seed : int
        Of the draw.
    rows : ndarray, shape [K, G], or Events, optional
        The rows; those of an array have equal weights.
    """

    title = "Shapley values of columns, from trees (TreeSHAP)"
    short_title = "TreeSHAP"
    default_for = "table"
    needs = HasTrees
    advice = "the trees are not those that the model scores with; take kernel_shap"
    baseline: Literal["path_dependent", "interventional"] = "path_dependent"
    tolerance: float = Field(default=1e-3, ge=0)
    size: int | None = Field(default=None, ge=1)  # type: ignore[assignment]

    @field_validator("baseline", mode="before")
    @classmethod
    def _no_events(cls, baseline: Any) -> Any:
        if isinstance(baseline, Events):
            raise ValueError("give background events as rows=, with baseline='interventional'")
        return baseline

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for estimators with trees."""
        return isinstance(model, HasTrees) and family(model.estimator) is not None

    def prepare(self, model: HasTrees, events: Events, target: str) -> PreparedTrees:
        """Choose the background rows, and what they do in each leaf."""
        ensemble = need_trees(self.name, model.estimator)
        need_values(events)
        rows, weight = self.weighted_rows(events) if self.baseline == "interventional" else (None, None)
        output = Target.of(model.outputs, target)(np.eye(len(model.outputs)))
        try:
            trees = ensemble.trees(ensemble.weights(model, output))
        except UnsupportedTreesError as problem:
            raise CannotExplainError(
                f"{self.name} cannot read this {type(model.estimator).__name__}: {problem}; take kernel_shap"
            ) from None
        inputs = None if rows is None else ensemble.inputs(rows)
        shapley = TreeShapley.of(trees, ensemble.sources, inputs, weight)
        prepared = PreparedTrees(
            explainer=self,
            model=model,
            target=target,
            rows=rows,
            weight=weight,
            ensemble=ensemble,
            engine=shapley,
            expected=shapley.expected,
        )
        return dataclasses.replace(prepared, expected=prepared.mean_score(events))

    def weighted_rows(self, events: Events) -> tuple[Table, Array]:
        """Background rows ``[K, G]`` and their weights ``[K]``, which sum to 1.

        Raises
        ------
        ValueError
            If there are none, or weights of both signs nearly cancel.
        """
        if self.rows is not None:
            rows = self._given(events)
            weight = self.rows.weight if isinstance(self.rows, Events) else np.ones(len(rows))
        else:
            drawn = self._pool(events) if self.size is None else self._drawn(events, self.size)
            weight = events.weight[drawn] if self.size is None else np.sign(events.weight[drawn])
            rows = events.table()[0][drawn]
        weighted_mean(rows[:, :1], weight, "the background rows", REMEDY)
        return rows, weight / weight.sum()

    def batch_rows(self, events: Events) -> list[IntArray]:
        """Chunks of events."""
        return np.split(np.arange(len(events)), range(ROWS, len(events), ROWS))

    def attribute_batch(self, prepared: PreparedTrees, batch: Batch[Tensor]) -> Part:
        """Signed values."""
        x = batch.x.numpy()
        return Part(values=prepared.engine.values(prepared.ensemble.inputs(x), x.shape[1]))
