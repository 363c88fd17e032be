"""Model cards: architecture, hyperparameters and training, validated."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from hepxai.cards import Card, entry_error

Symmetry = Literal["rotation", "mirror", "forward_backward"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Convolution(Card):
    """One message-passing layer.

    Attributes
    ----------
    kind : str
        "transformer" (attention over all pairs), "graph" (sum over all pairs) or "dynamic_edge"
        (EdgeConv over the k nearest neighbours in the layer's input space).
    width : int
        Size of the particle states it returns.
    heads : int
        Attention heads of "transformer"; they share the width.
    neighbours : int
        k of "dynamic_edge".
    aggregation : str
        "mean" or "max" over the neighbours of "dynamic_edge".
    """

    kind: Literal["transformer", "graph", "dynamic_edge"]
    width: PositiveInt = 64
    heads: PositiveInt = 1
    neighbours: PositiveInt = 4
    aggregation: Literal["mean", "max"] = "mean"

    @model_validator(mode="after")
    def _of_this_kind(self) -> Self:
        """Refuse what would be ignored; a default is no wish, and written cards spell all of them out."""
        owners = {"heads": "transformer", "neighbours": "dynamic_edge", "aggregation": "dynamic_edge"}
        for key, owner in owners.items():
            if self.kind != owner and getattr(self, key) != type(self).model_fields[key].default:
                raise entry_error(f"only {owner!r} has {key}, this is {self.kind!r}; leave it out", key)
        return self

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise entry_error(f"{self.heads} heads cannot share width {self.width}; it must divide", "heads")
        return self


class Schedule(Card):
    """Cyclic learning rate: a triangle between ``lowest`` and the card's ``learning_rate``.

    Attributes
    ----------
    kind : str
        "cyclic" or "constant".
    lowest : float
        Fraction of ``learning_rate`` at the foot of the triangle.
    period : float
        Epochs of a full up-and-down.
    """

    kind: Literal["cyclic", "constant"] = "cyclic"
    lowest: Annotated[float, Field(gt=0, le=1)] = 0.1
    period: Annotated[float, Field(gt=0)] = 10.0


class Training(Card):
    """How a network is trained.

    Attributes
    ----------
    epochs, batch_size, seed : int
    learning_rate : float
        Of Adam (Kingma & Ba, arXiv:1412.6980); the top of the cycle.
    schedule : Schedule
    negative_weights : str
        Signed generator weights in the loss: "keep" them, "drop" such events, use their absolute value
        ("abs"), or refuse ("error"). Evaluation is always signed.
    class_balance : bool
        Give every class the same total weight in the loss.
    monitor : str
        What makes an epoch the best one on the validation split: "auc" (two classes) or "loss". Strong alpha
        dropout makes logits too large, so that the loss grows while the ranking still improves.
    early_stopping : int, optional
        Stop after this many epochs without a better one.
    symmetries : tuple of str
        Every batch is seen under random "rotation" about the beam, "mirror" reflection in a plane through it
        and "forward_backward" exchange of the beam directions; against overtraining. Features other than
        momenta and directions must not change under them.
    calibrate : bool
        Scale and shift the logits so that they are log-odds on the validation split.
    """

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 512
    learning_rate: Annotated[float, Field(gt=0)] = 0.002
    schedule: Schedule = Schedule()
    negative_weights: Literal["keep", "drop", "abs", "error"] = "keep"
    class_balance: bool = True
    monitor: Literal["auc", "loss"] = "auc"
    early_stopping: PositiveInt | None = None
    symmetries: tuple[Symmetry, ...] = ()
    calibrate: bool = True
    seed: int = 1


class ModelCard(Card):
    """A graph network on particles and its training.

    Attributes
    ----------
    kind : str
        "particle_gnn".
    description : str
    convolutions : tuple of Convolution
        Named ``<kind>_<position>`` from 1, e.g. ``transformer_1``.
    edge_dropout : float
        Probability with which an edge is dropped in training: attention coefficients of a "transformer"
        (PyG's ``dropout``), neighbours of a "dynamic_edge".
    dense : tuple of int
        Widths of the dense layers of the head.
    alpha_dropout : float
        Before each dense layer (Klambauer et al., arXiv:1706.02515).
    training : Training
    """

    shelf: ClassVar[Literal["models"]] = "models"
    kind: Literal["particle_gnn"] = "particle_gnn"
    description: str = ""
    convolutions: Annotated[tuple[Convolution, ...], Field(min_length=1)]
    edge_dropout: Fraction = 0.0
    dense: tuple[PositiveInt, ...] = (64, 64)
    alpha_dropout: Fraction = 0.4
    training: Training = Training()
