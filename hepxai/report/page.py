"""A page of sections about something else than one run, in the looks of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hepxai.core.files import write_text
from hepxai.report.section import Section
from hepxai.report.summary import Finding
from hepxai.report.write import save_all, template


@dataclass(frozen=True)
class _Content:
    """What the template asks of the content of a report."""

    title: str
    about: Sequence[str]
    warnings: Sequence[str]
    cards: Mapping[str, str]


def write_page(
    path: Path,
    *,
    title: str,
    about: Sequence[str],
    summary: Mapping[str, Sequence[str]],
    reading: Sequence[str],
    sections: Sequence[Section],
    cards: Mapping[str, str],
    footer: str,
    progress: bool = False,
) -> Path:
    """Write one HTML file that needs no other, and its figures as PNG and PDF in ``figures/`` beside it.

    Parameters
    ----------
    path : Path
        Of the page.
    title : str
    about : sequence of str
        Below the title.
    summary : mapping of str to sequence of str
        What to know first: a word or two, and sentences.
    reading : sequence of str
        What holds for the whole page.
    sections : sequence of Section
    cards : mapping of str to str
        Name and YAML text.
    footer : str
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
    """
    drawings = [one for part in sections for one in part.figures]
    page = template().render(
        content=_Content(title, about, (), cards),
        sections=sections,
        summary=[Finding(name, tuple(sentences)) for name, sentences in summary.items()],
        figures=save_all(drawings, path.parent / "figures", progress=progress),
        reading=reading,
        footer=footer,
    )
    write_text(path, page)
    return path
