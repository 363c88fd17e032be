"""Form of a method: one field for each of its settings, from their types, limits and documentation."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import PlainValidator
from pydantic.fields import FieldInfo

from hepxai.cards import parse_value
from hepxai.explainers import EXPLAINERS

SLIDER = 1000
"""Largest range of whole numbers that is a slider."""


@dataclass(frozen=True)
class Entry:
    """One setting in a form.

    Attributes
    ----------
    name : str
    kind : str
        "choice", "switch", "whole", "number", "text".
    default : object
        None: chosen by the method.
    options : tuple
        Of a choice; of a text those that have a name.
    low, high : float, optional
    optional : bool
        True if the method chooses a value where none is given.
    about : str
        From the documentation of the method.
    """

    name: str
    kind: str
    default: Any
    options: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    optional: bool = False
    about: str = ""

    @property
    def is_slider(self) -> bool:
        """True if both ends are known and near."""
        if self.optional or self.low is None or self.high is None:
            return False
        return self.kind == "number" or self.high - self.low <= SLIDER

    def parse(self, text: str) -> Any:
        """Value of a text: a number, a name, or several numbers."""
        if not text.strip():
            return None if self.optional else self.default
        value = parse_value(f"[{text}]" if "," in text and text.strip()[:1] != "[" else text, self.name)
        return tuple(value) if isinstance(value, list) else value


def entries(method: str, layers: Sequence[str] = ()) -> list[Entry]:
    """Fields of a method's form; settings that are files, events or tables have none.

    Parameters
    ----------
    method : str
    layers : sequence of str
        Names for a setting ``layer``.
    """
    explainer = EXPLAINERS[method]
    about = descriptions(explainer)
    fields = ((n, f) for n, f in explainer.model_fields.items() if not f.exclude)
    every = (_entry(n, f, about.get(n, ""), layers) for n, f in fields)
    return [entry for entry in every if entry is not None]


def _entry(name: str, field: FieldInfo, about: str, layers: Sequence[str]) -> Entry | None:
    kinds, optional = _kinds(field.annotation)
    limits = [*field.metadata, *(m for a in _parts(field.annotation) for m in getattr(a, "__metadata__", ()))]
    low = next((float(getattr(m, "ge", getattr(m, "gt", 0))) for m in limits if isinstance(m, Ge | Gt)), None)
    high = next(
        (float(getattr(m, "le", getattr(m, "lt", 0))) for m in limits if isinstance(m, Le | Lt)), None
    )
    common: dict[str, Any] = {"default": field.default, "optional": optional, "about": about}
    if name == "layer":
        return Entry(name, "choice", options=(None, *layers), **common) if layers else None
    if literal := [k for k in kinds if get_origin(k) is Literal]:
        return Entry(name, "choice", options=((None,) if optional else ()) + get_args(literal[0]), **common)
    if kinds == [bool]:
        return Entry(name, "switch", **common)
    if kinds in ([int], [float]):
        return Entry(name, "whole" if kinds == [int] else "number", low=low, high=high, **common)
    if names := [n for m in field.metadata if isinstance(m, PlainValidator) for n in _names(m)]:
        return Entry(name, "text", options=tuple(names), **common)
    if (kinds == [str] and not optional) or any(get_origin(k) is tuple for k in kinds):  # others are files
        return Entry(name, "text", **common)
    return None


def _names(validator: PlainValidator) -> tuple[str, ...]:
    function: Any = validator.func
    return tuple(function.keywords.get("names", ())) if isinstance(function, partial) else ()


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _kinds(annotation: Any) -> tuple[list[Any], bool]:
    """Types of a setting without their limits, and whether it may be left to the method."""
    parts = _parts(annotation)
    plain = [get_args(p)[0] if hasattr(p, "__metadata__") else p for p in parts if p is not type(None)]
    return plain, type(None) in parts


_TITLE = re.compile(r"^(?P<names>\w+(?:, \w+)*)(?: : .*)?$")


def descriptions(explainer: type) -> dict[str, str]:
    """Text about each setting, from the documentation of the class and of those that it extends."""
    about: dict[str, str] = {}
    for kind in explainer.__mro__[:-1]:
        names: list[str] = []
        for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
            if title := _TITLE.match(line):
                names = [n for n in title["names"].split(", ") if about.get(n, "See ").startswith("See ")]
                about |= dict.fromkeys(names, "")
            elif line.startswith("    "):
                about |= {n: f"{about[n]} {line.strip()}".strip() for n in names}
            else:
                names = []
    return {name: text.replace("`", "") for name, text in about.items()}
