"""Variations on a data-set card: shifted branches, expressions and weights for systematic uncertainties."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from hepxai.cards import Card, Place, entry_error, nearest
from hepxai.datasets.expressions import Expression
from hepxai.datasets.names import check_name

#: Components of momentum that an expression may shift together; the others follow from them.
BASES = (("pt", "eta", "phi", "mass"), ("px", "py", "pz", "mass"))
#: Prefixes of names in the expressions of variations: without and with the variation, before cuts.
NOMINAL, SHIFTED = "nominal", "shifted"
_FOLLOWS = ("energy", "log_pt", "sin_phi", "cos_phi", "index", "self", "type")


class Alternative(Card):
    """Changes to a card that belong together: exchanged branches, expressions, and a factor of the weight."""

    branches: dict[str, str] = Field(default_factory=dict)
    expressions: dict[str, Expression] = Field(default_factory=dict)
    weight: Expression | None = None

    @field_validator("branches")
    @classmethod
    def _patterns(cls, branches: dict[str, str]) -> dict[str, str]:
        for name, other in branches.items():
            if [n.count("{}") for n in (name, other)] not in ([0, 0], [1, 1]):
                text = f"found {other!r}; write two branches, or two patterns as in Jet_{{}}: Jet_{{}}_up"
                raise entry_error(text, name)
            if name == other:
                raise entry_error(f"{name!r} is exchanged for itself; name the shifted branch", name)
        return branches

    @property
    def content(self) -> list[str]:
        """Keys that are in use."""
        return [key for key in Alternative.model_fields if getattr(self, key)]


class Variation(Alternative):
    """Up and down alternative of a source of uncertainty, or a single one."""

    up: Alternative | None = None
    down: Alternative | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sides = [side for side in ("up", "down") if getattr(self, side) is not None]
        if len(sides) == 1:
            other = "down" if sides == ["up"] else "up"
            raise entry_error(
                f"{sides[0]} without {other}; write both, or for a single alternative the keys of {sides[0]} "
                "without that word",
                *sides,
            )
        if sides and self.content:
            raise entry_error("beside up and down; write it in both of them", self.content[0])
        checked: dict[tuple[str, ...], Alternative] = {(side,): getattr(self, side) for side in sides}
        for place, one in (checked or {(): self}).items():
            if not one.content:
                raise entry_error("changes nothing; write branches:, expressions: or weight:", *place)
        return self

    def alternatives(self, name: str) -> dict[str, tuple[Alternative, Place]]:
        """Alternatives by name (NAME_up, NAME_down; or NAME), and their entries of the card."""
        if self.up is None or self.down is None:
            return {name: (self, ("variations", name))}
        sides = {"up": self.up, "down": self.down}
        return {f"{name}_{s}": (one, ("variations", name, s)) for s, one in sides.items()}


class Shift(NamedTuple):
    """The alternative that a varied card applies, and its entry of the card."""

    branches: Mapping[str, str] = {}
    expressions: Mapping[str, str] = {}
    weight: str | None = None
    place: Place = ("variations",)

    def of_type(self, name: str) -> dict[str, str]:
        """Expressions of the quantities of a particle type."""
        prefix = f"{name}."
        return {k.removeprefix(prefix): e for k, e in self.expressions.items() if k.startswith(prefix)}


def shifts_of(variations: Mapping[str, Variation]) -> dict[str, Shift]:
    """Alternatives of all variations, by name."""
    named = [item for name, v in variations.items() for item in v.alternatives(name).items()]
    return {n: Shift(one.branches, one.expressions, one.weight, place) for n, (one, place) in named}


class CardNames(NamedTuple):
    """Names of a card that the expressions of its variations may redefine.

    Attributes
    ----------
    moving : mapping of str to bool
        Particle types; True for those with momenta.
    new_variables, globals : collection of str
    """

    moving: Mapping[str, bool]
    new_variables: Collection[str]
    globals: Collection[str]


def check_variations(variations: Mapping[str, Variation], chosen: str | None, card: CardNames) -> None:
    """Refuse variations that do not fit the rest of the card, and an unknown chosen one.

    Raises
    ------
    PydanticCustomError
    """
    names: set[str] = set()
    for name, variation in variations.items():
        check_name(name, "variations", name)
        for full, (one, place) in variation.alternatives(name).items():
            if full in names or full == NOMINAL:
                raise entry_error(f"{full!r} is taken; choose another name", "variations", name)
            names.add(full)
            _check_expressions(card, one, place)
    for kind, taken in {"particles": card.moving, "new_variables": card.new_variables}.items():
        for name in {NOMINAL, SHIFTED} & {*taken} if names else ():
            text = f"{name!r} has a meaning in the expressions of variations; choose another name"
            raise entry_error(text, kind, name)
    if problem := unknown_variation(chosen, names):
        raise entry_error(problem, "variation")


def unknown_variation(name: str | None, names: Collection[str]) -> str:
    """Text about a name that no variation has; empty for those that one has, and for None."""
    if name is None or name in names:
        return ""
    there = ", ".join(sorted(names)) or "none"
    return f"no variation {name!r}{nearest(str(name), names)}; there are {there}"


def _check_expressions(card: CardNames, one: Alternative, place: Place) -> None:
    by_type: dict[str, list[str]] = {}
    events = (*card.new_variables, *card.globals)
    for key in one.expressions:
        kind, dot, quantity = key.partition(".")
        if not dot and key not in events:
            hint = f"; write {key}.pt, say" if key in card.moving else nearest(key, events)
            text = f"neither new_variables nor globals has {key!r}{hint}"
            raise entry_error(text, *place, "expressions", key)
        if dot:
            _check_quantity(card, kind, quantity, (*place, "expressions", key))
            by_type.setdefault(kind, []).append(quantity)
    for kind, quantities in by_type.items():
        momenta = [q for q in quantities if any(q in basis for basis in BASES)]
        if not any(set(momenta) <= set(basis) for basis in BASES):
            text = f"found {', '.join(momenta)}; write {' or '.join(', '.join(b) for b in BASES)}, not both"
            raise entry_error(text, *place, "expressions", f"{kind}.{momenta[-1]}")


def _check_quantity(card: CardNames, kind: str, quantity: str, place: Place) -> None:
    if kind not in card.moving:
        hint = f"{nearest(kind, card.moving)}; there are {', '.join(card.moving)}"
        raise entry_error(f"no particle type {kind!r}{hint}", *place)
    if quantity in _FOLLOWS:
        text = f"{quantity!r} follows from the others; for a scale of energy write {kind}.pt and {kind}.mass"
        raise entry_error(text, *place)
    if not card.moving[kind] and any(quantity in basis for basis in BASES):
        raise entry_error(f"{kind} has no momenta (momenta: none); shift one of its features", *place)
