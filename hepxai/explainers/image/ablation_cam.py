"""Ablation-CAM: maps of a layer, weighted with the change of the output when they are switched off."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.console import say
from hepxai.events import Events
from hepxai.explainers.batches import Batch, Part, batches
from hepxai.explainers.image.feature_maps import PreparedMap, SignedMapExplainer, lit, slopes
from hepxai.explainers.methods import register
from hepxai.models.protocols import HasLayerCut

VALUES = 1 << 20
"""Values of maps in a chunk: 4 MB, so that memory stays flat and caches hold what follows."""
LONG = 5.0
"""Expected seconds above which the cost is announced."""
PROBED = 32
"""Most channels whose time is measured for it."""
PART = 20
"""Passes for one measured channel, so that the measurement is short beside what it predicts."""
SHARE = "ablated_activation"
LEAST_SHARE = 0.5
"""Share of the activation below which the channels that are left out matter too much."""


@dataclass(frozen=True, kw_only=True)
class PreparedAblation(PreparedMap):
    """Ablation-CAM of a layer.

    Attributes
    ----------
    unit_of_map : str
        Unit of the target times an activation.
    """

    unit_of_map: str

    def settings(self) -> dict[str, Any]:
        """Settings with the unit."""
        return super().settings() | {"unit": self.unit_of_map}

    def unit(self, events: Events) -> str:
        """Unit of the values."""
        return self.unit_of_map

    def announce(self, events: Events) -> None:
        """Print the number of passes and the expected time, where that is long."""
        if not len(events):
            return
        (batch,) = batches("image", events, [self.explainer.batch_rows(events[:1])[0]])
        _, maps, channels = self.channels(batch.x)
        passes = len(events) * channels.shape[1]
        probed = channels[:, : min(PROBED, max(passes // PART, 1))]
        self.without(batch.x, maps, probed)  # the first pass of a network is slower
        start = time.perf_counter()
        self.without(batch.x, maps, probed)
        seconds = (time.perf_counter() - start) / probed.numel() * passes
        if seconds > LONG:
            duration = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
            say(
                f"{self.explainer.name}: {len(events):,} events with {channels.shape[1]} of {maps.shape[1]} "
                f"channels need {passes:,} passes behind layer {self.layer}, about {duration}; fewer events, "
                "or a smaller ratio_channels_to_ablate, take less"
            )

    def channels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output ``[B]``, maps A ``[B, K, r, c]`` and the channels ``[B, n]`` to ablate.

        Of all channels those with the largest ``Σ_p |A_k(p) ∂F/∂A_k(p)|``.
        """
        ratio = self.explainer.ratio_channels_to_ablate
        if ratio == 1:
            with torch.no_grad():
                logits, maps = self.model.forward_maps(x, self.layer)
            every = torch.arange(maps.shape[1]).expand(maps.shape[:2])
            return self.output(logits).detach(), maps.detach(), every
        value, maps, slope = slopes(self.model, x, self.layer, self.output)
        order = (slope * maps).abs().sum((2, 3)).argsort(dim=1, descending=True, stable=True)
        return value, maps, order[:, : max(round(ratio * maps.shape[1]), 1)]

    def without(self, x: Tensor, maps: Tensor, channels: Tensor) -> Tensor:
        """Output ``[B, n]`` when each of the channels ``[B, n]`` is 0."""
        flat = channels.flatten()
        size = max(VALUES // maps[0].numel(), 1)
        parts = [
            self._scores(x, maps, flat[i : i + size], i, channels.shape[1]) for i in range(0, len(flat), size)
        ]
        return torch.cat(parts).view(channels.shape)

    def _scores(self, x: Tensor, maps: Tensor, channel: Tensor, first: int, each: int) -> Tensor:
        """Output without one channel, for a chunk of the channels of all images one after the other."""
        number = torch.arange(len(channel))
        event = (number + first) // each
        ablated = maps[event]
        ablated[number, channel] = 0
        with torch.no_grad():
            outputs: Tensor = self.model.forward_after(ablated, self.layer, x[event])
        return self.output(outputs).double()


@register("ablation_cam")
class AblationCam(SignedMapExplainer):
    """``Σ_k w_k A_k(p)`` with ``w_k = F(A) - F(A without k)`` [after Desai and Ramaswamy, WACV 2020].

    Each map A_k of a convolutional layer is set to 0, and the rest of the network runs again: no slope that
    could be saturated enters. The paper divides w_k by F(A); a logit or a regression has no natural zero, so
    that such a ratio changes when a constant is added to F, and w_k keeps the units of the output here, the
    map those times an activation.

    ``ratio_channels_to_ablate`` below 1 ablates this fraction of the channels only, those with the largest
    ``Σ_p |A_k(p) ∂F/∂A_k(p)|`` in the event; others get the weight 0. The check ``ablated_activation`` is
    their share of Σ |A|, mean over the events with lit pixels.

    Attributes
    ----------
    ratio_channels_to_ablate : float
        Fraction of the channels that are ablated; the time is proportional to it.
    relu, layer, upsample
        See `hepxai.explainers.image.feature_maps.SignedMapExplainer`. The paper has ``relu=True``.
    """

    title = "ablation-weighted class activation map (Ablation-CAM)"
    short_title = "Ablation-CAM"
    needs = HasLayerCut
    ratio_channels_to_ablate: float = Field(default=1.0, gt=0, le=1)

    def prepare(self, model: HasLayerCut, events: Events, target: str) -> PreparedAblation:
        """Choose the layer."""
        prepared = super().prepare(model, events, target)
        unit = f"{prepared.unit(events)} × activation".removeprefix(" × ")
        return PreparedAblation(
            explainer=self, model=model, target=target, layer=prepared.layer, unit_of_map=unit
        )

    def attribute_batch(self, prepared: PreparedAblation, batch: Batch[Tensor]) -> Part:
        """Map of every event."""
        value, maps, channels = prepared.channels(batch.x)
        weight = value[:, None].double() - prepared.without(batch.x, maps, channels)
        chosen = maps.gather(1, channels[..., None, None].expand(-1, -1, *maps.shape[2:]))
        values = torch.einsum("bk,bkrc->brc", weight.to(maps), chosen)
        total, share = (m.abs().sum((1, 2, 3)) for m in (maps, chosen))
        share = torch.where(total > 0, share / total, 1.0)
        return Part(
            values=self.in_pixels(values, batch.x),
            checks={SHARE: share.masked_fill(~lit(batch.x), torch.nan).numpy()},
        )

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Mean share of the activation."""
        return dict(attribution.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Faithfulness, and channels left out that have much of the activation."""
        share = checks.get(SHARE, 1.0)
        if share >= LEAST_SHARE:
            return super().concerns(checks)
        left_out = (
            f"the channels that are ablated have {100 * share:.0f} % of the activation of the layer; raise "
            "ratio_channels_to_ablate"
        )
        return (*super().concerns(checks), left_out)
