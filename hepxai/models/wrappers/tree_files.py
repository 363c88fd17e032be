"""Files of trees: XGBoost, LightGBM, and scikit-learn by skops."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from hepxai.core.extras import import_extra
from hepxai.events import Schema
from hepxai.models.table.boosted_trees import ALGORITHMS, REGRESSORS, restored_trees
from hepxai.models.wrappers.booster_files import lightgbm_content, xgboost_content
from hepxai.models.wrappers.boosters import as_estimator
from hepxai.models.wrappers.table import SklearnModel

FORMS = (
    "a booster of XGBoost (booster.save_model('model.json') or .ubj) or LightGBM "
    "(booster.save_model('model.txt')), or trees of scikit-learn (skops.io.dump(estimator, 'model.skops')) "
    "is needed"
)


def load_trees(path: str | Path, schema: Schema, outputs: tuple[str, ...] | None = None) -> SklearnModel:
    """Trees from a file of XGBoost (JSON, UBJSON), LightGBM (text) or scikit-learn (skops).

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
        A booster is scored by its margin; after early stopping by the best rounds, with a warning where more
        are stored.

    Raises
    ------
    ValueError
        If it is no such file, an incomplete one, or does not fit the schema; see `SklearnModel`.
    MissingExtraError
        If the library is not installed.
    """
    try:
        data = Path(path).read_bytes()
        is_archive = data[:2] == b"PK"
        estimator = _sklearn(data, schema) if is_archive else as_estimator(_booster(data))
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


def _sklearn(data: bytes, schema: Schema) -> Any:
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            kind = json.loads(archive.read("schema.json"))["__class__"]
    except (BadZipFile, KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"no file of skops, or a damaged one ({problem}); {FORMS}") from None
    if kind not in (kinds := {k.__name__ for k in (*ALGORITHMS.values(), *REGRESSORS.values())}):
        raise ValueError(
            f"it holds a {kind!r:.60}; of scikit-learn {', '.join(sorted(kinds))} are read: export others to "
            "ONNX (skl2onnx)"
        )
    return restored_trees(data, len(schema.globals))


def _outputs(estimator: Any, schema: Schema) -> tuple[str, ...]:
    if not hasattr(estimator, "outputs"):  # of scikit-learn
        classes = len(getattr(estimator, "classes_", ()))
        return schema.targets if not classes else schema.classes[-1:] if classes == 2 else schema.classes
    if estimator.classes is None:
        return schema.targets
    if estimator.outputs == 1 and len(schema.classes) > 2:
        raise ValueError(
            f"the booster separates two classes, the events have {', '.join(schema.classes)}: give "
            "outputs=(NAME,), what its positive margin means"
        )
    return schema.classes[-1:] if estimator.outputs == 1 else schema.classes
