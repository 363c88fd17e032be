"""Surrogate: a network with plain edge weights, trained on another model's outputs and explained instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, InstanceOf, PositiveInt

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import reduced
from hepxai.core.chunks import evenly_spread
from hepxai.core.estimate import Estimate
from hepxai.events import SPLITS, Events
from hepxai.explainers.graph.edge_ig import EdgeIG, PreparedEdges
from hepxai.explainers.methods import register
from hepxai.metrics import fidelity, rank_agreement
from hepxai.models.card import ModelCard
from hepxai.models.graph.particle_gnn import ParticleGNNModel
from hepxai.models.protocols import HasEdgeWeights, Model
from hepxai.models.target import REST, Target
from hepxai.training import History, fit

CARD = "graphconv_edgeconv"
MAPS = 200
"""Events whose edges are compared with the original's, at most."""
SAME_EDGES = 0.2
"""Smallest rank correlation of the edges with which a surrogate may represent its original."""
_NO_DECISION = (
    "a surrogate imitates the decision of a classifier, not the values {} of a regression, which edge_ig, "
    "node_ig and shapley explain"
)
WANTED = ("agreement", "constant_agreement", "logit_correlation")


def _regression(model: object) -> bool:
    """True for regressions of hepxai."""
    training = getattr(getattr(model, "card", None), "training", None)
    return bool(getattr(training, "regression", False))


@dataclass(frozen=True)
class Surrogate:
    """A network that imitates another model.

    Attributes
    ----------
    model : ParticleGNNModel
    fidelity : dict
        ``split → {agreement, constant_agreement, logit_correlation, auc}``, each an Estimate; of the held-out
        split also ``map_agreement``, where the original's own edges can be explained; see `map_agreement`.
    history : list of dict
        Of its training.
    """

    model: ParticleGNNModel
    fidelity: dict[str, dict[str, Estimate]]
    history: History

    @property
    def held_out(self) -> dict[str, Estimate]:
        """Fidelity on events that it was not trained on: the test split, else the validation split."""
        return self.fidelity[_held_out(self.fidelity)]

    def figures(self) -> dict[str, float]:
        """Fidelity as flat numbers, with errors: ``<split>_<figure>`` and ``<split>_<figure>_error``."""
        rows = [(f"{s}_{k}", e) for s, row in self.fidelity.items() for k, e in row.items()]
        return {n: float(e.value) for n, e in rows} | {f"{n}_error": float(e.error) for n, e in rows}


def fit_surrogate(
    model: Model,
    events: Events,
    *,
    card: ModelCard | None = None,
    target: str | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Surrogate:
    """Train a surrogate on the same training events, relabelled with the target of the original.

    Parameters
    ----------
    model : Model
        The original; any view.
    events : Events
        With train, valid and test splits. Their labels are not used.
    card : ModelCard, optional
        Of the kind particle_gnn, whose edges can be weighted. The shipped ``graphconv_edgeconv`` by default.
    target : str, optional
        Logit or difference of logits to imitate, as in "signal-rest", of a model with several outputs.
    folder : path, optional
        For checkpoints; see `hepxai.training.fit`.
    progress : bool
    """
    chosen = ModelCard.find(CARD) if card is None else card
    if target is None and len(model.outputs) > 1:
        one = f"give one, or a difference, as target='{model.outputs[-1]}-{REST}'"
        raise ValueError(f"a surrogate imitates one logit; the model has {', '.join(model.outputs)}: {one}")
    output = Target.of(model.outputs, target or model.outputs[0])
    if set(model.outputs) <= set(events.schema.targets):
        raise ValueError(_NO_DECISION.format(", ".join(model.outputs)))
    if chosen.kind != "particle_gnn":
        raise ValueError(f"a surrogate's edges are weighted: its card is particle_gnn, not {chosen.kind}")
    original = output(model.logits(events))
    probability = np.asarray(1 / (1 + np.exp(-np.clip(original, -30, 30))), dtype=np.float32)
    inputs = events
    if len(events.schema.classes) != 2:  # the surrogate of any has one logit
        schema = dataclasses.replace(events.schema, classes=("other", target or model.outputs[0]))
        inputs = events.replace(schema=schema, label=(original > 0).astype(np.int64))
    trained, history = fit(chosen, inputs, folder=folder, targets=probability, progress=progress)
    if folder is not None:
        trained.save(Path(folder) / "model.safetensors")
    imitated = trained.logits(events)[:, 0]
    splits = {s: events.split == i for i, s in enumerate(SPLITS) if (events.split == i).sum() > 1}
    figures = {s: fidelity(imitated[rows], original[rows], events.weight[rows]) for s, rows in splits.items()}
    last = _held_out(figures)
    if EdgeIG.works_on(model):
        with suppress(ValueError):  # edges that are no pairs of particles
            agreement = map_agreement(model, trained, events.where(last), target=target)
            figures[last]["map_agreement"] = agreement
    return Surrogate(trained, figures, history)


def _held_out(splits: Mapping[str, object]) -> str:
    return "test" if "test" in splits else "valid"


def map_agreement(
    original: Model, surrogate: Model, events: Events, *, target: str | None = None
) -> Estimate:
    """Rank correlation of the edges of two models inside an event, by Integrated Gradients; 0 by chance.

    Mean over at most 200 evenly spread events. Two models with the same decisions can use different pairs.
    """
    few = events[evenly_spread(len(events), MAPS)]
    pairs = ((original, target or original.outputs[0]), (surrogate, surrogate.outputs[0]))
    return rank_agreement(*(reduced(EdgeIG().explain(m, few, t)) for m, t in pairs)).mean


@dataclass(frozen=True, kw_only=True)
class PreparedSurrogate(PreparedEdges):
    """Edge Integrated Gradients of a trained surrogate, whose only output imitates the target.

    Attributes
    ----------
    trained : Surrogate
    original_target : str
    """

    trained: Surrogate
    original_target: str

    def attribute(self, events: Events) -> Attribution:
        """Signed attribution of every particle pair."""
        return super().attribute(events).replace(target=self.original_target)

    def checks(self, attribution: Attribution) -> dict[str, float]:
        """Completeness on the surrogate, and the surrogate's fidelity on every split."""
        fidelity_ok = {"fidelity_ok": float(self._is_faithful())}
        return super().checks(attribution) | self.trained.figures() | fidelity_ok

    def concerns(self, checks: Mapping[str, float]) -> tuple[str, ...]:
        """Concerns of the edges, of low fidelity, and of low agreement of the edges with the original."""
        return (*self._infidelities(), *super().concerns(checks))

    def _infidelities(self) -> Iterator[str]:
        explainer: SurrogateEdgeIG = self.explainer
        if not self._is_faithful():
            agreement, constant, correlation = (self.trained.held_out[k] for k in WANTED)
            no_better = agreement.low <= constant.value
            yield (
                f"surrogate below stated fidelity: on held-out events the same decision in {agreement:.3f} "
                f"(wanted {explainer.minimum_agreement}, a constant decision has {constant.value:.3f}"
                f"{', so that it is no better' if no_better else ''}), correlation of the logits "
                f"{correlation:.3f} (wanted {explainer.minimum_correlation}); train it for more epochs, on "
                "more events, or give a larger card"
            )
        edges = self.trained.held_out.get("map_agreement")
        if edges is not None and not edges.value >= SAME_EDGES:
            yield (
                f"surrogate and original weight other edges (rank correlation {edges:.2f}): these values are "
                "not the original's"
            )

    def _is_faithful(self) -> bool:
        """True if agreement and correlation reach their minimum, and the agreement exceeds a constant's."""
        explainer: SurrogateEdgeIG = self.explainer
        agreement, constant, correlation = (self.trained.held_out[k] for k in WANTED)
        agrees = agreement.value >= explainer.minimum_agreement and agreement.low > constant.value
        return bool(agrees and correlation.value >= explainer.minimum_correlation)


@register("surrogate")
class SurrogateEdgeIG(EdgeIG):
    """Edge Integrated Gradients on a surrogate GraphConv network.

    For models whose own edges cannot be weighted, or to see whether a simpler mechanism tells the same story.

    Attributes
    ----------
    trained : Surrogate, optional
        From `fit_surrogate`. Otherwise one is trained on the "train" split of the events explained.
    folder : str, optional
        Folder for the checkpoint of the training and for the surrogate.
    epochs : int, optional
        Of the training of the surrogate; by default those of the shipped ``graphconv_edgeconv``.
    minimum_agreement, minimum_correlation : float
        Agreement and correlation of the logits wanted on the held-out events (test, else valid). Below either
        the result has a concern, and ``checks["fidelity_ok"]`` is 0. So it is where the agreement is
        not above that of a constant decision by more than its error: agreement alone is cheap where the
        original nearly always decides the same.
    layer, neighbours, steps, tolerance
        Of the explanation of the surrogate; see `hepxai.explainers.graph.edge_ig.EdgeIG`.
    """

    title = "integrated gradients over pairs of the surrogate (surrogate IG)"
    short_title = "surrogate IG"
    default_needs = HasEdgeWeights
    needs = Model
    trained: InstanceOf[Surrogate] | None = Field(default=None, exclude=True)
    folder: str | None = None
    epochs: PositiveInt | None = None
    minimum_agreement: float = 0.8
    minimum_correlation: float = 0.6

    @classmethod
    def works_on(cls, model: object) -> bool:
        """True for classifiers, one logit of which, or a difference of two, a surrogate imitates."""
        return isinstance(model, Model) and not _regression(model)

    def check_model(self, model: Model) -> None:
        """Refuse regressions; layers are those of the surrogate."""
        if _regression(model):
            raise ValueError(_NO_DECISION.format(", ".join(model.outputs)))
        if self.trained is not None:
            super().check_model(self.trained.model)

    def settings(self) -> dict[str, Any]:
        """Settings; a surrogate that was given is named by its training."""
        surrogate = {} if self.trained is None else {"trained": f"given, {len(self.trained.history)} epochs"}
        return super().settings() | surrogate

    def prepare(self, model: Model, events: Events, target: str) -> PreparedSurrogate:
        """Train the surrogate unless it is given, and prepare its explanation."""
        card = ModelCard.find(CARD, [] if self.epochs is None else [f"training.epochs={self.epochs}"])
        trained = self.trained or fit_surrogate(
            model, events, card=card, target=target, folder=self.folder, progress=self.progress
        )
        trained.model.check(events)
        prepared = PreparedSurrogate(
            explainer=self,
            model=trained.model,
            target=trained.model.outputs[0],
            layer=self.layer_of(trained.model),
            steps=0,
            trained=trained,
            original_target=target,
        )
        return self.with_steps(prepared, events)
