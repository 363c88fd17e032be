"""Write a report: one HTML file that opens anywhere, its figures, its numbers, its histograms."""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections.abc import Iterator, Mapping
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

from hepxai.files import replacing, write_json, write_text
from hepxai.plots.style import DPI, style
from hepxai.report.content import ReportContent
from hepxai.report.inputs import cutflow_section, samples_section, training_section
from hepxai.report.looked import looked_sections
from hepxai.report.performance import roc_section, scores_section
from hepxai.report.section import Drawn, Section
from hepxai.report.summary import summary
from hepxai.report.trust import agreement_section, fidelity_section, residuals_section

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
    yield scores_section(content)
    yield roc_section(content)
    yield from looked_sections(content)
    yield residuals_section(content)
    yield fidelity_section(content)
    yield agreement_section(content)


def write_report(content: ReportContent, folder: str | Path) -> Path:
    """Write ``report.html``, ``figures/``, ``numbers.json`` and ``histograms.root``.

    Each file is complete or absent; files of these names are replaced.

    Parameters
    ----------
    content : ReportContent
    folder : path

    Returns
    -------
    Path
        Of ``report.html``: one file that needs no other and no network.
    """
    root = Path(folder)
    parts, text = list(sections(content)), summary(content)
    figures = {d.name: _save(d, root / "figures") for part in parts for d in part.figures}
    write_json(root / "numbers.json", _numbers(content, parts, text))
    _write_histograms(root / "histograms.root", {k: h for part in parts for k, h in part.histograms.items()})
    page = _template().render(
        content=content, sections=parts, summary=text, figures=figures, provenance=_flat(content.provenance)
    )
    write_text(root / "report.html", page)
    return root / "report.html"


def _template() -> jinja2.Template:
    source = importlib.resources.files("hepxai.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _save(drawn: Drawn, folder: Path) -> str:
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


def _numbers(content: ReportContent, parts: list[Section], text: str) -> dict[str, Any]:
    return {
        "title": content.title,
        "summary": text,
        "warnings": list(content.warnings),
        "focus": list(content.focus),
        "observer": content.observer,
        "units": {"momenta, masses": "GeV", "attributions": "as stated by each unit entry"},
        "errors": "statistical, one standard deviation; events are the independent units; weights are signed",
        "provenance": content.provenance,
        "sections": {part.key: part.numbers for part in parts if part.numbers},
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    rows: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{prefix}{key} · ")
        elif isinstance(value, list | tuple):
            rows[f"{prefix}{key}"] = ", ".join(map(str, value))
        else:
            rows[f"{prefix}{key}"] = str(value)
    return rows
