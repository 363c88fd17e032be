"""Registered methods: by name, for a model and for a run; and `explain`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, get_args

from hepxai.attribution import Attribution
from hepxai.attribution.trainings import stack_trainings
from hepxai.cards import nearest
from hepxai.core.arguments import check_type
from hepxai.events import SPLITS, Events, Schema
from hepxai.explainers import guards
from hepxai.explainers.base import CannotExplainError, Explainer
from hepxai.explainers.batches import View
from hepxai.models.ensemble import Ensemble
from hepxai.models.protocols import ChecksEvents, Model
from hepxai.models.target import REST, Target
from hepxai.models.wrappers.advice import wrapping_advice

EXPLAINERS: dict[str, type[Explainer]] = {}
E_ = TypeVar("E_", bound=type[Explainer])


def register(name: str) -> Callable[[E_], E_]:
    """Class decorator: make an explainer known under a name, which is its title unless it has one."""

    def enter(explainer: E_) -> E_:
        if name in EXPLAINERS:
            raise ValueError(f"an explainer named {name!r} exists: {EXPLAINERS[name]}")
        for part, value, allowed in (
            ("axes[0]", explainer.axes[0], ("event", "particle", "pair")),
            ("reads", explainer.reads, get_args(View)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: {part}={value!r}; one of {', '.join(allowed)} is needed")
        explainer.name = name
        for title in ("title", "short_title"):
            if title not in vars(explainer):
                setattr(explainer, title, name.replace("_", " "))
        EXPLAINERS[name] = explainer
        return explainer

    return enter


def explain(
    model: Model,
    events: Events,
    method: str,
    *,
    target: str | None = None,
    population: Events | None = None,
    **settings: Any,
) -> Attribution:
    """Attribute the score of every event to its particles, pairs, columns, pixels or neurons.

    Parameters
    ----------
    model : Model
        One of the package's, or one of yours with the protocols of `hepxai.models.protocols`; or a
        `hepxai.Ensemble` of trainings, each of which is explained: the last axis is "training".
    events : Events
    method : str
        A key of ``EXPLAINERS``, e.g. "attention", "edge_ig", "node_ig", "shapley", "surrogate".
    target : str, optional
        Output to explain, as a logit, of a model with several; or the difference of two, as in
        "signal-background"; or that of one and the mean of all others, "signal-rest". May be left out if the
        model has only one, or the method is the same for all.
    **settings
        Of the method; see the class in ``hepxai.explainers.EXPLAINERS[method]``.

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
        Arguments in another order.
    SettingError
        A setting that the method does not have, or a value that it does not allow.
    ValueError
        The model refuses these events, or scores of an event are not reproducible; see
        `hepxai.explainers.guards`.

    Warns
    -----
    CheckWarning
        A check of the result is bad.
    UserWarning
        The outputs of a model that is not the package's are probabilities; the order of particles matters;
        a class is explained by the difference of its logit from that of the other, or from the mean of all
        others.
    """
    check_type(
        events, Events, "explain(model, events, method)", "second", "hepxai.read(card).events has them"
    )
    one = "one method a call: {name: explain(model, events, name) for name in names}"
    check_type(method, str, "explain(model, events, method)", "third", one)
    if isinstance(model, Ensemble):
        options: dict[str, Any] = {"target": target, "population": population, **settings}
        return stack_trainings([explain(m, events, method, **options) for m in model.models])
    explainer = _configure_for(method, model, settings)
    if isinstance(model, ChecksEvents):
        model.check(events)
    whole = events if population is None else population
    guards.check_scores(model, whole)  # first: a module that fails has no layers to choose from
    explainer.check_model(model)
    resolved = resolve_target(explainer, model, events.schema, target)
    guards.doubt_logits(model, whole, resolved)
    return explainer.explain(model, events, resolved, population=whole)


def configure(
    method: str, settings: Mapping[str, Any], *, applicable: Collection[str] | None = None
) -> Explainer:
    """Explainer of a registered name with these settings; see `explain` for the errors.

    The refusal of an unknown name lists the applicable methods, all by default.
    """
    if method not in EXPLAINERS:
        names = sorted(EXPLAINERS if applicable is None else applicable)
        which = "there are" if applicable is None else "these fit the model:"
        raise KeyError(f"no method {method!r}{nearest(method, names)}; {which} {', '.join(names) or 'none'}")
    return EXPLAINERS[method](**settings)


def _configure_for(method: str, model: Model, settings: Mapping[str, Any]) -> Explainer:
    """Explainer with these settings, if the model has the abilities that it needs; see `explain`."""
    explainer = configure(method, settings, applicable=() if method in EXPLAINERS else _working(model))
    if not isinstance(model, explainer.needs):
        raise CannotExplainError(_incompatibility(model, method, explainer.needs))
    return explainer


def _incompatibility(model: object, method: str, needs: type) -> str:
    if not isinstance(model, Model) and (advice := wrapping_advice(model)):
        return advice
    lacking = [m for m in dir(needs) if not m.startswith("_") and not hasattr(model, m)]
    name = type(model).__name__
    return f"{method} needs {needs.__name__}; {name} has no {', '.join(lacking)}; {working(model)}"


def working(model: object, *, but: str = "") -> str:
    """Methods that work on a model, but for one, in a sentence."""
    works = [name for name in _working(model) if name != but]
    return f"these methods work on it: {', '.join(works)}" if works else "no registered method works on it"


def _working(model: object) -> list[str]:
    return [name for name, explainer in sorted(EXPLAINERS.items()) if explainer.works_on(model)]


def resolve_target(
    explainer: Explainer | type[Explainer], model: Model, schema: Schema, target: str | None
) -> str:
    """Target to explain; one of several classes becomes its contrast with the others, with a warning."""
    outputs = model.outputs
    if not isinstance(target, str | None):
        raise TypeError(f"target={target!r}: a name is needed, of {', '.join(outputs)}")
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"two outputs have the same name: {', '.join(outputs)}; name each differently")
    if target is None and (len(outputs) == 1 or not explainer.tells_outputs_apart):
        return outputs[0]
    if target is None:
        raise KeyError(f"the model has several outputs; choose one of {', '.join(outputs)}, as target=…")
    Target.of(outputs, target)
    if target not in outputs or len(outputs) == 1 or not explainer.tells_outputs_apart:
        return target
    others = [name for name in outputs if name != target]
    two = len(outputs) == 2
    contrast = f"{target}-{others[0] if two else REST}"
    number, difference = ("two", "difference") if two else ("several", "differences")
    if set(outputs) == set(schema.classes):
        warnings.warn(
            f"a decision between {number} classes depends only on the {difference} of their logits: "
            f"target={target!r} is explained as '{contrast}'; give that to be spared this warning",
            stacklevel=3,
        )
        return contrast
    if not set(outputs) & {*schema.targets, *schema.classes}:
        warnings.warn(
            f"{target} is one of {number} outputs: if a softmax compares them, a decision depends only on "
            f"their {difference}, which target='{contrast}' explains",
            stacklevel=3,
        )
    return target


# --- for a run -------------------------------------------------------------------------------


def default_methods() -> dict[str, tuple[str, ...]]:
    """Methods that explain a model unless others are named, by view of the model."""
    views = dict.fromkeys(e.default_for for e in EXPLAINERS.values() if e.default_for is not None)
    return {v: tuple(n for n, e in EXPLAINERS.items() if e.default_for == v) for v in views}


def is_default_for(method: str, model: Any) -> bool:
    """True if a default method of the view suits this model."""
    explainer = EXPLAINERS[method]
    return isinstance(model, explainer.default_needs) and explainer.works_on(model)


def validated_settings(
    methods: Sequence[str] | None,
    settings: Mapping[str, Mapping[str, Any]],
    view: str,
    *,
    split: str = "test",
    maximum: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Settings of each method, checked before the training for everything that a user can get wrong."""
    names = default_methods()[view] if methods is None else methods
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
    if maximum is not None and maximum < 1:
        raise ValueError(f"{maximum} events to explain; at least 1 is needed")
    if idle := settings.keys() - set(names):
        raise ValueError(
            f"settings for {sorted(idle)[0]!r}, which is not among the methods {', '.join(names)}"
        )
    of_view = [name for name, explainer in EXPLAINERS.items() if explainer.reads == view]
    for name in names:
        configure(name, settings.get(name, {}), applicable=of_view)
    return {name: dict(settings.get(name, {})) for name in names}


def for_run(method: str, model: Model, settings: Mapping[str, Any]) -> Explainer:
    """Configure an explainer for a run, which keeps its result and writes it beside the particles.

    Raises
    ------
    ValueError
        If a run cannot keep the result; see `explain` for the rest.
    """
    explainer = _configure_for(method, model, settings)
    explainer.check_model(model)
    explainer.check_run(model)
    return explainer
