"""Model cards: the shipped ones, and what is refused with the line it stands on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hepxai.cards import CardError, dump_card, list_cards, load_card
from hepxai.events import Schema
from hepxai.models.card import KINDS, DenseCard, ModelCard, ParticleGNNCard, keys_of_cards, resolve
from hepxai.models.network import NetworkModel

CARD = """\
kind: particle_gnn
convolutions:
  - {kind: transformer, width: 8, heads: 2}
  - {kind: dynamic_edge, width: 8}
training:
  epochs: 3
"""
SCHEMA = Schema(("pt", "eta"), ("GeV", ""), ("muon",), ("background", "signal"), ("ht",), ("GeV",))


SHIPPED = {name: ModelCard.find(name).kind for name in list_cards("models")}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cards_load_again(name: str, tmp_path: Path) -> None:
    card = ModelCard.find(name)
    assert type(card) is resolve(KINDS[card.kind].card)
    assert card.description
    (tmp_path / "again.yaml").write_text(dump_card(card))
    assert load_card(tmp_path / "again.yaml", ModelCard) == card
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert ModelCard.model_validate(card) is card


@pytest.mark.parametrize("name", [n for n, kind in SHIPPED.items() if kind == "particle_gnn"])
def test_shipped_graph_cards_make_networks(name: str) -> None:
    card = ModelCard.find(name)
    torch.manual_seed(0)
    model = NetworkModel.build(card, SCHEMA)
    assert len(model.edge_layers) == len(card.convolutions) == 3


def test_the_shipped_network_is_the_studys() -> None:
    card = ModelCard.find("transformer_edgeconv")
    assert [(c.kind, c.width) for c in card.convolutions] == [
        ("transformer", 64),
        ("dynamic_edge", 64),
        ("dynamic_edge", 64),
    ]
    assert (card.alpha_dropout, card.dense) == (0.4, (64, 64))
    assert (card.training.learning_rate, card.training.epochs) == (0.002, 30)
    assert card.training.schedule.kind == "cyclic"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("heads: 2", "heads: 3", r"card.yaml:3: convolutions.0.heads: 3 heads cannot share width 8"),
        ("width: 8}", "width: 0}", r"card.yaml:4: convolutions.1.width: found 0; should be greater than 0"),
        ("dynamic_edge", "dynamic_egde", r"card.yaml:4: .*'dynamic_egde' \(did you mean 'dynamic_edge'\?\)"),
        ("epochs: 3", "epoch: 3", r"card.yaml:6: training.epoch: unknown key \(did you mean 'epochs'\?\)"),
        ("epochs: 3", "monitor: accuracy", r"card.yaml:6: training.monitor: found 'accuracy'"),
        ("epochs: 3", "negative_weights: skip", r"card.yaml:6: training.negative_weights: .*'keep', 'drop'"),
        (
            "heads: 2",
            "neighbours: 8",
            r"card.yaml:3: convolutions.0.neighbours: only 'dynamic_edge' has neighbours, this is 'transf",
        ),
        (
            "heads: 2",
            "aggregation: max",
            r"card.yaml:3: convolutions.0.aggregation: only 'dynamic_edge' has aggregation",
        ),
        (
            "dynamic_edge, width: 8",
            "dynamic_edge, width: 8, heads: 2",
            r"card.yaml:4: convolutions.1.heads: only 'transformer' has heads, this is 'dynamic_edge'; leave",
        ),
        ("kind: particle_gnn", "edge_dropout: 1.0", r"card.yaml:1: edge_dropout: found 1.0; should be less"),
    ],
)
def test_refused_cards(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(CARD)
    load_card(path, ModelCard)
    path.write_text(CARD.replace(old, new, 1))
    with pytest.raises(CardError, match=message):
        load_card(path, ModelCard)


def test_a_network_without_convolutions(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("convolutions: []\n")
    with pytest.raises(CardError, match=r"card.yaml:1: convolutions: .*at least 1 item"):
        load_card(path, ModelCard)


# --- kinds -------------------------------------------------------------------------------------------


def test_a_card_is_one_of_its_kind(tmp_path: Path) -> None:
    """Where a file does not say, it is a graph network: the first kind there was."""
    path = tmp_path / "card.yaml"
    path.write_text(CARD)
    assert type(load_card(path, ModelCard)) is ParticleGNNCard
    path.write_text(CARD.replace("kind: particle_gnn\n", ""))
    assert type(load_card(path, ModelCard)) is ParticleGNNCard
    path.write_text("kind: dense\nwidths: [3]\n")
    assert load_card(path, ModelCard) == DenseCard(widths=(3,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: dens\n",
            r"card.yaml:1: kind: found 'dens' \(did you mean 'dense'\?\); the kinds are part",
        ),
        ("kind: [dense]\n", r"card.yaml:1: kind: found \['dense'\] .*; the kinds are"),
        ("kind: dense\nwidth: 3\n", r"card.yaml:2: width: unknown key \(did you mean 'widths'\?\)"),
        ("kind: dense\nepochs: 3\n", r"card.yaml:2: epochs: unknown key \(did you mean training.epochs\?\)"),
        ("kind: dense\nwidths: [8, -1]\n", r"card.yaml:2: widths.1: found -1; should be greater than 0"),
        ("kind: dense\ndropout: 1\n", r"card.yaml:2: dropout: found 1; should be less than 1"),
        ("kind: dense\nactivation: tanh\n", r"card.yaml:2: activation: found 'tanh'.*'relu' or 'selu'"),
        (
            "kind: dense\ntraining:\n  symmetries: [mirror]\n",
            r"card.yaml:3: training.symmetries: symmetries are those of particles; 'dense' reads the table",
        ),
        (
            "convolutions: [{kind: graph}]\ntraining: {loss: l1}\n",
            r"training.loss: found 'l1'; .*'mae' or 'mse'",
        ),
    ],
)
def test_refused_kinds(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(CardError, match=message):
        load_card(path, ModelCard)


def test_keys_of_all_kinds() -> None:
    assert {"kind", "training", "convolutions", "widths"} <= keys_of_cards()
