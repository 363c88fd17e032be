"""Advice on wrapping objects of other libraries as `hepxai` models."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from hepxai.models.card import ModelCard

TABLE = "hepxai.SklearnModel({}, ('signal',), events.schema)"


def wrapping_advice(candidate: object) -> str | None:
    """Advice on wrapping an object as a model; None for objects of unrecognised types."""
    if isinstance(candidate, str | Path):
        return (
            f"{str(candidate)!r} is a text; hepxai.models.load_model(path) reads a trained model, "
            "hepxai.load_trees(path, events.schema) a booster, hepxai.load_onnx(path, events.schema, "
            "outputs) an ONNX file, hepxai.fit(hepxai.ModelCard.find(name), events) trains one"
        )
    if isinstance(candidate, ModelCard):
        return f"{type(candidate).__name__} is a card; model, history = hepxai.fit(card, events) trains it"
    if isinstance(candidate, type):
        return f"{candidate.__name__} is a class; give a trained object of it"
    name = type(candidate).__name__
    if isinstance(candidate, nn.Module):
        return (
            f"{name} is a bare torch module; wrap it according to its input, as in hepxai.PygModel(net, "
            "outputs=('signal',), schema=events.schema): PygModel for particle graphs, TableModel for the "
            "table, ImageModel for images"
        )
    if name == "Booster":
        return f"{name} is a raw booster; wrap it, as in {TABLE.format('booster')}"
    if hasattr(candidate, "get_params") and hasattr(candidate, "predict"):
        return f"{name} is a bare estimator; wrap it, as in {TABLE.format('estimator')}"
    if hasattr(candidate, "predict") and not hasattr(candidate, "logits"):
        return (
            f"{name} is neither a torch module nor a scikit-learn estimator. For methods that need "
            "scores of the table only (permutation_importance, kernel_shap), make it look like an estimator: "
            "net = types.SimpleNamespace(classes_=(0, 1), n_features_in_=len(events.schema.globals), "
            "predict=model.predict, predict_proba=lambda x: np.column_stack([1 - p(x), p(x)])) with "
            f"p = lambda x: np.ravel(model.predict(x)), and wrap it, as in {TABLE.format('net')}"
        )
    return None
