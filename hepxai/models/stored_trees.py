"""Stored trees of scikit-learn, checked before they are built: compiled code trusts their numbers."""

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

from hepxai.jagged import IntArray

DEPTH = 1000
"""Cuts on a path from which on a tree is taken for crafted: compiled code walks down by recursion."""
LOADERS = {"Tree": "TreeNode", "TreePredictor": "ObjectNode"}
Object = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]


class CraftedError(ValueError):
    """Stored trees that hepxai did not write, or that changed since."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the stored trees are damaged or crafted: {what}; do not use the file")


@contextmanager
def refusing_crafted() -> Iterator[None]:
    """Whatever goes wrong with stored trees is a refusal of the file.

    Raises
    ------
    CraftedError
    """
    try:
        yield
    except CraftedError:
        raise
    except Exception as problem:  # whatever a parser has for bytes that are none of its format
        raise CraftedError(f"they are not in the form that hepxai writes ({problem!r})") from problem


def check_archive(data: bytes, columns: int) -> None:
    """Refuse an archive that is not as `skops.io.dumps` writes trees, without building anything.

    Parameters
    ----------
    data : bytes
    columns : int
        Of the table that the trees read.

    Raises
    ------
    CraftedError
        If it expands, an array is not as large as its header says, or the nodes of a tree are out of order,
        refer to nodes or columns that are not there, or lie too deep.
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
        raise CraftedError(f"{name} is no array")
    shape, columns_first, kind = npy.read_array_header_1_0(header)
    if kind.hasobject or min(shape, default=0) < 0:
        raise CraftedError(f"{name} is an array of {kind} {shape}")
    if (size := header.tell() + math.prod(shape) * kind.itemsize) != len(content):
        raise CraftedError(f"{name} has {len(content)} bytes, an array {shape} of {kind} has {size}")
    values = np.frombuffer(content, kind, offset=header.tell()) if math.prod(shape) else np.empty(0, kind)
    return values.reshape(shape, order="F" if columns_first else "C")


def _trees(content: Any) -> Iterator[Object]:
    """Trees anywhere in an archive.

    Where two objects have the same number, skops builds one of them only: no part of a tree may be such.
    """
    doubtful: set[Any] = set()
    items = list(_walk(content, doubtful))
    files = [item["file"] for item in items if "file" in item]
    if len(set(files)) < len(files):
        raise CraftedError("two objects are stored in one array")
    for item in items:
        kind, loader = str(item.get("__class__")).rpartition(".")[2], item.get("__loader__")
        misplaced = loader == "CachedNode" or (loader == "TreeNode" and kind != "Tree")
        if misplaced or loader != LOADERS.get(kind, loader):
            raise CraftedError(f"a {kind} is stored as {loader}")
        if kind in LOADERS:
            if any(part.get("__id__") in doubtful for part in _walk(item, set())):
                raise CraftedError("two different objects have the same number")
            yield item


def _walk(content: Any, doubtful: set[Any]) -> Iterator[Object]:
    """Objects inside, equal ones once; fills in the numbers that different ones have."""
    objects: dict[Any, Object] = {}
    open_ = [content]
    while open_:
        item = open_.pop()
        if isinstance(item, list):
            open_ += item
        elif isinstance(item, dict):
            first = objects.setdefault(item["__id__"], item) if "__id__" in item else item
            if first is not item:
                if first == item:
                    continue
                doubtful.add(item["__id__"])
            yield item
            open_ += item.values()


def _check_tree(tree: Object, arrays: Arrays, columns: int) -> None:
    state = _content(tree["content"], "DictNode")
    nodes = arrays[_content(state["nodes"], "NdArrayNode")]
    if nodes.ndim != 1 or not len(nodes):
        raise CraftedError(f"the nodes of a tree have the shape {nodes.shape}")
    if tree["__loader__"] == "ObjectNode":
        if nodes["is_categorical"].any():
            raise CraftedError("a node asks for categories, which no card trains")
        _depth(nodes["left"], nodes["right"], nodes["is_leaf"] != 0, nodes["feature_idx"], columns)
        values = nodes["value"]
    else:
        left = nodes["left_child"]
        depth = _depth(left, nodes["right_child"], left == -1, nodes["feature"], columns)
        values = arrays[_content(state["values"], "NdArrayNode")]
        features, classes, outputs = _content(tree["__reduce__"]["args"], "TupleNode")
        number = arrays[_content(classes, "NdArrayNode")]
        facts = [
            _content(n, "JsonNode") for n in (features, state["node_count"], state["max_depth"], outputs)
        ]
        right = [columns, len(nodes), depth, 1]
        if facts != right or number.shape != (1,) or values.shape != (len(nodes), 1, int(number[0])):
            raise CraftedError(
                f"columns, nodes, depth and outputs of a tree are {right}, it says {facts}, with values "
                f"{values.shape}"
            )
    if not np.isfinite(values).all():
        raise CraftedError("values of nodes are not finite")


def _depth(left: IntArray, right: IntArray, leaf: NDArray[np.bool_], feature: IntArray, columns: int) -> int:
    """Depth of a tree whose nodes have one parent each, which comes before them."""
    children = np.stack([left, right], axis=1).astype(np.int64)
    inner = np.flatnonzero(~leaf)
    if not np.array_equal(np.sort(children[inner].ravel()), np.arange(1, len(left))):
        raise CraftedError(f"the children of {len(left)} nodes are not 1 to {len(left) - 1}, each once")
    if (children[inner] <= inner[:, None]).any():
        raise CraftedError("a node comes before its parent, as in a cycle")
    asked = feature[inner].astype(np.int64)
    if (wrong := asked[(asked < 0) | (asked >= columns)]).size:
        raise CraftedError(f"a node asks for column {wrong[0]} of a table of {columns}")
    depth, level = 0, np.zeros(1, dtype=np.int64)
    while len(level := children[level[~leaf[level]]].ravel()):
        depth += 1
        if depth > DEPTH:
            raise CraftedError(f"a tree is deeper than {DEPTH}")
    return depth


def _content(node: Object, loader: str) -> Any:
    if node["__loader__"] != loader:
        raise CraftedError(f"a {loader} is needed where a {node['__loader__']} is stored")
    if loader == "NdArrayNode":
        return node["file"]
    return json.loads(node["content"]) if loader == "JsonNode" else node["content"]
