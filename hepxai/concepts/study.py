"""Concepts of a layer in one folder: number, directions, importance, TCAV scores, table and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hepxai.concepts.choice import ConceptChoice, choose_concepts
from hepxai.concepts.figures import choice_curve, tcav_bars, typical_events
from hepxai.concepts.ice import ice
from hepxai.concepts.layers import layer_of
from hepxai.concepts.result import Concepts, Importance
from hepxai.concepts.sensitivity import TcavScores
from hepxai.concepts.tcav import tcav
from hepxai.core.chunks import evenly_spread
from hepxai.core.files import read_json, read_tensors, replacing, write_json, write_text
from hepxai.core.fingerprint import fingerprint
from hepxai.events import Events
from hepxai.models.protocols import HasLayerCut
from hepxai.models.target import decides_classes
from hepxai.plots.style import DPI

KEY = "key"


@dataclass(frozen=True)
class ConceptStudy:
    """Concepts of a model, written to a folder; what is there already for the same request is read.

    Attributes
    ----------
    model : HasLayerCut
    train, test : Events
        Events to factorise, and events for everything else.
    folder : Path
    layer : str, optional
        The last one by default.
    concepts : int, optional
        Number of concepts; chosen among several by default.
    maximum : int
        Events of each split that are used, evenly spread.
    seed : int
    """

    model: HasLayerCut
    train: Events
    test: Events
    folder: Path
    layer: str | None = None
    concepts: int | None = None
    maximum: int = 1000
    seed: int = 0

    def run(self) -> Iterator[str]:
        """Compute what is missing, write files and figures; yields lines of the result."""
        layer = layer_of(self.model, self.layer)
        train, test = (e[evenly_spread(len(e), self.maximum)] for e in (self.train, self.test))
        request: dict[str, Any] = {"test": test, "layer": layer}
        key = fingerprint({"layer": layer, "seed": self.seed}, self.model, train, test)
        number = self.concepts
        if number is None:
            unfinished = self.folder / f"choice_{key[:8]}.unfinished"
            choice = ConceptChoice.from_json(
                self._stored(
                    "choice.json",
                    key,
                    lambda: choose_concepts(
                        self.model, train, progress=True, unfinished=unfinished, **request
                    ).to_json(),
                )
            )
            self._draw("choice", choice_curve(choice))
            number = choice.number
            yield choice.reason
        found = self._concepts(train, number, key, request)
        decisions = (
            f", equal decisions {found.fidelity['decisions']} (a constant one: "
            f"{found.fidelity['constant_decisions']})"
            if "decisions" in found.fidelity
            else ""
        )
        yield f"layer {layer}: relative error {found.reconstruction}{decisions}, on {len(test)} test events"
        self._draw("typical_events", typical_events(found, test))
        classes = self._classes(test)
        scores = TcavScores.from_json(
            self._stored(
                "tcav.json",
                fingerprint([key, number]),
                lambda: tcav(
                    self.model, found, test, classes=classes, seed=self.seed, progress=True
                ).to_json(),
            )
        )
        for statistic in ("score", "derivative"):
            self._draw(f"tcav_{statistic}", tcav_bars(scores, statistic=statistic))
        importance = found.importance(test, classes)
        write_text(self.folder / "concepts.csv", table(found, scores, importance, found.mean_scores(test)))
        yield from strongest(scores)
        yield f"written: {self.folder}"

    def _concepts(self, train: Events, number: int, key: str, request: Mapping[str, Any]) -> Concepts:
        path, key = self.folder / "concepts.safetensors", fingerprint([key, number])
        if path.is_file() and _key_of(path) == key:
            return Concepts.load(path, self.model)
        found = ice(self.model, train, concepts=number, seed=self.seed, progress=True, **request)
        settings = {**found.settings, KEY: key}
        found = Concepts(
            found.model, found.layer, found.directions, found.reconstruction, found.fidelity, settings
        )
        found.save(path)
        return found

    def _stored(self, name: str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """JSON values in a file, computed if they are not there or of another request."""
        path = self.folder / name
        stored: dict[str, Any] = read_json(path) if path.is_file() else {}
        if stored.get(KEY) != key:
            write_json(path, compute() | {KEY: key})
            stored = read_json(path)
        return stored

    def _classes(self, events: Events) -> list[str] | None:
        """Classes that occur; None for all outputs."""
        known, outputs = np.asarray(events.schema.classes), self.model.outputs
        if not decides_classes(outputs, events.schema):
            return None
        present = [str(name) for name in known[np.unique(events.label)]]
        return [name for name in present if name in outputs or len(outputs) == 1]

    def _draw(self, name: str, figure: Figure) -> None:
        with replacing(self.folder / f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=DPI)


def _key_of(path: Path) -> str | None:
    """Key of the request that a file of concepts is the answer to."""
    stored = json.loads(read_tensors(path)[1].get("concepts", "{}"))
    key: str | None = stored.get("settings", {}).get(KEY)
    return key


def table(concepts: Concepts, scores: TcavScores, importance: Importance, means: np.ndarray[Any, Any]) -> str:
    """CSV of every concept and class: mean score, importance, TCAV score, derivative, p-values, note."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["concept", "class", "target", "mean_score", "importance", "importance_error"]
        + [
            f"{s}{end}"
            for s in ("tcav", "derivative")
            for end in ("", "_error", "_low", "_high", "_p", "_p_corrected")
        ]
        + ["note"]
    )
    for k, concept in enumerate(scores.concepts):
        for t, name in enumerate(scores.classes):
            numbers = [means[:, k].mean(), importance.change.value[k, t], importance.change.error[k, t]]
            for c in (scores.score, scores.derivative):
                numbers += [
                    c.value[k, t],
                    c.error[k, t],
                    *c.band[:, k, t],
                    c.p_value[k, t],
                    c.corrected[k, t],
                ]
            writer.writerow(
                [concept, name, scores.targets[t], *(f"{x:.6g}" for x in numbers), scores.note((k, t))]
            )
    return text.getvalue()


def strongest(scores: TcavScores) -> Iterator[str]:
    """One line per class: its significant concepts, with the mean derivatives that tell."""
    for t, name in enumerate(scores.classes):
        rows = np.flatnonzero(scores.significant()[:, t])
        rows = rows[np.argsort(scores.derivative.corrected[rows, t], kind="stable")]
        parts = [f"{scores.concepts[k]} ({scores.derivative.estimate.at((int(k), t))})" for k in rows]
        none = scores.note((0, t)) if scores.independent[t] else "no concept differs from random directions"
        yield f"{name}: {', '.join(parts) or none}"
