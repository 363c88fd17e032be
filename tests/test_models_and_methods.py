"""Every kind of model with every method: it works, or is refused with what works; the table of the docs."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from box_events import BOXES, box_events, detector_card
from explained_models import IMAGE, build_image, build_table
from networks import DeepSets, GATv2, ParticleNet
from quick_settings import TABLES
from sequence_networks import Encoder, ParT
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from toy_events import make_events

from hepxai.events import Events
from hepxai.events.boxes import Boxes
from hepxai.explainers import EXPLAINERS, CannotExplainError, explain
from hepxai.explainers.graph.surrogate import Surrogate, fit_surrogate
from hepxai.importance.gini import gini_importance
from hepxai.importance.permutation import permutation_importance
from hepxai.models.card import ModelCard
from hepxai.models.image.detection.model import BoxModel
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.onnx import load_onnx
from hepxai.models.wrappers.pyg import PygModel
from hepxai.models.wrappers.sequence import SequenceModel
from hepxai.models.wrappers.table import SklearnModel
from hepxai.training import fit

PAGE = Path(__file__).parents[1] / "docs" / "models_and_methods.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
QUICK: dict[str, dict[str, Any]] = (
    TABLES
    | {
        "shapley": {"empty": 0.0},  # not every network scores an event without particles
        "shapley_interaction": {"empty": 0.0},
        "image_partition_shap": {"evaluations": 100},
    }
    | {
        method: {"steps": 4}
        for method in ("conductance", "edge_ig", "feature_ig", "image_ig", "node_ig", "surrogate")
    }
)
POPULATION: dict[str, Callable[..., Any]] = {
    "permutation_importance": permutation_importance,
    "gini_importance": lambda model, events, **_: gini_importance(model),
}
METHODS = (*sorted(EXPLAINERS), *POPULATION)


BOOSTED = {"kind": "boosted_trees", "training": {"trees": 3, "step": 3}, "smallest_leaf": 4}


@cache
def population() -> Events:
    """Toy events with a table and an image, at least two particles each."""
    events = make_events(30, seed=3, smallest=2, largest=5)
    schema = dataclasses.replace(events.schema, image=IMAGE, pair_features=("delta_r", "log_mass"))
    return events.replace(schema=schema, weight=np.abs(events.weight), split=np.arange(30) % 3)


@cache
def box_population() -> Events:
    """Small images with boxes."""
    return box_events(5)


def card(**entries: Any) -> NetworkModel:
    """A network of the package with random weights."""
    torch.manual_seed(3)
    return NetworkModel.build(ModelCard.model_validate(entries), population().schema)


def estimator(trees: Any) -> SklearnModel:
    """A scikit-learn estimator, fitted on the table."""
    events = population()
    return SklearnModel(trees.fit(events.globals, events.label), ("signal",), events.schema)


def pyg(network: Any, edges: Any = None) -> PygModel:
    """A module of torch_geometric with random weights."""
    return PygModel(network, ("signal",), schema=population().schema, edges=edges)


def angles(batch: Any) -> tuple[Tensor, Tensor]:
    """All pairs, with the differences in η and φ as their features."""
    src, dst = batch.edge_index
    return batch.edge_index, (batch.p4[src] - batch.p4[dst])[:, 1:3]


def sequence(network: Any, **settings: Any) -> SequenceModel:
    """A module of padded particles with random weights."""
    return SequenceModel(network, ("signal",), population().schema, **settings)


def part() -> SequenceModel:
    """A small Particle Transformer with pair features."""
    inputs = {"x": population().schema.features, "pairs": "pair_features"}
    return sequence(ParT(5, 2, outputs=1), inputs=inputs, layout="features_first")


def xgboost() -> SklearnModel:
    """Boosted trees of XGBoost."""
    library = pytest.importorskip("xgboost")
    return estimator(library.XGBClassifier(n_estimators=3, max_depth=2))


def lightgbm() -> SklearnModel:
    """Boosted trees of LightGBM."""
    library = pytest.importorskip("lightgbm")
    return estimator(library.LGBMClassifier(n_estimators=3, min_child_samples=4, verbose=-1))


def onnx() -> Any:
    """A linear ONNX file on the table."""
    library = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, kind = library.helper, library.TensorProto.FLOAT
    value = make.make_tensor_value_info
    weights = make.make_tensor("W", kind, (2, 1), [1.5, -3.0])
    graph = make.make_graph(
        [make.make_node("MatMul", ["x", "W"], ["y"])],
        "linear",
        [value("x", kind, (None, 2))],
        [value("y", kind, (None, 1))],
        [weights],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "linear.onnx"
        made = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(made.SerializeToString())
        return load_onnx(path, population().schema, ("signal",), view="table")


def one_box() -> BoxModel:
    """First box of a small detector with random weights."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    torch.manual_seed(4)
    detector = NetworkModel.build(detector_card(), box_population().schema)
    detector.network.eval()
    boxes = Boxes.of(box_population(), BOXES["particle"], BOXES["edges"], BOXES["label"], ("narrow", "wide"))
    return detector.box_model(boxes, 0)


def trees() -> HistGradientBoostingClassifier:
    """Few boosted trees of scikit-learn."""
    return HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=4)


ENTRIES: dict[str, dict[str, Any]] = {
    "particle_gnn": {
        "convolutions": [
            {"kind": "transformer", "width": 4},
            {"kind": "dynamic_edge", "width": 4, "neighbours": 2},
        ]
    },
    "lstm": {"kind": "lstm", "width": 4, "dense": [4]},
    "dense": {"kind": "dense", "widths": [4]},
    "convolutional": {"kind": "convolutional", "channels": [4], "kernel": 3, "dense": []},
    "cnn": {"kind": "cnn", "blocks": [{"channels": 4, "pool": [1, 2]}], "dense": [4]},
    "soft_tree": {"kind": "soft_tree", "channels": [4], "depth": 2},
}
X = torch.zeros(2, 5)
MODELS: dict[str, Callable[[], Any]] = {
    **{f"card: {name}": partial(card, **entries) for name, entries in ENTRIES.items()},
    "card: detector, one box": one_box,
    "card: boosted_trees": lambda: fit(ModelCard.model_validate(BOOSTED), population())[0],
    "PygModel: ParticleNet": lambda: pyg(ParticleNet(X)),
    "PygModel: GATv2": lambda: pyg(GATv2(X), angles),
    "PygModel: DeepSets": lambda: pyg(DeepSets(X)),
    "SequenceModel: transformer encoder": lambda: sequence(Encoder(5), mask="padded"),
    "SequenceModel: Particle Transformer": part,
    "TableModel: dense network": lambda: build_table(population()),
    "SklearnModel: boosted trees": lambda: estimator(trees()),
    "SklearnModel: random forest": lambda: estimator(RandomForestClassifier(3, max_depth=3, random_state=0)),
    "SklearnModel: XGBoost": xgboost,
    "SklearnModel: LightGBM": lightgbm,
    "SklearnModel: scaler and boosted trees": lambda: estimator(make_pipeline(StandardScaler(), trees())),
    "SklearnModel: PCA and boosted trees": lambda: estimator(make_pipeline(PCA(), trees())),
    "SklearnModel: logistic regression": lambda: estimator(LogisticRegression()),
    "load_onnx: table": onnx,
    "ImageModel: convolutional network": lambda: build_image(population()),
}


@cache
def model(name: str) -> Any:
    """The model of a row, built once."""
    return MODELS[name]()


def events_of(name: str) -> Events:
    """Events that the model of a row can read."""
    return box_population() if MODELS[name] is one_box else population()


def surrogate(name: str) -> Surrogate:
    """A quickly trained surrogate of the model of a row."""
    layers = [{"kind": "graph", "width": 4}, {"kind": "dynamic_edge", "width": 4, "neighbours": 2}]
    entries = {"convolutions": layers, "dense": [4], "training": {"epochs": 1, "batch_size": 30}}
    return fit_surrogate(model(name), events_of(name), card=ModelCard.model_validate(entries))


def refusal(name: str, method: str) -> str | None:
    """Message with which a method refuses a model; None if it works, on all events and with finite values."""
    events, settings = events_of(name)[:12], QUICK.get(method, {})
    try:
        if method in POPULATION:
            POPULATION[method](model(name), events, repeats=2)
            return None
        if method == "surrogate":
            settings = settings | {"trained": surrogate(name), "minimum_agreement": 0.0}
        (target,) = model(name).outputs
        attribution = explain(model(name), events, method, target=target, **settings)
    except (CannotExplainError, ArithmeticError) as problem:
        return str(problem)
    assert len(attribution.events) == len(events)
    assert np.isfinite(attribution.values).all()
    return None


def row(name: str, refusals: Mapping[str, str | None]) -> str:
    """Row of the table in the docs."""
    return f"| {name} | " + " | ".join("–" if refusals[method] else "✓" for method in METHODS) + " |\n"


@pytest.mark.filterwarnings("ignore")
def test_page_lists_these_models_and_methods() -> None:
    """Rewrite the page with ``HEPXAI_WRITE_DOCS=1``, one worker."""
    head = "| | " + " | ".join(METHODS) + " |\n|---|" + "---|" * len(METHODS) + "\n"
    if os.environ.get("HEPXAI_WRITE_DOCS"):
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        rows = "".join(row(n, {m: refusal(n, m) for m in METHODS}) for n in MODELS)
        PAGE.write_text(before + BEGIN + head + rows + END + rest.partition(END)[2], encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    assert head in text
    assert [line.split(" | ")[0] for line in text.partition(head)[2].partition(END)[0].splitlines()] == [
        f"| {name}" for name in MODELS
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_row_of_the_page(name: str) -> None:
    """The page says what happens, and a refusal names a method that works."""
    refusals = {method: refusal(name, method) for method in METHODS}
    assert row(name, refusals) in PAGE.read_text(encoding="utf-8")
    works = [method for method in EXPLAINERS if refusals[method] is None]
    assert works
    for method in EXPLAINERS:
        assert refusals[method] is None or any(other in refusals[method] for other in works), refusals[method]
