"""Small scans: of real trainings on a slice of the shipped sample, and of invented results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scan_helpers import SMALL, invent
from shipped_sample import first_entries

from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard
from hepxai.scan import Scan


@pytest.fixture(scope="session")
def sliced() -> Path:
    """Data-set card with the first entries of the shipped sample."""
    return first_entries(250)


@pytest.fixture(scope="session")
def cards(sliced: Path) -> Callable[..., tuple[DatasetCard, ModelCard]]:
    """Factory of a data set and a model that train in a moment."""

    def make(*overrides: str, dataset: tuple[str, ...] = ()) -> tuple[DatasetCard, ModelCard]:
        model = ModelCard.find("transformer_edgeconv", [*SMALL, *overrides])
        return DatasetCard.find(sliced, dataset), model

    return make


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory, cards: Any) -> Callable[..., Scan]:
    """Factory of a scan whose results were made up: no training, but everything else is real."""

    def make(over: Any, *, finished: int | None = None, model: Sequence[str] = (), **settings: Any) -> Scan:
        scan = Scan.start(tmp_path_factory.mktemp("scan") / "invented", *cards(*model), over, **settings)
        return invent(scan, finished)

    return make
