"""Check of a card on the first entries of every sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hepxai.datasets.card import DatasetCard
from hepxai.datasets.inspection import suspicious
from hepxai.datasets.quality import weight_warnings
from hepxai.datasets.reading import ReadLog, iterate
from hepxai.events import SPLITS, EventPairs, Events, pair_events
from hepxai.events.momenta import NODE_FEATURES


class Varied(NamedTuple):
    """Events of a variation, and their pairs with the nominal events, which are the first ones."""

    events: Events
    pairs: EventPairs


@dataclass(frozen=True)
class CheckReport:
    """Events of a card among the first ``entries`` of every sample, and warnings; may be empty."""

    name: str
    entries: int
    events: Events
    ledger: ReadLog
    warnings: tuple[str, ...]
    variations: Mapping[str, Varied] = field(default_factory=dict)

    def __rich__(self) -> Group:
        parts: list[Any] = [
            Text(f"{self.name}: first {self.entries:,} entries of each sample"),
            self.ledger.cutflow,
        ]
        if self.ledger.cutflow.particle_rows:
            parts.append(_cuts(self))
        if len(self.events):
            if self.variations:
                parts.append(_variations(self))
            parts += [_classes(self.events), _multiplicities(self.events), _ranges(self.events)]
        parts += [Text(f"warning: {w}", style="yellow") for w in self.warnings]
        return Group(*parts)


def check_card(card: DatasetCard, *, entries: int = 1000) -> CheckReport:
    """Read the first entries of every sample and report content and suspicious values.

    Parameters
    ----------
    card : DatasetCard
    entries : int
        Per sample.

    Raises
    ------
    CardError, ReadError
        As `read`, but an empty selection or class is a warning here.
    """
    ledger = ReadLog()
    events = Events.concatenate(iterate(card, limit=entries, ledger=ledger))
    names = card.variation_names if card.variation is None else ()
    variations = {name: _varied(card.varied(name), events, entries) for name in names}
    warnings = [*_warnings(card, events, ledger)]
    warnings += [w for name, one in variations.items() for w in _variation_warnings(name, events, one)]
    return CheckReport(card.name, entries, events, ledger, tuple(warnings), variations)


def _varied(card: DatasetCard, nominal: Events, entries: int) -> Varied:
    events = Events.concatenate(iterate(card, limit=entries))
    return Varied(events, pair_events(nominal, events))


# --- warnings ------------------------------------------------------------------------------------


def _warnings(card: DatasetCard, events: Events, ledger: ReadLog) -> Iterator[str]:
    yield from ledger.notes
    if not len(events):
        yield "nothing is selected: loosen selection:, or look at more entries"
        return
    yield from _class_warnings(events)
    yield from ledger.doubts
    yield from weight_warnings(events)
    yield from _particle_warnings(card, events)
    named = {f"observer {name}": values for name, values in events.observers.items()}
    named |= {f"target {n}": v for n, v in zip(events.schema.targets, events.targets.T, strict=True)}
    for name, values in named.items():
        if (share := float(np.isnan(values).mean())) > 0.5:
            yield f"{name} is NaN in {share:.0%} of the events"


def _class_warnings(events: Events) -> Iterator[str]:
    counts = np.bincount(events.label, minlength=len(events.schema.classes))
    for name, n in zip(events.schema.classes, counts, strict=True):
        if not n:
            yield f"no event of class {name!r}"
    if len(counts) == 1 and not events.schema.targets:
        yield f"the only class is {events.schema.classes[0]!r}: there are no classes to separate"
    if (negative := float((events.weight < 0).mean())) > 0:
        yield f"{negative:.1%} of the selected events have negative weights"
    if not events.weight.any():
        yield "all weights are 0"


def _particle_warnings(card: DatasetCard, events: Events) -> Iterator[str]:
    moving = [n for n, p in card.particles.items() if p.momenta is None]
    if moving and (share := float((events.counts < 2).mean())) > 0:
        yield f"{share:.1%} of the selected events have fewer than two particles, so no pairs"
    medians = {n: float(np.median(events.p4[rows, 0])) for n in moving if (rows := events.is_type(n)).any()}
    if odd := [f"{m:.4g} GeV for {n}" for n, m in medians.items() if not 0.5 < m < 3000]:
        yield f"the median pt is {', '.join(odd)}: is units: {card.units} right?"
    for name, particle in card.particles.items():
        rows = events.is_type(name)
        if not rows.any():
            yield f"no {name} in any selected event"
        for feature in (f for f in particle.features if f in events.schema.features):
            for value, n in suspicious(events.values_of(feature)[rows]):
                yield (
                    f"{feature} of {name} is {value:g} for {n} of {rows.sum()}: if that means "
                    "missing, say so under missing:"
                )

    for feature in events.schema.features:
        values = events.values_of(feature)
        if (
            len(values)
            and values.min() == values.max()
            and (feature in NODE_FEATURES or len(card.particles) > 1)
        ):
            yield f"feature {feature} is {values[0]:g} everywhere"


def _variation_warnings(name: str, nominal: Events, varied: Varied) -> Iterator[str]:
    before, after = nominal[varied.pairs.first], varied.events[varied.pairs.second]
    if len(before) == len(nominal) == len(varied.events) and _equal(before, after):
        yield f"variation {name} changes nothing that the model or the weight depends on"
    visible, missing = (np.array_equal(_sums(before, m), _sums(after, m)) for m in (False, True))
    if missing and not visible and (before.index < 0).any():
        yield (
            f"variation {name} moves momenta, but not the missing transverse momentum: exchange its branches "
            "as well, or write for example met.px: px - sum(shifted.jet.px - nominal.jet.px), and met.py"
        )


def _equal(first: Events, second: Events) -> bool:
    same_values = first.fingerprint(values=True) == second.fingerprint(values=True)
    return same_values and np.array_equal(first.weight, second.weight)


def _sums(events: Events, missing: bool) -> NDArray[np.float64]:
    """Sum of pt of the missing momenta, or of all other particles, ``[E]``."""
    pt = np.where((events.index < 0) == missing, events.p4[:, 0], 0.0)
    return np.bincount(events.parent, weights=pt, minlength=len(events)).astype(np.float64)


# --- tables --------------------------------------------------------------------------------------


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _cuts(report: CheckReport) -> Table:
    table = _table("Cuts on particles", "particle", "cut", "before", "after", "kept")
    for kind, cut, before, after in report.ledger.cutflow.particle_rows:
        share = f"{after / before:.1%}" if before else ""
        table.add_row(Text(kind), Text(cut), f"{before:,}", f"{after:,}", share)
    return table


def _classes(events: Events) -> Table:
    table = _table("Classes", "class", "events", "Σ weight", "negative", *SPLITS)
    for code, name in enumerate(events.schema.classes):
        rows = events.label == code
        weight = events.weight[rows]
        splits = np.bincount(events.split[rows], minlength=len(SPLITS))
        total = f"{weight.sum():.5g} ± {np.sqrt(np.square(weight).sum()):.2g}"
        negative = f"{(weight < 0).mean():.1%}" if rows.any() else ""
        table.add_row(Text(name), f"{rows.sum():,}", total, negative, *(f"{n:,}" for n in splits))
    return table


def _variations(report: CheckReport) -> Table:
    table = _table("Variations", "variation", "events", "in both", "left", "came", "Σ weight / nominal")
    for name, (events, pairs) in report.variations.items():
        sizes = (len(events), len(pairs.first), len(pairs.only_first), len(pairs.only_second))
        ratio = events.weight.sum() / report.events.weight.sum()
        table.add_row(Text(name), *(f"{n:,}" for n in sizes), f"{ratio:.4f}")
    return table


def _multiplicities(events: Events) -> Table:
    table = _table("Particles per event", "particle", "fewest", "mean", "most")
    for name in events.schema.types:
        n = np.bincount(events.parent[events.is_type(name)], minlength=len(events))
        table.add_row(Text(name), str(n.min()), f"{n.mean():.2f}", str(n.max()))
    table.add_row("all", str(events.counts.min()), f"{events.counts.mean():.2f}", str(events.counts.max()))
    return table


def _ranges(events: Events) -> Table:
    schema = events.schema
    rows: list[tuple[str, str, NDArray[Any]]] = [
        *((n, u, events.values_of(n)) for n, u in zip(schema.features, schema.units, strict=True)),
        *zip(schema.globals, schema.global_units, events.globals.T, strict=True),
    ]
    targets = zip(schema.targets, schema.target_units, events.targets.T, strict=True)
    rows += [(f"{n} (target)", u, v[np.isfinite(v)]) for n, u, v in targets]
    rows += [(f"{n} (observer)", "", v[np.isfinite(v)]) for n, v in events.observers.items()]
    table = _table("Features, targets and observers", "name", "units", "lowest", "mean", "highest")
    for name, units, values in rows:
        numbers = [values.min(), values.mean(), values.max()] if len(values) else []
        table.add_row(Text(name), Text(units), *(f"{v:.4g}" for v in numbers))
    return table
