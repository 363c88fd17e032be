"""HTML: small tables for notebooks, and pages that run their own script and load nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape


def html_table(title: str, header: Sequence[object], rows: Sequence[Sequence[object]], note: str = "") -> str:
    """HTML of a table with a title and an optional note below; all texts are escaped."""
    head = "".join(f"<th>{escape(str(h))}</th>" for h in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f"<div><b>{escape(title)}</b>{table}{f'<p>{escape(note)}</p>' if note else ''}</div>"


def script_data(data: object) -> str:
    """Data as a JSON text that is safe inside a ``script`` element of type ``application/json``.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON lacks.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(script: str) -> str:
    """Content-Security-Policy of a page that runs one inline script and loads nothing over the network.

    The script is named by its hash, so that no other text of the page is ever executed.

    Parameters
    ----------
    script : str
        All characters between ``<script>`` and ``</script>``.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
