"""Every page says what is true: its code runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
import typer.main
from typer.testing import CliRunner

from hepxai.cli import app
from hepxai.explainers import EXPLAINERS
from hepxai.models.card import KINDS
from hepxai.scan import METRICS

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
"""Run as notebooks, by tests/test_site.py."""
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *TUTORIALS,
    *(ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING", "CHANGELOG")),
]
COMMAND: Any = typer.main.get_command(app)
OTHER_PROGRAMS = {"bash", "cd", "git", "pip", "python", "root"}
FLAGS = ("slow", "ROOT")
TO_BE_WRITTEN = {"hepxai/explainers/graph/leave_one_out.py", "tests/explainers/test_leave_one_out.py"}
"""Files that a page tells the reader to make."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words behind that, its text and where that begins."""

    language: str
    flags: frozenset[str]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """Name under which the reader is told to save it."""
        named = re.match(r"# (\w+\.(?:py|yaml))\n", self.text)
        return named[1] if named else None

    def commands(self) -> list[list[str]]:
        """Words of the lines behind a ``$``, or of all; continued ones joined, comments left out."""
        if self.language != "console":
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        typed = [line[2:] for line in lines if line.startswith("$ ")] or lines
        return [words for line in typed if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(m[1], frozenset(m[2].split()), m[3], text.count("\n", 0, m.start(3))) for m in found]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def by_name(page: Path) -> str:
    return page.name


# --- code ------------------------------------------------------------------------------------------


def runs() -> Iterator[Any]:
    """Each page with code once as it is, and once more for each flag that it has."""
    for page in (p for p in PAGES if p not in TUTORIALS):
        found = [b for b in blocks(page) if b.language == "python" or "run" in b.flags]
        for flag in ("", *FLAGS) if found else ():
            if not flag or any(flag in b.flags for b in found):
                marks = [pytest.mark.slow] if flag else []
                yield pytest.param(page, flag, id=f"{page.name} {flag}".strip(), marks=marks)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """An empty folder and an empty module to work in; what a page registers and imports is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module, known = types.ModuleType("page"), [(r, dict(r)) for r in (EXPLAINERS, METRICS, KINDS)]
    monkeypatch.setitem(sys.modules, "page", module)
    with torch.random.fork_rng(devices=[]):
        yield module
    for registry, before in known:
        registry.clear()
        registry.update(before)
    for name, loaded in list(sys.modules.items()):
        if str(getattr(loaded, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(("page", "flag"), list(runs()))
def test_code_runs(page: Path, flag: str, desk: types.ModuleType) -> None:
    if flag == "ROOT":
        with warnings.catch_warnings():  # the wheel calls itself an alpha on import
            warnings.simplefilter("ignore")
            pytest.importorskip("ROOT", reason="needs ROOT: pip install 'hepxai[root]'", exc_type=ImportError)
    lay_out(page)
    for block in blocks(page):
        if block.flags.isdisjoint(FLAGS) or flag in block.flags:
            work_through(block, page, desk)


def work_through(block: Block, page: Path, desk: types.ModuleType) -> None:
    if block.file:
        Path(block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        exec(compile("\n" * block.line + block.text, str(page), "exec"), desk.__dict__)
        plt.close("all")
    elif block.language == "console" and "run" in block.flags:
        for program, *words in block.commands():
            assert program == "hepxai"
            result = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"}).invoke(app, words)
            assert result.exit_code == 0, result.output


def lay_out(page: Path) -> None:
    """What a page takes for granted."""
    if page.name == "sequences.md":
        lay_out_weaver()
    if page.name != "dataset_card.md":
        return
    ntuples = helper("ntuples")
    card, *_ = (b.text for b in blocks(page) if b.language == "yaml")
    Path("my_card.yaml").write_text(card, encoding="utf-8")
    Path("ntuples").mkdir()
    for i, name in enumerate(("dy_1", "ttbar")):
        columns = ntuples.make_columns(400, seed=i)
        ntuples.write_ttree(Path("ntuples", f"{name}.root"), columns | {"HLT_IsoMu24": columns["trigger"]})


def lay_out_weaver() -> None:
    """Files of a training with weaver; the network is a plain one."""
    jetclass = helper("jetclass")
    jetclass.write_jets(Path("jets_1.root"), 60)
    Path("data.yaml").write_text(jetclass.DATA, encoding="utf-8")
    Path("network.py").write_text(jetclass.PLAIN, encoding="utf-8")
    parts = {"one": torch.nn.Conv1d(9, 8, 1), "last": torch.nn.Linear(8, 5)}
    torch.save(torch.nn.ModuleDict(parts).state_dict(), "net_best_epoch_state.pt")


def helper(name: str) -> Any:
    """Module of tests/helpers."""
    source = importlib.util.spec_from_file_location(name, ROOT / "tests" / "helpers" / f"{name}.py")
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


def test_pages_leave_no_explainer_behind() -> None:
    assert "leave_one_out" not in EXPLAINERS
    assert "leave_one_out" not in sys.modules


@pytest.mark.slow
def test_the_explainer_of_the_page_passes_the_suite(tmp_path: Path) -> None:
    """As a reader would: the file of the page, and the suite that runs over all registered methods."""
    (example,) = (b for b in blocks(ROOT / "docs" / "add_an_explainer.md") if b.file == "leave_one_out.py")
    (tmp_path / "leave_one_out.py").write_text(example.text, encoding="utf-8")
    suite = (
        "tests/explainers/test_registry.py",
        "-k",
        "leave_one_out",
        "-p",
        "leave_one_out",
        "-p",
        "no:cacheprovider",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *suite],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout), done.stdout


# --- commands ----------------------------------------------------------------------------------------


def shown() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks(page):
            for words in block.commands():
                yield pytest.param(words, id=f"{page.name}: {shlex.join(words)}")


@pytest.mark.parametrize("words", list(shown()))
def test_commands_exist(words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE) for target in rest)
    elif program == "hepxai":
        name, *arguments = rest
        COMMAND.commands[name].make_context(name, arguments)  # parses, and runs nothing
    else:
        assert program in OTHER_PROGRAMS


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_in_the_text_exist(page: Path) -> None:
    for command in re.findall(r"`hepxai ([^`]+)`", prose(page)):
        name, *words = command.split()
        known = COMMAND.commands[name]
        options = {o for p in known.params for o in p.opts} | {"-h", "--help"}
        assert {w for w in words if w.startswith("-")} <= options, command


def test_wrong_commands_are_noticed() -> None:
    for words in ("hepxai run charged_higgs", "hepxai check x --entires 3", "make nonsense"):
        with pytest.raises(Exception, match=r"Missing|No such option|assert"):
            test_commands_exist(words.split())


# --- links and names -----------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    text = prose(page)
    for path in re.findall(
        r"`((?:\.ci|analyses|benchmarks|datasets|docs|hepxai|models|tests)/[\w./]*)`", text
    ):
        assert (ROOT / path).exists() or path in TO_BE_WRITTEN or "NAME" in path, path
    for name in re.findall(r"`(hepxai(?:\.\w+)+)`", text):
        assert resolve(name) is not None


def resolve(name: str) -> object:
    """Module, or what is in one."""
    parts = name.split(".")
    found: object = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], start=2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:i]))
        found = getattr(found, part)
    return found


def test_the_map_has_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (p for p in PAGES if p.is_relative_to(ROOT / "docs")):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, name


def test_every_method_and_its_checks_are_explained() -> None:
    pages = ("explanations", "table_methods", "image_methods")
    text = "".join((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    for name in EXPLAINERS:
        assert text.count(f"\n## {name}\n") == 1, name
    for check in ("max_row_deviation", "median_residual", "p90_residual", "fidelity_ok"):
        assert f"`{check}`" in text, check
