"""Settings of the muon spectrometer; GeV, metres, tesla."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from hepxai.simulate.settings import (
    Fraction,
    NonNegative,
    Positive,
    Production,
    Sample,
    Settings,
    rising,
)


def _sums_to_one(shares: tuple[float, ...]) -> tuple[float, ...]:
    if not np.isclose(sum(shares), 1.0, rtol=0, atol=1e-9):
        raise ValueError(f"the shares must add up to 1, these give {sum(shares):g}")
    return shares


Shares = Annotated[tuple[Fraction, ...], Field(min_length=1), AfterValidator(_sums_to_one)]
Range = Annotated[tuple[float, float], AfterValidator(rising)]
Radii = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(rising)]


class MuonSample(Sample):
    """Share of events with 0, 1, 2, 3 and 4 muons."""

    fractions: Annotated[Shares, Field(max_length=5)]


class MuonGun(Settings):
    """Flat ranges of pt (GeV) and eta, share of positive charge."""

    pt: Annotated[tuple[Positive, Positive], AfterValidator(rising)]
    eta: Range
    positive: Fraction


class Shell(Settings):
    """Annulus between two radii, m."""

    inner_radius: Positive
    outer_radius: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.inner_radius >= self.outer_radius:
            raise ValueError("inner_radius must be below outer_radius")
        return self


class Calorimeter(Shell):
    """Thickness (x/X0), mean energy loss (GeV) and its relative spread, at normal incidence."""

    radiation_lengths: Positive
    energy_loss: NonNegative
    straggling: NonNegative


class Toroid(Shell):
    """Azimuthal field ``field * inner_radius / r``, in T."""

    field: float


class CrossTalk(Settings):
    """Probability of one more strip, 2 to ``reach`` strips beyond an edge of the muon's cluster."""

    probability: Fraction
    reach: Annotated[int, Field(ge=2)]


class Layers(Settings):
    """Radii (m) and strips of the layers, and their response to a muon."""

    radii: Radii
    strips: Annotated[int, Field(ge=1, lt=2**15)]
    eta: Range
    efficiency: Fraction
    cluster_sizes: Shares
    cross_talk: CrossTalk


class Noise(Settings):
    """Probability of every strip to fire alone in an event."""

    strip_probability: Fraction


class Background(Settings):
    """Poisson mean of clusters per event, their sizes, and the relative rates of the layers."""

    clusters: NonNegative
    cluster_sizes: Shares
    layer_weights: tuple[NonNegative, ...]


class SpectrometerSettings(Production):
    """Everything that determines the muon patterns.

    With ``roads``, the files have the muon of each hit, and the range of each muon's hits.
    """

    kind: Literal["spectrometer"]
    chunk_events: Annotated[int, Field(ge=1, le=100_000)]
    roads: bool = False
    samples: dict[str, MuonSample] = Field(min_length=1)
    muon: MuonGun
    calorimeter: Calorimeter
    toroid: Toroid
    layers: Layers
    noise: Noise
    background: Background

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        weights, layers = self.background.layer_weights, len(self.layers.radii)
        if len(weights) != layers or sum(weights) <= 0:
            raise ValueError(f"background.layer_weights: {layers} weights wanted, at least one above 0")
        face = self.calorimeter.outer_radius
        if face > min(self.layers.radii[0], self.toroid.inner_radius):
            raise ValueError(f"the layers and the toroid must lie outside the calorimeter, r > {face} m")
        return self
