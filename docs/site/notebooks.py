"""Notebooks of the tutorials, without outputs: ``python docs/site/notebooks.py`` writes ``notebooks/``."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(page: Path) -> str:
    """Text of the notebook of a tutorial; the same page gives the same text."""
    cells = jupytext.reads(_links(page.read_text(encoding="utf-8")), fmt="md")
    cells.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(cells.cells):
        cell["id"], cell["metadata"] = f"cell-{number}", {}
    return str(nbformat.writes(cells, version=4)) + "\n"


def path_of(page: Path) -> Path:
    """File of the notebook of a tutorial."""
    return ROOT / "notebooks" / f"{page.stem}.ipynb"


def _links(text: str) -> str:
    """Links between tutorials lead to notebooks, others to docs/."""
    text = re.sub(r"\]\((\w+)\.md", r"](\1.ipynb", text)
    return re.sub(r"\]\(\.\./", "](../docs/", text)


if __name__ == "__main__":
    for page in TUTORIALS:
        path_of(page).parent.mkdir(exist_ok=True)
        path_of(page).write_text(notebook(page), encoding="utf-8")
