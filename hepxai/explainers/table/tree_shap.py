"""TreeSHAP: Shapley values of the columns of the event-level table, exact for models made of trees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, number
from hepxai.explainers.base import CannotExplainError, Chunked, register
from hepxai.explainers.libraries import import_extra, installed, isolated_rng
from hepxai.explainers.table.trees import FORESTS, counted_once, family, need_trees
from hepxai.models.protocols import HasTrees
from hepxai.models.table.rows import need_values
from hepxai.models.target import Target

Array = NDArray[np.float64]
BASELINES = ("path_dependent", "interventional")


@register("tree_shap")
@dataclass(frozen=True, kw_only=True)
class TreeShap(BackgroundExplainer):
    """Shapley values of the columns, by shap's TreeExplainer [Lundberg et al., arXiv:1905.04610].

    ``φ_f = Σ_{S ⊆ G∖f} s! (g-s-1)! / g! [v(S ∪ f) - v(S)]``, where v(S) is the mean score if only the columns
    S are known. Boosted trees are explained on their score (log-odds); forests of classification trees
    average probabilities, and it is the probability of the target that they are explained on.

    Whether the values and the mean add up to the score is checked for every event, always: on trees that
    shap takes for something else they do not.

    Attributes
    ----------
    baseline : str
        What v(S) averages over. "path_dependent": at a cut in an unknown column, both sides, in proportion to
        the training events on them. Each counts once, whatever its weight, for trees of all kinds
        (HistGradientBoosting stores no other numbers). "interventional": the unknown columns of the
        background rows, which are drawn in proportion to |weight|.
    tolerance : float
        Largest |residual| of an event, as a share of Σ_f |φ_f| or of the change of the score.
    sample, size, seed, rows, expected
        Of "interventional"; see `hepxai.explainers.background.BackgroundExplainer`.
    explainer : object, optional
        shap's, made in `prepare`.
    """

    needs = HasTrees
    baseline: str = "path_dependent"
    tolerance: float = 1e-3
    explainer: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        number("tolerance", self.tolerance, 0)
        given: object = self.baseline
        if isinstance(given, Events):
            raise TypeError("give background events as rows=, with baseline='interventional'")
        if self.baseline not in BASELINES:
            raise ValueError(f"baseline={self.baseline!r}; choose one of {', '.join(BASELINES)}")

    @classmethod
    def works_on(cls, model: object) -> bool:
        """Whether the estimator has trees, and shap is installed."""
        return isinstance(model, HasTrees) and family(model.estimator) is not None and installed("shap")

    def prepare(self, model: HasTrees, events: Events, target: str) -> Self:
        """Settle the background rows, and the mean score."""
        _need_plain_trees(self.name, model.estimator)
        need_values(events)
        rows = super().prepare(model, events, target).rows if self.baseline == "interventional" else None
        explainer = _explainer(self.name, model.estimator, rows)
        if rows is None:
            expected = float(_of_target(model, target, np.ravel(explainer.expected_value)))
        else:
            expected = float(_shared_out(model, rows, target).mean())
        return dataclasses.replace(self, rows=rows, expected=expected, explainer=explainer)

    def attribute(self, model: HasTrees, events: Events, target: str) -> Attribution:
        """Signed values, axes ("event", "feature").

        Raises
        ------
        ArithmeticError
            If they do not add up.
        """
        if self.explainer is None:
            raise ValueError("the trees have not been read; call prepare or explain")
        chunked = Chunked.of_table(events)
        values, score = np.empty(events.table()[0].shape), np.empty(len(events))
        tables = chunked.tables(self.name, progress=self.progress)
        for rows, x in zip(chunked.chunks, tables, strict=True):
            with isolated_rng():
                found = self.explainer.shap_values(x.numpy(), check_additivity=False)
            values[rows] = _of_target(model, target, found if found.ndim == 3 else found[..., None])
            score[rows] = _shared_out(model, x.numpy(), target)
        found = self.result(values, score, events, target)
        self.must_add_up(found, self.tolerance, ADVICE)
        reference = "training events, each counted once" if self.rows is None else "background rows"
        facts = {"unit": _unit(model.estimator), "reference": reference}
        return found.replace(settings=dict(found.settings) | facts)


ADVICE = (
    "trees that were trained on float64 need float32 here: train on `events.table()`, or take "
    "baseline='path_dependent', or kernel_shap"
)


def _need_plain_trees(method: str, estimator: Any) -> None:
    """Refuse what is not made of trees, and what shap reads wrongly without a word."""
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


def _of_target(model: HasTrees, target: str, found: Array) -> Array:
    """Values of the target from those of the trees, ``[..., K]``: one score, or one for each class."""
    order = list(getattr(model, "class_order", range(len(model.outputs))))
    if len(model.outputs) > 1:
        return np.asarray(Target.of(model.outputs, target)(found[..., order]))
    if order != [1, 0]:
        return np.asarray(found[..., -1])
    # The estimator's second class is the card's first one.
    return np.asarray(found[..., 0] if found.shape[-1] == 2 else -found[..., 0])


def _shared_out(model: HasTrees, x: NDArray[np.float32], target: str) -> Array:
    """What the values add up to ``[E]``: the score, or the probability of which it is the log-odds."""
    score = model.score_table(x)
    outputs = expit(score) if _gives_probabilities(model.estimator) else score
    return Target.of(model.outputs, target)(outputs)
