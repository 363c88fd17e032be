"""Comparison of unlabelled data with the simulation of a run, stored in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.cards import dump_card
from hepxai.core.chunks import evenly_spread
from hepxai.core.files import replacing, write_json, write_text
from hepxai.datasets import DatasetCard, Reading, data_card, read
from hepxai.datasets.presentation import ExperimentLabel
from hepxai.events import Events
from hepxai.events.splits import ALL_FOLDS
from hepxai.explainers import EXPLAINERS
from hepxai.explainers.methods import is_default_for, validated_settings
from hepxai.metrics.two_sample import DRAWS
from hepxai.models.ensemble import Ensemble
from hepxai.plots.label import experiment_label
from hepxai.run.manifest import RunError
from hepxai.run.run import Run
from hepxai.studies.data_comparison.figures import differing_axes
from hepxai.studies.data_comparison.numbers import LEVELS, DataComparison, compare_with_data

FOLDER = "data"
SAME = ("units", "missing", "new_variables", "particles", "selection", "features", "pair_features", "globals",
        "image")  # fmt: skip
"""Entries of a card that say what an event is."""


def compare_run_with_data(
    run: Run,
    methods: Sequence[str] | None = None,
    *,
    card: DatasetCard | None = None,
    classes: Sequence[str] | None = None,
    target: str | None = None,
    maximum: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[DataComparison, Path]:
    """Compare data with the test events of a run, and write numbers and figures.

    Parameters
    ----------
    run : Run
    methods : sequence of str, optional
        By default those of the model's view whose values add up to a change of the output, without those of
        neurons and of surrogates.
    card : DatasetCard, optional
        Card that lists the data, if that of the run does not. It must select and define events equally.
    classes : sequence of str, optional
        Simulation that should describe the data; all classes by default, by their weights.
    target : str, optional
        Output to explain; may be left out if there is one.
    maximum : int, optional
        At most so many events of data and of simulation, evenly spread.
    settings : mapping, optional
        ``method → settings``.
    draws, seed : int
        Of the tests.

    Returns
    -------
    comparison : DataComparison
    path : Path
        ``data/comparison.json`` in the run folder, with all that it takes to repeat the comparison; ``.csv``
        and a figure of each level, with the label of the card, are beside it.

    Raises
    ------
    CardError, RunError
        If no data are listed, the cards differ, a class is unknown, or the run has several folds.
    """
    if run.dataset.split.fold == ALL_FOLDS:
        raise RunError(
            f"{run.folder} scores each event by the networks of its fold, and data have none; compare with "
            "the run of one fold, as in members/fold1"
        )
    card = run.dataset if card is None else same_events(run, card)
    reading = read(data_card(card))
    data = reading.events
    simulation = _of_classes(run.events.where("test"), classes)
    if maximum is not None:
        data, simulation = (e[evenly_spread(len(e), maximum)] for e in (data, simulation))
    chosen = validated_settings(methods, settings or {}, run.card.view)
    if methods is None:
        chosen = {m: s for m, s in chosen.items() if _by_default(m, run)}
    options: dict[str, Any] = {"target": target, "draws": draws, "seed": seed}
    comparison = compare_with_data(run.model, simulation, data, chosen, **options)
    path = run.folder / FOLDER / "comparison.json"
    more: dict[str, Any] = {"classes": list(classes or run.events.schema.classes), "methods": list(chosen)}
    more |= {"maximum": maximum, "provenance": _provenance(run, card, reading)}
    _write(path, comparison, more, card.label or run.dataset.label)
    return comparison, path


def same_events(run: Run, card: DatasetCard) -> DatasetCard:
    """Card of other events than those of a run, refused if it defines events otherwise.

    Raises
    ------
    RunError
        The message names the entry of the card that differs.
    """
    for key in SAME:
        if _defining(card, key) != _defining(run.dataset, key):
            raise RunError(
                f"{key}: of the card {card.name!r} is not that of the run {run.folder}, so its events are "
                "different ones; list the files in a copy of its dataset.yaml, and give that"
            )
    return card


def _defining(card: DatasetCard, key: str) -> Any:
    """Entry of a card; of particles without truth and resolutions, which no model takes."""
    entry = getattr(card, key)
    if key != "particles":
        return entry
    return {n: p.model_copy(update={"truth": {}, "resolutions": None}) for n, p in entry.items()}


def _provenance(run: Run, card: DatasetCard, reading: Reading) -> dict[str, Any]:
    """Card, files and hashes of the data, and what the run recorded, with the hashes of its files."""
    data = {"data": reading.inputs(), "notes": list(reading.notes), "data_card": dump_card(card)}
    return data | {"run": run.provenance(), "run_files": run.manifest.names()}


def _of_classes(events: Events, classes: Sequence[str] | None) -> Events:
    names = events.schema.classes
    if unknown := [c for c in classes or () if c not in names]:
        raise RunError(f"no class {unknown[0]!r}; there are {', '.join(names)}")
    return events if classes is None else events[np.isin(events.label, [names.index(c) for c in classes])]


def _by_default(method: str, run: Run) -> bool:
    explainer = EXPLAINERS[method]
    members = run.model.models if isinstance(run.model, Ensemble) else (run.model,)
    plain = "neuron" not in explainer.axes and "folder" not in explainer.model_fields
    return explainer.complete and plain and all(is_default_for(method, m) for m in members)


def _write(
    path: Path, comparison: DataComparison, more: Mapping[str, Any], label: ExperimentLabel | None
) -> None:
    write_json(path, comparison.to_json() | dict(more))
    rows, text = comparison.rows(), io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path.with_suffix(".csv"), text.getvalue())
    for level in LEVELS:
        figure = differing_axes(comparison, level)
        experiment_label(figure, label)
        with replacing(path.with_name(f"{level}.png")) as part:
            figure.savefig(part, format="png", dpi=110)
