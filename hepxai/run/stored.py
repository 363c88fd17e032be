"""Content of a run folder: cards, inputs, model, scores, figures of merit and explanations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.files import read_json
from hepxai.datasets import DatasetCard, Reading, read
from hepxai.events import Events
from hepxai.models.card import ModelCard
from hepxai.models.storage import load_model
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run.cards import CARDS
from hepxai.run.manifest import POPULATION, VARIATIONS, Manifest, RunError
from hepxai.run.populations import Populations
from hepxai.run.provenance import PROVENANCE
from hepxai.run.scores import SCORES, read_scores
from hepxai.run.user_models import model_is_needed
from hepxai.run.varied import same_shift, with_systematic_entries, with_varied_maps
from hepxai.training import History


@dataclass(frozen=True)
class StoredRun:
    """Content of a run folder, and its inputs.

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
    nominal: Self | None = field(default=None, repr=False)

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
        inputs = self.provenance()["inputs"] if PROVENANCE in self.manifest.names() else None
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
        return read_scores(self._finished(SCORES, "train"), self.events)

    @property
    def score_spread(self) -> NDArray[np.float64] | None:
        """Standard deviation of the logits of several trainings, ``[E, O]``; None for a single one."""
        return None

    @property
    def predictions(self) -> dict[str, NDArray[np.float64]]:
        """Prediction of each target of a regression, ``[E]``; empty for a classifier."""
        names = self.events.schema.targets if self.card.training.regression else ()
        return dict(zip(names, self.scores.T, strict=False))

    def explained(self) -> dict[str, Attribution]:
        """All explanations of this run, by method; see `hepxai.run.targets.targets_by_name`.

        They carry those under the variations that `vary` has done.
        """
        return with_varied_maps(self, self.maps(), self.sources())

    def maps(self) -> dict[str, Attribution]:
        """As `explained`, without variations."""
        rows = self.populations.rows()
        if rows is None:
            return {}
        population, files = self.events[rows], sorted(self.populations.stored().items())
        return {name: Attribution.load(f, population) for name, f in files if name != POPULATION}

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
        stored: dict[str, Any] = json.loads(self._finished(PROVENANCE, "train").read_text())
        return stored

    @property
    def variations(self) -> dict[str, Self]:
        """Runs of the same model on the events under each variation of the card, by name."""
        names = self.dataset.variation_names if self.dataset.variation is None else ()
        return {name: self.variation(name) for name in names}

    def variation(self, name: str) -> Self:
        """Run under one variation; others, which another process may write, are not looked at."""
        if name not in self._opened:
            folder = self.folder / VARIATIONS / name
            run = type(self)(folder, self.dataset.varied(name), self.card, nominal=self)
            run.manifest.verify()
            self._opened[name] = run
        return self._opened[name]

    @cached_property
    def _opened(self) -> dict[str, Self]:
        return {}

    def scored_variations(self) -> dict[str, Self]:
        """Those of the `variations` that `vary` has done."""
        done = {n: run for n, run in self.variations.items() if "metrics.json" in run.manifest.names()}
        return {name: run for name, run in done.items() if same_shift(run.folder, run.dataset)}

    def sources(self) -> dict[str, list[Self]]:
        """Sources of uncertainty whose alternatives are all done, and these."""
        done = self.scored_variations()
        sources = self.dataset.variation_sources if done else {}
        return {source: [done[n] for n in names] for source, names in sources.items() if {*names} <= {*done}}

    def _finished(self, name: str, step: str) -> Path:
        if name not in self.manifest.names():
            raise RunError(f"{self.folder} has no {name} yet; run `hepxai {step}` first")
        return self.folder / name
