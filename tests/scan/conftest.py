"""Small scans: of real trainings on a slice of the shipped sample, and of invented results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import uproot
from scan_helpers import SMALL, made_up

from hepxai.cards import find_card
from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard
from hepxai.scan import Scan
from hepxai.scan.sampling import next_point

ENTRIES = 250


@pytest.fixture(scope="session")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data-set card with the first entries of the shipped sample."""
    folder, source = tmp_path_factory.mktemp("sliced"), find_card("datasets", "charged_higgs").parent
    for name in ("signal", "background"):
        with uproot.open(source / f"{name}.root") as old, uproot.recreate(folder / f"{name}.root") as new:
            columns = old["Events"].arrays(entry_stop=ENTRIES, library="ak")
            counters = [c for c in columns.fields if c.startswith("n")]
            kept = {c: columns[c] for c in columns.fields if c not in counters}
            new.mktree("Events", {k: v.type.content for k, v in _zipped(kept).items()})
            new["Events"].extend(_zipped(kept))
    (folder / "card.yaml").write_text((source / "card.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder / "card.yaml"


def _zipped(columns: dict[str, Any]) -> dict[str, Any]:
    """Branches of one collection together: they share a counter."""
    import awkward as ak

    groups: dict[str, dict[str, Any]] = {}
    for name, values in columns.items():
        collection, _, rest = name.partition("_")
        if rest and values.ndim > 1:
            groups.setdefault(collection, {})[rest] = values
        else:
            groups[name] = values
    return {k: ak.zip(v) if isinstance(v, dict) else v for k, v in groups.items()}


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
        store = scan.store()
        for number in range(scan.plan.trials if finished is None else finished):
            point, seed = divmod(number, scan.plan.seeds)
            results = scan.table().results()
            store.begin(next_point(scan.plan, point, results) if seed == 0 else results[point][0], seed + 1)
            store.finish(made_up(store.trial(number)))
        return scan

    return make
