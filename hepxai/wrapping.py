"""Advice for objects of other libraries that are no `hepxai` model yet."""

from __future__ import annotations

from pathlib import Path

from torch import nn

TABLE = "hepxai.SklearnModel({}, ('signal',), events.schema)"


def how_to_wrap(given: object) -> str | None:
    """How an object of a kind that is recognised becomes a model, as a sentence; None for all others."""
    if isinstance(given, str | Path):
        return f"{str(given)!r} is a text; hepxai.load_model(path) reads a model that hepxai trained"
    if isinstance(given, type):
        return f"{given.__name__} is a class; give an object of it that was trained"
    name = type(given).__name__
    if isinstance(given, nn.Module):
        return (
            f"{name} is a bare torch module; wrap it by what it takes, as in hepxai.PygModel(net, "
            "outputs=('signal',), schema=events.schema): PygModel for particle graphs, TableModel for the "
            "table, ImageModel for images"
        )
    if name == "Booster":
        return _booster(type(given).__module__.partition(".")[0])
    if hasattr(given, "get_params") and hasattr(given, "predict"):
        return f"{name} is a bare estimator; wrap it, as in {TABLE.format('estimator')}"
    if hasattr(given, "predict") and not hasattr(given, "logits"):
        return (
            f"{name} is neither a torch module nor a scikit-learn estimator. For methods that ask for scores "
            "of the table only (permutation_importance, kernel_shap), dress it as an estimator: "
            "net = types.SimpleNamespace(classes_=(0, 1), n_features_in_=len(events.schema.globals), "
            "predict=model.predict, predict_proba=lambda x: np.column_stack([1 - p(x), p(x)])) with "
            f"p = lambda x: np.ravel(model.predict(x)), and wrap it, as in {TABLE.format('net')}"
        )
    return None


def _booster(library: str) -> str:
    if library == "xgboost":
        return (
            "xgboost.Booster is a raw booster; give the classifier around it: "
            "trees = xgboost.XGBClassifier(); trees.load_model(booster.save_raw()); " + TABLE.format("trees")
        )
    return (
        f"{library}.Booster is a raw booster; dress it as a classifier: trees = types.SimpleNamespace("
        "classes_=(0, 1), n_features_in_=booster.num_feature(), predict=booster.predict, "
        "decision_function=lambda x: booster.predict(x, raw_score=True)); " + TABLE.format("trees")
    )
