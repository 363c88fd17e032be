"""Settings of the multijet events; GeV."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hepxai.simulate.settings import (
    Btag,
    Efficiency,
    Jet,
    NonNegative,
    Part,
    Positive,
    Production,
    PythiaSample,
    Resolution,
    Settings,
    Smeared,
)


def _falling(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(a < b for a, b in pairwise(values)):
        raise ValueError("the values must not rise from one to the next")
    return values


class Slice(Part):
    """Slice of the phase space with ``events`` hard processes in each chunk."""

    events: Annotated[int, Field(ge=1, le=200_000)]


class SlicedSample(PythiaSample):
    """Process and slices."""

    slices: tuple[Slice, ...] = Field(min_length=1)
    part_name = "slice"

    @property
    def parts(self) -> tuple[Slice, ...]:
        """Slices."""
        return self.slices


class Veto(Settings):
    """Condition for events that may still pass the selection; the others are abandoned early.

    The partons at the ``scale`` of the shower, and those at its end, are clustered into jets with
    ``|y| < abs_y_max``. The n-th hardest needs the n-th entry of ``jets_pt``, and all that are above the last
    entry need ``ht_min`` together.
    """

    scale: Positive
    abs_y_max: Positive
    jets_pt: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_falling)]
    ht_min: NonNegative


class Tracks(Smeared):
    """Measured charged constituents."""

    efficiency: Efficiency


class Fractions(Settings):
    """Energy resolution of the electromagnetic and hadron calorimeters and of muons."""

    em: Resolution
    hadron: Resolution
    muon: Resolution


class QuarkGluon(Settings):
    """Log likelihood ratio of quark and gluon jets, linear in logarithms; its logistic function is the score.

    Natural logarithms of 1 + the number of tracks, of the width + 0.01, and of pt / 100 GeV.
    """

    intercept: float
    log_tracks: float
    log_width: float
    pt_d: float
    log_pt: float
    log_tracks_log_pt: float
    log_width_log_pt: float


class Detector(Settings):
    """The parametrised detector."""

    jet: Jet
    btag: Btag
    tracks: Tracks
    fractions: Fractions
    quark_gluon: QuarkGluon


class Selection(Settings):
    """Event selection: number of jets and their scalar sum of pt."""

    jets_min: Annotated[int, Field(ge=0)]
    ht_min: NonNegative


class MultijetSettings(Production):
    """Everything that determines the multijet events."""

    kind: Literal["multijet"]
    samples: dict[str, SlicedSample] = Field(min_length=1)
    veto: Veto
    detector: Detector
    selection: Selection
