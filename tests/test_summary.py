"""What a run says at its top: warnings that are true, and the epoch that was kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hepxai.attribution import Attribution
from hepxai.files import read_tensors
from hepxai.models.card import ModelCard
from hepxai.summary import _doubts, _warnings, best_epoch, told_apart
from hepxai.training import fit


def complete(events, median, **checks):
    """A map whose checks are these."""
    found = Attribution(np.zeros(events.n_particles), ("particle",), events, "node_ig", "signal")
    return found.replace(settings={"tolerance": 0.01}, checks={"median_residual": median} | checks)


# --- warnings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("median", "shown"),
    [
        (0.00999999, None),
        (0.01, None),
        (0.010000004, "1.0000004 %, more than the 1.0000000 % asked for"),
        (0.01004, "1.004 %, more than the 1.000 % asked for"),
        (0.0234, "2.34 %, more than the 1.00 % asked for"),
    ],
)
def test_a_residual_beyond_the_tolerance_is_told_apart_from_it(toy, median, shown):
    found = _warnings({"node_ig": complete(toy(3), median)})
    assert len(found) == (shown is not None)
    assert shown is None or (shown in found[0] and found[0].startswith("node_ig: "))


@pytest.mark.parametrize(
    ("first", "second", "texts"),
    [(1.0, 2.0, ("1.00", "2.00")), (1.0001, 1.0, ("1.0001", "1.0000")), (0.1, 0.1, ("0.10", "0.10"))],
)
def test_numbers_are_told_apart(first, second, texts):
    found = told_apart(first, second)
    assert found == texts if first != second else len(set(found)) == 1


def test_a_poor_surrogate_is_described_with_errors(toy):
    figures = {"test_agreement": 0.71, "test_agreement_error": 0.012}
    figures |= {"test_logit_correlation": 0.52, "test_logit_correlation_error": 0.031, "fidelity_ok": 0.0}
    (found,) = _warnings({"surrogate": complete(toy(3), 0.001, **figures)})
    assert "0.710 ± 0.012" in found
    assert "0.520 ± 0.031" in found
    assert _warnings({"surrogate": complete(toy(3), 0.001, **figures | {"fidelity_ok": 1.0})}) == []


def test_overtraining_is_shown_with_both_errors():
    def auc(value, error):
        return {"auc": {"value": value, "error": error}}

    (found,) = _doubts({"train": auc(0.882, 0.0045), "test": auc(0.786, 0.015)})
    assert "0.8820 ± 0.0045" in found
    assert "0.786 ± 0.015" in found


# --- the kept epoch --------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["auc", "loss"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_kept_epoch_is_that_of_the_training(toy, tmp_path, monitor, seed):
    card = ModelCard.model_validate(
        {
            "convolutions": [{"kind": "graph", "width": 4}],
            "dense": [4],
            "alpha_dropout": 0.0,
            "training": {"epochs": 6, "learning_rate": 0.05, "monitor": monitor, "seed": seed},
        }
    )
    _, history = fit(card, toy(120, smallest=1), folder=tmp_path)
    kept = json.loads(read_tensors(tmp_path / "checkpoint.safetensors")[1]["training"])
    assert best_epoch(history, monitor) == kept["best_epoch"] + 1


def test_epochs_without_a_figure_are_not_the_best():
    rows = [{"epoch": e, "valid_loss": v} for e, v in ((1.0, np.nan), (2.0, 0.4), (3.0, 0.4), (4.0, 0.5))]
    assert best_epoch(rows, "auc") == 2.0
    assert best_epoch(rows[:1], "loss") == 1.0
    assert best_epoch([], "auc") is None
