"""Hook of the site: pages that are written for GitHub, with its links and hidden blocks, and the studies."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/hepxai/hepxai/blob/main/"
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages beside docs/ that the site has, too."""
FENCES = re.compile(r"^( *```.*?^ *```)[ ]*$", flags=re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """Add the studies to the navigation, and the page of the app."""
    pages = sorted(p.name for p in (ROOT / "docs").glob("*_study.md"))
    config.nav.append({"Studies": pages})
    if (ROOT / "docs" / "app.md").exists():
        next(part["How-to"] for part in config.nav if "How-to" in part).insert(0, "app.md")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages beside docs/."""
    for name in OUTSIDE:
        text = re.sub(r"\]\(docs/", "](", (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leave out hidden blocks and the words for the tests, and lead links out of docs/ somewhere."""
    markdown = re.sub(r"^<!--.*?-->\n", "", markdown, flags=re.MULTILINE | re.DOTALL)
    parts = FENCES.split(markdown)
    for i, part in enumerate(parts):
        if part.lstrip().startswith("```"):
            parts[i] = re.sub(r"\A( *```\w+)[^\n]*", r"\1", part)
        else:
            part = re.sub(r"\]\(([^)\s]+)\)", lambda m: f"]({_moved(m[1], page.file.src_uri)})", part)
            parts[i] = re.sub(r"(?m)^\|.*", lambda m: _titled(m[0]), part)
    return "".join(parts)


def _moved(target: str, page: str) -> str:
    """Link from a page of the site: a page beside docs/, or the file in the repository."""
    path, hash_sign, anchor = target.partition("#")
    there = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), path))
    outside = bool(path) and "://" not in path and not there.startswith("docs/")
    if page in OUTSIDE or not outside:
        return target
    if there in OUTSIDE:
        return posixpath.relpath(there, posixpath.dirname(page) or ".") + hash_sign + anchor
    return REPOSITORY + there


def _titled(row: str) -> str:
    """Row of a table with titles of pages in place of the names of their files."""

    def title(found: re.Match[str]) -> str:
        page = next((p for p in (ROOT / "docs", ROOT) if (p / found[1]).is_file()), None)
        head = (page / found[1]).read_text(encoding="utf-8").partition("\n")[0] if page else f"# {found[1]}"
        return f"[{head.removeprefix('# ')}]("

    return re.sub(r"\[(\w+\.md)\]\(", title, row)
