"""Section on hidden sensitivity: flips within the uncertainties, beside nominal variations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hepxai.attribution import Attribution
from hepxai.attribution.spread import mean_of_results
from hepxai.core.chunks import evenly_spread
from hepxai.core.console import track
from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events
from hepxai.plots.bars import grouped_bars
from hepxai.report.section import (
    EstimateRows,
    Section,
    drawn,
    entry,
    estimates_table,
    kinds_of_errors,
    population,
    splits_of,
)
from hepxai.report.study import stored
from hepxai.report.view import RunView
from hepxai.run import Run
from hepxai.run.manifest import RunError
from hepxai.run.varied import requested_settings
from hepxai.studies.hidden_sensitivity import FIXED, HiddenSensitivity, hidden_sensitivity

MOST = 200
"""Events: each needs a search for every particle type."""
SIGMA = 1.0
"""Size of the envelope."""


def hidden_sensitivity_section(view: RunView, key: str, attribution: Attribution) -> Section:
    """Shares of events that flip within the uncertainties and under nominal variations, by particle type."""
    title, name = "Hidden sensitivity", f"{key}_hidden_sensitivity"
    part = attribution.events[evenly_spread(len(attribution.events), min(MOST, len(attribution.events)))]
    try:
        results = _results(view, attribution, part)
    except RunError as problem:  # the model of a user is not in the run folder
        return Section(name, title, text=[f"Not computed: {problem}."], level=3)
    shares: EstimateRows = mean_of_results([{e.particle: e.columns for e in one.entries} for one in results])
    sources = ", ".join(view.sources)
    sigma = f"resolution and the variations ({sources}) in quadrature" if sources else "resolution"
    shifts = "each nominal variation" if sources else "a shift of pT of all of them by ± 1 σ"
    caption = (
        f"Share of events whose decision flips. Envelope: for some change with χ² ≤ {SIGMA**2:g} of the "
        f"particles of the type, σ being the {sigma}; then under {shifts}; under either; and hidden: within "
        f"the envelope, under no shift. {population(part)} of the {splits_of(part)} sample. "
        f"{kinds_of_errors(len(results), systematic=False)}"
    )
    columns = {c: {t: of[c] for t, of in shares.items()} for c in ("envelope", "either", "hidden")}
    figure = drawn(
        name,
        f"{caption} The table has each shift.",
        lambda ax: grouped_bars(columns, "share of events that flip", ax=ax),
        (7.0, 1.8 + 0.85 * len(shares)),
    )
    return Section(
        name,
        title,
        text=[
            "A nominal variation moves all particles together. Within the same uncertainties each particle "
            "may move in its own direction, which can flip more decisions [arXiv:2605.07470]. The envelope "
            "is a lower limit: a search may miss a flip."
        ],
        tables=[estimates_table(caption, "particles", shares)],
        figures=[figure],
        numbers={t: {c: entry(e) for c, e in of.items()} for t, of in shares.items()},
        level=3,
    )


def _results(view: RunView, attribution: Attribution, events: Events) -> list[HiddenSensitivity]:
    """Flips for every training, by networks that have not seen the events; stored in the run folder."""
    members = list(getattr(view.run, "members", {"": view.run}).values())
    networks = [members[training :: view.trainings] for training in range(view.trainings)]
    results = []
    with track("hidden sensitivity", len(networks), show=len(networks) > 1) as advance:
        for of_folds in networks:
            results.append(_stored(view, attribution, events, of_folds))
            advance(1)
    return results


def _stored(
    view: RunView, attribution: Attribution, events: Events, networks: Sequence[Run]
) -> HiddenSensitivity:
    """Result of one training, whose networks are those of the folds."""
    settings = requested_settings(attribution)
    free = {k: v for k, v in settings.items() if k not in FIXED}
    varied = {s: {str(r.dataset.variation): r.events for r in runs} for s, runs in view.sources.items()}
    folds = getattr(view.run, "fold_of_events", None) if len(networks) > 1 else None
    fold = np.zeros(len(events), dtype=int) if folds is None else folds[view.rows_of(events)]

    def make(unfinished: Path) -> HiddenSensitivity:
        parts = [
            hidden_sensitivity(networks[f].model, events[fold == f], n=SIGMA, target=attribution.target,
                               types=settings["moving"], varied=varied, **free)
            for f in np.unique(fold)
        ]  # fmt: skip
        return HiddenSensitivity.joined(parts, [np.flatnonzero(fold == f) for f in np.unique(fold)], events)

    numbers = [run.scores for run in networks]
    names = {source: list(of) for source, of in varied.items()}
    shifted = [e for of in varied.values() for e in of.values()]
    parts = (settings, attribution.target, SIGMA, names, fold, events, *numbers, *shifted)
    load, path = lambda file: _load(file, events), view.run.folder / "hidden_sensitivity.safetensors"
    return stored(path, *parts, make=make, load=load, save=_save)


def _save(result: HiddenSensitivity, path: Path) -> None:
    flags = {f"{t}: {name}": f for t, of in result.shifts.items() for name, f in of.items()}
    flags |= {f"{t}: envelope": f for t, f in result.envelope.items()}
    names = {"types": list(result.envelope), "shifts": {t: list(of) for t, of in result.shifts.items()}}
    header = {"target": result.target, "n": str(result.n), "names": json.dumps(names)}
    write_tensors(path, {k: f.astype(np.uint8) for k, f in flags.items()}, header)


def _load(path: Path, events: Events) -> HiddenSensitivity:
    flags, header = read_tensors(path)
    names = json.loads(header["names"])
    envelope = {t: flags[f"{t}: envelope"] > 0 for t in names["types"]}
    shifts = {t: {name: flags[f"{t}: {name}"] > 0 for name in of} for t, of in names["shifts"].items()}
    return HiddenSensitivity.of(header["target"], float(header["n"]), events.weight, envelope, shifts)
