"""Files of a flow: an interactive page, a table, figures, and the JSON of the published tool."""

from __future__ import annotations

import base64
import csv
import importlib.resources
import io
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
from jinja2 import Environment
from matplotlib.figure import Figure

from hepxai.core.estimate import as_json
from hepxai.core.files import replacing, write_json, write_text
from hepxai.core.html import script_data
from hepxai.events.splits import event_hash
from hepxai.export.branches import word
from hepxai.plots.style import CLASS_COLOURS, DPI, class_look
from hepxai.studies.instance_flow.figures import class_accuracies, flow_diagram, kinds_of_events
from hepxai.studies.instance_flow.numbers import KINDS, InstanceFlow

MAXIMUM = 20_000
"""Events on the page; of more, a sample by the hash of their identity."""


def write_flow(flow: InstanceFlow, folder: str | Path, *, title: str, maximum: int = MAXIMUM) -> Path:
    """Write page, table, JSON and figures; equal flows give equal files.

    Parameters
    ----------
    flow : InstanceFlow
        Of one split, or of all.
    folder : path
    title : str
        Heading of the page.
    maximum : int
        Events on the page.

    Returns
    -------
    Path
        ``instance_flow.html``, one file that needs no other and no network. Beside it are
        ``instance_flow.csv``, ``instance_flow.json`` for the published tool, ``numbers.json`` and figures.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    write_text(root / "instance_flow.csv", _csv(flow))
    write_json(root / "instance_flow.json", flow.to_json())
    write_json(root / "numbers.json", {name: as_json(kinds) for name, kinds in flow.shares().items()})
    _write_figures(flow, root)
    page = root / "instance_flow.html"
    write_text(page, html_page(flow, title=title, maximum=maximum))
    return page


def _csv(flow: InstanceFlow) -> str:
    table, text = flow.table(), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))
    return text.getvalue()


def _write_figures(flow: InstanceFlow, root: Path) -> None:
    figures = {"kinds": kinds_of_events(flow), "accuracies": class_accuracies(flow)}
    if len(flow.predicted) > 1:
        names = flow.occurring
        figures |= {f"flow_{i}_{word(n)}": flow_diagram(flow, n) for i, n in enumerate(names)}
        figures["flow"] = flow_diagram(flow)
    for name, ax in figures.items():
        figure = cast(Figure, ax.figure)
        with replacing(root / f"{name}.png") as part:
            figure.savefig(part, dpi=DPI, format="png")
        plt.close(figure)


def html_page(flow: InstanceFlow, *, title: str, maximum: int = MAXIMUM) -> str:
    """Self-contained page: Sankey diagram by true class and epochs, and the events behind each ribbon."""
    sample = _sampled(flow, maximum)
    source = importlib.resources.files("hepxai.studies.instance_flow").joinpath("page.html.j2")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    counts = {"shown": len(sample.label), "all": len(flow.label)}
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(title=title, kinds=KINDS, data=_script_data(sample), **counts)


def _sampled(flow: InstanceFlow, maximum: int) -> InstanceFlow:
    if len(flow.label) <= maximum:
        return flow
    keys = event_hash(*(flow.identity[n] for n in ("run", "luminosity_block", "event")), seed=0)
    return flow[np.sort(np.argsort(keys, kind="stable")[:maximum])]


def _script_data(flow: InstanceFlow) -> str:
    """Data as a JSON text that is safe inside a script element."""
    size = len(flow.classes)
    data: dict[str, Any] = {
        "classes": list(flow.classes),
        "colours": [class_look(c, size)["color"] for c in range(size)] or list(CLASS_COLOURS),
        "kinds": list(KINDS),
        "label": _packed(flow.label),
        "kind": _packed(np.array([list(KINDS).index(k) for k in flow.kind.tolist()])),
        "predicted": [_packed(row) for row in flow.predicted],
        "event": flow.identity["event"].tolist(),
        "file": flow.identity["file"].tolist(),
        "entry": flow.identity["entry"].tolist(),
    }
    return script_data(data)


def _packed(codes: Any) -> str:
    return base64.b64encode(np.asarray(codes, dtype="<u2").tobytes()).decode()
