"""A run: one folder with cards, weights, scores, explanations, friends and the report."""

from __future__ import annotations

import json
import platform
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.cards import Card, dump_card, load_card
from hepxai.core.console import say
from hepxai.core.estimate import Estimate, as_json
from hepxai.core.files import (
    holds_only,
    read_json,
    read_tensors,
    sha256,
    write_json,
    write_tensors,
    write_text,
)
from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard, Reading, read
from hepxai.datasets.variations import unknown_variation
from hepxai.events import SPLITS, Events
from hepxai.events.splits import ALL_FOLDS
from hepxai.explainers import EXPLAINERS, CannotExplainError, Explainer, Prepared
from hepxai.explainers.methods import for_run, is_default_for, validated_settings
from hepxai.explainers.path import PreparedPath
from hepxai.export.friends import write_friends
from hepxai.metrics import classification_metrics
from hepxai.metrics.targets import target_metrics
from hepxai.models.card import ModelCard, NetworkCard
from hepxai.models.network import NetworkModel
from hepxai.models.storage import load_model
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run.manifest import EXPLAINED, POPULATION, VARIATIONS, Manifest, RunError
from hepxai.run.manifest import NAME as MANIFEST
from hepxai.run.populations import Populations
from hepxai.run.shards import explain_in_shards
from hepxai.run.targets import targets_by_name
from hepxai.run.user_models import (
    card_class,
    check_same_file,
    check_same_scores,
    first_scores,
    make_model,
    model_is_needed,
    run_scores,
)
from hepxai.run.varied import (
    changes_weights_alone,
    requested_settings,
    same_population,
    varied_rows,
    with_systematic_entries,
)
from hepxai.training import History, fit
from hepxai.training.predictions import PREDICTIONS

SHARD = 1024
"""Events between two saves of an explanation."""
CARDS = ("dataset.yaml", "model.yaml")
SCORES = "scores.safetensors"
STEPS = "steps.json"
"""Steps of path integrals, by method and requested settings: the same for any part of the events."""
IDENTITY = ("file", "entry", "split", "run", "luminosity_block", "event", "label")
LIBRARIES = ("hepxai", "torch", "torch-geometric", "scikit-learn", "uproot", "awkward", "numpy")


@dataclass(frozen=True)
class Run:
    """One study from ROOT files to an explained population, resumable at every step.

    Attributes
    ----------
    folder : Path
    dataset : DatasetCard
    card : ModelCard
    nominal : Run, optional
        Of a run under a systematic variation, the run whose model and methods it uses.
    """

    folder: Path
    dataset: DatasetCard
    card: ModelCard
    nominal: Run | None = field(default=None, repr=False)

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
        if problem := card.incompatibility(tuple(dataset.labels), tuple(dataset.targets)):
            raise RunError(problem)
        if isinstance(card, PythonCard) and dataset.split.fold == ALL_FOLDS:
            raise RunError(
                "all folds need a training for each, and this model is trained already: leave split.fold: "
                "all (--folds) out"
            )
        run = Run._of(Path(folder), dataset, card)
        run.__dict__.update(given)  # where cached_property keeps them
        return run._begun()

    def _begun(self) -> Self:
        """Return the same run, with its cards in the folder."""
        texts = self._card_texts()
        if self.manifest.exists():
            self.manifest.verify()
            if not holds_only(self.folder, {}, [MANIFEST, *texts]):  # more than the cards of a refused run
                self._same_cards(texts)
                return self
        elif not holds_only(self.folder, texts, [MANIFEST]):
            raise RunError(
                f"{self.folder} exists and is no hepxai run; choose another folder or empty this one"
            )
        for name, text in texts.items():
            write_text(self.folder / name, text)
        self.manifest.record(*texts)
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
        folder = Path(folder)
        manifest = Manifest(folder)
        if not manifest.exists():
            raise RunError(f"{folder} is no run folder; make one with `hepxai run`")
        manifest.verify()
        dataset = load_card(folder / "dataset.yaml", DatasetCard)
        run = Run._of(folder, dataset, load_card(folder / "model.yaml", card_class(folder)))
        return run if model is None else run._with_model(model)

    @staticmethod
    def _of(folder: Path, dataset: DatasetCard, card: ModelCard) -> Run:
        """Run of the kind that the cards ask for: of one training, or of several."""
        kinds = [kind for kind in Run.__subclasses__() if kind.fits(dataset, card)]
        chosen: type[Run] = (*kinds, Run)[0]
        return chosen(folder, dataset, card)

    @classmethod
    def fits(cls, dataset: DatasetCard, card: ModelCard) -> bool:
        """True if the cards ask for a run of this kind."""
        return True

    def _with_model(self, source: object) -> Run:
        """Return the same run with the model of the user, which must be the one that it was made with."""
        if not isinstance(self.card, PythonCard):
            raise RunError(f"{self.folder} holds its own model, of kind {self.card.kind}; leave --model out")
        model, card = make_model(source, self.events.schema)
        Run(self.folder, self.dataset, card)._same_cards({"model.yaml": dump_card(card)})
        self.__dict__["model"] = model
        check_same_scores(model, self.events, self.card, self.scores)
        return self

    def single(self) -> Run:
        """Return this run, of one network; one of several is refused, with the names of its members."""
        return self

    # --- steps -------------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """Finished files and their hashes."""
        return Manifest(self.folder)

    @property
    def populations(self) -> Populations:
        """Explanations by population; one at a time is that of the report."""
        return Populations(self.folder)

    @cached_property
    def reading(self) -> Reading:
        """Events, cut flow and input files; the inputs must still be those of the training."""
        return self._checked(read(self.dataset, progress=True))

    def on(self, reading: Reading) -> Self:
        """Return the same run on inputs that were read already, for example by another run."""
        run = replace(self)
        run.__dict__["reading"] = run._checked(reading)  # where cached_property keeps it
        return run

    def _checked(self, reading: Reading) -> Reading:
        inputs = self.provenance()["inputs"] if "provenance.json" in self.manifest.names() else None
        if inputs is not None and (changed := reading.changed_since(inputs)):
            raise RunError(f"{changed} since this run was trained; start a new run")
        return reading

    @property
    def events(self) -> Events:
        """All selected events."""
        return self.reading.events

    @cached_property
    def model(self) -> Any:
        """The trained model, of the kind of its card."""
        if self.nominal is not None:
            return self.nominal.model
        if isinstance(self.card, PythonCard):
            raise model_is_needed(self.card, self.folder)
        return load_model(self._finished("model.safetensors", "train"))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the model."""
        card = self.card
        return card.outputs if isinstance(card, PythonCard) else tuple(self.model.outputs)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Logits of all events, ``[E, O]``; the events must still be those that were scored."""
        stored = read_tensors(self._finished(SCORES, "train"))[0]
        for column in IDENTITY:
            if not np.array_equal(stored[column], getattr(self.events, column)):
                raise RunError(
                    f"the {column} of the events is not that of the events scored in {self.folder}: another "
                    "version of hepxai reads them differently; start a new run"
                )
        return stored["logits"]

    @property
    def score_spread(self) -> NDArray[np.float64] | None:
        """Standard deviation of the logits of several trainings, ``[E, O]``; None for a single one."""
        return None

    @property
    def predictions(self) -> dict[str, NDArray[np.float64]]:
        """Prediction of each target of a regression, ``[E]``; empty for a classifier."""
        names = self.events.schema.targets if self.card.training.regression else ()
        return dict(zip(names, self.scores.T, strict=False))

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
                self._same_cards(self._card_texts())  # another process may have begun with others
                self._train(device=device, progress=progress, after_epoch=after_epoch, workers=workers)
            elif isinstance(self.card, PythonCard):
                check_same_scores(self.model, self.events, self.card, self.scores)

    def _train(self, **options: Any) -> None:
        write_json(self.folder / "provenance.json", self._provenance())
        logits, history, files = self._fitted(**options)
        stored = {c: getattr(self.events, c) for c in IDENTITY} | {"logits": logits.mean(axis=0)}
        stored |= {"trainings": logits} if len(logits) > 1 else {}
        write_tensors(self.folder / SCORES, stored, {})
        write_json(self.folder / "history.json", history)
        figures = self._figures_of_merit(logits)
        write_json(self.folder / "metrics.json", {s: as_json(m) for s, m in figures.items()})
        self.manifest.record("provenance.json", *files, SCORES, "history.json", "metrics.json")

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
        """
        chosen = validated_settings(methods, settings or {}, self.card.view, split=split, maximum=maximum)
        rows = self.populations.choose(self.events, split, maximum)
        for method, method_settings in chosen.items():
            if methods is None and not is_default_for(method, self.model):
                continue
            try:
                with self.manifest.locked():
                    for name, target in self._targets(method, targets).items():
                        self._explain_one(name, method, target, rows, method_settings)
            except (CannotExplainError, ImportError) as problem:
                if methods is not None:
                    raise
                warnings.warn(f"{method} is left out: {problem}", stacklevel=2)
        return self.explained()

    def explained(self) -> dict[str, Attribution]:
        """All explanations of this run, by method; see `hepxai.run.targets.targets_by_name`.

        They carry those under the variations that `vary` has done.
        """
        return self._with_variations(self.maps())

    def maps(self) -> dict[str, Attribution]:
        """As `explained`, without variations."""
        rows = self.populations.rows()
        if rows is None:
            return {}
        population, files = self.events[rows], sorted(self.populations.stored().items())
        return {name: Attribution.load(f, population) for name, f in files if name != POPULATION}

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
        options: dict[str, Any] = {"predictions": self.predictions}
        if not self.predictions:
            options = {"scores": self.scores, "score_spread": self.score_spread}
        elif self.score_spread is not None:
            spreads = zip(self.predictions, self.score_spread.T, strict=True)
            options["predictions"] |= {f"{target}_training": spread for target, spread in spreads}
        return write_friends(self.folder / "friends", self.events, maps, **options, overwrite=True)

    def history(self) -> History:
        """Figures of every epoch of the training."""
        history: History = read_json(self._finished("history.json", "train"))
        return history

    def histories(self) -> dict[str, History]:
        """History of each training of the run, by its name; "" for a single one."""
        return {"": self.history()}

    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """``split → figure of merit → {value, error}``, with ``syst`` where `vary` was done."""
        metrics: dict[str, dict[str, dict[str, float]]] = read_json(self._finished("metrics.json", "train"))
        varied = {source: [r.metrics() for r in runs] for source, runs in self.sources().items()}
        return with_systematic_entries(metrics, varied) if varied else metrics

    def cards(self) -> dict[str, str]:
        """Name and YAML text of both cards, which fully determine the run."""
        return {name: (self.folder / name).read_text(encoding="utf-8") for name in CARDS}

    def provenance(self) -> dict[str, Any]:
        """Versions, inputs with their hashes, seeds and split."""
        provenance: dict[str, Any] = json.loads(self._finished("provenance.json", "train").read_text())
        return provenance

    # --- systematic variations ---------------------------------------------------------------

    @cached_property
    def variations(self) -> dict[str, Run]:
        """Runs of the same model on the events under each variation of the card, by name."""
        names = self.dataset.variation_names if self.dataset.variation is None else ()
        kind, folder = type(self), self.folder / VARIATIONS
        runs = {n: kind(folder / n, self.dataset.varied(n), self.card, nominal=self) for n in names}
        for run in runs.values():
            run.manifest.verify()
        return runs

    def scored_variations(self) -> dict[str, Run]:
        """Those of the `variations` that `vary` has done."""
        return {n: run for n, run in self.variations.items() if "metrics.json" in run.manifest.names()}

    def sources(self) -> dict[str, list[Run]]:
        """Sources of uncertainty whose alternatives are all done, and these."""
        done = self.scored_variations()
        sources = self.dataset.variation_sources if done else {}
        return {source: [done[n] for n in names] for source, names in sources.items() if {*names} <= {*done}}

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
        for name in self._chosen_variations(names):
            run = self.variations[name]._begun()
            run.train()
            run._explain_as(self)

    def _chosen_variations(self, names: Sequence[str] | None) -> Sequence[str]:
        if not self.variations:
            shift = self.dataset.variation
            why = f"is itself under {shift}" if shift else "has no variations"
            raise RunError(
                f"{self.folder}: the data-set card {why}; start a run with a card that declares sources "
                "under variations:, see docs/systematics.md"
            )
        for name in names or ():
            if problem := unknown_variation(name, self.variations):
                raise RunError(f"{self.folder}: {problem}")
        return tuple(names or self.variations)

    def _varied_scores(self, nominal: Run) -> NDArray[np.float64]:
        if changes_weights_alone(nominal.events, self.events):
            return nominal.scores
        if isinstance(self.card, PythonCard):
            return run_scores(nominal.model, self.events, self.card)
        scores: NDArray[np.float64] = nominal.model.logits(self.events)
        return scores

    def _prepared_for_variations(self, key: str, explainer: Explainer, target: str) -> Prepared:
        """Explainer prepared on the nominal events, once for all variations."""
        every: dict[str, Prepared] = self.__dict__.setdefault("prepared", {})
        if key not in every:
            every[key] = explainer.prepare(self.model, self.events, target)
        return every[key]

    def _explain_as(self, nominal: Run) -> None:
        """Explain the events that the nominal run explains, with its methods."""
        if (explained := nominal.populations.rows()) is None:
            return
        rows = varied_rows(nominal.events, explained, self.events)
        with self.manifest.locked():
            for key, one in nominal.maps().items():
                self._explain_one(key, one.method, one.target, rows, requested_settings(one))

    def _with_variations(self, maps: Mapping[str, Attribution]) -> dict[str, Attribution]:
        """Maps that carry those under the variations; all sources, or with a warning none."""
        every = {source: [(run, run.maps()) for run in runs] for source, runs in self.sources().items()}
        if not every:
            return dict(maps)
        carried = {}
        for key, one in maps.items():
            lacking = [
                run.dataset.variation
                for several in every.values()
                for run, varied in several
                if key not in varied or not same_population(self.events, one, run.events, varied[key])
            ]
            if lacking:
                warnings.warn(
                    f"{key} has no systematic error: {', '.join(map(str, lacking))} explained it for other "
                    f"events, or not at all; `hepxai vary {self.folder}` completes it",
                    stacklevel=3,
                )
                carried[key] = one
            else:
                varied = {s: tuple(of[key] for _, of in several) for s, several in every.items()}
                carried[key] = one.replace(varied=varied)
        return carried

    # --- explaining --------------------------------------------------------------------------

    def _targets(self, method: str, targets: Sequence[str] | None) -> dict[str, str]:
        schema, regression = self.events.schema, self.card.training.regression
        return targets_by_name(method, self.model, schema, targets, regression=regression)

    def _explain_one(
        self, key: str, method: str, target: str, rows: NDArray[np.int64], settings: dict[str, Any]
    ) -> None:
        """Explain one output, and keep the result under a key."""
        name, population = (f"{EXPLAINED}/{n}.safetensors" for n in (key, POPULATION))
        fields = EXPLAINERS[method].model_fields
        always = {"folder": str((self.nominal or self).folder / key)} if "folder" in fields else {}
        explainer = for_run(method, self.model, always | settings | {"progress": True})
        if self.populations.holds(key, rows):
            self.populations.switch(self.events, rows)
            if key in self.populations.stored():
                self._same_settings(key, settings, target)
                return
        prepared = self._prepared(key, explainer, settings, target)
        prepared.announce(self.events[rows])
        shards = self.folder / "shards" / f"{key}-{self._key(prepared, rows)}"
        size = SHARD // 8 if self.card.view == "image" else SHARD  # an image takes as long as many particles
        result = prepared.checked(explain_in_shards(prepared, self.events[rows], folder=shards, size=size))
        prepared.refuse_broken(result)
        self.populations.switch(self.events, rows)  # last, so that a method that fails costs nothing
        result.save(self.folder / name)
        write_tensors(self.folder / population, {"rows": rows}, {})
        self.manifest.record(population, name)
        for old in (self.folder / "shards").glob(f"{key}-*"):
            shutil.rmtree(old)

    def _prepared(self, key: str, explainer: Explainer, settings: Mapping[str, Any], target: str) -> Prepared:
        """Explainer prepared on all events of the run. Steps of an integral are chosen once, and stored.

        Under a variation it is that of the nominal events, with their baseline, surrogate and steps.
        """
        if self.nominal is not None:
            return self.nominal._prepared_for_variations(key, explainer, target)
        request = f"{key} {json.dumps(settings, sort_keys=True, default=str)}"
        stored = read_json(self.folder / STEPS) if STEPS in self.manifest.names() else {}
        if request in stored:
            explainer = explainer.model_copy(update={"steps": stored[request]})
        prepared = explainer.prepare(self.model, self.events, target)
        if isinstance(prepared, PreparedPath) and request not in stored:
            write_json(self.folder / STEPS, stored | {request: prepared.settings()["steps"]})
            self.manifest.record(STEPS)
        return prepared

    def _key(self, prepared: Prepared, rows: NDArray[np.int64]) -> str:
        """Hash of all that an explanation depends on: shards of other settings have other names."""
        names = self.manifest.names()
        model_hash = names.get("model.safetensors", names[SCORES])  # the latter of own Python
        settings = json.dumps(prepared.settings(), sort_keys=True)
        return fingerprint([prepared.explainer.name, settings, model_hash, version("hepxai")], rows)[:16]

    def _same_settings(self, method: str, settings: Mapping[str, Any], target: str) -> None:
        attribution = self.maps()[method]
        stored = attribution.settings
        if attribution.target != target:
            file = self.populations.stored()[method]
            raise RunError(f"{file} explains {attribution.target}, not {target}; remove it to do it anew")
        for key, value in settings.items():
            if stored.get(key) != value:
                file = self.populations.stored()[method]
                raise RunError(
                    f"{method} was done with {key}={stored.get(key)!r} in this run, not {value!r}; "
                    f"start another run to compare, or remove {file} to do it anew"
                )
        done = ", ".join(f"{k}={v}" for k, v in stored.items())
        say(f"{method}: done already{' with ' if done else ''}{shorten(done, 200)}, kept")

    # --- bookkeeping -------------------------------------------------------------------------

    def _provenance(self) -> dict[str, Any]:
        events = self.events
        return {
            "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "seed": None if isinstance(self.card, PythonCard) else self._seed(),
            "inputs": self.reading.inputs(),
            "split": {s: int((events.split == i).sum()) for i, s in enumerate(SPLITS)},
            "cards": {n: sha256(self.folder / n) for n in CARDS},
        }

    def _seed(self) -> Any:
        return self.card.training.seed

    def _finished(self, name: str, step: str) -> Path:
        if name not in self.manifest.names():
            raise RunError(f"{self.folder} has no {name} yet; run `hepxai {step}` first")
        return self.folder / name

    def _card_texts(self) -> dict[str, str]:
        return {"dataset.yaml": dump_card(self.dataset), "model.yaml": dump_card(self.card)}

    def _same_cards(self, texts: Mapping[str, str]) -> None:
        kinds: dict[str, type[Card]] = {"dataset.yaml": DatasetCard, "model.yaml": card_class(self.folder)}
        for name, text in texts.items():
            # Loaded, so that a card written before a key was there is one with its default.
            card = load_card(self.folder / name, kinds[name])
            stored = dump_card(card)
            if isinstance(card, PythonCard):
                text = dump_card(check_same_file(self.card, card, self.folder))
            if stored != text:
                lines = zip(stored.splitlines(), text.splitlines(), strict=False)
                old, new = next(((a, b) for a, b in lines if a != b), ("less", "more"))
                text = f"{self.folder} holds a run with another {name}"
                raise RunError(f"{text} (there {old.strip()}, here {new.strip()}); choose another folder")
