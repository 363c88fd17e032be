"""Checks of a model's scores, made by `explain` before it computes an attribution."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import nn

from hepxai.core.chunks import evenly_spread
from hepxai.events import Events, Schema
from hepxai.models.protocols import Model

CHECKED_EVENTS = 6
"""Events that are scored several times."""
SINGLE_PRECISION, DOUBLE_PRECISION = 1e-3, 1e-5
"""Rounding tolerance in single and double precision, relative to the largest |score|."""
MIN_EVENTS = 20
"""Minimum number of events for a warning of probabilities: fewer may look like them by coincidence."""
MIN_RANGE = 0.1
"""Minimum range of the outputs for this warning: an untrained network has nearly constant logits."""

BATCH_DEPENDENCE = (
    "Does a batch normalisation use batch statistics in evaluation mode (training=True, "
    "track_running_stats=False), does a norm, pooling or neighbour search lack the batch vector, does "
    "padding lack a mask, does a pooling lack size=batch.num_graphs, or does a layer keep the edges of an "
    "earlier batch (cached=True)?"
)
"""Likely causes of scores that depend on the other events of a batch."""

Scores = NDArray[np.float64]


def check_scores(model: Model, events: Events) -> None:
    """Check that model and events fit, and on a few events that the score depends on nothing but the event.

    The events are scored twice in one batch, then one by one, then with their particles shuffled.

    Raises
    ------
    ValueError
        If the second score of an event differs from the first, or its score alone from that in the batch.
        Errors of the model on events that it cannot take are passed on. If the model predicts numbers and
        the events have classes only, or the reverse.

    Warns
    -----
    UserWarning
        If the score depends on the order of the particles.
    """
    _check_task(model, events.schema)
    sample = _sample(events)
    if not len(sample):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, again = model.logits(sample), model.logits(sample)
    if _differ(first, again, DOUBLE_PRECISION):
        raise ValueError(
            f"two scores of one event differ ({_largest(first, again)}): the model is random in evaluation "
            "mode, so its attributions would be noise. Write F.dropout(x, p, training=self.training), or use "
            "nn.Dropout, and draw no random numbers in forward"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact, tolerance = _in_double(model, sample, first)
        batched = exact.logits(sample)
        alone = _alone(exact, sample)
        shuffled = exact.logits(_shuffled(sample)) if model.view in ("graph", "padded") else batched
    if _differ(batched, alone, tolerance):
        raise ValueError(
            f"the score of an event depends on the other events of its batch ({_largest(batched, alone)}). "
            f"{BATCH_DEPENDENCE}"
        )
    if _differ(batched, shuffled, tolerance):
        warnings.warn(
            f"the score depends on the order of the particles in an event ({_largest(batched, shuffled)}), "
            "and so does its explanation; if the order has a meaning, sort the particles inside the model",
            stacklevel=4,
        )


def _check_task(model: Model, schema: Schema) -> None:
    """Refuse a regression on events that have classes but no targets, and a classifier on the reverse.

    A regression has a loss for numbers, or its outputs are targets of its training events; the outputs of a
    classifier are their classes. Other outputs pass, and so do events of one class without targets (data).
    """
    trained, outputs, names = getattr(model, "schema", None), set(model.outputs), ", ".join(model.outputs)
    classes, targets = (trained.classes, trained.targets) if isinstance(trained, Schema) else ((), ())
    is_class = outputs <= {*classes}
    is_target = outputs <= {*targets} and not is_class
    regression = is_target or getattr(model, "loss", None) in ("mae", "mse")
    if regression and len(schema.classes) > 1 and not schema.targets:
        raise ValueError(
            f"the model predicts numbers ({names}), these events have classes ({', '.join(schema.classes)}) "
            f"and no targets: declare `targets` {names} on their data-set card (NaN where an event has none) "
            "or take a classifier"
        )
    if is_class and not regression and len(schema.classes) < 2 and schema.targets:
        raise ValueError(
            f"the model tells classes apart ({', '.join(classes)}), these events have the targets "
            f"{', '.join(schema.targets)} and no classes to tell apart: give the events the `labels` of the "
            "training on their data-set card, or take a model of a regression (training.loss: mae)"
        )


def _sample(events: Events) -> Events:
    """Largest event, and others spread evenly over the sample."""
    spread = evenly_spread(len(events), CHECKED_EVENTS - 1)
    return events[np.unique([*spread, int(np.argmax(events.counts))])] if len(events) else events


def _in_double(model: Model, sample: Events, scores: Scores) -> tuple[Model, float]:
    """Copy of the model in double precision, and its tolerance; the model itself if that is not possible.

    A copy with different scores is not used, for example if the module calls another one that is not its
    submodule.
    """
    module: Any = getattr(model, "module", None)
    fields = getattr(model, "__dataclass_fields__", {})
    if not isinstance(module, nn.Module) or "module" not in fields:
        return model, SINGLE_PRECISION
    try:
        double: Any = dataclasses.replace(cast(Any, model), module=copy.deepcopy(module).double())
        faithful = not _differ(scores, double.logits(sample), SINGLE_PRECISION)
    except Exception:  # the module requires single precision
        faithful = False
    return (double, DOUBLE_PRECISION) if faithful else (model, SINGLE_PRECISION)


def _alone(model: Model, sample: Events) -> Scores:
    """Scores of the events one by one."""
    try:
        return np.concatenate([model.logits(sample[[i]]) for i in range(len(sample))])
    except ValueError as problem:  # for example the variance of a single event
        raise ValueError(f"an event cannot be scored alone ({problem}). {BATCH_DEPENDENCE}") from problem


def _shuffled(events: Events) -> Events:
    """Events with shuffled particles."""
    order = np.lexsort((np.random.default_rng(0).random(events.n_particles), events.parent))
    columns = {name: getattr(events, name)[order] for name in ("particles", "p4", "type", "index")}
    return events.replace(**columns, truth={name: mask[order] for name, mask in events.truth.items()})


def _differ(one: Scores, other: Scores, tolerance: float) -> bool:
    scale = np.abs(one[np.isfinite(one)]).max(initial=0)
    return not np.allclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=True)


def _largest(one: Scores, other: Scores) -> str:
    off = np.nan_to_num(np.abs(one - other), nan=np.inf)  # a score that is no number alone, or in company
    off[np.isnan(one) & np.isnan(other)] = 0
    place = np.unravel_index(np.argmax(off), one.shape)
    return f"{one[place]:.6g} and {other[place]:.6g}"


def doubt_logits(model: Model, events: Events, target: str) -> None:
    """Warn if the outputs look like probabilities, or a target that is no difference like a log-probability.

    Networks of hepxai return logits.
    """
    targets = set(model.outputs) <= set(events.schema.targets)  # a regression may have any values
    if hasattr(model, "card") or targets or len(events) < MIN_EVENTS:
        return
    rows = evenly_spread(len(events), 10 * MIN_EVENTS)
    scores = model.logits(events[rows])
    if np.ptp(scores) <= MIN_RANGE:
        return
    if scores.shape[1] > 1 and np.allclose(logsumexp(scores, axis=1), 0, atol=1e-4):
        if target not in model.outputs:
            return
        warnings.warn(
            f"the outputs are log-probabilities (their exponentials sum to 1 for all {len(rows)} events "
            "tested): each depends on all classes and saturates. Explanations are meant for the logits "
            f"before log_softmax, or for a difference: target='{model.outputs[-1]}-{model.outputs[0]}'",
            stacklevel=4,
        )
    elif scores.min() >= 0 and scores.max() <= 1:
        warnings.warn(
            f"the outputs of the model lie in [0, 1] for all {len(rows)} events tested: are they "
            "probabilities? Explanations are meant for logits, the numbers before the sigmoid or softmax: "
            "a probability near 0 or 1 is saturated, and its attributions vanish",
            stacklevel=4,
        )
