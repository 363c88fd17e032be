"""Explanations of one model, made one by one and stored in the folder of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

from hepxai.attribution import Attribution
from hepxai.core.console import say
from hepxai.core.files import read_json, write_json, write_tensors
from hepxai.core.fingerprint import fingerprint
from hepxai.core.jagged import IntArray
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, Explainer, Prepared
from hepxai.explainers.methods import for_run
from hepxai.explainers.path import PreparedPath
from hepxai.run.manifest import EXPLAINED, POPULATION, Manifest, RunError
from hepxai.run.populations import Populations
from hepxai.run.scores import SCORES
from hepxai.run.shards import explain_in_shards
from hepxai.run.varied import requested_settings

SHARD = 1024
"""Events between two saves of an explanation."""
STEPS = "steps.json"
"""Steps of path integrals, by method and requested settings: the same for any part of the events."""


@dataclass(frozen=True)
class MapMaker:
    """Explains outputs of the model of a run, and stores each map.

    Attributes
    ----------
    folder : Path
        Run folder.
    model : Model
    events : Events
        All events of the run.
    nominal : MapMaker, optional
        Under a systematic variation, that of the nominal events, whose baselines, surrogates and steps of
        integrals it uses.
    """

    folder: Path
    model: Any
    events: Events
    nominal: MapMaker | None = None
    _for_variations: dict[str, Prepared] = field(default_factory=dict, init=False, repr=False)

    def make(self, key: str, method: str, target: str, rows: IntArray, settings: Mapping[str, Any]) -> None:
        """Explain one output for the events in ``rows``, and store the map under a key.

        Raises
        ------
        RunError
            If the run holds a map under this key, of another target or with other settings.
        """
        populations = Populations(self.folder)
        explainer = for_run(method, self.model, {**self._always(key, method), **settings, "progress": True})
        if populations.holds(key, rows):
            populations.switch(self.events, rows)
            if file := populations.stored().get(key):
                _check_same(key, Attribution.load(file, self.events[rows]), file, settings, target)
                return
        result = self._explained(key, self._prepared(key, explainer, settings, target), rows)
        populations.switch(self.events, rows)  # last, so that a method that fails costs nothing
        self._store(key, result, rows)

    def take(self, key: str, nominal: Attribution, rows: IntArray) -> None:
        """Store the map of the nominal events, of which only the weights differ from those in ``rows``."""
        populations = Populations(self.folder)
        done = populations.holds(key, rows)
        populations.switch(self.events, rows)
        if not done:
            self._store(key, nominal.replace(events=self.events[rows]), rows)

    def prepared(self, key: str, stored: Attribution) -> Prepared:
        """Explainer of a stored map, prepared on all events of the run as it was then."""
        settings = {**self._always(key, stored.method), **requested_settings(stored)}
        return for_run(stored.method, self.model, settings).prepare(self.model, self.events, stored.target)

    def _always(self, key: str, method: str) -> dict[str, str]:
        """Settings that the run decides."""
        folder = (self.nominal or self).folder / key
        return {"folder": str(folder)} if "folder" in EXPLAINERS[method].model_fields else {}

    def _explained(self, key: str, prepared: Prepared, rows: IntArray) -> Attribution:
        events = self.events[rows]
        prepared.announce(events)
        shards = self.folder / "shards" / f"{key}-{self._hash(prepared, rows)}"
        size = SHARD // 8 if self.model.view == "image" else SHARD  # an image takes as long as many particles
        result = prepared.checked(explain_in_shards(prepared, events, folder=shards, size=size))
        prepared.refuse_broken(result)
        return result

    def _store(self, key: str, result: Attribution, rows: IntArray) -> None:
        name, population = (f"{EXPLAINED}/{n}.safetensors" for n in (key, POPULATION))
        result.save(self.folder / name)
        write_tensors(self.folder / population, {"rows": rows}, {})
        Manifest(self.folder).record(population, name)
        for old in (self.folder / "shards").glob(f"{key}-*"):
            shutil.rmtree(old)

    def _prepared(self, key: str, explainer: Explainer, settings: Mapping[str, Any], target: str) -> Prepared:
        """Explainer prepared on all nominal events. Steps of an integral are chosen once, and stored."""
        if self.nominal is not None:
            return self.nominal._prepared_for_variations(_request(key, settings), explainer, target)
        manifest, request = Manifest(self.folder), _request(key, settings)
        stored = read_json(self.folder / STEPS) if STEPS in manifest.names() else {}
        if request in stored:
            explainer = explainer.model_copy(update={"steps": stored[request]})
        prepared = explainer.prepare(self.model, self.events, target)
        if isinstance(prepared, PreparedPath) and request not in stored:
            write_json(self.folder / STEPS, stored | {request: prepared.settings()["steps"]})
            manifest.record(STEPS)
        return prepared

    def _prepared_for_variations(self, request: str, explainer: Explainer, target: str) -> Prepared:
        """Explainer prepared once for all variations."""
        if request not in self._for_variations:
            self._for_variations[request] = explainer.prepare(self.model, self.events, target)
        return self._for_variations[request]

    def _hash(self, prepared: Prepared, rows: IntArray) -> str:
        """Hash of all that an explanation depends on: shards of other settings have other names."""
        names = Manifest(self.folder).names()
        model_hash = names.get("model.safetensors", names[SCORES])  # the latter of own Python
        settings = json.dumps(prepared.settings(), sort_keys=True)
        return fingerprint([prepared.explainer.name, settings, model_hash, version("hepxai")], rows)[:16]


def _request(key: str, settings: Mapping[str, Any]) -> str:
    """Name of a map and the requested settings, as text."""
    return f"{key} {json.dumps(settings, sort_keys=True, default=str)}"


def _check_same(
    key: str, attribution: Attribution, file: Path, settings: Mapping[str, Any], target: str
) -> None:
    """Refuse a stored map of another target or with other settings."""
    if attribution.target != target:
        raise RunError(f"{file} explains {attribution.target}, not {target}; remove it to do it anew")
    stored = attribution.settings
    for name, value in settings.items():
        if stored.get(name) != value:
            raise RunError(
                f"{key} was done with {name}={stored.get(name)!r} in this run, not {value!r}; "
                f"start another run to compare, or remove {file} to do it anew"
            )
    done = ", ".join(f"{k}={v}" for k, v in stored.items())
    say(f"{key}: done already{' with ' if done else ''}{shorten(done, 200)}, kept")
