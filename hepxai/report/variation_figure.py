"""Distribution of a score under systematic variations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepxai.attribution.spread import systematic_error
from hepxai.core.estimate import Array
from hepxai.plots.histograms import Template
from hepxai.plots.style import INK, canvas, class_look, escape_label, legend_above, short, style, wrapped

LINES = ("-", "--")


def variation_figure(templates: Mapping[str, Template], *, most: int = 3) -> Figure:
    """Nominal histogram of each class, and below the ratio of each variation to it.

    Parameters
    ----------
    templates : mapping of str to Template
        By class, the last class of the schema first.
    most : int
        Sources with lines, those that change a bin most; the band has all sources.
    """
    names = list(templates)
    with style():
        size = (5.2 * len(names) + 1.0, 6.6)
        figure, axes = canvas(2, len(names), size, height_ratios=(3, 2), sharex="col")
        for column, name in enumerate(names):
            top, below = axes[0, column], axes[1, column]
            template, colour = templates[name], class_look(len(names) - 1 - column, len(names))["color"]
            edges = np.asarray(template.nominal.axes[0].edges)
            value, error = template.nominal.values(), np.sqrt(template.nominal.variances())
            total = np.hypot(error, systematic_of(template))
            top.stairs(value, edges, color=colour, lw=2, label=short(name))
            top.stairs(
                value + total, edges, baseline=value - total, fill=True, color=colour, alpha=0.25, lw=0
            )
            top.set(ylabel="sum of weights" if column == 0 else "")
            legend_above(top)
            _ratios(below, template, leading_sources(templates, most))
            below.set(xlabel=wrapped(template.nominal.axes[0].label))
            if column == 0:
                below.set(ylabel="varied / nominal")
        handles, labels = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="x-small")
    return figure


def systematic_of(template: Template) -> Array:
    """Systematic error of each bin: the larger shift of each source, in quadrature."""
    sources = [[h.values() for h in several] for several in template.varied.values()]
    return (
        systematic_error(template.nominal.values(), sources)
        if sources
        else np.zeros(len(template.nominal.values()))
    )


def leading_sources(templates: Mapping[str, Template], most: int) -> list[str]:
    """Sources that change a histogram most, in units of its statistical errors."""
    sizes: dict[str, float] = {}
    for template in templates.values():
        nominal, variances = template.nominal.values(), template.nominal.variances()
        for source, several in template.varied.items():
            pulls = [
                np.sum((h.values() - nominal) ** 2 / np.where(variances > 0, variances, np.inf))
                for h in several
            ]
            sizes[source] = max(sizes.get(source, 0.0), *map(float, pulls))
    return sorted(sizes, key=lambda source: -sizes[source])[:most]


def _ratios(ax: Axes, template: Template, sources: list[str]) -> None:
    edges, nominal = np.asarray(template.nominal.axes[0].edges), template.nominal.values()
    safe = np.where(nominal > 0, nominal, np.nan)
    error, total = np.sqrt(template.nominal.variances()) / safe, systematic_of(template) / safe
    both = np.hypot(error, total)
    ax.stairs(1 + both, edges, baseline=1 - both, fill=True, color="0.85", lw=0, label="stat ⊕ syst")
    ax.stairs(1 + error, edges, baseline=1 - error, fill=True, color="0.65", lw=0, label="stat")
    for i, source in enumerate(sources):
        several = template.varied[source]
        for line, histogram, end in zip(LINES, several, ("up", "down"), strict=False):
            label = f"{source} {end}" if len(several) == 2 else source
            look = {"color": class_look(i + 2)["color"], "ls": line, "lw": 1.6}
            ax.stairs(histogram.values() / safe, edges, baseline=None, label=escape_label(label, 28), **look)
    ax.axhline(1, color=INK, lw=0.8)
