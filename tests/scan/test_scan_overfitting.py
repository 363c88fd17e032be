"""Overfitting as an objective: permutation importances in training and validation, models of the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard
from hepxai.scan import Scan, ScanError

Cards = Callable[..., tuple[DatasetCard, ModelCard]]
BOTH = ["importance_distance", "train_gap"]


@pytest.fixture(scope="session")
def table_cards(sliced: Path) -> Cards:
    """Factory of a data set and boosted trees."""

    def make(*overrides: str) -> tuple[DatasetCard, ModelCard]:
        card: dict[str, Any] = {"kind": "boosted_trees", "smallest_leaf": 2, "training": {"trees": 40}}
        return DatasetCard.find(sliced), ModelCard.model_validate(card)

    return make


def test_deep_trees_overfit(table_cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *table_cards(), ["depth=1,8"], objectives=BOTH, explain=300)
    simple, deep = scan.run(progress=False).trials
    for name in BOTH:
        assert deep.metrics[name].value > simple.metrics[name].value + 2 * deep.metrics[name].error
    gap = deep.metrics["train_gap"]
    assert 0.02 < float(gap.value) < 0.5
    assert float(gap.error) > 0


def test_a_model_of_particles_is_found_out_before_the_training(cards: Cards, tmp_path: Path) -> None:
    scan = Scan.start(tmp_path / "x", *cards(), ["edge_dropout=0.1"], objectives=["importance_distance"])
    with pytest.raises(ScanError, match=r"cannot be computed for this model .* event-level table"):
        scan.run(progress=False)


def test_a_data_set_without_a_table(cards: Cards, tmp_path: Path) -> None:
    dataset, card = cards()
    bare = dataset.model_copy(update={"globals": {}})
    with pytest.raises(ScanError, match="objective importance_distance needs the event-level table, globals"):
        Scan.start(tmp_path / "x", bare, card, ["edge_dropout=0.1"], objectives=["importance_distance"])
