"""Image on a data-set card: rows, columns and content of the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hepxai.cards import Card, entry_error
from hepxai.datasets.names import require
from hepxai.datasets.particle_card import Particle
from hepxai.events.images import LIT, ImageAxis, ImageLayout


class Axis(Card):
    """Rows or columns of the image: a feature, and the number of bins that it counts from 0, or edges."""

    feature: str
    bins: Annotated[int | tuple[float, ...], Field(union_mode="left_to_right")]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.bins, int) and self.bins > 10_000:
            raise entry_error(f"found {self.bins}; an axis of an image has at most 10,000 bins", "bins")
        try:
            ImageAxis(self.feature, self.bins)
        except ValueError as problem:
            raise entry_error(str(problem), "bins") from None
        return self


class Image(Card):
    """Image of the particles that have the features of both axes and the value."""

    rows: Axis
    columns: Axis
    value: str | None = None
    outside: Literal["error", "drop"] = "error"

    def layout(self, particles: Mapping[str, Particle]) -> ImageLayout:
        """Rows, columns, and those of the particle types that are drawn."""
        rows, columns = (ImageAxis(a.feature, a.bins) for a in (self.rows, self.columns))
        needed = (rows.feature, columns.feature, *((self.value,) if self.value else ()))
        types = tuple(t for t, p in particles.items() if all(f in (LIT, *p.quantities) for f in needed))
        return ImageLayout(rows, columns, types, self.value)


def check_image(image: Image, particles: Mapping[str, Particle], node_features: Sequence[str]) -> None:
    """Refuse an image of unknown features, of no particle type, or without a value that it needs.

    Parameters
    ----------
    image : Image
    particles : mapping of str to Particle
        Types of the card.
    node_features : sequence of str
        Features that the card lists.
    """
    layout = image.layout(particles)
    features = tuple(dict.fromkeys((*node_features, "pt", "eta", "phi", "mass")))
    require("feature", layout.rows.feature, features, "image", "rows", "feature")
    require("feature", layout.columns.feature, features, "image", "columns", "feature")
    if image.value is not None:
        require("feature", image.value, (LIT, *features), "image", "value")
    if not layout.types:
        raise entry_error(
            f"no particle type has both {layout.rows.feature} and {layout.columns.feature}; declare them "
            "under features: of a type",
            "image",
        )
    if layout.value is None:
        _need_value(layout, particles, node_features)


def _need_value(layout: ImageLayout, particles: Mapping[str, Particle], node_features: Sequence[str]) -> None:
    """Refuse an image of 0 and 1 where the particles have more to draw than a place."""
    axes = (layout.rows.feature, layout.columns.feature)
    for name in layout.types:
        momenta = ("pt",) if particles[name].momenta is None else ()
        more = [f for f in (*momenta, *particles[name].features) if f not in axes]
        if more:
            is_feature = more[0] in (*momenta, *node_features)
            advice = "" if is_feature else " (and list it under features:)"
            raise entry_error(
                f"a {name} has {', '.join(more)} beside its place: write value: {more[0]}{advice} for "
                f"its sum in each pixel, or value: {LIT} for pixels of 0 and 1",
                "image",
            )
