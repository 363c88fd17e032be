"""Arguments and options that several commands share, and the parsing of ``--set`` and ``--with``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hepxai.datasets import DatasetCard
    from hepxai.models.card import ModelCard

Dataset = Annotated[str, typer.Argument(help="Data-set card: a name of `hepxai cards`, or a path.")]
Model = Annotated[str, typer.Argument(help="Model card: a name of `hepxai cards`, or a path.")]
OptionalModel = Annotated[
    str | None, typer.Argument(help="Model card: a name of `hepxai cards`, or a path. Or give --model.")
]
Python = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A trained model instead of a card: FILE.py:FUNCTION. The file is executed; the function takes "
        "the schema of the events and returns the model.",
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]
NewFolder = Annotated[Path, typer.Option("--out", "-o", help="Run folder; an interrupted run resumes there.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        help="Override a card entry, e.g. model.training.epochs=5 or dataset.units=MeV. May be repeated.",
    ),
]
Method = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="One of {methods}; may be repeated. Default: {default}."),
]
With = Annotated[
    list[str] | None,
    typer.Option("--with", "-w", help="Setting of a method: edge_ig.layer=dynamic_edge_2. May be repeated."),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        help="Output to explain, or a difference: signal-ttbar, signal-rest. May be repeated. "
        "Default: each class against the rest, or each target of a regression.",
    ),
]
Split = Annotated[str, typer.Option(help="Events to explain: train, valid or test.")]
FlowSplit = Annotated[str, typer.Option("--split", help="Events to show: train, valid or test.")]
Events = Annotated[
    int | None, typer.Option("--events", "-n", help="How many to explain; default: as before, or all.")
]
Trainings = Annotated[
    int | None,
    typer.Option(
        "--trainings",
        help="Train so many times with other seeds: the score is their mean, their spread an error of every "
        "number.",
    ),
]
Variations = Annotated[
    bool,
    typer.Option(
        "--variations",
        help="Score and explain the events under the systematic variations of the card too, for the "
        "systematic error of every number.",
    ),
]
Variation = Annotated[
    list[str] | None,
    typer.Option("--variation", "-v", help="One of the card's variations; may be repeated. Default: all."),
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        help="Divide the events into so many folds: each is scored and explained by networks that have not "
        "seen it.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes, for several trainings or folds; default: one for each core."),
]
Device = Annotated[str, typer.Option(help="Torch device for the training, e.g. cpu or cuda.")]


def repetition(trainings: int | None, folds: int | None) -> list[str]:
    """Overrides of the cards by ``--trainings`` and ``--folds``."""
    chosen = [] if trainings is None else [f"model.training.trainings={trainings}"]
    return chosen + ([] if folds is None else [f"dataset.split.folds={folds}", "dataset.split.fold=all"])


def read_cards(dataset: str, model: str, overrides: Sequence[str] | None) -> tuple[DatasetCard, ModelCard]:
    """Both cards, with the overrides of ``--set``."""
    data, card = read_dataset_and_model(dataset, model, overrides)
    assert card is not None
    return data, card


def read_dataset_and_model(
    dataset: str, model: str | None, overrides: Sequence[str] | None
) -> tuple[DatasetCard, ModelCard | None]:
    """Cards with the overrides of ``--set``; without a model card, those of the data set only."""
    from hepxai.cards import CardError
    from hepxai.datasets import DatasetCard
    from hepxai.models.card import ModelCard

    groups: dict[str, list[str]] = {"dataset": [], "model": []}
    for override in overrides or ():
        kind, _, rest = override.partition(".")
        if kind not in groups or "=" not in rest:
            wanted = "expected dataset.KEY=VALUE or model.KEY=VALUE"
            raise CardError(f"--set {override}: {wanted}{_prefix_hint(override)}")
        groups[kind].append(rest)
    if model is None and groups["model"]:
        raise CardError(f"--set model.{groups['model'][0]}: a model of --model has no card to override")
    card = None if model is None else ModelCard.find(model, groups["model"])
    return DatasetCard.find(dataset, groups["dataset"]), card


def _prefix_hint(override: str) -> str:
    """Hint for an override without a ``dataset.`` or ``model.`` prefix."""
    from hepxai.cards import nearest
    from hepxai.datasets import DatasetCard
    from hepxai.models.card import keys_of_cards

    keys = {"dataset": frozenset(DatasetCard.model_fields), "model": keys_of_cards()}
    head = override.partition("=")[0].partition(".")[0]
    owners = [kind for kind in keys if head in keys[kind]]
    return f" (did you mean {owners[0]}.{override}?)" if len(owners) == 1 else nearest(head, keys)


def method_settings(options: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Settings of ``--with METHOD.SETTING=VALUE``, by method."""
    from hepxai.cards import CardError, parse_value

    settings: dict[str, dict[str, Any]] = {}
    for option in options or ():
        path, equal, value = option.partition("=")
        method, dot, key = path.partition(".")
        if not (equal and dot):
            raise CardError(f"--with {option}: expected METHOD.SETTING=VALUE")
        settings.setdefault(method, {})[key] = parse_value(value, f"--with {option}")
    return settings
