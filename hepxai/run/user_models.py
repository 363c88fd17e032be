"""Models of users in a run: their Python is executed only where the user names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hepxai.core.chunks import evenly_spread
from hepxai.core.files import sha256
from hepxai.core.user_code import UserCodeError, modules_beside, run_user_file, user_errors
from hepxai.events import Events, Schema
from hepxai.explainers import guards
from hepxai.models.card import ModelCard
from hepxai.models.protocols import ChecksEvents, Model
from hepxai.models.schemas import checked_outputs
from hepxai.models.wrappers.advice import wrapping_advice
from hepxai.models.wrappers.python_card import KIND, PythonCard, settings_of
from hepxai.run.manifest import RunError

SOURCE_FORM = "FILE.py:FUNCTION, as in my_model.py:make"
COMPARED_EVENTS, SCORE_TOLERANCE = 16, 1e-3
"""Events that are scored again when a model is given to a finished run, and their relative tolerance."""
TRAINING_EVENTS_UNKNOWN = (
    "The training events of this model are unknown to the run: figures of merit and explanations of any "
    "split, also of the test split, may be of events that trained it."
)
Scores = NDArray[np.float64]


def make_model(source: object, schema: Schema) -> tuple[Any, PythonCard]:
    """Model and its card, from a model or from ``FILE.py:FUNCTION``, executed as ``FUNCTION(schema)``.

    Raises
    ------
    RunError
        If the file or function does not exist or fails, or gives no model for events of this schema.
    """
    if not isinstance(source, str):
        name = f"{type(source).__module__}.{type(source).__qualname__}"
        return source, card_of(source, schema, f"model={name}")
    path, function = split_source(source)
    try:
        make = _function(path, function)
        with user_errors(path, f"{function}(schema)"):
            model = make(schema)
    except UserCodeError as problem:
        raise RunError(str(problem)) from problem
    description = " ".join((inspect.getdoc(make) or "").split("\n\n")[0].split())
    record: dict[str, Any] = {"file": str(path.resolve()), "function": function, "sha256": sha256(path)}
    record["modules"] = modules_beside(path)
    return model, card_of(model, schema, source, description=description, **record)


def split_source(source: str) -> tuple[Path, str]:
    """File and function of ``FILE.py:FUNCTION``."""
    file, colon, function = source.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise RunError(
            f"--model {source}: expected {SOURCE_FORM}; the function takes the schema of the events"
        )
    if not Path(file).is_file():
        raise RunError(f"--model {source}: there is no file {file} (in {Path.cwd()})")
    return Path(file), function


def _function(path: Path, name: str) -> Callable[[Schema], Any]:
    """Function of a file, which is executed."""
    module = run_user_file(path)
    make = getattr(module, name, None)
    if not callable(make):
        names = ", ".join(
            n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
        )
        raise RunError(f"{path} has no function {name!r}; it has {names or 'no function'}")
    try:
        inspect.signature(make).bind(None)
    except TypeError as problem:
        raise RunError(
            f"{path}: {name} is called with one argument, the schema of the events ({problem}): "
            f"def {name}(schema)"
        ) from None
    return make  # type: ignore[no-any-return]


def card_of(model: Any, schema: Schema, source: str, **record: Any) -> PythonCard:
    """Card of a model, checked to be one whose outputs are the classes or targets of the events."""
    if model is None:
        raise RunError(f"{source} gave None instead of a model; does the function end without a return?")
    if not isinstance(model, Model):
        advice = wrapping_advice(model) or "a model has view, outputs and logits(events)"
        raise RunError(f"{source} gave no model: {advice}")
    if model.view not in ("graph", "table", "image"):
        raise RunError(f"{source}: view={model.view!r}; a run explains models of the graph, table or image")
    try:
        outputs = checked_outputs(model.outputs)
    except TypeError as problem:
        raise RunError(f"{source}: {problem}") from None
    regression = bool(schema.targets) and set(outputs) == set(schema.targets)
    single = schema.classes[1:] if len(schema.classes) == 2 else ()
    if not regression and outputs != single:
        _need_classes(outputs, schema, source)
    record |= {"model": type(model).__name__, "settings": settings_of(model)}
    view: Any = model.view
    return PythonCard(view=view, outputs=outputs, regression=regression, **record)


def _need_classes(outputs: Sequence[str], schema: Schema, source: str) -> None:
    if sorted(outputs) == sorted(schema.classes):
        return
    one = f"outputs={schema.classes[1:]} for one logit, or " if len(schema.classes) == 2 else ""
    targets = f", or outputs={schema.targets} for a regression" if schema.targets else ""
    raise RunError(
        f"{source}: outputs={tuple(outputs)} are not the classes of the events; name them {one}"
        f"outputs={schema.classes} in the order of the module{targets}"
    )


def run_scores(model: Model, events: Events, card: PythonCard) -> Scores:
    """Scores as a run stores them: logits of the classes or predictions of the targets, in their order.

    Of two logits for two classes, the difference second - first class, ``[E, 1]``.

    Raises
    ------
    ValueError
        If the model gives scores of another shape or not finite ones, or refuses the events.
    """
    if isinstance(model, ChecksEvents):
        model.check(events)
    scores, schema = np.asarray(model.logits(events)), events.schema
    if scores.shape != (len(events), len(card.outputs)):
        raise ValueError(
            f"{card.source}: logits(events) has shape {scores.shape} for {len(events)} events and outputs "
            f"{card.outputs}; {(len(events), len(card.outputs))} is needed, one row per event"
        )
    scores = scores.astype(np.float64)
    if len(bad := np.flatnonzero(~np.isfinite(scores).all(1))):
        file, entry = events.files[events.file[bad[0]]], events.entry[bad[0]]
        raise ValueError(
            f"{card.source}: {len(bad)} of {len(events)} scores are NaN or infinite, first that of entry "
            f"{entry} of {file}; look for extreme inputs with `hepxai check`, or events without particles"
        )
    if len(card.outputs) == 1:
        return scores
    names = schema.targets if card.regression else schema.classes
    scores = scores[:, [card.outputs.index(name) for name in names]]
    return scores[:, 1:] - scores[:, :1] if len(names) == 2 and not card.regression else scores


def first_scores(model: Model, events: Events, card: PythonCard) -> Scores:
    """Scores of all events, after the checks that `hepxai.explain` makes."""
    scores = run_scores(model, events, card)
    guards.check_scores(model, events)
    guards.doubt_logits(model, events, target="")  # a run explains differences of several logits
    return scores


def check_same_scores(model: Model, events: Events, card: PythonCard, stored: Scores) -> None:
    """Refuse a model that does not give the stored scores: its weights or other files were changed."""
    rows = evenly_spread(len(events), COMPARED_EVENTS)
    scores = run_scores(model, events[rows], card)
    differences = np.abs(scores - stored[rows])
    if len(rows) and differences.max() > SCORE_TOLERANCE * max(np.abs(stored[rows]).max(), 1e-6):
        place = np.unravel_index(np.argmax(differences), differences.shape)
        raise RunError(
            f"{card.source} gives other scores than in this run ({scores[place]:.6g}, stored "
            f"{stored[rows][place]:.6g}): its weights, or files that it reads, were changed; "
            "choose another folder"
        )


def card_class(folder: Path) -> type[ModelCard]:
    """Class of the model card in a run folder."""
    content = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    return PythonCard if isinstance(content, dict) and content.get("kind") == KIND else ModelCard


def check_same_file(card: ModelCard, stored: ModelCard, folder: Path) -> ModelCard:
    """Card with the path of the stored one if the file has the same content; refuses a changed file."""
    if not isinstance(card, PythonCard) or not isinstance(stored, PythonCard) or not card.file:
        return card
    same_modules = card.modules == stored.modules
    if same_modules and (card.function, card.sha256) == (stored.function, stored.sha256):
        return card.model_copy(update={"file": stored.file})
    if card.file == stored.file and (card.sha256 != stored.sha256 or not same_modules):
        pairs = card.modules.items() ^ stored.modules.items()
        changed = Path(card.file).with_name(min(pairs)[0]) if card.sha256 == stored.sha256 else card.file
        raise RunError(
            f"{changed} was changed since the run in {folder} was made with it; choose another folder, or "
            "put the file back"
        )
    return card


def model_is_needed(card: PythonCard, folder: Path) -> RunError:
    """Error for work that needs the model, in a run that was opened without it."""
    if card.file is None:
        return RunError(
            f"{folder} was made with an in-memory {card.model}, which is not stored; pass it again: "
            f"Run.open({str(folder)!r}, model=…)"
        )
    return RunError(
        f"the run {folder} holds no model, only its source {card.source}, and own Python is executed only "
        f"where you name it; name it again: `hepxai explain {folder} --model {card.source}`, or "
        f"Run.open({str(folder)!r}, model={card.source!r})"
    )
