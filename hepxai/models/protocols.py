"""Abilities of models, as protocols. Explainers need these, never a concrete class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.events import Events, Schema
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.layers import Messages
from hepxai.models.graph.neighbours import Neighbours

if TYPE_CHECKING:
    from hepxai.models.image.local import LocalPart as LocalPart
    from hepxai.models.image.soft_tree import TreePass as TreePass


@runtime_checkable
class Model(Protocol):
    """Scores a view of the events.

    Attributes
    ----------
    view : str
        "graph", "table", "padded" or "image".
    outputs : tuple of str, length O
        Names of the outputs, e.g. ``("signal",)``.
    """

    @property
    def view(self) -> str:
        """View of the events that the model takes."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        ...

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Outputs before any squashing, ``[E, O]``; training statistics stay frozen."""
        ...


@runtime_checkable
class ChecksEvents(Protocol):
    """Checks events without scoring them, as the models of the package do."""

    def check(self, events: Events) -> None:
        """Raise a ValueError with the problem, and the number of events concerned."""
        ...


@runtime_checkable
class Differentiable(Model, Protocol):
    """Gradients with respect to the particle features."""

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]`` as a differentiable function of ``cloud.x``, in evaluation mode."""
        ...

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Neighbours of each dynamic layer for these events; empty for a static graph."""
        ...


@dataclass(frozen=True)
class EdgeCoefficients:
    """Coefficients of a layer on some edges; a pair without an edge has the coefficient 0.

    Attributes
    ----------
    src, dst : Tensor of int64, shape [P]
        Flat particle indices; the same one twice is a self loop.
    values : Tensor, shape [P, heads]
    virtual : float, optional
        Mean sum of the coefficients of a particle's senders that are virtual nodes, of a layer with such
        nodes; ``values`` of a particle then add up to less than 1.
    """

    src: Tensor
    dst: Tensor
    values: Tensor
    virtual: float | None = None


@runtime_checkable
class HasAttention(Model, Protocol):
    """Attention coefficients of layers."""

    def attention(self, cloud: Cloud) -> Mapping[str, Tensor | EdgeCoefficients]:
        """α_ij of each attention layer.

        A tensor ``[P, heads]`` covers the complete graph, edges as in `hepxai.core.jagged.all_pairs`;
        `EdgeCoefficients` any other edges, also those from a particle to itself.
        """
        ...


@dataclass(frozen=True)
class EdgePath:
    """A model cut open at the edges of one layer, for one batch.

    Attributes
    ----------
    messages : Messages
        The layer's edges; state at common edge weight t is ``base + t * total``.
    logits : Tensor, shape [B, O]
        Of the whole model, uncut: ``after`` of the state at t = 1.
    after : callable
        Rest of the model: ``(state [N, D], frozen) -> logits [B, O]``, with the neighbour lists of the
        unweighted input if ``frozen``, with those of the state otherwise.
    virtual : float, optional
        Share of the layer's messages that come from or go to virtual nodes, of a layer with such nodes:
        these are no ``messages`` and keep the weight 1.
    """

    messages: Messages
    logits: Tensor
    after: Callable[[Tensor, bool], Tensor]
    virtual: float | None = None


@runtime_checkable
class HasEdgeWeights(Model, Protocol):
    """Weights on the edges of a named layer."""

    @property
    def edge_layers(self) -> tuple[str, ...]:
        """Names of those layers."""
        ...

    def edge_path(self, cloud: Cloud, layer: str) -> AbstractContextManager[EdgePath]:
        """Cut the model open at a layer, in evaluation mode; whole again when the context ends."""
        ...


# --- models of the event-level table ---------------------------------------------------------------


@runtime_checkable
class Tabular(Model, Protocol):
    """Scores of rows of the event-level table, also rows that belong to no event."""

    def score_table(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logits ``[E, O]`` of rows ``x [E, G]``, physical values, columns as in ``Events.table()``."""
        ...


@runtime_checkable
class HasTrees(Tabular, Protocol):
    """A scikit-learn estimator, which may consist of decision trees."""

    @property
    def estimator(self) -> Any:
        """Fitted on the columns of ``schema.globals``; see `hepxai.explainers.table.trees`."""
        ...

    @property
    def schema(self) -> Schema:
        """Of the events of the training."""
        ...


@runtime_checkable
class DifferentiableTable(Tabular, Protocol):
    """Gradients with respect to the columns of the event-level table."""

    def forward_table(self, x: Tensor) -> Tensor:
        """Logits ``[B, O]`` as a differentiable function of ``x [B, G]``, in evaluation mode."""
        ...


@runtime_checkable
class HasNeurons(DifferentiableTable, Protocol):
    """Values of hidden neurons."""

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """Names of the layers, from the input to the output."""
        ...

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits ``[B, O]``, and the values ``[B, H]`` of each layer, from which the logits were computed."""
        ...


# --- models of detector images -----------------------------------------------------------------------


@runtime_checkable
class Imaging(Model, Protocol):
    """Scores of detector images, also images that belong to no event.

    Logits, or for a regression values in the units of the target.
    """

    def score_image(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Outputs ``[E, O]`` of images ``x [E, T, R, C]`` as in ``Events.image()``."""
        ...


@runtime_checkable
class DifferentiableImage(Imaging, Protocol):
    """Gradients with respect to the pixels."""

    def forward_image(self, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` as a differentiable function of ``x [B, T, R, C]``, in evaluation mode."""
        ...


@runtime_checkable
class HasImageModule(DifferentiableImage, Protocol):
    """Outputs that a torch module computes from the images, for methods that change its backward pass."""

    @property
    def module(self) -> nn.Module:
        """Torch module that ``forward_image`` calls."""
        ...

    @property
    def schema(self) -> Schema:
        """Of the events of the training."""
        ...


@runtime_checkable
class HasFeatureMaps(DifferentiableImage, Protocol):
    """Maps of convolutional layers."""

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers, from the image to the output; the last one is the default."""
        ...

    def forward_maps(self, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        """Outputs ``[B, O]``, and the maps ``[B, K, r, c]`` of a layer, from which they were computed."""
        ...


@runtime_checkable
class HasLocalPart(Imaging, Protocol):
    """Local layers, such as convolutions, at the beginning of the network."""

    def local_part(self) -> LocalPart | None:
        """Local layers and the rest of the network; None if it does not begin with such layers."""
        ...


@runtime_checkable
class HasLayerCut(HasFeatureMaps, Protocol):
    """Rest of the network behind a convolutional layer."""

    def forward_after(self, maps: Tensor, layer: str, x: Tensor) -> Tensor:
        """Outputs ``[B, O]`` with the maps of a layer replaced, differentiable in ``maps [B, K, r, c]``.

        ``x [B, T, R, C]`` are the images that the maps belong to; a network with a path around the layer
        needs them.
        """
        ...


@runtime_checkable
class HasLinearReadout(HasFeatureMaps, Protocol):
    """Outputs that may be a linear function of the maps' means over the pixels."""

    def readout_weights(self) -> tuple[Tensor, Tensor]:
        """Weight ``[O, K]`` and bias ``[O]``: output = weight · mean of the maps of the last layer + bias.

        Raises
        ------
        ValueError
            If the outputs are no such function.
        """
        ...


# --- influence of training events -----------------------------------------------------


@runtime_checkable
class HasLastLayer(Model, Protocol):
    """A linear last layer, and the loss of the training."""

    @property
    def module(self) -> nn.Module:
        """Torch module that holds the trained parameters."""
        ...

    def last_layer(self, events: Events) -> tuple[Tensor, Tensor]:
        """Output ``z [E, O]`` and input ``a [E, H]`` of the last linear layer: ``z = W a + b``.

        In evaluation mode, differentiable in the parameters of ``module``, in batches of flat memory.
        """
        ...

    def training_loss(self, z: Tensor, events: Events) -> Tensor:
        """Loss ``[E]`` of every event without its weight, a differentiable function of ``z``."""
        ...


# --- soft decision trees -----------------------------------------------------------------------------


@runtime_checkable
class HasSoftTree(Model, Protocol):
    """A soft decision tree on maps of detector images."""

    def forward_tree(self, x: Tensor) -> TreePass:
        """Decisions for images ``x [B, T, R, C]``, differentiable in ``x``, in evaluation mode."""
        ...

    def node_weights(self) -> Tensor:
        """Weights of each node on the latent maps, ``[2^depth - 1, K, r, c]``."""
        ...
