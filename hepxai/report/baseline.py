"""Baseline of an attribution, and the sum from the logit there to the score."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.core.estimate import Estimate, ratio_mean
from hepxai.core.formatting import general, measured
from hepxai.report.layer_attributions import LayerAttribution
from hepxai.report.outputs import ExplainedOutput, explained_output
from hepxai.report.section import ERRORS, Section, Table
from hepxai.report.view import RunView

PARTS = ("baseline", "attributions", "residual", "logit")
NAMED = 3
"""Other classes that a sentence compares with; the table has all."""


def closure_part(view: RunView, layer: LayerAttribution) -> Section:
    """Sum from the output at the baseline to the score, class by class; empty for a method without a sum."""
    text, output = _baseline(view, layer), _output(layer)
    if not _adds_up(view, layer):
        return Section("closure", "", text=text)
    means = {name: _means(view, layer, name) for name in view.classes}
    differences = _differences(means, output)
    if layer.full.axes[0] == "particle" and output.kind == "logit":
        text += [_beyond(output.favoured_class)] if all(m.value[0] > 0 for m in means.values()) else []
    means |= differences
    return Section("closure", "", text=text, tables=[_table(means, output)], numbers=_numbers(means))


def _output(layer: LayerAttribution) -> ExplainedOutput:
    return explained_output(layer.full.events.schema, layer.full.target)


def _differences(means: dict[str, Estimate], output: ExplainedOutput) -> dict[str, Estimate]:
    """Differences of the favoured class from each other class; none for a prediction."""
    if (favoured := means.get(output.favoured_class)) is None:
        return {}
    others = {name: mean for name, mean in means.items() if name != output.favoured_class}
    return {f"{output.favoured_class} − {name}": _difference(favoured, mean) for name, mean in others.items()}


def carried(view: RunView, layer: LayerAttribution) -> str:
    """Part of the differences between the classes that the attributions carry; "" without a sum."""
    if not _adds_up(view, layer):
        return ""
    settings, output = layer.full.settings, _output(layer)
    differences = _differences({name: _means(view, layer, name) for name in view.classes}, output)
    parts = [_carried(name, part) for name, part in differences.items() if np.isfinite(part.value).all()]
    what = f"all messages of {settings['layer']}" if "layer" in settings else "all pairs"
    means = "mean logits" if output.kind == "logit" else "means"
    if not parts:
        return ""
    shares = [f"{of} of the {whole} between the {means} of {classes}" for of, whole, classes in parts[:1]]
    shares += [f"{of} of the {whole} between those of {classes}" for of, whole, classes in parts[1:NAMED]]
    return f"{what} together carry {'; '.join(shares)}"


def _carried(name: str, part: Estimate) -> tuple[str, str, str]:
    """Sum of the attributions, whole difference, and the two classes, in words."""
    of, whole = (
        measured(float(part.value[PARTS.index(p)]), float(part.error[PARTS.index(p)]))
        for p in ("attributions", "logit")
    )
    return of, whole, name.replace(" − ", " and ")


def _adds_up(view: RunView, layer: LayerAttribution) -> bool:
    """True if the attributions add up to the change of an output of the model."""
    full = layer.full
    complete = full.output_change is not None and full.residual is not None
    return complete and layer.of_model and view.output_of(full.target, full.events) is not None


def _table(means: dict[str, Estimate], output: ExplainedOutput) -> Table:
    rows = [
        [name, *(measured(float(v), float(e)) for v, e in zip(m.value, m.error, strict=True))]
        for name, m in means.items()
    ]
    start = f"{output.kind} at the baseline"
    header = ("class", start, "+ sum of attributions", "− residual", f"= {output.name}")
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
    full, score = layer.full, np.asarray(view.output_of(layer.full.target, layer.full.events))
    output_change, residual = np.asarray(full.output_change), np.asarray(full.residual)
    parts = np.stack([score - output_change, output_change + residual, residual, score], axis=1)
    rows = full.events.label == full.events.schema.classes.index(name)
    return ratio_mean(parts[rows], np.ones(int(rows.sum())), full.events.weight[rows])


def _baseline(view: RunView, layer: LayerAttribution) -> list[str]:
    """Reference with which the method compares each event."""
    settings, classes = layer.full.settings, view.events.schema.classes
    first, within = (f"{classes[0]} ", f" in {classes[0]}") if len(classes) > 1 else ("", "")
    if "baseline" not in settings:
        return []
    baseline = str(settings["baseline"])
    if "feature" not in layer.full.axes:
        where = f" in layer {settings['layer']}; every other layer as it is" if "layer" in settings else ""
        return [f"Baseline: {baseline}{where}."]
    start = {
        "background_mean": f"each particle starts as the mean {first}particle of its type, each feature "
        "averaged separately (momenta of all directions cancel, energies do not: it is no physical particle; "
        "the baselines on_shell_mean and own_direction are)",
        "on_shell_mean": f"each particle starts as the mean {first}particle of its type, on shell, with its "
        "momentum averaged in pT, η, φ and mass",
        "own_direction": f"each particle starts with the mean pT and mass of its type{within}, on shell, "
        "and with its own η and φ",
        "zero": "each particle starts with all features 0",
    }.get(baseline, "each particle starts with the features that were given")
    return [
        f"Baseline: {start}, and every value says what moving away from there does to the "
        f"{_output(layer).kind}. A feature that equals its baseline, such as the type of a particle, gets "
        "exactly 0. Features that go together share their effect in a way that physics does not fix: trust "
        "sums over features more."
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
