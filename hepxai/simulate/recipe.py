"""Recipe of a simulated sample: settings, versions and code that determine its events, with their hashes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepxai import __version__
from hepxai.core.files import sha256
from hepxai.core.fingerprint import fingerprint
from hepxai.simulate.chunk import Simulation
from hepxai.simulate.generator import import_generator
from hepxai.simulate.output import read_provenance


class OutputExistsError(FileExistsError):
    """Existing output file that differs from the one of this run."""


def recipe_of(simulation: Simulation[Any]) -> dict[str, Any]:
    """Everything that influences the events of one sample, as it is stored with them.

    Two runs with equal recipes, ``recipe`` being the hash of all ``parts``, give equal events. Chunks of
    different recipes are never mixed.

    Raises
    ------
    MissingExtraError
        Without a package that the simulation needs.
    """
    for package in simulation.packages:
        import_generator(package)
    versions = {name: importlib.metadata.version(name) for name in simulation.packages}
    settings = simulation.settings.settings_of(simulation.sample)
    parts = {
        "settings": fingerprint(settings),
        "package versions": fingerprint(versions),
        "simulation code": _code(type(simulation)),
    }
    return {
        "sample": simulation.sample,
        "recipe": fingerprint(parts),
        "parts": parts,
        "hepxai": __version__,
        "versions": versions,
        "settings": settings,
    }


def _code(kind: type[Simulation[Any]]) -> str:
    """Hash of the modules that all simulations share, and of those beside this one's."""
    here = Path(__file__).parent
    folder = here / kind.__module__.split(".")[-2]
    files = sorted((*here.glob("*.py"), *folder.glob("*.py")))
    return fingerprint({str(file.relative_to(here)): sha256(file) for file in files})


def check_output(path: Path, recipe: Mapping[str, Any], events: int) -> dict[str, Any] | None:
    """Provenance of the output if an equal run wrote it; None if it may be written.

    Raises
    ------
    OutputExistsError
        If a file is there that this run must not replace; the message says why and what to do.
    """
    if not path.exists():
        return None
    remedy = "move or delete it, or choose another output folder"
    try:
        stored = read_provenance(path)
    except ValueError:
        raise OutputExistsError(f"{path} exists and is not a simulated sample: {remedy}") from None
    if differing := [k for k, v in recipe["parts"].items() if stored.get("parts", {}).get(k) != v]:
        raise OutputExistsError(f"{path} exists and was made with other {' and '.join(differing)}: {remedy}")
    if stored["requested"] > events:
        raise OutputExistsError(f"{path} holds more events ({stored['selected']}) than asked: {remedy}")
    return stored if stored["requested"] == events else None
