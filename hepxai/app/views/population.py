"""Means of a selection of events, with errors, and their profile against another number."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepxai.app import recipes
from hepxai.app.figures import figure_of
from hepxai.app.maps import kind_of
from hepxai.app.selection import EventNumbers
from hepxai.app.views import choice
from hepxai.app.widgets import choose, field, key_of, plain, show_figure
from hepxai.app.work import Study
from hepxai.attribution import Attribution
from hepxai.attribution.means import pair_means, type_means
from hepxai.attribution.reductions import (
    labels_of,
    quantity,
    reduced,
    relative_to_uniform,
    sums_to_one,
    whole_pairs,
)
from hepxai.core.binning import equal_bins
from hepxai.core.chunks import evenly_spread
from hepxai.core.formatting import measured
from hepxai.metrics.columns import Ranking
from hepxai.metrics.profile import profile
from hepxai.plots import score_profile

FEW, MANY = 20, 5000
BINS = 6


def show(study: Study) -> None:
    """Page of a population."""
    left, right = st.columns([1, 3], gap="medium")
    with left:
        rows, selecting = choice.selection(study)
        most = field(
            st.number_input,
            "Explain at most",
            "most",
            200 if study.view != "image" else 50,
            limits={"kind": "whole", "low": FEW, "high": MANY},
            min_value=FEW,
            max_value=MANY,
            step=50,
            help="Evenly spread over the selection",
        )
        aim = choice.target(study)
        method = choice.method(study, "Method", "a")
    assert method is not None
    selected, rows = len(rows), rows[evenly_spread(len(rows), int(most))]
    with right:
        thinned = f", {len(rows):,} of them explained, evenly spread" if len(rows) < selected else ""
        st.caption(f"{selected:,} events selected{thinned}")
        key, attribution = choice.explained(study, rows, method, aim)
        if attribution is None:
            return
        single, extra = choice.one_layer(attribution, "population")
        lines = [*recipes.population(study, int(most), selecting, method.name, aim, method.settings), *extra]
        _means(f"{key} {extra}", single, lines)
        _profile(study, f"{key} {extra}", single, rows, lines)


def _means(key: str, attribution: Attribution, lines: list[str]) -> None:
    classes = attribution.events.schema.classes
    options: dict[str, Any] = {}
    if kind_of(attribution) in ("pair", "pixel"):
        options["class_name"] = choose("Class of the means", "shown", classes, classes[-1])
    given = "".join(f"{k}={v!r}" for k, v in options.items())
    rows = mean_rows(attribution)
    show_figure(
        "means",
        f"{key} {given}",
        lambda: figure_of(attribution.plot(**options)),
        rows,
        [*lines, f"attribution.plot({given})"],
    )
    if attribution.caveat:
        st.warning(plain(attribution.caveat), icon=":material/warning:")
    if rows and len(rows) <= 500:
        with st.expander("Means with errors"):
            named = [{k: v for k, v in r.items() if k not in ("value", "error")} for r in rows]
            cells = [n | {"mean": measured(r["value"], r["error"])} for n, r in zip(named, rows, strict=True)]
            st.dataframe(cells, hide_index=True)


def relative(attribution: Attribution) -> Attribution:
    """Attention relative to uniform attention; other maps as they are."""
    return relative_to_uniform(attribution) if sums_to_one(attribution) else attribution


def mean_rows(attribution: Attribution) -> list[dict[str, Any]]:
    """Means over the population as a table, with errors: of pairs and particles by type and class."""
    kind = kind_of(attribution)
    if kind == "pair":
        return pair_means(reduced(relative(attribution))).rows()
    if kind == "particle":
        return type_means(reduced(attribution)).rows()
    if kind in ("feature", "neuron"):
        ranking = Ranking.of(attribution)
        columns = zip(ranking.names, ranking.value, ranking.error, strict=True)
        return [{kind: n, "value": float(v), "error": float(e)} for n, v, e in columns]
    mean = attribution.population()
    return [
        dict(zip(attribution.axes[1:], map(int, at), strict=True))
        | {"value": float(mean.value[at]), "error": float(mean.error[at])}
        for at in np.ndindex(*mean.value.shape)
    ]


# --- profile ---------------------------------------------------------------------------------------------


def _profile(
    study: Study, key: str, attribution: Attribution, rows: NDArray[np.int64], lines: list[str]
) -> None:
    st.divider()
    st.subheader("Profile")
    names = entry_names(attribution)
    first, second = st.columns(2)
    numbers = choice.numbers_of(study)
    with first:
        entry = choose("Mean of", "of", tuple(names), _strongest(attribution, names))
    with second:
        observers = tuple(n for n in numbers.values if n not in ("label", "weight", "entry"))
        best = next((o for o in study.events.observers), observers[-1])
        observer = choose("Against", "against", observers, best)
    values = per_event(attribution, entry)
    table = profile_rows(attribution, values, numbers, rows, observer)
    code = [
        *lines,
        "from hepxai.app.views.population import per_event",
        f"values = per_event(attribution, {entry!r})  # of each event, NaN where it has none",
    ]
    show_figure(
        "profile",
        key_of(key, entry, observer),
        lambda: _drawn(attribution, values, numbers.values[observer][rows], observer, entry),
        table,
        code,
    )


def _strongest(attribution: Attribution, names: list[str]) -> str:
    """Entry with the largest mean |value|."""
    sizes = [np.abs(per_event(attribution, name)) for name in names]
    means = [float(np.nanmean(s)) if np.isfinite(s).any() else 0.0 for s in sizes]
    return names[int(np.argmax(means))]


def entry_names(attribution: Attribution) -> list[str]:
    """Entries of which an event has a mean: pairs and particles by type, columns, neurons; of pixels all."""
    kind = kind_of(attribution)
    if kind == "pair":
        types = attribution.events.schema.types
        return [f"{a}–{b}" for i, a in enumerate(types) for b in types[i:] if _has_pair(attribution, a, b)]
    if kind == "particle":
        return list(attribution.events.schema.types)
    return list(labels_of(attribution, kind)) if kind != "pixel" else ["all pixels"]


def _has_pair(attribution: Attribution, one: str, other: str) -> bool:
    return len(attribution.select(pair=(one, other)).values) > 0


def per_event(attribution: Attribution, entry: str) -> NDArray[np.float64]:
    """Mean over the entries of a kind in each event ``[E]``; NaN where it has none. Of pixels the sum.

    Parameters
    ----------
    attribution : Attribution
    entry : str
        Of `entry_names`.
    """
    kind = kind_of(attribution)
    if kind == "pair":
        one, _, other = entry.partition("–")
        chosen = whole_pairs(reduced(relative(attribution))).select(pair=(one, other)).mean("pair")
    elif kind == "particle":
        chosen = reduced(attribution).select(particle=entry).mean("particle")
    elif kind == "pixel":
        pixels = np.asarray(attribution.values, dtype=np.float64)
        return np.asarray(pixels.reshape(len(pixels), -1).sum(axis=1))
    else:
        regular: Any = {kind: entry}
        chosen = attribution.select(**regular)
    values = np.asarray(chosen.values, dtype=np.float64).reshape(len(attribution.events), -1)
    return np.asarray(values.mean(axis=1))


def _profiles(
    attribution: Attribution, values: NDArray[np.float64], observer: NDArray[Any]
) -> dict[str, Any]:
    events, x = attribution.events, np.asarray(observer, dtype=np.float64)
    used = np.isfinite(values) & np.isfinite(x)
    if np.count_nonzero(used) < BINS:
        raise ValueError("too few events have both numbers; loosen the selection")
    edges = equal_bins(x[used], BINS)
    parts = {name: used & (events.label == c) for c, name in enumerate(events.schema.classes)}
    return {n: profile(values[m], x[m], events.weight[m], edges) for n, m in parts.items() if m.any()}


def profile_rows(
    attribution: Attribution,
    values: NDArray[np.float64],
    numbers: EventNumbers,
    rows: NDArray[np.int64],
    observer: str,
) -> list[dict[str, Any]]:
    """Means in bins of a number of the events, class by class; none where there are too few events."""
    try:
        profiles = _profiles(attribution, values, numbers.values[observer][rows])
    except ValueError:
        return []
    return [
        {"class": name, "from": float(p.edges[b]), "to": float(p.edges[b + 1])}
        | {"value": float(p.mean.value[b]), "error": float(p.mean.error[b])}
        for name, p in profiles.items()
        for b in range(len(p.edges) - 1)
    ]


def _drawn(
    attribution: Attribution, values: NDArray[np.float64], observer: NDArray[Any], name: str, entry: str
) -> Figure:
    profiles = _profiles(attribution, values, observer)
    ylabel = f"mean of {entry}: {quantity(relative(attribution))}"
    classes = attribution.events.schema.classes
    return figure_of(score_profile(profiles, xlabel=name, ylabel=ylabel, classes=classes))
