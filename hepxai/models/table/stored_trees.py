"""Validation of stored scikit-learn trees before loading: compiled code does not check their indices."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray

DEPTH = 1000
"""Largest depth of a tree; deeper trees are refused, because compiled code descends recursively."""
LOADERS = {"Tree": "TreeNode", "TreePredictor": "ObjectNode"}
Object = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]


class CraftedError(ValueError):
    """Stored trees that hepxai did not write, or that were modified."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the stored trees are damaged or crafted: {problem}; do not use the file")


@contextmanager
def refusing_crafted() -> Iterator[None]:
    """Turn every error on stored trees into a `CraftedError`."""
    try:
        yield
    except CraftedError:
        raise
    except Exception as problem:  # parsers raise many errors on invalid bytes
        raise CraftedError(f"they are not in the form that hepxai writes ({problem!r})") from problem


def check_archive(data: bytes, columns: int) -> None:
    """Validate trees in an archive of `skops.io.dumps` without loading them.

    Parameters
    ----------
    data : bytes
    columns : int
        Number of columns of the table.

    Raises
    ------
    CraftedError
        If the archive is compressed, the size of an array differs from its header, objects share a number
        or an array, or the nodes of a tree are out of order, refer to missing nodes or columns, or are too
        deep.
    """
    with ZipFile(io.BytesIO(data)) as archive:
        arrays = _arrays(archive, len(data))
        for tree in _trees(json.loads(archive.read("schema.json"))):
            _check_tree(tree, arrays, columns)


def _arrays(archive: ZipFile, size: int) -> dict[str, NDArray[Any]]:
    members = archive.infolist()
    whole = sum(member.file_size for member in members)
    if whole > size or any(member.file_size != member.compress_size for member in members):
        raise CraftedError(f"the archive of {size} bytes expands to {whole}")
    names = (member.filename for member in members if member.filename != "schema.json")
    return {name: _read(name, archive.read(name)) for name in names}


def _read(name: str, content: bytes) -> NDArray[Any]:
    header = io.BytesIO(content)
    if npy.read_magic(header) != (1, 0):
        raise CraftedError(f"{name} is not an array")
    shape, columns_first, kind = npy.read_array_header_1_0(header)
    if kind.hasobject or min(shape, default=0) < 0:
        raise CraftedError(f"{name} is an array of {kind} {shape}")
    if (size := header.tell() + math.prod(shape) * kind.itemsize) != len(content):
        raise CraftedError(f"{name} has {len(content)} bytes, an array {shape} of {kind} has {size}")
    values = np.frombuffer(content, kind, offset=header.tell()) if math.prod(shape) else np.empty(0, kind)
    return values.reshape(shape, order="F" if columns_first else "C")


def _trees(content: Any) -> Iterator[Object]:
    """Trees at any level of an archive.

    skops builds only one of several objects with the same ``__id__``, so parts of trees must not share one.
    """
    shared_ids: set[Any] = set()
    items = list(_walk(content, shared_ids))
    files = [item["file"] for item in items if "file" in item]
    if len(set(files)) < len(files):
        raise CraftedError("two objects are stored in one array")
    for item in items:
        kind, loader = str(item.get("__class__")).rpartition(".")[2], item.get("__loader__")
        misplaced = loader == "CachedNode" or (loader == "TreeNode" and kind != "Tree")
        if misplaced or loader != LOADERS.get(kind, loader):
            raise CraftedError(f"a {kind} is stored as {loader}")
        if kind in LOADERS:
            if any(part.get("__id__") in shared_ids for part in _walk(item, set())):
                raise CraftedError("two different objects have the same number")
            yield item


def _walk(content: Any, shared_ids: set[Any]) -> Iterator[Object]:
    """Nested objects, equal ones once; adds each ``__id__`` of different objects to ``shared_ids``."""
    objects: dict[Any, Object] = {}
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack += item
        elif isinstance(item, dict):
            first = objects.setdefault(item["__id__"], item) if "__id__" in item else item
            if first is not item:
                if first == item:
                    continue
                shared_ids.add(item["__id__"])
            yield item
            stack += item.values()


def _check_tree(tree: Object, arrays: Arrays, columns: int) -> None:
    state = _content(tree["content"], "DictNode")
    nodes = arrays[_content(state["nodes"], "NdArrayNode")]
    if nodes.ndim != 1 or not len(nodes):
        raise CraftedError(f"the nodes of a tree have the shape {nodes.shape}")
    if tree["__loader__"] == "ObjectNode":
        if nodes["is_categorical"].any():
            raise CraftedError("a node splits by category, which hepxai never writes")
        _depth(nodes["left"], nodes["right"], nodes["is_leaf"] != 0, nodes["feature_idx"], columns)
        values = nodes["value"]
    else:
        left = nodes["left_child"]
        depth = _depth(left, nodes["right_child"], left == -1, nodes["feature"], columns)
        values = arrays[_content(state["values"], "NdArrayNode")]
        features, classes, outputs = _content(tree["__reduce__"]["args"], "TupleNode")
        number = arrays[_content(classes, "NdArrayNode")]
        stated = [
            _content(n, "JsonNode") for n in (features, state["node_count"], state["max_depth"], outputs)
        ]
        expected = [columns, len(nodes), depth, 1]
        if stated != expected or number.shape != (1,) or values.shape != (len(nodes), 1, int(number[0])):
            raise CraftedError(
                f"columns, nodes, depth and outputs of a tree are {expected}, the file states {stated}, with "
                f"values of shape {values.shape}"
            )
    if not np.isfinite(values).all():
        raise CraftedError("values of nodes are not finite")


def _depth(left: IntArray, right: IntArray, leaf: NDArray[np.bool_], feature: IntArray, columns: int) -> int:
    """Depth of a tree, after checks that each node has one parent, stored before it."""
    children = np.stack([left, right], axis=1).astype(np.int64)
    inner = np.flatnonzero(~leaf)
    if not np.array_equal(np.sort(children[inner].ravel()), np.arange(1, len(left))):
        raise CraftedError(f"the children of {len(left)} nodes are not 1 to {len(left) - 1}, each once")
    if (children[inner] <= inner[:, None]).any():
        raise CraftedError("a node comes before its parent, as in a cycle")
    cut_columns = feature[inner].astype(np.int64)
    if (wrong := cut_columns[(cut_columns < 0) | (cut_columns >= columns)]).size:
        raise CraftedError(f"a node reads column {wrong[0]} of a table with {columns} columns")
    depth, level = 0, np.zeros(1, dtype=np.int64)
    while len(level := children[level[~leaf[level]]].ravel()):
        depth += 1
        if depth > DEPTH:
            raise CraftedError(f"a tree is deeper than {DEPTH}")
    return depth


def _content(node: Object, loader: str) -> Any:
    if node["__loader__"] != loader:
        raise CraftedError(f"a {loader} is needed, a {node['__loader__']} is stored")
    if loader == "NdArrayNode":
        return node["file"]
    return json.loads(node["content"]) if loader == "JsonNode" else node["content"]
