"""Settings of a simulation, read from ``simulate.yaml``: their base, and the parts that several share."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from hepxai.cards import Card

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Settings(Card):
    """Base of all settings: immutable, finite numbers, unknown keys are errors."""

    model_config = ConfigDict(allow_inf_nan=False)


class Sample(Settings):
    """One output file with a run number of its own."""

    run: Annotated[int, Field(ge=1, lt=2**32)]


class Part(Settings):
    """Decay channel or slice of the phase space, as Pythia settings on top of the sample's."""

    name: str
    settings: tuple[str, ...]


class PythiaSample(Sample):
    """Sample from Pythia; ``commands`` is the text of the file ``cmnd``, filled in by `load_settings`."""

    cmnd: str
    commands: str = ""
    part_name: ClassVar[str]

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """Decay channels or slices."""


class Production(Settings):
    """Base of everything that determines simulated events."""

    seed: Annotated[int, Field(ge=0)]
    samples: dict[str, Any] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct_runs(self) -> Self:
        runs = [s.run for s in self.samples.values()]
        if len(set(runs)) < len(runs):
            raise ValueError(f"two samples share a run number: {runs}; event identities would repeat")
        return self

    def settings_of(self, sample: str) -> dict[str, Any]:
        """All settings that influence one sample, ready for JSON."""
        return self.model_dump(mode="json", exclude={"samples": {s for s in self.samples if s != sample}})

    def with_commands(self, folder: Path) -> Self:
        """Copy in which Pythia's samples have the text of their ``cmnd`` files, which lie in ``folder``.

        Raises
        ------
        CardError
            If there is no such file.
        """
        samples = dict(self.samples)
        for name, sample in self.samples.items():
            if isinstance(sample, PythiaSample):
                file = folder / sample.cmnd
                if not file.is_file():
                    raise self.error(("samples", name, "cmnd"), f"no generator settings at {file}")
                samples[name] = sample.model_copy(update={"commands": file.read_text(encoding="utf-8")})
        return self.model_copy(update={"samples": samples})


def rising(values: tuple[float, ...]) -> tuple[float, ...]:
    """Validator of values in strictly rising order."""
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError("the values must rise from one to the next")
    return values


# --- parts of a detector that measures leptons and jets ------------------------------------------


class Efficiency(Settings):
    """Turn-on curve ``plateau * (1 + erf((pt - half_point) / width)) / 2``; GeV."""

    plateau: Fraction
    half_point: float
    width: Positive


class Resolution(Settings):
    """Relative resolution of pt up to ``abs_eta_max``; the terms add in quadrature.

    ``constant``, ``stochastic / sqrt(pt)``, ``noise / pt`` and ``linear * pt``, with pt in GeV.
    """

    abs_eta_max: Positive
    constant: NonNegative = 0.0
    stochastic: NonNegative = 0.0
    noise: NonNegative = 0.0
    linear: NonNegative = 0.0


class Smeared(Settings):
    """Acceptance, and relative resolutions that cover it in rising bins of |eta|."""

    pt_min: Positive
    abs_eta_max: Positive
    resolution: tuple[Resolution, ...] = Field(min_length=1)

    @field_validator("resolution")
    @classmethod
    def _ascending(cls, bins: tuple[Resolution, ...]) -> tuple[Resolution, ...]:
        edges = [b.abs_eta_max for b in bins]
        if edges != sorted(set(edges)):
            raise ValueError(f"abs_eta_max must rise from bin to bin, got {edges}")
        return bins

    @model_validator(mode="after")
    def _covered(self) -> Self:
        if self.resolution[-1].abs_eta_max < self.abs_eta_max:
            raise ValueError(f"the resolution bins end below abs_eta_max = {self.abs_eta_max}")
        return self


class Constituent(Settings):
    """Acceptance for stable particles."""

    pt_min: NonNegative
    abs_eta_max: Positive


class Jet(Smeared):
    """Anti-kt jets: radius, acceptance, resolution, distance from leptons."""

    radius: Positive
    angular_resolution: NonNegative
    constituent: Constituent
    lepton_distance: NonNegative


class TagShape(Settings):
    """Score of one flavour.

    The efficiency at the threshold is ``plateau * tanh(pt / turn_on) * (1 + slope * pt)``, pt in GeV;
    ``spread`` is the width of the Gaussian that the logistic function turns into a score.
    """

    plateau: Fraction
    turn_on: Positive
    slope: float
    spread: Positive


class Btag(Settings):
    """Working point and score shapes of the b-tagger."""

    threshold: Annotated[float, Field(gt=0, lt=1)]
    b: TagShape
    c: TagShape
    light: TagShape
