"""Settings of the muon spectrometer; GeV, metres, tesla."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, PositiveInt, model_validator

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
SettingsT = TypeVar("SettingsT", bound=Settings)


class MuonGun(Settings):
    """Flat ranges of pt (GeV) and eta, share of positive charge."""

    pt: Annotated[tuple[Positive, Positive], AfterValidator(rising)]
    eta: Range
    positive: Fraction


class GunChanges(Settings):
    """Entries of the muon gun that one sample replaces."""

    pt: Annotated[tuple[Positive, Positive], AfterValidator(rising)] | None = None
    eta: Range | None = None
    positive: Fraction | None = None


class BackgroundChanges(Settings):
    """Entries of the background that one sample replaces."""

    clusters: NonNegative | None = None


class Shower(Settings):
    """Hits around every muon in consecutive layers that it crosses, from a random one outwards.

    ``hits`` is the Poisson mean of their number in each of the ``layers``, ``width`` the standard deviation
    of their distance from the muon, in strips.
    """

    hits: Positive
    layers: PositiveInt
    width: Positive


class Patch(Settings):
    """Rectangle of neighbouring layers and strips, at another random place in every event."""

    layers: PositiveInt
    strips: PositiveInt


class HotPatch(Patch):
    """Rectangle in which every strip fires with probability ``occupancy``."""

    occupancy: Annotated[float, Field(gt=0, le=1)]


class MuonSample(Sample):
    """Share of events with 0, 1, 2, 3 and 4 muons, and what sets a sample apart from the others.

    Attributes
    ----------
    fractions : tuple of float
    muon, background : optional
        Entries that replace those of all samples.
    shower : Shower, optional
    hot, dead : optional
        Rectangle of strips that fire by themselves, and one of strips that never fire.
    """

    fractions: Annotated[Shares, Field(max_length=5)]
    muon: GunChanges = GunChanges()
    background: BackgroundChanges = BackgroundChanges()
    shower: Shower | None = None
    hot: HotPatch | None = None
    dead: Patch | None = None

    @model_validator(mode="after")
    def _one_fault_and_muons_for_showers(self) -> Self:
        if self.hot and self.dead:
            raise ValueError("a sample has hot strips or dead ones, not both; leave one of the two out")
        if self.shower and sum(self.fractions[1:]) == 0:
            raise ValueError("a shower surrounds a muon, this sample has none; give fractions with muons")
        return self


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
        for name, sample in self.samples.items():
            for patch in (sample.hot, sample.dead):
                if patch and (patch.layers > layers or patch.strips > self.layers.strips):
                    size, most = f"{patch.layers} x {patch.strips}", f"{layers} x {self.layers.strips}"
                    raise ValueError(f"samples.{name}: a patch of {size} strips, there are {most}")
        return self

    @property
    def has_faults(self) -> bool:
        """True if a sample has showers or faults: the files of all samples then hold their truth."""
        return any(s.shower or s.hot or s.dead for s in self.samples.values())

    def gun(self, sample: str) -> MuonGun:
        """Muon gun of a sample."""
        return _changed(self.muon, self.samples[sample].muon)

    def background_of(self, sample: str) -> Background:
        """Background of a sample."""
        return _changed(self.background, self.samples[sample].background)

    def settings_of(self, sample: str) -> dict[str, Any]:
        """All settings that influence one sample, ready for JSON, without those that change nothing."""
        others = {s for s in self.samples if s != sample}
        return self.model_dump(mode="json", exclude={"samples": others}, exclude_defaults=True)


def _changed(common: SettingsT, changes: Settings) -> SettingsT:
    return common.model_copy(update=changes.model_dump(exclude_none=True))
