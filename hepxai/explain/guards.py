"""Guards of `explain`: scores that cannot be explained are refused or named before anything is computed."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import nn

from hepxai.events import Events
from hepxai.models.base import Model

FEW = 6
"""Events that are scored again in other ways."""
SINGLE, DOUBLE = 1e-3, 1e-5
"""Difference of scores, relative to the largest, that rounding may leave in single and double precision."""
DOUBTED = 20
"""Events from which outputs that all look like probabilities are no coincidence."""
SPREAD = 0.1
"""Range up to which they may be the logits of a network that has not learned, wherever those lie."""

COMPANY = "an event in company of others gets another score than alone"
TALKING = (
    "events talk to each other. Is a batch normalisation computed from the batch even in evaluation "
    "(training=True, track_running_stats=False), or does a pooling or neighbour search not get the batch "
    "vector?"
)

Scores = NDArray[np.float64]


def check_scores(model: Model, events: Events) -> None:
    """Score a few events repeatedly, alone, in company, and with their particles in another order.

    Raises
    ------
    ValueError
        If an event gets other scores the second time, or when it is alone. Also whatever the model raises on
        events that it does not know.

    Warns
    -----
    UserWarning
        If the order of the particles matters.
    """
    sample = _sample(events)
    if not len(sample):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, again = model.logits(sample), model.logits(sample)
    if _differ(first, again, DOUBLE):
        raise ValueError(
            f"two scores of one event differ ({_largest(first, again)}): something random stays on in "
            "evaluation, and every number that follows would be noise. Write F.dropout(x, p, "
            "training=self.training), or use nn.Dropout, and draw nothing in forward"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact, tolerance = _in_double(model, sample, first)
        company = exact.logits(sample)
        alone = _alone(exact, sample)
        turned = exact.logits(_shuffled(sample)) if model.view in ("graph", "padded") else company
    if _differ(company, alone, tolerance):
        raise ValueError(f"{COMPANY} ({_largest(company, alone)}): {TALKING}")
    if _differ(company, turned, tolerance):
        warnings.warn(
            f"the score depends on the order of the particles in an event ({_largest(company, turned)}), and "
            "so does its explanation; if the order has a meaning, let the model sort them itself",
            stacklevel=4,
        )


def _sample(events: Events) -> Events:
    """Largest event, and others evenly spread."""
    spread = np.linspace(0, len(events) - 1, min(len(events), FEW - 1)).astype(np.int64)
    return events[np.unique([*spread, int(np.argmax(events.counts))])] if len(events) else events


def _in_double(model: Model, sample: Events, scores: Scores) -> tuple[Model, float]:
    """Model in double precision where its module can do that, and the tolerance that goes with it.

    A copy with other scores, as of a module that calls another one behind its back, is not used.
    """
    module: Any = getattr(model, "module", None)
    fields = getattr(model, "__dataclass_fields__", {})
    if not isinstance(module, nn.Module) or "module" not in fields:
        return model, SINGLE
    try:
        double: Any = dataclasses.replace(cast(Any, model), module=copy.deepcopy(module).double())
        faithful = not _differ(scores, double.logits(sample), SINGLE)
    except Exception:  # a module that asks for single precision
        faithful = False
    return (double, DOUBLE) if faithful else (model, SINGLE)


def _alone(model: Model, sample: Events) -> Scores:
    """Scores of the events one by one."""
    try:
        return np.concatenate([model.logits(sample[[i]]) for i in range(len(sample))])
    except ValueError as problem:  # as of a variance of one
        raise ValueError(f"an event cannot be scored alone ({problem}): {TALKING}") from problem


def _shuffled(events: Events) -> Events:
    """Events with their particles in another order."""
    order = np.lexsort((np.random.default_rng(0).random(events.n_particles), events.parent))
    columns = {name: getattr(events, name)[order] for name in ("particles", "p4", "type", "index")}
    return events.replace(**columns, truth={name: mask[order] for name, mask in events.truth.items()})


def _differ(one: Scores, other: Scores, tolerance: float) -> bool:
    scale = np.abs(one[np.isfinite(one)]).max(initial=0)
    return not np.allclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=True)


def _largest(one: Scores, other: Scores) -> str:
    place = np.unravel_index(np.nanargmax(np.abs(one - other)), one.shape)
    return f"{one[place]:.6g} and {other[place]:.6g}"


def doubt_logits(model: Model, events: Events) -> None:
    """Warn of probabilities and log-probabilities; the package's own networks give logits."""
    targets = set(model.outputs) <= set(events.schema.targets)  # of a regression, which may lie anywhere
    if hasattr(model, "card") or targets or len(events) < DOUBTED:
        return
    rows = np.linspace(0, len(events) - 1, min(len(events), 10 * DOUBTED)).astype(np.int64)
    scores = model.logits(events[rows])
    if np.ptp(scores) <= SPREAD:
        return
    if scores.shape[1] > 1 and np.allclose(logsumexp(scores, axis=1), 0, atol=1e-4):
        warnings.warn(
            f"the outputs are log-probabilities (their exponentials add up to 1 for all {len(rows)} events "
            "looked at): each depends on all classes and saturates. Explanations are meant for the logits "
            f"before log_softmax, or for a difference: target='{model.outputs[-1]}-{model.outputs[0]}'",
            stacklevel=4,
        )
    elif scores.min() >= 0 and scores.max() <= 1:
        warnings.warn(
            f"the outputs of the model lie in [0, 1] for all {len(rows)} events looked at: are they "
            "probabilities? Explanations are meant for logits, the numbers before the sigmoid or softmax: "
            "where a probability is near 0 or 1 nothing changes it any more, and attributions vanish",
            stacklevel=4,
        )
