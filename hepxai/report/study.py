"""Shared parts of study scripts: options, trained runs, stored results, and the page with its numbers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.files import write_json, write_text
from hepxai.core.fingerprint import fingerprint
from hepxai.core.formatting import measured
from hepxai.datasets import DatasetCard
from hepxai.events import SPLITS, Events
from hepxai.metrics.averages import class_means
from hepxai.metrics.columns import Ranking
from hepxai.models import ModelCard
from hepxai.plots.style import canvas, style
from hepxai.report.section import named
from hepxai.run import Run

T = TypeVar("T")

# --- options, runs and stored results ------------------------------------------------------------


def study_options(
    script: str,
    description: str,
    *,
    dataset: str,
    quick: str,
    overrides: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    arguments: Sequence[str] | None = None,
) -> Namespace:
    """Parse the command line of a study, and set PyTorch to one thread.

    Parameters
    ----------
    script : str
        ``__file__`` of the script; ``--out`` is named after it by default.
    description : str
        Docstring of the script; ``--help`` shows its first line.
    dataset : str
        Default data-set card.
    quick : str
        Help text of ``--quick``.
    overrides : sequence of str
        Entries of the data-set card that the study changes.
    options : mapping
        Further options and their keywords for ``add_argument``.
    arguments : sequence of str, optional
        Command line; that of the process by default.

    Returns
    -------
    argparse.Namespace
        ``out``, ``dataset`` (the card), ``folder``, ``workers``, ``quick`` and the further options.
    """
    out = Path(Path(script).stem.replace("_", "-"))
    shared: dict[str, dict[str, Any]] = {
        "--dataset": {"default": dataset, "help": "data-set card, a name or a path"},
        "--folder": {"type": Path, "help": "folder of the ROOT files, by default that of the card"},
        "--out": {"type": Path, "default": out, "help": "folder for everything"},
        "--workers": {"type": int, "default": 1, "help": "training processes"},
        "--quick": {"action": "store_true", "help": quick},
    }
    parser = ArgumentParser(description=description.partition("\n")[0])
    for flag, keywords in {**shared, **(options or {})}.items():
        parser.add_argument(flag, **keywords)
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = [] if parsed.folder is None else [f"folder={parsed.folder.absolute()}"]
    parsed.dataset = DatasetCard.find(parsed.dataset, [*folder, *overrides])
    return parsed


def trained_runs(out: Path, dataset: DatasetCard, overrides: Mapping[str, Sequence[str]]) -> dict[str, Run]:
    """Trained runs of several models on the same events, which are read once.

    Parameters
    ----------
    out : Path
        Each run has a folder in it, named after its model card.
    dataset : DatasetCard
    overrides : mapping of str to sequence of str
        Changed entries of each model card.
    """
    runs: dict[str, Run] = {}
    for name, entries in overrides.items():
        run = Run.start(out / name, dataset, ModelCard.find(name, entries))
        run = run.on(next(iter(runs.values())).reading) if runs else run
        run.train()
        runs[name] = run
    return runs


def stored(
    path: Path,
    *parts: Any,
    make: Callable[..., T],
    load: Callable[[Path], T],
    save: Callable[[T, Path], None],
) -> T:
    """Result of some models, events and settings: loaded from its file, or made and saved.

    Parameters
    ----------
    path : Path
        A hash is added to its name.
    *parts
        Everything that the result depends on, see `hepxai.core.fingerprint.fingerprint`.
    make : callable
        Takes ``unfinished``, a path for the state of an interrupted pass.
    load, save : callable
    """
    path = path.with_name(f"{path.stem}-{fingerprint(*parts)[:16]}{path.suffix}")
    if path.exists():
        return load(path)
    result = make(unfinished=path.with_suffix(".unfinished"))
    save(result, path)
    return result


# --- the page ------------------------------------------------------------------------------------


@dataclass
class StudyPage:
    """Page that grows from top to bottom; `write` makes ``NAME.md`` and ``NAME.json`` beside its figures.

    Attributes
    ----------
    folder : Path
    name : str
    numbers : dict of str to Estimate
        Every number of the page.
    facts : dict of str to str
        Sizes of samples, choices and other values without an error.
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

    # --- numbers -----------------------------------------------------------------------------

    def number(self, key: str, estimate: Estimate) -> str:
        """Store a number under a unique key and return it as text with its error.

        Raises
        ------
        ValueError
            If the key is taken: one of the two would be lost.
        """
        if key in self.numbers:
            raise ValueError(f"the page has a number {key!r} already")
        self.numbers[key] = estimate
        return self.cite(key)

    def cite(self, key: str) -> str:
        """Text of a stored number with its error."""
        estimate = self.numbers[key]
        numbers = map(float, (estimate.value, estimate.error, *estimate.spread.values()))
        return named(measured(*numbers), estimate.spread)

    def cells(self, estimates: Mapping[str, Estimate]) -> list[str]:
        """Store several numbers by key; their texts, in this order."""
        return [self.number(key, estimate) for key, estimate in estimates.items()]

    def class_cells(self, key: str, attribution: Attribution) -> list[str]:
        """Store the mean of each class and their difference under ``KEY, CLASS``; see `class_means`."""
        return self.cells({f"{key}, {name}": mean for name, mean in class_means(attribution).items()})

    def ranking(self, key: str, ranking: Ranking) -> list[str]:
        """Store every importance under ``KEY, NAME``; texts ``NAME importance``, the largest first."""
        every = Estimate(ranking.value, ranking.error, np.nan, spread=ranking.spread)
        numbers = {ranking.names[i]: every.at((i,)) for i in ranking.order()}
        return [f"{name} {self.number(f'{key}, {name}', estimate)}" for name, estimate in numbers.items()]

    def sample_facts(self, events: Events) -> None:
        """Store the number of events of each class, and of classes and splits in words."""
        sizes = {n: f"{(events.label == i).sum():,}" for i, n in enumerate(events.schema.classes)}
        splits = (f"{(events.split == i).sum():,} {name}" for i, name in enumerate(SPLITS))
        self.facts |= {f"{name} events": size for name, size in sizes.items()}
        self.facts["events"] = ", ".join(f"{size} {name}" for name, size in reversed(sizes.items()))
        self.facts["split"] = ", ".join(splits)

    # --- tables and figures ------------------------------------------------------------------

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
        """Add a table, its caption below it."""
        if uneven := [row for row in rows if len(row) != len(header)]:
            raise ValueError(f"{len(uneven[0])} cells in a row of a table with {len(header)} columns")
        lines = [header, ["---"] * len(header), *rows]
        cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
        self._blocks += ["\n".join(f"| {line} |" for line in cells), f"*{caption}*"]

    def figure(self, key: str, figure: Figure, caption: str) -> None:
        """Save a figure as PNG and show it."""
        path = self.folder / f"{self.name}_{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight", dpi=110)
        plt.close(figure)
        alternative = caption.partition(". ")[0].rstrip(".").replace("[", "(").replace("]", ")")
        self._blocks += [f"![{alternative}]({path.name})", f"*{caption}*"]

    @contextmanager
    def axes(self, key: str, caption: str, size: tuple[float, float] = (8, 6)) -> Iterator[Axes]:
        """Axes to draw on; the figure is saved and shown at the end of the block."""
        with self.panels(key, caption, size=size) as (ax,):
            yield ax

    @contextmanager
    def panels(
        self, key: str, caption: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 6)
    ) -> Iterator[list[Axes]]:
        """Several axes of a size each, row by row; see `axes`."""
        with style():
            figure, frames = canvas(rows, columns, (columns * size[0], rows * size[1]))
            yield list(frames.flat)
        self.figure(key, figure, caption)

    # --- the file ----------------------------------------------------------------------------

    def write(self, opening: str) -> Path:
        """Write page and numbers, complete or not at all.

        Parameters
        ----------
        opening : str
            Title and introduction in Markdown, before the first section.
        """
        content = {"facts": self.facts, "numbers": as_json(self.numbers)}
        write_json(self.folder / f"{self.name}.json", content)
        page = self.folder / f"{self.name}.md"
        write_text(page, "\n\n".join([opening, *self._blocks]) + "\n")
        return page

    def write_with(self, script: str, **values: object) -> Path:
        """Write the page with the opening of a script, ``SCRIPT.md.in``.

        Parameters
        ----------
        script : str
            ``__file__`` of the script.
        **values
            Fields of the opening, beside ``{cite[KEY]}`` for numbers and ``{facts[KEY]}``.
        """
        opening = Path(script).with_suffix(".md.in").read_text(encoding="utf-8")
        cite = {key: self.cite(key) for key in self.numbers}
        return self.write(opening.rstrip().format(cite=cite, facts=self.facts, **values))
