"""What determines a simulated sample, as hashes: settings, versions, code."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepxai import __version__
from hepxai.core.files import sha256
from hepxai.simulate.config import SimulationConfig, digest
from hepxai.simulate.generator import import_generator
from hepxai.simulate.output import read_provenance

_PACKAGES = ("pythia8mc", "fastjet", "awkward", "numpy", "scipy")
# The modules that decide what the events are; a change in another one leaves finished chunks valid.
_SOURCES = (
    "chunk",
    "collection",
    "generator",
    "jets",
    "leptons",
    "reconstruction",
    "response",
    "selection",
    "truth",
)


class OutputExistsError(FileExistsError):
    """The output file is there and is not what this run would write."""


@dataclass(frozen=True)
class Recipe:
    """Everything that influences the events of one sample.

    Two runs with equal recipes give equal events; chunks of different recipes are never mixed.
    """

    sample: str
    settings: dict[str, Any]
    versions: dict[str, str]
    code: str

    @property
    def parts(self) -> dict[str, str]:
        """Hash of every part, by what to tell the user about it."""
        return {
            "settings": digest(self.settings),
            "package versions": digest(self.versions),
            "simulation code": self.code,
        }

    @property
    def key(self) -> str:
        """Hash of all parts."""
        return digest(self.parts)

    def provenance(self) -> dict[str, Any]:
        """The recipe as it is stored with the events."""
        return {
            "sample": self.sample,
            "recipe": self.key,
            "parts": self.parts,
            "hepxai": __version__,
            "versions": self.versions,
            "settings": self.settings,
        }


def recipe_of(config: SimulationConfig, sample: str) -> Recipe:
    """Recipe of one sample with the installed packages."""
    for package in ("pythia8mc", "fastjet"):
        import_generator(package)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    code = {name: sha256(Path(__file__).with_name(f"{name}.py")) for name in _SOURCES}
    return Recipe(sample, config.settings_of(sample), versions, digest(code))


def check_output(path: Path, recipe: Recipe, events: int) -> dict[str, Any] | None:
    """Provenance of the output if this very run has made it before; None if it may be written.

    Raises
    ------
    OutputExistsError
        If a file is there that this run must not replace; the message says why and what to do.
    """
    if not path.exists():
        return None
    remedy = "move or delete it, or choose another output folder"
    try:
        found = read_provenance(path)
    except ValueError:
        raise OutputExistsError(f"{path} exists and is not a simulated sample: {remedy}") from None
    if differing := [k for k, v in recipe.parts.items() if found.get("parts", {}).get(k) != v]:
        raise OutputExistsError(f"{path} exists and was made with other {' and '.join(differing)}: {remedy}")
    if found["requested"] > events:
        raise OutputExistsError(f"{path} holds more events ({found['selected']}) than asked: {remedy}")
    return found if found["requested"] == events else None
