"""What a run says at its top: warnings that are true, and the epoch that was kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hepxai.core.estimate import Estimate, OutOfRangeWarning, as_json
from hepxai.core.files import read_tensors
from hepxai.models.card import ModelCard
from hepxai.report.view import best_epoch, doubts_about, out_of_range
from hepxai.training import fit


def test_overtraining_is_shown_with_both_errors():
    def auc(value, error):
        return {"auc": {"value": value, "error": error}}

    (found,) = doubts_about({"train": auc(0.882, 0.0045), "test": auc(0.786, 0.015)})
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
    kept = json.loads(read_tensors(tmp_path / "checkpoint.safetensors")[1]["state"])
    assert best_epoch(history, monitor) == kept["best_epoch"] + 1


def test_epochs_without_a_figure_are_not_the_best():
    rows = [{"epoch": e, "valid_loss": v} for e, v in ((1.0, np.nan), (2.0, 0.4), (3.0, 0.4), (4.0, 0.5))]
    assert best_epoch(rows, "auc") == 2.0
    assert best_epoch(rows[:1], "loss") == 1.0
    assert best_epoch([], "auc") is None


def test_figures_out_of_range_are_said() -> None:
    figures = {"auc": Estimate(np.asarray(1.82), np.asarray(3.3), 0.09)}
    with pytest.warns(OutOfRangeWarning):
        bounded = {name: e.bounded(name) for name, e in figures.items()}
    fine = {"auc": Estimate(np.asarray(1.0), np.asarray(0.0), 40.0).bounded("AUC")}
    (warning,) = out_of_range({"train": as_json(fine), "test": as_json(bounded)})
    assert warning.startswith(
        "test auc is 1.8 ± 3.3, which cannot be: weights of both signs leave only 0.09 eff"
    )
