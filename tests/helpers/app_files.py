"""Files that people upload to the page, good and bad, and small runs to open."""

from __future__ import annotations

import functools
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from shipped_sample import first_entries
from sklearn.ensemble import HistGradientBoostingClassifier
from skops.io import dump

from hepxai.datasets import DatasetCard, read
from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.run import Run

ENTRIES = 400
_FOLDERS: list[Any] = []
QUICK = {
    "graph": ("transformer_edgeconv", ["training.epochs=1", "convolutions.0.width=8", "dense=[8]"]),
    "table": ("boosted_trees", ["training.trees=6", "training.step=3"]),
    "ensemble": (
        "transformer_edgeconv",
        ["training.epochs=1", "training.trainings=2", "convolutions.0.width=8", "dense=[8]"],
    ),
    "image": ("image_cnn", ["training.epochs=1", "dense=[8]"]),
}


@functools.cache
def scratch() -> Path:
    """Folder of this process."""
    _FOLDERS.append(tempfile.TemporaryDirectory())
    return Path(_FOLDERS[0].name)


@functools.cache
def run_folder(kind: str) -> Path:
    """A trained run of a kind of model, in seconds."""
    model, overrides = QUICK[kind]
    card = "jet_images" if kind == "image" else str(first_entries(ENTRIES))
    run = Run.start(scratch() / kind, DatasetCard.find(card), ModelCard.find(model, overrides))
    run.train(progress=False, workers=1)
    return run.folder


@functools.cache
def sample() -> Events:
    """Events of the small sample."""
    return read(DatasetCard.find(str(first_entries(ENTRIES)))).events


def zipped(folder: Path, target: Path) -> Path:
    """Zip of a folder, with its name inside."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent).as_posix())
    return target


def trees(events: Events) -> HistGradientBoostingClassifier:
    """Boosted trees on the table of events."""
    return HistGradientBoostingClassifier(max_iter=4, random_state=0).fit(events.globals, events.label)


def skops_file(path: Path) -> Path:
    """The same by skops."""
    dump(trees(sample()), path)
    return path


def xgboost_file(path: Path) -> Path:
    """Booster of XGBoost as JSON."""
    import xgboost

    data = xgboost.DMatrix(sample().globals, sample().label)
    xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, data, 4).save_model(path)
    return path


def onnx_file(path: Path, shape: tuple[int, ...]) -> Path:
    """Linear model in ONNX: the mean over all axes but the last, times weights."""
    from onnx import TensorProto, helper, numpy_helper

    names = ["event", "particle"] if len(shape) == 2 else ["event"]
    inputs = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*names, shape[-1]])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["event", 1])
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(shape[-1], 1)).astype(np.float32) / 100, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m" if len(shape) == 2 else "y"])]
    if len(shape) == 2:
        nodes.append(helper.make_node("ReduceSum", ["m", "axis"], ["y"], keepdims=0))
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    graph = helper.make_graph(nodes, "g", [inputs], [output], [weights, axis][: len(shape)])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(content.SerializeToString())
    return path


def root_files() -> list[Path]:
    """ROOT files of both classes."""
    folder = first_entries(ENTRIES).parent
    return [folder / "background.root", folder / "signal.root"]


def png_file(path: Path, shape: tuple[int, ...]) -> Path:
    """PNG of noise."""
    import matplotlib.image

    matplotlib.image.imsave(path, np.random.default_rng(0).random(shape), cmap="gray", format="png")
    return path
