"""Physics selections: rows of an attribution by the types of their particles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows_of_types(
    attribution: Any,
    *,
    particle: str | None,
    pair: tuple[str, str] | None,
    source: str | None,
    destination: str | None,
) -> NDArray[np.bool_] | None:
    """Mask of the rows of an `Attribution`; None to select all. See `Attribution.select`.

    Raises
    ------
    TypeError, ValueError
        If the pair is a single type, or the first axis has no such types.
    """
    if isinstance(pair, str):
        raise TypeError(f"pair={pair!r} is one type; two are needed, as in pair=({pair!r}, {pair!r})")
    pairs, is_type = attribution.pairs, attribution.events.is_type
    named = {"pair": pair, "source": source, "destination": destination}
    if named := {k: v for k, v in named.items() if v is not None}:
        _need(attribution, ("pair",), str(named))
    if particle is not None:
        _need(attribution, ("particle", "self"), f"particle={particle!r}")
        mask: NDArray[np.bool_] = is_type(particle)
        return mask if pairs is None else mask[pairs.src]
    masks = [pairs.between(attribution.events, pair)] if pair is not None else []
    masks += [is_type(source)[pairs.src]] if source is not None else []
    masks += [is_type(destination)[pairs.dst]] if destination is not None else []
    return np.logical_and.reduce(masks) if masks else None


def _need(attribution: Any, axes: tuple[str, ...], selection: str) -> None:
    if attribution.axes[0] not in axes:
        there = ", ".join(attribution.axes)
        raise ValueError(f"{selection} needs a {axes[0]} axis; {attribution.method} has {there}")
