"""Settings of the jet images; GeV."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from hepxai.simulate.settings import (
    Constituent,
    Fraction,
    NonNegative,
    Part,
    Positive,
    Production,
    PythiaSample,
    Resolution,
    Settings,
    rising,
)


class Origin(Settings):
    """Particle that the jet has to come from.

    Attributes
    ----------
    particles : tuple of int
        PDG numbers without sign. The nearest of the outgoing particles of the hard process to the jet, within
        its radius, has to be one of them.
    quarks : int
        Quarks of its decay that have to lie within ``contained`` times the radius of the jet.
    contained : float
    """

    particles: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    quarks: Annotated[int, Field(ge=0, le=3)] = 0
    contained: Annotated[Fraction, Field(gt=0)] = 0.8


class JetSample(PythiaSample):
    """Process, and the origin of its jets."""

    origin: Origin
    part_name = "process"

    @property
    def parts(self) -> tuple[Part, ...]:
        """The process itself."""
        return (Part(name=self.cmnd, settings=()),)


class Calorimeter(Settings):
    """Towers of one calorimeter: relative energy resolution, smallest pt, and the step of its digits.

    The resolution is that of the sum of one tower, ``constant`` and ``stochastic / sqrt(E)``.
    """

    resolution: Resolution
    pt_min: NonNegative
    step: Positive


class Towers(Settings):
    """Square of ``number`` x ``number`` towers of ``width`` in eta and phi, with the jet in its middle."""

    number: Annotated[int, Field(ge=2, le=200)]
    width: Positive
    em: Calorimeter
    had: Calorimeter


class JetSelection(Settings):
    """Jet that is drawn: the hardest of the event, anti-kt with this radius, in a range of pt and eta."""

    radius: Positive
    pt: Annotated[tuple[Positive, Positive], AfterValidator(rising)]
    abs_eta_max: Positive
    constituent: Constituent


class JetImageSettings(Production):
    """Everything that determines the jet images."""

    kind: Literal["jet_images"]
    chunk_events: Annotated[int, Field(ge=1, le=5000)]
    samples: dict[str, JetSample] = Field(min_length=1)
    jet: JetSelection
    towers: Towers
