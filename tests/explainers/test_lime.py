"""LIME: against the regression written down, linear models, and the warning where nothing is linear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from torch import Tensor, nn

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, explain
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.libraries import RUNS, event_seeds
from hepxai.export.friends import write_friends
from hepxai.models.wrappers.table import TableModel


class Linear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 20 + x @ torch.tensor([1.0, -2.0, 0.0, 0.5])


class Curved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 20 + x[:, 0] ** 2 + x[:, 1] * x[:, 2]


class Wavy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 20 + torch.sin(40 * x[:, 0])


@pytest.fixture
def events(wide_table: Events) -> Events:
    return wide_table


def wrap(net: nn.Module, events: Events) -> TableModel:
    return TableModel(net, ("signal",), events.schema)


def slow_lime(
    model: TableModel, x: np.ndarray, rows: np.ndarray, seed: int, n: int
) -> tuple[np.ndarray, float]:
    """Ribeiro et al., eq. 2: the weighted ridge regression of lime's linear model, solved by hand."""
    scale, size = rows.astype(np.float64).std(0), len(x)
    step = np.random.RandomState(seed).normal(0, 1, n * size).reshape(n, size)
    step[0] = 0  # the event itself
    points = x + step * scale
    y = model.score_table(points.astype(np.float32))[:, 0]
    w = np.exp(-(step**2).sum(1) / (2 * (0.75 * np.sqrt(size)) ** 2))
    z = (points - rows.astype(np.float64).mean(0)) / scale
    mean_z, mean_y = (w @ z) / w.sum(), (w @ y) / w.sum()
    slope = np.linalg.solve(
        (z - mean_z).T @ ((z - mean_z) * w[:, None]) + np.eye(size), (z - mean_z).T @ (w * (y - mean_y))
    )
    left = y - mean_y - (z - mean_z) @ slope
    return slope, 1 - (w @ left**2) / (w @ (y - mean_y) ** 2)


def test_equals_the_regression(events: Events) -> None:
    model, rows = wrap(Curved(), events), events.globals[20:]
    found = explain(model, events[:4], "lime", rows=rows, samples=400, minimum_r2=0.0)
    seeds, r2 = event_seeds(events[:4], 0, RUNS), []
    for e in range(4):
        runs = [slow_lime(model, events.globals[e].astype(np.float64), rows, s, 100) for s in seeds[e]]
        slopes = np.array([slope for slope, _ in runs])
        np.testing.assert_allclose(found.values[e], slopes.mean(0), atol=1e-4)
        np.testing.assert_allclose(found.error[e], slopes.std(0, ddof=1) / 2, atol=1e-4)
        r2 += [r for _, r in runs]
    assert found.checks["mean_r2"] == pytest.approx(np.mean(r2), abs=1e-4)


def test_slopes_of_a_linear_model(events: Events) -> None:
    """Per standard deviation; the ridge makes them a little smaller."""
    found = explain(wrap(Linear(), events), events[:10], "lime", rows=events.globals)
    expected = np.array([1, -2, 0, 0.5]) * events.globals.std(0)
    np.testing.assert_allclose(found.values, np.tile(expected, (10, 1)), rtol=0.02, atol=1e-3)
    assert found.checks["mean_r2"] > 0.999
    assert found.checks["poor_fits"] == 0
    assert (found.residual, found.output_change) == (None, None)
    assert found.settings["unit"] == "logit per standard deviation"


def test_local_slopes_follow_the_event(events: Events) -> None:
    found = explain(wrap(Curved(), events), events[:30], "lime", minimum_r2=0.0)
    assert np.corrcoef(found.values[:, 0], events.globals[:30, 0])[0, 1] > 0.95
    assert np.corrcoef(found.values[:, 1], events.globals[:30, 2])[0, 1] > 0.95


@pytest.mark.slow
def test_errors_are_the_spread_of_seeds(events: Events) -> None:
    model, rows = wrap(Curved(), events), events.globals[20:]
    found = [
        explain(model, events[:3], "lime", rows=rows, samples=200, seed=s, minimum_r2=0.0) for s in range(40)
    ]
    spread = np.std([f.values for f in found], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([f.error**2 for f in found], axis=0))
    np.testing.assert_allclose(claimed / spread, 1, atol=0.4)


def test_a_column_without_spread_gets_nothing(events: Events) -> None:
    table = events.globals.copy()
    table[:, 1] = 0.25
    found = explain(wrap(Linear(), events), events.replace(globals=table)[:5], "lime")
    assert np.abs(found.values[:, 1]).max() < 1e-6
    assert found.checks["mean_r2"] > 0.999


def test_a_warning_where_the_score_is_not_linear(events: Events) -> None:
    with pytest.warns(CheckWarning, match=r"mean R² of 0\.\d\d, below 0.5: .* take kernel_shap"):
        found = explain(wrap(Wavy(), events), events[:10], "lime", samples=400)
    assert found.checks["mean_r2"] < 0.5
    assert found.checks["poor_fits"] > 0.5
    assert "linear models" in found.caveat


def test_checks_of_parts_are_those_of_the_whole(events: Events) -> None:
    model = wrap(Curved(), events)
    prepared = EXPLAINERS["lime"](samples=80, minimum_r2=0.6).prepare(model, events, "signal")
    whole = prepared.attribute(events[:20])
    parts = [prepared.attribute(events[rows]) for rows in (slice(0, 5), slice(5, 20))]
    joined = Attribution.concatenate(parts)
    assert joined.checks == pytest.approx(whole.checks)
    assert np.array_equal(joined.values, whole.values)


@pytest.mark.slow
def test_errors_stand_beside_their_values_in_root(events: Events, tmp_path: Path) -> None:
    found = explain(wrap(Curved(), events), events, "lime", samples=40, minimum_r2=0.0)
    (file, *_) = write_friends(tmp_path, found.events, [found])
    with uproot.open(file) as written:
        tree = written["hepxai"].arrays(["hepxai_lime_c0", "hepxai_lime_c0_error"], library="np")
    rows, first = events.entry[events.file == 0], events.file == 0
    for name, own in (("hepxai_lime_c0", found.values), ("hepxai_lime_c0_error", found.error)):
        np.testing.assert_allclose(tree[name][rows], own[first, 0], rtol=1e-6)
        assert (tree[name] == -999).sum() == len(tree[name]) - len(rows)


def test_bad_settings(events: Events) -> None:
    with pytest.raises(ValueError, match="samples=10; should be greater than or equal to 40"):
        explain(wrap(Linear(), events), events, "lime", samples=10)
    with pytest.raises(ValueError, match="minimum_r2=-1; should be greater than or equal to 0"):
        explain(wrap(Linear(), events), events, "lime", minimum_r2=-1)
