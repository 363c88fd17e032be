"""Layer-wise relevance propagation for convolutional networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from hepxai.core.chunks import image_rows
from hepxai.events import Events
from hepxai.explainers.base import Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.backward import (
    COPIES,
    SUMS,
    BackwardRuleExplainer,
    covered_steps,
    replaced_forward,
)
from hepxai.explainers.image.images import gradient
from hepxai.explainers.image.lrp_graph import LayerGraph
from hepxai.explainers.image.lrp_rules import LAYERS, Absorbed, Rule, RuledLayer, RuleSettings
from hepxai.explainers.methods import register
from hepxai.models.protocols import HasImageModule

COVERED = COPIES | SUMS | {"LeakyRelu", "Relu", "RuledStep"}
COMPOSITES: dict[str, tuple[Rule, Rule | None]] = {
    "epsilon": ("epsilon", None),
    "epsilon_plus": ("alpha1_beta0", None),
    "epsilon_alpha2_beta1": ("alpha2_beta1", None),
    "epsilon_gamma_box": ("gamma", "box"),
}
"""Rule of the convolutions and of the first layer; dense layers have "epsilon"."""
LARGE_SHARE = 0.5
"""Share of the relevance that does not reach the pixels above which a map is doubted."""
PASSES = "ReLU, LeakyReLU, pooling, dropout, flatten, sums and means"


@dataclass(frozen=True, kw_only=True)
class PreparedLRP(Prepared):
    """Layers with their rules.

    Attributes
    ----------
    layers : tuple of RuledLayer
    numbers : RuleSettings
        With the range of the pixels.
    """

    layers: tuple[RuledLayer, ...]
    numbers: RuleSettings

    def settings(self) -> dict[str, Any]:
        """Settings with the rule of every layer, and the range of the pixels where a rule has it."""
        rules: dict[str, Any] = {"rules": {layer.name: layer.rule for layer in self.layers}}
        box = "box" in rules["rules"].values()
        bounds = {"low": list(self.numbers.low), "high": list(self.numbers.high)} if box else {}
        return super().settings() | rules | bounds


@register("lrp")
class LRP(BackwardRuleExplainer):
    """Relevance of the pixels: the target distributed backwards, layer by layer.

    Layer-wise relevance propagation [Bach et al., doi:10.1371/journal.pone.0130140; Montavon et al.,
    doi:10.1007/978-3-030-28954-6_10]. A layer ``z_j = Σ_i x_i w_ij + b_j`` hands the relevance of its outputs
    on, ``R_i = Σ_j u_i v_ij R_j / (Σ_i u_i v_ij + c_j)``, with

    ================  ====================================================================================
    "epsilon"         ``u v = x w``, ``c = b ± ε``
    "gamma"           ``w + γ max(w, 0)`` for ``w``; with signs exchanged where z or x is negative
    "alpha1_beta0"    positive ``x w`` and ``b`` only (z⁺)
    "alpha2_beta1"    twice the positive ones, minus the negative ones
    "box"             ``x w - low max(w, 0) - high min(w, 0)`` (z^B)
    "flat"            ``u v = 1``
    ================  ====================================================================================

    A batch normalisation behind a convolution or a dense layer becomes a part of it. The last layer always
    has "epsilon": only then a contrast of outputs does not depend on what is added to all of them. The
    relevance starts as the value of the target; the pixels get all but what biases and stabilisers absorb.

    Attributes
    ----------
    composite : {"epsilon", "epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma_box"}
        Dense layers have "epsilon"; convolutions "epsilon", "alpha1_beta0", "alpha2_beta1" or "gamma". The
        first layer has "box" in the last composite.
    first : {"epsilon", "gamma", "alpha1_beta0", "alpha2_beta1", "box", "flat"}, optional
        Rule of the layer that reads the pixels; by default that of the composite. Only "box" and "flat" give
        relevance to dark pixels.
    epsilon : float
        In units of the layers' outputs; larger values absorb weak contributions.
    gamma : float
        Preference of positive contributions; 0 is "epsilon".
    low, high : float or list of float, optional
        Range of the pixels of each channel for "box"; by default that of the events, with 0.
    channels
        See `hepxai.explainers.image.images.PixelExplainer`.
    """

    title = "layer-wise relevance propagation (LRP)"
    short_title = "LRP"
    complete = True
    composite: Literal["epsilon", "epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma_box"] = (
        "epsilon_plus"
    )
    first: Rule | None = None
    epsilon: float = Field(default=1e-6, gt=0)
    gamma: float = Field(default=0.25, ge=0)
    low: float | list[float] | None = None
    high: float | list[float] | None = None

    def check_model(self, model: HasImageModule) -> None:
        """Refuse a network with a step that has no rule."""
        self._layers(model, RuleSettings(epsilon=self.epsilon, gamma=self.gamma, low=(), high=()))

    def prepare(self, model: HasImageModule, events: Events, target: str) -> PreparedLRP:
        """Settle the rule of every layer, and the range of the pixels."""
        low, high = self._range(events)
        numbers = RuleSettings(epsilon=self.epsilon, gamma=self.gamma, low=low, high=high)
        layers = self._layers(model, numbers)
        return PreparedLRP(explainer=self, model=model, target=target, layers=layers, numbers=numbers)

    def _range(self, events: Events) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Smallest and largest value of each channel."""
        shape = events.image_layout().shape
        chosen = []
        for name, pick in (("low", np.minimum), ("high", np.maximum)):
            value = getattr(self, name)
            limits = np.zeros(shape[0]) if value is None else np.array(value, dtype=float)
            for rows in image_rows(len(events), shape) if value is None else ():
                limits = pick(limits, pick.reduce(events[rows].image(), axis=(0, 2, 3)))
            if limits.size not in (1, shape[0]):
                raise ValueError(f"lrp.{name} has {limits.size} values; the images have {shape[0]} channels")
            chosen.append(tuple(np.broadcast_to(limits, shape[:1]).tolist()))
        low, high = chosen
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"lrp.low={list(low)} is above lrp.high={list(high)}; exchange them")
        return low, high

    def _layers(self, model: HasImageModule, numbers: RuleSettings) -> tuple[RuledLayer, ...]:
        """Layers from the outputs to the image, each with its rule."""
        plain = [
            RuledLayer(name, layer, "epsilon", numbers)
            for name, layer in model.module.named_modules()
            if type(layer) in LAYERS
        ]
        with replaced_forward(forward_rules(plain, Absorbed(1))):
            graph = LayerGraph(covered_steps(model, COVERED, _refusal))
        graph.check()
        convolution, first = COMPOSITES[self.composite]
        return tuple(graph.ruled(convolution, self.first or first))

    def attribute_batch(self, prepared: PreparedLRP, batch: Batch[Tensor]) -> Part:
        """Relevance of every pixel."""
        absorbed, x = Absorbed(len(batch.x)), batch.x
        with replaced_forward(forward_rules(prepared.layers, absorbed)):
            signal = gradient(prepared.model, x, prepared.output)
        relevance = signal if any(layer.reads_image for layer in prepared.layers) else signal * x
        with torch.no_grad():
            score = prepared.output(prepared.model.forward_image(x)).double()
        lost = {"bias_share": absorbed.biases, "stabilizer_share": absorbed.stabilizers}
        total = relevance.double().flatten(1).sum(1).abs() + sum(v.abs() for v in lost.values())
        return Part(
            values=self.reduced(relevance),
            output_change=score - absorbed.biases - absorbed.stabilizers,
            checks={n: (v.abs() / total.clamp(min=1e-30)).numpy() for n, v in lost.items()},
        )

    def checks(self, attribution: Any) -> dict[str, float]:
        """Completeness residual, and shares of the relevance that biases and stabilisers absorb."""
        return super().checks(attribution) | dict(attribution.checks)

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Warn if most of the relevance does not reach the pixels."""
        return super().concerns(checks) + tuple(
            f"{what} absorb {100 * checks[name]:.0f} % of the relevance: the map explains only a part of the "
            f"output; {remedy}"
            for name, what, remedy in (
                ("bias_share", "biases", "image_ig compares with a baseline instead"),
                ("stabilizer_share", "stabilisers", "give a smaller epsilon"),
            )
            if checks.get(name, 0.0) > LARGE_SHARE
        )


def forward_rules(
    layers: Iterable[RuledLayer], absorbed: Absorbed
) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """Replacements of the layers' forward passes; a batch normalisation in a layer does nothing."""
    rules: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
    for layer in layers:
        rules[layer.layer] = partial(layer, absorbed=absorbed)
        if layer.norm is not None:
            rules[layer.norm] = lambda x: x
    return rules


def _refusal(step: str, where: str) -> str:
    layers = "nn.Linear, nn.Conv2d, nn.BatchNorm2d"
    return (
        f"lrp has no rule for {step}, of {where}; it knows {layers} as modules, and {PASSES}: use these, "
        "or image_ig, which works on any differentiable network"
    )
