"""The documentation site builds, has what it promises and loads nothing; tutorials run as notebooks."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer.main

import hepxai
from hepxai import plots
from hepxai.cli import app
from hepxai.datasets.card import DatasetCard
from hepxai.models.card import model_card_classes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
NEEDS_DOCS = "pip install 'hepxai[docs]'"


def tool(name: str) -> dict[str, Any]:
    """Names of a script in docs/site."""
    return runpy.run_path(str(DOCS / "site" / f"{name}.py"))


# --- the site ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    if not all(importlib.util.find_spec(m) for m in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip(NEEDS_DOCS)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    """Words of a page, without markup and with single spaces."""
    words = re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))
    for escape, sign in (
        ("&#34;", '"'),
        ("&quot;", '"'),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ):
        words = words.replace(escape, sign)
    return " ".join(words.split())


@pytest.mark.slow
def test_every_public_name_has_its_docstring(site: Path) -> None:
    page = (site / "reference_api.html").read_text(encoding="utf-8")
    words = text_of(site / "reference_api.html")
    for name in hepxai.__all__:
        assert f'id="hepxai.{name}"' in page, name
        first = str(getattr(hepxai, name).__doc__).strip().split("\n")[0]
        assert first.replace("`", "") in words, name


@pytest.mark.slow
def test_every_module_command_and_key_is_there(site: Path) -> None:
    for room in tool("reference")["rooms"]():
        page = (site / "api" / f"{room}.html").read_text(encoding="utf-8")
        for module in tool("reference")["modules"](room):
            assert f'id="{module}"' in page, module
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    words = text_of(site / "reference_cli.html")
    for name, command in commands.items():
        assert f"hepxai {name}" in words
        assert all(option in words for p in command.params for option in p.opts if option.startswith("--")), (
            name
        )
    assert "{methods}" not in words, "the help names the methods"
    keys = text_of(site / "reference_cards.html")
    for card in (DatasetCard, *model_card_classes().values()):
        assert all(f.alias or n in keys for n, f in card.model_fields.items())


@pytest.mark.slow
def test_pages_load_nothing_from_the_network(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//[^\s>]*"
        r"|<link[^>]*\shref=\"?(?:https?:)?//[^\s>]*|url\(['\"]?(?:https?:)?//|@import"
    )
    for path in (p for p in site.rglob("*") if p.suffix in (".html", ".css")):
        assert not loads.findall(path.read_text(encoding="utf-8")), path
    assert 'class="md-source"' not in (site / "index.html").read_text(encoding="utf-8")  # asks for stars


@pytest.mark.slow
def test_hidden_blocks_and_words_for_tests_are_left_out(site: Path) -> None:
    page = (site / "systematics.html").read_text(encoding="utf-8")
    assert "shutil" not in page
    assert "```" not in text_of(site / "add_a_dataset.html")


@pytest.mark.parametrize(
    ("target", "page", "expected"),
    [
        ("../CONTRIBUTING.md", "index.md", "CONTRIBUTING.md"),
        ("../../CHANGELOG.md#a", "tutorials/x.md", "../CHANGELOG.md#a"),
        (
            "../analyses/population.py",
            "index.md",
            "https://github.com/hepxai/hepxai/blob/main/analyses/population.py",
        ),
        ("../systematics.md#a", "tutorials/x.md", "../systematics.md#a"),
        ("#a", "index.md", "#a"),
        ("https://arxiv.org/abs/1", "index.md", "https://arxiv.org/abs/1"),
        ("scan.md", "CONTRIBUTING.md", "scan.md"),
    ],
)
def test_links_out_of_the_folder(target: str, page: str, expected: str) -> None:
    pytest.importorskip("mkdocs", reason=NEEDS_DOCS)
    assert tool("links")["_moved"](target, page) == expected


# --- tutorials -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.stem)
def test_notebook_is_that_of_the_page(page: Path) -> None:
    pytest.importorskip("jupytext", reason=NEEDS_DOCS)
    notebooks = tool("notebooks")
    stored = notebooks["path_of"](page)
    assert stored.read_text(encoding="utf-8") == notebooks["notebook"](page), "make notebooks"
    for line in re.findall(
        r"^\s*[%!].*", "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)), re.M
    ):
        raise AssertionError(f"{page.name}: {line}: magics run in notebooks only")


def test_every_notebook_has_its_page() -> None:
    assert {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} == {p.stem for p in TUTORIALS}


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.stem)
def test_notebook_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient", reason=NEEDS_DOCS)
    nbformat = pytest.importorskip("nbformat", reason=NEEDS_DOCS)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a notebook shows its figures
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / f"{page.stem}.ipynb", as_version=4)
    with warnings.catch_warnings():  # of Jupyter about its connection
        warnings.simplefilter("ignore")
        client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in outputs) or page.stem == "systematics"
    assert all("pip install" in c.source for c in notebook.cells[:1])


# --- choosing a method, gallery --------------------------------------------------------------------------


def test_choice_of_a_method_agrees_with_the_table_of_models() -> None:
    """Methods of each section work on the models that its comment names."""
    head, _, *rows = re.findall(
        r"^\|.*", (DOCS / "models_and_methods.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    methods = [m.strip() for m in head.split("|")[2:-1]]
    cells = {r.split("|")[1].strip(): [c.strip() for c in r.split("|")[2:-1]] for r in rows}
    text = (DOCS / "choosing_a_method.md").read_text(encoding="utf-8")
    sections = re.findall(r"<!-- rows: (.*?) -->\n((?:\|.*\n)+)", text)
    assert len(sections) == 7
    for models, table in sections:
        for line in table.splitlines()[2:]:
            for method in re.findall(r"\[(\w+)\]", line.split(" | ")[1]):
                for model in models.split("; "):
                    assert cells[model][methods.index(method)] == "✓", (model, method)


def test_gallery_has_every_figure() -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    missing = {name for name in plots.__all__ if name not in text}
    assert missing <= {"style", "class_scores", "plot"}, missing
    pictures = set(re.findall(r"\]\(img/gallery/(\w+\.png)\)", text))
    assert (
        pictures
        == {p.name for p in (DOCS / "img" / "gallery").iterdir()}
        == set(re.findall(r'"(\w+\.png)"', text))
    )
    assert all(p.stat().st_size < 60_000 for p in (DOCS / "img" / "gallery").iterdir())
