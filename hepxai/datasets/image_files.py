"""Images from PNG files and NumPy archives as `Events`."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest
from hepxai.datasets.columns import ReadError
from hepxai.events import Events, Schema
from hepxai.events.per_event import PerEvent

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**24
"""Pixels of the largest PNG image that is read."""
TOTAL = 2**27
"""Pixels of all PNG images that are read at once."""


def read_images(
    paths: str | Path | Sequence[str | Path],
    *,
    images: str = "images",
    labels: str | None = None,
    like: Schema | None = None,
    **columns: Unpack[PerEvent],
) -> Events:
    """Read images, each an event, from PNG files of one size or from a NumPy archive (``.npz``).

    Pixels of PNG files are numbers from 0 to 1; grey images have one channel, others three or four.

    Parameters
    ----------
    paths : path, or sequence of paths
    images : str
        Array of an archive, ``[event, channel, row, column]`` or ``[event, row, column]``.
    labels : str, optional
        Array of an archive with the class of each event.
    like : Schema, optional
        Of the events that a model was trained on: names of the channels, rows, columns and classes.
    **columns
        Further columns, see `hepxai.events.per_event.PerEvent`.

    Raises
    ------
    ReadError
        If a file is missing, damaged or too large, the sizes differ, or they are not those of ``like``.
    """
    files = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise ReadError("no image; give at least one PNG file or an .npz archive")
    archives = [path for path in files if path.suffix == ".npz"]
    if archives and len(files) > 1:
        raise ReadError(f"{archives[0]} is one of {len(files)} files; give one archive, or PNG files alone")
    if labels and not archives:
        raise ReadError(f"labels={labels!r} names an array of an .npz archive; give label=… for PNG files")
    if archives:
        pixels, label_column = _archive(files[0], images, labels)
        columns = {**columns, "label": label_column} if labels else columns
    else:
        pixels = _stacked(files)
    names = {} if like is None else _names(like, pixels, files[0])
    events = Events.from_images(pixels, **names, **columns)
    return events if like is None else _as_trained(events, like)


def _archive(path: Path, images: str, labels: str | None) -> tuple[NDArray[Any], Any]:
    try:
        with np.load(path) as file:
            for name in filter(None, (images, labels)):
                if name not in file:
                    hint = nearest(name, file.files)
                    raise ReadError(f"{path} has no array {name!r}{hint}; there are {', '.join(file.files)}")
            pixels = np.asarray(file[images])
            return pixels[:, None] if pixels.ndim == 3 else pixels, file[labels] if labels else None
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as problem:
        if isinstance(problem, ReadError):
            raise
        raise ReadError(f"{path} is damaged, or no NumPy archive of numbers: {problem}") from None


def _stacked(files: Sequence[Path]) -> NDArray[np.float32]:
    total = sum(map(_pixels, files))
    if total > TOTAL:
        raise ReadError(f"{len(files)} images have {total:,} pixels, more than {TOTAL:,}; give fewer")
    arrays = [_png(path) for path in files]
    for path, array in zip(files, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ReadError(
                f"{path} has {_size(array.shape)}, {files[0]} {_size(arrays[0].shape)}; give images of "
                "one size"
            )
    return np.stack(arrays)


def _pixels(path: Path) -> int:
    """Pixels of a PNG image by its header, which comes first in every such file."""
    with path.open("rb") as opened:
        head = opened.read(24)
    if head[:8] != PNG or head[12:16] != b"IHDR" or len(head) < 24:
        raise ReadError(f"{path} is no PNG image; save it as PNG")
    width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
    if width * height > LARGEST:
        raise ReadError(f"{path} has {width} x {height} pixels, more than {LARGEST:,}; give a smaller image")
    return width * height


def _png(path: Path) -> NDArray[np.float32]:
    import matplotlib.image as mpl_image  # takes a second, which commands on cards do not need

    try:
        pixels = np.asarray(mpl_image.imread(path, format="png"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError, EOFError) as problem:
        raise ReadError(f"{path} is damaged: {problem}; save it again") from None
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _names(like: Schema, pixels: NDArray[Any], path: Path) -> dict[str, Any]:
    layout = like.image
    if layout is None:
        raise ReadError("the model was trained on events without an image; give it events of that kind")
    if pixels.shape[1:] != layout.shape:
        raise ReadError(
            f"{path} has images of {_size(pixels.shape[1:])}, the model takes {_size(layout.shape)}; "
            "resize them"
        )
    value = next((f for f in like.features if f == layout.value), "value")
    return {"channels": layout.types, "axes": (layout.rows.feature, layout.columns.feature), "value": value}


def _as_trained(events: Events, like: Schema) -> Events:
    """Events with the features of the training, where the pixels give all of them."""
    if missing := [f for f in like.features if f not in events.schema.features]:
        raise ReadError(
            f"the model was trained on particles with {', '.join(missing)}, which an image does not hold; "
            "give the events as ROOT files"
        )
    at = [events.schema.column(f) for f in like.features]
    fields = ("features", "units", "types", "image", "pair_features")
    schema = dataclasses.replace(events.schema, **{n: getattr(like, n) for n in fields})
    return events.replace(schema=schema, particles=np.ascontiguousarray(events.particles[:, at]))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + " (channel, row, column)"
