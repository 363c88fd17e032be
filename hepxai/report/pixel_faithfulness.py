"""Section on the faithfulness of maps over pixels: the check stored with each, and `hepxai compare`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hepxai.attribution import Attribution
from hepxai.attribution.reductions import short_name
from hepxai.core.formatting import measured
from hepxai.report.section import ERRORS, NAMED, Section, Table, methods_table
from hepxai.report.view import RunView
from hepxai.run.comparison import stored_comparisons
from hepxai.studies.comparison.cells import table_cells

CHECK = (
    "Faithfulness: rank correlation, inside an event, of the sum of a map over random blocks of pixels with "
    "the change of the output when the block is removed; the mean of at most 16 evenly spread events, not "
    "weighted. 1: the map orders the blocks as the model does; 0: it does not tell them apart. A map without "
    f"signs is compared with the size of the change. {ERRORS}"
)
COMPARISON = (
    "Deletion and insertion: areas under the curves, small and large are good; a linear model in random "
    "order has ½. Infidelity: from 0 (good) to 1. Sensitivity-n: correlation for random groups of that share "
    "of the pixels. Sparsity: Gini index. Randomised: rank correlation with the map of a network of random "
    "weights, which should be near 0. The last two rows are maps without information: values by chance. "
    f"Images without some pixels may be unlike those of the training. {ERRORS}"
)


def faithfulness_sections(view: RunView, maps: Mapping[str, Mapping[str, Attribution]]) -> Iterator[Section]:
    """Stored checks and comparisons; nothing for maps without any."""
    numbers = [
        {"method": method, "target": target, "name": short_name(a), **_checks(a)}
        for target, methods in maps.items()
        for method, a in methods.items()
        if "faithfulness" in a.checks
    ]
    comparisons = stored_comparisons(view.run)
    if not numbers and not comparisons:
        return
    rows = [[n["name"], n["target"], measured(n["value"], n["error"])] for n in numbers]
    many = len(rows) > NAMED
    caption = "Faithfulness of each map." if many else CHECK
    tables = [Table(caption, ("method", "of", "faithfulness"), rows, words=2, folded=many)] if rows else []
    if many:
        merits = [n | {"faithfulness": {k: n[k] for k in ("value", "error")}} for n in numbers]
        tables.insert(0, methods_table(CHECK, merits, "faithfulness"))
    for content in comparisons:
        caption = f"Maps of {content['target']}, {content['population']}. {COMPARISON}"
        tables.append(Table(caption, *table_cells(content)))
    text = () if comparisons else ("`hepxai compare` on this folder computes more, with values by chance.",)
    yield Section(
        "faithfulness",
        "Do the maps follow the model?",
        text=text,
        tables=tables,
        numbers={"checks": numbers, "comparisons": [c["numbers"] for c in comparisons]},
        level=3,
    )


def _checks(attribution: Attribution) -> dict[str, Any]:
    names = {"value": "faithfulness", "error": "faithfulness_error"}
    return {short: attribution.checks[name] for short, name in names.items()}
