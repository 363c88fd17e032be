"""Settings of the charged-Higgs events; GeV."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hepxai.simulate.settings import (
    Btag,
    Efficiency,
    Jet,
    NonNegative,
    Part,
    Positive,
    Production,
    PythiaSample,
    Settings,
    Smeared,
)


class Isolation(Settings):
    """Largest sum of hadron and photon pt in a cone, relative to the lepton's pt."""

    cone: Positive
    maximum: Positive


class Lepton(Smeared):
    """Acceptance, efficiency, resolution and isolation of electrons or muons."""

    efficiency: Efficiency
    dressing_cone: NonNegative
    isolation: Isolation


class Met(Settings):
    """Missing transverse momentum: smallest pt of its jets, resolution of the soft term."""

    jet_pt_min: Positive
    soft_resolution: NonNegative


class Detector(Settings):
    """The parametrised detector."""

    electron: Lepton
    muon: Lepton
    jet: Jet
    btag: Btag
    met: Met


class Selection(Settings):
    """Event selection, in the order in which the cut flow counts it."""

    electrons: Annotated[int, Field(ge=0)]
    muons: Annotated[int, Field(ge=2)]
    opposite_charge: bool
    mass_mumu_min: NonNegative
    jets_min: Annotated[int, Field(ge=0)]
    bjets_min: Annotated[int, Field(ge=0)]


class ChannelSample(PythiaSample):
    """Process and decay channels.

    ``resonance`` is the PDG number of the particle whose muons get ``Muon_fromResonance``.
    """

    resonance: Annotated[int, Field(ge=1)]
    channels: tuple[Part, ...] = Field(min_length=1)
    part_name = "channel"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Decay channels."""
        return self.channels


class ChargedHiggsSettings(Production):
    """Everything that determines the charged-Higgs events."""

    chunk_events: Annotated[int, Field(ge=1, le=5000)]
    samples: dict[str, ChannelSample] = Field(min_length=1)
    detector: Detector
    selection: Selection
