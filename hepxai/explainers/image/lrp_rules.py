"""Rules of layer-wise relevance propagation for a linear layer, and its backward pass by a rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rule = Literal["epsilon", "gamma", "alpha1_beta0", "alpha2_beta1", "box", "flat"]
STABILIZER = 1e-6
"""Added to the denominators of all rules but "epsilon", with their sign."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYERS = (nn.Linear, *CONVOLUTIONS, *NORMS)


class Term(NamedTuple):
    """Linear function of an input ``u``, with its weight and bias."""

    u: Tensor
    weight: Tensor
    bias: Tensor | None


class Share(NamedTuple):
    """Share of the relevance of a layer's outputs that a sum of terms hands on.

    Attributes
    ----------
    factor : float
    where : Tensor of bool, optional
        Outputs that hand theirs on; all by default.
    terms : list of Term
        Each input gets in proportion to what it adds to the sum of all.
    """

    factor: float
    where: Tensor | None
    terms: list[Term]


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """Numbers of the rules.

    Attributes
    ----------
    epsilon, gamma : float
    low, high : tuple of float, length T
        Range of the pixels of each channel.
    """

    epsilon: float
    gamma: float
    low: tuple[float, ...]
    high: tuple[float, ...]


def shares(
    rule: Rule, x: Tensor, weight: Tensor, bias: Tensor | None, z: Tensor, numbers: RuleSettings
) -> list[Share]:
    """Sums by which a rule distributes relevance, for the input ``x`` and the output ``z`` of a layer."""
    on, off = x.clamp(min=0), x.clamp(max=0)
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    offset = torch.zeros(()) if bias is None else bias
    b_up, b_down = offset.clamp(min=0), offset.clamp(max=0)
    if rule == "epsilon":
        return [Share(1, None, [Term(x, weight, bias)])]
    if rule == "gamma":
        g = numbers.gamma
        more, less = weight + g * up, weight + g * down
        b_more, b_less = offset + g * b_up, offset + g * b_down
        return [
            Share(1, z > 0, [Term(on, more, b_more), Term(off, less, None)]),
            Share(1, z < 0, [Term(on, less, b_less), Term(off, more, None)]),
        ]
    if rule == "box":
        low, high = _box(x, numbers)
        return [Share(1, None, [Term(x, weight, None), Term(-low, up, None), Term(-high, down, None)])]
    if rule == "flat":
        return [Share(1, None, [Term(torch.ones_like(x), torch.ones_like(weight), None)])]
    plus = [Term(on, up, b_up), Term(off, down, None)]
    if rule == "alpha1_beta0":
        return [Share(1, None, plus)]
    return [Share(2, None, plus), Share(-1, None, [Term(on, down, b_down), Term(off, up, None)])]


def _box(x: Tensor, numbers: RuleSettings) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each pixel: of its channel, or of all if they are flattened."""
    if x.ndim == 2:
        return x.new_tensor(min(numbers.low)).expand_as(x), x.new_tensor(max(numbers.high)).expand_as(x)
    low, high = (x.new_tensor(v).view(-1, 1, 1).expand_as(x) for v in (numbers.low, numbers.high))
    return low, high


class Absorbed:
    """Relevance ``[B]`` of each event that the pixels do not get: of biases, and of stabilisers."""

    def __init__(self, events: int) -> None:
        self.biases, self.stabilizers = torch.zeros(2, events, dtype=torch.float64)

    def add(self, biases: Tensor, stabilizers: Tensor) -> None:
        """Count what the outputs of a layer lose, ``[B, ...]`` or ``[B * n, ...]``."""
        self.biases += biases.double().reshape(len(self.biases), -1).sum(1)
        self.stabilizers += stabilizers.double().reshape(len(self.biases), -1).sum(1)


@dataclass(frozen=True)
class RuledLayer:
    """A linear layer with the rule by which it distributes relevance.

    Attributes
    ----------
    name : str
    layer : nn.Module
        One of ``LAYERS``.
    rule : str
    numbers : RuleSettings
    norm : nn.Module, optional
        Batch normalisation behind it, which becomes a part of it.
    reads_image : bool
        Hand relevance itself on, to the pixels; else relevance divided by the input.
    """

    name: str
    layer: Any
    rule: Rule
    numbers: RuleSettings
    norm: Any = None
    reads_image: bool = False

    def __call__(self, x: Tensor, absorbed: Absorbed) -> Tensor:
        """Output of the layer, whose backward pass follows the rule."""
        output: Tensor = RuledStep.apply(x, self, absorbed)  # type: ignore[no-untyped-call]
        return output

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, with those of the batch normalisation."""
        if isinstance(self.layer, NORMS):
            return norm_parameters(self.layer)
        weight, bias = self.layer.weight, self.layer.bias
        if self.norm is None:
            return weight, bias
        scale, shift = norm_parameters(self.norm)
        scaled = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
        return scaled, shift if bias is None else shift + bias * scale

    def linear(self, u: Tensor, weight: Tensor) -> Tensor:
        """Linear function of an input, without a bias."""
        if isinstance(self.layer, nn.Linear):
            return F.linear(u, weight)
        if isinstance(self.layer, NORMS):
            return u * _along_channels(weight, u)
        value: Tensor = self.layer._conv_forward(u, weight, None)  # with the module's padding mode
        return value

    def offset(self, bias: Tensor | None, z: Tensor) -> Tensor:
        """Bias in the shape of the outputs."""
        if bias is None:
            return z.new_zeros(())
        return bias if isinstance(self.layer, nn.Linear) or not bias.ndim else _along_channels(bias, z)

    def relevance(self, x: Tensor, z: Tensor, relevance: Tensor, absorbed: Absorbed) -> Tensor:
        """Relevance of the inputs ``x`` from that of the outputs ``z``."""
        weight, bias = self.parameters()
        received = torch.zeros_like(x)
        for share in shares(self.rule, x, weight, bias, z, self.numbers):
            part = share.factor * (relevance if share.where is None else relevance * share.where)
            terms = [t for i, t in enumerate(share.terms) if i == 0 or t.u.any()]
            ends = [t.u.detach().requires_grad_(True) for t in terms]
            with torch.enable_grad():
                values = [self.linear(u, t.weight) for u, t in zip(ends, terms, strict=True)]
            offset = self.offset(terms[0].bias, z)
            total = torch.stack(values).sum(0).detach() + offset
            size = self.numbers.epsilon if self.rule == "epsilon" else STABILIZER
            ratio = part / (total + torch.where(total < 0, -size, size))
            slopes = torch.autograd.grad(values, ends, [ratio] * len(values))
            received += sum(t.u * slope for t, slope in zip(terms, slopes, strict=True))
            absorbed.add(ratio * offset, part - ratio * total)
        return received


def norm_parameters(norm: Any) -> tuple[Tensor, Tensor]:
    """Factor and shift ``[K]`` of a batch normalisation in evaluation mode."""
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.ndim - 2))


class RuledStep(torch.autograd.Function):
    """Linear layer whose backward pass hands relevance on.

    What autograd passes between layers is relevance over value, R / z. All steps between linear layers that
    are linear without an offset, or piecewise so (ReLU, pooling, sums of branches), then hand relevance on in
    proportion to the values by their plain derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: RuledLayer, absorbed: Absorbed) -> Tensor:
        """Output of the layer."""
        weight, bias = layer.parameters()
        linear = layer.linear(x, weight)
        z = linear + layer.offset(bias, linear)
        ctx.save_for_backward(x, z)
        ctx.layer, ctx.absorbed = layer, absorbed
        ctx.channels_second = z.ndim == 2 or not isinstance(layer.layer, nn.Linear)
        return z.clone()  # an activation function may work in place

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        """Relevance of the inputs divided by their values; undivided for the layer that reads the pixels."""
        x, z = ctx.saved_tensors
        received = ctx.layer.relevance(x, z, signal * z, ctx.absorbed)
        passed = received if ctx.layer.reads_image else torch.where(x == 0, 0, received / x)
        return passed, None, None
