"""Columns of `Events` from padded or flat arrays, and from images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, local_index, offsets_from_counts, parents
from hepxai.events.complete import Columns, check_finite, check_momenta, complete, narrow
from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.events.momenta import NO_MOMENTA, Momenta
from hepxai.events.per_event import PerEvent, numeric, plain, type_codes
from hepxai.events.schema import P4


class ArrayOptions(PerEvent, total=False):
    """Options of `Events.from_arrays` beside those of `PerEvent`.

    Attributes
    ----------
    mask : array of bool, shape [E, M]
        True for the real particles of a padded array. Not needed if there is no row of zeros.
    counts : array of int, shape [E]
        Particles of each event: the first ones of a padded row, or consecutive rows of a flat array.
    offsets : array of int, shape [E+1]
        In place of ``counts``, for a flat array.
    type : array of int or str, shape [E, M] or [N]
        Index in ``types``, or name; 0 by default.
    types : sequence of str
        Particle types; "particle" by default.
    p4 : str or array
        Pattern of the features that are components of the momentum, such as ``part_{}``; ``{}`` by default.
        An array ``[E, M, 4]`` or ``[N, 4]`` of pt, eta, phi, mass [GeV]. "none": particles without momenta.
    truth : mapping of str to array of bool, shape [E, M] or [N]
    pair_features : sequence of str
        See `hepxai.events.pair_features`.
    """

    mask: Any
    counts: Any
    offsets: Any
    type: Any
    types: Sequence[str]
    p4: Any
    truth: Mapping[str, Any] | None
    pair_features: Sequence[str]


class ImageOptions(PerEvent, total=False):
    """Options of `Events.from_images` beside those of `PerEvent`.

    Attributes
    ----------
    channels : sequence of str, length T
        Names of the channels, the particle types.
    axes : tuple of two str
        Names of rows and columns, which are features; "row" and "column" by default.
    value : str
        Name of the feature that is the value of the pixel; "value" by default.
    """

    channels: Sequence[str] | None
    axes: tuple[str, str]
    value: str


# --- padded and flat arrays -------------------------------------------------------------------------------


def from_arrays(
    x: Any,
    features: Sequence[str],
    *,
    mask: Any = None,
    counts: Any = None,
    offsets: Any = None,
    type: Any = None,
    types: Sequence[str] = ("particle",),
    p4: Any = "{}",
    truth: Mapping[str, Any] | None = None,
    pair_features: Sequence[str] = (),
    **columns: Unpack[PerEvent],
) -> Columns:
    """Columns of `Events.from_arrays`."""
    array = numeric(x, "x")
    _check_shape(array, features)
    real, offsets = (_padded_rows if array.ndim == 3 else _flat_rows)(array, mask, counts, offsets)
    table, parent = narrow(array[real]), parents(offsets)

    def where(row: int) -> str:
        return f"{types[0] if len(types) == 1 else 'a particle'} in event {parent[row]}"

    check_finite(table, features, where)
    kind = np.zeros(len(table), dtype=np.int64)
    if type is not None:
        kind = _same_shape(type_codes(type, types), "type", array)[real]
    momenta = _momenta_of(p4, tuple(features), array, real)
    check_momenta(momenta, where)
    position = np.nonzero(real)[1] if array.ndim == 3 else local_index(offsets)
    flat = {
        "offsets": offsets,
        "particles": table,
        "p4": momenta,
        "type": kind,
        "index": position.astype(np.int64),
        "truth": {
            n: _same_shape(plain(v, f"truth: {n}"), f"truth: {n}", array)[real] != 0
            for n, v in (truth or {}).items()
        },
    }
    schema = {"features": tuple(features), "types": tuple(types), "pair_features": tuple(pair_features)}
    return complete(flat, schema, columns)


def _check_shape(array: NDArray[Any], features: Sequence[str]) -> None:
    if isinstance(features, str) or array.ndim not in (2, 3):
        raise ValueError(
            f"x has shape {array.shape} for the features {features}; give [E, M, F] with a mask, or "
            "[N, F] with counts, and a list of F names"
        )
    if array.shape[-1] != len(features):
        turned = array.ndim == 3 and array.shape[1] == len(features)
        remedy = "x looks feature-first: pass x.transpose(0, 2, 1)" if turned else "name each column of x"
        raise ValueError(f"x has shape {array.shape} for {len(features)} features; {remedy}")


def _padded_rows(
    array: NDArray[Any], mask: Any, counts: Any, given_offsets: Any
) -> tuple[NDArray[np.bool_], IntArray]:
    """Mask ``[E, M]`` of the real particles of a padded array, and their offsets."""
    events, longest, _ = array.shape
    if given_offsets is not None or (mask is not None and counts is not None):
        raise ValueError("a padded x takes a mask or counts, one of them; offsets belong to a flat x [N, F]")
    if counts is not None:
        sizes = _integers(counts, "counts")
        if sizes.shape != (events,) or sizes.max(initial=0) > longest or sizes.min(initial=0) < 0:
            raise ValueError(
                f"counts of shape {sizes.shape}, up to {sizes.max(initial=0)}, for x of shape {array.shape}; "
                f"give one number from 0 to {longest} for each event"
            )
        real: NDArray[np.bool_] = np.arange(longest) < sizes[:, None]
    elif mask is None:
        real = np.ones((events, longest), dtype=np.bool_)
        if empty := int(np.count_nonzero(~array.any(axis=-1))):
            raise ValueError(
                f"{empty} rows of x are all zero and there is no mask; give the real particles, as in "
                "mask=(x != 0).any(-1)"
            )
    else:
        real = plain(mask, "mask")
        real = real.reshape(events, longest) if real.size == events * longest else real
        if real.shape != (events, longest) or not np.isin(real, (0, 1)).all():
            raise ValueError(
                f"mask of {real.dtype} {real.shape} for x of shape {array.shape}; give one bool for each of "
                f"the {events} x {longest} particles, true for real ones"
            )
        real = real.astype(np.bool_)
    return real, offsets_from_counts(real.sum(axis=1))


def _flat_rows(
    array: NDArray[Any], mask: Any, counts: Any, given_offsets: Any
) -> tuple[NDArray[np.bool_], IntArray]:
    """All rows of a flat array, and the offsets of its events."""
    if mask is not None or (counts is None) == (given_offsets is None):
        raise ValueError("a flat x [N, F] takes counts or offsets, one of them, and no mask")
    if given_offsets is not None:
        offsets = _integers(given_offsets, "offsets")
        if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError(
                "offsets must start at 0 and never decrease; np.append(0, np.cumsum(counts)) does"
            )
    else:
        sizes = _integers(counts, "counts")
        if sizes.ndim != 1 or (sizes < 0).any():
            raise ValueError(f"counts of shape {sizes.shape}; give one number from 0 for each event")
        offsets = offsets_from_counts(sizes)
    if offsets[-1] != len(array):
        raise ValueError(
            f"the counts sum up to {offsets[-1]} particles, x has {len(array)}; give all of them"
        )
    return np.ones(len(array), dtype=np.bool_), offsets


def _integers(values: Any, what: str) -> IntArray:
    array = numeric(values, what)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{what}: expected whole numbers, got {array.dtype}; convert them, as in x.astype(int)"
        )
    return array.astype(np.int64)


def _same_shape(values: NDArray[Any], what: str, array: NDArray[Any]) -> NDArray[Any]:
    if values.shape != array.shape[:-1]:
        raise ValueError(f"{what} has shape {values.shape}; x has particles of shape {array.shape[:-1]}")
    return values


def _momenta_of(
    p4: Any, features: tuple[str, ...], array: NDArray[Any], real: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Four-momenta ``[N, 4]``, given or from columns that are named like components."""
    if isinstance(p4, str) and p4 == NO_MOMENTA:
        return np.zeros((np.count_nonzero(real), 4), dtype=np.float32)
    if not isinstance(p4, str):
        components = numeric(p4, "p4")
        if components.shape != (*array.shape[:-1], 4):
            raise ValueError(
                f"p4 has shape {components.shape} for x of {array.shape}; the last axis is pt, eta, phi, mass"
            )
        return narrow(components[real])
    what = f"x with the features {', '.join(features)}"
    try:
        momenta = Momenta.by_pattern(features, lambda n: array[..., features.index(n)][real], p4, what)
    except ValueError as problem:
        raise ValueError(
            f"{problem}; p4 takes a pattern, as in p4='part_{{}}', an array, or p4={NO_MOMENTA!r} if "
            "particles have no momenta"
        ) from None
    return np.stack([narrow(momenta[c]) for c in P4], axis=1)


# --- images -----------------------------------------------------------------------------------------------


def from_images(
    images: Any,
    *,
    channels: Sequence[str] | None = None,
    axes: tuple[str, str] = ("row", "column"),
    value: str = "value",
    **columns: Unpack[PerEvent],
) -> Columns:
    """Columns of `Events.from_images`."""
    array = numeric(images, "images")
    if array.ndim != 4:
        remedy = ", images[:, None] for one channel" if array.ndim == 3 else ""
        raise ValueError(f"images have shape {array.shape}; give [events, channels, rows, columns]{remedy}")
    number = array.shape[1]
    names = tuple(channels or (["pixel"] if number == 1 else [f"channel_{i}" for i in range(number)]))
    if len(names) != number:
        raise ValueError(f"{len(names)} names of channels for images of shape {array.shape}")
    pixels = narrow(array)
    if (bad := np.argwhere(~np.isfinite(pixels))).size:
        raise ValueError(
            f"a pixel is {pixels[tuple(bad[0])]} in event {bad[0][0]} ({len(bad)} such); put a number in its "
            "place, as in np.nan_to_num(images)"
        )
    event, channel, row, column = np.nonzero(pixels)
    offsets = offsets_from_counts(np.bincount(event, minlength=len(array)))
    flat = {
        "offsets": offsets,
        "particles": np.stack([row, column, pixels[event, channel, row, column]], axis=1).astype(np.float32),
        "p4": np.zeros((len(event), 4), dtype=np.float32),
        "type": channel,
        "index": local_index(offsets),
    }
    rows, width = array.shape[2:]
    layout = ImageLayout(ImageAxis(axes[0], rows), ImageAxis(axes[1], width), names, value)
    return complete(flat, {"features": (*axes, value), "types": names, "image": layout}, columns)
