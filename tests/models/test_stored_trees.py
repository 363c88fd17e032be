"""Crafted trees: refused with a sentence before compiled code sees them."""

from __future__ import annotations

import copy
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hepxai.core.files import write_tensors
from hepxai.events import Events, Schema
from hepxai.models import load_model
from hepxai.models.card import BoostedTreesCard, ModelCard
from hepxai.models.storage import bytes_as_array
from hepxai.models.table.boosted_trees import ALGORITHMS, dumped, estimator_of
from hepxai.models.table.stored_trees import DEPTH, check_archive

Files = dict[str, bytes]


def fitted(algorithm: str, events: Events) -> Any:
    card = ModelCard.model_validate({"kind": "boosted_trees", "algorithm": algorithm, "smallest_leaf": 5})
    assert isinstance(card, BoostedTreesCard)
    estimator = estimator_of(card)
    name = "max_iter" if algorithm == "hist_gradient_boosting" else "n_estimators"
    return estimator.set_params(**{name: 2, "warm_start": False}).fit(events.globals, events.label)


@pytest.fixture(scope="module", params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    return toy(200)


@pytest.fixture
def files(algorithm: str, events: Events) -> Files:
    """Content of the archive of two trees."""
    with zipfile.ZipFile(io.BytesIO(dumped(fitted(algorithm, events)).tobytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: Files, compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def refused(
    data: bytes, algorithm: str, schema: Schema, folder: Path, message: str, seconds: float = 1.0
) -> None:
    card = ModelCard.model_validate({"kind": "boosted_trees", "algorithm": algorithm})
    header = {"card": card.model_dump_json(), "schema": schema.to_json()}
    write_tensors(folder / "model", {"estimator": bytes_as_array(data)}, header)
    start = time.process_time()
    with pytest.raises(ValueError, match=f"the stored trees are damaged or crafted: .*{message}"):
        load_model(folder / "model")
    assert time.process_time() - start < seconds


def objects(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield item
    for inner in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from objects(inner)


def first_tree(schema: Any) -> dict[str, Any]:
    return next(o for o in objects(schema) if o.get("__class__") in ("Tree", "TreePredictor"))


def array(values: NDArray[Any]) -> bytes:
    target = io.BytesIO()
    np.save(target, values)
    return target.getvalue()


def with_nodes(files: Files, change: Callable[[NDArray[Any], dict[str, str]], NDArray[Any] | None]) -> bytes:
    """Archive whose first tree has other nodes."""
    name = first_tree(json.loads(files["schema.json"]))["content"]["content"]["nodes"]["file"]
    nodes = np.load(io.BytesIO(files[name]))
    histogram = "is_leaf" in nodes.dtype.names
    names = {"left": "left", "right": "right", "feature": "feature_idx"}
    plain = {"left": "left_child", "right": "right_child", "feature": "feature"}
    changed = change(nodes, names if histogram else plain)
    return packed(files | {name: array(nodes if changed is None else changed)})


def set_field(field: str, value: int | Callable[[int], int]) -> Callable[..., None]:
    def change(nodes: NDArray[Any], names: dict[str, str]) -> None:
        nodes[names[field]][0] = value(len(nodes)) if callable(value) else value

    return change


def chain(nodes: NDArray[Any], names: dict[str, str]) -> NDArray[Any]:
    """Cuts one behind the other, each with a leaf on its left."""
    cut, leaf = nodes[0], nodes[-1]
    long = np.resize(np.array([cut, leaf]), 2 * DEPTH + 4)
    long[names["left"]][0::2] = np.arange(1, len(long), 2)
    long[names["right"]][0::2] = np.arange(2, len(long) + 1, 2)
    long[-2], long[-1] = leaf, leaf
    long[names["right"]][-4] = len(long) - 2
    long[names["left"]][-4] = len(long) - 3
    return long[:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_field("left", lambda n: n), "the children of .* nodes are not 1 to .*, each once"),
        (set_field("right", 2**31 - 1), "the children of .* nodes are not"),
        (set_field("left", 0), "the children of .* nodes are not"),  # a cycle
        (set_field("left", lambda n: n - 1), "the children of .* nodes are not"),  # two parents
        (set_field("feature", 2), "a node reads column 2 of a table with 2"),
        (set_field("feature", 10**9), "a node reads column 1000000000 of a table with 2"),
        (chain, f"a tree is deeper than {DEPTH}"),
        (lambda nodes, _: nodes[:0], r"the nodes of a tree have the shape \(0,\)"),
        (lambda nodes, _: nodes[None], "the nodes of a tree have the shape"),
        (lambda nodes, _: np.ones(3), "not in the form that hepxai writes"),
    ],
)
def test_crafted_nodes(
    files: Files, algorithm: str, events: Events, tmp_path: Path, change: Any, message: str
) -> None:
    refused(with_nodes(files, change), algorithm, events.schema, tmp_path, message)


def test_nodes_before_their_parent(files: Files, algorithm: str, events: Events, tmp_path: Path) -> None:
    def change(nodes: NDArray[Any], names: dict[str, str]) -> None:
        inner = np.flatnonzero((nodes[names["left"]] > 0) & (nodes[names["left"]] < len(nodes)))
        a, b = inner[0], inner[-1]  # exchange their subtrees: every node still has one parent
        assert a < b
        fields = [names["left"], names["right"]]
        for field in fields:
            nodes[field][[a, b]] = nodes[field][[b, a]]

    refused(with_nodes(files, change), algorithm, events.schema, tmp_path, "a node comes before its parent")


def test_values_that_are_not_finite(files: Files, algorithm: str, events: Events, tmp_path: Path) -> None:
    if algorithm == "hist_gradient_boosting":
        data = with_nodes(files, lambda nodes, _: nodes["value"].fill(np.nan))
    else:
        name = first_tree(json.loads(files["schema.json"]))["content"]["content"]["values"]["file"]
        data = packed(files | {name: array(np.full_like(np.load(io.BytesIO(files[name])), np.nan))})
    refused(data, algorithm, events.schema, tmp_path, "values of nodes are not finite")


@pytest.mark.parametrize("field", ["node_count", "max_depth", 0, 2])
@pytest.mark.parametrize("algorithm", ["gradient_boosting", "random_forest"])
def test_numbers_that_disagree(
    files: Files, algorithm: str, events: Events, tmp_path: Path, field: str | int
) -> None:
    schema = json.loads(files["schema.json"])
    tree = first_tree(schema)
    content = tree["content"] if isinstance(field, str) else tree["__reduce__"]["args"]
    content["content"][field] = content["content"][field] | {"content": "99", "__id__": 1}
    data = packed(files | {"schema.json": json.dumps(schema).encode()})
    refused(data, algorithm, events.schema, tmp_path, "columns, nodes, depth and outputs of a tree are")


@pytest.mark.parametrize("what", ["number", "cached", "loader", "array"])
def test_one_thing_that_stands_for_two(
    files: Files, algorithm: str, events: Events, tmp_path: Path, what: str
) -> None:
    """skops builds an object with a number that it has seen from what it saw first."""
    schema = json.loads(files["schema.json"])
    tree = first_tree(schema)
    part = tree["content"]["content"]["nodes"]
    if what == "number":
        files = files | {"other.npy": files[part["file"]]}
        schema["content"]["content"] = {"a": part | {"file": "other.npy"}} | schema["content"]["content"]
    elif what == "cached":
        schema["content"]["content"]["x"] = {"__loader__": "CachedNode", "__id__": 5}
    elif what == "loader":
        tree["__class__"], tree["__loader__"] = "dict", "TreeNode"
    else:
        schema["content"]["content"]["x"] = part | {"__id__": 5}
    message = {
        "number": "two different objects have the same number",
        "cached": "a None is stored as CachedNode",
        "loader": "a dict is stored as TreeNode",
        "array": "two objects are stored in one array",
    }[what]
    data = packed(files | {"schema.json": json.dumps(schema).encode()})
    refused(data, algorithm, events.schema, tmp_path, message)


@pytest.mark.parametrize(
    ("bomb", "compression", "message"),
    [
        (b"\0" * 10**8, zipfile.ZIP_DEFLATED, r"the archive of \d+ bytes expands to 10\d+"),
        (b"\0" * 9, zipfile.ZIP_STORED, "the magic string is not correct"),
        (array(np.zeros((2, 2))).replace(b"(2, 2)", b"(9**9,)"), zipfile.ZIP_STORED, "not in the form"),
        (array(np.zeros((20, 20))).replace(b"(20, 20)", b"(2000, 9)"), zipfile.ZIP_STORED, "an array .* has"),
        (
            array(np.zeros((2, 2))).replace(b"(2, 2)", b"(-2,-2)"),
            zipfile.ZIP_STORED,
            r"array of float64 \(-2",
        ),
    ],
)
def test_archives_that_expand(
    files: Files, algorithm: str, events: Events, tmp_path: Path, bomb: bytes, compression: int, message: str
) -> None:
    refused(packed(files | {"x.npy": bomb}, compression), algorithm, events.schema, tmp_path, message)


def test_what_is_no_archive(algorithm: str, events: Events, tmp_path: Path) -> None:
    deep = {"schema.json": b'{"a":' * 100_000}
    for data in (b"no zip", packed({}), packed(deep), packed({"schema.json": b"[" * 100_000})):
        refused(data, algorithm, events.schema, tmp_path, "not in the form that hepxai writes")
    header = {"card": ModelCard.model_validate({"kind": "boosted_trees"}).model_dump_json()}
    write_tensors(tmp_path / "empty", {}, header | {"schema": events.schema.to_json()})
    with pytest.raises(ValueError, match="the card of boosted trees, and holds no estimator"):
        load_model(tmp_path / "empty")


def _too_few_scores(estimator: Any) -> None:
    if hasattr(estimator, "_predictors"):
        estimator._predictors = [[*step, *copy.deepcopy(step)] for step in estimator._predictors]
    else:
        estimator.estimators_ = np.array([[t, copy.deepcopy(t)] for t in np.ravel(estimator.estimators_)])


def test_trees_that_do_not_fit_each_other(algorithm: str, events: Events, tmp_path: Path) -> None:
    estimator = fitted(algorithm, events)
    if algorithm == "random_forest":
        estimator.n_jobs = 10**6
    else:
        _too_few_scores(estimator)
    refused(
        dumped(estimator).tobytes(), algorithm, events.schema, tmp_path, "its trees do not fit each other"
    )
    wide = np.hstack([events.globals, events.globals])
    data = dumped(fitted(algorithm, events).fit(wide, events.label)).tobytes()
    message = "do not fit each other" if algorithm == "hist_gradient_boosting" else "columns, nodes, depth"
    message += "|reads column"
    refused(data, algorithm, events.schema, tmp_path, f"(.*{message})")


def test_trees_that_one_trains_are_read(algorithm: str, events: Events) -> None:
    """Deep, with leaves alone, of several classes."""
    estimator = fitted(algorithm, events)
    for label, settings in (
        (np.arange(200) % 3, {"max_depth": None, "min_samples_leaf": 1}),
        (events.label, {"min_samples_leaf": 150}),
    ):
        estimator.set_params(**settings).fit(events.globals, label)
        check_archive(dumped(estimator).tobytes(), 2)
