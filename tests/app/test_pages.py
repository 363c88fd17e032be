"""Every page: shown without an error, from its link, with Python that makes the same numbers."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from app_files import run_folder, scratch
from box_events import box_events, detector_card
from scan_helpers import SMALL, invent

pytest.importorskip("streamlit")

from app_pages import Pages, texts

from hepxai.app import figures
from hepxai.datasets import DatasetCard
from hepxai.metrics.entries import mean_rows
from hepxai.metrics.event_maps import rows_of
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.scan import Scan

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    for kind in ("graph", "ensemble", "table", "image"):
        run_folder(kind)
    return Pages(monkeypatch, scratch())


def executed(lines: list[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    assert not [line for line in lines if "hepxai.app" in line]  # which needs streamlit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("\n".join(lines), names)
    return names


def drawing(names: dict[str, Any]) -> bytes:
    """PNG of the figure that lines have drawn."""
    return figures._image(names.get("figure") or plt.gcf(), "png")


LINKS = {
    "event": {"open": "run:graph", "a": "edge_ig", "a__edge_ig__steps": "4", "order": "score, highest first"},
    "layers": {"open": "run:graph", "a": "attention", "event": "3", "class": "signal"},
    "several trainings": {"open": "run:ensemble", "a": "edge_ig", "a__edge_ig__steps": "4"},
    "table": {"open": "run:table", "where": "met > 30"},
    "image": {"open": "run:image", "a": "image_ig", "a__image_ig__steps": "4", "target": "top-rest"},
    "images": {"open": "run:image", "page": "Population", "a": "saliency", "most": "20"},
    "population": {"open": "run:graph", "page": "Population", "a": "attention", "most": "30"},
    "population of columns": {"open": "run:table", "page": "Population", "most": "20", "where": "met > 20"},
    "convergence": {
        "open": "run:graph",
        "page": "Convergence",
        "methods": '["attention", "shapley", "counterfactual"]',
    },
}


SLOW = {"several trainings", "images", "convergence", "population of columns", "layers"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in LINKS])
def test_every_page_and_its_python(pages: Pages, name: str) -> None:
    page = pages.show(**LINKS[name])
    assert not page.error, texts(page.error)
    assert not [i for i in texts(page.info) if i.startswith("No figure")]
    assert pages.figures
    for (figure, rows, lines), image in zip(pages.figures, pages.images, strict=True):
        plt.close("all")
        names = executed(lines)
        assert drawing(names) == image
        if figure == "agreement":
            values, again = names["matrix"].mean.value, rows
            assert [r["rank correlation"] for r in rows] == list(values[np.triu_indices(len(values), 1)])
        elif figure == "means":
            again = mean_rows(names["attribution"])
        elif figure == "profile" or figure.startswith("score_"):
            continue
        else:
            again = rows_of(names["attribution"])
        assert str(again) == str(rows)  # NaN is not equal to itself


def test_link_reproduces_the_view(pages: Pages) -> None:
    page = pages.show(open="run:graph", a="edge_ig", event="5", a__edge_ig__steps="3")
    page.number_input(key="event").set_value(7).run()
    page.selectbox(key="a").set_value("shapley").run()
    link = {k: v[0] if isinstance(v, list) else v for k, v in page.query_params.items()}
    assert link == {"open": "run:graph", "a": "shapley", "event": "7"}
    first = pages.figures[-1]
    again = pages.show(**link)
    assert again.number_input(key="event").value == 7
    assert pages.figures[-1] == first


@pytest.mark.parametrize(
    "link",
    [
        {"open": "run:../../etc", "page": "nonsense", "a": "os.system", "event": "-5"},
        {"open": "<b>", "order": "[x](javascript:alert(1))", "a__edge_ig__steps": "1e9999"},
    ],
)
def test_links_of_strangers(pages: Pages, link: dict[str, str]) -> None:
    assert not pages.show(**link).error


def test_two_methods_agree_and_differ(pages: Pages) -> None:
    page = pages.show(open="run:graph", a="attention", b="edge_ig", b__edge_ig__steps="4")
    assert "Agreement over pairs" in page.metric[0].label
    _, rows, lines = next(f for f in pages.figures if f[0] == "difference")
    assert rows_of(executed(lines)["change"]) == rows
    assert sum(abs(r["value"]) for r in rows) <= 2 + 1e-6


@pytest.mark.slow
def test_what_if(pages: Pages) -> None:
    page = pages.show(open="run:table", column="ht")
    slider = next(s for s in page.slider if s.key.startswith("what."))
    score = float(page.metric[0].value.replace("−", "-"))
    slider.set_value(slider.min).run()
    assert not page.exception
    assert float(page.metric[0].value.replace("−", "-")) != score
    (_, rows, lines), (_, curve, curve_lines) = pages.figures[-1], pages.figures[-2]
    names = executed(lines)
    assert names["event"].globals[0, 0] == np.float32(slider.value)
    assert rows_of(names["attribution"]) == rows
    plt.close("all")
    scores = executed(curve_lines)["scores"]
    assert drawing({}) == pages.images[-2]
    assert scores[0, 0] == pytest.approx(curve[0]["signal"], abs=1e-6)  # the slider is at the low end


def test_results_are_cached(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    link = {"open": "run:graph", "a": "edge_ig", "a__edge_ig__steps": "2"}
    pages.show(**link)
    monkeypatch.setattr("hepxai.app.jobs.Job", None)
    pages.show(**link)  # with nothing to calculate


def test_start_trains_nothing(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEPXAI_APP_TARGET")
    monkeypatch.setattr("hepxai.app.jobs.Job", None)
    monkeypatch.setattr("hepxai.app.main.is_trained", lambda *_: False)
    assert texts(pages.show().title) == ["hepxai: explain a model"]
    page = pages.show(open="example:graph")
    assert page.button[0].label == "Train it"


def test_settings_are_shared_by_pages_and_reset(pages: Pages) -> None:
    page = pages.show(open="run:graph", a="edge_ig", a__edge_ig__steps="3")
    page.radio(key="page").set_value("Convergence").run()
    page.multiselect(key="methods").set_value(["edge_ig"]).run()
    assert "{'edge_ig': {'steps': 3}}" in "".join(pages.figures[-1][2])
    assert "choose another one" in " ".join(texts(page.info))
    page.button(key="reset a.edge_ig.").click().run()
    assert "a.edge_ig.steps" not in page.query_params
    assert "{'edge_ig': {}}" in "".join(pages.figures[-1][2])


def test_a_warning_stands_once(pages: Pages) -> None:
    link = {f"{p}__surrogate__epochs": "1" for p in "ab"}
    page = pages.show(open="run:graph", a="surrogate", b="surrogate", **link)
    assert page.warning
    assert len(page.warning) == len(set(texts(page.warning)))


def test_refusals_are_sentences(pages: Pages) -> None:
    page = pages.show(open="run:graph", where="mett > 3")
    assert any("did you mean 'met'" in t for t in texts(page.error))
    page = pages.show(open="run:graph", where="met > 1e9")
    assert "no event is left; loosen the class" in texts(page.error)[0]


def test_names_stay_text(pages: Pages) -> None:
    page = pages.show(open="run:graph", where="$x$ **b** [a](http://b) <img>")
    text = page.error[0].value
    assert "\\*\\*b\\*\\*" in text
    assert "\\[a\\]\\(" in text
    assert "\\<img\\>" in text
    assert not page.markdown or all(not m.allow_html for m in page.markdown)


@pytest.mark.slow
def test_scan(pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, card = DatasetCard.find("charged_higgs"), ModelCard.find("transformer_edgeconv", SMALL)
    scan = Scan.start(tmp_path / "scan", dataset, card, ["edge_dropout=0.1,0.2"], seeds=3)
    invent(scan)
    monkeypatch.setenv("HEPXAI_APP_TARGET", str(tmp_path / "scan"))
    page = pages.show()
    assert not page.error, texts(page.error)
    assert any("Probability that it is the best" in t for t in texts(page.markdown))
    for (_, rows, lines), image in zip(pages.figures[:2], pages.images, strict=False):
        names = executed(lines)
        assert str(names["rows"]) == str(rows)
        assert drawing(names) == image


@dataclass(frozen=True)
class Detector:
    """A detector and its images, in memory."""

    def stamp(self) -> str:
        return "boxes"

    def open(self) -> tuple[Any, Any]:
        return self.model(None), box_events(16, seed=2)

    def model(self, _: Any) -> Any:
        torch.manual_seed(4)
        model: Any = NetworkModel.build(detector_card(), box_events(1).schema)
        model.network.eval()
        return model

    def key(self) -> str:
        return "detector"

    def lines(self) -> list[str]:
        return ["from test_pages import Detector", "model, events = Detector().open()"]


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_boxes(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepxai.app.main._source", lambda *_: Detector())
    page = pages.show(a="saliency", score="0.05", event="2", split="all")
    assert not page.error, texts(page.error)
    ((name, rows, lines),) = pages.figures
    assert name.startswith("boxes_")
    names = executed(lines)
    assert drawing(names) == pages.images[0]
    assert len(rows) == names["maps"].attribution.values.size
    assert {r["box"] for r in rows} == {i + 1 for i in range(len(names["maps"]))}
