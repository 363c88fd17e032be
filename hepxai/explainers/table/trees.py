"""Methods that read decision trees: which models have some."""

from __future__ import annotations

from typing import Any

from hepxai.explainers.base import CannotExplainError
from hepxai.models.wrappers.ensembles import Ensemble, MixedColumnsError, family

ADVICE = "for other models of the table there are permutation_importance and kernel_shap"


def need_trees(method: str, estimator: Any) -> Ensemble:
    """Trees of an estimator.

    Raises
    ------
    CannotExplainError
        If there are none that can be read, or a pipeline mixes columns before them; the message names the
        methods that work.
    """
    if family(estimator) is None:
        raise CannotExplainError(
            f"{method} reads the decision trees of XGBoost, LightGBM, and scikit-learn's GradientBoosting, "
            "HistGradientBoosting, RandomForest, ExtraTrees and DecisionTree models, also behind the "
            f"scalers of a pipeline; {type(estimator).__name__} is none of them; {ADVICE}"
        )
    try:
        return Ensemble.of(estimator)
    except MixedColumnsError as problem:
        raise CannotExplainError(
            f"{method}: {problem}, so that cuts have no column of the table; {ADVICE}"
        ) from None
