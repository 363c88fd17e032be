"""Folders with small ntuples and cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ntuples import CARD, make_columns, write_ttree
from varied_ntuples import FILES, folder

from hepxai.cards import load_card
from hepxai.datasets import DatasetCard


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Folder with a card, a signal and a background file."""
    write_ttree(tmp_path / "signal.root", make_columns(130, seed=1))
    write_ttree(tmp_path / "background.root", make_columns(90, seed=2))
    (tmp_path / "card.yaml").write_text(CARD)
    return tmp_path


@pytest.fixture
def card_of(tmp_path: Path) -> Callable[..., DatasetCard]:
    """Card from a text, written into the test's folder."""

    def load(text: str, *overrides: str) -> DatasetCard:
        (tmp_path / "card.yaml").write_text(text)
        return load_card(tmp_path / "card.yaml", DatasetCard, overrides)

    return load


@pytest.fixture(scope="session")
def varied_ntuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files of the card, and branches of variations in them."""
    return folder(tmp_path_factory.mktemp("varied"))


@pytest.fixture
def files(tmp_path: Path, varied_ntuples: Path) -> Path:
    """Folder of the test's own with links to the unchanged files."""
    for name, *_ in FILES:
        (tmp_path / f"{name}.root").symlink_to(varied_ntuples / f"{name}.root")
    return tmp_path
