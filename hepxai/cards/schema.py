"""JSON Schemas of cards, for editors: completion, descriptions of keys, and errors while typing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepxai.cards.card import Card
from hepxai.core.files import write_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def card_schema(card_class: type[Card]) -> dict[str, Any]:
    """JSON Schema of a kind of card; checks that need more than one key are left to `load_card`."""
    return {"$schema": DIALECT, **card_class.model_json_schema()}


def write_schemas(folder: str | Path, card_classes: Mapping[str, type[Card]]) -> list[Path]:
    """Write ``<name>.json`` for each kind of card into a folder.

    Returns
    -------
    list of Path
        The files, in the order of the kinds.
    """
    folder, paths = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, card_class in card_classes.items():
        text = json.dumps(card_schema(card_class), ensure_ascii=False)
        paths.append(folder / f"{name}.json")
        write_text(paths[-1], text + "\n")
    return paths
