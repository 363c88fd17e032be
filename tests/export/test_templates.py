"""Histograms under variations: ROOT layout and HistFactory workspace."""

from __future__ import annotations

import json
from pathlib import Path

import hist
import numpy as np
import pytest
import uproot

from hepxai.export.templates import workspace_of, write_templates
from hepxai.plots.histograms import Template

EDGES = np.array([0.0, 1.0, 2.0, 3.0])


def filled(*contents: float) -> hist.Hist:
    """Histogram of events of weight 1."""
    one = hist.Hist(hist.axis.Variable(EDGES, label="score"), storage=hist.storage.Weight())
    one[...] = np.stack([contents, np.abs(contents)], axis=-1)
    return one


@pytest.fixture
def channels() -> dict[str, dict[str, Template]]:
    signal = Template(
        filled(1, 2, 6), {"scale": (filled(1, 2, 7), filled(1, 2, 5)), "model": (filled(2, 2, 5),)}
    )
    background = Template(filled(50, 20, 9), {"scale": (filled(55, 20, 8), filled(45, 20, 10))})
    return {"score": {"signal": signal, "background": background}}


def test_root_file_and_workspace(tmp_path: Path, channels: dict[str, dict[str, Template]]) -> None:
    root, workspace = write_templates(tmp_path, channels, "signal")
    with uproot.open(root) as file:
        names = {k.partition(";")[0] for k in file.keys(filter_classname="TH1*")}
        assert names == {
            *(f"score/signal/{n}" for n in ("nominal", "scale_up", "scale_down", "model")),
            *(f"score/background/{n}" for n in ("nominal", "scale_up", "scale_down")),
        }
        up = file["score/signal/scale_up"]
        np.testing.assert_array_equal(up.values(), [1, 2, 7])
        np.testing.assert_array_equal(up.variances(), [1, 2, 7])
    content = json.loads(workspace.read_text())
    assert content["observations"] == [{"name": "score", "data": [51, 22, 15]}]
    mirrored = content["channels"][0]["samples"][0]["modifiers"][2]
    assert mirrored["data"] == {"hi_data": [2, 2, 5], "lo_data": [0, 2, 7]}


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")  # pyhf's own
def test_pyhf_reads_the_workspace_and_a_source_weakens_the_limit(
    channels: dict[str, dict[str, Template]],
) -> None:
    pyhf = pytest.importorskip("pyhf")

    def limit(content: dict[str, object]) -> float:
        workspace = pyhf.Workspace(content)  # checked against the schema of HistFactory
        model = workspace.model()
        data = workspace.data(model)
        scan = np.linspace(0.1, 6, 25)
        upper, _ = pyhf.infer.intervals.upper_limits.upper_limit(data, model, scan)
        return float(upper)

    whole = limit(workspace_of("score", channels["score"], "signal"))
    without = {n: Template(t.nominal, {}) for n, t in channels["score"].items()}
    assert whole > limit(workspace_of("score", without, "signal")) > 0.5


def test_channels_of_the_same_events_are_not_fitted_together(
    tmp_path: Path, channels: dict[str, dict[str, Template]]
) -> None:
    root, workspace = write_templates(tmp_path, channels | {"map": channels["score"]}, "signal")
    with uproot.open(root) as file:
        assert "map/signal/nominal" in file
    assert [c["name"] for c in json.loads(workspace.read_text())["channels"]] == ["score"]


def test_bins_without_positive_content_are_named(tmp_path: Path) -> None:
    channels = {"score": {"signal": Template(filled(1, 0, -2), {"scale": (filled(3, 1, 1),)})}}
    with (
        pytest.warns(UserWarning, match="2 of 3 bins of score, nominal, have no positive sum"),
        pytest.warns(UserWarning, match="3 of 3 bins of score, scale, have no positive sum"),
    ):
        write_templates(tmp_path, channels, "signal")
