"""What a run has to say, gathered for its report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from hepxai.attribution import Attribution
from hepxai.events import SPLITS
from hepxai.report import ReportContent
from hepxai.run import Run


def report_content(run: Run) -> ReportContent:
    """Collect cards, cut flow, figures of merit and explanations of a run."""
    explained = run.explained()
    focus = run.dataset.focus
    first = run.events.schema.types[0]
    return ReportContent(
        title=f"{run.dataset.name}: why {' / '.join(run.model.outputs)}?",
        provenance=run.provenance(),
        cards={n: (run.folder / n).read_text(encoding="utf-8") for n in ("dataset.yaml", "model.yaml")},
        cutflow=[_cut(row) for row in map(dataclasses.asdict, run.reading.cutflow.rows)],
        history=run.history(),
        metrics=run.metrics(),
        events=run.events,
        scores=run.scores[:, 0],
        explained=explained,
        focus=(first, first) if focus is None else focus.pair,
        observer=None if focus is None else focus.observer,
        warnings=(*run.reading.notes, *_doubts(run.metrics()), *_warnings(explained)),
        fidelity=_fidelity(explained),
    )


def _cut(row: dict[str, float | str]) -> dict[str, float | str]:
    return {k: row[k] for k in ("sample", "step", "entries", "error")} | {"weighted": row["weight"]}


def _doubts(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """What the figures of merit say against explaining this model at all, beyond three standard errors."""
    if not {"train", "test"} <= metrics.keys():
        return []
    train, test = (metrics[s]["auc"] for s in ("train", "test"))
    found = []
    if train["value"] - test["value"] > 3 * math.hypot(train["error"], test["error"]):
        found.append(
            f"the model is overtrained: AUC {train['value']:.3f} on the events it learned from, "
            f"{test['value']:.3f} ± {test['error']:.3f} on the test events; part of what it looks at is noise"
        )
    if not abs(test["value"] - 0.5) > 3 * test["error"]:
        found.append(
            f"the model does not separate the classes (test AUC {test['value']:.3f} ± {test['error']:.3f}): "
            "explanations of it describe noise"
        )
    return found


def _warnings(explained: Mapping[str, Attribution]) -> list[str]:
    """What a reader must know before believing a map."""
    found = []
    for method, attribution in explained.items():
        checks, wanted = attribution.checks, attribution.settings.get("tolerance", 0.01)
        if checks.get("median_residual", 0.0) > wanted:
            found.append(
                f"{method}: the median completeness residual is {checks['median_residual']:.2%}, "
                f"more than the {wanted:.2%} asked for"
            )
        if checks.get("fidelity_ok", 1.0) == 0.0:
            split = "test" if "test_agreement" in checks else "valid"
            found.append(
                f"{method}: on the {split} events the surrogate agrees with its original in "
                f"{checks[f'{split}_agreement']:.1%} of the decisions, correlation of the logits "
                f"{checks[f'{split}_logit_correlation']:.2f}; less than asked for: it may not tell "
                "the same story"
            )
    return found


def _fidelity(explained: Mapping[str, Attribution]) -> dict[str, dict[str, dict[str, float]]]:
    """Fidelity of the surrogate from its flat checks, ``split → figure → {value, error}``."""
    checks = explained["surrogate"].checks if "surrogate" in explained else {}
    return {
        split: {
            name.removeprefix(f"{split}_"): {"value": value, "error": checks[f"{name}_error"]}
            for name, value in checks.items()
            if name.startswith(f"{split}_") and not name.endswith("_error")
        }
        for split in SPLITS
        if f"{split}_agreement" in checks
    }
