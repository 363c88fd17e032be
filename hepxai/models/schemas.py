"""Checks that events mean the same as the training events of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from hepxai.events import Schema
from hepxai.events.images import ImageLayout


def same_inputs(trained: Schema, schema: Schema) -> None:
    """Refuse, with a ValueError, other features, types, units or order of them than in the training."""
    for what in ("features", "pair_features", "types", "units"):
        if getattr(trained, what) != getattr(schema, what):
            _refuse(f"{what} {getattr(trained, what)}", getattr(schema, what))


def _refuse(trained: object, events: object) -> NoReturn:
    raise ValueError(
        f"the model was trained on {trained}, these events have {events}; read them with the data-set card "
        "of the training"
    )


def checked_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    """Names of the outputs; refuses, with a TypeError, a text, which would pass as a sequence of letters."""
    if isinstance(outputs, str):
        raise TypeError(f"outputs={outputs!r} is a text; a tuple is needed: outputs=({outputs!r},)")
    return tuple(outputs)


def need_columns(schema: Schema) -> None:
    """Refuse a schema without a table."""
    if not schema.globals:
        raise ValueError("a model of the table needs columns; the data-set card declares no `globals`")


def same_columns(trained: Schema, schema: Schema) -> None:
    """Refuse, with a ValueError, a table of other columns, units or order than in the training."""
    names = listed(trained.globals)
    if trained.globals != schema.globals:
        raise ValueError(
            f"the model was trained on the globals {names}; {_difference(trained.globals, schema.globals)}; "
            "read the events with the data-set card of the training"
        )
    if trained.global_units != schema.global_units:
        _refuse(f"units {trained.global_units} of the globals {names}", schema.global_units)


def _difference(trained: Sequence[str], names: Sequence[str]) -> str:
    missing = [n for n in trained if n not in names]
    unknown = [n for n in names if n not in trained]
    if not missing and not unknown:
        return f"these events have them in another order: {listed(names)}"
    differences = {"these events lack": missing, "they have beside": unknown}
    return ", ".join(f"{what} {listed(columns)}" for what, columns in differences.items() if columns)


def listed(names: Sequence[object]) -> str:
    """Names in a message."""
    return ", ".join(map(str, names)) or "(none)"


def layout_of(schema: Schema) -> ImageLayout:
    """Layout of the images of a training; refuses events without images."""
    if schema.image is None:
        raise ValueError("the model reads images, the data-set card has none; say image: there")
    return schema.image


def same_image(trained: Schema, schema: Schema) -> None:
    """Refuse, with a ValueError, images of another size, bins or meaning than in the training."""
    if trained.image is None or schema.image is None:
        whose = "the events have" if trained.image else "the schema of the model has"
        raise ValueError(f"{whose} no image; say image: on the data-set card")
    if trained.image.shape != schema.image.shape:
        _refuse(f"images of {image_size(trained.image.shape)}", image_size(schema.image.shape))
    same_inputs(trained, schema)
    if trained.image != schema.image:
        _refuse(f"the image {trained.image}", schema.image)


def image_size(shape: tuple[int, ...]) -> str:
    """Shape ``[T, R, C]`` in words."""
    channels, rows, columns = shape
    return f"{channels} channel{'s' if channels > 1 else ''} of {rows} x {columns} pixels"
