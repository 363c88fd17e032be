"""The house keeps its shape: imports point down, nothing executes what it reads, all say what they are."""

from __future__ import annotations

import ast
import runpy
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
    "concepts",
    "export",
    "studies",
    "run",
    "engine",
    "report",
    "scan",
    "app",
    "simulate",
    "cli",
    "__main__",
]
"""From the ground up: a room imports from rooms that stand before it, never from one behind it."""

NEUTRAL_MODELS = ("protocols", "ensemble", "graph.cloud", "table.rows", "target", "wrappers.advice")
NEUTRAL_MODELS += ("table.decision_trees", "wrappers.booster_files", "wrappers.ensembles")
"""Modules of the models that an explainer may import: protocols, targets, layout of events and of trees."""

EXECUTES = {"dill", "cloudpickle", "joblib", "marshal", "pickle", "shelve"}
CALLS = {"compile", "eval", "exec"}
LOADS = {("torch", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("yaml", "unsafe_load_all")}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Full name of everything imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Parts of the names below ``hepxai`` that a file imports."""
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "hepxai" and rest and rest != ["__version__"]:
            yield tuple(rest)


def test_imports_point_down() -> None:
    for path in set(FILES) - {PACKAGE / "__init__.py"}:  # the front door shows what it likes
        here = room_of(path)
        assert here in ROOMS, f"hepxai/{here} has no place in ROOMS: as early as its imports allow"
        for there, *_ in own_imports(path):
            assert ROOMS.index(there) <= ROOMS.index(here), f"{name_of(path)} imports hepxai.{there}"


def test_the_drawing_shows_the_rooms_on_their_floors() -> None:
    """docs/img/house.svg: imports point to the same floor or one below."""
    drawing = runpy.run_path(str(ROOT / "docs" / "site" / "house.py"))
    floor = {name: level for level, rooms in enumerate(drawing["FLOORS"]) for name, _ in rooms}
    assert floor.keys() == set(ROOMS) - {"__main__"}, "draw the house again: make gallery"
    for path in (p for p in FILES if room_of(p) in floor):
        for there, *_ in own_imports(path):
            assert floor[there] <= floor[room_of(path)], f"{name_of(path)} imports hepxai.{there}"


def test_no_import_cycle() -> None:
    """Imports for type checkers count too."""
    modules = {
        ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES
    }
    graph = nx.DiGraph()
    for name, path in modules.items():
        for parts in own_imports(path):
            module = next(m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in modules)
            graph.add_edge(name, module)
    assert not [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1]


def test_explainers_know_protocols_only() -> None:
    """Never a concrete model, never the training; the surrogate trainer is the one exception."""
    for path in (p for p in FILES if room_of(p) == "explainers" and p.name != "surrogate.py"):
        for there, *rest in own_imports(path):
            assert there != "training", path
            assert there != "models" or ".".join(rest).startswith(NEUTRAL_MODELS), f"{path}: {rest}"


def test_nothing_executes_what_it_reads() -> None:
    for path in FILES:
        for name in imports(path):
            assert name.split(".")[0] not in EXECUTES, f"{path}: {name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Call) and executes(node)), f"{path}: {ast.unparse(node)}"


def executes(node: ast.Call) -> bool:
    """True for a call that can execute what it is given."""
    if any(k.arg == "allow_pickle" for k in node.keywords):
        return True
    if isinstance(node.func, ast.Name):
        return node.func.id in CALLS
    if not (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)):
        return False
    called = (node.func.value.id, node.func.attr)
    if called == ("torch", "load"):
        return "weights_only=True" not in map(ast.unparse, node.keywords)
    return called in LOADS or (called == ("yaml", "load") and "SafeLoader" not in ast.unparse(node))


@pytest.mark.parametrize(
    "text",
    [
        "eval(x)",
        "torch.load(x, weights_only=y)",
        "yaml.load(x)",
        "np.load(x, allow_pickle=True)",
        "yaml.full_load(x)",
    ],
)
def test_what_executes_is_noticed(text: str) -> None:
    assert executes(ast.parse(text, mode="eval").body)


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


def test_everything_public_says_what_it_is() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{path} has no docstring"
        assert not list(undocumented(tree, name_of(path)))


VAGUE = {"kept", "own", "shown"}
"""Names of variables and functions that do not say what was kept, whose it is, or what is shown."""


def test_names_say_what_they_are() -> None:
    for path in (*FILES, *(ROOT / "analyses").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            stored = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else ""
            name = getattr(node, "arg" if isinstance(node, ast.arg) else "name", stored)
            assert name not in VAGUE, f"{path}:{node.lineno}: {name}"


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    look = "import sys, hepxai; sys.exit(str([m for m in sys.modules if m.startswith('hepxai.')]))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, cwd=ROOT)
    assert found.stderr.strip() == "[]"
