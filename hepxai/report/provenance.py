"""Section on where a run comes from: versions, seeds, inputs with their hashes, as small tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepxai.report.content import ReportContent
from hepxai.report.section import Section, Table, capital


def provenance_section(content: ReportContent) -> Section:
    """One table of what was recorded, and one for every list of records, such as the input files."""
    records = {k: v for k, v in content.provenance.items() if _is_records(v)}
    rows = [[str(k), _cell(v)] for k, v in content.provenance.items() if k not in records]
    tables = [Table("What this run was made with", ("", ""), rows, words=2)] if rows else []
    tables += [_records(capital(name), value) for name, value in records.items()]
    text = () if tables else ("None was recorded.",)
    return Section("provenance", "Provenance", text=text, tables=tables)


def _is_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _records(caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_cell(row[c]) if c in row else "–" for c in columns] for row in rows]
    words = [any(isinstance(row.get(c), str) for row in rows) for c in columns]
    return Table(caption, columns, cells, words=words.index(False) if False in words else len(columns))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
