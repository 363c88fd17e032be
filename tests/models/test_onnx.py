"""ONNX files: scores before the last softmax, inputs of every kind, and files that do not fit."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_events import make_images
from torch import nn

import hepxai
from hepxai.core.extras import MissingExtraError
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
W = np.array([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]], dtype=np.float32)


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(60, seed=2)


def node(kind: str, inputs: Sequence[str], output: str, domain: str = "", **settings: Any) -> Any:
    return onnx.helper.make_node(kind, list(inputs), [output], domain=domain, **settings)


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: dict[str, tuple[Any, ...]],
    outputs: Sequence[str] = ("y",),
    constants: dict[str, Any] | None = None,
    kind: Any = None,
) -> Path:
    """File with these nodes; inputs are given by their shapes."""
    kind = kind or onnx.TensorProto.FLOAT
    tensors = [onnx.helper.make_tensor_value_info(n, kind, s) for n, s in inputs.items()]
    results = [onnx.ValueInfoProto(name=n) for n in outputs]
    for result in results:
        result.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    held = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    graph = onnx.helper.make_graph(list(nodes), "g", tensors, results, held)
    versions = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString())
    return path


def linear(path: Path, last: str | None = None, shape: tuple[Any, ...] = (None, 2), **settings: Any) -> Path:
    nodes = [node("MatMul", ["x", "W"], "z"), node(last or "Identity", ["z"], "y")]
    return write(path, nodes, {"x": shape}, constants={"W": settings.pop("weights", W)}, **settings)


# --- scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [None, "Softmax", "LogSoftmax", "Sigmoid"])
def test_a_last_softmax_is_left_out(last: str | None, events: Events, tmp_path: Path) -> None:
    model = hepxai.load_onnx(linear(tmp_path / "m.onnx", last), events.schema, ("a", "b", "c"))
    np.testing.assert_allclose(model.logits(events), events.globals @ W, rtol=1e-5, atol=1e-6)
    assert model.logits(events[:0]).shape == (0, 3)


@pytest.mark.filterwarnings("ignore")  # of torch.export
def test_a_network_of_torch(events: Events, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1)).eval()
    size = ({0: torch.export.Dim("events")},)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(2, 2),), path, dynamo=True, dynamic_shapes=size, verbose=False)
    model = hepxai.load_onnx(path, events.schema, ("signal",))
    z = net[:3](torch.as_tensor(events.globals)).detach().numpy()
    np.testing.assert_allclose(model.logits(events)[:, 0], z[:, 1] - z[:, 0], atol=1e-5)
    assert explain(model, events[:4], "kernel_shap", sample="all", size=9).checks["p90_residual"] < 1e-5
    with pytest.raises(
        CannotExplainError, match=r"no forward_table; these methods work .* kernel_shap, lime"
    ):
        explain(model, events, "feature_ig")


@pytest.mark.parametrize("zipped", [True, False])
def test_probabilities_of_a_converted_classifier(zipped: bool, events: Events, tmp_path: Path) -> None:
    """Of scikit-learn's converter: labels, and a map of probabilities."""
    settings = {"coefficients": [-1.0, 0.5, 1.0, -0.5], "intercepts": [0.1, -0.1], "classlabels_ints": [0, 1]}
    classifier = onnx.helper.make_node(
        "LinearClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", post_transform="SOFTMAX", **settings
    )
    last = node("ZipMap", ["p"], "probability", "ai.onnx.ml", classlabels_int64s=[0, 1])
    outputs = ["label", "probability"] if zipped else ["label", "p"]
    path = write(
        tmp_path / "m.onnx", [classifier, last] if zipped else [classifier], {"x": (None, 2)}, outputs
    )
    if not zipped:
        with pytest.raises(ValueError, match=r"has the outputs label, p; choose one, as output=…"):
            hepxai.load_onnx(path, events.schema, ("signal",))
    model = hepxai.load_onnx(path, events.schema, ("signal",), output=None if zipped else "p")
    expected = 2 * (events.globals @ [1.0, -0.5] - 0.1)
    np.testing.assert_allclose(model.logits(events)[:, 0], expected, atol=1e-5)


def classifier(path: Path, kind: str, zipped: bool, transform: str = "NONE") -> Path:
    """Classifier that gives raw scores, or the votes of a stump."""
    if kind == "linear":
        settings: dict[str, Any] = {
            "coefficients": [-1.0, 0.5, 1.0, -0.5],
            "intercepts": [0.1, -0.1],
            "classlabels_ints": [0, 1],
        }
    else:
        weights = [0.8, 0.2, 0.3, 0.7] if kind == "forest" else [1.5, -1.5, -2.0, 2.0]
        settings = {
            "nodes_treeids": [0] * 3,
            "nodes_nodeids": [0, 1, 2],
            "nodes_featureids": [0] * 3,
            "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
            "nodes_values": [0.0] * 3,
            "nodes_truenodeids": [1, 0, 0],
            "nodes_falsenodeids": [2, 0, 0],
            "class_treeids": [0] * 4,
            "class_nodeids": [1, 1, 2, 2],
            "class_ids": [0, 1, 0, 1],
            "class_weights": weights,
            "classlabels_int64s": [0, 1],
        }
    name = "LinearClassifier" if kind == "linear" else "TreeEnsembleClassifier"
    nodes = [
        onnx.helper.make_node(
            name, ["x"], ["label", "p"], domain="ai.onnx.ml", post_transform=transform, **settings
        )
    ]
    if zipped:
        nodes.append(node("ZipMap", ["p"], "probability", "ai.onnx.ml", classlabels_int64s=[0, 1]))
    return write(path, nodes, {"x": (None, 2)}, ["label", "probability" if zipped else "p"])


@pytest.mark.parametrize("kind", ["linear", "trees"])
@pytest.mark.parametrize("zipped", [True, False])
def test_raw_scores_of_a_classifier(kind: str, zipped: bool, events: Events, tmp_path: Path) -> None:
    """Refused as probabilities; the remedy of the message gives their difference, also for one event."""
    path = classifier(tmp_path / "m.onnx", kind, zipped)
    if zipped:
        with pytest.raises(ValueError, match=r"classifier are no probabilities; name their .* output='p'"):
            hepxai.load_onnx(path, events.schema, ("signal",)).logits(events)
    model = hepxai.load_onnx(path, events.schema, ("signal",), output="p")
    ht = events.globals[:, 0]
    expected = 2 * (events.globals @ [1.0, -0.5] - 0.1) if kind == "linear" else np.where(ht <= 0, -3.0, 4.0)
    np.testing.assert_allclose(model.logits(events)[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(model.logits(events[:1])[:, 0], expected[:1], atol=1e-5)


@pytest.mark.parametrize("output", [None, "p"])
def test_a_forest_gives_probabilities(output: str | None, events: Events, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", "forest", True)
    model = hepxai.load_onnx(path, events.schema, ("signal",), output=output)
    expected = np.where(events.globals[:, 0] <= 0, np.log(0.2 / 0.8), np.log(0.7 / 0.3))
    np.testing.assert_allclose(model.logits(events)[:, 0], expected, atol=1e-5)


PLAIN = {
    "sigmoid": [
        node("Sigmoid", ["z"], "p1"),
        node("Sub", ["one", "p1"], "p0"),
        node("Concat", ["p0", "p1"], "y", axis=-1),
    ],
    "softmax": [
        node("Concat", ["zero", "z"], "both", axis=-1),
        node("Exp", ["both"], "e"),
        node("ReduceSum", ["e", "axes"], "s"),
        node("Div", ["e", "s"], "y"),
    ],
}


@pytest.mark.parametrize("last", PLAIN)
def test_probabilities_behind_plain_nodes(last: str, events: Events, tmp_path: Path) -> None:
    constants = {
        "W": W[:, :1],
        "one": np.ones((1, 1), np.float32),
        "axes": np.array([-1]),
        "W0": W[:, :1] * 0,
    }
    nodes = [node("MatMul", ["x", "W"], "z"), node("MatMul", ["x", "W0"], "zero"), *PLAIN[last]]
    path = write(tmp_path / "m.onnx", nodes, {"x": (None, 2)}, constants=constants)
    expected = events.globals @ W[:, :1]
    for output in (None, "z"):
        model = hepxai.load_onnx(path, events.schema, ("signal",), output=output)
        np.testing.assert_allclose(model.logits(events), expected, atol=1e-5)
    layers = [node("GlobalAveragePool", ["x"], "m"), node("Flatten", ["m"], "x0"), *nodes[2:]]
    layers[1:2] = [node("Flatten", ["m"], "flat"), node("Gather", ["flat", "first"], "z", axis=1)]
    layers.insert(3, node("Mul", ["z", "zeros"], "zero"))
    constants |= {"first": np.array([0]), "zeros": np.zeros((1, 1), np.float32)}
    images = make_images(5)
    path = write(
        tmp_path / "i.onnx", layers, {"x": (None, *images.image_layout().shape)}, constants=constants
    )
    with pytest.raises(
        ValueError, match=r"the two scores y add up to 1 as probabilities do.* name the tensor"
    ):
        hepxai.load_onnx(path, images.schema, ("signal",), view="image").logits(images)
    model = hepxai.load_onnx(path, images.schema, ("signal",), view="image", output="z")
    np.testing.assert_allclose(model.logits(images)[:, 0], images.image()[:, 0].mean((1, 2)), rtol=1e-5)


def test_one_score_between_0_and_1_stays(events: Events, tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "W"], "z"), node("Sigmoid", ["z"], "p"), node("Mul", ["p", "p"], "y")]
    path = write(tmp_path / "m.onnx", nodes, {"x": (None, 2)}, constants={"W": W[:, :1]})
    model = hepxai.load_onnx(path, events.schema, ("efficiency",))
    p = 1 / (1 + np.exp(-events.globals @ W[:, :1]))
    np.testing.assert_allclose(model.logits(events), p**2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16"])
def test_types_of_numbers(kind: str, events: Events, tmp_path: Path) -> None:
    number = getattr(onnx.TensorProto, kind)
    weights = W.astype(onnx.helper.tensor_dtype_to_np_dtype(number))
    path = linear(tmp_path / "m.onnx", weights=weights, kind=number)
    content = onnx.load(path)
    content.graph.output[0].type.tensor_type.elem_type = number
    onnx.save(content, path)
    model = hepxai.load_onnx(path, events.schema, ("a", "b", "c"))
    np.testing.assert_allclose(model.logits(events), events.globals @ W, atol=1e-2)


def test_a_fixed_number_of_events(events: Events, tmp_path: Path) -> None:
    """Chunks of that size, the last one filled up."""
    for size in (1, 7):
        path = linear(tmp_path / "m.onnx", shape=(size, 2))
        model = hepxai.load_onnx(path, events.schema, ("a", "b", "c"))
        np.testing.assert_allclose(model.logits(events), events.globals @ W, rtol=1e-5, atol=1e-6)


def test_columns_as_inputs_of_their_own(events: Events, tmp_path: Path) -> None:
    nodes = [node("Sub", ["njet", "ht"], "y")]
    ht, njet = events.globals.T
    for shape in ((None, 1), (None,), (None, None)):
        path = write(tmp_path / "m.onnx", nodes, dict.fromkeys(("njet", "ht"), shape))
        model = hepxai.load_onnx(path, events.schema, ("signal",))
        np.testing.assert_allclose(model.logits(events)[:, 0], njet - ht, rtol=1e-6)


@pytest.mark.parametrize("channels_last", [True, False])
def test_images(channels_last: bool, tmp_path: Path) -> None:
    image_events = make_images(5)
    layout = image_events.image_layout().shape
    shape = (*layout[1:], layout[0]) if channels_last else layout
    axes = [1, 2] if channels_last else [2, 3]
    nodes = [node("ReduceSum", ["x", "axes"], "s", keepdims=0), node("Sigmoid", ["s"], "y")]
    path = write(tmp_path / "m.onnx", nodes, {"x": (None, *shape)}, constants={"axes": np.array(axes)})
    names = tuple(f"sum_{i}" for i in range(layout[0]))
    model = hepxai.load_onnx(path, image_events.schema, names, view="image")
    expected = image_events.image().sum((2, 3))
    np.testing.assert_allclose(model.logits(image_events), expected, rtol=1e-5)
    wrong = write(tmp_path / "w.onnx", nodes, {"x": (None, 3, 5, 9)}, constants={"axes": np.array(axes)})
    with pytest.raises(ValueError, match=r"x takes images \[3, 5, 9\]; those of the events have"):
        hepxai.load_onnx(wrong, image_events.schema, names, view="image")


@pytest.mark.parametrize("features_first", [True, False])
def test_padded_particles(features_first: bool, events: Events, tmp_path: Path) -> None:
    """Mean of each feature over the real particles."""
    features = len(events.schema.features)
    shape = (None, features, 12) if features_first else (None, 12, features)
    mask = (None, 1, 12) if features_first else (None, 12, 1)
    axes = np.array([2 if features_first else 1])
    nodes = [node("Mul", ["x", "mask"], "real"), node("ReduceSum", ["real", "axes"], "y", keepdims=0)]
    path = write(tmp_path / "m.onnx", nodes, {"mask": mask, "x": shape}, constants={"axes": axes})
    model = hepxai.load_onnx(path, events.schema, events.schema.features, view="padded")
    expected = np.array([e.particles.sum(0) for e in (events[[i]] for i in range(len(events)))])
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-4, atol=1e-3)
    few = write(
        tmp_path / "f.onnx", nodes, {"mask": (None, 3, 1), "x": (None, 3, features)}, constants={"axes": axes}
    )
    if not features_first:
        small = hepxai.load_onnx(few, events.schema, events.schema.features, view="padded")
        with pytest.raises(ValueError, match="an event has 9 particles, more than maximum=3"):
            small.logits(events)


@pytest.mark.parametrize("kind", ["BOOL", "INT64", "INT32", "FLOAT"])
def test_particles_of_any_number(
    kind: str, toy: Callable[..., Events], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of events of similar size, in the order of the events; masks of every type."""
    events = toy(2000, seed=3)
    features = len(events.schema.features)
    nodes = [
        node("Cast", ["mask"], "m", to=onnx.TensorProto.FLOAT),
        node("Unsqueeze", ["m", "last"], "m3"),
        node("Mul", ["x", "m3"], "real"),
        node("ReduceMax", ["real"], "largest", axes=[1], keepdims=0),
        node("ReduceSum", ["real", "axes"], "total", keepdims=0),
        node("Mul", ["largest", "none"], "zero"),
        node("Add", ["total", "zero"], "y"),
    ]
    constants = {"axes": np.array([1]), "last": np.array([2]), "none": np.zeros(1, np.float32)}
    shapes = {"mask": (None, None), "x": (None, None, features)}
    path = write(tmp_path / "m.onnx", nodes, shapes, constants=constants)
    content = onnx.load(path)
    content.graph.input[0].type.tensor_type.elem_type = getattr(onnx.TensorProto, kind)
    onnx.save(content, path)
    model = hepxai.load_onnx(path, events.schema, events.schema.features, view="padded")
    sizes, padded = [], Events.padded

    def watched(self: Events, maximum: int | None = None) -> Any:
        values = padded(self, maximum)
        sizes.append(values[1].size)
        return values

    monkeypatch.setattr(Events, "padded", watched)
    expected = np.zeros((len(events), features))
    np.add.at(expected, np.repeat(np.arange(len(events)), events.counts), events.particles)
    np.testing.assert_allclose(model.logits(events), expected, rtol=1e-4, atol=1e-3)
    assert len(sizes) > 3
    assert sum(sizes) < 0.8 * len(events) * events.counts.max()
    assert model.logits(events[:0]).shape == (0, features)


def test_particles_as_many_as_features(events: Events, tmp_path: Path) -> None:
    """The layout cannot be read from the shape: it is asked for."""
    few = events[np.flatnonzero(events.counts <= 5)]
    features = len(few.schema.features)
    for shape in ((None, features, features), (None, "m", "f")):
        for first in (False, True):
            nodes = [node("ReduceSum", ["x", "axes"], "y", keepdims=0)]
            constants = {"axes": np.array([2 if first else 1])}
            path = write(tmp_path / "m.onnx", nodes, {"x": shape}, constants=constants)
            with pytest.raises(
                ValueError, match=r"fits \[particle, feature\] and .* say features_first=False"
            ):
                hepxai.load_onnx(path, few.schema, few.schema.features, view="padded")
            model = hepxai.load_onnx(
                path, few.schema, few.schema.features, view="padded", features_first=first
            )
            expected = np.array([few[[i]].particles.sum(0) for i in range(len(few))])
            np.testing.assert_allclose(model.logits(few), expected, rtol=1e-4, atol=1e-3)


# --- weights in a second file ------------------------------------------------------------------------


def test_weights_beside_the_file(events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the folder of the file count, not those of the current folder; others are refused."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, weights in ((here, 2 * W), (there, W)):
        folder.mkdir()
        content = onnx.load(linear(folder / "m.onnx", weights=weights))
        onnx.save(content, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    monkeypatch.chdir(here)
    model = hepxai.load_onnx(there / "m.onnx", events.schema, ("a", "b", "c"))
    np.testing.assert_allclose(model.logits(events), events.globals @ W, rtol=1e-5, atol=1e-6)
    for place in ("../here/m.data", str(here / "m.data"), "none.data"):
        content = onnx.load(there / "m.onnx", load_external_data=False)
        next(e for e in content.graph.initializer[0].external_data if e.key == "location").value = place
        (there / "n.onnx").write_bytes(content.SerializeToString())
        with pytest.raises(ValueError, match=r"n\.onnx: its weights cannot be read \(") as refusal:
            hepxai.load_onnx(there / "n.onnx", events.schema, ("a", "b", "c"))
        assert "\n" not in str(refusal.value)


# --- gradients ----------------------------------------------------------------------------------------


class Converter:
    """Stands for onnx2torch, which needs torchvision."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def convert(self, content: Any) -> nn.Module:
        return self.module


def weighted(weights: np.ndarray) -> nn.Module:
    layer = nn.Linear(2, 3, bias=False)
    layer.weight.data = torch.as_tensor(weights.T.copy())
    return layer


def test_gradients(events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (linear(tmp_path / "m.onnx", "Softmax"), events.schema, ("a", "b", "c"))
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(
        MissingExtraError, match=r"gradients=True needs onnx2torch .*: pip install onnx2torch"
    ):
        hepxai.load_onnx(*arguments, gradients=True)
    monkeypatch.setitem(sys.modules, "onnx2torch", Converter(weighted(W)))
    model = hepxai.load_onnx(*arguments, gradients=True)
    assert explain(model, events, "feature_ig", target="a-b", baseline="zero").checks["p90_residual"] < 1e-4
    monkeypatch.setitem(sys.modules, "onnx2torch", Converter(weighted(2 * W)))
    with pytest.raises(ValueError, match="converted module does not reproduce the scores of the file"):
        hepxai.load_onnx(*arguments, gradients=True)


# --- files that do not fit ------------------------------------------------------------------------------


def test_inputs_that_do_not_fit(events: Events, tmp_path: Path) -> None:
    def load(path: Path, **settings: Any) -> Any:
        return hepxai.load_onnx(path, events.schema, ("a", "b", "c"), **settings)

    path = tmp_path / "m.onnx"
    two = [node("Add", ["x", "u"], "y")]
    for make, message in (
        (
            lambda: load(linear(path, shape=(None, 3), weights=np.eye(3, dtype=np.float32))),
            "x takes 3 columns; the globals are ht, njet",
        ),
        (
            lambda: load(linear(path, shape=(None, 4, 2))),
            r"the input x has the shape .*; a table \[event, col",
        ),
        (lambda: load(linear(path), input="u"), "the file has no input 'u'; it takes x"),
        (lambda: load(linear(path), output="p"), "the file has the outputs y; choose one, as output=…"),
        (lambda: load(linear(path), mask="x"), "mask and features_first are settings of view='padded'"),
        (lambda: load(linear(path), features_first=True, view="image"), "not of view='image'"),
        (
            lambda: load(write(path, [node("Sub", ["njet", "ht"], "y")], {"njet": (), "ht": ()})),
            r"the input njet has the shape \[\]; a column \[event, 1\] is needed",
        ),
        (
            lambda: load(write(path, [node("Identity", ["W"], "y")], {}, constants={"W": W})),
            "the file has no input; a table",
        ),
        (
            lambda: load(
                write(path, [node("Mul", ["x", "m"], "y")], {"x": (None, 9, 5), "m": ()}), view="padded"
            ),
            r"the mask m has the shape \[\]; \[event, particle\] is needed",
        ),
        (lambda: load(linear(path), view="graph"), "view='graph'; choose one of table, image, padded"),
        (
            lambda: load(write(path, two, {"x": (None, 2), "u": (None, 2)})),
            "takes x, u; choose one, as input",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    load(linear(path), input="x", output="y")
    numbers = write(path, [node("Identity", ["x"], "y")], {"x": (None, 2)}, kind=onnx.TensorProto.INT64)
    content = onnx.load(numbers)
    content.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(content, numbers)
    with pytest.raises(ValueError, match=r"the input x takes tensor\(int64\); the events hold real numbers"):
        load(numbers).logits(events)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x04K\x01.", "half"])
def test_files_that_are_no_model(data: Any, events: Events, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    whole = linear(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if data == "half" else data)
    with pytest.raises(ValueError, match=r"m\.onnx: no ONNX model") as refusal:
        hepxai.load_onnx(path, events.schema, ("a", "b", "c"))
    assert "\n" not in str(refusal.value)


def test_scores_that_do_not_fit(events: Events, tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="the ONNX model returns 3 scores, 2 outputs are named"):
        hepxai.load_onnx(path, events.schema, ("a", "b")).logits(events)
    missing = linear(tmp_path / "n.onnx", weights=np.full_like(W, np.nan))
    with pytest.raises(ValueError, match="the score of 60 of 60 events is not finite"):
        hepxai.load_onnx(missing, events.schema, ("a", "b", "c")).logits(events)
    table = events.globals.copy()
    table[:2, 1] = np.nan
    with pytest.raises(
        ValueError, match="score of 2 of 60 events is not finite; there, njet is not finite ei"
    ):
        hepxai.load_onnx(path, events.schema, ("a", "b", "c")).logits(events.replace(globals=table))
    other = dataclasses.replace(events.schema, globals=("njet", "ht"))
    with pytest.raises(ValueError, match="these events have them in another order: njet, ht"):
        hepxai.load_onnx(path, events.schema, ("a", "b", "c")).logits(events.replace(schema=other))
