"""Unlabelled data on a card: read alone, and never a part of the simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ntuples import CARD, make_columns, write_ttree

from hepxai.cards import CardError, dump_card, load_card
from hepxai.datasets import DatasetCard, ReadError, check_card, data_card, read
from hepxai.metrics import auc
from hepxai.models.card import ModelCard
from hepxai.run import Run
from hepxai.run.manifest import RunError

CardOf = Callable[..., DatasetCard]
DATA = """
data:
  - {name: run1, files: run1.root}
  - {name: run2, files: run2.root, weight: 2}
simulation_only: [n_raw]
"""
VARIED = "variations: {jes: {weight: 1.5}}\n"


@pytest.fixture
def files(small: Path) -> Path:
    """The small ntuples, and data without weights and without truth."""
    for seed, name in enumerate(("run1", "run2"), start=5):
        columns = make_columns(70, seed)
        for generated in ("genWeight", "Muon_fromA"):
            del columns[generated]
        write_ttree(small / f"{name}.root", columns)
    return small


def test_simulation_does_not_know_the_data(files: Path, card_of: CardOf) -> None:
    plain, card = read(card_of(CARD)).events, card_of(CARD + DATA)
    reading = read(card)
    assert reading.events.fingerprint(values=True) == plain.fingerprint(values=True)
    assert reading.events.schema == plain.schema
    np.testing.assert_array_equal(reading.events.weight, plain.weight)
    assert not any("run" in Path(f.path).name for f in reading.files)
    for name in ("run1", "run2"):
        (files / f"{name}.root").unlink()  # a training needs no data
    assert len(read(card).events) == len(plain)


def test_data_are_read_alone(files: Path, card_of: CardOf) -> None:
    card = card_of(CARD + DATA + VARIED, "variation=jes")
    simulation, data = read(card).events, read(data_card(card)).events
    assert data.schema.classes == ("data",)
    assert not data.label.any()
    assert set(data.weight) == {1.0, 2.0}  # no genWeight, no variation
    assert set(data.split) == {2}
    assert data.truth == {}
    assert set(data.observers) == {"mass_mumu"}
    for name in ("features", "units", "types", "globals", "global_units", "pair_features", "image"):
        assert getattr(data.schema, name) == getattr(simulation.schema, name)
    assert {Path(f.partition(":")[0]).name for f in data.files} == {"run1.root", "run2.root"}
    assert np.all(data.counts > 0)  # the selection holds: some muon


def test_data_of_a_regression_and_of_conditions(files: Path, card_of: CardOf) -> None:
    targets = CARD.replace("labels: [background, signal]", "targets: {raw: sum(muon.fromA)}")
    targets = targets.replace(", class: background", "").replace(", class: signal", "")
    conditions = targets.replace(
        "targets: {raw: sum(muon.fromA)}", "labels: {a: genWeight > 0, b: genWeight <= 0}"
    )
    for text in (targets, conditions):
        data = read(data_card(card_of(text + DATA))).events
        assert data.schema.classes == ("data",)
        assert data.schema.targets == ()


def test_data_card_is_a_card(files: Path, card_of: CardOf) -> None:
    card = data_card(card_of(CARD + DATA))
    (files / "dumped.yaml").write_text(dump_card(card))
    dumped = load_card(files / "dumped.yaml", DatasetCard)
    assert read(dumped).events.fingerprint() == read(card).events.fingerprint()
    assert len(check_card(card, entries=50).events)
    whole = card_of(CARD + DATA)
    (files / "dumped.yaml").write_text(dump_card(whole))
    assert load_card(files / "dumped.yaml", DatasetCard) == whole


def test_data_have_no_labelled_numbers(files: Path, card_of: CardOf) -> None:
    card = data_card(card_of(CARD + DATA))
    data = read(card).events
    with pytest.raises(ValueError, match="both classes are needed"):
        auc(data.p4[data.offsets[:-1], 0].astype(float), data.label == 1, data.weight)
    with pytest.raises((RunError, ValueError)):
        Run.start(files / "run", card, ModelCard.find("dense")).train(progress=False)


@pytest.mark.parametrize(
    ("old", "new", "message", "remedy"),
    [
        ("files: run1.root", "files: signal.root", r"card.yaml:\d+: data.0.files.0: .*signal.root:Events is "
         "listed twice \\(also in sample 'tt'\\); list it once", "files: run1.root"),
        ("files: run1.root", "files: 'r*.root'", r"data.1.files.0: .*run2.root:Events is listed twice",
         "files: run1.root"),
    ],
)  # fmt: skip
def test_files_of_data_are_no_simulation(
    files: Path, card_of: CardOf, old: str, new: str, message: str, remedy: str
) -> None:
    wrong = DATA.replace(old, new)
    with pytest.raises(CardError, match=message):
        read(card_of(CARD + wrong))
    assert len(read(card_of(CARD + wrong.replace(new, remedy))).events)


def test_a_pattern_of_the_simulation_that_takes_data_is_refused(files: Path, card_of: CardOf) -> None:
    wide = CARD.replace("files: signal.root", "files: '[rs]*.root'")
    with pytest.raises(
        CardError, match=r"data.0.files.0: .*run1.root:Events is listed twice \(also in sample 'tt'"
    ):
        read(card_of(wide + DATA))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CARD + DATA.replace("name: run1", "name: tt"), "data.0.name: two samples are called"),
        (CARD + DATA.replace("name: run1", "name: run2"), "data.0.name: two samples are called 'run2'"),
        (CARD + DATA.replace("run1.root}", "run1.root, class: signal}"), "data.0.class: unknown key"),
        (CARD + DATA.replace("n_raw", "n_row"), r"simulation_only.0: no observer .n_row. .did you mean"),
        (CARD.replace(", class: signal", ""), "samples.1: no class; .* or list data under data:"),
        (CARD.replace("[background,", "[data,").replace("class: background", "class: data"),
         "labels.data: 'data' is the class of unlabelled data, listed under data:; rename the class"),
    ],
)  # fmt: skip
def test_refused_cards(files: Path, card_of: CardOf, text: str, message: str) -> None:
    with pytest.raises(CardError, match=rf"card.yaml:\d+: {message}"):
        card_of(text)


def test_refused_data(files: Path, card_of: CardOf) -> None:
    with pytest.raises(
        CardError, match=r"no data samples; list them, as in data: \[\{name: run1, files: run1.root"
    ):
        data_card(card_of(CARD))
    assert len(read(data_card(card_of(CARD + "data: [{name: run1, files: run1.root}]\n"))).events)
    (files / "run1.root").unlink()
    with pytest.raises(ReadError, match=r"run1\.root: does not exist"):
        read(data_card(card_of(CARD + DATA)))
    with pytest.raises(CardError, match=r"card.yaml:\d+: samples.0.files.0: no file matches .*run9"):
        read(data_card(card_of(CARD + DATA.replace("run1.root", "'run9*.root'"))))


def test_observer_of_the_generator(files: Path, card_of: CardOf) -> None:
    """Refused in data by its line; listed under simulation_only, it is left out."""
    generated = CARD.replace("n_raw: nJet * 1", "n_raw: genWeight * 1")
    message = (
        "observers.n_raw: no branch or variable 'genWeight' .*; if data do not have it, list n_raw under simu"
    )
    with pytest.raises(CardError, match=rf"card.yaml:\d+: {message}"):
        read(data_card(card_of(generated + DATA.replace("simulation_only: [n_raw]", ""))))
    assert set(read(data_card(card_of(generated + DATA))).events.observers) == {"mass_mumu"}
