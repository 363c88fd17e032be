"""Write a report: one HTML file that opens anywhere, its figures, its numbers, its histograms."""

from __future__ import annotations

import importlib.resources
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from hepxai.core.html import content_policy, script_data
from hepxai.core.workers import run_jobs
from hepxai.datasets.presentation import ExperimentLabel
from hepxai.export.templates import FILES, write_templates
from hepxai.models.target import REST
from hepxai.plots.hover import Spot, spots
from hepxai.plots.label import experiment_label
from hepxai.plots.style import DPI, style
from hepxai.report.attributions import attribution_sections
from hepxai.report.browser import browser_section
from hepxai.report.by_sample import by_sample_section, samples_of_classes
from hepxai.report.counterfactuals import counterfactual_sections
from hepxai.report.diagnostics import agreement_section, fidelity_section, residuals_section
from hepxai.report.inputs import cutflow_section, provenance_section, samples_section, training_section
from hepxai.report.layer_attributions import maps
from hepxai.report.performance import roc_section, scores_section
from hepxai.report.section import CaptionedFigure, Section
from hepxai.report.significance import significance_section
from hepxai.report.stability import stability_section
from hepxai.report.summary import Finding, summary
from hepxai.report.systematics import systematics_section, templates
from hepxai.report.targets import targets_section
from hepxai.report.truth import truth_section
from hepxai.report.verdicts import bad_texts, verdicts
from hepxai.report.view import RunView
from hepxai.run import Run

# Without dates, the same numbers give the same files.
UNDATED: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}
FOOTER = (
    "All numbers with errors: numbers.json. Histograms: histograms.root. Figures as PNG and PDF: figures/."
)
CANVASES: dict[str, type[FigureCanvasBase]] = {
    "pdf": FigureCanvasPdf,
    "png": FigureCanvasAgg,
    "svg": FigureCanvasSVG,
}


def sections(view: RunView) -> Iterator[Section]:
    """All sections in reading order."""
    yield samples_section(view)
    yield cutflow_section(view)
    yield training_section(view)
    if view.predictions:
        yield targets_section(view)
    else:
        yield scores_section(view)
        yield roc_section(view)
        if view.run.dataset.yields is not None:
            yield significance_section(view)
    if view.trainings > 1:
        yield stability_section(view)
    if view.sources:
        yield systematics_section(view)
    if samples_of_classes(view.events):
        yield by_sample_section(view)
    yield from filter(None, [browser_section(view)])
    yield from attribution_sections(view)
    yield from counterfactual_sections(view)
    if view.events.truth and any(maps(view)):
        yield truth_section(view)
    yield residuals_section(view)
    if view.fidelity:
        yield fidelity_section(view)
    yield agreement_section(view)
    yield provenance_section(view)


def write_report(
    run: Run, folder: str | Path | None = None, *, progress: bool = False, workers: int = 1
) -> Path:
    """Write ``report.html``, ``figures/``, ``numbers.json`` and ``histograms.root``.

    Each file is complete or absent; files of these names are replaced.

    Parameters
    ----------
    run : Run
    folder : path, optional
        Folder of the report; by default that of the run.
    progress : bool
        Show a progress bar.
    workers : int
        Processes that write figures.

    Returns
    -------
    Path
        Of ``report.html``: one file that needs no other and no network.
    """
    root, view = run.folder if folder is None else Path(folder), RunView(run)
    parts = list(sections(view))
    several = verdicts(view, {part.key: part.numbers for part in parts})
    findings, warnings = summary(view, several), (*view.warnings, *bad_texts(several))
    about: dict[str, Any] = {
        "summary": {p.about: list(p.sentences) for p in findings},
        "warnings": list(warnings),
    }
    about["verdicts"] = [v.to_json() for v in several]
    write_json(root / "numbers.json", _numbers(view, parts, about))
    _write_histograms(root / "histograms.root", {k: h for part in parts for k, h in part.histograms.items()})
    if view.sources and view.class_scores:
        write_templates(root, templates(view), view.classes[0])
    else:
        for name in FILES:
            (root / name).unlink(missing_ok=True)  # of an earlier report
    page: dict[str, Any] = {
        "title": view.title,
        "about": view.about,
        "warnings": warnings,
        "cards": view.cards,
    }
    page |= {"summary": findings, "reading": _reading(view), "footer": FOOTER}
    options: dict[str, Any] = {"progress": progress, "workers": workers}
    return _render(root / "report.html", parts, page, view.run.dataset.label, **options)


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
    label: ExperimentLabel | None = None,
    progress: bool = False,
) -> Path:
    """Write a page of sections that is not about a single run, in the style of a report.

    One HTML file that needs no other, and its figures as PNG and PDF in ``figures/`` beside it.

    Parameters
    ----------
    path : Path
        Of the page.
    title : str
    about : sequence of str
        Below the title.
    summary : mapping of str to sequence of str
        Findings: a word or two, and sentences.
    reading : sequence of str
        Conventions of the whole page.
    sections : sequence of Section
    cards : mapping of str to str
        Name and YAML text.
    footer : str
    label : ExperimentLabel, optional
        Above every figure.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
    """
    findings = [Finding(name, tuple(sentences)) for name, sentences in summary.items()]
    page: dict[str, Any] = {"title": title, "about": about, "warnings": (), "cards": cards}
    page |= {"summary": findings, "reading": reading, "footer": footer}
    return _render(path, sections, page, label, progress=progress)


def _render(
    path: Path,
    parts: Sequence[Section],
    page: Mapping[str, Any],
    label: ExperimentLabel | None,
    *,
    progress: bool,
    workers: int = 1,
) -> Path:
    """Save the figures of all sections, and write the page, whose texts are escaped."""
    drawings = [figure for part in parts for figure in part.figures]
    for one in drawings:
        experiment_label(one.figure, label)
    figures = _save_all(drawings, path.parent / "figures", progress=progress, workers=workers)
    template, css, script = map(_resource, ("report.html.j2", "page.css", "page.js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    looks = {"css": css, "script": script, "policy": content_policy(script), "script_data": script_data}
    text = environment.from_string(template).render(sections=parts, figures=figures, **looks, **page)
    write_text(path, text)
    return path


def _resource(name: str) -> str:
    return importlib.resources.files("hepxai.report").joinpath(name).read_text(encoding="utf-8")


def _reading(view: RunView) -> list[str]:
    """Conventions of the whole page."""
    return [
        *_outputs(view),
        "Errors are statistical, one standard deviation. Events are the independent units, also where an "
        "event has many particles or pairs; weights keep their signs.",
        *_spread(view),
    ]


def _spread(view: RunView) -> Iterator[str]:
    """What the second error covers, and what no error covers."""
    if view.trainings > 1:
        yield (
            f"The model is the mean logit of {view.trainings} trainings, which differ in their seed. A "
            "second error, as in 1.32 ± 0.01 ± 0.20, is the standard deviation of the single trainings: "
            "another training is expected to differ by so much."
        )
    if view.sources:
        yield (
            f"The last error is systematic: {', '.join(view.sources)}, in quadrature, each with the larger "
            "change of its alternatives."
        )
    if view.trainings > 1 or view.sources:
        yield "In figures the longer, thin error and the outer band have all errors in quadrature."
    yield f"No error covers {' or '.join(_uncovered(view))}."


def _uncovered(view: RunView) -> list[str]:
    """What could change the numbers and is in none of their errors."""
    training = ["another training"] if view.trainings == 1 else []
    declared = [s for s in view.run.dataset.variation_sources if s not in view.sources]
    sources = [f"the sources {', '.join(declared)} of the card"] if declared else []
    other = "a systematic uncertainty that is not on the card" if view.sources else "a systematic uncertainty"
    return [*training, "another simulation", *sources, other]


def _outputs(view: RunView) -> Iterator[str]:
    """Meaning of the outputs, and which of them are explained by figures."""
    signal = view.classes[0]
    if view.predictions:
        yield "Predictions are in the units of the targets, and so are the maps that add up to them."
    elif len(view.class_scores) == 1:
        one = view.class_scores[0]
        yield f"A positive logit means {one.name}, a negative one {one.others}."
    else:
        yield (
            "Scores are log-odds of a class against all others, ln p/(1 − p) of the softmax. Explained is "
            f"the logit of a class less the mean logit of the others, written {signal}-{REST}; positive: "
            f"towards {signal}, away from the other classes. It does not change if the same number is added "
            "to all logits, nor do the probabilities."
        )
    if any(view.compact(a.target) for a in view.explained.values()):
        outputs = view.in_full.partition(";")[0].removeprefix("Tables alone: ")
        yield f"Explanations: {outputs}; of the other outputs there are tables, numbers and histograms."


@dataclass(frozen=True)
class Printed:
    """A figure on the page: SVG as a data address, and the texts of its parts."""

    address: str
    spots: Sequence[Spot]


def _save_all(
    drawings: Sequence[CaptionedFigure], folder: Path, *, progress: bool, workers: int
) -> dict[str, Printed]:
    """Write each figure as PNG and PDF, and return those of the page by name."""
    refuse_links(folder.parent, folder.name)
    jobs = {f"{i + 1} of {workers}": (drawings[i::workers], folder, progress) for i in range(workers)}
    parts = run_jobs(_save_some, jobs, workers, show=progress)
    pages = {name: page for part in parts.values() for name, page in part.items()}
    return {one.name: pages[one.name] for one in drawings}


def _save_some(drawings: Sequence[CaptionedFigure], folder: Path, progress: bool) -> dict[str, Printed]:
    pages = {}
    with track("figures", len(drawings), show=progress) as advance:
        for one in drawings:
            pages[one.name] = _save(one, folder)
            advance(1)
    return pages


def _save(captioned: CaptionedFigure, folder: Path) -> Printed:
    """Write PNG and PDF, and return what the page shows."""
    figure, svg = captioned.figure, io.BytesIO()
    figure.dpi = DPI
    with style():
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)  # once for all formats: the solver takes longer than drawing
        figure.set_layout_engine("none")
        for ending in ("png", "pdf"):
            with replacing(folder / f"{captioned.name}.{ending}") as part:
                _print(figure, part, ending)
        _print(figure, svg, "svg")
    return Printed(svg_address(svg.getvalue().decode()), list(spots(figure)))


def svg_address(svg: str) -> str:
    """SVG as a data address for an attribute in single quotes, without what nothing draws.

    As text instead of base64, without comments, line breaks and unused names, it has less than two thirds of
    the size.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><")
    used = set(re.findall(r"""(?:url\(|href=")#([^)"]+)""", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    for character in "%#&'":
        svg = svg.replace(character, f"%{ord(character):X}")
    return f"data:image/svg+xml,{svg}"


def _print(figure: Figure, target: Path | io.BytesIO, ending: str) -> None:
    """Print by the canvas itself, because ``savefig`` draws everything twice."""
    canvas: Any = CANVASES[ending](figure)
    options: dict[str, Any] = (
        {"pil_kwargs": {"compress_level": 1}} if ending == "png" else {}
    )  # half the time
    getattr(canvas, f"print_{ending}")(target, metadata=UNDATED[ending], **options)


def _write_histograms(path: Path, filled: Mapping[str, hist.Hist]) -> None:
    with replacing(path) as part, uproot.recreate(part) as opened:
        for name, histogram in filled.items():
            opened[_root_name(name)] = histogram


def _root_name(name: str) -> str:
    return "/".join("".join(c if c.isalnum() and c.isascii() else "_" for c in p) for p in name.split("/"))


def _numbers(view: RunView, parts: list[Section], about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": view.title,
        **about,
        "focus": list(view.focus),
        "observer": view.observer,
        "units": {"momenta, masses": "GeV", "attributions": "as stated by each unit entry"},
        "errors": "one standard deviation; error: statistical, events are the independent units, weights are "
        "signed; training: spread over trainings; syst: systematic",
        "provenance": view.run.provenance(),
        "sections": {part.key: part.numbers for part in parts if part.numbers},
    }
