"""The paragraph at the top: plain sentences, each built from numbers that the report shows below."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hepxai.events import SPLITS
from hepxai.plots.means import focus_means, pair_name
from hepxai.plots.text import measured, method_name, real
from hepxai.report.content import ReportContent
from hepxai.report.maps import Map, maps
from hepxai.report.section import capital, number
from hepxai.report.trust import complete, relative, residual_numbers


def summary(content: ReportContent) -> str:
    """What the run found, in one paragraph."""
    parts = [*_performance(content), *_focus(content), *_completeness(content), *_surrogate(content)]
    if content.warnings:
        count = len(content.warnings)
        parts.append("Mind the warning below." if count == 1 else f"Mind the {count} warnings below.")
    return " ".join(parts) or "The run holds no result yet."


def _main_split(found: object) -> str | None:
    names = list(found) if isinstance(found, dict) else []
    return "test" if "test" in names else next(iter(names), None)


def _performance(content: ReportContent) -> Iterator[str]:
    split = _main_split(dict(content.metrics))
    if split is None:
        return
    row, size = content.metrics[split], len(content.events.where(split)) if split in SPLITS else None
    events = "" if size is None else f" ({size:,} events)"
    known = [f"{n} {number(row[k])}" for k, n in (("auc", "AUC"), ("accuracy", "accuracy")) if k in row]
    if known:
        yield f"On the {split} split{events} the model reaches {' and '.join(known)}."
    if "rejection@0.5" in row and np.isfinite(real(row["rejection@0.5"].get("value"))):
        yield f"At 50 % signal efficiency it rejects background by a factor {number(row['rejection@0.5'])}."


def _focus(content: ReportContent) -> Iterator[str]:
    for found in maps(content, "pair"):
        mine, other = (_by_class(content, found, i) for i in (0, 1))
        # A surrogate repeats the model's story at best; its section tells it.
        if mine and not found.method.startswith("surrogate"):
            yield f"{capital(found.name)}: {_sentence(pair_name(content.focus), mine, other, found)}"


def _by_class(content: ReportContent, found: Map, column: int) -> str:
    means = focus_means(found.plain, content.focus)
    both = means.value[:, column], means.error[:, column]
    values = [
        f"{measured(float(value), float(error))} ({name})"
        for name, value, error in zip(means.labels[0], *both, strict=True)
        if np.isfinite(value)
    ]
    return " and ".join(reversed(values))


def _sentence(pairs: str, mine: str, other: str, found: Map) -> str:
    if found.relative:
        end = f"; all other pairs {other}" if other else ""
        return f"{pairs} receive {mine} times what a uniform look would give them{end}."
    end = f"; any other pair by {other}" if other else ""
    return f"one of the {pairs} moves the output by {mine}{end}."


def _completeness(content: ReportContent) -> Iterator[str]:
    found = {m: residual_numbers(a) for m, a in complete(content).items()}
    medians = [
        f"{relative(n['median'])} ({method_name(m)})"
        for m, n in found.items()
        if n["undefined"] < n["events"]
    ]
    if medians:
        yield f"Median completeness residuals: {', '.join(medians)}."


def _surrogate(content: ReportContent) -> Iterator[str]:
    split = _main_split(dict(content.fidelity))
    if split is not None and "agreement" in content.fidelity[split]:
        same = content.fidelity[split]["agreement"]
        value, error = (100 * real(same.get(k)) for k in ("value", "error"))
        if np.isfinite(value):
            yield (
                f"The surrogate decides like the model in ({measured(value, error)}) % of the {split} events."
            )
