"""Entries of a data-set card about figures and reports: pair in focus, experiment label, expected yields."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hepxai.cards import Card, entry_error
from hepxai.core.binning import Scale, checked_edges

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Focus(Card):
    """Pair and observer of the physics question; the report begins with them.

    Attributes
    ----------
    pair : tuple of two str
        Particle types.
    observer : str, optional
        Against which the profile of the pair is drawn.
    edges : tuple of float, optional
        Bin edges of the profile, in the unit of the observer; by default bins that resolve the narrowest
        class.
    scale : str
        Of the axis of the observer: "linear" or "log".
    """

    pair: tuple[str, str]
    observer: str | None = None
    edges: tuple[float, ...] | None = None
    scale: Scale = "linear"

    @model_validator(mode="after")
    def _binning(self) -> Self:
        given = {"edges": self.edges is not None, "scale": self.scale != "linear"}
        for key in (key for key, is_given in given.items() if is_given and self.observer is None):
            raise entry_error(
                "a profile needs an observer; write observer: and its name, or leave it out", key
            )
        if self.edges is not None:
            try:
                checked_edges(self.edges, self.scale)
            except ValueError as problem:
                raise entry_error(str(problem), "edges") from None
        return self


class ExperimentLabel(Card):
    """Label of every figure, as mplhep draws it.

    Attributes
    ----------
    experiment : str
        In bold: CMS.
    text : str
        In italics, behind it: Simulation Preliminary.
    com : float, optional
        Centre-of-mass energy in TeV.
    lumi : float, optional
        Integrated luminosity in fb⁻¹.
    """

    experiment: str = ""
    text: str = ""
    com: Positive | None = None
    lumi: Positive | None = None

    @field_validator("experiment", "text")
    @classmethod
    def _short(cls, text: str) -> str:
        if len(text) > 40:
            raise entry_error(f"found {len(text)} characters; a label has at most 40")
        return text


class Yields(Card):
    """Meaning of the weights as expected event yields, for significances and limits.

    Attributes
    ----------
    unit : str
        Of the weights: "fb" or "pb" if the weights of a sample add up to its cross section before any cut,
        "events" if they add up to the expected number of events.
    lumi : float, optional
        Integrated luminosity in fb⁻¹, which cross sections are multiplied by; that of ``label`` by default.
    background_error : float
        Relative uncertainty of the background beside the statistical error of its simulation.
    """

    unit: Literal["fb", "pb", "events"]
    lumi: Positive | None = None
    background_error: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _without_use(self) -> Self:
        if self.unit == "events" and self.lumi is not None:
            raise entry_error("weights in events need no luminosity; leave it out, or write unit: fb", "lumi")
        return self
