"""Small tables for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(title: str, header: Sequence[object], rows: Sequence[Sequence[object]], note: str = "") -> str:
    """HTML of a table with a title and an optional note below; all texts are escaped."""
    head = "".join(f"<th>{escape(str(h))}</th>" for h in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f"<div><b>{escape(title)}</b>{table}{f'<p>{escape(note)}</p>' if note else ''}</div>"
