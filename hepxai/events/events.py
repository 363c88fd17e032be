"""Events: the one data structure. Columnar, jagged, frozen; its views feed the models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from hepxai.core.fingerprint import fingerprint
from hepxai.core.jagged import (
    IntArray,
    all_pairs,
    offsets_from_counts,
    parents,
    repetition,
    row_numbers,
    take_rows,
)
from hepxai.events import arrays, records, storage
from hepxai.events.arrays import ArrayOptions, ImageOptions
from hepxai.events.graphs import complete_graphs
from hepxai.events.images import ImageLayout, filled
from hepxai.events.overview import origin_of, overview
from hepxai.events.records import RecordOptions
from hepxai.events.schema import P4, SPLITS, Schema
from hepxai.events.validation import check_columns

if TYPE_CHECKING:
    from torch_geometric.data import Batch


@dataclass(frozen=True)
class Events:
    """A population of events with particles, labels, signed weights and identity.

    Event ``e`` owns the flat particles ``offsets[e]:offsets[e+1]``. Events that failed the card's
    selection are not here; ``file`` and ``entry`` say where each event came from, so that
    results can be written back row by row.

    Attributes
    ----------
    schema : Schema
    offsets : ndarray of int64, shape [E+1]
    particles : ndarray of float32, shape [N, F]
        Physical values, not standardised. Momenta in GeV.
    p4 : ndarray of float32, shape [N, 4]
        pt [GeV], eta, phi, mass [GeV].
    type : ndarray of int64, shape [N]
    index : ndarray of int64, shape [N]
        Position inside the original collection; -1 for particles without one (missing momentum).
    label : ndarray of int64, shape [E]
    weight : ndarray of float64, shape [E]
        Signed.
    globals : ndarray of float32, shape [E, G]
    run, luminosity_block, event : ndarray of int64, shape [E]
    file, entry : ndarray of int64, shape [E]
    files : tuple of str
        ``path:tree`` for each value of ``file``.
    file_entries : tuple of int
        Number of entries of each file, selected or not.
    split : ndarray of int64, shape [E]
        Index into ``SPLITS``.
    observers : mapping of str to ndarray of float64, shape [E]
        Stored with the events, never used in training.
    truth : mapping of str to ndarray of bool, shape [N]
    targets : ndarray of float32, shape [E, T]
        Targets of a regression; NaN where an event has none.
    samples : tuple of str
        Sample of the card to which each of ``files`` belongs; empty where none is known.
    """

    schema: Schema
    offsets: IntArray
    particles: NDArray[np.float32]
    p4: NDArray[np.float32]
    type: IntArray
    index: IntArray
    label: IntArray
    weight: NDArray[np.float64]
    globals: NDArray[np.float32]
    run: IntArray
    luminosity_block: IntArray
    event: IntArray
    file: IntArray
    entry: IntArray
    split: IntArray
    files: tuple[str, ...]
    file_entries: tuple[int, ...]
    observers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    truth: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    targets: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    samples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.schema.targets and self.targets.size == 0:
            object.__setattr__(self, "targets", np.zeros((len(self), 0), dtype=np.float32))
        check_columns(self, self._event_columns(), self._particle_columns())

    def __repr__(self) -> str:
        names = ", ".join(self.schema.classes)
        size = f"{len(self):,} events ({names}), {self.n_particles:,} particles"
        return f"<Events: {size}, {origin_of(self.files, self.event, self.entry)}>"

    def _repr_html_(self) -> str:
        """Tables of classes and features, for notebooks."""
        columns = (self.label, self.weight, self.parent, self.type)
        return overview(self.schema, *columns, origin_of(self.files, self.event, self.entry))

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        """Refuse the conversion to one array, which has either rows for events or rows for particles."""
        raise TypeError(
            "events are no single array; take events.particles [N, F], events.padded(), events.table() or "
            "events.image()"
        )

    # --- size and identity -------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_particles(self) -> int:
        """Number of particles in all events."""
        return int(self.offsets[-1])

    @property
    def counts(self) -> IntArray:
        """Particles per event, ``[E]``."""
        return np.diff(self.offsets)

    @property
    def parent(self) -> IntArray:
        """Event of every particle, ``[N]``."""
        return parents(self.offsets)

    def sample_numbers(self) -> tuple[tuple[str, ...], IntArray]:
        """Names of the samples, and the number of that of every event ``[E]``.

        Raises
        ------
        ValueError
            If the samples are not known.
        """
        if not self.samples:
            raise ValueError(
                "the samples of these events are not known; read them from a data-set card, or give "
                "events.replace(samples=…), one name for each of events.files"
            )
        names = tuple(dict.fromkeys(self.samples))
        return names, np.array([names.index(s) for s in self.samples])[self.file]

    def pairs(self) -> tuple[IntArray, IntArray, IntArray]:
        """All ordered pairs ``(src, dst, pair_offsets)``; see `hepxai.core.jagged.all_pairs`."""
        return all_pairs(self.offsets)

    def _event_columns(self) -> dict[str, NDArray[Any]]:
        identity = ("run", "luminosity_block", "event", "file", "entry", "split")
        names = ("label", "weight", "globals", "targets", *identity)
        return {n: getattr(self, n) for n in names} | {f"observers.{k}": v for k, v in self.observers.items()}

    def _particle_columns(self) -> dict[str, NDArray[Any]]:
        names = ("particles", "p4", "type", "index")
        return {n: getattr(self, n) for n in names} | {f"truth.{k}": v for k, v in self.truth.items()}

    def fingerprint(self, *, values: bool = False) -> str:
        """Hash of identity and number of particles of each event; with ``values``, of their columns, too."""
        identity = (self.file, self.entry, self.run, self.event, self.offsets)
        columns: list[NDArray[Any]] = [np.asarray(c, dtype=np.int64) for c in identity]
        if values:
            columns += [self.particles, self.p4, self.type, self.globals, self.label, self.targets]
            columns += self.truth.values()
        return fingerprint(*columns)

    # --- arrays and files ----------------------------------------------------------------------

    @staticmethod
    def from_awkward(particles: Mapping[str, Any], **options: Unpack[RecordOptions]) -> Events:
        """Events from awkward arrays, such as those of NanoAOD and coffea.

        Parameters
        ----------
        particles : mapping of str to record array, or to mapping of str to array
            Fields of each particle type: pt, eta, phi, mass or px, py, pz, energy [GeV] (pt, phi for missing
            momentum), and further ones. A list of particles per event, or one particle. The order inside an
            event stays. Without particles, ``globals`` make a table.
        **options
            Features, truth: `hepxai.events.records.RecordOptions`. Labels, weights and more:
            `hepxai.events.per_event.PerEvent`.

        Raises
        ------
        TypeError, ValueError
            If arrays are delayed, have missing values, or do not line up; if a number is not finite, or pt is
            negative.
        """
        return Events(**records.from_awkward(particles, **options))

    @staticmethod
    def from_arrays(x: Any, features: Sequence[str], **options: Unpack[ArrayOptions]) -> Events:
        """Events from a padded array ``[E, M, F]`` or a flat one ``[N, F]``, in float32.

        Parameters
        ----------
        x : array
        features : sequence of str, length F
        **options
            Mask, counts, momenta, types: `hepxai.events.arrays.ArrayOptions`. Labels, weights and more:
            `hepxai.events.per_event.PerEvent`.

        Raises
        ------
        TypeError, ValueError
            If shapes do not fit, a number of a real particle is not finite, or there are no momenta.
        """
        return Events(**arrays.from_arrays(x, features, **options))

    @staticmethod
    def from_images(images: Any, **options: Unpack[ImageOptions]) -> Events:
        """Events from images ``[E, T, R, C]`` of real numbers; `image` returns the same array in float32.

        Every pixel that is not 0 becomes a particle of its channel.

        Parameters
        ----------
        images : array
        **options
            Names: `hepxai.events.arrays.ImageOptions`. Labels, weights and more:
            `hepxai.events.per_event.PerEvent`.

        Raises
        ------
        TypeError, ValueError
            If the images have another number of axes, or a pixel is not finite.
        """
        return Events(**arrays.from_images(images, **options))

    def save(self, path: str | Path) -> None:
        """Write all columns to a safetensors file, or to Parquet if the name ends in ``.parquet``."""
        columns = self._event_columns() | self._particle_columns() | {"offsets": self.offsets}
        about = {"files": self.files, "file_entries": self.file_entries, "samples": self.samples}
        storage.write(path, self.schema, columns, about)

    @staticmethod
    def load(path: str | Path) -> Events:
        """Read a file written by `save`; nothing in it is executed.

        Raises
        ------
        ValueError
            If the file is damaged or something else.
        """
        return Events(**storage.read(path))

    # --- subsets -----------------------------------------------------------------------------

    def __getitem__(self, which: int | slice | NDArray[Any] | Sequence[int]) -> Events:
        """Events at the given positions (one of them, too), or where a boolean mask of length E is true."""
        rows = row_numbers(which, len(self))
        flat, offsets = take_rows(self.offsets, rows)
        columns = {n: c[rows] for n, c in self._event_columns().items()}
        columns |= {n: c[flat] for n, c in self._particle_columns().items()}
        return dataclasses.replace(self, offsets=offsets, **storage.grouped(columns))

    def __iter__(self) -> Iterator[Events]:
        """One event after the other, each as `Events` of length 1."""
        return (self[row : row + 1] for row in range(len(self)))

    def where(self, split: str) -> Events:
        """Events of one split: "train", "valid" or "test"."""
        if split not in SPLITS:
            raise KeyError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        return self[self.split == SPLITS.index(split)]

    def replace(self, **columns: Any) -> Events:
        """Copy with other columns, checked again."""
        return dataclasses.replace(self, **columns)

    @staticmethod
    def concatenate(parts: Iterable[Events]) -> Events:
        """Concatenate events that share a schema and file list."""
        chunks = list(parts)
        if not chunks:
            raise ValueError("nothing to concatenate")
        first = chunks[0]
        if any(c.schema != first.schema or c.files != first.files for c in chunks):
            raise ValueError("parts differ in schema or files; read them with one card")
        of_parts = [c._event_columns() | c._particle_columns() for c in chunks]
        joined = {n: np.concatenate([columns[n] for columns in of_parts]) for n in of_parts[0]}
        offsets = offsets_from_counts(np.concatenate([c.counts for c in chunks]))
        return dataclasses.replace(first, offsets=offsets, **storage.grouped(joined))

    # --- views -------------------------------------------------------------------------------

    def table(self) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Event-level features ``[E, G]`` and their names."""
        return self.globals, self.schema.globals

    def padded(self, maximum: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Particle features ``[E, M, F]``, zero-padded, and the mask of real particles ``[E, M]``.

        Raises
        ------
        ValueError
            If an event has more than ``maximum`` particles: dropping some would be silent.
        """
        longest = int(self.counts.max(initial=0))
        size = longest if maximum is None else maximum
        if longest > size:
            raise ValueError(f"an event has {longest} particles, more than maximum={size}")
        mask = np.arange(size) < self.counts[:, None]
        values = np.zeros((len(self), size, self.particles.shape[1]), dtype=np.float32)
        values[mask] = self.particles
        return values, mask

    def graph(self) -> Batch:
        """Fully connected particle graphs as one PyG ``Batch`` of E graphs.

        ``x [N, F]``, ``edge_index [2, P]`` (source, target), ``y``, ``weight``, ``p4``, ``batch``, ``ptr``;
        arrays are shared with the events where torch allows it.
        """
        return complete_graphs(self.particles, self.p4, self.offsets, self.label, self.weight)

    def image(
        self,
        layout: ImageLayout | None = None,
        *,
        where: NDArray[np.bool_] | None = None,
        weight: str | None = None,
    ) -> NDArray[np.float32]:
        """Particles as detector images ``[E, T, R, C]``, one channel per particle type that is drawn.

        A dense image of 9 x 384 pixels takes 14 kB: ask for ``events[rows].image()`` chunk by chunk.

        Parameters
        ----------
        layout : ImageLayout, optional
            The schema's by default. Particles outside are not drawn.
        where : ndarray of bool, shape [N], optional
            Particles to draw, for example ``events.truth["fromMuon"]``; all by default.
        weight : str, optional
            A feature, or one of pt, eta, phi, mass, summed in each pixel. By default the layout's ``value``;
            without one a lit pixel is 1.
        """
        layout = self.image_layout(layout)
        pixel = self.pixels(layout)
        drawn = pixel >= 0 if where is None else (pixel >= 0) & where
        at = self.parent[drawn] * int(np.prod(layout.shape)) + pixel[drawn]
        quantity = weight or layout.quantity
        values = None if quantity is None else self.values_of(quantity)[drawn]
        return filled((len(self), *layout.shape), at, values)

    def pixels(self, layout: ImageLayout | None = None) -> IntArray:
        """Place of every particle in its event's flat image ``[T * R * C]``, -1 where it is not drawn."""
        layout = self.image_layout(layout)
        channels, rows, columns = layout.shape
        channel = np.full(len(self.schema.types), -1)
        channel[[self.schema.code(t) for t in layout.types]] = np.arange(channels)
        of = channel[self.type]
        pixel = layout.pixels(self.values_of(layout.rows.feature), self.values_of(layout.columns.feature))
        return np.where((of < 0) | (pixel < 0), -1, of * (rows * columns) + pixel)

    def image_layout(self, layout: ImageLayout | None = None) -> ImageLayout:
        """The given layout, or the schema's.

        Raises
        ------
        ValueError
            If there is neither.
        """
        chosen = layout or self.schema.image
        if chosen is None:
            raise ValueError("these events have no image; say image: on the data-set card, or give a layout")
        return chosen

    # --- physics helpers ---------------------------------------------------------------------

    def values_of(self, name: str) -> NDArray[np.float32]:
        """One particle quantity ``[N]``: a learned feature or pt, eta, phi, mass."""
        if name in P4:
            return np.asarray(self.p4[:, P4.index(name)])
        return np.asarray(self.particles[:, self.schema.column(name)])

    def is_type(self, particle: str) -> NDArray[np.bool_]:
        """Mask of the particles of one type, ``[N]``."""
        return np.asarray(self.type == self.schema.code(particle))

    def labels_of_particles(self) -> list[str]:
        """Human names like ``muon 1`` (numbered inside event and type), ``[N]``."""
        key = self.parent * len(self.schema.types) + self.type
        return [f"{self.schema.types[t]} {r + 1}" for t, r in zip(self.type, repetition(key), strict=True)]
