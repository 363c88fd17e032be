"""Calculations of the page, each in a process of its own; see `hepxai.app.jobs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepxai.app.examples import train
from hepxai.app.limits import EVENTS
from hepxai.app.sources import ModelFile, Source, UploadSource, schema_of
from hepxai.attribution import Attribution
from hepxai.core.chunks import evenly_spread
from hepxai.events import Events, Schema
from hepxai.explainers import EXPLAINERS, explain, guards
from hepxai.models.ensemble import Ensemble
from hepxai.models.protocols import ChecksEvents
from hepxai.models.wrappers.onnx_file import input_shapes
from hepxai.run.targets import default_targets
from hepxai.studies.detection.numbers import BoxMaps, explain_boxes

LAYERS = {"graph": "edge_layers", "image": "feature_layers"}
"""Names of the layers that a ``layer`` setting may name, by view."""


SPREAD = "from hepxai.core.chunks import evenly_spread"
"""Python line that the downloaded lines need."""


@dataclass(frozen=True)
class Study:
    """A source that was opened: all that the pages need but the model.

    Attributes
    ----------
    source : Source
    key : str
        Hash of the model.
    events : Events
    total : int
        Events of the source, from which ``events`` are evenly spread.
    scores : ndarray, shape [E, O]
    view : str
    outputs, targets, methods, layers : tuple of str
        Outputs of the model, what can be explained, with which methods, and names for their ``layer``.
    detects : bool
        True if the model finds boxes.
    """

    source: Source
    key: str
    events: Events
    total: int
    scores: NDArray[np.float64]
    view: str
    outputs: tuple[str, ...]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    layers: tuple[str, ...] = ()
    detects: bool = False

    def lines(self) -> list[str]:
        """Python that opens the same model and events."""
        spread = f"events = events[evenly_spread({self.total}, {len(self.events)})]"
        some = [SPREAD, spread] if self.total > len(self.events) else []
        return ["import hepxai", *self.source.lines(), *some]


def open_study(source: Source) -> Study:
    """Open a source, score its events and list the methods that apply.

    Raises
    ------
    ValueError
        If files are damaged or do not fit each other, with the remedy.
    """
    model, everything = source.open()
    total = len(everything)
    events = everything[evenly_spread(total, EVENTS)] if total > EVENTS else everything
    one = model.models[0] if isinstance(model, Ensemble) else model
    detects = hasattr(one, "detect")
    if isinstance(one, ChecksEvents):
        one.check(events)
    scores = np.zeros((len(events), 0)) if detects else _checked_scores(model, one, events)
    outputs = tuple(model.outputs)
    targets = (
        [] if detects else [*default_targets(outputs, events.schema, _regression(one, events)), *outputs]
    )
    view = "graph" if one.view == "padded" else one.view
    probe = one if not detects else _box_probe(one, events)
    names = tuple(getattr(one, LAYERS.get(view, ""), ()))
    return Study(
        source,
        source.key(),
        events,
        total,
        scores,
        view,
        outputs,
        tuple(dict.fromkeys(targets)),
        tuple(
            n for n, e in EXPLAINERS.items() if e.reads == view and probe is not None and e.works_on(probe)
        ),
        names,
        detects,
    )


def trained_schema(file: ModelFile) -> Schema | None:
    """Schema of the training events of an uploaded run."""
    return schema_of(file.load(None))


class ModelInputs(NamedTuple):
    """What an ONNX model will receive, and what its file takes.

    Attributes
    ----------
    what : str
        Kind of ``names``.
    names : tuple of str
        In the order in which the model receives them.
    tensors : mapping of str to str
        Type and shape of each input of the file.
    problem : str
        Sentence with the remedy where they do not fit; else empty.
    """

    what: str
    names: tuple[str, ...]
    tensors: Mapping[str, str]
    problem: str


def model_inputs(source: UploadSource) -> ModelInputs:
    """Inputs of an ONNX model and of its file, before any event is scored."""
    schema, options, problem = source.events.read(None).schema, source.file.options, ""
    what, names = {
        "table": ("columns", schema.globals),
        "padded": ("features", schema.features),
        "image": ("channels", schema.image.types if schema.image is not None else ()),
    }[options["view"]]
    try:
        source.file.load(schema)
    except ValueError as error:
        problem = (
            f"{error}. Choose above what the model reads, or give the events the {what} of the training, in "
            "their order"
        )
    return ModelInputs(what, tuple(names), input_shapes(source.file.path), problem)


def _checked_scores(model: Any, one: Any, events: Events) -> NDArray[np.float64]:
    guards.check_scores(one, events)
    scores = np.asarray(model.logits(events), dtype=np.float64)
    if bad := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise ValueError(
            f"{bad} of {len(events)} scores are NaN or infinite; look for extreme inputs with `hepxai check`"
        )
    return scores


def _regression(model: Any, events: Events) -> bool:
    return bool(events.schema.targets) and set(model.outputs) <= set(events.schema.targets)


def _box_probe(detector: Any, events: Events) -> Any:
    """Model of one found box, which has the abilities of all; None without any box."""
    boxes = detector.detect(events[:50], score=0.05)
    return detector.box_model(boxes, 0) if len(boxes) else None


def explain_events(
    source: Source,
    population: Events,
    rows: Events,
    method: str,
    target: str | None,
    settings: dict[str, Any],
) -> Attribution:
    """Explain some events with a method that is prepared on a population."""
    model = source.model(population.schema)
    silence = {"progress": True}
    return explain(model, rows, method, target=target, population=population, **settings, **silence)


def score_events(source: Source, events: Events) -> NDArray[np.float64]:
    """Outputs of events, ``[E, O]``."""
    return np.asarray(source.model(events.schema).logits(events), dtype=np.float64)


def explain_image(
    source: Source, events: Events, method: str, score: float, settings: dict[str, Any]
) -> BoxMaps:
    """One map for each box that a detector finds."""
    return explain_boxes(source.model(events.schema), events, method, score=score, progress=True, **settings)


def train_example(name: str, folder: str) -> str:
    """Train a shipped example, resuming in its folder."""
    return str(train(name, folder))
