"""Boosters of XGBoost and LightGBM with the interface of a scikit-learn estimator, scored by their margin."""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hepxai.core.extras import import_extra
from hepxai.models.table.decision_trees import Nodes
from hepxai.models.wrappers.booster_files import (
    Object,
    lightgbm_content,
    lightgbm_nodes,
    xgboost_content,
    xgboost_nodes,
)

Array = NDArray[np.float64]
LOGIT_OBJECTIVES = (
    *("binary:logistic", "binary:logitraw", "multi:softprob", "multi:softmax"),
    *("binary", "cross_entropy", "multiclass", "multiclassova"),
)
"""Objectives whose margins are logits: of XGBoost, of LightGBM."""
PREDICTION_OBJECTIVES = (
    *("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror"),
    *("regression", "regression_l1", "huber", "fair", "quantile", "mape"),
)
"""Objectives whose margins are predictions."""


@dataclass(frozen=True)
class Booster:
    """A booster as an estimator: ``decision_function`` and ``predict`` are its margin.

    Attributes
    ----------
    booster : object
        Of the library.
    objective : str
    outputs : int
        Margins per event.
    rounds : int
        Boosting rounds used: up to the best one, after early stopping.
    classes : sequence, optional
        Labels of the classes, in the order of the margins; None for a regression.
    missing : float
        Value that stands for a missing one, beside NaN.
    has_trees : bool
        False for linear boosters.
    single_precision : bool
        True if cuts are compared in float32 (class attribute).
    """

    single_precision: ClassVar[bool]
    booster: Any
    objective: str
    outputs: int
    rounds: int
    classes: Sequence[Any] | None
    missing: float = np.nan
    has_trees: bool = True

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels of the classes."""
        if self.classes is None:
            raise AttributeError("a regression has no classes")
        return np.array(self.classes)

    @property
    @abstractmethod
    def n_features_in_(self) -> int:
        """Columns of the training."""

    @property
    @abstractmethod
    def feature_names_in_(self) -> tuple[str, ...]:
        """Names of the columns, made up by the library where there are none."""

    @abstractmethod
    def predict(self, x: NDArray[np.floating]) -> Array:
        """Margins ``[E]`` or ``[E, K]``."""

    @abstractmethod
    def trees(self, output: int) -> list[Nodes]:
        """Trees that add up to a margin, up to a constant."""

    def decision_function(self, x: NDArray[np.floating]) -> Array:
        """Margins ``[E]`` or ``[E, K]``."""
        return self.predict(x)

    def as_missing(self, x: NDArray[np.floating]) -> NDArray[np.floating]:
        """Table with NaN for missing values."""
        return x if np.isnan(self.missing) else np.where(x == self.missing, np.nan, x)


@dataclass(frozen=True)
class XgboostBooster(Booster):
    """A booster of XGBoost."""

    single_precision = True

    @property
    def n_features_in_(self) -> int:
        """Columns of the training."""
        return int(self.booster.num_features())

    @property
    def feature_names_in_(self) -> tuple[str, ...]:
        """Names of the columns, by default f0, f1, f2."""
        return tuple(self.booster.feature_names or (f"f{i}" for i in range(self.n_features_in_)))

    def predict(self, x: NDArray[np.floating]) -> Array:
        """Margins ``[E]`` or ``[E, K]``."""
        xgboost = import_extra("xgboost", "this model", "trees")
        if infinite := int(np.isinf(x).any(axis=1).sum()):
            raise ValueError(f"infinite values in {infinite} of {len(x)} rows, which XGBoost does not take")
        kinds = self.booster.feature_types
        table = xgboost.DMatrix(
            self.as_missing(x),
            feature_names=self.booster.feature_names,
            feature_types=kinds,
            enable_categorical="c" in (kinds or ()),
        )
        margin = self.booster.predict(table, output_margin=True, iteration_range=(0, self.rounds))
        return np.asarray(margin, dtype=np.float64)

    def trees(self, output: int) -> list[Nodes]:
        """Trees that add up to a margin, up to a constant."""
        return xgboost_nodes(self._content, self.rounds, output)

    @cached_property
    def _content(self) -> Object:
        return xgboost_content(bytes(self.booster.save_raw("json")))


@dataclass(frozen=True)
class LightgbmBooster(Booster):
    """A booster of LightGBM.

    Attributes
    ----------
    scale : float
        Factor that turns the margin into a logit.
    """

    single_precision = False
    scale: float = 1.0

    @property
    def n_features_in_(self) -> int:
        """Columns of the training."""
        return int(self.booster.num_feature())

    @property
    def feature_names_in_(self) -> tuple[str, ...]:
        """Names of the columns, by default Column_0, Column_1, Column_2."""
        return tuple(self.booster.feature_name())

    def predict(self, x: NDArray[np.floating]) -> Array:
        """Margins ``[E]`` or ``[E, K]``."""
        margin = self.booster.predict(x, raw_score=True, num_iteration=self.rounds)
        return self.scale * np.asarray(margin, dtype=np.float64)

    def trees(self, output: int) -> list[Nodes]:
        """Trees that add up to a margin, up to a constant."""
        return lightgbm_nodes(self._content, self.rounds, output, self.scale)

    @cached_property
    def _content(self) -> Object:
        return lightgbm_content(self.booster.model_to_string(num_iteration=self.rounds))


def library_of(estimator: object) -> str | None:
    """``"xgboost"`` or ``"lightgbm"`` for an object that inherits from one of theirs."""
    roots = (kind.__module__.partition(".")[0] for kind in type(estimator).__mro__)
    return next((root for root in roots if root in ("xgboost", "lightgbm")), None)


def as_estimator(estimator: Any, *, stacklevel: int = 3) -> Any:
    """Booster of an XGBoost or LightGBM object as an estimator; any other object as it is.

    Estimators with other objectives are returned unchanged and scored by `predict`.

    Parameters
    ----------
    estimator : object
    stacklevel : int
        Calls from here to the line that a warning names, as in `warnings.warn`.

    Raises
    ------
    ValueError
        If a raw booster has such an objective, or any of them ranks events.
    """
    library = library_of(estimator)
    if library is None or isinstance(estimator, type):
        return estimator
    raw = type(estimator).__name__ == "Booster"
    attribute = {"xgboost": "get_booster", "lightgbm": "booster_"}[library]
    booster = estimator if raw else getattr(estimator, attribute)
    booster = booster() if callable(booster) and not raw else booster
    if library == "xgboost":
        wrapped: Booster = _xgboost(booster, estimator, stacklevel + 1)
    else:
        wrapped = _lightgbm(booster, estimator)
    if wrapped.objective.startswith(("rank:", "lambdarank", "rank_xendcg")):
        raise ValueError(f"the objective {wrapped.objective} ranks events within groups, which has no logit")
    if wrapped.objective in LOGIT_OBJECTIVES + PREDICTION_OBJECTIVES:
        return wrapped
    if raw:
        raise ValueError(
            f"the margin of the objective {wrapped.objective} is neither a logit nor a prediction; known are "
            f"{', '.join(LOGIT_OBJECTIVES + PREDICTION_OBJECTIVES)}. Wrap the XGBRegressor or LGBMRegressor "
            "of it, which is scored by its predictions"
        )
    return estimator


def _xgboost(booster: Any, estimator: Any, stacklevel: int) -> XgboostBooster:
    learner = json.loads(booster.save_config())["learner"]
    objective, parameters = learner["objective"]["name"], learner["learner_model_param"]
    outputs = max(int(parameters["num_class"]), int(parameters["num_target"]), 1)
    has_trees = learner["gradient_booster"]["name"] != "gblinear"
    rounds, best = booster.num_boosted_rounds(), booster.attr("best_iteration")
    if best is not None and int(best) + 1 < rounds and has_trees:
        if estimator is booster:
            warnings.warn(
                f"the booster stopped early: its best {int(best) + 1} of {rounds} rounds are used, as "
                "XGBClassifier does. For all of them, call booster.set_attr(best_iteration=None) first",
                UserWarning,
                stacklevel=stacklevel,
            )
        rounds = int(best) + 1
    missing = getattr(estimator, "missing", None)
    return XgboostBooster(
        booster,
        objective,
        outputs,
        rounds,
        _classes(estimator, objective, outputs),
        np.nan if missing is None else float(missing),
        has_trees,
    )


def _lightgbm(booster: Any, estimator: Any) -> LightgbmBooster:
    text = booster.model_to_string(num_iteration=1)
    line = next((row for row in text.splitlines() if row.startswith("objective=")), "objective=custom")
    objective, *options = line.removeprefix("objective=").split()
    settings = dict(option.partition(":")[::2] for option in options)
    if "sqrt" in options:
        objective = f"{objective} sqrt"
    rounds = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
    outputs = int(booster.num_model_per_iteration())
    scale = float(settings.get("sigmoid", 1)) if objective in ("binary", "multiclassova") else 1.0
    if "\naverage_output" in text:  # a random forest, whose raw score is the sum
        scale /= rounds
    classes = _classes(estimator, objective, outputs)
    return LightgbmBooster(booster, objective, outputs, rounds, classes, scale=scale)


def _classes(estimator: Any, objective: str, outputs: int) -> Sequence[Any] | None:
    if objective not in LOGIT_OBJECTIVES:
        return None
    numbers = range(2 if outputs == 1 else outputs)
    return tuple(getattr(estimator, "classes_", numbers))
