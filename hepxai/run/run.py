"""A run: the steps from cards to weights, scores, explanations, variations and friends in one folder."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.console import say
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.files import write_json
from hepxai.datasets import DatasetCard, read
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, Prepared
from hepxai.explainers.methods import for_run, is_default_for, validated_settings
from hepxai.export.friends import write_friends
from hepxai.metrics import classification_metrics
from hepxai.metrics.targets import target_metrics
from hepxai.models.card import ModelCard, NetworkCard
from hepxai.models.network import NetworkModel
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run.cards import RunCards
from hepxai.run.manifest import RunError
from hepxai.run.maps import MapMaker
from hepxai.run.provenance import PROVENANCE, provenance
from hepxai.run.scores import SCORES, write_scores
from hepxai.run.stored import StoredRun
from hepxai.run.targets import targets_by_name
from hepxai.run.user_models import check_same_scores, first_scores, make_model, run_scores
from hepxai.run.varied import (
    changes_weights_alone,
    chosen_variations,
    requested_settings,
    same_request,
    same_shift,
    varied_rows,
)
from hepxai.training import History, fit
from hepxai.training.predictions import PREDICTIONS


@dataclass(frozen=True)
class Run(StoredRun):
    """One study from ROOT files to an explained population, resumable at every step.

    Attributes
    ----------
    folder : Path
    dataset : DatasetCard
    card : ModelCard
    nominal : Run, optional
        Of a run under a systematic variation, the run whose model and methods it uses.
    """

    # --- opening -------------------------------------------------------------------------------

    @staticmethod
    def start(
        folder: str | Path, dataset: DatasetCard, card: ModelCard | None = None, *, model: object = None
    ) -> Run:
        """Begin in a new or empty folder, or resume a run of the same cards.

        Parameters
        ----------
        folder : path
        dataset : DatasetCard
        card : ModelCard, optional
            Of the model to train.
        model : str or Model, optional
            Instead of a card, a trained model: ``"my_model.py:make"``, executed as ``make(schema)`` with the
            schema of the events, or an object with the protocol `hepxai.models.Model`.

        Raises
        ------
        RunError
            If the cards are not for a run, or the folder holds something else, or a run of other cards.
        """
        if (card is None) == (model is None):
            raise RunError("a run needs one of the two: the card of a model to train, or a trained model")
        given: dict[str, Any] = {}
        if card is None:
            given["reading"] = read(dataset, progress=True)
            given["model"], card = make_model(model, given["reading"].events.schema)
        cards = RunCards(Path(folder), dataset, card)
        cards.check()
        run = Run._of(cards)
        run.__dict__.update(given)  # where cached_property keeps them
        return run._begun()

    def _begun(self) -> Self:
        """Return the same run, with its cards in the folder."""
        self._cards.begin()
        return self

    @staticmethod
    def open(folder: str | Path, *, model: object = None) -> Run:
        """Open a run folder and check every file that the run relies on against its hash.

        A missing explanation gives a warning, not an error: it can be computed again. Nothing is executed,
        unless a run of a model of the user gets this ``model`` again, as in `start`, to explain more.

        Raises
        ------
        RunError
            If it is no run, or if a file is missing or was changed after the run wrote it.
        """
        run = Run._of(RunCards.load(Path(folder)))
        return run if model is None else run._with_model(model)

    @staticmethod
    def _of(cards: RunCards) -> Run:
        """Run of the kind that the cards ask for: of one training, or of several."""
        kinds = [kind for kind in Run.__subclasses__() if kind.fits(cards.dataset, cards.model)]
        chosen: type[Run] = (*kinds, Run)[0]
        return chosen(cards.folder, cards.dataset, cards.model)

    @classmethod
    def fits(cls, dataset: DatasetCard, card: ModelCard) -> bool:
        """True if the cards ask for a run of this kind."""
        return True

    def _with_model(self, source: object) -> Run:
        """Return the same run with the model of the user, which must be the one that it was made with."""
        if not isinstance(self.card, PythonCard):
            raise RunError(f"{self.folder} holds its own model, of kind {self.card.kind}; leave --model out")
        model, card = make_model(source, self.events.schema)
        RunCards(self.folder, self.dataset, card).check_same()
        self.__dict__["model"] = model
        check_same_scores(model, self.events, self.card, self.scores)
        return self

    def single(self) -> Run:
        """Return this run, of one network; one of several is refused, with the names of its members."""
        return self

    def workers(self, requested: int | None = None) -> int:
        """Processes for the steps of this run: 1, unless it has several trainings."""
        return 1

    @property
    def _cards(self) -> RunCards:
        return RunCards(self.folder, self.dataset, self.card)

    # --- training ----------------------------------------------------------------------------

    def dry_run(self, methods: Sequence[str] | None, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Check on a fresh network, before the training, that it can be explained as requested.

        Raises
        ------
        CannotExplainError, KeyError
            If the model lacks what a method needs, or a layer that a setting names.
        """
        if isinstance(self.card, PythonCard):
            model = self.model
        elif not isinstance(self.card, NetworkCard):  # trees cannot be asked before they are there
            return
        else:
            with torch.random.fork_rng(devices=[]):
                model = NetworkModel.build(self.card, self.events.schema)
        for method, method_settings in validated_settings(methods, settings, self.card.view).items():
            if methods is not None or method_settings:
                for_run(method, model, method_settings)

    def train(
        self,
        *,
        device: str = "cpu",
        progress: bool = True,
        after_epoch: Callable[[History], None] | None = None,
        workers: int | None = None,
    ) -> None:
        """Train, score every event and compute the figures of merit; nothing if this is done already.

        A model of the user is not trained.

        Parameters
        ----------
        device : str
        progress : bool
        after_epoch : callable, optional
            See `hepxai.training.fit`.
        workers : int, optional
            Processes, for a run of several trainings; by default one for each core.
        """
        with self.manifest.locked():
            if "metrics.json" not in self.manifest.names():
                self._cards.check_same()  # another process may have begun with others
                self._train(device=device, progress=progress, after_epoch=after_epoch, workers=workers)
            elif isinstance(self.card, PythonCard):
                check_same_scores(self.model, self.events, self.card, self.scores)

    def _train(self, **options: Any) -> None:
        seed = None if isinstance(self.card, PythonCard) else self._seed()
        write_json(self.folder / PROVENANCE, provenance(self.folder, self.reading, seed))
        logits, history, files = self._fitted(**options)
        write_scores(self.folder, self.events, logits)
        write_json(self.folder / "history.json", history)
        figures = self._figures_of_merit(logits)
        write_json(self.folder / "metrics.json", {s: as_json(m) for s, m in figures.items()})
        self.manifest.record(PROVENANCE, *files, SCORES, "history.json", "metrics.json")

    def _fitted(
        self,
        *,
        device: str,
        progress: bool,
        after_epoch: Callable[[History], None] | None,
        workers: int | None,
    ) -> tuple[NDArray[np.float64], History, list[str]]:
        """Logits of each training ``[T, E, O]``, history, and files that were written."""
        if self.nominal is not None:
            return self._varied_scores(self.nominal)[None], [], []
        if isinstance(self.card, PythonCard):
            return first_scores(self.model, self.events, self.card)[None], [], []
        options: dict[str, Any] = {"device": device, "progress": progress, "after_epoch": after_epoch}
        model, history = fit(self.card, self.events, folder=self.folder, **options)
        model.save(self.folder / "model.safetensors")
        predictions = [PREDICTIONS] if self.card.training.record_predictions else []
        return model.logits(self.events)[None], history, ["model.safetensors", *predictions]

    def _figures_of_merit(self, logits: NDArray[np.float64]) -> dict[str, dict[str, Estimate]]:
        """Figures of merit by split of the mean of several logits ``[T, E, O]``."""
        return self.merits(logits.mean(axis=0), self.events)

    def merits(self, logits: NDArray[np.float64], events: Events) -> dict[str, dict[str, Estimate]]:
        """Figures of merit of logits or predictions ``[E, O]``, by split of the events."""
        merits = target_metrics if self.card.training.regression else classification_metrics
        return merits(logits, events)

    def _seed(self) -> Any:
        return self.card.training.seed

    # --- explaining --------------------------------------------------------------------------

    def explain(
        self,
        methods: Sequence[str] | None = None,
        *,
        split: str = "test",
        maximum: int | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        targets: Sequence[str] | None = None,
        workers: int | None = None,
    ) -> dict[str, Attribution]:
        """Explain a population with each method, saving as it goes.

        Parameters
        ----------
        methods : sequence of str, optional
            By default those of the model's view that suit it; see `hepxai.explainers.methods`.
        split : str
            Events that did not train the model, by default.
        maximum : int, optional
            Explain this many events, evenly spread over the split. By default those that the run has
            explanations of, or all. Explanations of other events are set aside, and taken back when the run
            explains those events again.
        settings : mapping
            ``method → settings``.
        targets : sequence of str, optional
            Outputs or contrasts to explain, as in "signal-ttbar"; by default "CLASS-rest" of each of several
            classes, or each target of a regression.
        workers : int, optional
            Processes, for a run of several trainings; by default one for each core.

        Returns
        -------
        dict of str to Attribution
            All explanations of the run, without variations; `explained` has them.
        """
        chosen = validated_settings(methods, settings or {}, self.card.view, split=split, maximum=maximum)
        rows = self.populations.choose(self.events, split, maximum)
        for method, method_settings in chosen.items():
            if methods is None and not is_default_for(method, self.model):
                continue
            try:
                with self.manifest.locked():
                    for name, target in self._targets(method, targets).items():
                        self._map_maker.make(name, method, target, rows, method_settings)
            except (CannotExplainError, ImportError) as problem:
                if methods is not None:
                    raise
                warnings.warn(f"{method} is left out: {problem}", stacklevel=2)
        return self.maps()

    @cached_property
    def _map_maker(self) -> MapMaker:
        nominal = None if self.nominal is None else self.nominal._map_maker
        return MapMaker(self.folder, self.model, self.events, nominal)

    def _targets(self, method: str, targets: Sequence[str] | None) -> dict[str, str]:
        schema, regression = self.events.schema, self.card.training.regression
        return targets_by_name(method, self.model, schema, targets, regression=regression)

    def friends(self, *, variations: bool = False) -> list[Path]:
        """Write friend trees with scores and explanations, one per input file.

        Parameters
        ----------
        variations : bool
            Write those of the events under each variation too, in ``variations/NAME/friends``.
        """
        for run in self.scored_variations().values() if variations else ():
            run.friends()
        maps = [a.replace(method=name) for name, a in self.maps().items()]
        options = self.friend_scores(self.scores, self.score_spread)
        return write_friends(self.folder / "friends", self.events, maps, **options, overwrite=True)

    def friend_scores(
        self, scores: NDArray[np.float64], spread: NDArray[np.float64] | None
    ) -> dict[str, Any]:
        """Arguments of `write_friends` for scores ``[E, O]`` and their spread over trainings."""
        if not self.card.training.regression:
            return {"scores": scores, "score_spread": spread}
        predictions = dict(zip(self.outputs, scores.T, strict=True))
        if spread is not None:
            predictions |= {f"{t}_training": s for t, s in zip(self.outputs, spread.T, strict=True)}
        return {"predictions": predictions}

    # --- other events ------------------------------------------------------------------------

    def score_events(self, events: Events) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Logits or predictions ``[E, O]`` of events that are not of the run; spread over its trainings."""
        scores: NDArray[np.float64] = self.model.logits(events)
        return scores, None

    @cached_property
    def _prepared(self) -> dict[str, Prepared]:
        return {}

    def explain_events(self, events: Events, names: Sequence[str]) -> dict[str, Attribution]:
        """Explain events that are not of the run like its own; nothing is stored.

        Parameters
        ----------
        events : Events
        names : sequence of str
            Of `maps`.
        """
        stored = self.maps() if set(names) - self._prepared.keys() else {}
        results = {}
        for name in names:
            if name not in self._prepared:
                self._prepared[name] = self._map_maker.prepared(name, stored[name])
            prepared = self._prepared[name]
            results[name] = prepared.checked(prepared.attribute(events))
            prepared.refuse_broken(results[name])
        return results

    # --- systematic variations ---------------------------------------------------------------

    def vary(self, names: Sequence[str] | None = None, *, workers: int | None = None) -> None:
        """Score the events under systematic variations, and explain those that the run explains.

        Model, methods, settings and baselines are those of this run; it resumes like `explain`. From then on,
        numbers of `metrics` and measures of `explained` have a systematic error.

        Parameters
        ----------
        names : sequence of str, optional
            Of ``dataset.variation_names``; all by default.
        workers : int, optional
            Processes, for a run of several trainings; by default one for each core.

        Raises
        ------
        RunError
            If the card has no such variation, or none.
        """
        for name in chosen_variations(self, names):
            run = self._varied(name)
            run.train()
            run._explain_as(self)

    def _varied(self, name: str) -> Self:
        """Run under a variation, begun or resumed; begun anew if the card defines the variation otherwise."""
        run = self.variation(name)
        if run.manifest.exists() and not same_shift(run.folder, run.dataset):
            say(f"{name}: its definition on the card has changed; it is done anew")
            shutil.rmtree(run.folder)
        return run._begun()

    def _varied_scores(self, nominal: Run) -> NDArray[np.float64]:
        if changes_weights_alone(nominal.events, self.events):
            return nominal.scores
        if isinstance(self.card, PythonCard):
            return run_scores(nominal.model, self.events, self.card)
        scores: NDArray[np.float64] = nominal.model.logits(self.events)
        return scores

    def _explain_as(self, nominal: Run) -> None:
        """Explain the events that the nominal run explains, with its methods."""
        if (explained := nominal.populations.rows()) is None:
            return
        rows, maps = varied_rows(nominal.events, explained, self.events), self.maps()
        same_input = changes_weights_alone(nominal.events, self.events)
        with self.manifest.locked():
            for key, one in nominal.maps().items():
                if key in maps and not same_request(one, maps[key]):
                    self.populations.remove(key)
                if same_input:
                    self._map_maker.take(key, one, rows)
                else:
                    self._map_maker.make(key, one.method, one.target, rows, requested_settings(one))
