"""Cards: validated YAML files, found by name or path, with errors that name file and line."""

from hepxai.cards.card import (
    Card,
    CardError,
    Place,
    dump_card,
    entry_error,
    find_card,
    list_cards,
    load_card,
    nearest,
    parse_value,
)

__all__ = [
    "Card",
    "CardError",
    "Place",
    "dump_card",
    "entry_error",
    "find_card",
    "list_cards",
    "load_card",
    "nearest",
    "parse_value",
]
