"""Choosing a width: trainings in folders of their own, finished ones kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepxai.events import Events
from hepxai.models.card import DenseCard, ModelCard
from hepxai.models.network import NetworkModel
from hepxai.studies.capacity import networks as capacity
from hepxai.studies.capacity.networks import choose_width
from hepxai.studies.capacity.numbers import WidthStudy

ToyEvents = Callable[..., Events]


def make_card(**keys: Any) -> DenseCard:
    training = {"epochs": 5, "batch_size": 64, "learning_rate": 0.02}
    card = ModelCard.model_validate({"kind": "dense", "widths": [8], "training": training} | keys)
    assert isinstance(card, DenseCard)
    return card


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    """The class hangs on one column only."""
    found = toy(600, largest=0)
    table = found.globals.copy()
    table[:, 0] += 2 * found.label
    return found.replace(globals=table, weight=np.abs(found.weight))


def same(one: WidthStudy, other: WidthStudy) -> bool:
    return str(one) == str(other)


def test_all_trainings_and_the_choice(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = choose_width(events, make_card(), [16, 2, 16], folder=tmp_path, seeds=2, spare=0.3, progress=True)
    assert "8/8" in capsys.readouterr().err
    assert [p.width for p in study.points] == [2, 16]
    wide = study.points[1]
    assert [t.widths for t in wide.before] == [(16,), (16,)]
    assert [t.seed for t in wide.before] == [1, 2]
    assert 1 <= wide.shrunk[0] < 16
    assert [t.widths for t in wide.after] == [wide.shrunk] * 2
    assert float(wide.mean("valid").value) > 0.7
    assert study.widths in {(2,), study.points[0].shrunk, (16,), wide.shrunk}
    assert study.reasons()
    model = NetworkModel.load(tmp_path / "width_16" / "after" / "seed_2" / "model.safetensors")
    assert model.card.widths == wide.shrunk

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(capacity, "fit", never)
    settings: dict[str, Any] = {"folder": tmp_path, "seeds": 2}
    assert same(choose_width(events, make_card(), [2, 16], spare=0.3, **settings), study)
    with pytest.raises(ValueError, match="belongs to another study"):
        choose_width(events, make_card(), [2, 16], spare=0.2, **settings)
    with pytest.raises(ValueError, match="belongs to another study"):
        choose_width(events[1:], make_card(), [2], spare=0.3, **settings)


def test_nothing_to_shrink(events: Events, tmp_path: Path) -> None:
    study = choose_width(events, make_card(), [1], folder=tmp_path, seeds=1)
    assert study.points[0].after == ()
    assert study.widths == (1,)


BAD: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"widths": []}, ValueError, "at least one of each"),
    ({"widths": [0, 4]}, ValueError, "at least 1 neuron"),
    ({"seeds": 0}, ValueError, "seeds=0; at least one of each"),
    ({"card": make_card(widths=[])}, ValueError, "no hidden layers, hence no neurons"),
    ({"card": ModelCard.find("transformer_edgeconv")}, TypeError, "kind 'particle_gnn'; neurons are counted"),
)


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(
    events: Events, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    asked: dict[str, Any] = {"card": make_card(), "widths": [4], "seeds": 1} | change
    with pytest.raises(error, match=message):
        choose_width(events, folder=tmp_path, **asked)
    assert not list(tmp_path.iterdir())
