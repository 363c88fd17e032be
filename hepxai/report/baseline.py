"""Baseline of an attribution, and the sum from the logit there to the score."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.formatting import general, measured
from hepxai.plots.scores import sides
from hepxai.report.layer_attributions import LayerAttribution
from hepxai.report.section import ERRORS, Section, Table
from hepxai.report.view import RunView

PARTS = ("baseline", "attributions", "residual", "logit")


def closure_part(view: RunView, layer: LayerAttribution) -> Section:
    """Sum from the logit at the baseline to the score, class by class; empty for a method without a sum."""
    full, (signal, background) = layer.full, sides(layer.full.events.schema)
    text = _baseline(view, layer)
    if not _adds_up(layer):
        return Section("closure", "", text=text)
    means = {name: _means(view, layer, name) for name in view.classes}
    if len(means) == 2:
        means[f"{signal} − {background}"] = _difference(means[signal], means[background])
    if full.axes[0] == "particle" and all(means[name].value[0] > 0 for name in view.classes):
        text.append(_beyond(signal))
    return Section("closure", "", text=text, tables=[_table(means, signal)], numbers=_numbers(means))


def carried(view: RunView, layer: LayerAttribution) -> str:
    """Part of the difference between the classes that the attributions carry; "" without a sum."""
    full, (signal, background) = layer.full, sides(layer.full.events.schema)
    if not _adds_up(layer):
        return ""
    part = _difference(_means(view, layer, signal), _means(view, layer, background))
    of, whole = (
        measured(float(part.value[PARTS.index(p)]), float(part.error[PARTS.index(p)]))
        for p in ("attributions", "logit")
    )
    if not np.isfinite(part.value).all():
        return ""
    what = f"all messages of {full.settings['layer']}" if "layer" in full.settings else "all pairs"
    return f"{what} together carry {of} of the {whole} between the mean logits of {signal} and {background}"


def _adds_up(layer: LayerAttribution) -> bool:
    """True if the attributions add up to the change of the logit of signal."""
    full = layer.full
    complete = full.output_change is not None and full.residual is not None
    return complete and layer.of_model and full.target == sides(full.events.schema)[0]


def _table(means: dict[str, Estimate], signal: str) -> Table:
    rows = [
        [name, *(measured(float(v), float(e)) for v, e in zip(m.value, m.error, strict=True))]
        for name, m in means.items()
    ]
    header = ("class", "logit at the baseline", "+ sum of attributions", "− residual", f"= logit of {signal}")
    return Table(f"From the baseline to the score: means over the events. {ERRORS}", header, rows)


def _numbers(means: dict[str, Estimate]) -> dict[str, Any]:
    return {
        name: {p: {"value": v, "error": e} for p, v, e in zip(PARTS, m.value, m.error, strict=True)}
        for name, m in means.items()
    }


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference of two classes, which share no event."""
    return Estimate(a.value - b.value, np.hypot(a.error, b.error), a.n_eff + b.n_eff)


def _means(view: RunView, layer: LayerAttribution, name: str) -> Estimate:
    full, score = layer.full, view.scores_of(layer.full.events)
    output_change, residual = np.asarray(full.output_change), np.asarray(full.residual)
    parts = np.stack([score - output_change, output_change + residual, residual, score], axis=1)
    rows = full.events.label == full.events.schema.classes.index(name)
    return ratio_mean(parts[rows], np.ones(int(rows.sum())), full.events.weight[rows])


def _baseline(view: RunView, layer: LayerAttribution) -> list[str]:
    """Reference with which the method compares each event."""
    settings, first = layer.full.settings, view.events.schema.classes[0]
    if "baseline" not in settings:
        return []
    baseline = str(settings["baseline"])
    if "feature" not in layer.full.axes:
        where = f" in layer {settings['layer']}; every other layer as it is" if "layer" in settings else ""
        return [f"Baseline: {baseline}{where}."]
    start = {
        "background_mean": f"each particle starts as the mean {first} particle of its type, each feature "
        "averaged separately (momenta of all directions cancel, energies do not: it is no physical particle; "
        "the baselines on_shell_mean and own_direction are)",
        "on_shell_mean": f"each particle starts as the mean {first} particle of its type, on shell, with its "
        "momentum averaged in pT, η, φ and mass",
        "own_direction": f"each particle starts with the mean pT and mass of its type in {first}, on shell, "
        "and with its own η and φ",
        "zero": "each particle starts with all features 0",
    }.get(baseline, "each particle starts with the features that were given")
    return [
        f"Baseline: {start}, and every value says what moving away from there does to the logit. A feature "
        "that equals its baseline, such as the type of a particle, gets exactly 0. Features that go together "
        "share their effect in a way that physics does not fix: trust sums over features more."
    ]


def _beyond(signal: str) -> str:
    return (
        f"Mind the baseline: the model calls it {signal} for the events of either class, and no event looks "
        "like it. The values say how real events differ from it; that most are negative does not speak "
        f"against {signal}. Compare the classes."
    )


def baseline_table(layer: LayerAttribution) -> list[Table]:
    """Baseline particle of every type, with units, where the method states it."""
    values = layer.full.settings.get("baseline_values")
    if values is None:
        return []
    schema = layer.full.events.schema
    names = [f"{f} [{u}]" if u else f for f, u in zip(schema.features, schema.units, strict=True)]
    momenta = layer.full.settings.get("momentum_features") or ()  # each particle has its own
    rows: list[list[Any]] = [
        [t, *("own" if f in momenta else general(v, 3) for f, v in zip(schema.features, row, strict=True))]
        for t, row in zip(schema.types, values, strict=True)
    ]
    return [Table("Baseline particle of every type", ("particle", *names), rows, folded=True)]
