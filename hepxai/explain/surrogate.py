"""Train a network with plain edge weights on another model's outputs, and explain that."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.attribution import Attribution
from hepxai.cards import find_card, load_card
from hepxai.estimate import Estimate
from hepxai.events import SPLITS, Events
from hepxai.explain.base import Explainer, register
from hepxai.explain.edge_ig import EdgeIG
from hepxai.metrics import fidelity
from hepxai.models.base import Model
from hepxai.models.card import ModelCard
from hepxai.models.network import NetworkModel
from hepxai.training import History, fit

CARD = "graphconv_edgeconv"


class LowFidelityWarning(UserWarning):
    """A surrogate repeats its original less well than asked: its explanations may not be the original's."""


@dataclass(frozen=True)
class Surrogate:
    """A network that stands for another model.

    Attributes
    ----------
    model : NetworkModel
    fidelity : dict
        ``split → {agreement, logit_correlation, auc}``, each an Estimate.
    history : list of dict
        Of its training.
    """

    model: NetworkModel
    fidelity: dict[str, dict[str, Estimate]]
    history: History


def fit_surrogate(
    model: Model,
    events: Events,
    *,
    card: ModelCard | None = None,
    target: str | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Surrogate:
    """Train a surrogate on the same training events, relabelled with the original's outputs.

    Parameters
    ----------
    model : Model
        The original; any view.
    events : Events
        With train, valid and test splits. Their labels are not used.
    card : ModelCard, optional
        The shipped ``graphconv_edgeconv`` by default.
    target : str, optional
        Output to imitate, the first by default.
    folder : path, optional
        For checkpoints; see `hepxai.training.fit`.
    progress : bool
    """
    chosen = load_card(find_card("models", CARD), ModelCard) if card is None else card
    if len(model.outputs) > 1:
        raise ValueError(f"a surrogate imitates one logit; the model has {', '.join(model.outputs)}")
    original = model.logits(events)[:, 0]
    found, history = fit(chosen, events, folder=folder, targets=_probability(original), progress=progress)
    imitated = found.logits(events)[:, 0]
    splits = {s: events.split == i for i, s in enumerate(SPLITS) if (events.split == i).sum() > 1}
    return Surrogate(
        found,
        {s: fidelity(imitated[own], original[own], events.weight[own]) for s, own in splits.items()},
        history,
    )


def _probability(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -30, 30))), dtype=np.float32)


@register("surrogate")
@dataclass(frozen=True, kw_only=True)
class SurrogateEdgeIG(Explainer):
    """Edge Integrated Gradients on a surrogate GraphConv network.

    For models whose own edges cannot be weighted, or to see whether a simpler mechanism tells the same story.

    Attributes
    ----------
    trained : Surrogate, optional
        From `fit_surrogate`. Otherwise one is trained on the "train" split of the events explained.
    minimum_agreement : float
        Below it on the held-out events (test, else valid) a `LowFidelityWarning` is raised, and
        ``checks["fidelity_ok"]`` is 0.
    steps, neighbours
        As in "edge_ig".
    """

    needs = Model
    trained: Surrogate | None = None
    minimum_agreement: float = 0.85
    steps: int | None = None
    neighbours: Any = "frozen"

    def explain(self, model: Model, events: Events, target: str) -> Attribution:
        """Signed attribution of every particle pair, axes ("pair",), with the fidelity as checks."""
        surrogate = self.trained or fit_surrogate(model, events, target=target, progress=self.progress)
        inner = EdgeIG(steps=self.steps, neighbours=self.neighbours, progress=self.progress)
        found = inner.explain(surrogate.model, events, target)
        checks = {f"{s}_{k}": float(e.value) for s, row in surrogate.fidelity.items() for k, e in row.items()}
        held_out = surrogate.fidelity.get("test") or surrogate.fidelity["valid"]
        agreement = held_out["agreement"]
        good = float(agreement.value) >= self.minimum_agreement
        if not good:
            warnings.warn(
                f"the surrogate agrees with its original on {agreement:.3f} of held-out events, less than "
                f"{self.minimum_agreement}: its explanation may not be the original's",
                LowFidelityWarning,
                stacklevel=3,
            )
        return found.replace(
            method=self.name,
            settings={**found.settings, **self.settings()},
            checks={**found.checks, **checks, "fidelity_ok": float(good)},
        )
