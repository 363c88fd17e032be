"""Settings of a simulated data set: samples, detector, selection; read from YAML and validated."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """A settings file that cannot be used; the message names the file, the key and what is wrong."""


class Settings(BaseModel):
    """Base of all settings: immutable, finite numbers, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SettingsT = TypeVar("SettingsT", bound=Settings)


class Production(Settings):
    """Base of everything that determines simulated events: samples, each with a run number of its own."""

    samples: dict[str, Any]

    @model_validator(mode="after")
    def _distinct_runs(self) -> Self:
        runs = [s.run for s in self.samples.values()]
        if len(set(runs)) < len(runs):
            raise ValueError(f"two samples share a run number: {runs}; event identities would repeat")
        return self

    def settings_of(self, sample: str) -> dict[str, Any]:
        """All settings that influence one sample, ready for JSON."""
        return self.model_dump(mode="json", exclude={"samples": {s for s in self.samples if s != sample}})


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


class Isolation(Settings):
    """Largest sum of hadron and photon pt in a cone, relative to the lepton's pt."""

    cone: Positive
    maximum: Positive


def _ascending(bins: tuple[Resolution, ...]) -> tuple[Resolution, ...]:
    edges = [b.abs_eta_max for b in bins]
    if edges != sorted(set(edges)):
        raise ValueError(f"abs_eta_max must rise from bin to bin, got {edges}")
    return bins


class Smeared(Settings):
    """What is measured: acceptance, and relative resolutions that cover it in rising bins of |eta|."""

    pt_min: Positive
    abs_eta_max: Positive
    resolution: tuple[Resolution, ...] = Field(min_length=1)
    _ascending = field_validator("resolution")(_ascending)

    @model_validator(mode="after")
    def _covered(self) -> Self:
        if self.resolution[-1].abs_eta_max < self.abs_eta_max:
            raise ValueError(f"the resolution bins end below abs_eta_max = {self.abs_eta_max}")
        return self


class Lepton(Smeared):
    """Acceptance, efficiency, resolution and isolation of electrons or muons."""

    efficiency: Efficiency
    dressing_cone: NonNegative
    isolation: Isolation


class Constituent(Settings):
    """Which stable particles the detector sees."""

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


class Met(Settings):
    """Missing transverse momentum: which jets count as jets, and the soft term's resolution."""

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


class Channel(Settings):
    """One set of decays, as Pythia settings on top of the sample's."""

    name: str
    settings: tuple[str, ...]


class Sample(Settings):
    """One output file: process, decay channels, run number.

    ``resonance`` is the PDG number of the particle whose muons get ``Muon_fromResonance``.
    ``commands`` is the content of the ``cmnd`` file, filled in when the settings are read.
    """

    run: Annotated[int, Field(ge=1, lt=2**32)]
    cmnd: str
    resonance: Annotated[int, Field(ge=1)]
    channels: tuple[Channel, ...] = Field(min_length=1)
    commands: str = ""


class SimulationConfig(Production):
    """Everything that determines the simulated events."""

    seed: Annotated[int, Field(ge=0)]
    chunk_events: Annotated[int, Field(ge=1, le=5000)]
    samples: dict[str, Sample] = Field(min_length=1)
    detector: Detector
    selection: Selection


def digest(value: Any) -> str:
    """Hash of anything that JSON can hold, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def load_config(path: str | Path, *, seed: int | None = None) -> SimulationConfig:
    """Read and validate simulation settings.

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
    file, config = read_settings(path, SimulationConfig, seed=seed)
    samples = {
        n: s.model_copy(update={"commands": commands_of(file, n, s.cmnd)}) for n, s in config.samples.items()
    }
    return config.model_copy(update={"samples": samples})


def read_settings(
    path: str | Path, kind: type[SettingsT], *, seed: int | None = None
) -> tuple[Path, SettingsT]:
    """Settings of some kind, and the file they were in.

    Raises
    ------
    ConfigError
        Naming the file, the key, what was found and what is wrong with it.
    """
    file = _settings_file(Path(path))
    content = _read_yaml(file)
    if seed is not None:
        content["seed"] = seed
    try:
        return file, kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explain(file, error)) from None


def kind_of(path: str | Path) -> str:
    """What a ``simulate.yaml`` makes: its entry ``kind``, or ``pythia`` without one."""
    return str(_read_yaml(_settings_file(Path(path))).get("kind", "pythia"))


def _settings_file(path: Path) -> Path:
    file = path / "simulate.yaml" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; simulation settings are a simulate.yaml or its folder")
    return file


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected keys and values at the top, found {type(content).__name__}")
    return content


def commands_of(settings: Path, sample: str, name: str) -> str:
    """Content of the ``cmnd`` file ``name`` that a sample of the settings asks for.

    Raises
    ------
    ConfigError
        If it is not beside the settings.
    """
    cmnd = settings.parent / name
    if not cmnd.is_file():
        raise ConfigError(f"{settings}: samples.{sample}.cmnd: no generator settings at {cmnd}")
    return cmnd.read_text(encoding="utf-8")


def _explain(file: Path, error: ValidationError) -> str:
    lines = [
        f"  {'.'.join(map(str, e['loc'])) or '(top level)'}: {e['msg']}, found {_short(e['input'])}"
        for e in error.errors(include_url=False)
    ]
    return "\n".join([f"{file}: the simulation settings are not valid:", *lines])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
