"""Cards of the models on detector images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveInt

from hepxai.cards import Card, entry_error
from hepxai.models.card import Fraction, NetworkCard


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise entry_error(f"found {kernel}; a kernel that keeps the size of the image is odd")
    return kernel


Kernel = Annotated[PositiveInt, AfterValidator(_odd)]
Precision = Literal["float32", "bfloat16"]


class ConvolutionalCard(NetworkCard):
    """A convolutional network without strides: convolutions → mean over the pixels → dense layers.

    Attributes
    ----------
    channels : tuple of int
        Of the convolutions, each followed by a ReLU; layers ``conv_1``, ``conv_2``, ….
    kernel : int
        Rows and columns of their kernels, odd.
    dense : tuple of int
        Widths of the dense layers after the mean. Without any, the outputs are linear in the mean, and a
        regression activation map is exact.
    precision : str
        Of the convolutions in training: "float32" or "bfloat16" (weights and everything else stay float32).
    """

    view: ClassVar[str] = "image"
    kind: Literal["convolutional"] = "convolutional"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 32, 64, 128)
    kernel: Kernel = 5
    dense: tuple[PositiveInt, ...] = (1024, 512)
    precision: Precision = "float32"


class ConvolutionBlock(Card):
    """Convolution → batch norm → ReLU → maximum over neighbouring pixels → dropout.

    Attributes
    ----------
    channels : int
    kernel : tuple of int
        Rows and columns of the kernel, odd.
    pool : tuple of int
        Rows and columns that one pixel of the next layer sums up by their maximum; [1, 1] keeps all.
    dropout : float
    """

    channels: PositiveInt
    kernel: tuple[Kernel, Kernel] = (3, 3)
    pool: tuple[PositiveInt, PositiveInt] = (2, 2)
    dropout: Fraction = 0.0


class CnnCard(NetworkCard):
    """A convolutional network with pooling: blocks → flattened or averaged maps → dense layers.

    Attributes
    ----------
    blocks : tuple of ConvolutionBlock
        Their maps after the ReLU are the layers ``conv_1``, ``conv_2``, ….
    reduce : str
        "flatten": the dense layers read every pixel of the last maps, and so know the place of what they see;
        "mean": its mean over the pixels.
    dense : tuple of int
        Widths of the dense layers, each with a ReLU.
    dropout : float
        After each dense layer.
    precision : str
        Of the convolutions in training: "float32" or "bfloat16".
    """

    view: ClassVar[str] = "image"
    kind: Literal["cnn"] = "cnn"
    blocks: Annotated[tuple[ConvolutionBlock, ...], Field(min_length=1)] = (
        ConvolutionBlock(channels=16),
        ConvolutionBlock(channels=32),
    )
    reduce: Literal["flatten", "mean"] = "flatten"
    dense: tuple[PositiveInt, ...] = (128,)
    dropout: Fraction = 0.3
    precision: Precision = "float32"


class SoftTreeCard(NetworkCard):
    """Convolutions with a soft decision tree on their maps (Frosst & Hinton, arXiv:1711.09784).

    Attributes
    ----------
    channels : tuple of int
        Of the convolutions, each with batch norm, ReLU and a maximum over 2 x 2 pixels.
    kernel : int
        Rows and columns of their kernels, odd.
    depth : int
        Decisions on a path: 2^depth - 1 nodes and 2^depth leaves.
    penalty : float
        λ of the routing-balance penalty; a node at depth d counts λ·2^-d. 0 for none.
    precision : str
        Of the convolutions in training: "float32" or "bfloat16".
    """

    view: ClassVar[str] = "image"
    kind: Literal["soft_tree"] = "soft_tree"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 32, 16)
    kernel: Kernel = 3
    depth: Annotated[int, Field(ge=1, le=10)] = 5
    penalty: Annotated[float, Field(ge=0)] = 0.1
    precision: Precision = "float32"
