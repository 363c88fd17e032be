"""Verdicts on a run: plain sentences, each with its number, its rule, and whether it is good or bad."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import norm

from hepxai.attribution.reductions import short_name
from hepxai.core.estimate import ROUNDING, effective
from hepxai.core.formatting import measured, percentage, real
from hepxai.events import Events
from hepxai.explainers.graph.surrogate import SAME_EDGES
from hepxai.report.by_sample import samples_of_classes
from hepxai.report.layer_attributions import LayerAttribution, maps
from hepxai.report.section import NAMED, capital, others, stored
from hepxai.report.view import Figures, RunView, fidelity_of

LEAST_AGREEMENT = 0.3
"""Rank correlation below which two methods disagree."""
MOST_OPPOSITE = 0.1
"""Share of means with opposite signs above which the signs of two methods differ."""
LEAST_MEANS = 5
"""Means that two methods must share for a verdict that their signs agree."""
RESOLVED = 3.0
"""Errors by which a mean differs from 0 if its sign counts."""
BEYOND = 2.0
"""Errors by which a number is beyond its threshold."""
MOST_VARYING = 0.1
"""Share of means that vary above which a map is not stable over trainings."""
UNSTABLE = 0.5
"""Share of means that vary above which a map is unstable over trainings."""
MOST_OF_CLASS = 0.8
"""Share of a class above which one of its samples dominates it."""
LEAST_EVENTS = 100.0
"""Effective number of explained events of a class below which it is small."""

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """A sentence on a run, the number behind it, and the rule that makes it good or bad.

    Attributes
    ----------
    about : str
        One of "agreement", "signs", "surrogate", "surrogate maps", "truth", "trainings", "samples", "events".
    sentence : str
        With the number; without a full stop.
    number : float
        As compared with the rule.
    rule : str
        Condition of a good verdict.
    good : bool
    warned : bool
        True if a concern of the map says the same, so that the warnings have it already.
    """

    about: str
    sentence: str
    number: float
    rule: str
    good: bool
    warned: bool = False

    @property
    def text(self) -> str:
        """Sentence and rule."""
        return f"{self.sentence} (rule: {self.rule})."

    def to_json(self) -> dict[str, Any]:
        """Entries of ``numbers.json``."""
        names = ("about", "sentence", "number", "rule", "good")
        return {name: getattr(self, name) for name in names}


def verdicts(view: RunView, numbers: Mapping[str, Any]) -> list[Verdict]:
    """All verdicts on a run whose report has these numbers, ``section → numbers``."""
    return [
        *agreement_verdicts(_of_two_methods(view, numbers.get("agreement", ()))),
        *sign_verdicts(signed_means(view, numbers)),
        *_of_surrogates(view),
        *truth_verdicts(numbers.get("truth", ())),
        *stability_verdicts(numbers.get("stability", {})),
        *(v for events in _explained(view) for v in (*sample_verdicts(events), *event_verdicts(events))),
    ]


def bad_texts(several: Sequence[Verdict]) -> tuple[str, ...]:
    """Bad verdicts, as warnings, without those that a concern of a map says already."""
    return tuple(v.text for v in several if not v.good and not v.warned)


# --- methods -----------------------------------------------------------------------------------------


def _of_two_methods(view: RunView, rows: Sequence[Entry]) -> list[Entry]:
    """Rows of the agreement section without two layers of one method."""
    methods = {layer.short: layer.method for layer in maps(view)}
    return [r for r in rows if methods.get(r["first"], r["first"]) != methods.get(r["second"], r["second"])]


def agreement_verdicts(rows: Sequence[Entry]) -> Iterator[Verdict]:
    """Rank correlations of two methods that are not above the threshold, from the rows of the section."""
    finite = sorted((r for r in rows if np.isfinite([real(r["value"]), total_of(r)]).all()), key=_ends)
    if not finite:
        return
    below = [r for r in finite if _ends(r)[0] < LEAST_AGREEMENT]
    disagree, good = any(_ends(r)[1] < LEAST_AGREEMENT for r in below), not below
    examples = finite[:1] if good else below[:NAMED]
    named = "; ".join(f"{r['first']} and {r['second']} {stored(r)}" for r in examples)
    least = f"lowest of {len(finite)} rank correlations: " if good and len(finite) > 1 else ""
    more = f" and {len(below) - NAMED} more of {len(finite)}" if len(below) > NAMED else ""
    unclear = "Methods disagree" if disagree else "It is not resolved whether the methods agree"
    what = f"{'The methods agree' if good else unclear} on which entries matter"
    correlation = "" if least else "rank correlation of "
    yield Verdict(
        "agreement",
        f"{what}: {least}{correlation}{named}{more}",
        min(float(r["value"]) for r in finite),
        f"a rank correlation of at least {LEAST_AGREEMENT:g}, by {BEYOND:g} errors, for every two methods; "
        "unrelated ones have 0",
        good,
    )


def _ends(row: Entry) -> tuple[float, float]:
    """Values that are `BEYOND` errors below and above that of a row."""
    value, error = float(row["value"]), BEYOND * total_of(row)
    return value - error, value + error


@dataclass(frozen=True)
class SignedMeans:
    """Means of a map with signs.

    Attributes
    ----------
    method : str
        Key of the explanation; layers of one method are not compared.
    name : str
        Method and layer.
    group : tuple of str
        Target and kind of entry; maps of the same group are compared.
    means : mapping of str to tuple of (float, float)
        Value and error by the name of the mean.
    """

    method: str
    name: str
    group: tuple[str, ...]
    means: Mapping[str, tuple[float, float]]


def signed_means(view: RunView, numbers: Mapping[str, Any]) -> Iterator[SignedMeans]:
    """Means by particle types of the maps with signs, as the sections of the maps have them."""
    for layer in maps(view):
        section = numbers.get(layer.key, {})
        rows = section.get("type_pairs") or section.get("particle_types")
        if rows and not layer.relative and (layer.plain.values < 0).any():
            group = layer.full.target, layer.plain.axes[0], str(layer.directed)
            yield SignedMeans(layer.method, layer.short, group, dict(_named_means(rows, layer)))


def _named_means(rows: Sequence[Entry], layer: LayerAttribution) -> Iterator[tuple[str, tuple[float, float]]]:
    arrow = " ← " if layer.directed else "–"
    for r in rows:
        ends = [r[k] for k in ("receiver", "sender", "particle", "other particle") if k in r]
        yield f"{arrow.join(ends)}, {r['class']}", (float(r["value"]), total_of(r))


def total_of(entry: Entry) -> float:
    """Statistical error and the spreads of an entry of JSON in quadrature; NaN if one is unknown."""
    return math.hypot(real(entry.get("error")), *others(entry))


def sign_verdicts(several: Iterable[SignedMeans]) -> Iterator[Verdict]:
    """Share of means with opposite signs, of the two methods of the same entries where it is largest.

    Two methods without an opposite mean count if they share `LEAST_MEANS` means.
    """
    compared = [_opposite(a, b) for a, b in combinations(several, 2)
                if a.group == b.group and a.method != b.method]  # fmt: skip
    compared = [c for c in compared if c[0] or c[1] >= LEAST_MEANS]
    if not compared:
        return
    opposite, number, names, largest = max(compared, key=lambda c: c[0] / c[1])
    good = opposite <= MOST_OPPOSITE * number
    what = "Signs agree" if good else "Signs differ"
    example = f", as {largest}" if largest else ""
    yield Verdict(
        "signs",
        f"{what}: {names} have opposite signs in {opposite} of {number} means by type{example}",
        opposite / number,
        f"at most {percentage(MOST_OPPOSITE)} of the means, {LEAST_MEANS} or more, that both have "
        f"{RESOLVED:g} errors from 0",
        good,
    )


def _opposite(a: SignedMeans, b: SignedMeans) -> tuple[int, int, str, str]:
    """Means with opposite signs, means compared, names of the maps, and the clearest opposite mean."""
    shared = {
        name: (one, b.means[name])
        for name, one in a.means.items()
        if name in b.means and all(abs(v) > RESOLVED * e for v, e in (one, b.means[name]))
    }
    opposite = {n: pair for n, pair in shared.items() if pair[0][0] * pair[1][0] < 0}
    clear = max(opposite, key=lambda n: min(abs(v) / max(e, 1e-300) for v, e in opposite[n]), default="")
    example = f"{clear}: {' and '.join(measured(*p) for p in opposite[clear])}" if clear else ""
    return len(opposite), len(shared), f"{a.name} and {b.name}", example


def _of_surrogates(view: RunView) -> Iterator[Verdict]:
    for key, attribution in view.explained.items():
        if splits := fidelity_of(attribution):
            split = "test" if "test" in splits else next(iter(splits))
            name, warned = short_name(attribution, key), bool(attribution.concerns)
            yield from surrogate_verdicts(name, splits[split], warned=warned)


def surrogate_verdicts(name: str, fidelity: Figures, *, warned: bool = False) -> Iterator[Verdict]:
    """Decisions of a surrogate against the constant decision; its edges against those of the original.

    Parameters
    ----------
    name : str
        Of the map.
    fidelity : mapping
        Figures of `hepxai.metrics.fidelity.fidelity` on the held-out events, for JSON.
    warned : bool
        True if the map has concerns.
    """
    same, constant = fidelity.get("agreement"), fidelity.get("constant_agreement")
    if same and constant and np.isfinite([real(e.get("value")) for e in (same, constant)]).all():
        gain = real(same["value"]) - real(constant["value"])
        good = gain > real(same["error"])
        texts = [percentage(e["value"], e.get("error")) for e in (same, constant)]
        what = "decides like the model" if good else "is no better than a constant decision"
        yield Verdict(
            "surrogate",
            f"The surrogate of {name} {what}: the same decision in {texts[0]} of the events, a constant "
            f"one in {texts[1]}",
            gain,
            "better than the constant decision by more than its error",
            good,
            warned and not good,
        )
    if (edges := fidelity.get("map_agreement")) and np.isfinite(real(edges.get("value"))):
        good = real(edges["value"]) >= SAME_EDGES
        what = "Surrogate and model weight the same edges" if good else "The surrogate weights other edges"
        yield Verdict(
            "surrogate maps",
            f"{what}: rank correlation {stored(edges)} of {name} with the edges of the model",
            real(edges["value"]),
            f"a rank correlation of at least {SAME_EDGES:g}",
            good,
            warned and not good,
        )


# --- truth -------------------------------------------------------------------------------------------


def truth_verdicts(rows: Sequence[Entry]) -> Iterator[Verdict]:
    """Best map of each truth against the particle types alone, from the rows of the truth section.

    Among entries of equal types, against the null distribution; without such entries by the difference to
    the map of the types. The errors required grow with the number of maps (Bonferroni).
    """
    for truth in dict.fromkeys(r["truth"] for r in rows):
        of_truth = [r for r in rows if r["truth"] == truth]
        best = max(of_truth, key=_beyond_types)
        least = float(norm.isf(norm.sf(BEYOND) / len(of_truth)))
        good = _beyond_types(best) > least
        better = f"found {'better' if good else 'no better'} than by the particle types"
        apart = f"{'' if good else 'not '}told apart from others of the same type"
        what = apart if _within_types(best) else better
        rest = [r["method"] for r in of_truth if good and _beyond_types(r) <= least]
        not_by = f"; not by {', '.join(rest[:NAMED])}" if rest else ""
        useless = not good and float(best["by_type"]["value"]) == 1
        note = "; the types tell it already, so that it cannot judge a map" if useless else ""
        single = f", as likely by chance as {BEYOND:g} for a single map" if len(of_truth) > 1 else ""
        yield Verdict(
            "truth",
            f"{truth} is {what}: at best by {best['method']}, {_aurocs(best)}{not_by}{note}",
            _gain(best)[0],
            f"above chance among entries of equal types, or above the types where there are none, by more "
            f"than {least:.2g} errors for one of {len(of_truth)}{single}",
            good,
        )


def _aurocs(row: Entry) -> str:
    of_all = f"{stored(row['auroc'])} against {stored(row['by_type'])} by types alone"
    if _within_types(row):
        within, null = stored(row["within_types"]), stored(row["null"])
        return f"AUROC {within} among entries of equal types, by chance {null}; among all entries {of_all}"
    return f"AUROC {of_all}, difference {stored(row['gain'])}"


def _within_types(row: Entry) -> bool:
    return bool(np.isfinite(real(row["within_types"]["value"])))


def _gain(row: Entry) -> tuple[float, float]:
    """AUROC above that of a map of the particle types, and its error."""
    if not _within_types(row):
        return float(row["gain"]["value"]), total_of(row["gain"])
    within, null = row["within_types"], row["null"]
    return float(within["value"] - null["value"]), math.hypot(null["error"], *others(within))


def _beyond_types(row: Entry) -> float:
    """Gain over the particle types in errors; 0 if the error is unknown."""
    gain, error = _gain(row)
    return gain / max(error, ROUNDING) if np.isfinite(error) else 0.0


# --- what varies, and how many -----------------------------------------------------------------------


def stability_verdicts(by_method: Mapping[str, Sequence[Entry]]) -> Iterator[Verdict]:
    """Share of the resolved means that vary over trainings, from the numbers of the stability section."""
    counts = {name: Counter(n["verdict"] for n in several) for name, several in by_method.items() if several}
    resolved = {name: c["stable"] + c["varies"] for name, c in counts.items()}
    shares = {name: counts[name]["varies"] / n for name, n in resolved.items() if n}
    if not shares:
        yield from _nothing_resolved(sum(c.total() for c in counts.values()))
        return
    largest = max(shares.values())
    good = largest <= MOST_VARYING
    named = sorted(shares, key=lambda name: -shares[name])
    named = named[:1] if good else [n for n in named if shares[n] > MOST_VARYING]
    texts = [f"{counts[n]['varies']} of {resolved[n]} resolved means of {n}" for n in named[:NAMED]]
    what = "Stable" if good else "Partly stable" if largest <= UNSTABLE else "Unstable"
    yield Verdict(
        "trainings",
        f"{what} over trainings: {', '.join(texts)} vary",
        largest,
        f"at most {percentage(MOST_VARYING)} of the means of a map that the events resolve",
        good,
    )


def _nothing_resolved(means: int) -> Iterator[Verdict]:
    if means:
        sentence = f"Stability over trainings is unknown: the events resolve none of {means} means"
        yield Verdict("trainings", sentence, 0.0, "at least one mean that the events resolve", False)


def _explained(view: RunView) -> Iterator[Events]:
    """Events explained, the same for all methods; nothing without an explanation."""
    yield from (a.events for a in list(view.explained.values())[:1])


def sample_verdicts(events: Events) -> Iterator[Verdict]:
    """Largest sample of each class of several, by the magnitude of the weights."""
    for name, samples in samples_of_classes(events).items():
        names, number = events.sample_numbers()
        rows = events.label == events.schema.classes.index(name)
        weight = np.bincount(number[rows], np.abs(events.weight[rows]), minlength=len(names))
        largest, part = names[int(weight.argmax())], float(weight.max() / weight.sum())
        good = not part > MOST_OF_CLASS
        what = f"No sample dominates {name}" if good else f"{capital(name)} is dominated by one sample"
        yield Verdict(
            "samples",
            f"{what}: {largest} has {percentage(part)} of the weight of its explained events, of "
            f"{len(samples)} samples",
            part,
            f"at most {percentage(MOST_OF_CLASS)} in one sample",
            good,
        )


def event_verdicts(events: Events) -> Iterator[Verdict]:
    """Effective number of explained events of the smallest class."""
    sizes = {c: effective(events.weight[events.label == i]) for i, c in enumerate(events.schema.classes)}
    if not sizes:
        return
    least = min(sizes, key=lambda name: sizes[name])
    good = sizes[least] >= LEAST_EVENTS
    few = {c: n for c, n in sizes.items() if n < LEAST_EVENTS}
    texts = ", ".join(f"{n:,.0f} of {c}" for c, n in (few or {least: sizes[least]}).items())
    what = "Enough explained events: at least" if good else "Few explained events: effectively"
    yield Verdict(
        "events",
        f"{what} {texts}",
        sizes[least],
        f"at least {LEAST_EVENTS:g} effective events of each class, (Σw)² / Σw²",
        good,
    )
