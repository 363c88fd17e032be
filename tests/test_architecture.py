"""The house keeps its shape: imports point down, nothing executes what it reads, all say what they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hepxai"
FILES = sorted(PACKAGE.rglob("*.py"))

ROOMS = [
    "core",
    "cards",
    "events",
    "attribution",
    "metrics",
    "datasets",
    "models",
    "training",
    "explainers",
    "plots",
    "importance",
    "influence",
    "export",
    "studies",
    "run",
    "report",
    "scan",
    "simulate",
    "cli",
    "__main__",
]
"""From the ground up: a room imports from rooms that stand before it, never from one behind it."""

NEUTRAL_MODELS = ("protocols", "graph.cloud", "table.rows", "target", "wrappers.advice")
"""Modules of the models that an explainer may import: protocols, targets, layout of events in memory."""

EXECUTES = {"dill", "cloudpickle", "joblib", "marshal", "pickle", "shelve"}
CALLS = {"compile", "eval", "exec"}
LOADS = {("torch", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("yaml", "unsafe_load_all")}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def walk(node: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Every node with the name of the function that holds it."""
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield child, inside
        yield from walk(child, inside)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Full name of everything imported, and the function where that happens."""
    for node, function in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((f"{node.module}.{alias.name}", function) for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Parts of the names below ``hepxai`` that a file imports."""
    for name, function in imports(path):
        first, *rest = name.split(".")
        if first == "hepxai" and rest and rest != ["__version__"]:
            yield tuple(rest), function


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return  # the front door shows what it likes
    here = room_of(path)
    assert here in ROOMS, f"hepxai/{here} has no place in ROOMS: as early as its imports allow"
    for (there, *_), _ in own_imports(path):
        assert ROOMS.index(there) <= ROOMS.index(here), f"hepxai.{here} imports hepxai.{there}"


def test_no_import_cycle() -> None:
    """Imports for type checkers count too."""
    modules = {
        ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES
    }
    graph = nx.DiGraph()
    for name, path in modules.items():
        for parts, _ in own_imports(path):
            module = next(m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in modules)
            graph.add_edge(name, module)
    assert not [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1]


@pytest.mark.parametrize("path", sorted((PACKAGE / "explainers").rglob("*.py")), ids=name_of)
def test_explainers_know_protocols_only(path: Path) -> None:
    """Never a concrete model, never the training; the surrogate trainer is the one exception."""
    if path.name == "surrogate.py":
        return
    for (there, *rest), _ in own_imports(path):
        assert there != "training"
        assert there != "models" or ".".join(rest).startswith(NEUTRAL_MODELS), rest


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_executes_what_it_reads(path: Path) -> None:
    for name, _ in imports(path):
        assert name.split(".")[0] not in EXECUTES, name
    for node, _ in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        assert not (isinstance(node.func, ast.Name) and node.func.id in CALLS), ast.unparse(node)
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            called = (node.func.value.id, node.func.attr)
            assert called not in LOADS, ast.unparse(node)
            assert called != ("yaml", "load") or "SafeLoader" in ast.unparse(node), ast.unparse(node)
        assert not any(k.arg == "allow_pickle" for k in node.keywords), ast.unparse(node)


@pytest.mark.parametrize("folder", ["datasets", "models"])
def test_cards_are_no_python_packages(folder: str) -> None:
    """`datasets` is Hugging Face's name: a package of ours would shadow it."""
    assert (ROOT / folder).is_dir()
    assert not list((ROOT / folder).rglob("*.py"))


def undocumented(node: ast.AST, name: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_"):
                continue
            if not ast.get_docstring(child):
                yield f"{name}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{name}.{child.name}")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_everything_public_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    assert not list(undocumented(tree, name_of(path)))


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    look = "import sys, hepxai; sys.exit(str([m for m in sys.modules if m.startswith('hepxai.')]))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, cwd=ROOT)
    assert found.stderr.strip() == "[]"
