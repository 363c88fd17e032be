"""Soft decision trees on convolutional maps (Frosst & Hinton, arXiv:1711.09784)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from hepxai.events import Schema
from hepxai.models.image.cards import SoftTreeCard
from hepxai.models.image.network import PIECE, ImageNetworkModel, layout_of
from hepxai.models.network import constant, output_names


class TreePass(NamedTuple):
    """What a soft tree does with a batch of images.

    Nodes are numbered level by level from the root, 0: node i leads to 2i + 1 on the left and 2i + 2 on the
    right. Leaves are numbered from left to right.

    Attributes
    ----------
    nodes : Tensor, shape [B, 2^depth - 1]
        Probability of every node to go to the right.
    reached : Tensor, shape [B, 2^depth - 1]
        Probability to get to the node.
    paths : Tensor, shape [B, 2^depth]
        Probability of every path, which ends in the leaf of this number; they add up to 1.
    leaves : Tensor, shape [2^depth, O]
        What each leaf says, in the units of the outputs.
    latent : Tensor, shape [B, K, r, c]
        Maps that the nodes look at.
    """

    nodes: Tensor
    reached: Tensor
    paths: Tensor
    leaves: Tensor
    latent: Tensor

    @property
    def outputs(self) -> Tensor:
        """What the leaves say, each as much as the path to it is probable, ``[B, O]``."""
        return self.paths @ self.leaves

    def imbalance(self) -> Tensor:
        """Penalty for nodes that send all events the same way, 0 if every node halves them.

        -Σ_i 2^-d ½ log(4 α_i (1 - α_i)) with α_i = Σ_e P_i p_i / Σ_e P_i over the batch: equation 5 of
        Frosst & Hinton, with a constant added that makes it 0 at best.
        """
        tiny = torch.finfo(self.nodes.dtype).tiny
        share = (self.reached * self.nodes).sum(0) / self.reached.sum(0).clamp_min(tiny)
        each = -0.5 * (4 * share * (1 - share)).clamp_min(1e-12).log()
        depth = each.new_tensor([(i + 1).bit_length() - 1 for i in range(len(each))])
        return (each * 0.5**depth).sum()


class SoftTreeNetwork(nn.Module):
    """(Convolution → batch norm → ReLU → maximum over 2 x 2)* → soft tree."""

    def __init__(self, card: SoftTreeCard, shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        channels, rows, columns = shape
        steps: list[nn.Module] = []
        for width in card.channels:
            steps += _step(channels, width, card.kernel)
            channels, rows, columns = width, rows // 2, columns // 2
        if not rows * columns:
            raise ValueError(
                f"images of {shape[1]} x {shape[2]} pixels are halved {len(card.channels)} times and nothing "
                "is left; give fewer channels"
            )
        self.features = nn.Sequential(*steps).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.latent_shape = (channels, rows, columns)
        self.nodes = nn.Linear(channels * rows * columns, 2**card.depth - 1)
        self.leaves = nn.Parameter(torch.randn(2**card.depth, outputs))
        self.reduced = card.precision == "bfloat16"

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` of images ``[B, T, R, C]``."""
        return self.tree(x).outputs

    def tree(self, x: Tensor) -> TreePass:
        """Every decision on the way."""
        latent = self.latent(x)
        nodes = torch.sigmoid(self.nodes(latent.flatten(1)))
        paths = nodes.new_ones(len(nodes), 1)
        reached: list[Tensor] = []
        while len(reached) < len(self.leaves).bit_length() - 1:
            reached.append(paths)
            right = nodes[:, paths.shape[1] - 1 : 2 * paths.shape[1] - 1]
            paths = torch.stack([paths * (1 - right), paths * right], 2).flatten(1)
        return TreePass(nodes, torch.cat(reached, 1), paths, self.leaves, latent)

    def latent(self, x: Tensor) -> Tensor:
        """Maps that the nodes look at, ``[B, K, r, c]``; piece by piece where no gradient is needed."""
        if torch.is_grad_enabled() or len(x) <= PIECE:
            return self._latent(x)
        return torch.cat([self._latent(piece) for piece in x.split(PIECE)])

    def _latent(self, x: Tensor) -> Tensor:
        reduced = self.reduced and self.training
        with torch.autocast(x.device.type, torch.bfloat16, enabled=reduced):
            found: Tensor = self.features(x.contiguous(memory_format=torch.channels_last))
        return found.float().contiguous()


def _step(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    # Without a bias: the batch norm takes it away again.
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]


@dataclass(frozen=True, repr=False)
class SoftTreeModel(ImageNetworkModel):
    """A soft decision tree on convolutional maps: shows every decision on the way."""

    network: SoftTreeNetwork
    card: SoftTreeCard

    @classmethod
    def fresh(cls, card: SoftTreeCard, schema: Schema) -> Self:
        """Fresh network."""
        size = len(output_names(card, schema))
        return cls(SoftTreeNetwork(card, layout_of(schema).shape, size), card, schema)

    def rescale(self, scale: Tensor, shift: Tensor) -> None:
        """Replace the outputs by ``scale * outputs + shift``, in the leaves: the paths add up to 1."""
        with torch.no_grad():
            self.network.leaves.mul_(scale.to(self.network.leaves)).add_(shift.to(self.network.leaves))

    def training_pass(self, batch: Tensor) -> tuple[Tensor, Tensor | float]:
        """Outputs, and the penalty for unbalanced nodes."""
        tree = self.network.tree(batch)
        return tree.outputs, self.card.penalty * tree.imbalance()

    # --- what explainers ask ------------------------------------------------------------------

    def forward_tree(self, x: Tensor) -> TreePass:
        """Every decision for images ``x [B, T, R, C]``, differentiable, in evaluation mode."""
        self.check_images(x.shape)
        with constant(self.network):
            return self.network.tree(x)._replace(leaves=self.network.leaves.detach())

    def node_weights(self) -> Tensor:
        """What each node looks for in the latent maps, ``[2^depth - 1, K, r, c]``."""
        return self.network.nodes.weight.detach().view(-1, *self.network.latent_shape)
