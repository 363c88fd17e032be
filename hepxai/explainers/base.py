"""The contract of an explainer, the registry, and the one verb."""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Attribution, Pairs
from hepxai.cards import nearest
from hepxai.core.arguments import check_type
from hepxai.core.chunks import chunk_rows, image_rows, in_order, jagged_in_order
from hepxai.core.console import track
from hepxai.core.jagged import IntArray, offsets_from_counts, parents
from hepxai.events import Events
from hepxai.explainers import guards
from hepxai.models.graph.cloud import Cloud
from hepxai.models.protocols import ChecksEvents, Model
from hepxai.models.target import Target
from hepxai.models.wrappers.advice import wrapping_advice

MARGIN, FAR = 1.5, 20
"""Residuals that raise a concern, in wanted ones: of the median event, and of one event in ten."""


class CheckWarning(UserWarning):
    """A check of a result is bad."""


class CannotExplainError(TypeError):
    """The model lacks an ability that the method needs."""


@dataclass(frozen=True, kw_only=True)
class Explainer(ABC):
    """Settings of a method. A new method subclasses this, adds its fields and `attribute`.

    Attributes
    ----------
    name : str
        Registered name (class attribute).
    needs : type
        Protocol that the model must satisfy (class attribute); see `hepxai.models.protocols`.
    tells_outputs_apart : bool
        False if the result is the same for every output of a model (class attribute).
    wanted_residual : float
        Median relative completeness residual, where ``tolerance`` is not a setting (class attribute).
    hard_limits : mapping of str to float
        Largest value of a check in any correct result (class attribute); see `refuse_broken`.
    progress : bool
        Show a progress bar.
    """

    name: ClassVar[str]
    needs: ClassVar[type] = Model
    tells_outputs_apart: ClassVar[bool] = True
    wanted_residual: ClassVar[float] = 0.01
    hard_limits: ClassVar[Mapping[str, float]] = {"max_row_deviation": 1e-3, "median_residual": 10.0}
    progress: bool = False

    @classmethod
    def works_on(cls, model: object) -> bool:
        """Whether a model can do what the method needs."""
        return isinstance(model, cls.needs)

    def prepare(self, model: Any, events: Events, target: str) -> Self:
        """Copy with everything settled that hangs on the whole population (steps, baseline, surrogate)."""
        return self

    def check_model(self, model: Any) -> None:  # noqa: B027 - most settings suit every model
        """Refuse settings that this model cannot follow, also before it is trained."""

    @abstractmethod
    def attribute(self, model: Any, events: Events, target: str) -> Attribution:
        """Explain one output on every event, each by itself, with the settings as they are."""

    def checks(self, found: Attribution) -> dict[str, float]:
        """Figures of merit of a result, stored with it."""
        return {}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """A sentence for each bad check: warned of, stored, and shown by whatever is made of the result.

        Here of the completeness residual, against the ``tolerance`` of the method.
        """
        tolerance = getattr(self, "tolerance", 0.0) or self.wanted_residual
        median, tail = checks.get("median_residual", 0.0), checks.get("p90_residual", 0.0)
        if median <= MARGIN * tolerance and tail <= FAR * tolerance:
            return ()
        return (
            "values add up to the change of the output only within "
            f"{100 * median:.3g} % in the median event and {100 * tail:.3g} % in one event of ten "
            f"({100 * tolerance:.3g} % was asked for)",
        )

    def explain(self, model: Any, events: Events, target: str) -> Attribution:
        """Prepare, attribute, check."""
        ready = self.prepare(model, events, target)
        return ready.checked(ready.attribute(model, events, target))

    def checked(self, found: Attribution) -> Attribution:
        """Result with its checks stored.

        Raises
        ------
        FloatingPointError
            If the model gave values that are not finite: a mean over the rest would hide it.

        Warns
        -----
        CheckWarning
            Of every check that is bad; see `concerns`.
        """
        if bad := int(np.count_nonzero(~np.isfinite(found.values))):
            raise FloatingPointError(
                f"{self.name}: {bad} of {found.values.size} values are not finite; look for extreme inputs "
                "(`hepxai check`) or a training that diverged"
            )
        checks = self.checks(found)
        concerns = self.concerns(checks)
        for concern in concerns:
            warnings.warn(f"{self.name}: {concern}", CheckWarning, stacklevel=4)
        return found.replace(checks=checks, concerns=concerns)

    def refuse_broken(self, result: Attribution) -> None:
        """Refuse a result that is wrong beyond rounding; a run does not store it.

        Raises
        ------
        ArithmeticError
            If a check is beyond its hard limit.
        """
        for name, limit in self.hard_limits.items():
            if name in result.checks and not result.checks[name] <= limit:
                raise ArithmeticError(
                    f"{self.name}: {name} is {result.checks[name]:.3g}, and no correct result has more than "
                    f"{limit:g}; nothing is stored. Look for extreme inputs (`hepxai check`) or give more "
                    "steps; if neither helps, it is a bug to report"
                )

    def silent(self) -> Self:
        """Copy that shows no progress bar."""
        return dataclasses.replace(self, progress=False)

    def settings(self) -> dict[str, Any]:
        """JSON-able settings, stored with the result."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "progress"}
        plain = (str, int, float, list, tuple, type(None))
        return {k: v for k, v in fields.items() if isinstance(v, plain)}


EXPLAINERS: dict[str, type[Explainer]] = {}
E_ = TypeVar("E_", bound=type[Explainer])


def register(name: str) -> Callable[[E_], E_]:
    """Class decorator: make an explainer known under a name."""

    def enter(explainer: E_) -> E_:
        if name in EXPLAINERS:
            raise ValueError(f"an explainer named {name!r} exists: {EXPLAINERS[name]}")
        explainer.name = name
        EXPLAINERS[name] = explainer
        return explainer

    return enter


def explain(
    model: Model, events: Events, method: str, *, target: str | None = None, **settings: Any
) -> Attribution:
    """Say what a model looked at, for every event.

    Parameters
    ----------
    model : Model
        One of the package's, or one of yours with the protocols of `hepxai.models.protocols`.
    events : Events
    method : str
        A key of ``EXPLAINERS``, e.g. "attention", "edge_ig", "node_ig", "shapley", "surrogate".
    target : str, optional
        Output to explain, as a logit, or the difference of two, as in "signal-background". May be left out if
        the model has only one, or the method is the same for all.
    **settings
        Of the method; see the class in ``EXPLAINERS[method]``.

    Returns
    -------
    Attribution

    Raises
    ------
    KeyError
        Unknown method or output.
    CannotExplainError
        The model lacks an ability; the message names the methods that would work.
    TypeError
        Arguments in another order; a setting that the method does not have.
    ValueError
        The model refuses these events, a setting is wrong, or scores of an event are not reproducible; see
        `hepxai.explainers.guards`.

    Warns
    -----
    CheckWarning
        A check of the result is bad.
    UserWarning
        The outputs of a model that is not the package's are probabilities; the order of particles matters;
        one of two classes is explained by the difference of their logits.
    """
    check_type(
        events, Events, "explain(model, events, method)", "second", "hepxai.read(card).events has them"
    )
    one = "one method a call: {name: explain(model, events, name) for name in names}"
    check_type(method, str, "explain(model, events, method)", "third", one)
    explainer = build(method, model, settings)
    if isinstance(model, ChecksEvents):
        model.check(events)
    guards.check_scores(model, events)
    guards.doubt_logits(model, events)
    return explainer.explain(model, events, _target(explainer, model, events, target))


def configure(method: str, settings: Mapping[str, Any]) -> Explainer:
    """Explainer of a registered name with these settings; see `explain` for what is raised."""
    if method not in EXPLAINERS:
        hint = nearest(method, EXPLAINERS)
        raise KeyError(f"no method {method!r}{hint}; there are {', '.join(sorted(EXPLAINERS))}")
    known = {f.name for f in dataclasses.fields(EXPLAINERS[method])}
    for name in sorted(settings.keys() - known):
        hint = nearest(name, known)
        raise TypeError(f"{method} has no setting {name!r}{hint}; it has {', '.join(sorted(known))}")
    return EXPLAINERS[method](**settings)


def build(method: str, model: Model, settings: Mapping[str, Any]) -> Explainer:
    """Configure an explainer for a model that can do what it needs; see `explain` for what is raised."""
    explainer = configure(method, settings)
    if not isinstance(model, explainer.needs):
        raise CannotExplainError(_what_works(model, method, explainer.needs))
    explainer.check_model(model)
    return explainer


def _what_works(model: object, method: str, needs: type) -> str:
    mine = type(model).__name__
    if not isinstance(model, Model) and (advice := wrapping_advice(model)):
        return advice
    lacking = [m for m in dir(needs) if not m.startswith("_") and not hasattr(model, m)]
    return f"{method} needs {needs.__name__}; {mine} has no {', '.join(lacking)}; {working(model)}"


def working(model: object) -> str:
    """Methods that work on a model, in a sentence."""
    works = [name for name, other in sorted(EXPLAINERS.items()) if other.works_on(model)]
    return f"these methods work on it: {', '.join(works)}" if works else "no registered method works on it"


def _target(explainer: Explainer, model: Model, events: Events, target: str | None) -> str:
    outputs, known = model.outputs, (*events.schema.targets, *events.schema.classes)
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"two outputs have the same name: {', '.join(outputs)}; name each differently")
    if target is None and (len(outputs) == 1 or not explainer.tells_outputs_apart):
        return outputs[0]
    if target is None:
        raise KeyError(f"the model has several outputs; choose one of {', '.join(outputs)}, as target=…")
    if target in outputs and len(outputs) == 2 and set(outputs) == set(events.schema.classes):
        other = next(name for name in outputs if name != target)
        warnings.warn(
            "a decision between two classes depends only on the difference of their logits: "
            f"target={target!r} is explained as '{target}-{other}'; give that to be spared this warning",
            stacklevel=3,
        )
        return f"{target}-{other}"
    if target in outputs and len(outputs) == 2 and not set(outputs) & {*known}:
        other = next(name for name in outputs if name != target)
        warnings.warn(
            f"{target} is one of two outputs: if a softmax compares them, a decision depends only on their "
            f"difference, which target='{target}-{other}' explains",
            stacklevel=3,
        )
    Target.of(outputs, target)
    return target


# --- running over a population ---------------------------------------------------------------


@dataclass(frozen=True)
class Chunked:
    """A population cut into chunks, and the way back to its order."""

    events: Events
    chunks: list[IntArray]

    @staticmethod
    def of(events: Events) -> Chunked:
        """Cut by number of pairs, so that memory stays flat."""
        return Chunked(events, chunk_rows(events.counts))

    @staticmethod
    def of_table(events: Events) -> Chunked:
        """Cut by number of events, for methods that read the event-level table."""
        return Chunked(events, chunk_rows(np.zeros(len(events), dtype=np.int64)))

    @staticmethod
    def of_images(events: Events) -> Chunked:
        """Cut by number of pixels, for methods that read the image."""
        return Chunked(events, image_rows(len(events), events.image_layout().shape))

    def images(self, name: str, *, progress: bool) -> Iterator[Tensor]:
        """Images ``[B, T, R, C]`` of each chunk, with a progress bar over the events.

        The channel is innermost in memory, as convolutions like it.
        """
        with track(name, len(self.events), show=progress) as advance:
            for rows in self.chunks:
                image = torch.as_tensor(self.events[rows].image())
                yield torch.empty(image.shape, memory_format=torch.channels_last).copy_(image)
                advance(len(rows), "")

    def tables(self, name: str, *, progress: bool) -> Iterator[Tensor]:
        """Rows of the table in each chunk, with a progress bar over the events."""
        whole, _ = self.events.table()
        with track(name, len(self.events), show=progress) as advance:
            for rows in self.chunks:
                yield torch.as_tensor(whole[rows])
                advance(len(rows), "")

    def clouds(self, name: str, *, progress: bool) -> Iterator[Cloud]:
        """Particles of each chunk, with a progress bar over the events."""
        with track(name, len(self.events), show=progress) as advance:
            for rows, cloud in zip(self.chunks, self.clouds_of(self.events), strict=True):
                yield cloud
                advance(len(rows), "")

    def clouds_of(self, events: Events) -> Iterator[Cloud]:
        """Particles of each chunk, of events with the same offsets (a baseline, say)."""
        whole = Cloud.of(events)
        return (whole.take(torch.as_tensor(rows)) for rows in self.chunks)

    def per_event(self, parts: list[Tensor]) -> NDArray[np.float64]:
        """Join per-event results of the chunks."""
        return in_order([p.double().numpy() for p in parts], self.chunks, (0,))

    def per_particle(self, parts: list[Tensor]) -> NDArray[np.floating]:
        """Join per-particle results of the chunks."""
        return jagged_in_order([p.numpy() for p in parts], self.chunks, self.events.offsets)

    def pairs(self, parts: list[tuple[Cloud, Tensor, Tensor]]) -> Pairs:
        """Join the edges ``(cloud, src, dst)`` of the chunks."""
        size = [torch.bincount(cloud.batch[dst], minlength=len(cloud)).numpy() for cloud, _, dst in parts]
        offsets = offsets_from_counts(in_order(size, self.chunks, (0,)).astype(np.int64))
        shift = [cloud.ptr[cloud.batch[dst]] for cloud, _, dst in parts]
        sources = [(src - s).numpy() for (_, src, _), s in zip(parts, shift, strict=True)]
        receivers = [(dst - s).numpy() for (_, _, dst), s in zip(parts, shift, strict=True)]
        first = self.events.offsets[parents(offsets)]
        src, dst = (jagged_in_order(e, self.chunks, offsets).astype(np.int64) for e in (sources, receivers))
        return Pairs(src + first, dst + first, offsets)

    def per_pair(self, parts: list[Tensor], pairs: Pairs) -> NDArray[np.floating]:
        """Join per-pair results of the chunks."""
        return jagged_in_order([p.numpy() for p in parts], self.chunks, pairs.offsets)
