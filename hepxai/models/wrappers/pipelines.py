"""Pipelines of scikit-learn: the transformers, the last estimator, and the columns that they keep apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.extras import import_extra
from hepxai.core.jagged import IntArray
from hepxai.models.wrappers.boosters import as_estimator

ELEMENTWISE = (
    "Binarizer",
    "MaxAbsScaler",
    "MinMaxScaler",
    "PowerTransformer",
    "QuantileTransformer",
    "RobustScaler",
    "SimpleImputer",
    "StandardScaler",
)
"""Transformers whose output columns are functions of one input column each."""


def split(estimator: Any) -> tuple[list[Any], Any]:
    """Transformers, and the estimator behind them, with boosters as in `as_estimator`."""
    transformers: list[Any] = []
    while True:
        estimator = getattr(estimator, "best_estimator_", estimator)
        if not _is_a(estimator, "Pipeline"):
            return transformers, as_estimator(estimator)
        steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
        transformers += steps[:-1]
        estimator = steps[-1]


def transformed(transformers: Sequence[Any], x: Any, estimator: Any) -> NDArray[np.floating]:
    """Table behind the transformers of an estimator that was fitted on columns with names, or without."""
    if any(_needs_names(transformer) for transformer in transformers):
        names = getattr(estimator, "feature_names_in_", None)
        x = import_extra("pandas", "a ColumnTransformer by names", "trees").DataFrame(x, columns=names)
    for transformer in transformers:
        x = transformer.transform(x)
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def _needs_names(transformer: Any) -> bool:
    """True if a transformer chooses columns by name, which takes a data frame."""
    return _is_a(transformer, "ColumnTransformer") and hasattr(transformer, "feature_names_in_")


def source_columns(transformers: Sequence[Any], columns: int) -> IntArray | None:
    """Input column that each output column is a function of; None if one depends on several.

    Only transformers that are known to treat each column on its own count as such.
    """
    sources = np.arange(columns)
    for transformer in transformers:
        inner = _sources(transformer, len(sources))
        if inner is None:
            return None
        sources = sources[inner]
    return sources


def _sources(transformer: Any, columns: int) -> IntArray | None:
    if transformer is None or transformer == "passthrough":
        return np.arange(columns)
    if _is_a(transformer, "Pipeline"):
        return source_columns([step for _, step in transformer.steps], columns)
    if _is_a(transformer, "ColumnTransformer"):
        return _of_column_transformer(transformer, columns)
    if _is_a(transformer, "SelectorMixin"):
        return np.flatnonzero(transformer.get_support())
    if _is_a(transformer, "FunctionTransformer"):
        elementwise = transformer.func is None or isinstance(transformer.func, np.ufunc)
        return np.arange(columns) if elementwise else None
    if any(_is_a(transformer, name) for name in ELEMENTWISE):
        return _if_all_are_kept(transformer, columns)
    return None


def _if_all_are_kept(transformer: Any, columns: int) -> IntArray | None:
    """An imputer drops columns that are empty in the training, and may add others."""
    empty = np.isnan(np.asarray(getattr(transformer, "statistics_", np.zeros(columns)), dtype=float)).any()
    return None if empty or getattr(transformer, "add_indicator", False) else np.arange(columns)


def _of_column_transformer(transformer: Any, columns: int) -> IntArray | None:
    sources = np.zeros(max(p.stop for p in transformer.output_indices_.values()), dtype=np.int64)
    names = list(getattr(transformer, "feature_names_in_", range(columns)))
    for name, step, chosen in transformer.transformers_:
        place = transformer.output_indices_[name]
        if place.stop == place.start:
            continue
        inputs = _numbers(chosen, names)
        inner = _sources(step, len(inputs))
        if inner is None:
            return None
        sources[place] = inputs[inner]
    return sources


def _numbers(chosen: Any, names: list[Any]) -> IntArray:
    """Numbers of columns that are chosen by number, name, mask or slice."""
    chosen = [chosen] if isinstance(chosen, str | int) else chosen
    if not isinstance(chosen, slice) and all(isinstance(c, str) for c in chosen):
        return np.array([names.index(c) for c in chosen], dtype=np.int64)
    if isinstance(chosen, slice) and isinstance(chosen.start or chosen.stop, str):
        stop = len(names) if chosen.stop is None else names.index(chosen.stop) + 1
        return np.arange(names.index(chosen.start) if chosen.start else 0, stop)
    return np.asarray(np.arange(len(names))[chosen])


def _is_a(estimator: object, name: str) -> bool:
    """True if one of the estimator's classes is that one of scikit-learn, without an import of it."""
    kinds = (k for k in type(estimator).__mro__ if k.__module__.partition(".")[0] == "sklearn")
    return any(kind.__name__ == name for kind in kinds)
