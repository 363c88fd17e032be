"""Targets that a run explains, and the names of the explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hepxai.explainers import EXPLAINERS
from hepxai.explainers.methods import resolve_target
from hepxai.models.target import REST, Target


def targets_by_name(method: str, model: Any, targets: Sequence[str] | None) -> dict[str, str]:
    """Targets to explain with a method, by the name of the explanation.

    That is the method itself where all outputs have one explanation. Otherwise ``METHOD_CLASS`` for
    "CLASS-rest", ``METHOD_C_vs_D`` for "C-D", and ``METHOD_TARGET`` for a target of a regression.

    Parameters
    ----------
    method : str
    model : Model
        With card and schema.
    targets : sequence of str, optional
        By default "CLASS-rest" of each of several classes, and each target of a regression.
    """
    explainer, outputs = EXPLAINERS[method], model.outputs
    if isinstance(targets, str):
        raise TypeError(f"targets={targets!r}: a list is needed, [{targets!r}]")
    if not explainer.tells_outputs_apart:
        return {method: outputs[0]}
    if targets is None:
        contrasts = len(outputs) > 1 and not model.card.training.regression
        targets = [f"{output}-{REST}" for output in outputs] if contrasts else outputs
    resolved = [resolve_target(explainer, model, model.schema, target) for target in targets]
    return {_name(method, target, outputs): target for target in resolved}


def _name(method: str, target: str, outputs: Sequence[str]) -> str:
    if len(outputs) == 1:
        return method
    weights = dict(zip(outputs, Target.of(outputs, target).weights, strict=True))
    one, other = (pick(weights, key=weights.__getitem__) for pick in (max, min))
    alone = target == one or target.rpartition("-")[2].strip() == REST
    return f"{method}_{one}" if alone else f"{method}_{one}_vs_{other}"
