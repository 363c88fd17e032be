"""Check of arguments that are of the wrong type, or in the wrong order."""

from __future__ import annotations


def check_type(value: object, kind: type, call: str, place: str, remedy: str) -> None:
    """Refuse an argument of another type, with its place in the call.

    Parameters
    ----------
    value : object
    kind : type
        Its type.
    call : str
        The right call, for example ``fit(card, events)``.
    place : str
        "first", "second", …
    remedy : str
        Source of the right argument.

    Raises
    ------
    TypeError
    """
    if not isinstance(value, kind):
        actual = f"the text {value!r}" if isinstance(value, str) else f"of type {type(value).__name__}"
        raise TypeError(
            f"{call}: the {place} argument is {actual}, {kind.__name__} is needed there; {remedy}"
        )
