"""Soft decision trees on convolutional maps (Frosst & Hinton, arXiv:1711.09784)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from hepxai.events import Schema
from hepxai.models.image.cards import SoftTreeCard
from hepxai.models.image.local import LocalPart
from hepxai.models.image.network import PIECE, ImageNetworkModel
from hepxai.models.network import constant, output_names
from hepxai.models.schemas import layout_of


class TreePass(NamedTuple):
    """Decisions of a soft tree for a batch of images.

    Nodes are numbered level by level from the root, 0: node i leads to 2i + 1 on the left and 2i + 2 on the
    right. Leaves are numbered from left to right.

    Attributes
    ----------
    nodes : Tensor, shape [B, 2^depth - 1]
        Probability to go to the right at every node.
    reached : Tensor, shape [B, 2^depth - 1]
        Probability to reach the node.
    paths : Tensor, shape [B, 2^depth]
        Probability of the path to every leaf; they add up to 1.
    leaves : Tensor, shape [2^depth, O]
        Output of each leaf.
    latent : Tensor, shape [B, K, r, c]
        Maps that the nodes read.
    """

    nodes: Tensor
    reached: Tensor
    paths: Tensor
    leaves: Tensor
    latent: Tensor

    @property
    def outputs(self) -> Tensor:
        """Outputs of the leaves, weighted with the probabilities of their paths, ``[B, O]``."""
        return self.paths @ self.leaves

    def imbalance(self) -> Tensor:
        """Penalty for unbalanced nodes, 0 if every node sends half of the events each way.

        -Σ_i 2^-d ½ log(4 α_i (1 - α_i)) with α_i = Σ_e P_i p_i / Σ_e P_i over the batch: equation 5 of
        Frosst & Hinton plus a constant that makes the minimum 0.
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
            # Without a bias, which the batch norm would remove.
            convolution = nn.Conv2d(channels, width, card.kernel, padding=card.kernel // 2, bias=False)
            steps += [convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
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
        """Decisions for images ``[B, T, R, C]``."""
        return self.decisions(self.latent(x))

    def decisions(self, latent: Tensor) -> TreePass:
        """Decisions from the maps that the nodes read."""
        nodes = torch.sigmoid(self.nodes(latent.flatten(1)))
        paths = nodes.new_ones(len(nodes), 1)
        reached: list[Tensor] = []
        while len(reached) < len(self.leaves).bit_length() - 1:
            reached.append(paths)
            right = nodes[:, paths.shape[1] - 1 : 2 * paths.shape[1] - 1]
            paths = torch.stack([paths * (1 - right), paths * right], 2).flatten(1)
        return TreePass(nodes, torch.cat(reached, 1), paths, self.leaves, latent)

    def latent(self, x: Tensor) -> Tensor:
        """Maps that the nodes read, ``[B, K, r, c]``; in chunks if no gradient is needed."""
        if torch.is_grad_enabled() or len(x) <= PIECE:
            return self._latent(x)
        return torch.cat([self._latent(piece) for piece in x.split(PIECE)])

    def _latent(self, x: Tensor) -> Tensor:
        reduced = self.reduced and self.training
        with torch.autocast(x.device.type, torch.bfloat16, enabled=reduced):
            maps: Tensor = self.features(x.contiguous(memory_format=torch.channels_last))
        return maps.float().contiguous()


@dataclass(frozen=True, repr=False)
class SoftTreeModel(ImageNetworkModel):
    """A soft decision tree on convolutional maps."""

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

    # --- for explainers -----------------------------------------------------------------------

    def local_part(self) -> LocalPart:
        """Convolutions, and the tree behind them."""
        network = self.network
        return LocalPart(
            network, tuple(network.features), lambda maps: network.decisions(maps).outputs, False
        )

    def forward_tree(self, x: Tensor) -> TreePass:
        """Decisions for images ``x [B, T, R, C]``, differentiable, in evaluation mode."""
        self.check_images(x.shape)
        with constant(self.network):
            return self.network.tree(x)._replace(leaves=self.network.leaves.detach())

    def node_weights(self) -> Tensor:
        """Weights of each node on the latent maps, ``[2^depth - 1, K, r, c]``."""
        return self.network.nodes.weight.detach().view(-1, *self.network.latent_shape)
