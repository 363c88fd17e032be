"""Deconvnet and guided backpropagation: gradients of the pixels that pass a ReLU by another rule."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hepxai.attribution import Attribution
from hepxai.core.chunks import evenly_spread
from hepxai.events import Events
from hepxai.explainers.base import Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.image.backward import (
    COPIES,
    SUMS,
    BackwardRuleExplainer,
    covered_steps,
    kinds,
    replaced_forward,
)
from hepxai.explainers.image.images import gradient
from hepxai.explainers.methods import register
from hepxai.models.protocols import HasImageModule
from hepxai.models.target import Target

COMPARED_EVENTS, COMPARED_OUTPUTS = 16, 3
"""Size of the comparison with the maps of other outputs."""
SIMILAR = 0.9
"""Correlation above which the maps of two outputs count as the same."""
LAYERS = kinds("Addmm Bmm Convolution Linear Mm NativeBatchNorm NativeGroupNorm NativeLayerNorm Rectify")
COVERED = COPIES | SUMS | LAYERS


class Rectify(torch.autograd.Function):
    """ReLU whose backward pass lets only positive gradients through; ``guided``: only at lit neurons."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guided: bool) -> Tensor:
        """max(0, x)."""
        ctx.save_for_backward(x > 0 if guided else None)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        """Gradient by the rule."""
        (lit,) = ctx.saved_tensors
        passed = slope.clamp(min=0)
        return passed if lit is None else passed * lit, None


class RectifiedGradient(BackwardRuleExplainer):
    """Gradient of the pixels, with another backward pass of every ReLU.

    Every activation function of the network must be an ``nn.ReLU``: a call such as ``F.relu(x)`` would
    keep its derivative, and the map would be that of no method.
    """

    guided: ClassVar[bool]

    def check_model(self, model: HasImageModule) -> None:
        """Refuse a network with an activation function that the rule does not reach."""
        with replaced_forward(self._rules(model)):
            covered_steps(model, COVERED, self._refusal)

    def _refusal(self, kind: str, where: str) -> str:
        return (
            f"{self.name} has a rule for nn.ReLU modules only, and {where} computes {kind}: replace F.relu, "
            "torch.relu or x.relu() by an nn.ReLU module of its own for each call; for networks with other "
            "activation functions take saliency or image_ig"
        )

    def _rules(self, model: HasImageModule) -> dict[nn.Module, Any]:
        guided = self.guided
        relus = (m for m in model.module.modules() if type(m) is nn.ReLU)
        return dict.fromkeys(relus, lambda x: Rectify.apply(x, guided))  # type: ignore[no-untyped-call]

    def attribute_batch(self, prepared: Prepared, batch: Batch[Tensor]) -> Part:
        """Gradient of every pixel by the rule."""
        return Part(values=self.reduced(self.rule_gradient(prepared.model, batch.x, prepared.output)))

    def rule_gradient(self, model: HasImageModule, x: Tensor, output: Target) -> Tensor:
        """Gradient by the rule, shape of ``x``."""
        with replaced_forward(self._rules(model)):
            return gradient(model, x, output)

    def model_checks(self, prepared: Prepared, attribution: Attribution) -> dict[str, float]:
        """Faithfulness, and the similarity of the maps of other outputs."""
        similarity = self._similarity(prepared, attribution.events)
        checks = {} if similarity is None else {"similarity_of_outputs": similarity}
        return super().model_checks(prepared, attribution) | checks

    def _similarity(self, prepared: Prepared, events: Events) -> float | None:
        """Median correlation, over some events, with the maps of other outputs; None without any."""
        x = torch.as_tensor(events[evenly_spread(len(events), COMPARED_EVENTS)].image())
        weights = prepared.output.weights
        targets = [
            Target(weights[-k:] + weights[:-k]) for k in range(min(len(weights), COMPARED_OUTPUTS + 1))
        ]
        maps, *others = (self.rule_gradient(prepared.model, x, t).flatten(1) for t in targets)
        values = [c[c.isfinite()] for c in (correlation(maps, other) for other in others)]
        return float(torch.cat(values).median()) if sum(map(len, values)) else None

    def concerns(self, checks: Any) -> tuple[str, ...]:
        """Warn if the maps do not depend on the output."""
        similarity = checks.get("similarity_of_outputs", 0.0)
        concern = (
            f"maps of other outputs are nearly the same (correlation {similarity:.2f} in the median event): "
            "this map shows edges of the image rather than reasons for this output; compare with saliency "
            "or image_ig",
        )
        return super().concerns(checks) + (concern if similarity >= SIMILAR else ())


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Correlation of maps ``[B, P]``, ``[B]``; NaN where a map is constant."""
    a, b = (m - m.mean(1, keepdim=True) for m in (one.double(), other.double()))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


@register("guided_backprop")
class GuidedBackprop(RectifiedGradient):
    """``∂F/∂x_p``; every ReLU lets only positive gradients back, and only where the neuron is active.

    Guided backpropagation [Springenberg et al., arXiv:1412.6806]: ``g → 1[z > 0] max(g, 0)``.
    It hardly depends on the upper layers of the network and on the output
    [Adebayo et al., arXiv:1810.03292; Nie et al., arXiv:1805.07039].
    """

    title = "guided backpropagation"
    guided = True


@register("deconvnet")
class Deconvnet(RectifiedGradient):
    """``∂F/∂x_p``; every ReLU lets only positive gradients back, whether or not the neuron is active.

    Deconvolutional network [Zeiler & Fergus, arXiv:1311.2901]: ``g → max(g, 0)``. Of the image only
    the largest pixels that max pooling chooses enter: without pooling, the map is the same for every image.
    """

    title = "deconvolutional network (deconvnet)"
    short_title = "deconvnet"
    guided = False
