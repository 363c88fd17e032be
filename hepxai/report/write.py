"""Write a report: one HTML file that opens anywhere, its figures, its numbers, its histograms."""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hist
import jinja2
import uproot
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hepxai.core.console import track
from hepxai.core.files import refuse_links, replacing, write_json, write_text
from hepxai.plots.scores import sides
from hepxai.plots.style import DPI, style
from hepxai.report.attributions import looked_sections
from hepxai.report.content import ReportContent
from hepxai.report.diagnostics import agreement_section, fidelity_section, residuals_section
from hepxai.report.inputs import cutflow_section, samples_section, training_section
from hepxai.report.performance import roc_section, scores_section
from hepxai.report.provenance import provenance_section
from hepxai.report.section import CaptionedFigure, Section
from hepxai.report.summary import Finding, summary
from hepxai.report.targets import targets_section

# Without dates, the same numbers give the same files.
UNDATED: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}
CANVASES: dict[str, type[FigureCanvasBase]] = {
    "pdf": FigureCanvasPdf,
    "png": FigureCanvasAgg,
    "svg": FigureCanvasSVG,
}


def sections(content: ReportContent) -> Iterator[Section]:
    """All sections in reading order."""
    yield samples_section(content)
    yield cutflow_section(content)
    yield training_section(content)
    if content.predictions:
        yield targets_section(content)
    else:
        yield scores_section(content)
        yield roc_section(content)
    yield from looked_sections(content)
    yield residuals_section(content)
    if content.fidelity:
        yield fidelity_section(content)
    yield agreement_section(content)
    yield provenance_section(content)


def write_report(content: ReportContent, folder: str | Path, *, progress: bool = False) -> Path:
    """Write ``report.html``, ``figures/``, ``numbers.json`` and ``histograms.root``.

    Each file is complete or absent; files of these names are replaced.

    Parameters
    ----------
    content : ReportContent
    folder : path
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        Of ``report.html``: one file that needs no other and no network.
    """
    root = Path(folder)
    parts, points = list(sections(content)), summary(content)
    figures = save_all([d for part in parts for d in part.figures], root / "figures", progress=progress)
    write_json(root / "numbers.json", _numbers(content, parts, points))
    _write_histograms(root / "histograms.root", {k: h for part in parts for k, h in part.histograms.items()})
    page = template().render(
        content=content, sections=parts, summary=points, figures=figures, reading=_reading(content)
    )
    write_text(root / "report.html", page)
    return root / "report.html"


def _reading(content: ReportContent) -> list[str]:
    """What holds for the whole page, said once."""
    signal, background = sides(content.events.schema)
    logit = f"A positive logit means {signal}, a negative one {background}."
    number = "Predictions are in the units of the targets, and so are the maps that add up to them."
    return [
        number if content.predictions else logit,
        "Errors are statistical, one standard deviation. Events are the independent units, also where an "
        "event has many particles or pairs; weights keep their signs.",
        "No error covers another training, another simulation or a systematic uncertainty.",
    ]


def template() -> jinja2.Template:
    """The page; whatever is put into it is escaped."""
    source = importlib.resources.files("hepxai.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def save_all(drawings: Sequence[CaptionedFigure], folder: Path, *, progress: bool) -> dict[str, str]:
    """Write each figure as PNG and PDF; ``name → SVG as a data address`` for the page."""
    refuse_links(folder.parent, folder.name)
    pages = {}
    with track("figures", len(drawings), show=progress) as advance:
        for one in drawings:
            pages[one.name] = _save(one, folder)
            advance(1)
    return pages


def _save(drawn: CaptionedFigure, folder: Path) -> str:
    """Write PNG and PDF, and return the SVG as a data address for the page."""
    figure, svg = drawn.figure, io.BytesIO()
    figure.dpi = DPI
    with style():
        _arrange(figure)
        for ending in ("png", "pdf"):
            with replacing(folder / f"{drawn.name}.{ending}") as part:
                _print(figure, part, ending)
        _print(figure, svg, "svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}"


def _arrange(figure: Figure) -> None:
    """Lay out once for all formats: the solver takes longer than the drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _print(figure: Figure, target: Path | io.BytesIO, ending: str) -> None:
    """Print by the canvas itself, because ``savefig`` draws everything twice."""
    canvas: Any = CANVASES[ending](figure)
    getattr(canvas, f"print_{ending}")(target, metadata=UNDATED[ending])


def _write_histograms(path: Path, filled: Mapping[str, hist.Hist]) -> None:
    with replacing(path) as part, uproot.recreate(part) as opened:
        for name, histogram in filled.items():
            opened[_root_name(name)] = histogram


def _root_name(name: str) -> str:
    return "/".join("".join(c if c.isalnum() and c.isascii() else "_" for c in p) for p in name.split("/"))


def _numbers(content: ReportContent, parts: list[Section], points: list[Finding]) -> dict[str, Any]:
    return {
        "title": content.title,
        "summary": {p.about: list(p.sentences) for p in points},
        "warnings": list(content.warnings),
        "focus": list(content.focus),
        "observer": content.observer,
        "units": {"momenta, masses": "GeV", "attributions": "as stated by each unit entry"},
        "errors": "statistical, one standard deviation; events are the independent units; weights are signed",
        "provenance": content.provenance,
        "sections": {part.key: part.numbers for part in parts if part.numbers},
    }
