"""Specifications of friend trees for ROOT: a ``FromSpec`` JSON and a C++ macro."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from hepxai.events import Events
from hepxai.export.branches import IDENTITY, PREFIX, Branches, Jagged, word

TREE = "hepxai"


def split_tree(source: str) -> tuple[str, str]:
    """Path or URL, and tree, of ``path:tree``."""
    path, _, tree = source.rpartition(":")
    if not path or not tree or tree.startswith("//"):
        raise ValueError(f"{source!r} names no tree; write path:tree")
    return path, tree


def seen_from(folder: Path, source: str) -> tuple[str, str]:
    """Path relative to a folder, or URL, and tree, of ``path:tree``."""
    path, tree = split_tree(source)
    if "://" in path:
        return path, tree
    # Folders without links, because ``..`` of a link is another folder; the file keeps its name.
    real = Path(path).parent.resolve() / Path(path).name
    return os.path.relpath(real, folder.resolve()), tree


def friend_names(sources: Sequence[str]) -> list[str]:
    """File names of the friends: numbered, because inputs of different folders may share a name."""
    width = max(3, len(str(len(sources) - 1)))
    stems = [Path(split_tree(s)[0].partition("?")[0]).stem for s in sources]
    words = [re.sub(r"[^\w.-]", "_", stem) for stem in stems]
    return [f"{i:0{width}}_{word}.root" for i, word in enumerate(words)]


def specification(folder: Path, sources: Sequence[str], names: Sequence[str] | None = None) -> dict[str, Any]:
    """``RDataFrame`` ``FromSpec``: one sample per input, and one chain of friends in the same order.

    Paths are relative to the folder. ROOT looks for them in the working folder, not beside the JSON.
    """
    names = friend_names(sources) if names is None else names
    samples = {}
    for name, source in zip(names, sources, strict=True):
        path, tree = seen_from(folder, source)
        samples[name.removesuffix(".root")] = {"trees": [tree], "files": [path]}
    chain = {"trees": [TREE] * len(names), "files": names}
    return {"samples": samples, "friends": {TREE: chain}}


def macro(folder: Path, events: Events, branches: Branches, names: Sequence[str] | None = None) -> str:
    """C++ macro that checks that inputs and friends correspond, chains them and draws.

    Scores, and values of pairs against their invariant mass. Paths are relative to the folder.
    """
    inputs = [seen_from(folder, s) for s in events.files]
    collections = events.schema.collections or ("",) * len(events.schema.types)
    # ROOT compiles the prefix as part of an expression: only a plain name is used.
    prefixes = (c if re.fullmatch(r"[A-Za-z_]\w*", c, re.ASCII) else "" for c in collections)
    pairs = [
        (name, leaf[1:]) for name, b in branches.items() for leaf in b.leaves() if leaf.startswith("_value")
    ]
    template = Template(files("hepxai.export").joinpath("friends.C.in").read_text(encoding="utf-8"))
    return template.substitute(
        tree=TREE,
        inputs=_rows(
            (*source, name) for source, name in zip(inputs, names or friend_names(events.files), strict=True)
        ),
        identity=_rows(zip(IDENTITY, events.schema.identity, strict=False)),
        particles=_rows(zip(events.schema.types, prefixes, strict=True)),
        classes=_rows(zip(events.schema.classes, _words(events.schema.classes), strict=True)),
        scores=_rows((s,) for s in _drawn_scores(branches)),
        pairs=_rows(pairs),
    )


def _words(names: Sequence[str]) -> list[str]:
    """Words for names of histograms, numbered if two are the same."""
    words = [word(name) for name in names]
    return [f"{w}_{i}" if words.count(w) > 1 else w for i, w in enumerate(words)]


def _drawn_scores(branches: Branches) -> list[str]:
    names = [n for n, b in branches.items() if not isinstance(b, Jagged)]
    probabilities = [n for n in names if n.startswith(f"{PREFIX}probability")]
    return probabilities or [n for n in names if n.startswith((f"{PREFIX}score", f"{PREFIX}predicted"))]


def _rows(rows: Iterable[Sequence[str]]) -> str:
    """C++ initialisers, one a line."""
    return "".join("\n   {" + ", ".join(map(literal, row)) + "}," for row in rows)


def literal(text: str) -> str:
    """C++ string literal with the bytes of a text, on one line."""
    return '"' + "".join(map(_in_literal, text)) + '"'


def _in_literal(character: str) -> str:
    if character in '"\\?':  # a question mark may begin a trigraph
        return f"\\{character}"
    if character.isprintable():
        return character
    # Three octal digits, never more; surrogates stand for bytes of a path that are no UTF-8.
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
