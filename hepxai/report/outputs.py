"""Explained outputs in words: a logit, a contrast of logits, or a predicted target."""

from __future__ import annotations

from dataclasses import dataclass

from hepxai.events import Schema
from hepxai.models.target import Target
from hepxai.plots.scores import sides


@dataclass(frozen=True)
class ExplainedOutput:
    """Output that attributions add up to, in words.

    Attributes
    ----------
    name : str
        ``logit of signal``, ``logit of signal − mean of the others``, ``predicted pt [GeV]``.
    kind : str
        "logit", "contrast" or "prediction".
    sign : str
        Sentence on positive and negative values.
    favoured_class : str
        Class favoured by positive values; "" for a prediction.
    """

    name: str
    kind: str
    sign: str
    favoured_class: str = ""


def explained_output(schema: Schema, target: str) -> ExplainedOutput:
    """Output behind a target of an attribution, with the names of the schema."""
    if target in schema.targets:
        unit = dict(zip(schema.targets, schema.target_units, strict=True))[target]
        sign = f"Positive values raise the predicted {target}, negative ones lower it"
        units = f" [{unit}]" if unit else ""
        return ExplainedOutput(
            f"predicted {target}{units}", "prediction", f"{sign}{unit and f'; they are in {unit}'}."
        )
    if (contrast := _contrast(schema, target)) is not None:
        one, others = contrast
        rest = len(others) > 1
        name = f"logit of {one} − {'mean of the others' if rest else f'logit of {others[0]}'}"
        down = "the other classes" if rest else others[0]
        sign = f"Positive: towards {one}, away from {down}; negative: the other way."
        return ExplainedOutput(
            name, "contrast", f"{sign} Values add up to the {name}, relative to the reference.", one
        )
    signal, background = sides(schema)
    other = background if target == signal else signal
    sign = f"Positive values push the logit of {target} up, negative ones down, towards {other}."
    return ExplainedOutput(f"logit of {target}", "logit", sign, target)


def _contrast(schema: Schema, target: str) -> tuple[str, list[str]] | None:
    """Positive class and negative classes of a contrast; None for anything else."""
    try:
        weights = dict(zip(schema.classes, Target.of(schema.classes, target).weights, strict=True))
    except (KeyError, IndexError):
        return None
    up, down = ([n for n, w in weights.items() if w * s > 0] for s in (1, -1))
    return (up[0], down) if len(up) == 1 and down else None
