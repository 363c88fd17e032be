"""TracIn: influence of training events on the loss of other events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.fingerprint import fingerprint
from hepxai.core.jagged import IntArray
from hepxai.core.resume import ResumableState
from hepxai.events import Events
from hepxai.influence.result import SIDES, Influence
from hepxai.influence.training_gradients import Checkpoints, Layers, Source

Array = NDArray[np.float64]
ROWS = 1024
"""Number of training events, and of other events, that are compared at a time."""


def tracin(
    checkpoints: Checkpoints,
    train: Events,
    events: Events,
    *,
    k: int = 3,
    weight: NDArray[np.floating] | None = None,
    normalise: bool = False,
    layers: Layers = "last",
    directions: int = 64,
    seed: int = 0,
    unfinished: str | Path | None = None,
    progress: bool = False,
) -> Influence:
    """Find the training events that lowered or raised the loss of each event most.

    ``I(z, z') = Σ_t η_t w_z ∇ℓ(z)·∇ℓ(z')`` over checkpoints t with learning rates η_t: to first order, the
    reduction of the loss of z' by the steps on the training event z [Pruthi et al., arXiv:2002.08484,
    TracInCP]. For the last layer with its bias the product is exact: ``(r·r')(a·a' + 1)``, with the input a
    of the layer and the gradient r of the loss with respect to its output.

    Parameters
    ----------
    checkpoints : sequence of (model, learning rate)
        States of one model along its training, each with the learning rate there.
    train : Events
        The training events.
    events : Events
        The events asked about; their own weights play no part.
    k : int
        Length of the lists of proponents and of opponents; at most half the number of training events,
        so that none is in both lists, but for equal values.
    weight : ndarray, shape [len(train)], optional
        Of the training events in the loss, signed; by default ``train.weight`` over its mean magnitude. Give
        `hepxai.training.loss_weights` where classes were balanced.
    normalise : bool
        Divide the gradients at each checkpoint by their lengths, and the sum by Σ_t η_t: a mean cosine.
        Else a few events with a large loss may top every list [Hammoudeh & Lowd, arXiv:2201.10055].
    layers : str
        "last": exact. "all": gradients of all parameters, their product estimated without bias along random
        ``directions`` v with entries ±1, ``g·g' = E[(g·v)(v·g')]``. The directions that find the training
        events are not those that give value and error, so that the choice does not bias them.
    directions, seed : int
        Of "all".
    unfinished : path, optional
        File that the state is written to every few seconds. The same call resumes from it after an
        interruption; it is removed at the end.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Influence

    Raises
    ------
    CannotExplainError
        A checkpoint lacks a member of `hepxai.models.protocols.HasLastLayer`.
    ValueError
        No checkpoints, checkpoints of different architectures or losses, fewer training events than 2 ``k``,
        a loss of classes for outputs that are targets, or another invalid setting.
    FloatingPointError
        The gradient of the loss of an event is not finite.
    """
    if not 1 <= k <= len(train) // 2:
        raise ValueError(
            f"{k} proponents and opponents asked for; there are {len(train)} training events, and k "
            "goes from 1 to half of them, or events would be both"
        )
    source = Source(checkpoints, layers, directions, seed, normalise)
    scale = _weights(train, weight)
    scale = np.sign(scale) if normalise else scale
    best = _Best.empty(len(events), k)
    key = fingerprint(source.settings() | {"k": k}, *source.models, train, events, scale)
    state = ResumableState(unfinished, key, {"values": best.values.numpy(), "rows": best.rows.numpy()})
    gradients = [source.learned(source.of(events[rows])) for rows in _blocks(len(events))]
    for rows in state.blocks("tracin", len(train), ROWS, progress=progress):
        theirs, factor = source.of(train[rows]), torch.as_tensor(scale[rows])
        for block, mine in zip(_blocks(len(events)), gradients, strict=True):
            best.offer(block, source.table(mine, theirs) * factor, rows.start)
    chosen, values = best.rows.numpy(), best.values.numpy() * np.array([1, -1])[:, None]
    error = None
    if layers == "all":
        chosen, values, error = _measured(source.afresh(), train, scale, events, chosen)
    return Influence(
        chosen,
        values,
        events,
        train,
        settings=source.settings() | {"k": k},
        error=error,
        checks={f"distinct_{side}s": _distinct(chosen[:, i], len(train)) for i, side in enumerate(SIDES)},
    )


def self_influence(
    checkpoints: Checkpoints,
    events: Events,
    *,
    weight: NDArray[np.floating] | None = None,
    layers: Layers = "last",
    directions: int = 64,
    seed: int = 0,
    unfinished: str | Path | None = None,
    progress: bool = False,
) -> Attribution:
    """Influence of every training event on its own loss, ``Σ_t η_t w_z |∇ℓ(z)|²``.

    Large for events that the model had to memorise: mislabelled ones, and rare ones [Pruthi et al.,
    arXiv:2002.08484, sec. 4]. Parameters and errors as for `tracin`.

    Returns
    -------
    Attribution
        Axes ("event",), method "self_influence", target "loss"; with ``error`` for all layers.
    """
    source = Source(checkpoints, layers, directions, seed)
    scale = _weights(events, weight)
    value, error = np.zeros(len(events)), np.zeros(len(events))
    key = fingerprint(source.settings(), *source.models, events, scale)
    state = ResumableState(unfinished, key, {"value": value, "error": error})
    for rows in state.blocks("self-influence", len(events), ROWS, progress=progress):
        gradients = source.of(events[rows])
        value[rows], error[rows] = source.products(source.learned(gradients), gradients)
    return Attribution(
        scale * value,
        ("event",),
        events,
        "self_influence",
        "loss",
        settings=source.settings(),
        error=np.abs(scale) * error if layers == "all" else None,
    )


# --- lists of a population, in blocks of flat memory --------------------------------------------


@dataclass
class _Best:
    """Largest influence so far, and largest negative of it, with the rows they are of, ``[E, 2, k]``."""

    values: Tensor
    rows: Tensor

    @staticmethod
    def empty(events: int, k: int) -> _Best:
        shape = (events, len(SIDES), k)
        return _Best(torch.full(shape, -torch.inf, dtype=torch.float64), torch.zeros(shape).long())

    def offer(self, block: slice, influence: Tensor, first: int) -> None:
        """Take over the best of ``influence [B, C]`` of some of the events and the rows from ``first`` on."""
        for side, offered in enumerate((influence, -influence)):
            mine, rows = self.values[block, side], self.rows[block, side]
            useful = (offered > mine[:, -1:]).any(0).nonzero()[:, 0]
            values = torch.cat([mine, offered[:, useful]], dim=1)
            where = torch.cat([rows, (first + useful).expand(len(mine), -1)], dim=1)
            # Stable: of equal values the earlier row stays.
            order = values.argsort(dim=1, descending=True, stable=True)[:, : mine.shape[1]]
            self.values[block, side], self.rows[block, side] = values.gather(1, order), where.gather(1, order)


def _measured(
    source: Source, train: Events, scale: Array, events: Events, rows: IntArray
) -> tuple[IntArray, Array, Array]:
    """Rows sorted by the influence from these gradients, this influence, and its error."""
    value, error = np.zeros(rows.shape), np.zeros(rows.shape)
    for block in _blocks(len(events)):
        chosen, where = np.unique(rows[block], return_inverse=True)
        theirs, mine = source.of(train[chosen]), source.learned(source.of(events[block]))
        places = torch.as_tensor(where.reshape(rows[block].shape))
        for place in np.ndindex(rows.shape[1:]):
            at = places[:, *place]
            value[block, *place], error[block, *place] = source.products(mine, [g.take(at) for g in theirs])
    value, error = value * scale[rows], error * np.abs(scale[rows])
    order = np.argsort(np.array([-1, 1])[:, None] * value, axis=2, kind="stable")
    value, error = (np.take_along_axis(x, order, axis=2) for x in (value, error))
    return np.take_along_axis(rows, order, axis=2), value, error


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS, size)) for start in range(0, size, ROWS))


def _weights(train: Events, weight: NDArray[np.floating] | None) -> Array:
    """Weight of every training event in the loss."""
    if weight is None:
        size = np.abs(train.weight).mean() if len(train) else 0.0
        return train.weight / size if size else train.weight
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != (len(train),) or not np.isfinite(weights).all():
        raise ValueError(f"weight has shape {weights.shape}; {len(train)} finite numbers are needed")
    return weights


def _distinct(rows: IntArray, events: int) -> float:
    """Number of different training events in lists, over its largest possible value."""
    return len(np.unique(rows)) / min(rows.size, events) if rows.size else 1.0
