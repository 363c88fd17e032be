"""Trees in the model files of XGBoost (JSON, UBJSON) and LightGBM (text), read without either library."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray
from hepxai.models.table.decision_trees import Nodes, bits_of

Object = dict[str, Any]
NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
"""Types of numbers in UBJSON."""
DEEPEST = 60
"""Nesting of a UBJSON file."""


class UnsupportedTreesError(ValueError):
    """Trees that are no sum of leaves behind one cut at a time."""


# --- XGBoost -------------------------------------------------------------------------------------------


def xgboost_content(data: bytes) -> Object:
    """Learner in an XGBoost file.

    Raises
    ------
    ValueError
        If the file is incomplete or no XGBoost model.
    """
    try:
        content = _Ubjson(data).value() if data[1:2] in NUMBERS_BYTES else json.loads(data)
        learner: Object = content["learner"]
        booster, columns = learner["gradient_booster"], int(learner["learner_model_param"]["num_feature"])
        for tree in [] if booster["name"] == "gblinear" else _model(booster)["trees"]:
            _xgboost_nodes(tree, 1.0).check(columns)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, struct.error) as problem:
        reason = f"no {problem} in it" if isinstance(problem, KeyError) else problem
        raise ValueError(f"incomplete or no XGBoost model ({reason})") from None
    return learner


NUMBERS_BYTES = tuple(kind.encode() for kind in NUMBERS)


def xgboost_nodes(learner: Object, rounds: int, output: int) -> list[Nodes]:
    """Trees of one output in the first rounds; with the weights of a DART booster."""
    booster = learner["gradient_booster"]
    weights, model = booster.get("weight_drop"), _model(booster)
    trees = list(enumerate(model["trees"][: model["iteration_indptr"][rounds]]))
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for _, tree in trees):
        raise UnsupportedTreesError("its leaves hold a value for every output (multi_output_tree)")
    return [
        _xgboost_nodes(tree, weights[i] if weights else 1.0)
        for i, tree in trees
        if model["tree_info"][i] == output
    ]


def _model(booster: Object) -> Object:
    model: Object = booster.get("gbtree", booster)["model"]
    return model


def _xgboost_nodes(tree: Object, weight: float) -> Nodes:
    left, right = (np.array(tree[f"{side}_children"], dtype=np.int64) for side in ("left", "right"))
    leaf, cut = left < 0, np.array(tree["split_conditions"], dtype=np.float32)
    listed = np.array(tree["categories"], dtype=np.int64)
    parts = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    return Nodes(
        feature=np.where(leaf, -1, np.array(tree["split_indices"], dtype=np.int64)),
        # XGBoost sends x < cut to the left, in single precision.
        threshold=np.nextafter(cut, np.float32(-np.inf)).astype(np.float64),
        missing_left=np.array(tree["default_left"], dtype=bool),
        left=left,
        right=right,
        value=np.where(leaf, weight * cut.astype(np.float64), 0.0),
        size=np.array(tree["sum_hessian"], dtype=np.float64),
        gain=np.where(leaf, 0.0, np.array(tree["loss_changes"], dtype=np.float64)),
        categories={int(node): (listed[start : start + size], False) for node, start, size in parts},
    )


class _Ubjson:
    """Reader of UBJSON, as far as XGBoost writes it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place, self.depth = data, 0, 0

    def value(self) -> Any:
        marker = self._take(1).decode("latin-1")
        if marker in NUMBERS:
            return self._number(marker)
        if marker in "TFZ":
            return {"T": True, "F": False, "Z": None}[marker]
        if marker == "S":
            return self._text()
        if marker not in "[{" or self.depth > DEEPEST:
            raise ValueError(f"unexpected {marker!r} at byte {self.place - 1}")
        self.depth += 1
        content = self._array() if marker == "[" else dict(self._members())
        self.depth -= 1
        return content

    def _take(self, size: int) -> bytes:
        part = self.data[self.place : self.place + size]
        if size < 0 or len(part) < size:
            raise ValueError(f"the file ends after {len(self.data)} bytes, inside a value")
        self.place += size
        return part

    def _ends(self, marker: bytes) -> bool:
        ends = self.data[self.place : self.place + 1] == marker
        self.place += ends
        return ends

    def _number(self, kind: str) -> Any:
        return np.frombuffer(self._take(np.dtype(NUMBERS[kind]).itemsize), NUMBERS[kind])[0].item()

    def _length(self) -> int:
        return int(self._number(self._take(1).decode("latin-1")))

    def _text(self) -> str:
        return self._take(self._length()).decode("utf-8")

    def _array(self) -> list[Any]:
        kind = self._take(1).decode("latin-1") if self._ends(b"$") else None
        if self._ends(b"#"):
            length = self._length()
            if kind is None:
                return [self.value() for _ in range(length)]
            packed = self._take(length * np.dtype(NUMBERS[kind]).itemsize)
            return list(np.frombuffer(packed, NUMBERS[kind]).tolist())
        values: list[Any] = []
        while not self._ends(b"]"):
            values.append(self.value())
        return values

    def _members(self) -> Iterator[tuple[str, Any]]:
        while not self._ends(b"}"):
            yield self._text(), self.value()


# --- LightGBM ------------------------------------------------------------------------------------------


def lightgbm_content(text: str) -> Object:
    """Header of a LightGBM file, and its ``trees``.

    LightGBM itself does not check the lengths in a file, and ends the process on an incomplete one.

    Raises
    ------
    ValueError
        If the file is incomplete or no LightGBM model.
    """
    try:
        head, _, rest = text.partition("\nTree=")
        if not text.startswith("tree\n") or "\nend of trees" not in rest:
            raise ValueError("no 'tree' at the start, or no 'end of trees'")
        content: Object = dict(_pairs(head))
        blocks = rest.partition("\nend of trees")[0].split("\nTree=")
        content["trees"] = [dict(_pairs(block)) for block in blocks]
        sizes, columns = content["tree_sizes"].split(), int(content["max_feature_idx"]) + 1
        if len(sizes) != len(blocks):
            raise ValueError(f"{len(blocks)} trees of {len(sizes)}")
        for tree in content["trees"]:
            _lightgbm_nodes(tree, 1.0).check(columns)
    except (ValueError, KeyError) as problem:
        reason = f"no {problem} in it" if isinstance(problem, KeyError) else problem
        raise ValueError(f"incomplete or no LightGBM model ({reason})") from None
    return content


def lightgbm_nodes(content: Object, rounds: int, output: int, scale: float) -> list[Nodes]:
    """Trees of one output in the first rounds, leaves times a factor."""
    outputs = int(content["num_tree_per_iteration"])
    trees = content["trees"][output : rounds * outputs : outputs]
    if any(tree.get("is_linear", "0") != "0" for tree in trees):
        raise UnsupportedTreesError("its leaves hold linear models (linear_tree)")
    if any((kinds & 12 == 4).any() for tree in trees if (kinds := _array(tree, "decision_type")).size):
        raise UnsupportedTreesError("it takes zeros as missing (zero_as_missing)")
    return [_lightgbm_nodes(tree, scale) for tree in trees]


def _lightgbm_nodes(tree: Object, scale: float) -> Nodes:
    """Cuts first, then leaves, whose numbers are negative in the file."""
    leaves = int(tree["num_leaves"])
    kinds, columns = _array(tree, "decision_type"), _array(tree, "split_feature")
    lengths = {name: len(_array(tree, name, float)) for name in ("split_gain", "threshold", "internal_count")}
    if {len(kinds), len(columns), *lengths.values()} != {leaves - 1}:
        raise ValueError(f"a tree of {leaves} leaves has {len(columns)} cuts")
    threshold = _array(tree, "threshold", float)
    none, missing_left = (kinds >> 2) & 3 == 0, (kinds & 2) > 0
    padding, below = np.zeros(leaves), np.full(leaves, -1)
    children = (_array(tree, f"{side}_child") for side in ("left", "right"))
    left, right = (np.append(np.where(c < 0, leaves - 2 - c, c), below) for c in children)
    counts = _array(tree, "leaf_count", float) if leaves > 1 else np.ones(1)
    return Nodes(
        feature=np.append(columns, below),
        threshold=np.append(threshold, padding),
        # Without missing values in the training, NaN counts as 0; in a category it goes right.
        missing_left=np.append(np.where(none, threshold >= 0, missing_left) & (kinds & 1 == 0), padding > 0),
        left=left,
        right=right,
        value=np.append(np.zeros(leaves - 1), scale * _array(tree, "leaf_value", float)),
        size=np.append(_array(tree, "internal_count", float), counts),
        gain=np.append(_array(tree, "split_gain", float), padding),
        categories={int(n): (_bits(tree, int(threshold[n])), True) for n in np.flatnonzero(kinds & 1)},
    )


def _bits(tree: Object, place: int) -> IntArray:
    """Categories of a cut, stored as bits of 32-bit words."""
    first, last = _array(tree, "cat_boundaries")[place : place + 2]
    return bits_of(_array(tree, "cat_threshold")[first:last])


def _array(tree: Object, name: str, kind: type = int) -> NDArray[Any]:
    return np.array(tree.get(name, "").split(), dtype=kind)


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    """Keys and values of lines; a line without a value is a flag."""
    for line in filter(None, block.splitlines()):
        key, _, value = line.partition("=")
        yield key, value
