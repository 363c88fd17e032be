"""Names on a data-set card: known ones, and new ones that expressions can use."""

from __future__ import annotations

import keyword
from collections.abc import Collection

from hepxai.cards import entry_error, nearest


def require(kind: str, name: str, names: Collection[str], *place: str | int) -> None:
    """Refuse the entry at a place of the card if there is no such name."""
    if name not in names:
        raise entry_error(f"no {kind} {name!r}{nearest(name, names)}; there are {', '.join(names)}", *place)


def check_name(name: str, *place: str | int) -> None:
    """Refuse the entry at a place of the card if it is no name for expressions."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise entry_error(f"{name!r} is not a name; use letters, digits and _", *place)
