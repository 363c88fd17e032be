"""Contract of an explainer: settings that are prepared for a model and a population, and then attribute."""

from __future__ import annotations

import dataclasses
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from hepxai.attribution import Attribution
from hepxai.attribution.residuals import residual_checks
from hepxai.cards import nearest
from hepxai.cards.card import wording
from hepxai.cards.text import shorten
from hepxai.core.console import track
from hepxai.core.jagged import IntArray, row_sum
from hepxai.events import Events
from hepxai.explainers.batches import Batch, Part, Parts, View, batches, default_rows
from hepxai.models.protocols import Model
from hepxai.models.target import Target

MARGIN, FAR = 1.5, 20
"""Residuals that raise a concern, in units of the tolerance: median, and 90 % quantile of the events."""


class CheckWarning(UserWarning):
    """A check of a result failed."""


class CannotExplainError(TypeError):
    """The model lacks an ability that the method needs."""


class SettingError(ValueError):
    """A setting that a method does not have, or a value that it does not allow."""


class Explainer(BaseModel):
    """Settings of a method. A new method subclasses this, adds its fields and `attribute_batch`.

    Attributes
    ----------
    name : str
        Registered name (this and all others but ``progress`` are class attributes).
    title, short_title : str
        Name of the method in words, in full and abbreviated.
    unit : str
        Unit of the values. "logit" becomes the unit of the target where that is a regression target.
    sign : str
        "both", or "positive" where the values have no sign by default.
    axes : tuple of str
        Axes of the result, the first one "event", "particle" or "pair".
    reads : str
        View of the events that the method takes: "graph", "table" or "image".
    default_for : str, optional
        View of the models that a run explains with this method by default, if they satisfy
        ``default_needs``.
    needs : type
        Protocol that the model must satisfy; see `hepxai.models.protocols`.
    tells_outputs_apart : bool
        False if the result is the same for every output of a model.
    complete, has_errors : bool
        True if, with all settings, the values of an event add up to a change of the output; if they have
        standard errors.
    wanted_residual : float
        Tolerance of the median relative completeness residual, for methods without a ``tolerance`` setting.
    hard_limits : mapping of str to float
        Largest value of a check in any correct result; see `Prepared.refuse_broken`.
    progress : bool
        Show a progress bar.

    Raises
    ------
    SettingError
        Unknown setting, or a value that is not allowed: one line for each.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    short_title: ClassVar[str] = ""
    unit: ClassVar[str] = "logit"
    sign: ClassVar[Literal["both", "positive"]] = "both"
    axes: ClassVar[tuple[str, ...]]
    reads: ClassVar[View] = "graph"
    default_for: ClassVar[str | None] = None
    default_needs: ClassVar[type] = Model
    needs: ClassVar[type] = Model
    tells_outputs_apart: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    has_errors: ClassVar[bool] = False
    wanted_residual: ClassVar[float] = 0.01
    hard_limits: ClassVar[Mapping[str, float]] = {"max_row_deviation": 1e-3, "median_residual": 10.0}
    progress: bool = Field(default=False, exclude=True)

    def __init__(self, **settings: Any) -> None:
        arrays = {n: v.tolist() for n, v in settings.items() if isinstance(v, np.ndarray | np.generic)}
        try:
            super().__init__(**settings | arrays)
        except ValidationError as problem:
            lines = (self._problem(e, settings) for e in problem.errors())
            raise SettingError("\n".join(dict.fromkeys(lines))) from None

    @classmethod
    def _problem(cls, error: ErrorDetails, settings: Mapping[str, Any]) -> str:
        setting = str(error["loc"][0]) if error["loc"] else ""
        value = settings.get(setting)
        start, context = f"{cls.name}.{setting}={shorten(value)}", error.get("ctx", {})
        if error["type"] == "extra_forbidden":
            names = sorted(cls.model_fields)
            return f"{start}; no such setting{nearest(setting, names)}; it has {', '.join(names)}"
        if error["type"] == "value_error":
            return f"{start}; {context['error']}"
        return start + wording(error, value, context).removeprefix(f"found {shorten(value)}")

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True if a model has the abilities that the method needs."""
        return isinstance(model, cls.needs)

    def check_model(self, model: Any) -> None:
        """Refuse settings that do not fit the model, which may be untrained."""

    def check_run(self, model: Any) -> None:
        """Refuse settings whose result a run cannot store."""

    def axes_of_result(self) -> tuple[str, ...]:
        """Axes of the result with these settings."""
        return self.axes

    def sign_of_result(self) -> Literal["both", "positive"]:
        """Signs that values can have with these settings."""
        return self.sign

    def settings(self) -> dict[str, Any]:
        """Settings as JSON values, stored with the result."""
        names = (n for n, f in type(self).model_fields.items() if not f.exclude)
        return {n: as_json(getattr(self, n), f"{self.name}.{n}") for n in names}

    def silent(self) -> Self:
        """Copy that shows no progress bar."""
        return self.model_copy(update={"progress": False})

    def prepare(self, model: Any, events: Events, target: str) -> Prepared:
        """Compute everything that depends on the whole population: steps, baseline, surrogate."""
        return Prepared(explainer=self, model=model, target=target)

    def explain(
        self, model: Any, events: Events, target: str, *, population: Events | None = None
    ) -> Attribution:
        """Prepare on a population, by default the events explained; attribute, check."""
        prepared = self.prepare(model, events if population is None else population, target)
        prepared.announce(events)
        return prepared.checked(prepared.attribute(events))

    def batch_rows(self, events: Events) -> Sequence[IntArray]:
        """Positions of the events of each batch."""
        return default_rows(self.reads, events)

    @abstractmethod
    def attribute_batch(self, prepared: Any, batch: Any) -> Part:
        """Explain the events of a batch, independently of each other.

        Parameters
        ----------
        prepared : Prepared
            From `prepare`: model, target, and values that depend on the population.
        batch : Batch
            ``batch.x`` is the view of the events that the method ``reads``.
        """

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Figures of merit, stored with the result; by default the completeness residual, if there is one."""
        return {} if attribution.residual is None else residual_checks(attribution)

    def model_checks(self, prepared: Any, attribution: Attribution) -> dict[str, float]:
        """Figures of merit that need further passes of the model; by default none."""
        return {}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """One sentence for each failed check: raised as a warning, stored, and shown in figures and reports.

        By default the completeness residual is compared with the ``tolerance`` of the method.
        """
        tolerance = getattr(self, "tolerance", 0.0) or self.wanted_residual
        median, tail = checks.get("median_residual", 0.0), checks.get("p90_residual", 0.0)
        if median <= MARGIN * tolerance and tail <= FAR * tolerance:
            return ()
        return (
            "values add up to the change of the output only within "
            f"{100 * median:.3g} % in the median event and {100 * tail:.3g} % in one event of ten "
            f"(tolerance {100 * tolerance:.3g} %)",
        )


def as_json(value: Any, name: str) -> Any:
    """Setting as a JSON value; events become a text with their number.

    Raises
    ------
    TypeError
        If the setting has no JSON form.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Events):
        return f"mean of {len(value)} events"
    if isinstance(value, Mapping):
        return {str(k): as_json(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v, name) for v in value]
    raise TypeError(f"{name} is of type {type(value).__name__}, which cannot be stored with a result")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Explainer with everything that depends on the population computed.

    Subclasses add the results of `Explainer.prepare` as fields.

    Attributes
    ----------
    explainer : Explainer
    model : Model
    target : str
        Output to explain.
    """

    explainer: Any
    model: Any
    target: str

    @property
    def output(self) -> Target:
        """Function from the outputs of the model to the target."""
        return Target.of(self.model.outputs, self.target)

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of the result."""
        axes: tuple[str, ...] = self.explainer.axes_of_result()
        return axes

    def settings(self) -> dict[str, Any]:
        """Settings, and the values computed for the population; stored with the result."""
        settings: dict[str, Any] = self.explainer.settings()
        return settings

    def labels(self, events: Events) -> dict[str, tuple[str, ...]]:
        """Names along the regular axes, from the schema of the events; other axes are numbered."""
        schema = events.schema
        names = {"feature": schema.globals if self.axes[0] == "event" else schema.features}
        return names | ({"channel": events.image_layout().types} if "channel" in self.axes else {})

    def unit(self, events: Events) -> str:
        """Unit of the values."""
        units = dict(zip(events.schema.targets, events.schema.target_units, strict=True))
        unit: str = self.explainer.unit
        return units.get(self.target, unit) if unit == "logit" else unit

    def silent(self) -> Self:
        """Copy that shows no progress bar."""
        return dataclasses.replace(self, explainer=self.explainer.silent())

    def announce(self, events: Events) -> None:
        """Print the expected cost where it is high, or raise an error if it exceeds a budget."""

    def attribute(self, events: Events) -> Attribution:
        """Explain every event."""
        explainer, parts = self.explainer, []
        rows = list(explainer.batch_rows(events))
        with track(explainer.name, len(events), show=explainer.progress) as advance:
            for batch in batches(explainer.reads, events, rows):
                parts.append(self._checked_part(explainer.attribute_batch(self, batch), batch))
                advance(len(batch.rows), "")
        return self._joined(Parts(events, rows, parts, self.axes[0], self._empty(events)))

    def _checked_part(self, part: object, batch: Batch[Any]) -> Part:
        """Part of a batch, refused if it has not one value for each event, particle or pair."""
        name, counts = self.explainer.name, batch.population.counts[batch.rows]
        if not isinstance(part, Part):
            raise TypeError(f"{name}: attribute_batch returns {type(part).__name__}; a Part is needed")
        sizes = {"event": len(counts), "particle": counts.sum(), "pair": (counts * (counts - 1)).sum()}
        if part.edges is None and len(part.values) != (size := sizes[self.axes[0]]):
            raise ValueError(f"{name}: {len(part.values)} values for a batch of {size} ({self.axes[0]} axis)")
        return part

    def _empty(self, events: Events) -> tuple[int, ...]:
        sizes = {axis: len(names) for axis, names in self.labels(events).items()}
        if "row" in self.axes:
            sizes |= dict(zip(("row", "column"), events.image_layout().shape[1:], strict=True))
        return tuple(sizes.get(axis, 0) for axis in self.axes[1:])

    def _joined(self, parts: Parts) -> Attribution:
        values, pairs, self_values = parts.values()
        names, events, explainer = self.labels(parts.events), parts.events, self.explainer
        regular = zip(self.axes[1:], values.shape[1:], strict=True)
        first = parts.parts[0] if parts.parts else None
        has_error = explainer.has_errors if first is None else first.error is not None
        is_complete = explainer.complete if first is None else first.output_change is not None
        attribution = Attribution(
            values,
            self.axes,
            events,
            explainer.name,
            self.target,
            settings=self.settings(),
            labels={axis: names.get(axis) or tuple(map(str, range(size))) for axis, size in regular},
            pairs=pairs,
            self_values=self_values if self_values is not None and self_values.any() else None,
            error=parts.column("error").astype(np.float64) if has_error else None,
            event_columns={n: c.astype(np.float64) for n, c in parts.event_columns().items()},
            checks=parts.checks(),
            title=explainer.title,
            short_title=explainer.short_title,
            unit=self.unit(events),
            sign=explainer.sign_of_result(),
        )
        if not is_complete:
            return attribution
        return with_residual(attribution, parts.per_event("output_change").astype(np.float64), self_values)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Figures of merit of a result; see `Explainer.checks`."""
        explainer: Explainer = self.explainer
        return {**explainer.checks(attribution), **explainer.model_checks(self, attribution)}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """One sentence for each failed check; see `Explainer.concerns`."""
        concerns: tuple[str, ...] = self.explainer.concerns(checks)
        return concerns

    def checked(self, attribution: Attribution) -> Attribution:
        """Result with its checks stored.

        Raises
        ------
        FloatingPointError
            If a value is not finite, which a mean over the others would hide.

        Warns
        -----
        CheckWarning
            For every failed check; see `Explainer.concerns`.
        """
        name, values = self.explainer.name, attribution.values
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise FloatingPointError(
                f"{name}: {bad} of {values.size} values are not finite; look for extreme inputs "
                "(`hepxai check`) or a training that diverged"
            )
        checks = self.checks(attribution)
        concerns = self.concerns(checks)
        for concern in concerns:
            warnings.warn(f"{name}: {concern}", CheckWarning, stacklevel=4)
        return attribution.replace(checks=checks, concerns=concerns)

    def refuse_broken(self, result: Attribution) -> None:
        """Refuse a result that is wrong beyond rounding; a run does not store it.

        Raises
        ------
        ArithmeticError
            If a check is beyond its hard limit.
        """
        for name, limit in self.explainer.hard_limits.items():
            if name in result.checks and not result.checks[name] <= limit:
                raise ArithmeticError(
                    f"{self.explainer.name}: {name} is {result.checks[name]:.3g}, and no correct result has "
                    f"more than {limit:g}; nothing is stored. Look for extreme inputs (`hepxai check`) or "
                    "give more steps; if neither helps, it is a bug to report"
                )


def with_residual(attribution: Attribution, output_change: Any, self_values: Any = None) -> Attribution:
    """Result with ``output_change``, to which the values of an event should add up, and the residual."""
    values = attribution.values
    total = values.sum(axis=tuple(range(1, values.ndim)), dtype=np.float64)
    if attribution.axes[0] != "event":
        total = row_sum(total, attribution.offsets)
    if self_values is not None:
        total = total + row_sum(self_values, attribution.events.offsets)
    return attribution.replace(residual=total - output_change, output_change=output_change)
