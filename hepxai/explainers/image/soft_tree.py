"""Path of an image through a soft decision tree, and the evidence at each node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hepxai.core.console import track
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers.base import CannotExplainError, Prepared
from hepxai.explainers.batches import Batch, Part, batches, default_rows
from hepxai.explainers.image.images import MapExplainer
from hepxai.explainers.methods import register
from hepxai.models.protocols import HasSoftTree

if TYPE_CHECKING:
    from hepxai.models.protocols import TreePass

Array = NDArray[np.float64]


@register("soft_tree")
class SoftTree(MapExplainer):
    """Evidence for the decisions on the most probable path through a soft decision tree.

    Node i goes to the right with probability ``σ(w_i·h + b_i)`` on the latent maps h of the image [Frosst &
    Hinton, arXiv:1711.09784]. Its mask is ``Σ_k w_ik h_k``, at every place of the maps. The attribution is
    ``Σ_i ±mask_i`` over the nodes of the path, + where it goes to the right and - to the left: positive
    pixels speak for this path. It is the same for every output; those differ in the outputs of the leaf.

    Attributes
    ----------
    upsampling : str
        "bilinear": every place of the maps is spread over the pixels around it, with the same sum. The
        pooling has lost the positions of hits inside. "gradient": through the convolutions,
        ``x ∂(Σ_i ±w_i·h)/∂x``: only lit pixels have a value. It is gradient times input and no decomposition:
        the sum misses the contribution of the biases of the convolutions, which can exceed the log-odds; see
        ``residual``.
    """

    title = "evidence for the most probable path (soft tree)"
    short_title = "soft tree"
    unit = "log-odds"
    default_for = "image"
    needs = HasSoftTree
    tells_outputs_apart = False
    complete = True
    upsampling: Literal["bilinear", "gradient"] = "bilinear"

    def settings(self) -> dict[str, Any]:
        """Settings with the unit."""
        return super().settings() | {"unit": self.unit}

    def attribute_batch(self, prepared: Prepared, batch: Batch[Tensor]) -> Part:
        """Signed attribution of every pixel, channels summed.

        ``output_change`` is ``Σ_i ±w_i·h``: the log-odds of the decisions on the path without biases.
        """
        model, x, differentiable = prepared.model, batch.x, self.upsampling == "gradient"
        with torch.set_grad_enabled(differentiable):
            x.requires_grad_(differentiable)
            passed = model.forward_tree(x)
            weight = signed_weight(passed, model.node_weights())
            mask = torch.einsum("bkrc,bkrc->brc", weight, passed.latent)
            total = mask.sum((1, 2))
        if differentiable:
            (slope,) = torch.autograd.grad(total.sum(), x)
            values = (x * slope).sum(1)
        else:
            values = spread(mask, (x.shape[2], x.shape[3]))
        return Part(values=values.detach(), output_change=total.detach().double())


def signed_weight(passed: TreePass, weight: Tensor) -> Tensor:
    """Weights of the nodes on the most probable path of every image, ± by its direction, ``[B, K, r, c]``."""
    nodes, right = route(passed.paths.detach().argmax(1).numpy(), len(weight))
    sign = torch.as_tensor(np.where(right, 1.0, -1.0)).to(weight)
    return torch.einsum("bd,bdkrc->bkrc", sign, weight[torch.as_tensor(nodes)])


def route(leaf: IntArray, nodes: int) -> tuple[IntArray, NDArray[np.bool_]]:
    """Nodes on the way to leaves, and True where it goes to the right, ``[..., depth]`` each.

    Parameters
    ----------
    leaf : ndarray of int64
        Numbers from left to right.
    nodes : int
        Of the tree, 2^depth - 1, numbered level by level.
    """
    depth = (nodes + 1).bit_length() - 1
    level = np.arange(depth)
    bits = np.asarray(leaf)[..., None] + (1 << depth)  # a leaf is node leaf + 2^depth - 1; counted from 1
    at = bits >> (depth - level)
    return at - 1, (bits >> (depth - level - 1)) % 2 == 1


def spread(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread maps ``[B, r, c]`` over pixels ``[B, R, C]`` bilinearly; every place keeps its sum."""
    one = torch.ones(1, 1, *mask.shape[1:], requires_grad=True)
    with torch.enable_grad():
        (pixels,) = torch.autograd.grad(_bilinear(one, size).sum(), one)
    return _bilinear(mask[:, None] / pixels, size)[:, 0]


def _bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


# --- the whole tree ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TreePaths:
    """Every path of every event through a soft decision tree, and the mask of every node.

    Nodes are numbered level by level from the root, 0; node i leads to 2i + 1 on the left and 2i + 2 on the
    right. Leaves are numbered from left to right.

    Attributes
    ----------
    events : Events
    right : ndarray, shape [E, N]
        Probability of every node to go to the right.
    reached : ndarray, shape [E, N]
        Probability to get to the node.
    paths : ndarray, shape [E, N + 1]
        Probability of the path to every leaf.
    leaves : ndarray, shape [N + 1, O]
        Outputs of each leaf.
    masks : ndarray of float32, shape [E, N, r, c]
        ``Σ_k w_ik h_k`` of every node on the latent maps; positive is evidence for going to the right.
    outputs : tuple of str, length O
    size : tuple of int
        Rows and columns of the image.
    """

    events: Events
    right: Array
    reached: Array
    paths: Array
    leaves: Array
    masks: NDArray[np.float32]
    outputs: tuple[str, ...]
    size: tuple[int, int]

    def __repr__(self) -> str:
        return f"<TreePaths: {self.paths.shape[1]} paths of {len(self.events):,} events>"

    @property
    def best(self) -> IntArray:
        """Leaf at the end of the most probable path, ``[E]``."""
        return np.asarray(self.paths.argmax(axis=1))

    @property
    def predictions(self) -> Array:
        """Outputs of the leaves, weighted with the probability of their paths, ``[E, O]``."""
        return np.asarray(self.paths @ self.leaves)

    def route(self, event: int, leaf: int | None = None) -> tuple[IntArray, NDArray[np.bool_]]:
        """Nodes on the path to a leaf, by default the most probable one, and where it goes to the right."""
        return route(np.asarray(self.best[event] if leaf is None else leaf), self.right.shape[1])

    def mask(self, event: int, node: int) -> NDArray[np.float32]:
        """Mask of a node on the pixels of the image ``[R, C]``, with the same sum."""
        return np.asarray(spread(torch.as_tensor(self.masks[event, node])[None], self.size)[0].numpy())


def tree_paths(model: Any, events: Events, *, progress: bool = False) -> TreePaths:
    """Follow all paths of events through a soft decision tree.

    The masks take 6 kB an event where the maps have 48 places and the tree 31 nodes: ask for some thousand
    events at a time.

    Raises
    ------
    CannotExplainError
        The model has no soft tree.
    ValueError
        There are no events.
    """
    if not isinstance(model, HasSoftTree):
        lacking = [m for m in ("forward_tree", "node_weights") if not hasattr(model, m)]
        raise CannotExplainError(
            f"tree_paths needs HasSoftTree; {type(model).__name__} has no {', '.join(lacking)}"
        )
    model.logits(events[:1])  # refuses events that it does not know
    weight, parts = model.node_weights(), []
    rows = default_rows("image", events)
    with torch.no_grad(), track("tree paths", len(events), show=progress) as advance:
        for batch in batches("image", events, rows):
            passed = model.forward_tree(batch.x)
            mask = torch.einsum("nkrc,bkrc->bnrc", weight, passed.latent)
            parts.append((passed.nodes, passed.reached, passed.paths, mask))
            advance(len(batch.rows), "")
    if not parts:
        raise ValueError("there are no events to follow through the tree")
    right, reached, paths, masks = (torch.cat(column) for column in zip(*parts, strict=True))
    return TreePaths(
        events,
        right.double().numpy(),
        reached.double().numpy(),
        paths.double().numpy(),
        passed.leaves.detach().double().numpy(),
        masks.numpy(),
        model.outputs,
        events.image_layout().shape[1:],
    )


def path_masks(model: HasSoftTree, events: Events) -> NDArray[np.float32]:
    """Evidence at each node on the most probable path, on the pixels, through the convolutions.

    ``x ∂(w_i·h)/∂x`` for node i: only lit pixels have a value, and layers that the pooling has merged are
    separated. Their sum with the signs of the path is `SoftTree` with ``upsampling="gradient"``. It is no
    decomposition: pixels do not add up to ``w_i·h``, whose part from the biases of the convolutions is
    missing.

    Returns
    -------
    masks : ndarray of float32, shape [E, depth, R, C]
        Channels summed; nodes in the order of ``TreePaths.route``.
    """
    weight, parts = model.node_weights(), []
    for batch in batches("image", events, default_rows("image", events)):
        x = batch.x.requires_grad_(True)
        passed = model.forward_tree(x)
        nodes, _ = route(passed.paths.detach().argmax(1).numpy(), len(weight))
        along = torch.einsum("bdkrc,bkrc->db", weight[torch.as_tensor(nodes)], passed.latent)
        slopes = [torch.autograd.grad(one.sum(), x, retain_graph=True)[0] for one in along]
        parts.append(torch.stack([(x * slope).sum(1).detach() for slope in slopes], 1))
    return np.asarray(torch.cat(parts).numpy())
