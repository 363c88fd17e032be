"""Flow of events between predicted classes: recorded, counted by hand, written and read by others."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.plots.style import class_look
from hepxai.studies.instance_flow.figures import class_accuracies, flow_diagram, kinds_of_events, shown_epochs
from hepxai.studies.instance_flow.numbers import KINDS, InstanceFlow
from hepxai.studies.instance_flow.page import html_page, write_flow
from hepxai.training import fit
from hepxai.training.checkpoint import CHECKPOINT
from hepxai.training.history import monitored
from hepxai.training.predictions import predicted_class

ToyEvents = Callable[..., Events]
CLASSES = ("gluon", "</script><b>W</b>")
#           never  late  flips  learned  forgotten
PREDICTED = [
    [0, 0, 1, 1, 0],
    [0, 1, 0, 1, 1],
    [0, 0, 1, 1, 0],
    [0, 0, 0, 1, 1],
    [0, 1, 1, 1, 0],
]
LABEL = [1, 1, 1, 1, 1]
KIND = ["never learned", "late", "late", "learned", "forgotten"]
DENSE = {
    "kind": "dense",
    "widths": [4],
    "training": {"epochs": 3, "batch_size": 64, "monitor": "loss", "calibrate": False},
}
TREES = {"kind": "boosted_trees", "smallest_leaf": 5, "training": {"trees": 6, "step": 2}}


def flow_of(predicted: Any, label: Any, **columns: Any) -> InstanceFlow:
    size = len(label)
    identity = {k: np.arange(size) for k in ("run", "luminosity_block", "event", "file", "entry")}
    given = {"split": np.zeros(size, dtype=np.int64), "weight": np.ones(size), "classes": CLASSES} | columns
    return InstanceFlow(np.array(predicted, dtype=np.int16), np.array(label), identity=identity, **given)


@pytest.fixture
def flow() -> InstanceFlow:
    return flow_of(PREDICTED, LABEL)


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    drawn = toy(300, smallest=1)
    table = drawn.globals.copy()
    table[:, 0] += 2 * drawn.label
    return drawn.replace(globals=table)


def card(settings: dict[str, Any], **training: Any) -> ModelCard:
    both = settings["training"] | {"record_predictions": True} | training
    return ModelCard.model_validate(settings | {"training": both})


# --- recorded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [DENSE, TREES], ids=["dense", "trees"])
def test_the_best_row_is_the_trained_model(settings: dict[str, Any], events: Events, tmp_path: Path) -> None:
    """Every event is there; the trained model, that of the best epoch, predicts what its row says."""
    model_card = card(settings)
    model, history = fit(model_card, events, folder=tmp_path)
    flow = InstanceFlow.read(tmp_path)
    assert flow.predicted.shape == (len(history), len(events))
    assert flow.classes == events.schema.classes
    np.testing.assert_array_equal(flow.label, events.label)
    np.testing.assert_array_equal(flow.identity["event"], events.event)
    best = int(np.argmax([monitored(row, model_card.training.monitor) for row in history]))
    np.testing.assert_array_equal(flow.predicted[best], predicted_class(model.logits(events)))


@pytest.mark.parametrize("settings", [DENSE, TREES], ids=["dense", "trees"])
def test_an_interrupted_training_records_the_same(
    settings: dict[str, Any], events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hepxai.core.resume.SECONDS", 0)
    fit(card(settings), events, folder=tmp_path / "whole")

    def stop(history: Any) -> None:
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(card(settings), events, folder=tmp_path / "parts", after_epoch=stop)
    assert (tmp_path / "parts" / CHECKPOINT).is_file()
    fit(card(settings), events, folder=tmp_path / "parts")
    whole, parts = (InstanceFlow.read(tmp_path / name) for name in ("whole", "parts"))
    assert len(whole.predicted) == 3
    np.testing.assert_array_equal(parts.predicted, whole.predicted)


def test_the_training_is_the_same_without(events: Events, tmp_path: Path) -> None:
    plain, _ = fit(card(DENSE, record_predictions=False), events)
    recorded, _ = fit(card(DENSE), events, folder=tmp_path)
    np.testing.assert_array_equal(plain.logits(events), recorded.logits(events))


def test_no_folder(events: Events, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"record_predictions needs a folder.*fit\(…, folder=…\)"):
        fit(card(DENSE), events)
    fit(card(DENSE), events, folder=tmp_path)


def test_no_classes(events: Events, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="learns numbers, not classes: leave it out"):
        fit(card(DENSE), events, folder=tmp_path, targets=np.linspace(0, 1, len(events)))


def test_nothing_recorded(events: Events, tmp_path: Path) -> None:
    fit(card(DENSE, record_predictions=False), events, folder=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"--set model\.training\.record_predictions=true"):
        InstanceFlow.read(tmp_path)


@pytest.mark.parametrize(("logits", "classes"), [([[-1.0], [0.5]], [0, 1]), ([[1, 3, 2], [4, 0, 1]], [1, 0])])
def test_predicted_class(logits: Any, classes: list[int]) -> None:
    np.testing.assert_array_equal(predicted_class(np.array(logits)), classes)


# --- counted -------------------------------------------------------------------------------------


def test_numbers_by_hand(flow: InstanceFlow) -> None:
    assert flow.kind.tolist() == KIND
    np.testing.assert_array_equal(flow.changes, [0, 3, 4, 0, 4])
    np.testing.assert_array_equal(flow.forgotten, [0, 1, 2, 0, 2])
    np.testing.assert_array_equal(flow.learned_at, [0, 5, 5, 1, 0])
    np.testing.assert_array_equal(flow.transitions(0, 1), [[1, 2], [1, 1]])


def test_a_flipping_event() -> None:
    assert flow_of(np.array([[0], [1], [0], [1], [1], [1], [1], [1]]), [1]).kind == ["flipping"]


def slow_transitions(flow: InstanceFlow, a: int, b: int) -> list[list[int]]:
    counts = [[0] * len(flow.classes) for _ in flow.classes]
    for one, other in zip(flow.predicted[a], flow.predicted[b], strict=True):
        counts[one][other] += 1
    return counts


def test_against_a_loop_over_events() -> None:
    rng = np.random.default_rng(0)
    flow = flow_of(rng.integers(0, 3, (6, 50)), rng.integers(0, 3, 50), classes=("a", "b", "c"))
    for a, b in [(0, 1), (2, 5), (3, 3)]:
        np.testing.assert_array_equal(flow.transitions(a, b), slow_transitions(flow, a, b))
    for e in range(50):
        steps = flow.predicted[:, e].tolist()
        assert flow.changes[e] == sum(x != y for x, y in pairwise(steps))


def test_shares_are_weighted(flow: InstanceFlow) -> None:
    weight = np.array([2.0, 1.5, -0.5, 1.0, 0.5])
    share = flow_of(PREDICTED, LABEL, weight=weight).shares()[CLASSES[1]]
    for kind in KINDS:
        assert float(share[kind].value) == pytest.approx(weight[np.array(KIND) == kind].sum() / weight.sum())
        assert share[kind].error > 0
    np.testing.assert_allclose(flow.accuracy()[CLASSES[1]].value, np.mean(PREDICTED, axis=1))


def test_errors_cover_the_truth() -> None:
    """The share of events that are never learned is within its error in two of three toys."""
    rng, truth, inside = np.random.default_rng(1), 0.3, 0
    for _ in range(300):
        right = rng.random(200) > truth
        predicted = np.broadcast_to(right, (2, 200)).astype(int)
        share = flow_of(predicted, np.ones(200, dtype=int)).shares()[CLASSES[1]]
        inside += bool(share["never learned"].low <= truth <= share["never learned"].high)
    assert 0.63 < inside / 300 < 0.8


def test_a_split(flow: InstanceFlow) -> None:
    mixed = flow_of(PREDICTED, LABEL, split=np.array([0, 1, 0, 1, 0]))
    np.testing.assert_array_equal(mixed.where("valid").identity["event"], [1, 3])
    with pytest.raises(ValueError, match="no event is in the test split; choose another"):
        mixed.where("test")
    with pytest.raises(ValueError, match="no split 'Test'; choose one of train, valid, test"):
        mixed.where("Test")


def test_the_table_begins_with_what_stands_out(flow: InstanceFlow) -> None:
    table = flow.table()
    assert table["kind"].tolist() == ["never learned", "forgotten", "late", "late", "learned"]
    assert table["event"].tolist() == [0, 4, 2, 1, 3]


# --- written -------------------------------------------------------------------------------------


def test_files(flow: InstanceFlow, tmp_path: Path) -> None:
    page = write_flow(flow, tmp_path, title="toy")
    with (tmp_path / "instance_flow.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["event"] for row in rows] == ["0", "4", "2", "1", "3"]
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers[CLASSES[1]]["late"]["value"] == pytest.approx(0.4)
    figures = {"flow", "flow_0___script__b_W__b_", "kinds", "accuracies"}
    assert {p.stem for p in tmp_path.glob("*.png")} == figures
    first = page.read_bytes()
    write_flow(flow, tmp_path, title="toy")
    assert page.read_bytes() == first


def test_json_of_the_published_tool(flow: InstanceFlow) -> None:
    """Required entries and types of its schema, data.schema.json."""
    content = json.loads(json.dumps(flow.to_json()))
    assert content["labels"] == list(CLASSES)
    assert all(set(i) == {"id", "actual", "image"} for i in content["instances"])
    assert len({i["id"] for i in content["instances"]}) == 5
    assert [e["id"] for e in content["epochs"]] == ["1", "2", "3", "4", "5"]
    assert [e["classifications"] for e in content["epochs"]] == PREDICTED


def test_names_stay_text_on_the_page(flow: InstanceFlow) -> None:
    page = html_page(flow, title="<img src=x onerror=alert(1)>")
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "default-src 'none'" in page
    data = re.search(r'type="application/json">(.*?)</script>', page)
    assert data is not None
    assert json.loads(data[1])["classes"] == list(CLASSES)
    assert not re.search(r"https?://", page)


def test_a_page_of_many_events(flow: InstanceFlow) -> None:
    assert "3 events, a sample of 5 by the hash" in " ".join(html_page(flow, title="t", maximum=3).split())


# --- figures -------------------------------------------------------------------------------------


def test_shown_epochs(flow: InstanceFlow) -> None:
    assert shown_epochs(flow) == (0, 1, 2, 3, 4)
    long = flow_of(np.zeros((40, 2)), [0, 1])
    epochs = shown_epochs(long)
    assert (epochs[0], epochs[-1], len(epochs)) == (0, 39, 8)


def test_the_last_nodes_have_names() -> None:
    names = [f"class {c}" for c in range(12)]
    several = flow_of([[0, 11], [0, 10]], [0, 11], classes=tuple(names))
    assert [text.get_text() for text in flow_diagram(several).texts] == ["class 0", "class 10"]
    assert len({class_look(c, 12)["color"] for c in range(12)}) == 12


def test_the_diagram_counts_every_event(flow: InstanceFlow) -> None:
    ax = flow_diagram(flow)
    nodes = [p for p in ax.patches if p.get_zorder() == 3]
    heights = {}
    for node in nodes:
        heights[node.get_x()] = heights.get(node.get_x(), 0) + node.get_height()
    np.testing.assert_allclose(list(heights.values()), 1)
    assert "5 events" in ax.get_ylabel()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_name": "quark"}, "no class 'quark'; there are gluon"),
        ({"class_name": "gluon"}, "no event is of class 'gluon'; choose another"),
        ({"epochs": [1, 9]}, "no epoch 9; there are 1 to 5"),
        ({"epochs": [2]}, "two epochs or more"),
    ],
)
def test_diagrams_that_cannot_be(flow: InstanceFlow, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow_diagram(flow, **options)


def test_other_figures(flow: InstanceFlow) -> None:
    assert len(kinds_of_events(flow).containers) == len(KINDS) - 1
    assert len(class_accuracies(flow).lines) == 1  # no event is a gluon
