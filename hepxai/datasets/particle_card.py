"""Particle types on a data-set card: branches, cuts, features, truth and detector resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hepxai.cards import Card, entry_error
from hepxai.datasets.expressions import Expression, names_in
from hepxai.datasets.names import check_name, require
from hepxai.datasets.short_forms import Feature, Steps, listed
from hepxai.events.momenta import NODE_FEATURES

KINEMATICS = ("pt", "eta", "phi", "mass", "energy", "px", "py", "pz")

#: Pattern or object, or the branch or expression of each quantity.
Source = str | dict[str, Expression]


class Resolutions(Card):
    """Detector resolution: σ(pt) [GeV], σ(η), σ(φ) as numbers or expressions of the particle; acceptance."""

    pt: Expression
    eta: Expression
    phi: Expression
    max_eta: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Particle(Card):
    """One particle type: branches, cuts, order, further features and truth."""

    branches: Annotated[tuple[Source, ...], BeforeValidator(listed, Source | list[Source])]
    momenta: Literal["none"] | None = None
    mass: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cuts: Steps = Field(default_factory=dict)
    order_by: Expression = "-pt"
    max: int | None = Field(default=None, ge=1)
    features: dict[str, Feature] = Field(default_factory=dict)
    truth: dict[str, Expression] = Field(default_factory=dict)
    resolutions: Resolutions | None = None

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the features that the particles have."""
        return (*self.features, *(NODE_FEATURES if self.momenta is None else ()))

    def collection(self, name: str) -> str:
        """Prefix of the branches; the name of the type where they share none."""
        if len(self.branches) > 1:
            return name
        one = self.branches[0]
        text = one.partition("{}")[0] if isinstance(one, str) else next(iter(one.values())).rpartition("_")[0]
        prefix = text.rstrip("_.")
        return prefix if prefix.isidentifier() else name  # an expression has no prefix

    @model_validator(mode="before")
    @classmethod
    def _order_of_the_file(cls, data: Any) -> Any:
        """Without momenta there is no pt to order by."""
        without = isinstance(data, Mapping) and data.get("momenta") == "none"
        return {"order_by": "index", **data} if without else data

    @field_validator("branches")
    @classmethod
    def _patterns(cls, sets: tuple[str | dict[str, str], ...]) -> tuple[str | dict[str, str], ...]:
        if not sets:
            raise ValueError("no branches; write a pattern such as Muon_{}")
        for one in (s for s in sets if isinstance(s, str)):
            braces = one.count("{"), one.count("}"), one.count("{}")
            if braces != (1, 1, 1) and (any(braces) or one[-1:] in ("", "_")):
                raise ValueError(
                    f"found {one!r}; a pattern has one {{}} for pt, eta ..., such as Muon_{{}}, "
                    "and no other braces; an object such as a TLorentzVector is given by its name"
                )
        return sets

    @field_validator("features", "truth")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if name in (*KINEMATICS, *NODE_FEATURES, "type", "index"):
                raise entry_error(f"{name!r} is computed from the momenta; choose another name", name)
            check_name(name, name)
        return named


def check_resolutions(particles: Mapping[str, Particle], node_features: Sequence[str]) -> None:
    """Refuse resolutions of particles without momenta, of unknown quantities, and below 0.

    Parameters
    ----------
    particles : mapping of str to Particle
        Types of the card.
    node_features : sequence of str
        Features that the card lists.
    """
    for name, particle in particles.items():
        if particle.resolutions is None:
            continue
        if particle.momenta == "none":
            raise entry_error("without momenta; leave it out", "particles", name, "resolutions")
        names = dict.fromkeys((*NODE_FEATURES, *node_features))
        for quantity, text in particle.resolutions.model_dump(include={"pt", "eta", "phi"}).items():
            place = ("particles", name, "resolutions", quantity)
            for variable in names_in(text):
                require("quantity of a particle", variable, names, *place)
            if text.startswith("-"):
                raise entry_error(f"found {text}; a resolution is not below 0", *place)
