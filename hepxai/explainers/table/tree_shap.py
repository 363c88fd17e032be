"""TreeSHAP: Shapley values of the columns of the event-level table, exact for models made of trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy.special import expit
from torch import Tensor

from hepxai.events import Events
from hepxai.explainers.background import Array, BackgroundExplainer, PreparedBackground, Table
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.libraries import import_extra, installed, isolated_rng
from hepxai.explainers.methods import register
from hepxai.explainers.table.trees import FORESTS, counted_once, family, need_trees
from hepxai.models.protocols import HasTrees
from hepxai.models.table.rows import need_values
from hepxai.models.target import Target


@dataclass(frozen=True, kw_only=True)
class PreparedTrees(PreparedBackground):
    """TreeSHAP of an estimator."""

    def settings(self) -> dict[str, Any]:
        """Settings with the unit and the reference."""
        reference = "training events, each counted once" if self.rows is None else "background rows"
        unit = _unit(self.model.estimator)
        return super().settings() | {"unit": unit, "reference": reference}

    def unit(self, events: Events) -> str:
        """Probability for forests of classification trees."""
        return _unit(self.model.estimator)

    def score(self, table: Table) -> Array:
        """Quantity that the values explain, ``[E]``."""
        return _explained(self.model, table, self.target)


@register("tree_shap")
class TreeShap(BackgroundExplainer):
    """Shapley values of the columns, by shap's TreeExplainer [Lundberg et al., arXiv:1905.04610].

    ``φ_f = Σ_{S ⊆ G∖f} s! (g-s-1)! / g! [v(S ∪ f) - v(S)]``, where v(S) is the mean score if only the columns
    S are known. Boosted trees are explained on their score (log-odds); forests of classification trees
    average probabilities, and it is the probability of the target that they are explained on.

    Every event is checked: values and mean must add up to the score, which fails for trees that shap
    misinterprets.

    Attributes
    ----------
    baseline : str
        Average in v(S). "path_dependent": over both sides of a cut in an unknown column, in proportion to the
        training events on them. Each counts once, whatever its weight, for trees of all kinds
        (HistGradientBoosting stores no other numbers). "interventional": over the unknown columns of the
        background rows, which are drawn in proportion to |weight|.
    tolerance : float
        Largest |residual| of an event, as a share of Σ_f |φ_f| or of the change of the score.
    sample, size, seed, rows
        Of "interventional"; see `hepxai.explainers.background.BackgroundExplainer`.
    """

    title = "Shapley values of columns, from trees (TreeSHAP)"
    short_title = "TreeSHAP"
    default_for = "table"
    needs = HasTrees
    advice = (
        "trees that were trained on float64 need float32 here: train on `events.table()`, or take "
        "baseline='path_dependent', or kernel_shap"
    )
    baseline: Literal["path_dependent", "interventional"] = "path_dependent"
    tolerance: float = Field(default=1e-3, ge=0)

    @field_validator("baseline", mode="before")
    @classmethod
    def _no_events(cls, baseline: Any) -> Any:
        if isinstance(baseline, Events):
            raise ValueError("give background events as rows=, with baseline='interventional'")
        return baseline

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for estimators with trees, if shap is installed."""
        return isinstance(model, HasTrees) and family(model.estimator) is not None and installed("shap")

    def prepare(self, model: HasTrees, events: Events, target: str) -> PreparedTrees:
        """Choose the background rows, and compute the mean score."""
        _need_plain_trees(self.name, model.estimator)
        need_values(events)
        rows = self.background(events) if self.baseline == "interventional" else None
        engine = _explainer(self.name, model.estimator, rows)
        if rows is None:
            expected = float(_of_target(model, target, np.ravel(engine.expected_value)))
        else:
            expected = float(_explained(model, rows, target).mean())
        return PreparedTrees(
            explainer=self, model=model, target=target, rows=rows, expected=expected, engine=engine
        )

    def attribute_batch(self, prepared: PreparedTrees, batch: Batch[Tensor]) -> Part:
        """Signed values."""
        with isolated_rng():
            values = prepared.engine.shap_values(batch.x.numpy(), check_additivity=False)
        outputs = values if values.ndim == 3 else values[..., None]
        return Part(values=_of_target(prepared.model, prepared.target, outputs).astype(float))


def _need_plain_trees(method: str, estimator: Any) -> None:
    """Refuse models that are not made of trees, and those that shap reads wrongly without a warning."""
    need_trees(method, estimator)
    if getattr(estimator, "is_categorical_", None) is not None:
        raise CannotExplainError(
            f"{method}: shap takes the categorical columns of {type(estimator).__name__} for ordered ones, "
            "and its values are wrong; train without categorical_features, or take kernel_shap"
        )


def _explainer(method: str, estimator: Any, rows: NDArray[np.float32] | None) -> Any:
    shap = import_extra("shap", method)
    # An array would be cut down to 100 rows without a word.
    masker = None if rows is None else shap.maskers.Independent(rows, max_samples=len(rows))
    how = "tree_path_dependent" if rows is None else "interventional"
    with isolated_rng():
        try:
            trees = counted_once(estimator) if rows is None else estimator
            return shap.TreeExplainer(trees, masker, feature_perturbation=how)
        except Exception as problem:  # InvalidModelError and whatever else shap has for it
            raise CannotExplainError(
                f"{method}: shap cannot explain this {type(estimator).__name__} ({problem}); take kernel_shap"
            ) from problem


def _gives_probabilities(estimator: Any) -> bool:
    return family(estimator) is FORESTS and hasattr(estimator, "classes_")


def _unit(estimator: Any) -> str:
    if _gives_probabilities(estimator):
        return "probability"
    return "logit" if hasattr(estimator, "classes_") else "prediction"


def _of_target(model: HasTrees, target: str, values: Array) -> Array:
    """Values of the target from those of the trees, ``[..., K]``: one score, or one for each class."""
    order = list(getattr(model, "class_order", range(len(model.outputs))))
    if len(model.outputs) > 1:
        return np.asarray(Target.of(model.outputs, target)(values[..., order]))
    if order != [1, 0]:
        return np.asarray(values[..., -1])
    # The estimator's second class is the card's first one.
    return np.asarray(values[..., 0] if values.shape[-1] == 2 else -values[..., 0])


def _explained(model: HasTrees, x: NDArray[np.float32], target: str) -> Array:
    """Explained quantity ``[E]``: the score, or the probability of which it is the log-odds."""
    score = model.score_table(x)
    if not _gives_probabilities(model.estimator):
        outputs = score
    else:
        outputs = expit(score) if len(model.outputs) == 1 else np.exp(score)
    return Target.of(model.outputs, target)(outputs)
