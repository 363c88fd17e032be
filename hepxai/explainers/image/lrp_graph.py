"""Linear layers of a network in the graph of its computation, and the rule of each of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.image.backward import COPIES, Node, inputs, kind, steps_before
from hepxai.explainers.image.lrp_rules import CONVOLUTIONS, NORMS, Rule, RuledLayer

OF_DARK_PIXELS = ("box", "flat")
"""Rules that give relevance to pixels of 0."""


@dataclass(frozen=True)
class LayerGraph:
    """Steps of a network whose linear layers are `hepxai.explainers.image.lrp_rules.RuledStep`.

    Attributes
    ----------
    steps : sequence of Node
        All steps; the first one gives the outputs.
    """

    steps: Sequence[Node]

    def check(self) -> None:
        """Refuse a network with a layer that is called twice and a constant that is added."""
        calls = Counter(node.layer.name for node in self.steps if is_layer(node))
        if twice := [name for name, number in calls.items() if number > 1]:
            raise CannotExplainError(
                f"lrp: the network calls layer {twice[0]} {calls[twice[0]]} times for an image; use a layer "
                "of its own for each call"
            )
        if any(kind(node) in ("Add", "Sub") and len(inputs(node)) < 2 for node in self.steps):
            raise CannotExplainError(
                "lrp: forward adds a constant to the activations, which would absorb relevance unseen; put "
                "it into the bias of a layer, or into an nn.BatchNorm2d"
            )

    def norms(self) -> dict[Node, Node]:
        """Batch normalisation that only rescales the outputs of a layer, by layer."""
        uses = Counter(before for node in self.steps for before in inputs(node))
        pairs = ((before, node) for node in self.steps if is_norm(node) for before in inputs(node))
        return {a: b for a, b in pairs if is_weighted(a) and a.channels_second and uses[a] == 1}

    def ruled(self, convolution: Rule, first: Rule | None) -> list[RuledLayer]:
        """Each layer with its rule: that of the convolutions, of the first layer, or "epsilon"."""
        norms = self.norms()
        last = set(filter(is_weighted, steps_before(self.steps[:1], is_weighted)))
        ruled = {}
        for node in (n for n in self.steps if is_layer(n) and n not in norms.values()):
            rule: Rule = convolution if isinstance(node.layer.layer, CONVOLUTIONS) else "epsilon"
            if first is not None and self._is_first(node):
                rule = first
            rule = "epsilon" if node in last or is_norm(node) else rule
            norm = norms[node].layer.layer if node in norms else None
            image = rule in OF_DARK_PIXELS
            ruled[node] = dataclasses.replace(node.layer, rule=rule, norm=norm, reads_image=image)
        self._check_image([node for node, layer in ruled.items() if layer.reads_image], first)
        return list(ruled.values())

    def _is_first(self, node: Node) -> bool:
        return is_weighted(node) and not any(map(is_weighted, steps_before(inputs(node))))

    def _check_image(self, readers: Sequence[Node], first: Rule | None) -> None:
        """Refuse a network whose first layers do not read all pixels, and nothing else."""
        advice = "give first='epsilon', 'gamma' or 'alpha1_beta0'"
        for node in readers:
            if other := [n for n in steps_before(inputs(node)) if kind(n) not in COPIES]:
                what = other[0].layer.name if is_layer(other[0]) else kind(other[0])
                raise ValueError(
                    f"lrp: the rule {first!r} is for a layer that reads the pixels, and {node.layer.name} "
                    f"reads the output of {what}; {advice}"
                )
        around = [
            n for n in steps_before(self.steps[:1], lambda n: n in readers) if kind(n) == "AccumulateGrad"
        ]
        if readers and around:
            raise ValueError(
                f"lrp: the rule {first!r} is for layers that read all pixels, and the network has a path "
                f"from the pixels around them; {advice}"
            )


def is_layer(node: Node) -> bool:
    """True for the call of a linear layer or a batch normalisation."""
    return kind(node) == "RuledStep"


def is_norm(node: Node) -> bool:
    """True for the call of a batch normalisation."""
    return is_layer(node) and isinstance(node.layer.layer, NORMS)


def is_weighted(node: Node) -> bool:
    """True for the call of a dense or convolutional layer."""
    return is_layer(node) and not is_norm(node)
