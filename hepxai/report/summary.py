"""What stands at the top: short sentences, each built from numbers that the report shows below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hepxai.core.formatting import measured, percentage, real, short_method
from hepxai.events import SPLITS
from hepxai.plots.means import focus_means, pair_name
from hepxai.plots.scores import sides
from hepxai.plots.training import counted, time_name
from hepxai.report.baseline import carried
from hepxai.report.columns import leading
from hepxai.report.content import ReportContent
from hepxai.report.diagnostics import agreements, complete, residual_numbers
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.performance import merit
from hepxai.report.pixels import share_sentences
from hepxai.report.section import capital, number
from hepxai.report.targets import target_sentences

NOTHING = "The run holds no result yet."
SHOWN = 6
"""Agreements of two methods that are all named; of more, the two ends."""


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


def summary(content: ReportContent) -> list[Finding]:
    """What was trained on what, how well, what it looks at, what to doubt."""
    points = (
        Finding("Trained", tuple(_trained(content))),
        Finding("How well", tuple(_performance(content))),
        Finding(capital(pair_name(content.focus)), tuple(_focus(content))),
        Finding("Columns", tuple(leading(content))),
        Finding("Pixels", tuple(share_sentences(content))),
        Finding("To doubt", tuple(_doubts(content))),
    )
    found = [p for p in points if p.sentences]
    any_result = content.metrics or content.explained or content.fidelity
    return found if any_result else [*found, Finding("Result", (NOTHING,))]


def _trained(content: ReportContent) -> Iterator[str]:
    if not content.history:
        return
    signal, background = sides(content.events.schema)
    sizes = [f"{np.count_nonzero(content.events.split == i):,} {s}" for i, s in enumerate(SPLITS)]
    targets = " and ".join(content.predictions)
    what = f"to find {targets}" if targets else f"{signal} against {background}"
    yield capital(f"{what} on {', '.join(sizes)} events{_trained_on(content)}.")
    if content.best_epoch is not None:
        time = time_name(content.history)
        last = content.best_epoch == content.history[-1].get(time)
        end = "; it is the last one: more might help" if last else ""
        looks = "numbers that were tried " if time == "trees" else ""
        best = f"the best of {len(content.history)} {looks}on the valid split{end}"
        was = "were" if time == "trees" else "was"
        yield f"{capital(counted(time, content.best_epoch))} {was} kept, {best}."


def _trained_on(content: ReportContent) -> str:
    """How many of the training events have a number to learn."""
    if not content.predictions:
        return ""
    train = content.events.where("train")
    known = int(np.isfinite(train.targets).any(axis=1).sum())
    return f"; {known:,} of the train ones have a true value" if known < len(train) else ""


def _main_split(found: object) -> str | None:
    names = list(found) if isinstance(found, dict) else []
    return "test" if "test" in names else next(iter(names), None)


def _performance(content: ReportContent) -> Iterator[str]:
    split = _main_split(dict(content.metrics))
    if split is None:
        return
    row, size = content.metrics[split], len(content.events.where(split)) if split in SPLITS else None
    events = "" if size is None else f" ({size:,} events)"
    known = [f"{name} {number(row[key])}" for key, name in MERIT.items() if key in row]
    if known:
        yield f"{capital(split)} split{events}: {', '.join(known)}."
    for sentence in target_sentences(content, row):
        yield f"{capital(split)} split{events}: {sentence}."
    if "rejection@0.5" in row and np.isfinite(real(row["rejection@0.5"].get("value"))):
        yield f"{capital(merit('rejection@0.5', content))}: {number(row['rejection@0.5'])}."
    if split == "test" and "auc" in content.metrics.get("train", {}) and "auc" in row:
        yield from _overtraining(content)


def _overtraining(content: ReportContent) -> Iterator[str]:
    train, test = (content.metrics[s]["auc"] for s in ("train", "test"))
    gap = real(train.get("value")) - real(test.get("value"))
    error = float(np.hypot(real(train.get("error")), real(test.get("error"))))
    if np.isfinite(gap) and np.isfinite(error) and error > 0:
        far = f"{abs(gap) / error:.1f} standard errors {'above' if gap > 0 else 'below'} the test split"
        yield f"Train split: AUC {number(train)}, {far}."


def _focus(content: ReportContent) -> Iterator[str]:
    for found in maps(content, "pair"):
        mine, other = (_by_class(content, found, i) for i in (0, 1))
        if mine and found.of_model:
            yield f"{capital(found.short)}: {_sentence(mine, other, found)}"
            if share := carried(content, found):
                yield f"{capital(share)}."


def _by_class(content: ReportContent, found: LayerAttribution, column: int) -> str:
    means = focus_means(found.plain, content.focus)
    if column == means.value.shape[1]:
        return ""
    both = means.value[:, column], means.error[:, column]
    values = [
        f"{measured(float(value), float(error))} ({name})"
        for name, value, error in zip(means.labels[0], *both, strict=True)
        if np.isfinite(value)
    ]
    return ", ".join(reversed(values))


def _sentence(mine: str, other: str, found: LayerAttribution) -> str:
    if found.relative:
        return f"{mine}; 1 is equal attention to all."
    end = f"; any other: {other}" if other else ""
    one = "one such message" if found.directed else "one such pair"
    return f"{one} adds {mine} to the logit of {found.full.target}{end}."


def _doubts(content: ReportContent) -> Iterator[str]:
    if content.warnings:
        count = len(content.warnings)
        yield "The warning below." if count == 1 else f"The {count} warnings below."
    yield from _completeness(content)
    yield from _surrogate(content)
    yield from _disagreement(content)
    if content.history:
        yield "One training with one seed; another may look elsewhere."


def _completeness(content: ReportContent) -> Iterator[str]:
    found = {m: residual_numbers(a) for m, a in complete(content).items()}
    medians = [
        f"{short_method(m)} {percentage(n['median'])}"
        for m, n in found.items()
        if n["undefined"] < n["events"]
    ]
    if medians:
        yield f"Completeness, median residual: {', '.join(medians)}."


def _disagreement(content: ReportContent) -> Iterator[str]:
    found = [n for n in agreements(content) if np.isfinite(n["value"])]
    ends = f"; least and most of {len(found)}" if len(found) > SHOWN else ""
    if ends:
        found = sorted(found, key=lambda n: float(n["value"]))[:: len(found) - 1]
    known = [f"{n['first']} and {n['second']} {measured(n['value'], n['error'])}" for n in found]
    if known:
        yield f"Rank agreement of the methods (1: same order, 0: unrelated{ends}): {'; '.join(known)}."


def _surrogate(content: ReportContent) -> Iterator[str]:
    split = _main_split(dict(content.fidelity))
    if split is not None and "agreement" in content.fidelity[split]:
        same = content.fidelity[split]["agreement"]
        if np.isfinite(real(same.get("value"))):
            shown = percentage(same["value"], same.get("error"))
            yield f"The surrogate decides like the model in {shown} of the {split} events."
