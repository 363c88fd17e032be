"""Small copies of the shipped charged-Higgs sample."""

from __future__ import annotations

import atexit
import functools
import tempfile
from pathlib import Path
from typing import Any

import awkward as ak
import uproot

from hepxai.cards import find_card


@functools.cache
def first_entries(number: int) -> Path:
    """Data-set card with the first entries of each file."""
    temporary, source = tempfile.TemporaryDirectory(), find_card("datasets", "charged_higgs").parent
    atexit.register(temporary.cleanup)
    folder = Path(temporary.name)
    for name in ("signal", "background"):
        with uproot.open(source / f"{name}.root") as old, uproot.recreate(folder / f"{name}.root") as new:
            columns = old["Events"].arrays(entry_stop=number, library="ak")
            counters = [c for c in columns.fields if c.startswith("n")]
            kept = _zipped({c: columns[c] for c in columns.fields if c not in counters})
            new.mktree("Events", {k: v.type.content for k, v in kept.items()})
            new["Events"].extend(kept)
    (folder / "card.yaml").write_text((source / "card.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder / "card.yaml"


def _zipped(columns: dict[str, Any]) -> dict[str, Any]:
    """Branches of one collection together: they share a counter."""
    groups: dict[str, Any] = {}
    for name, values in columns.items():
        collection, _, rest = name.partition("_")
        if rest and values.ndim > 1:
            groups.setdefault(collection, {})[rest] = values
        else:
            groups[name] = values
    return {k: ak.zip(v) if isinstance(v, dict) else v for k, v in groups.items()}
