"""Cards: validated YAML files, found by name or path, with errors that name file and line."""

from hepxai.cards.card import (
    VERSION,
    Card,
    Source,
    Version,
    dump_card,
    entry_error,
    find_card,
    list_cards,
    load_card,
    nearest,
    parse_value,
    refuse_newer,
)
from hepxai.cards.schema import card_schema, write_schemas
from hepxai.cards.text import CardError, Place

__all__ = [
    "VERSION",
    "Card",
    "CardError",
    "Place",
    "Source",
    "Version",
    "card_schema",
    "dump_card",
    "entry_error",
    "find_card",
    "list_cards",
    "load_card",
    "nearest",
    "parse_value",
    "refuse_newer",
    "write_schemas",
]
