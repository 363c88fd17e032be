"""Section on the trainings of an ensemble: stable numbers, and those that vary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepxai.attribution.reductions import reference_value
from hepxai.attribution.spread import TRAINING
from hepxai.core.formatting import general, measured
from hepxai.metrics.columns import Ranking
from hepxai.report.columns import column_maps
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.performance import merit
from hepxai.report.pixels import shares
from hepxai.report.section import Section, Table, capital
from hepxai.report.view import RunView, once

FACTOR = 3.0
"""Distance of a mean from its reference value, in spreads of the trainings and in statistical errors."""
NAMED = 4
"""Numbers of a method that a sentence names."""
RULE = (
    f"Stable: at least {FACTOR:g} spreads and {FACTOR:g} statistical errors away from its reference, so that "
    "another training is expected on the same side. Varies: the trainings differ by more. Unresolved: too "
    "few events. The reference is 0; 1 for attention relative to uniform; the median of all columns for a "
    "column, and that of a map that treats all hits alike for images."
)


@dataclass(frozen=True)
class Stability:
    """One number over the trainings.

    Attributes
    ----------
    what : str
        Name of the number, as "muon → muon, signal".
    value, error, spread, reference : float
    """

    what: str
    value: float
    error: float
    spread: float
    reference: float

    @property
    def verdict(self) -> str:
        """One of "stable", "varies" and "unresolved"; see `RULE`."""
        distance = abs(self.value - self.reference)
        if not (distance > FACTOR * self.error and np.isfinite(self.spread)):
            return "unresolved"
        return "stable" if distance >= FACTOR * self.spread else "varies"


def stability_section(view: RunView) -> Section:
    """Figures of merit and means of every map over the trainings."""
    by_method = _by_method(view)
    text = [f"{view.trainings} trainings of the same network on the same events, with other seeds. {RULE}"]
    text += list(_sentences(by_method))
    rows = [
        [name, n.what, measured(n.value, n.error, n.spread), general(n.reference, 2), n.verdict]
        for name, numbers in by_method.items()
        for n in numbers
    ]
    caption = "All means over the trainings: ± statistical ± spread of the trainings."
    header = ("map", "mean of", "value", "reference", "verdict")
    numbers = {
        name: [{"what": n.what, "value": n.value, "error": n.error, TRAINING: n.spread, "verdict": n.verdict}
               for n in several]
        for name, several in by_method.items()
    }  # fmt: skip
    return Section(
        "stability",
        "Stability over trainings",
        text=text,
        tables=[_merits(view), *([Table(caption, header, rows, words=2, folded=True)] if rows else [])],
        numbers=numbers,
    )


def stability_sentences(view: RunView) -> Iterator[str]:
    """One sentence for each map: how many of its means are stable, and which are not."""
    yield from _sentences(_by_method(view))


def _sentences(by_method: Mapping[str, Sequence[Stability]]) -> Iterator[str]:
    for name, several in by_method.items():
        counts = {v: [n for n in several if n.verdict == v] for v in ("stable", "varies", "unresolved")}
        varies = sorted(counts["varies"], key=lambda n: -abs(n.value - n.reference) / max(n.error, 1e-300))
        named = "; ".join(f"{n.what} {measured(n.value, n.error, n.spread)}" for n in varies[:NAMED])
        more = f" and {len(varies) - NAMED} more" if len(varies) > NAMED else ""
        tail = f"; vary: {named}{more}" if varies else ""
        unresolved = f", {len(counts['unresolved'])} unresolved" if counts["unresolved"] else ""
        sizes = f"{len(counts['stable'])} of {len(several)} means are stable{unresolved}"
        yield f"{capital(name)}: {sizes}{tail}."


@once
def _by_method(view: RunView) -> dict[str, list[Stability]]:
    return {name: list(numbers) for name, numbers in _numbers(view)}


def _numbers(view: RunView) -> Iterator[tuple[str, Iterator[Stability]]]:
    for layer in maps(view):
        if layer.singles:
            yield layer.short, _of_layer(layer)
    for method, attribution in column_maps(view).items():
        ranking = Ranking.of(attribution)
        if TRAINING in ranking.spread:
            yield method, _of_columns(ranking)
    if pixels := [row for row in shares(view) if TRAINING in row["among_hits"]]:
        yield "share of maps on true hits", map(_of_pixels, pixels)


def _of_pixels(row: Mapping[str, Any]) -> Stability:
    share, chance = row["among_hits"], row["chance"]
    name = f"{row['name']} of {row['target']}"
    return Stability(name, share["value"], share["error"], share[TRAINING], chance["value"])


def _of_layer(layer: LayerAttribution) -> Iterator[Stability]:
    means = layer.means
    for place in np.ndindex(means.value.shape):
        if np.isfinite(means.value[place]):
            first, *others = (names[i] for names, i in zip(means.labels, place, strict=True))
            arrow = " ← " if layer.directed and len(others) == 2 else "–"
            value, error, spread = (
                float(a[place]) for a in (means.value, means.error, means.spread[TRAINING])
            )
            name = f"{arrow.join(others)}, {first}"
            yield Stability(name, value, error, spread, reference_value(layer.plain))


def _of_columns(ranking: Ranking) -> Iterator[Stability]:
    """Importance of each column against that of the median column: does its rank depend on the training."""
    middle = float(np.median(ranking.value))
    columns = zip(ranking.names, ranking.value, ranking.error, ranking.spread[TRAINING], strict=True)
    for name, value, error, spread in columns:
        yield Stability(name, float(value), float(error), float(spread), middle)


def _merits(view: RunView) -> Table:
    """Figures of merit of the ensemble, and of its single trainings."""
    row = view.metrics.get("test") or next(iter(view.metrics.values()), {})
    rows: list[list[Any]] = []
    for name, entry in row.items():
        if entry.get(TRAINING) is not None:
            rows.append([merit(name, view), measured(entry["value"], entry["error"], entry[TRAINING])])
    return Table(
        "Figures of merit of the mean logit: ± statistical ± spread of the single trainings",
        ("figure of merit", "value"),
        rows,
    )
