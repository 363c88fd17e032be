"""The settings of a data set's simulation: where they are, and what they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hepxai.cards import CardError, find_card, list_cards
from hepxai.simulate.config import ConfigError, kind_of
from hepxai.simulate.run import SampleResult


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
        found = find_card("datasets", name_or_path).with_name("simulate.yaml")
    except CardError:
        shelves = dict.fromkeys(card.parents[1] for card in list_cards("datasets").values())
        folders = (Path(name_or_path), *(shelf / name_or_path for shelf in shelves))
        found = next((f / "simulate.yaml" for f in folders if (f / "simulate.yaml").is_file()), Path())
        if found == Path():
            raise
    if not found.is_file():
        raise FileNotFoundError(f"{found}: this data set has no generator settings")
    return found


def generator_of(settings: Path) -> Callable[..., dict[str, SampleResult]]:
    """The function that makes what the settings describe.

    Raises
    ------
    ConfigError
        If nothing makes that kind of data set.
    """
    kind = kind_of(settings)
    if kind == "spectrometer":
        from hepxai.simulate.spectrometer import simulate_patterns

        return simulate_patterns
    if kind == "multijet":
        from hepxai.simulate.multijet import simulate_multijet

        return simulate_multijet
    if kind == "pythia":
        from hepxai.simulate import simulate

        return simulate
    raise ConfigError(f"{settings}: kind: found {kind!r}; multijet, spectrometer, or no such key for Pythia")
