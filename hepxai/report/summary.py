"""Summary at the top: short sentences, each built from numbers that the report shows below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hepxai.attribution.reductions import pair_name, short_name
from hepxai.core.formatting import percentage, real
from hepxai.events import SPLITS
from hepxai.events.splits import ALL_FOLDS
from hepxai.plots.training import counted, time_name
from hepxai.report.baseline import carried
from hepxai.report.columns import leading
from hepxai.report.diagnostics import complete, residual_numbers
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.outputs import explained_output
from hepxai.report.performance import merit
from hepxai.report.pixels import share_sentences
from hepxai.report.section import capital, cell, number
from hepxai.report.significance import significance_sentences
from hepxai.report.stability import stability_sentences
from hepxai.report.targets import target_sentences
from hepxai.report.verdicts import Verdict, bad_texts
from hepxai.report.view import Figures, RunView, aucs

NOTHING = "The run holds no result yet."


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run.

    Attributes
    ----------
    about : str
        A word or two.
    sentences : tuple of str
    """

    about: str
    sentences: tuple[str, ...]


MERIT = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy with all weights"}


def summary(view: RunView, verdicts: Sequence[Verdict] = ()) -> list[Finding]:
    """Findings on training, performance, attributions and doubts; of the verdicts, the good ones."""
    warnings = len(view.warnings) + len(bad_texts(verdicts))
    findings = (
        Finding("Trained", tuple(_trained(view))),
        Finding("How well", tuple(_performance(view))),
        Finding(capital(pair_name(view.focus)), tuple(_focus(view))),
        Finding("Columns", tuple(leading(view))),
        Finding("Pixels", tuple(share_sentences(view))),
        Finding("Over trainings", tuple(stability_sentences(view) if view.trainings > 1 else ())),
        Finding("To trust", tuple(v.text for v in verdicts if v.good)),
        Finding("To doubt", tuple(_doubts(view, warnings))),
    )
    filled = [f for f in findings if f.sentences]
    return filled if view.metrics or view.explained else [*filled, Finding("Result", (NOTHING,))]


def _trained(view: RunView) -> Iterator[str]:
    if not view.history:
        return
    sizes = _sizes(view)
    targets, signal = " and ".join(view.predictions), view.classes[0]
    others = " and ".join(filter(None, (", ".join(view.classes[1:-1]), view.classes[-1])))
    if len(view.class_scores) == 1:
        signal, others = view.class_scores[0].name, view.class_scores[0].others
    what = f"to find {targets}" if targets else f"{signal} against {others}"
    yield capital(f"{what} on {sizes}{_trained_on(view)}.")
    if view.trainings > 1:
        yield f"The score is the mean logit of {view.trainings} trainings with different seeds."
    if view.best_epoch is not None and len(view.histories) == 1:
        time = time_name(view.history)
        last = view.best_epoch == view.history[-1].get(time)
        end = "; it is the last one: more might help" if last else ""
        looks = "numbers that were tried " if time == "trees" else ""
        best = f"the best of {len(view.history)} {looks}on the valid split{end}"
        was = "were" if time == "trees" else "was"
        yield f"{capital(counted(time, view.best_epoch))} {was} kept, {best}."


def _sizes(view: RunView) -> str:
    """Events of each split; of a run of all folds, which has test events only, their number."""
    folds = view.run.dataset.split.folds
    if folds is not None and view.run.dataset.split.fold == ALL_FOLDS:
        number = f"{len(view.events):,} events in {folds} folds"
        return f"{number}, each scored and explained by networks that have not seen it"
    numbers = [f"{np.count_nonzero(view.events.split == i):,} {s}" for i, s in enumerate(SPLITS)]
    return f"{', '.join(numbers)} events"


def _trained_on(view: RunView) -> str:
    """Number of training events with a true value, if not all have one."""
    if not view.predictions:
        return ""
    train = view.events.where("train")
    labelled = int(np.isfinite(train.targets).any(axis=1).sum())
    return f"; {labelled:,} of the train ones have a true value" if labelled < len(train) else ""


def _main_split(figures: Mapping[str, Figures]) -> str | None:
    return "test" if "test" in figures else next(iter(figures), None)


def _performance(view: RunView) -> Iterator[str]:
    split = _main_split(view.metrics)
    if split is None:
        return
    row, size = view.metrics[split], len(view.events.where(split)) if split in SPLITS else None
    events = "" if size is None else f" ({size:,} events)"
    if merits := [f"{name} {number(row[key])}" for key, name in MERIT.items() if key in row]:
        yield f"{capital(split)} split{events}: {', '.join(merits)}."
    yield from _of_classes(view, row)
    for sentence in target_sentences(view, row):
        yield f"{capital(split)} split{events}: {sentence}."
    if "rejection@0.5" in row and np.isfinite(real(row["rejection@0.5"].get("value"))):
        yield f"{capital(merit('rejection@0.5', view))}: {number(row['rejection@0.5'])}."
    yield from significance_sentences(view)
    if split == "test":
        for name, of in aucs(row).items():
            if of in ("", view.classes[0]) and name in view.metrics.get("train", {}):
                yield from _overtraining(view, name, of)


def _of_classes(view: RunView, row: Figures) -> Iterator[str]:
    """AUC of each class against the rest, and the two classes that are hardest to tell apart."""
    against = {of: row[name] for name, of in aucs(row).items() if of}
    if against:
        listed = [f"{c} {number(against[c])}" for c in view.classes if c in against]
        yield f"AUC against the rest: {', '.join(listed)}."
    pairs = {(c, d): row.get(f"auc_{c}_vs_{d}") for c, d in combinations(view.classes, 2)}
    values = {pair: real(auc.get("value")) for pair, auc in pairs.items() if auc is not None}
    if values:
        one, other = hardest = min(values, key=lambda pair: np.nan_to_num(values[pair], nan=np.inf))
        yield f"Hardest to tell apart: {one} and {other}, AUC {number(pairs[hardest] or {})}."


def _overtraining(view: RunView, name: str, of: str) -> Iterator[str]:
    train, test = (view.metrics[s][name] for s in ("train", "test"))
    gap = real(train.get("value")) - real(test.get("value"))
    error = float(np.hypot(real(train.get("error")), real(test.get("error"))))
    if np.isfinite(gap) and np.isfinite(error) and error > 0:
        far = f"{abs(gap) / error:.1f} standard errors {'above' if gap > 0 else 'below'} the test split"
        auc = f"AUC of {of} against the rest" if of else "AUC"
        yield f"Train split: {auc} {number(train)}, {far}."


def _focus(view: RunView) -> Iterator[str]:
    for layer in (layer for layer in maps(view, "pair") if not layer.compact):
        in_pair, other = (_by_class(layer, i) for i in (0, 1))
        if in_pair and layer.of_model:
            yield f"{capital(layer.short)}: {_sentence(in_pair, other, layer)}"
            if share := carried(view, layer):
                yield f"{capital(share)}."


def _by_class(layer: LayerAttribution, column: int) -> str:
    means = layer.focus_means
    if column == means.value.shape[1]:
        return ""
    values = [
        cell(means, c, column) + (f" ({name})" if len(means.labels[0]) > 1 else "")
        for c, name in enumerate(means.labels[0])
        if np.isfinite(means.value[c, column])
    ]
    return ", ".join(reversed(values))


def _sentence(in_pair: str, other: str, layer: LayerAttribution) -> str:
    if layer.relative:
        return f"{in_pair}; 1 is equal attention to all."
    end = f"; any other: {other}" if other else ""
    one = "one such message" if layer.directed else "one such pair"
    output = explained_output(layer.full.events.schema, layer.full.target).name
    return f"{one} adds {in_pair} to the {output}{end}."


def _doubts(view: RunView, warnings: int) -> Iterator[str]:
    if warnings:
        yield "The warning below." if warnings == 1 else f"The {warnings} warnings below."
    yield from _completeness(view)
    if view.history and view.trainings == 1:
        yield "One training with one seed; another may look elsewhere. `--trainings 3` shows what varies."


def _completeness(view: RunView) -> Iterator[str]:
    numbers = {key: residual_numbers(a) for key, a in complete(view).items()}
    defined = {key: n for key, n in numbers.items() if n["undefined"] < n["events"]}
    compact = {key: view.compact(view.explained[key].target) for key in defined}
    named = [key for key in defined if not compact[key]]
    medians = [f"{short_name(view.explained[k], k)} {percentage(defined[k]['median'])}" for k in named]
    others = [defined[key]["median"] for key in defined if compact[key]]
    end = f"; of the other outputs at most {percentage(max(others))}" if others else ""
    if medians:
        yield f"Completeness, median residual: {', '.join(medians)}{end}."
