"""Arguments of the wrong kind, or in the wrong order."""

from __future__ import annotations


def check_type(found: object, kind: type, call: str, place: str, remedy: str) -> None:
    """Say which argument of a call is what, where something else was given.

    Parameters
    ----------
    found : object
    kind : type
        What it must be.
    call : str
        As it should read, for example ``fit(card, events)``.
    place : str
        "first", "second", …
    remedy : str
        Where one gets what is needed.

    Raises
    ------
    TypeError
    """
    if not isinstance(found, kind):
        given = f"the text {found!r}" if isinstance(found, str) else f"of type {type(found).__name__}"
        raise TypeError(f"{call}: the {place} argument is {given}, {kind.__name__} is needed there; {remedy}")
