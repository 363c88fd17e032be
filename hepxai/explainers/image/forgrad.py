"""FORGrad: a map over pixels of any method without its high frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.attribution.low_pass import filtered, kept_waves, low_pass, usual_sigma
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Explainer, Prepared, SettingError
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.images import MapExplainer
from hepxai.explainers.methods import EXPLAINERS, configure, register

MOST = 0.9
"""Share of the power of a map that may be removed without a warning."""


@dataclass(frozen=True, kw_only=True)
class PreparedForgrad(Prepared):
    """Base method, prepared, and the filter.

    Attributes
    ----------
    base : Prepared
    sigma : float
    size : tuple of int
        Rows and columns.
    """

    base: Prepared
    sigma: float
    size: tuple[int, int]

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of the base method."""
        return self.base.axes

    def settings(self) -> dict[str, Any]:
        """Settings, those that the base method settled for the population, and the filter in pixels."""
        settled, fields = self.base.settings(), type(self.base.explainer).model_fields
        return super().settings() | {
            "base_settings": {n: v for n, v in settled.items() if n in fields},
            "base_details": {n: v for n, v in settled.items() if n not in fields},
            "sigma": self.sigma,
            "shortest_wave": max(self.size) / self.sigma if self.sigma else None,
        }

    def silent(self) -> Self:
        """Copy that shows no progress bar."""
        return dataclasses.replace(super().silent(), base=self.base.silent())

    def attribute(self, events: Events) -> Attribution:
        """Filter the result of the base method."""
        names = {"title": self.explainer.title, "short_title": self.explainer.short_title}
        found = low_pass(self.base.attribute(events), self.sigma)
        return found.replace(method=self.explainer.name, settings=self.settings(), **names)

    def announce(self, events: Events) -> None:
        """Announce the cost of the base method."""
        self.base.announce(events)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Those of the base method, made on the filtered map, and the share of its power that is gone."""
        return {**self.base.checks(attribution), **attribution.checks}

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Those of the base method; an axis along which nothing varies any more; most of the power gone."""
        keep, concerns = kept_waves(*self.size, self.sigma), self.base.concerns(checks)
        for axis, size, waves in zip(("row", "column"), self.size, (keep[1:, 0], keep[0, 1:]), strict=True):
            if self.sigma and len(waves) and not waves.any():
                concerns += (
                    f"no wave along the {size} {axis}s stays, so that all of them look alike: sigma of at "
                    f"least {max(self.size) / size:.3g} keeps the longest",
                )
        if checks.get("power_removed", 0.0) > MOST:
            share = 100 * checks["power_removed"]
            concerns += (
                f"the filter removed {share:.2f} % of the power of the maps; give a larger sigma "
                f"({max(self.size)} removes nothing)",
            )
        return concerns


@register("forgrad")
class Forgrad(MapExplainer):
    """Map of another method without the waves that are shorter than a limit.

    FORGrad [Muzellec et al., arXiv:2307.09591]: ``F⁻¹(w_σ F(a))`` with the Fourier transform F of the map a,
    and w_σ = 1 for waves of at most σ periods along the longer side of the image, in any direction, else 0.

    Attributes
    ----------
    base : str
        A method with maps over pixels.
    base_settings : mapping
        Its settings.
    sigma : float, optional
        From 0, where nothing stays, not even the mean, to the longer side, where the map stays what it is. By
        default 15/224 of the longer side, and at least so much that one wave along the shorter side stays.
    """

    title = "map without high frequencies (FORGrad)"
    short_title = "FORGrad"
    base: str = "saliency"
    base_settings: dict[str, Any] = Field(default_factory=dict)
    sigma: float | None = Field(default=None, ge=0)

    def base_explainer(self) -> Explainer:
        """Base method with its settings.

        Raises
        ------
        SettingError
            If there is no such method, or it has no map over pixels.
        """
        maps = sorted(n for n, e in EXPLAINERS.items() if issubclass(e, MapExplainer) and n != self.name)
        if self.base not in maps:
            raise SettingError(f"forgrad.base={self.base!r}; maps over pixels come from {', '.join(maps)}")
        return configure(self.base, {"progress": self.progress} | self.base_settings)

    def axes_of_result(self) -> tuple[str, ...]:
        """Axes of the base method."""
        return self.base_explainer().axes_of_result()

    def sign_of_result(self) -> Literal["both", "positive"]:
        """That of the base method: the filter adds ripples of the other sign only."""
        return self.base_explainer().sign_of_result()

    def check_model(self, model: Any) -> None:
        """Refuse a model that the base method cannot explain."""
        base = self.base_explainer()
        if not isinstance(model, base.needs):
            raise CannotExplainError(
                f"forgrad with base={self.base!r} needs {base.needs.__name__}; {type(model).__name__} lacks "
                "a part of it: choose another base"
            )
        base.check_model(model)

    def check_run(self, model: Any) -> None:
        """Refuse settings whose result a run cannot store."""
        self.base_explainer().check_run(model)

    def prepare(self, model: Any, events: Events, target: str) -> PreparedForgrad:
        """Prepare the base method, and settle the cut-off."""
        rows, columns = events.image_layout().shape[1:]
        sigma = usual_sigma(rows, columns) if self.sigma is None else self.sigma
        filtered(np.zeros((0, rows, columns)), sigma)  # refuses one that is too large
        base = self.base_explainer().prepare(model, events, target)
        common = {"explainer": self, "model": model, "target": target}
        return PreparedForgrad(**common, base=base, sigma=sigma, size=(rows, columns))

    def attribute_batch(self, prepared: PreparedForgrad, batch: Batch[Tensor]) -> Part:
        """Filtered map of the base method, without the figures that `PreparedForgrad.attribute` adds."""
        return Part(values=prepared.attribute(batch.events).values)
