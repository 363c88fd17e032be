"""The result of every explainer: named axes, physics selections, means with errors."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import storage
from hepxai.attribution.conversions import explanation, lists_of_records
from hepxai.attribution.joining import joined
from hepxai.attribution.overview import overview
from hepxai.attribution.pairs import Pairs
from hepxai.attribution.selections import rows_of_types
from hepxai.attribution.spread import over_trainings
from hepxai.attribution.sums import population_sums
from hepxai.attribution.validation import JAGGED, check_columns
from hepxai.core.estimate import Estimate
from hepxai.core.jagged import IntArray, offsets_from_counts, row_sum, take_rows
from hepxai.events import Events

if TYPE_CHECKING:
    import awkward as ak
    from matplotlib.axes import Axes
    from torch_geometric.explain import Explanation

PIXELS = ("event", "row", "column")
CHANNEL_PIXELS = ("event", "channel", "row", "column")
"""Axes of maps over the pixels of the event's image, all channels together and each of them."""


@dataclass(frozen=True)
class Attribution:
    """Attribution of a model output to particles, pairs, columns, pixels or neurons, for every event.

    Attributes
    ----------
    values : ndarray
        Signed. The first axis is flat over events, particles or pairs; the others are regular: of the same
        length in every event.
    axes : tuple of str
        Names of the axes of ``values``. The first is "event", "particle", "pair" or "self" (see
        `self_loops`); the others are any of feature, channel, row, column, neuron, head, layer, repeat,
        training.
    events : Events
        The events explained.
    method, target : str
        Registered name of the explainer, and the output that was explained.
    settings : mapping
        Settings of the method (JSON values), with the baseline where there is one.
    labels : mapping of str to tuple of str
        Names along the regular axes.
    pairs : Pairs, optional
        Pairs of different particles along a "pair" axis. A selection of particles stores its particles here,
        as pairs of a particle with itself.
    self_values : ndarray, shape [N, ...], optional
        Values of the edges from each particle to itself, beside a "pair" axis; see `self_loops`.
    residual : ndarray of float64, shape [E], optional
        Completeness: sum of the attributions minus ``output_change``.
    output_change : ndarray of float64, shape [E], optional
        Change of the output from the baseline, to which the attributions should add up.
    error : ndarray of float64, shape of ``values``, optional
        Standard error of each value, for methods that sample. Copies with other values drop it. The error of
        `population` includes it already, as part of the spread between events.
    event_columns : mapping of str to ndarray of float64, shape [E]
        Further numbers of the method about each event, such as the χ² of a counterfactual; NaN for none.
    checks : mapping of str to float
        Figures of merit stored with the map (median relative residual, fidelity …).
    concerns : tuple of str
        One sentence for each failed check.
    varied : mapping of str to tuple of Attribution
        The same explanation of the events under systematic variations: for each source its alternatives,
        such as up and down. Means and other measures have a systematic error from it. Copies drop it, for
        it belongs to this map alone; see `apply`.
    title, short_title : str
        Name of the method in words, in full and abbreviated.
    unit : str
        Unit of the values.
    sign : {"both", "positive", ""}
        Signs that values of the method can have with its settings; "" if unknown, as for values of your own.
    """

    values: NDArray[np.floating]
    axes: tuple[str, ...]
    events: Events
    method: str
    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: Pairs | None = None
    self_values: NDArray[np.floating] | None = None
    residual: NDArray[np.float64] | None = None
    output_change: NDArray[np.float64] | None = None
    error: NDArray[np.float64] | None = None
    event_columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    checks: Mapping[str, float] = field(default_factory=dict)
    concerns: tuple[str, ...] = ()
    varied: Mapping[str, tuple[Attribution, ...]] = field(default_factory=dict)
    title: str = ""
    short_title: str = ""
    unit: str = "logit"
    sign: str = ""

    def __post_init__(self) -> None:
        check_columns(self)

    def __repr__(self) -> str:
        axes = " x ".join(f"{a} {n:,}" for a, n in zip(self.axes, self.values.shape, strict=True))
        loops = "" if self.self_values is None else ", with self loops"
        caveat = f"; caution: {self.caveat}" if self.caveat else ""
        size = f"{axes}{loops}, in {len(self.events):,} events"
        return f"<Attribution: {self.method} of {self.target}, {size}{caveat}>"

    def _repr_html_(self) -> str:
        """Axes, checks, concerns and the means of the classes, for notebooks."""
        names = self.events.schema.classes
        means = {n: self.population(self.events.label == c) for c, n in enumerate(names)}
        sizes = dict(zip(self.axes, self.values.shape, strict=True))
        return overview(
            self.title or self.method, self.target, self.unit, sizes, means, self.checks, self.caveat
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The values, flat over the first axis."""
        return np.array(self.values, dtype=dtype, copy=copy)

    def plot(self, event: int | None = None, **options: Any) -> Axes:
        """Figure that fits the axes, of the population or of one event; see `hepxai.plots.plot`."""
        draw = importlib.import_module("hepxai.plots.overview").plot  # drawing is no part of a result
        axes: Axes = draw(self, event, **options)
        return axes

    @property
    def caveat(self) -> str | None:
        """All concerns, for every figure and file made from this; None without any."""
        return "; ".join(self.concerns) or None

    @property
    def self_loops(self) -> Attribution | None:
        """Values of the edges from each particle to itself, axes ("self", …); None without such edges."""
        if self.self_values is None:
            return None
        return self.replace(
            values=self.self_values,
            axes=("self", *self.axes[1:]),
            pairs=None,
            self_values=None,
            residual=None,
            output_change=None,
        )

    # --- axes --------------------------------------------------------------------------------

    @property
    def offsets(self) -> IntArray:
        """Offsets of the first axis into the events, ``[E+1]``."""
        if self.axes[0] == "event":
            return np.arange(len(self.events) + 1)
        if self.pairs is not None:
            return self.pairs.offsets
        if self.axes[0] == "pair":
            raise ValueError("a pair axis needs pairs")
        return self.events.offsets

    def axis(self, name: str) -> int:
        """Position of a named axis."""
        if name not in self.axes:
            raise KeyError(f"no axis {name!r}; there are {', '.join(self.axes)}")
        return self.axes.index(name)

    def replace(self, **changes: Any) -> Attribution:
        """Copy with other attributes, validated; new values drop error and self loops unless given too."""
        if "values" in changes:
            changes = {"error": None, "self_values": None} | changes
        changes.setdefault("varied", {})
        return dataclasses.replace(self, **changes)

    def apply(self, change: Callable[[Attribution], Attribution]) -> Attribution:
        """Map after a change, such as a selection, with the variations after the same change."""
        varied = {source: tuple(map(change, maps)) for source, maps in self.varied.items()}
        return change(self).replace(varied=varied)

    # --- reductions --------------------------------------------------------------------------

    def sum(self, axis: str) -> Attribution:
        """Sum over a named axis; over "particle" or "pair" the result is per event."""
        if axis in JAGGED and self.axis(axis) == 0:
            return self._per_event(row_sum(self.values, self.offsets))
        self._regular(axis)
        return self._without(axis, np.sum)

    def mean(self, axis: str) -> Attribution:
        """Mean over a named axis; events without an entry get NaN."""
        if axis in JAGGED and self.axis(axis) == 0:
            size = np.diff(self.offsets).reshape((-1,) + (1,) * (self.values.ndim - 1))
            with np.errstate(invalid="ignore"):
                return self._per_event(row_sum(self.values, self.offsets) / np.where(size == 0, np.nan, size))
        self._regular(axis)
        return self._without(axis, np.mean)

    @over_trainings
    def population(self, where: NDArray[np.bool_] | None = None) -> Estimate:
        """Weighted mean over all entries of a population of events, with its statistical error.

        Parameters
        ----------
        where : ndarray of bool, shape [E], optional
            Events to use, all by default. With it there is no systematic error, for varied events are
            others; ``attribution.apply(lambda a: a[a.events.label == 1]).population()`` has one.

        Returns
        -------
        Estimate
            Shape of the regular axes. Events are the independent units, also where an event has
            many particles or pairs; see `hepxai.core.estimate.ratio_mean`. Of a "training" axis it is the
            mean, with the spread over the trainings; of a map with variations it has a systematic error.
        """
        sums = population_sums(self, where)
        return Estimate(sums.mean, sums.error, sums.n_eff)

    def _regular(self, axis: str) -> None:
        if self.axis(axis) == 0:
            raise ValueError(f"axis {axis!r} runs over the population: use population()")

    def _per_event(self, values: NDArray[np.float64]) -> Attribution:
        return self.replace(values=values, axes=("event", *self.axes[1:]), pairs=None)

    def _without(self, axis: str, reduce: Callable[..., Any]) -> Attribution:
        """Remove a regular axis with ``reduce(array, axis=position)``."""
        labels = {k: v for k, v in self.labels.items() if k != axis}
        axes = tuple(a for a in self.axes if a != axis)
        return self.replace(**self._changed(axis, reduce), axes=axes, labels=labels)

    def _along(self, axis: str, change: Callable[..., Any], labels: tuple[str, ...]) -> Attribution:
        """Change a regular axis with ``change(array, axis=position)``; its new labels."""
        return self.replace(**self._changed(axis, change), labels={**self.labels, axis: labels})

    def _changed(self, axis: str, change: Callable[..., Any]) -> dict[str, Any]:
        at, loops = self.axis(axis), self.self_values
        after = None if loops is None else change(loops, axis=at)
        return {"values": change(self.values, axis=at), "self_values": after}

    # --- selections --------------------------------------------------------------------------

    def select(
        self,
        *,
        particle: str | None = None,
        pair: tuple[str, str] | None = None,
        source: str | None = None,
        destination: str | None = None,
        **regular: str | Sequence[str],
    ) -> Attribution:
        """Select particles, pairs or columns by their physics names.

        Parameters
        ----------
        particle : str
            Particle type, for a "particle" or a "self" axis.
        pair : tuple of two str
            Types of a pair of different particles in either order, for a "pair" axis.
        source, destination : str
            Type of the sender and of the receiver of the message, for a "pair" axis.
        **regular
            Label on a regular axis, for example ``feature="pt"``; the axis is dropped. Of several labels in a
            list, the axis keeps these.
        """
        chosen = self
        for axis, label in regular.items():
            names, wanted = chosen.labels.get(axis, ()), [label] if isinstance(label, str) else list(label)
            if missing := [one for one in wanted if one not in names]:
                raise KeyError(
                    f"axis {axis!r} has no {missing[0]!r}; it has {', '.join(names) or 'no labels'}"
                )
            places = [names.index(one) for one in wanted]
            if isinstance(label, str):
                chosen = chosen._without(axis, partial(np.take, indices=places[0]))
            else:
                chosen = chosen._along(axis, partial(np.take, indices=places), tuple(wanted))
        mask = rows_of_types(chosen, particle=particle, pair=pair, source=source, destination=destination)
        return chosen if mask is None else chosen.keep(mask)

    def _ends(self) -> tuple[IntArray, IntArray]:
        if self.pairs is not None:
            return self.pairs.src, self.pairs.dst
        particles = np.arange(self.events.n_particles)
        return particles, particles

    def keep(self, mask: NDArray[np.bool_]) -> Attribution:
        """Select entries of the first axis: pairs, particles or events.

        Events without a selected pair or particle stay; on an "event" axis, events that are not selected go.

        Parameters
        ----------
        mask : ndarray of bool
            One entry for each row of ``values``.

        Raises
        ------
        ValueError
            If the mask is not boolean or has another length.
        """
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != self.values.shape[:1]:
            raise ValueError(
                f"a mask of {mask.dtype} {mask.shape} for {len(self.values)} {self.axes[0]}s; "
                "one bool for each is needed"
            )
        if self.axes[0] == "event":
            return self[mask]
        src, dst = self._ends()
        counts = row_sum(mask.astype(np.float64), self.offsets).astype(np.int64)
        pairs = Pairs(src[mask], dst[mask], offsets_from_counts(counts))
        return self.replace(values=self.values[mask], error=_rows(self.error, mask), pairs=pairs)

    def __getitem__(self, which: slice | NDArray[Any]) -> Attribution:
        """Select events."""
        rows = np.arange(len(self.events))[which]
        flat, offsets = take_rows(self.offsets, rows)
        events = self.events[rows]
        pairs = None
        particles = take_rows(self.events.offsets, rows)[0] if self.self_values is not None else None
        if self.pairs is not None:
            shift = np.repeat(events.offsets[:-1] - self.events.offsets[rows], np.diff(offsets))
            pairs = Pairs(self.pairs.src[flat] + shift, self.pairs.dst[flat] + shift, offsets)
        return self.replace(
            values=self.values[flat],
            self_values=_rows(self.self_values, particles),
            events=events,
            pairs=pairs,
            residual=_rows(self.residual, rows),
            output_change=_rows(self.output_change, rows),
            error=_rows(self.error, flat),
            event_columns={k: v[rows] for k, v in self.event_columns.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence[Attribution]) -> Attribution:
        """Join the attributions of consecutive parts of a population, made with the same settings."""
        return parts[0].replace(**joined(parts))

    # --- conversions and storage -------------------------------------------------------------

    def to_awkward(self) -> ak.Array:
        """One list of records per event (one record per event for an "event" axis).

        Fields are ``value`` (regular axes nested in it), ``error`` where there is one, and for pairs
        ``src`` and ``dst``, the positions of the particles inside the event.
        """
        return lists_of_records(self)

    def to_pyg(self, event: int) -> Explanation:
        """PyG ``Explanation`` of one event: ``node_mask`` for particles, ``edge_mask`` for pairs.

        Particles left out by a selection are 0 in the mask.

        Raises
        ------
        ValueError
            If PyG has no mask for these axes: sum over heads and layers, or select one, first.
        """
        one = self[np.array([event])]
        return explanation(one.events, one.axes, one.values, one._ends())

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, complete or not at all. The events are stored elsewhere."""
        tensors = {name: getattr(self, name) for name in storage.COLUMNS}
        if self.pairs is not None:
            tensors |= {f"pairs.{end}": getattr(self.pairs, end) for end in storage.ENDS}
        header = {name: getattr(self, name) for name in storage.TEXTS}
        header |= {name: dict(getattr(self, name)) for name in storage.MAPPINGS}
        tensors |= {f"{storage.EVENT}{name}": column for name, column in self.event_columns.items()}
        storage.write(path, tensors, header, self.events)

    @staticmethod
    def load(path: str | Path, events: Events) -> Attribution:
        """Read a file written by `save`; ``events`` are the explained ones.

        Raises
        ------
        ValueError
            If the file is damaged, is something else, or explains other events.
        """
        return Attribution(events=events, **storage.read(path, events))


def _rows(column: NDArray[Any] | None, rows: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if column is None else column[rows]
