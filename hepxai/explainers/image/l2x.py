"""L2X: a network learns to select the few patches that the answer of a model can be predicted from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hepxai.attribution import Attribution
from hepxai.core.chunks import image_rows
from hepxai.core.console import track
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.events.splits import event_hash
from hepxai.explainers.base import Prepared
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.coalitions import IDENTITY
from hepxai.explainers.image.images import MapExplainer
from hepxai.explainers.image.perturbation import Pair
from hepxai.explainers.image.segments import block_of
from hepxai.explainers.image.selector import Patches, Selector, train_selector
from hepxai.explainers.libraries import isolated_rng
from hepxai.explainers.methods import register
from hepxai.models.protocols import Imaging
from hepxai.models.target import Target, decides_classes

Array = NDArray[np.float64]
HELD_OUT, CHECKED, DRAWS = 4, 1000, 5
"""One event of so many is held out; events of the check, at most; random selections for each of them."""


@register("l2x")
class L2X(MapExplainer):
    """Probability with which a learned selector picks each patch [Chen et al., arXiv:1802.07814].

    ``max_{p, q} E log q(F(x) | V ⊙ x)``: a selector p(x) chooses k patches of an image, relaxed to
    ``V = max_j softmax((log p + Gumbel_j) / τ)``, and a second network q predicts the answer of the model
    from those alone. Both are trained in `prepare` on the given events. For a classifier the answer is the
    softmax of the classes that the target names (all of them, if it names one), and the loss is the
    cross-entropy; for a regression it is the target, and the loss is the squared error. Weights of events do
    not count.

    A pixel has the probability of its patch. The selector sees the image, never the gradient of the model.

    The *post-hoc* check asks the model itself: does the image of which only the k most probable patches are
    left (0 elsewhere) get the answer of the whole image? A fourth of the events is held out for it.

    Attributes
    ----------
    k : int
        Number of patches that are selected.
    patch : tuple of int, optional
        Rows and columns of a patch; by default such that an image has at most 8 x 8.
    epochs : int
    temperature : float
        τ of the relaxation: the smaller, the closer to k patches, and the noisier the training.
    training_events : int
        Events that the selector is trained on, at most.
    seed : int
        Of the first weights, the selections and the events that are held out.
    """

    title = "learned selection of patches (L2X)"
    short_title = "L2X"
    unit = "probability"
    sign = "positive"
    k: int = Field(default=4, ge=1)
    patch: Pair | None = None
    epochs: int = Field(default=30, ge=1)
    temperature: float = Field(default=0.5, gt=0)
    training_events: int = Field(default=5000, ge=1)
    seed: int = Field(default=0, ge=0)

    def prepare(self, model: Imaging, events: Events, target: str) -> PreparedSelector:
        """Train the selector, and test its selection on the events that are held out."""
        shape = events.image_layout().shape
        patches = Patches(shape, block_of(self.patch, shape, f"{self.name}.patch"))
        if self.k > patches.number:
            what = f"{patches.number} patches of {patches.patch[0]} x {patches.patch[1]} pixels"
            raise ValueError(f"{self.name}.k={self.k}; an image of {shape[1]} x {shape[2]} has {what}")
        answer = Answer.of(model, events, target)
        train, held_out = self.parts(events)
        scale = pixel_scale(events[train])
        with isolated_rng(), torch.enable_grad():
            selector = self._trained(events[train], answer, patches, scale)
        prepared = PreparedSelector(
            explainer=self, model=model, target=target, selector=selector, scale=scale, figures={}
        )
        if not len(events):
            return prepared
        tested = {"held_out_events": float(len(held_out) if len(events) >= HELD_OUT else 0)}
        return replace(prepared, figures=post_hoc(prepared, events[held_out], answer) | tested)

    def parts(self, events: Events) -> tuple[IntArray, IntArray]:
        """Positions of the events of the training and of those that are held out; the same if few."""
        order = np.argsort(event_hash(*(getattr(events, n) for n in IDENTITY), seed=self.seed), kind="stable")
        held_out = order[: len(order) // HELD_OUT] if len(order) >= HELD_OUT else order
        train = order[len(order) // HELD_OUT :]
        return train[: self.training_events], held_out[:CHECKED]

    def _trained(self, events: Events, answer: Answer, patches: Patches, scale: float) -> Selector:
        epochs = self.epochs if len(events) else 0
        with track(f"{self.name}: training", epochs, show=self.progress) as advance:
            return train_selector(
                events,
                answer.for_training(events),
                patches,
                scale=scale,
                k=self.k,
                epochs=epochs,
                temperature=self.temperature,
                seed=self.seed,
                advance=advance,
            )

    def attribute_batch(self, prepared: PreparedSelector, batch: Batch[Tensor]) -> Part:
        """Probability of the patch of every pixel."""
        return Part(values=prepared.selector.patches.pixels(prepared.probabilities(batch.x)))

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Concerns of a selection that is no better than random or none, or not tested on other events."""
        if "gain_over_random" not in checks:
            return super().concerns(checks)
        gain, error = checks["gain_over_random"], checks["gain_over_random_error"]
        concerns = []
        if not checks["held_out_events"]:
            concerns.append(
                f"fewer than {HELD_OUT} events: the selection was tested on those of its training"
            )
        if gain <= 2 * error:
            concerns.append(
                f"the {self.k} selected patches are not better than random ones: the answer of the model is "
                f"kept by {gain:.3f} ± {error:.3f} more; give more events or epochs, or another k or patch"
            )
        return (*super().concerns(checks), *concerns, *self._constant_concern(checks))

    def _constant_concern(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        figure, error = (
            "accuracy" if "post_hoc_accuracy" in checks else "r2",
            checks.get("post_hoc_error", 0.0),
        )
        value, constant = (checks.get(f"{name}_{figure}", math.nan) for name in ("post_hoc", "constant"))
        if not value - constant <= 2 * error:
            return ()
        return (
            f"the {self.k} selected patches are not better than a constant answer: {figure} {value:.3f} ± "
            f"{error:.3f}, constant {constant:.3f}; give more events, epochs or patches",
        )


@dataclass(frozen=True, kw_only=True)
class PreparedSelector(Prepared):
    """Trained selector.

    Attributes
    ----------
    selector : Selector
    scale : float
        Size of a pixel, by which images are divided.
    figures : dict
        Of the post-hoc check.
    """

    selector: Selector
    scale: float
    figures: dict[str, float]

    def settings(self) -> dict[str, Any]:
        """Settings with the patch."""
        return super().settings() | {"patch": list(self.selector.patches.patch)}

    def probabilities(self, x: Tensor) -> Tensor:
        """Probability ``[B, P]`` of every patch of images ``[B, T, R, C]``; adds up to 1."""
        with torch.no_grad():
            logits: Tensor = self.selector(x / self.scale)
        return logits.softmax(1)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Figures of the post-hoc check; see `post_hoc`."""
        return super().checks(attribution) | self.figures


@dataclass(frozen=True)
class Answer:
    """Answer of a model, which a selection of patches has to keep.

    Attributes
    ----------
    model : Imaging
    output : Target
    classes : ndarray of int, or None
        Outputs among which a classifier decides; None for a regression.
    """

    model: Imaging
    output: Target
    classes: IntArray | None

    @staticmethod
    def of(model: Imaging, events: Events, target: str) -> Answer:
        """Answer that a target asks for."""
        output = Target.of(model.outputs, target)
        if not decides_classes(model.outputs, events.schema):
            return Answer(model, output, None)
        classes = np.flatnonzero(output.weights)
        return Answer(model, output, classes if len(classes) > 1 else np.arange(len(output.weights)))

    def __call__(self, outputs: Array) -> Array:
        """Logits ``[E, C]`` of the classes, those of one logit are 0 and the logit; or values ``[E]``."""
        if self.classes is None:
            values: Array = self.output(outputs)
            return values
        return np.asarray(
            np.pad(outputs, ((0, 0), (1, 0))) if outputs.shape[1] == 1 else outputs[:, self.classes]
        )

    def for_training(self, events: Events) -> Tensor:
        """Probabilities ``[E, C]`` of the classes, or standardised values ``[E]``."""
        answers = torch.as_tensor(self(self.model.logits(events)))
        if self.classes is not None:
            return answers.softmax(1).float()
        centred = answers - answers.mean() if len(answers) else answers
        return (centred / (float(centred.square().mean().sqrt()) or 1.0)).float()

    def agreement(self, whole: Array, part: Array) -> Array:
        """1 where the decision is the same, else 0; or 1 - (squared error / variance), whose mean is R²."""
        if self.classes is not None:
            return np.asarray(whole.argmax(1) == part.argmax(1), dtype=np.float64)
        return np.asarray(1 - np.square(part - whole) / (float(whole.var()) or 1.0))


def pixel_scale(events: Events) -> float:
    """Root mean square of the pixels that are not 0; 1 if there are none."""
    total, number = 0.0, 0
    for rows in image_rows(len(events), events.image_layout().shape):
        x = events[rows].image()
        total += float(np.square(x, dtype=np.float64).sum())
        number += int(np.count_nonzero(x))
    return float(np.sqrt(total / number)) if number else 1.0


def post_hoc(prepared: PreparedSelector, events: Events, answer: Answer) -> dict[str, float]:
    """Answers of the model to the selected patches alone, compared with those to the whole image.

    Returns
    -------
    dict
        ``post_hoc_accuracy``: share of events with the same decision; for a regression ``post_hoc_r2``.
        The same for random patches (``random_…``) and for the best constant answer (``constant_…``), and
        ``gain_over_random`` with its standard error.
    """
    draw, patches = np.random.default_rng(prepared.explainer.seed), prepared.selector.patches
    whole = answer(prepared.model.logits(events))

    def agreement(weights: Callable[[Tensor], Tensor]) -> Array:
        return answer.agreement(whole, answer(scores_of_selection(prepared, events, weights)))

    def random(x: Tensor) -> Tensor:
        return torch.as_tensor(draw.random((len(x), patches.number)))

    selected = agreement(prepared.probabilities)
    chance = np.mean([agreement(random) for _ in range(DRAWS)], axis=0)
    figure, constant = "r2", 0.0
    if answer.classes is not None:
        figure, constant = "accuracy", float(np.bincount(whole.argmax(1)).max() / len(whole))
    gain = selected - chance
    return {
        f"post_hoc_{figure}": float(selected.mean()),
        "post_hoc_error": float(selected.std() / np.sqrt(max(len(selected) - 1, 1))),
        f"random_{figure}": float(chance.mean()),
        f"constant_{figure}": constant,
        "gain_over_random": float(gain.mean()),
        "gain_over_random_error": float(gain.std() / np.sqrt(max(len(gain) - 1, 1))),
    }


def scores_of_selection(
    prepared: PreparedSelector, events: Events, weights: Callable[[Tensor], Tensor]
) -> Array:
    """Outputs ``[E, O]`` of images of which only the k patches of largest weight are left."""
    patches, k = prepared.selector.patches, prepared.explainer.k
    scores = np.empty((len(events), len(prepared.model.outputs)))
    for rows in image_rows(len(events), patches.shape):
        x = torch.as_tensor(events[rows].image())
        weight = weights(x)
        on = torch.zeros(weight.shape).scatter_(1, weight.topk(k, dim=1).indices, 1.0)
        scores[rows] = prepared.model.score_image((x * patches.pixels(on)[:, None]).numpy())
    return scores
