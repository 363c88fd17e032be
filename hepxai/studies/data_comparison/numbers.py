"""Comparison of unlabelled data with simulation at the level of the explanation, and of the inputs alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.trainings import stack_trainings
from hepxai.core.estimate import effective
from hepxai.core.formatting import general, measured
from hepxai.events import Events
from hepxai.explainers import CannotExplainError
from hepxai.explainers.methods import configure, resolve_target, working
from hepxai.metrics.two_sample import (
    DRAWS,
    SIGNIFICANT,
    SPARSE,
    AxisTests,
    ClassifierTest,
    EventTable,
    compare_axes,
    compare_by_classifier,
)
from hepxai.metrics.two_sample import FEWEST as TRAINABLE
from hepxai.models.ensemble import Ensemble
from hepxai.models.protocols import ChecksEvents, Model
from hepxai.models.target import Target
from hepxai.studies.data_comparison.axes import attribution_columns, input_table, table_of

FEWEST = 50
"""Effective events of a sample, below which a comparison says little."""
LEVELS = ("explanation", "inputs")
Methods = Mapping[str, Mapping[str, Any]] | Sequence[str]


@dataclass(frozen=True)
class LevelComparison:
    """Two-sample tests of data and simulation in some numbers of the events.

    Attributes
    ----------
    data, simulation : EventTable
    axes : AxisTests
        Data are the first sample.
    classifier : ClassifierTest or None
        None if there are too few events.
    """

    data: EventTable
    simulation: EventTable
    axes: AxisTests
    classifier: ClassifierTest | None

    @property
    def p_value(self) -> float:
        """Global p-value of all axes and the classifier: twice the smaller one, at most 1 [Bonferroni]."""
        if self.classifier is None:
            return self.axes.p_value
        return min(1.0, 2 * min(self.axes.p_value, self.classifier.p_value))

    @property
    def differs(self) -> bool:
        """True if the p-value is at most `hepxai.metrics.two_sample.SIGNIFICANT`."""
        return self.p_value <= SIGNIFICANT

    def rows(self) -> list[dict[str, Any]]:
        """One record per axis, the most different one first."""
        tests = self.axes
        order = np.lexsort((tests.p_local, -abs(np.nan_to_num(tests.pull)), tests.p_global))
        columns = {"statistic": tests.statistic, "pull": tests.pull}
        columns |= {"p_local": tests.p_local, "p_global": tests.p_global}
        columns |= {"data": tests.first.value, "data_error": tests.first.error}
        columns |= {"simulation": tests.second.value, "simulation_error": tests.second.error}
        return [{"axis": tests.names[k]} | {n: float(c[k]) for n, c in columns.items()} for k in order]


@dataclass(frozen=True)
class DataComparison:
    """Data and simulation, compared in explanations and, apart from that, in inputs.

    Attributes
    ----------
    target : str
        Explained output.
    explanation : LevelComparison
        Score, and attributions summed over the particles, pairs or columns of an event.
    inputs : LevelComparison
        What the model is given.
    concerns : tuple of str
        Doubts about the samples and about the attributions.
    settings : dict
        ``method → settings`` of the explanations, as resolved.
    draws, seed : int
        Of the tests.
    """

    target: str
    explanation: LevelComparison
    inputs: LevelComparison
    concerns: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    draws: int = DRAWS
    seed: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """One record per axis of both levels."""
        return [{"level": name} | row for name in LEVELS for row in getattr(self, name).rows()]

    def to_json(self) -> dict[str, Any]:
        """Numbers as JSON values."""
        levels: dict[str, dict[str, Any]] = {}
        for name in LEVELS:
            level: LevelComparison = getattr(self, name)
            test = level.classifier
            by_classifier = {} if test is None else {"auc": test.auc.to_json(), "p_value": test.p_value}
            levels[name] = {"p_value": level.p_value, "p_axes": level.axes.p_value}
            levels[name] |= {"classifier": by_classifier, "axes": level.rows()}
            levels[name]["left_out"] = list(level.axes.left_out)
        options = {"settings": self.settings, "draws": self.draws, "seed": self.seed}
        texts = {"verdicts": self.verdicts(), "concerns": list(self.concerns)}
        return {"target": self.target, **options, **self._sizes(), **texts, **levels}

    def _sizes(self) -> dict[str, Any]:
        samples = {"data": self.inputs.data.weight, "simulation": self.inputs.simulation.weight}
        return {f"{n}_events": len(w) for n, w in samples.items()} | {
            f"{n}_effective": effective(w) for n, w in samples.items()
        }

    def verdicts(self) -> list[str]:
        """Result of each level in words, with its numbers; then how far it can be trusted."""
        unseen = self.inputs.differs and not self.explanation.differs
        return [
            *(_verdict(name, getattr(self, name)) for name in LEVELS),
            *([UNSEEN + self._score_difference()] if unseen else []),
            *(f"concern: {concern}" for concern in self.concerns),
        ]

    def _score_difference(self) -> str:
        """Difference of the mean scores with its error: its size tells what would be seen."""
        axes, score = self.explanation.axes, f"score {self.target}"
        if score not in axes.names:
            return ""
        k = axes.names.index(score)
        difference = axes.first.value[k] - axes.second.value[k]
        error = np.hypot(axes.first.error[k], axes.second.error[k])
        return f"; mean score, data less simulation: {measured(difference, error)}"

    def table(self, most: int = 8) -> tuple[tuple[str, ...], list[list[str]]]:
        """Header and cells of the most different axes of each level."""
        header = ("level", "axis", "data", "simulation", "p local", "p global")
        return header, [
            [
                name,
                row["axis"],
                measured(row["data"], row["data_error"]),
                measured(row["simulation"], row["simulation_error"]),
                general(row["p_local"], 2),
                general(row["p_global"], 2),
            ]
            for name in LEVELS
            for row in getattr(self, name).rows()[:most]
        ]

    def __str__(self) -> str:
        header, rows = self.table()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = (
            "  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in (header, *rows)
        )
        return "\n".join([*lines, *self.verdicts()])


VERDICTS = {
    "explanation": ("the explanation differs", "the explanation shows no difference"),
    "inputs": ("the inputs differ", "the inputs show no difference"),
}
"""Words for p ≤ 0.05, and for others."""
UNSEEN = (
    "the difference in the inputs was not seen in the explanation, which is no proof that it does not reach "
    "the network: the tests may lack the power"
)


def _verdict(name: str, level: LevelComparison) -> str:
    few = f"effectively fewer than {SPARSE} events differ from the commonest value"
    without = f"{len(level.axes.left_out)} left out: {few}" if level.axes.left_out else ""
    if not level.axes.names:
        return f"the {name} cannot be compared: no axis varies enough{without and f' ({without})'}"
    parts = [f"axes {general(level.axes.p_value, 2)}, {len(level.axes.names)} of them"]
    parts[0] += without and f", {without}"
    if (test := level.classifier) is not None:
        parts.append(f"classifier {general(test.p_value, 2)}, AUC {test.auc}")
    words = VERDICTS[name][0 if level.differs else 1]
    return f"{words} (p = {general(level.p_value, 2)}: {'; '.join(parts)})"


def compare_with_data(
    model: Model,
    simulation: Events,
    data: Events,
    methods: Methods,
    *,
    target: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> DataComparison:
    """Score, explain and compare unlabelled data with simulation.

    Explanations are prepared on the simulation (baseline, steps, surrogate) and applied to both. No label is
    used: simulation of several classes is compared as their sum, by its weights. Take a simulation that
    should describe the data, and events that did not train the model: scores of training events are biased.

    Parameters
    ----------
    model : Model
        Of several trainings, attributions are averaged.
    simulation, data : Events
        ``read(card).events.where("test")`` and ``read(data_card(card)).events``.
    methods : mapping of str to mapping, or sequence of str
        Methods with their settings, or names.
    target : str, optional
        Output to explain; may be left out if there is one.
    draws, seed : int
        Of the tests; see `hepxai.metrics.two_sample`.

    Raises
    ------
    CannotExplainError, KeyError, ValueError
        If a method does not fit the model, or the model does not take the events.

    Warns
    -----
    UserWarning
        If a sample has few effective events.
    """
    samples = {"data": data, "simulation": simulation}
    few = [
        f"{name}: only {n:.3g} effective events; a comparison says little below {FEWEST}: take more"
        for name, events in samples.items()
        if (n := effective(events.weight)) < FEWEST
    ]
    for concern in few:
        warnings.warn(concern, stacklevel=2)
    explained = explain_samples(model, simulation, samples, methods, target=target)
    options = {"draws": draws, "seed": seed}
    explanation = compare_tables(explained.tables["data"], explained.tables["simulation"], **options)
    inputs = compare_tables(input_table(data), input_table(simulation), **options)
    concerns = (*few, *explained.concerns)
    return DataComparison(explained.target, explanation, inputs, concerns, explained.settings, **options)


@dataclass(frozen=True)
class ExplainedSamples:
    """Score and attributions of several samples.

    Attributes
    ----------
    target : str
        Explained output.
    tables : dict of str to EventTable
        One for each sample; see `hepxai.studies.data_comparison.axes.attribution_columns`.
    concerns : tuple of str
        Failed checks of the attributions, with their method and sample.
    settings : dict
        ``method → settings``, as resolved.
    """

    target: str
    tables: dict[str, EventTable]
    concerns: tuple[str, ...]
    settings: dict[str, dict[str, Any]]


def explain_samples(
    model: Model,
    simulation: Events,
    samples: Mapping[str, Events],
    methods: Methods,
    *,
    target: str | None = None,
) -> ExplainedSamples:
    """Score and attributions of several samples, by explainers that are prepared on the simulation."""
    for events in samples.values():
        if isinstance(model, ChecksEvents):
            model.check(events)
    columns: dict[str, dict[str, Any]] = {name: {} for name in samples}
    explained, concerns, used = {target} - {None}, list[str](), dict[str, dict[str, Any]]()
    chosen = methods if isinstance(methods, Mapping) else {method: {} for method in methods}
    for method, settings in chosen.items():
        for name, part in _explained(model, simulation, samples, method, target, settings):
            columns[name] |= attribution_columns(part)
            explained, used[method] = {part.target}, dict(part.settings)
            concerns += [f"{method}, {name}: {concern}" for concern in part.concerns]
    resolved = str(next(iter(explained), model.outputs[0]))
    output = Target.of(model.outputs, resolved)
    tables = {
        name: table_of({f"score {resolved}": output(model.logits(e)), **columns[name]}, e.weight)
        for name, e in samples.items()
    }
    return ExplainedSamples(resolved, tables, tuple(concerns), used)


def compare_tables(
    data: EventTable, simulation: EventTable, *, draws: int = DRAWS, seed: int = 0
) -> LevelComparison:
    """Both tests of two tables; see `hepxai.metrics.two_sample`."""
    axes = compare_axes(data, simulation, draws=draws, seed=seed)
    few = min(len(data.weight), len(simulation.weight)) < TRAINABLE or not axes.names
    classifier = None if few else compare_by_classifier(data, simulation, seed=seed)
    return LevelComparison(data, simulation, axes, classifier)


def _explained(
    model: Model,
    simulation: Events,
    samples: Mapping[str, Events],
    method: str,
    target: str | None,
    settings: Mapping[str, Any],
) -> Iterator[tuple[str, Attribution]]:
    """Attribution of every sample by one explainer, prepared on the simulation."""
    members = model.models if isinstance(model, Ensemble) else (model,)
    explainer = configure(method, settings)
    if not all(map(explainer.works_on, members)):
        raise CannotExplainError(f"{method} does not explain this model; {working(members[0])}")
    resolved = resolve_target(explainer, model, simulation.schema, target)
    prepared = [explainer.prepare(m, simulation, resolved) for m in members]
    for name, events in samples.items():
        maps = [p.checked(p.attribute(events)) for p in prepared]
        yield name, stack_trainings(maps) if len(maps) > 1 else maps[0]
