"""The page of a study: Markdown with figures beside it, and every number of it as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.core.estimate import Estimate, as_json
from hepxai.core.files import write_json, write_text
from hepxai.core.formatting import measured
from hepxai.plots.style import style


@dataclass
class StudyPage:
    """Grows from top to bottom; `write` leaves ``NAME.md``, ``NAME.json`` and figures ``NAME_*.png`` behind.

    Attributes
    ----------
    folder : Path
    name : str
    numbers : dict of str to Estimate
        Every number of the page.
    facts : dict of str to str
        What is no measurement: sizes of samples, choices.
    """

    folder: Path
    name: str
    numbers: dict[str, Estimate] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    _blocks: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._blocks.append(f"## {text}")

    def text(self, text: str) -> None:
        """Add a paragraph of Markdown."""
        self._blocks.append(text)

    def number(self, key: str, estimate: Estimate) -> str:
        """Note a number under a key that no other has; its text with the error.

        Raises
        ------
        ValueError
            If the key is taken: one of the two would be lost.
        """
        if key in self.numbers:
            raise ValueError(f"the page has a number {key!r} already")
        self.numbers[key] = estimate
        return measured(float(estimate.value), float(estimate.error))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
        """Add a table, its caption below it."""
        if uneven := [row for row in rows if len(row) != len(header)]:
            raise ValueError(f"{len(uneven[0])} cells in a row of a table with {len(header)} columns")
        lines = [header, ["---"] * len(header), *rows]
        cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
        self._blocks += ["\n".join(f"| {line} |" for line in cells), f"*{caption}*"]

    def figure(self, key: str, drawn: Figure, caption: str) -> None:
        """Save a figure as PNG and show it."""
        path = self.folder / f"{self.name}_{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, bbox_inches="tight", dpi=110)
        plt.close(drawn)
        self._show(path, caption)

    @contextmanager
    def axes(self, key: str, caption: str, size: tuple[float, float] = (8, 6)) -> Iterator[Axes]:
        """Axes to draw on; the figure is saved and shown at the end of the block."""
        with style():
            figure, ax = plt.subplots(figsize=size)
            yield ax
        self.figure(key, figure, caption)

    def copied(self, source: Path, caption: str) -> None:
        """Show a copy of a figure that is there already."""
        path = self.folder / f"{self.name}_{source.name}"
        shutil.copyfile(source, path)
        self._show(path, caption)

    def write(self, opening: str) -> Path:
        """Write page and numbers, complete or not at all.

        Parameters
        ----------
        opening : str
            Title and what comes before the first section, in Markdown.
        """
        content = {"facts": self.facts, "numbers": as_json(self.numbers)}
        write_json(self.folder / f"{self.name}.json", content)
        page = self.folder / f"{self.name}.md"
        write_text(page, "\n\n".join([opening, *self._blocks]) + "\n")
        return page

    def _show(self, path: Path, caption: str) -> None:
        alternative = caption.partition(". ")[0].rstrip(".").replace("[", "(").replace("]", ")")
        self._blocks += [f"![{alternative}]({path.name})", f"*{caption}*"]
