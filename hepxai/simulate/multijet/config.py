"""Settings of the multijet events, read from ``simulate.yaml``; GeV."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hepxai.simulate.config import (
    Btag,
    Efficiency,
    Jet,
    NonNegative,
    Positive,
    Production,
    Resolution,
    Settings,
    Smeared,
    commands_of,
    read_settings,
)


def _falling(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(a < b for a, b in pairwise(values)):
        raise ValueError("the values must not rise from one to the next")
    return values


class Slice(Settings):
    """A part of the phase space, as Pythia settings on top of the sample's.

    ``events`` hard processes are generated in each chunk: the share of the slice.
    """

    name: str
    settings: tuple[str, ...]
    events: Annotated[int, Field(ge=1, le=200_000)]


class Sample(Settings):
    """One output file: process, slices, run number.

    ``commands`` is the content of the ``cmnd`` file, filled in when the settings are read.
    """

    run: Annotated[int, Field(ge=1, lt=2**32)]
    cmnd: str
    slices: tuple[Slice, ...] = Field(min_length=1)
    commands: str = ""


class Veto(Settings):
    """Which partons may still become a selected event; the others are given up early.

    The partons that are there when the shower comes down to ``scale``, and those at its end, are clustered
    into jets with ``|y| < abs_y_max``. The n-th hardest needs the n-th entry of ``jets_pt``, and all that are
    above the last entry need ``ht_min`` together.
    """

    scale: Positive
    abs_y_max: Positive
    jets_pt: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_falling)]
    ht_min: NonNegative


class Tracks(Smeared):
    """Charged constituents that are seen one by one."""

    efficiency: Efficiency


class Fractions(Settings):
    """Energy resolution of what deposits in the electromagnetic and hadron calorimeters and of muons."""

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


class MultijetConfig(Production):
    """Everything that determines the multijet events."""

    kind: Literal["multijet"]
    seed: Annotated[int, Field(ge=0)]
    samples: dict[str, Sample] = Field(min_length=1)
    veto: Veto
    detector: Detector
    selection: Selection


def load_multijet(path: str | Path, *, seed: int | None = None) -> MultijetConfig:
    """Read and validate the settings of multijet events.

    Parameters
    ----------
    path : path
        A YAML file, or a folder that holds ``simulate.yaml``. Generator settings (``cmnd``) are looked up
        beside it.
    seed : int, optional
        Replaces the seed of the file.

    Raises
    ------
    ConfigError
        Naming the file, the key, what was found and what is wrong with it.
    """
    file, config = read_settings(path, MultijetConfig, seed=seed)
    samples = {
        name: sample.model_copy(update={"commands": commands_of(file, name, sample.cmnd)})
        for name, sample in config.samples.items()
    }
    return config.model_copy(update={"samples": samples})
