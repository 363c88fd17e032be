"""Targets that a run explains, and the names of the explanations."""

from __future__ import annotations

from collections.abc import Sequence

from hepxai.events import Schema
from hepxai.explainers import EXPLAINERS
from hepxai.explainers.methods import resolve_target
from hepxai.models.protocols import Model
from hepxai.models.target import REST, Target


def targets_by_name(
    method: str, model: Model, schema: Schema, targets: Sequence[str] | None, *, regression: bool
) -> dict[str, str]:
    """Targets to explain with a method, by the name of the explanation.

    The name is the method if one explanation covers all outputs, as for two classes.
    Otherwise ``METHOD_CLASS`` for "CLASS-rest", ``METHOD_C_vs_D`` for "C-D", and ``METHOD_TARGET`` for a
    target of a regression.

    Parameters
    ----------
    method : str
    model : Model
    schema : Schema
        Of the events.
    targets : sequence of str, optional
        By default "CLASS-rest" of each of several classes, the difference of two, and each target of a
        regression.
    regression : bool
    """
    explainer, outputs = EXPLAINERS[method], model.outputs
    if isinstance(targets, str):
        raise TypeError(f"targets={targets!r}: a list is needed, [{targets!r}]")
    if not explainer.tells_outputs_apart:
        return {method: outputs[0]}
    chosen = default_targets(outputs, schema, regression) if targets is None else targets
    resolved = [resolve_target(explainer, model, schema, target) for target in chosen]
    if targets is None and len(resolved) == 1:
        return {method: resolved[0]}
    return {_name(method, target, outputs): target for target in resolved}


def default_targets(outputs: Sequence[str], schema: Schema, regression: bool) -> Sequence[str]:
    """Targets that a run explains: the difference of two classes, each of several against the rest."""
    if regression or len(outputs) == 1:
        return outputs
    if len(outputs) == 2 and set(outputs) == set(schema.classes):
        return ["-".join(schema.classes[::-1])]
    return [f"{output}-{REST}" for output in outputs]


def _name(method: str, target: str, outputs: Sequence[str]) -> str:
    if len(outputs) == 1:
        return method
    weights = dict(zip(outputs, Target.of(outputs, target).weights, strict=True))
    one, other = (pick(weights, key=weights.__getitem__) for pick in (max, min))
    alone = target == one or target.rpartition("-")[2].strip() == REST
    return f"{method}_{one}" if alone else f"{method}_{one}_vs_{other}"
