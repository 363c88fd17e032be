"""Card of a model that the user's own Python makes: a record of what was scored, not a recipe to train."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hepxai.models.card import CommonTraining, ModelCard

KIND = "python"


class NoTraining(CommonTraining):
    """Training that no run has seen; a regression has the loss "mse"."""

    loss: Literal["cross_entropy", "mse"] = "cross_entropy"

    @property
    def regression(self) -> bool:
        """True if numbers are predicted, not classes."""
        return self.loss != "cross_entropy"


class PythonCard(ModelCard):
    """A model made by a function of the user; nothing in this card is ever executed.

    Attributes
    ----------
    file, function, sha256 : str, optional
        File of the function, its name, and the hash of the file; none of a model that was given as an object.
    modules : dict
        Hashes of the modules that the file loaded from its folder, by relative path.
    model : str
        Class of the model.
    settings : dict
        Its settings, as texts.
    view : str
    outputs : tuple of str
    regression : bool
        True if the outputs are the targets of the data-set card.
    """

    kind: Literal["python"] = "python"
    file: str | None = None
    function: str | None = None
    sha256: str | None = None
    modules: Mapping[str, str] = Field(default_factory=dict)
    model: str
    settings: Mapping[str, str] = Field(default_factory=dict)
    view: Literal["graph", "table", "image"]  # type: ignore[misc]
    outputs: tuple[str, ...]
    regression: bool = False
    training: Annotated[NoTraining, Field(exclude=True)] = NoTraining()

    @model_validator(mode="before")
    @classmethod
    def _training(cls, data: Any) -> Any:
        loss = "mse" if data.get("regression") else "cross_entropy"
        return {**data, "training": {"loss": loss}}

    @property
    def source(self) -> str:
        """Argument of ``--model``; the class of a model that was given as an object."""
        return f"{self.file}:{self.function}" if self.file else self.model


def settings_of(model: object) -> dict[str, str]:
    """Settings of a wrapped model: modules and estimators by class, functions by name, others as texts."""
    if not dataclasses.is_dataclass(model):
        return {}
    values = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.name != "schema"}
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, str | int | float | tuple | list):
        return str(value)
    if inspect.isfunction(value):
        return value.__qualname__
    parameters = getattr(value, "parameters", None)
    size = f", {sum(p.numel() for p in parameters()):,} parameters" if callable(parameters) else ""
    return f"{type(value).__name__}{size}"
