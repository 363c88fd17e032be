"""Sections on what the model looked at: one for each method and layer. Particles here, pairs in `pairs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hepxai.attribution import Attribution
from hepxai.plots.means import Means, quantity, type_means
from hepxai.plots.style import canvas, style
from hepxai.plots.types import feature_matrix, matrix_bar, particle_types
from hepxai.report.content import ReportContent
from hepxai.report.maps import Map, maps
from hepxai.report.pairs import pair_section
from hepxai.report.section import Drawn, Section, capital, drawn, means_table, row_histogram, titled

SIGNED = "Positive values push the output up (towards signal), negative ones down."
NOTHING = "Nothing was explained yet: run `hepxai explain` on this run folder."


def looked_sections(content: ReportContent) -> Iterator[Section]:
    """Heading, then one section per method and layer."""
    yield Section("looked", "What the model looked at", text=() if content.explained else (NOTHING,))
    for found in maps(content):
        build = pair_section if found.full.axes[0] == "pair" else particle_section
        yield build(content, found)


def particle_section(content: ReportContent, found: Map) -> Section:
    """Means per particle type, and per feature where the method tells features apart."""
    means = type_means(found.plain)
    numbers = {"unit": quantity(found.plain), "particle_types": means.rows()}
    figures = [_types_figure(found, means)]
    if "feature" in found.full.axes:
        features = _features_only(found.full)
        figures.append(_features_figure(found, features))
        numbers["features"] = type_means(features).rows()
    return Section(
        found.key,
        capital(found.name),
        text=[SIGNED],
        warnings=content.warnings_about(found.method),
        tables=[means_table("Mean per particle", means)],
        figures=figures,
        numbers=numbers,
        histograms={k: titled(h, found.full) for k, h in _histograms(found, means).items()},
        level=3,
    )


def _histograms(found: Map, means: Means) -> dict[str, Any]:
    classes, types = means.labels[:2]
    return {
        f"{found.key}/types_{c}": row_histogram(means.value[i], means.error[i], types, "particle")
        for i, c in enumerate(classes)
    }


def _types_figure(found: Map, means: Means) -> Drawn:
    caption = f"Mean attribution per particle of each type; {found.about}"
    size = (7.0, 1.8 + 0.75 * len(means.labels[1]))
    return drawn(f"{found.key}_types", caption, lambda ax: particle_types(found.plain, ax=ax), size)


def _features_only(attribution: Attribution) -> Attribution:
    for axis in attribution.axes[1:]:
        attribution = attribution if axis == "feature" else attribution.mean(axis)
    return attribution


def _features_figure(found: Map, features: Attribution) -> Drawn:
    means = type_means(features)
    classes, kinds, names = means.labels
    with style():
        figure, axes = canvas(
            len(classes), 1, (1.4 + 0.85 * len(names), (1.2 + 0.6 * len(kinds)) * len(classes) + 0.6)
        )
        for ax, name in zip(axes.flat, reversed(classes), strict=True):
            feature_matrix(features, name, means=means, ax=ax)
        matrix_bar(axes.flat[-1], features, means, list(axes.flat))
    caption = f"Mean attribution per particle of each type and feature; {found.about}"
    return Drawn(f"{found.key}_features", figure, caption, wide=True)
