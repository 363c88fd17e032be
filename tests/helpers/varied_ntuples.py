"""Small ntuples with branches of variations, and events of cards with and without variations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import yaml
from ntuples import CARD, make_columns, write_ttree

from hepxai.cards import load_card
from hepxai.datasets import DatasetCard, read
from hepxai.events import Events

Columns = dict[str, Any]
FILES = (("signal", 130, 1), ("background", 90, 2))
JETS = "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"
SCALE = {
    "jet.pt": "pt * {0}",
    "jet.mass": "mass * {0}",
    "met.px": "px - sum(shifted.jet.px - nominal.jet.px)",
    "met.py": "py - sum(shifted.jet.py - nominal.jet.py)",
}


def columns_of(n: int, seed: int) -> Columns:
    """Columns with shifted branches of jets and missing momentum, and varied weights."""
    columns, rng = make_columns(n, seed), np.random.default_rng(seed + 100)
    for name in ("Jet_pt", "Jet_mass", "MET_pt", "genWeight"):
        for side in ("Up", "Down"):
            values = columns[name]
            flat = ak.to_numpy(ak.flatten(values)) if isinstance(values, ak.Array) else values
            moved = (flat * rng.normal(1, 0.2, len(flat))).astype(np.float32)
            is_list = isinstance(values, ak.Array)
            columns[f"{name}_jes{side}"] = ak.unflatten(moved, ak.num(values)) if is_list else moved
    return columns


def folder(path: Path, change: Callable[[Columns], Columns] = lambda c: c, write: Any = write_ttree) -> Path:
    """Folder with the files of the card, changed by hand."""
    path.mkdir(exist_ok=True)
    for name, n, seed in FILES:
        write(path / f"{name}.root", change(columns_of(n, seed)))
    return path


def card_in(path: Path, variations: Any, *overrides: str, text: str = CARD) -> DatasetCard:
    (path / "card.yaml").write_text(text + yaml.safe_dump({"variations": variations}, sort_keys=False))
    return load_card(path / "card.yaml", DatasetCard, overrides)


def plain(path: Path, *overrides: str, text: str = CARD) -> Events:
    """Events of the card without variations."""
    (path / "plain.yaml").write_text(text)
    return read(load_card(path / "plain.yaml", DatasetCard, overrides)).events


def varied(path: Path, alternative: Any, *overrides: str, text: str = CARD) -> Events:
    card = card_in(path, {"one": alternative}, *overrides, text=text)
    return read(card.varied("one")).events


def need_equal(first: Events, second: Events, *, but: tuple[str, ...] = ()) -> None:
    """Equal bit by bit, but for the names of the files."""
    assert first.schema == second.schema
    mine, theirs = (
        e._event_columns() | e._particle_columns() | {"offsets": e.offsets} for e in (first, second)
    )
    assert mine.keys() == theirs.keys()
    for name in mine.keys() - {*but}:
        assert mine[name].dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
