"""Model files of XGBoost and LightGBM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepxai.core.extras import import_extra
from hepxai.events import Schema
from hepxai.models.wrappers.booster_files import lightgbm_content, xgboost_content
from hepxai.models.wrappers.boosters import as_estimator
from hepxai.models.wrappers.table import SklearnModel

FORMS = (
    "a booster of XGBoost (booster.save_model('model.json') or .ubj) or LightGBM "
    "(booster.save_model('model.txt')) is needed"
)


def load_trees(path: str | Path, schema: Schema, outputs: tuple[str, ...] | None = None) -> SklearnModel:
    """Booster from a file of XGBoost (JSON, UBJSON) or LightGBM (text).

    The file is checked before the library reads it. Nothing in it is executed.

    Parameters
    ----------
    path : str or Path
    schema : Schema
        Of the events that it was trained on (``events.schema``). Names of columns in the file must be those
        of ``schema.globals``, in this order.
    outputs : tuple of str, optional
        By default the second class of two, all classes of several, or the regression targets.

    Returns
    -------
    SklearnModel
        Scored by its margin; after early stopping by the best rounds, with a warning where more are stored.

    Raises
    ------
    ValueError
        If it is no such file, an incomplete one, or does not fit the schema; see `SklearnModel`.
    MissingExtraError
        If the library is not installed.
    """
    try:
        estimator = as_estimator(_booster(Path(path).read_bytes()))
        names = outputs or _outputs(estimator, schema)
        return SklearnModel(estimator, names, schema)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def _booster(data: bytes) -> Any:
    if data[:1] == b"\x80":
        raise ValueError(f"a pickle, which could execute anything when it is read; {FORMS}")
    if data.startswith(b"tree\n"):
        text = data.decode("utf-8")
        lightgbm_content(text)
        return import_extra("lightgbm", "this file", "trees").Booster(model_str=text)
    if data.lstrip()[:1] != b"{":
        raise ValueError(f"no tree model; {FORMS}")
    xgboost_content(data)
    booster = import_extra("xgboost", "this file", "trees").Booster()
    booster.load_model(bytearray(data))
    return booster


def _outputs(estimator: Any, schema: Schema) -> tuple[str, ...]:
    if estimator.classes is None:
        return schema.targets
    if estimator.outputs == 1 and len(schema.classes) > 2:
        raise ValueError(
            f"the booster separates two classes, the events have {', '.join(schema.classes)}: give "
            "outputs=(NAME,), what its positive margin means"
        )
    return schema.classes[-1:] if estimator.outputs == 1 else schema.classes
