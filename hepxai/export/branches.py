"""Branches of friend trees: events and attributions as flat and singly jagged columns."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.attribution.trainings import mean_of_trainings, spread_of_trainings
from hepxai.core.jagged import IntArray, local_index, take_rows
from hepxai.events import Events

PREFIX = "hepxai_"
SENTINEL = -999.0  # finite: it fills the underflow of a histogram, where NaN would be lost
NONE = -1  # the same for labels, splits and indices
IDENTITY = (f"{PREFIX}run", f"{PREFIX}luminosityBlock", f"{PREFIX}event")
"""Numbers of the events; without the prefix, branches of the inputs would hide them."""
_MAX_COLUMNS = 256


@dataclass(frozen=True)
class Scalar:
    """A number per event, ``values [E]``, and the value at entries without an event."""

    values: NDArray[Any]
    missing: float | bool

    def leaves(self) -> tuple[str, ...]:
        """Suffixes of its branches."""
        return ("",)

    def at(self, rows: IntArray) -> NDArray[Any]:
        """Column for the events ``rows``, -1 where there is none."""
        column = np.full(len(rows), self.missing, dtype=self.values.dtype)
        column[rows >= 0] = self.values[rows[rows >= 0]]
        return column


@dataclass(frozen=True)
class Jagged:
    """A list of records per event, which ROOT reads as parallel arrays behind one counter.

    Attributes
    ----------
    offsets : ndarray of int64
    row : ndarray of int64, shape [E]
        List of every event, -1 for none.
    fields : callable
        From flat indices to the fields of those records.
    """

    offsets: IntArray
    row: IntArray
    fields: Callable[[IntArray], dict[str, NDArray[Any]]]

    def leaves(self) -> tuple[str, ...]:
        """Suffixes of its branches."""
        return tuple(f"_{name}" for name in self.fields(np.zeros(0, dtype=np.int64)))

    def at(self, rows: IntArray) -> ak.Array:
        """Lists for the events ``rows``, empty where there is none."""
        lists = np.where(rows >= 0, self.row[rows], NONE) if len(self.row) else rows
        counts = np.zeros(len(rows), dtype=np.int64)
        flat, offsets = take_rows(self.offsets, lists[lists >= 0])
        counts[lists >= 0] = np.diff(offsets)
        return ak.unflatten(ak.zip(self.fields(flat), depth_limit=1), counts)


Branches = Mapping[str, Scalar | Jagged]


def friend_branches(
    events: Events,
    attributions: Iterable[Attribution],
    scores: NDArray[np.floating] | None,
    predictions: Mapping[str, NDArray[np.floating]],
    spread: NDArray[np.floating] | None = None,
    classes: Sequence[str] | None = None,
) -> Branches:
    """All branches of a friend tree by name, checked to be distinct and aligned with the events.

    ``classes`` are those of the model, where the events are unlabelled.
    """
    classes = events.schema.classes if classes is None else classes
    aligned = [_Aligned(a, events) for a in attributions]
    named: list[tuple[str, Scalar | Jagged]] = [*_identity(events), *_scores(events, scores, spread, classes)]
    named += _predictions(events, predictions)
    for one in aligned:
        named += [(f"{PREFIX}{one.name}{suffix}", branch) for suffix, branch in one.branches()]
    named.append((f"{PREFIX}particle", _particles(events, aligned)))
    leaves = Counter(name + leaf for name, branch in named for leaf in branch.leaves())
    leaves.update(f"n{name}" for name, branch in named if isinstance(branch, Jagged))
    twice = [name for name, times in leaves.items() if times > 1]
    if twice:
        raise ValueError(f"branch {twice[0]} is asked for twice; rename one method with replace(method=…)")
    return dict(named)


def entry_key(events: Events) -> IntArray:
    """One number per (file, entry), increasing in both."""
    return events.file * (max(events.file_entries, default=0) + 1) + events.entry


def _identity(events: Events) -> list[tuple[str, Scalar]]:
    numbers = zip(IDENTITY, (events.run, events.luminosity_block, events.event), strict=True)
    return [
        *((name, Scalar(number.astype(np.int64), NONE)) for name, number in numbers),
        (f"{PREFIX}selected", Scalar(np.ones(len(events), dtype=np.bool_), False)),
        (f"{PREFIX}split", Scalar(events.split.astype(np.int32), NONE)),
        (f"{PREFIX}label", Scalar(events.label.astype(np.int32), NONE)),
        (f"{PREFIX}weight", Scalar(events.weight, 0.0)),
    ]


def _scores(
    events: Events,
    scores: NDArray[np.floating] | None,
    spread: NDArray[np.floating] | None,
    classes: Sequence[str],
) -> Iterator[tuple[str, Scalar]]:
    if scores is None:
        return
    if len(scores) != len(events):
        raise ValueError(f"{len(scores)} scores for {len(events)} events")
    logits = np.asarray(scores, dtype=np.float64).reshape(len(events), -1 if len(events) else 1)
    outputs = logits.shape[1]
    labels = classes if outputs == len(classes) else tuple(f"output{k}" for k in range(outputs))
    tables = {"score": logits}
    if spread is not None:
        tables["score_training"] = np.asarray(spread, dtype=np.float64).reshape(logits.shape)
    if len(classes) > 1:  # a regression has no classes, hence no probabilities
        tables["probability"] = expit(logits) if outputs == 1 else softmax(logits, axis=1)
    for name, table in tables.items():
        for k in range(outputs):
            suffix = "" if outputs == 1 else f"_{word(labels[k])}"
            yield f"{PREFIX}{name}{suffix}", Scalar(table[:, k].astype(np.float32), SENTINEL)


def _predictions(
    events: Events, predictions: Mapping[str, NDArray[np.floating]]
) -> Iterator[tuple[str, Scalar]]:
    for target, values in predictions.items():
        if np.shape(values) != (len(events),):
            shape = np.shape(values)
            raise ValueError(f"predictions of {target} have shape {shape} for {len(events)} events")
        yield f"{PREFIX}predicted_{word(target)}", Scalar(np.asarray(values, dtype=np.float32), SENTINEL)


def _particles(events: Events, aligned: Iterable[_Aligned]) -> Jagged:
    columns: dict[str, NDArray[Any]] = {
        "type": events.type.astype(np.int32),
        "index": events.index.astype(np.int32),
    }
    for one in aligned:
        if one.of_pixels or one.attribution.axes[0] == "particle":
            columns |= one.particle_columns()
    return Jagged(
        events.offsets, np.arange(len(events)), lambda flat: {k: v[flat] for k, v in columns.items()}
    )


class _Aligned:
    """An attribution aligned with the events that are written.

    Attributes
    ----------
    at : ndarray of int64, shape [A]
        Position in the events of every event of the attribution.
    row : ndarray of int64, shape [E]
        The inverse, -1 for events that were not explained.
    columns : list of str
        Suffix of each combination of the regular axes; one empty suffix where there are none.
    """

    def __init__(self, attribution: Attribution, events: Events) -> None:
        self.attribution, self.events = mean_of_trainings(attribution), events
        self.spread = spread_of_trainings(attribution)
        attribution = self.attribution
        self.name = word(attribution.method)
        self.at = _positions(attribution, events)
        self.row = np.full(len(events), NONE, dtype=np.int64)
        self.row[self.at] = np.arange(len(self.at))
        self.layers = _layers(attribution)
        self.of_pixels = attribution.axes in (PIXELS, CHANNEL_PIXELS)
        self.columns, self.tables = [""], self._tables()
        if not (self.layers or self.of_pixels):
            self.columns = _column_names(attribution)

    def _tables(self) -> dict[str, NDArray[np.floating]]:
        """Values, their errors and spreads where there are some, ``[A, …]``, or for maps ``[A, pixels]``."""
        tables = {"value": self.attribution.values, "error": self.attribution.error, "training": self.spread}
        return {k: v.reshape(len(v), math.prod(v.shape[1:])) for k, v in tables.items() if v is not None}

    def branches(self) -> Iterator[tuple[str, Scalar | Jagged]]:
        """Branches by suffix; values of particles go into the list of particles."""
        yield "_explained", Scalar(self.row >= 0, False)
        for name in ("residual", "output_change"):
            values = getattr(self.attribution, name)
            if values is not None:
                yield f"_{name}", self._per_event(values)
        for name, values in self.attribution.event_columns.items():
            yield f"_{word(name)}", self._per_event(np.nan_to_num(values, nan=SENTINEL))
        for layer, neurons in self.layers.items():
            yield f"_{word(layer)}", self._of_layer(neurons)
        if self.attribution.axes[0] == "event" and not (self.layers or self.of_pixels):
            for what, table in self.tables.items():
                suffix = "" if what == "value" else f"_{what}"
                for k, column in enumerate(self.columns):
                    yield column + suffix, self._per_event(table[:, k])
        if self.attribution.axes[0] == "pair":
            yield "", Jagged(self.attribution.offsets, self.row, self._pair_fields())

    def particle_columns(self) -> dict[str, NDArray[np.float32]]:
        """Values of particles, or of the pixels that they light; sentinels elsewhere."""
        flat, _ = take_rows(self.events.offsets, self.at)
        pairs = self.attribution.pairs
        place = flat if pairs is None else flat[pairs.src]
        tables = self.tables
        if self.of_pixels:
            lights, *pixel = lit_places(self.attribution)
            place = flat[lights]
            tables = {what: table[tuple(pixel)][:, None] for what, table in tables.items()}
        columns: dict[str, NDArray[np.float32]] = {}
        for what, values in tables.items():
            table = np.full((self.events.n_particles, len(self.columns)), SENTINEL, dtype=np.float32)
            table[place] = values
            suffix = "" if what == "value" else f"_{what}"
            columns |= {self.name + column + suffix: table[:, k] for k, column in enumerate(self.columns)}
        return columns

    def _per_event(self, values: NDArray[np.floating]) -> Scalar:
        column = np.full(len(self.events), SENTINEL, dtype=np.float32)
        column[self.at] = values
        return Scalar(column, SENTINEL)

    def _of_layer(self, neurons: IntArray) -> Jagged:
        """Values of the neurons of a layer as a list per event, in the order of their numbers."""
        table = self.attribution.values[:, neurons].astype(np.float32).ravel()
        offsets = np.arange(len(self.at) + 1) * len(neurons)
        return Jagged(offsets, self.row, lambda flat: {"value": table[flat]})

    def _pair_fields(self) -> Callable[[IntArray], dict[str, NDArray[Any]]]:
        part, pairs = self.attribution.events, self.attribution.pairs
        assert pairs is not None  # an Attribution refuses a pair axis without pairs
        of_particle = {
            "_type": part.type.astype(np.int32),
            "": part.index.astype(np.int32),
            "_particle": local_index(part.offsets).astype(np.int32),
        }
        ends = {"dst": pairs.dst, "src": pairs.src}

        def fields(flat: IntArray) -> dict[str, NDArray[Any]]:
            record: dict[str, NDArray[Any]]
            record = {end + k: v[ends[end][flat]] for end in ends for k, v in of_particle.items()}
            for what, table in self.tables.items():
                values = table[flat].astype(np.float32)
                record |= {what + column: values[:, k] for k, column in enumerate(self.columns)}
            return record

        return fields


def _positions(attribution: Attribution, events: Events) -> IntArray:
    """Position of each explained event in ``events``, by file and entry."""
    part, method = attribution.events, attribution.method
    if (part.files, part.file_entries) != (events.files, events.file_entries):
        raise ValueError(f"{method} explains events of other files than those written")
    order = np.argsort(entry_key(events), kind="stable")
    keys, part_keys = entry_key(events)[order], entry_key(part)
    missing = ~np.isin(part_keys, keys)
    if missing.any():
        raise ValueError(f"{method} explains {missing.sum()} events that are not among those written")
    at = order[np.searchsorted(keys, part_keys)]
    flat, offsets = take_rows(events.offsets, at)
    if not (np.array_equal(offsets, part.offsets) and np.array_equal(events.type[flat], part.type)):
        raise ValueError(f"{method} explains other particles than those of the events written")
    return at


def _layers(attribution: Attribution) -> dict[str, IntArray]:
    """Columns of the neurons of each layer, which are called ``layer:number``; empty for other axes."""
    if attribution.axes != ("event", "neuron"):
        return {}
    names = np.array([label.rpartition(":")[0] for label in attribution.labels["neuron"]])
    return {str(layer): np.flatnonzero(names == layer) for layer in dict.fromkeys(names)}


def lit_places(attribution: Attribution) -> tuple[NDArray[np.bool_], IntArray, IntArray]:
    """Mask ``[N]`` of the particles that light a pixel, and the event and the place in the map of each.

    In a map of each channel, a particle has the value of its own channel.
    """
    _, rows, columns = attribution.events.image_layout().shape
    if attribution.values.shape[-2:] != (rows, columns):
        size = " x ".join(map(str, attribution.values.shape[1:]))
        raise ValueError(
            f"the map of {attribution.method} has {size} pixels, the image {rows} x {columns}; explain with "
            "upsample=True"
        )
    pixel = attribution.events.pixels()
    lights = pixel >= 0
    return lights, attribution.events.parent[lights], pixel[lights] % math.prod(attribution.values.shape[1:])


def _column_names(attribution: Attribution) -> list[str]:
    """Flat names of the regular axes, like ``_conv1_head0``: a TTree holds no doubly jagged branch."""
    shape, axes = attribution.values.shape[1:], attribution.axes
    if np.prod(shape, dtype=np.int64) > _MAX_COLUMNS:
        raise ValueError(
            f"{attribution.method} has {' × '.join(map(str, shape))} values per {axes[0]}; a friend tree "
            f"takes {_MAX_COLUMNS}: sum over {' or '.join(axes[1:])}, or select, first"
        )
    labels = [
        attribution.labels.get(a, tuple(map(str, range(k)))) for a, k in zip(axes[1:], shape, strict=True)
    ]
    words = [
        [f"_{axis}{name}" if name.isdigit() else f"_{word(name)}" for name in names]
        for axis, names in zip(axes[1:], labels, strict=True)
    ]
    return ["".join(combination) for combination in itertools.product(*words)]


def word(name: str) -> str:
    """Text as a name in ROOT and at its prompt."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)
