"""The card in the documentation works on the ntuple that it describes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ntuples import make_columns, write_ttree

from hepxai.cards import load_card
from hepxai.datasets import DatasetCard, read
from hepxai.datasets.image_card import Axis, Image
from hepxai.datasets.particle_card import Particle
from hepxai.datasets.samples import Sample
from hepxai.datasets.vocabulary import FUNCTIONS
from hepxai.events.momenta import NODE_FEATURES

PAGE = (Path(__file__).parents[2] / "docs" / "dataset_card.md").read_text(encoding="utf-8")


def test_the_example_reads(tmp_path: Path) -> None:
    example, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "card.yaml").write_text(example, encoding="utf-8")
    (tmp_path / "ntuples").mkdir()
    for i, name in enumerate(("dy_1", "dy_2", "ttbar")):
        columns = make_columns(200, seed=i) | {"HLT_IsoMu24": np.arange(200) % 5 > 0}
        write_ttree(tmp_path / "ntuples" / f"{name}.root", columns)
    reading = read(load_card(tmp_path / "card.yaml", DatasetCard))
    assert len(reading.files) == 3
    assert set(reading.events.label.tolist()) == {0, 1}
    assert np.isfinite(reading.events.observers["mass_mumu"]).all()


def test_every_key_and_function_is_documented() -> None:
    for part in (DatasetCard, Particle, Sample, Image, Axis):
        for name, field in part.model_fields.items():
            assert f"`{field.alias or name}`" in PAGE, name
    vocabulary = PAGE.split("## Expressions")[1]
    for name in FUNCTIONS:
        assert re.search(rf"\b{name}\b", vocabulary), name
    for name in NODE_FEATURES:
        assert re.search(rf"\b{name}\b", PAGE.split("### `features`")[1]), name
