"""Model cards: architecture, hyperparameters and training, validated."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast

from pydantic import Field, ModelWrapValidatorHandler, PositiveInt, model_validator

from hepxai.cards import VERSION, Card, Version, entry_error, nearest, refuse_newer
from hepxai.models.target import REST

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
        """Refuse entries without effect, except defaults, which written cards contain."""
        owners = {"heads": "transformer", "neighbours": "dynamic_edge", "aggregation": "dynamic_edge"}
        for key, owner in owners.items():
            if self.kind != owner and getattr(self, key) != type(self).model_fields[key].default:
                raise entry_error(f"only {owner!r} has {key}, this is {self.kind!r}; leave it out", key)
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


class CommonTraining(Card):
    """Loss, weights of events, and the choice of the best epoch.

    Attributes
    ----------
    loss : str
        "cross_entropy" of the classes; or a regression that learns the targets of the data-set card by their
        mean absolute ("mae") or squared ("mse") error, in units of each target's spread. A regression is not
        calibrated, classes are not balanced, and the best epoch is that of the lowest loss.
    negative_weights : str
        Signed generator weights in the loss: "keep" them, "drop" such events, use their absolute value
        ("abs"), or refuse ("error"). Evaluation is always signed.
    class_balance : bool
        Give every class the same total weight in the loss.
    sample_balance : bool
        Give every sample of a class the same total weight in the loss; the total of the class stays.
    monitor : str
        Figure of the validation split that is best in the best epoch: "auc" (of more than two classes the
        mean AUC of each against all others) or "loss". Strong alpha dropout makes logits too large, so that
        the loss grows while the ranking still improves.
    early_stopping : int, optional
        Stop after this many epochs without a better one.
    record_predictions : bool
        Store the class predicted for every event after every epoch, or step of boosted trees; see
        `hepxai.studies.instance_flow`. Of classifiers; one more pass over all events an epoch.
    seed : int
        Of the first training.
    trainings : int
        Trainings of a run, with seeds that follow each other. The model is their mean logit, and their
        spread an error of every number.
    """

    loss: Literal["cross_entropy", "mae", "mse"] = "cross_entropy"
    negative_weights: Literal["keep", "drop", "abs", "error"] = "keep"
    class_balance: bool = True
    sample_balance: bool = False
    monitor: Literal["auc", "loss"] = "auc"
    early_stopping: PositiveInt | None = None
    record_predictions: bool = False
    seed: int = 1
    trainings: PositiveInt = 1

    @property
    def regression(self) -> bool:
        """True if numbers are learned, not classes."""
        return self.loss != "cross_entropy"

    @model_validator(mode="after")
    def _balance_of_classes(self) -> Self:
        if self.sample_balance and self.regression:
            raise entry_error("samples are balanced inside their classes; leave it out", "sample_balance")
        return self


class Training(CommonTraining):
    """Training of a network.

    Attributes
    ----------
    epochs, batch_size : int
    epoch_events : int, optional
        Training events of one epoch, for large samples: the next epoch continues with the other events, and
        every event is used once before any is used again. All by default.
    optimiser : str
        "adam" (Kingma & Ba, arXiv:1412.6980), or "sgd", plain stochastic gradient descent.
    learning_rate : float
        Maximum of the cycle.
    schedule : Schedule
    symmetries : tuple of str
        Random transformations of every batch, against overtraining: "rotation" about the beam, "mirror"
        reflection in a plane through it and "forward_backward" exchange of the beam directions. Features
        other than momenta and directions must be invariant.
    calibrate : bool
        Scale and shift the logits so that they are log-odds on the validation split.
    keep_checkpoints : tuple of int
        Epochs after which the model is stored, for the influence of training events; see
        `hepxai.training.kept_checkpoints`.
    """

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 512
    epoch_events: PositiveInt | None = None
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 0.002
    schedule: Schedule = Schedule()
    symmetries: tuple[Symmetry, ...] = ()
    calibrate: bool = True
    keep_checkpoints: tuple[PositiveInt, ...] = ()


class Home(NamedTuple):
    """Import paths of the two classes of a kind, as ``module:class``."""

    card: str
    model: str


def _home(card: str, model: str) -> Home:
    return Home(f"hepxai.models.{card}", f"hepxai.models.{model}")


KINDS = {
    "particle_gnn": _home("card:ParticleGNNCard", "graph.particle_gnn:ParticleGNNModel"),
    "dense": _home("card:DenseCard", "table.dense:DenseModel"),
    "lstm": _home("card:LstmCard", "graph.lstm:LstmModel"),
    "boosted_trees": _home("card:BoostedTreesCard", "table.boosted_trees:BoostedTreesModel"),
    "convolutional": _home("image.cards:ConvolutionalCard", "image.convolutional:ConvolutionalModel"),
    "cnn": _home("image.cards:CnnCard", "image.cnn:CnnModel"),
    "soft_tree": _home("image.cards:SoftTreeCard", "image.soft_tree:SoftTreeModel"),
    "detector": _home("image.detection.card:DetectorCard", "image.detection.model:DetectorModel"),
}
"""Every kind of model card; models are imported on use, because a card needs no torch."""


def resolve(home: str) -> Any:
    """Class at ``module:class``."""
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


class ModelCard(Card):
    """A model and its training; validating one gives the card of its kind.

    Attributes
    ----------
    version : int
        Version of the keys, for later releases.
    kind : str
        One of ``KINDS``; "particle_gnn" by default.
    description : str
    training : CommonTraining
    view : str
        View of the events that the model takes (class attribute): "graph", "table" or "image".
    """

    shelf: ClassVar[Literal["models"]] = "models"
    view: ClassVar[str]
    version: Version = VERSION
    kind: str = "particle_gnn"
    description: str = ""
    training: CommonTraining

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls is not ModelCard or not isinstance(data, Mapping):
            return handler(data)
        refuse_newer(data)
        kind = data.get("kind", "particle_gnn")
        if not isinstance(kind, str) or kind not in KINDS:
            hint = nearest(str(kind), KINDS)
            raise entry_error(f"found {kind!r}{hint}; the kinds are {', '.join(KINDS)}", "kind")
        return cast("Self", resolve(KINDS[kind].card).model_validate(data))

    def incompatibility(self, classes: Sequence[str], targets: Sequence[str]) -> str | None:
        """Reason against a training on events of these classes and targets, or None."""
        if self.training.regression:
            learns = "the model card learns numbers (training.loss), the events have no targets"
            classifier = ", or take training.loss: cross_entropy, which learns the classes"
            remedy = f"declare `targets` on the data-set card{classifier if len(classes) > 1 else ''}"
            return None if targets else f"{learns}: {remedy}"
        if len(classes) < 2:
            has = (
                f"the model card learns classes, two or more; the events have {', '.join(classes) or 'none'}"
            )
            regression = f", or take training.loss: mae, which learns {', '.join(targets)}"
            remedy = "list background first, then signal, as `labels` of the data-set card (or give label=)"
            return f"{has}: {remedy}{regression if targets else ''}"
        if REST in classes and len(classes) > 2:
            return f"a class is named {REST!r}, which means all others in a target; rename it in `labels`"
        return None


def model_card_classes() -> dict[str, type[ModelCard]]:
    """Class of the card of every kind."""
    return {kind: resolve(home.card) for kind, home in KINDS.items()}


def keys_of_cards() -> frozenset[str]:
    """Top-level keys of the cards of all kinds."""
    return frozenset().union(*(c.model_fields for c in model_card_classes().values()))


class NetworkCard(ModelCard):
    """A torch model and its training.

    Attributes
    ----------
    training : Training
    """

    training: Training = Training()

    @model_validator(mode="after")
    def _symmetries_of_particles(self) -> Self:
        if self.training.symmetries and self.view != "graph":
            text = f"symmetries are those of particles; {self.kind!r} reads the {self.view}: leave them out"
            raise entry_error(text, "training", "symmetries")
        return self


class ParticleGNNCard(NetworkCard):
    """A graph network on particles and its training.

    Attributes
    ----------
    convolutions : tuple of Convolution
        Named ``<kind>_<position>`` from 1, e.g. ``transformer_1``.
    edge_dropout : float
        Probability with which an edge is dropped in training: attention coefficients of a "transformer"
        (PyG's ``dropout``), neighbours of a "dynamic_edge".
    dense : tuple of int
        Widths of the dense layers of the head.
    alpha_dropout : float
        Before each dense layer (Klambauer et al., arXiv:1706.02515).
    """

    view: ClassVar[str] = "graph"
    kind: Literal["particle_gnn"] = "particle_gnn"
    convolutions: Annotated[tuple[Convolution, ...], Field(min_length=1)]
    edge_dropout: Fraction = 0.0
    dense: tuple[PositiveInt, ...] = (64, 64)
    alpha_dropout: Fraction = 0.4


class DenseCard(NetworkCard):
    """A dense network on the event-level table.

    Attributes
    ----------
    widths : tuple of int
        Neurons of the hidden layers ``dense_1``, ``dense_2``, …; none: logistic regression.
    activation : str
        "relu", or "selu" (Klambauer et al., arXiv:1706.02515).
    dropout : float
        After each hidden layer; alpha dropout with "selu".
    """

    view: ClassVar[str] = "table"
    kind: Literal["dense"] = "dense"
    widths: tuple[PositiveInt, ...] = (64, 64)
    activation: Literal["relu", "selu"] = "relu"
    dropout: Fraction = 0.0


class LstmCard(NetworkCard):
    """A recurrent network over the particles of an event, highest pT first.

    Attributes
    ----------
    width, layers : int
        Size of the state, and number of LSTM layers (Hochreiter & Schmidhuber, Neural Comput. 9 (1997) 1735).
    dense : tuple of int
        Widths of the dense layers behind it.
    dropout : float
        Between the LSTM layers and before each dense layer.
    """

    view: ClassVar[str] = "graph"
    kind: Literal["lstm"] = "lstm"
    width: PositiveInt = 64
    layers: PositiveInt = 1
    dense: tuple[PositiveInt, ...] = (64,)
    dropout: Fraction = 0.0


class TreeTraining(CommonTraining):
    """Training of boosted trees. A regression learns one target.

    Attributes
    ----------
    trees : int
        Most trees.
    step : int
        Trees between two evaluations of both splits, the rows of the history, of which one is the best.
    learning_rate : float, optional
        Factor of each tree; scikit-learn's by default (0.1). A random forest has none.
    monitor, early_stopping
        As for networks; ``early_stopping`` counts trees. All trees of a random forest are kept.
    """

    monitor: Literal["auc", "loss"] = "loss"
    trees: PositiveInt = 200
    step: PositiveInt = 10
    learning_rate: Annotated[float, Field(gt=0)] | None = None


class BoostedTreesCard(ModelCard):
    """Boosted decision trees of scikit-learn, or a random forest, on the event-level table.

    Without ``depth`` and ``leaves``, the size of a tree is limited as in scikit-learn: 31 leaves with
    "hist_gradient_boosting", depth 3 with "gradient_boosting", no limit with "random_forest".

    Attributes
    ----------
    algorithm : str
        "hist_gradient_boosting": on binned columns, fast for large samples, takes negative weights.
        "gradient_boosting", "random_forest": neither.
    depth, leaves : int, optional
        Most levels and leaves of a tree.
    smallest_leaf : int
        Fewest events in a leaf.
    l2 : float
        Regularisation of the values of the leaves; "hist_gradient_boosting" only.
    """

    view: ClassVar[str] = "table"
    kind: Literal["boosted_trees"] = "boosted_trees"
    training: TreeTraining = TreeTraining()
    algorithm: Literal["hist_gradient_boosting", "gradient_boosting", "random_forest"] = (
        "hist_gradient_boosting"
    )
    depth: PositiveInt | None = None
    leaves: Annotated[int, Field(ge=2)] | None = None
    smallest_leaf: PositiveInt = 20
    l2: Annotated[float, Field(ge=0)] = 0.0

    def incompatibility(self, classes: Sequence[str], targets: Sequence[str]) -> str | None:
        """Reason against a run; trees learn one target."""
        if self.training.regression and len(targets) > 1:
            names = f"the data-set card has {', '.join(targets)}"
            return f"boosted trees learn one target, {names}; leave one there, or take a card of kind dense"
        return super().incompatibility(classes, targets)

    @model_validator(mode="after")
    def _of_this_algorithm(self) -> Self:
        """Refuse entries without effect."""
        if self.training.loss == "mae" and self.algorithm == "random_forest":
            raise entry_error("random forests are very slow with mae; take mse", "training", "loss")
        if self.l2 and self.algorithm != "hist_gradient_boosting":
            raise entry_error(f"{self.algorithm} knows no l2; leave it out", "l2")
        for key in ("learning_rate", "early_stopping"):
            if self.algorithm == "random_forest" and getattr(self.training, key) is not None:
                raise entry_error(f"a random forest has no {key}; leave it out", "training", key)
        return self
