"""Kinds of simulations, and the settings that ask for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepxai.cards import CardError, find_card, list_cards, load_card
from hepxai.cards.text import read_card
from hepxai.simulate.charged_higgs.simulation import ChargedHiggs
from hepxai.simulate.chunk import Simulation
from hepxai.simulate.jet_images.simulation import JetImages
from hepxai.simulate.multijet.simulation import Multijet
from hepxai.simulate.settings import Production
from hepxai.simulate.spectrometer.simulation import Spectrometer

KINDS: dict[str, type[Simulation[Any]]] = {
    "pythia": ChargedHiggs,
    "multijet": Multijet,
    "jet_images": JetImages,
    "spectrometer": Spectrometer,
}
"""Simulations by the entry ``kind`` of their settings; the first has no such entry."""
FILE = "simulate.yaml"


def find_settings(name_or_path: str) -> Path:
    """``simulate.yaml`` of a data set: beside its card, or in a folder that has no card (yet).

    Raises
    ------
    CardError
        If there is no such data set.
    FileNotFoundError
        If it has no settings.
    """
    try:
        settings = find_card("datasets", name_or_path).with_name(FILE)
    except CardError:
        shelves = dict.fromkeys(card.parents[1] for card in list_cards("datasets").values())
        folders = (Path(name_or_path), *(shelf / name_or_path for shelf in shelves))
        if not (files := [f / FILE for f in folders if (f / FILE).is_file()]):
            raise
        return files[0]
    if not settings.is_file():
        raise FileNotFoundError(f"{settings}: this data set has no generator settings")
    return settings


def load_settings(path: str | Path, *, seed: int | None = None) -> Production:
    """Read and validate the settings of a simulation.

    Parameters
    ----------
    path : path
        A YAML file, or a folder that holds ``simulate.yaml``. Pythia's settings (``cmnd``) lie beside it.
    seed : int, optional
        Replaces the seed of the file.

    Raises
    ------
    CardError
        One line per problem: ``file.yaml:LINE: key: the value; the expected form``.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise CardError(f"{file}: no such file; simulation settings are a {FILE} or its folder")
    content, lines = read_card(file)
    kind = str(content.get("kind", "pythia"))
    if kind not in KINDS:
        raise CardError(
            f"{lines['kind',]}: kind: found {kind!r}; {', '.join(list(KINDS)[1:])}, or no such key for the "
            "charged-Higgs events"
        )
    overrides = [] if seed is None else [f"seed={seed}"]
    return load_card(file, KINDS[kind].settings_class, overrides).with_commands(file.parent)


def simulation_of(settings: Production, sample: str) -> Simulation[Any]:
    """Simulation of one sample."""
    kind = next(k for k in KINDS.values() if isinstance(settings, k.settings_class))
    return kind(settings, sample)
