"""Hook of the site: formulas as drawings inside the page, by matplotlib: no script has to be loaded."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.textpath import TextPath

SIZE = 16.0
"""Units of a drawing that are one em."""
LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
OTHERWISE = {
    r"\tfrac12": r"\frac{1}{2}",
    r"\tfrac": r"\frac",
    r"\bigl": "",
    r"\bigr": "",
    r"\dots": r"\ldots",
}
"""Commands that mathtext lacks."""


def on_page_content(text: str, page: Any, config: Any, files: Any) -> str:
    """Exchange the formulas of pymdownx.arithmatex for drawings."""
    text = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', _inline, text, flags=re.DOTALL)
    return re.sub(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', _display, text, flags=re.DOTALL)


def _inline(found: re.Match[str]) -> str:
    return drawing(html.unescape(found[1]))


def _display(found: re.Match[str]) -> str:
    return f'<div class="formula">{drawing(" ".join(html.unescape(found[1]).split()))}</div>'


@cache
def drawing(formula: str) -> str:
    """SVG of a formula, in the colour and on the line of the text around it."""
    tex = formula.strip()
    for command, other in OTHERWISE.items():
        tex = re.sub(re.escape(command) + r"(?![a-z])", lambda _, other=other: other, tex)
    with mpl.rc_context({"mathtext.fontset": "stix"}):
        font = FontProperties(size=SIZE)
        width, height, depth, *_ = MathTextParser("path").parse(f"${tex}$", dpi=72, prop=font)
        path = TextPath((0, 0), f"${tex}$", size=SIZE, prop=font)
    box = f"-1 {-(height - depth) - 1:.1f} {width + 2:.1f} {height + 2:.1f}"
    size = f"width:{(width + 2) / SIZE:.2f}em;height:{(height + 2) / SIZE:.2f}em"
    style = f"{size};vertical-align:{-(depth + 1) / SIZE:.2f}em"
    return (
        f'<svg class="tex" role="img" aria-label="{html.escape(formula.strip())}" viewBox="{box}" '
        f'style="{style}">'
        f'<path d="{_commands(path)}"/></svg>'
    )


def _commands(path: Path) -> str:
    """The path in SVG's words, with y downwards."""
    steps = path.iter_segments(simplify=False, curves=True)
    return "".join(LETTERS[code] + _points(code, points) for points, code in steps)


def _points(code: int, points: np.ndarray) -> str:
    if code == Path.CLOSEPOLY:
        return ""
    return " ".join(f"{v * s:.1f}" for v, s in zip(points, np.tile([1, -1], len(points) // 2), strict=True))
