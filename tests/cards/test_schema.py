"""JSON Schemas of cards: shipped as generated, satisfied by every shipped card; and versions of cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hepxai.cards import CardError, card_schema, dump_card, list_cards, load_card
from hepxai.cards.text import read_card
from hepxai.cli import app
from hepxai.datasets import DatasetCard
from hepxai.models.card import ModelCard, model_card_classes

SHIPPED = Path(__file__).parents[2] / "hepxai" / "cards" / "schemas"
CLASSES = {"dataset": DatasetCard, **model_card_classes()}
CARDS = [path for kind in ("datasets", "models") for path in list_cards(kind).values()]
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def test_shipped_schemas_are_the_generated_ones(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cards", "--schema", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    schemas = {p.name: p.read_text() for p in (tmp_path / "new").iterdir()}
    assert schemas.keys() == {f"{name}.json" for name in CLASSES}
    shipped = {p.name: p.read_text() for p in SHIPPED.iterdir()}
    assert shipped == schemas, "run: hepxai cards --schema hepxai/cards/schemas"


def problems(value: Any, schema: Any, definitions: Any) -> list[str]:
    """Violations of the keywords that decide whether an editor accepts a key or marks it."""
    if "$ref" in schema:
        return problems(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        choices = [problems(value, choice, definitions) for choice in schema["anyOf"]]
        return [] if [] in choices else choices[0]
    if not isinstance(value, TYPES[schema["type"]]) or value not in schema.get("enum", [value]):
        return [f"{value!r} is not {schema}"]
    if isinstance(value, list):
        items = schema.get("items")
        return [p for v in value for p in problems(v, items, definitions)] if items else []
    if not isinstance(value, dict):
        return []
    keys, others = schema.get("properties", {}), schema.get("additionalProperties")
    missing = [f"no {key}" for key in schema.get("required", ()) if key not in value]
    unknown = [f"unknown {key}" for key in value if key not in keys and others is False]
    inside = {k: keys.get(k, others) for k in value if keys.get(k, others)}
    return missing + unknown + [p for k, s in inside.items() for p in problems(value[k], s, definitions)]


@pytest.mark.parametrize("path", CARDS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_shipped_cards_satisfy_their_schema(path: Path) -> None:
    data, _ = read_card(path)
    kind = "dataset" if path.name == "card.yaml" else data["kind"]
    schema = card_schema(CLASSES[kind])
    assert data["version"] == 1
    assert problems(data, schema, schema["$defs"]) == []
    assert problems(data | {"naem": 1}, schema, schema["$defs"]) == ["unknown naem"]


@pytest.mark.parametrize(("kind", "card_class"), [("datasets", DatasetCard), ("models", ModelCard)])
def test_newer_cards_are_refused_before_their_unknown_keys(
    tmp_path: Path, kind: Any, card_class: Any
) -> None:
    text = next(iter(list_cards(kind).values())).read_text(encoding="utf-8")
    assert "\nversion: 1\n" in text
    path = tmp_path / "card.yaml"
    path.write_text(text.replace("\nversion: 1\n", "\n"), encoding="utf-8")
    assert "version: 1\n" in dump_card(load_card(path, card_class))
    path.write_text(text.replace("\nversion: 1\n", "\nversion: 2\nnew_key: 1\nkind: newer\n"))
    if kind == "models":
        path.write_text("version: 2\nkind: newer\n")
    with pytest.raises(
        CardError, match=r"card.yaml:\d+: version: found 2; .* up to version 1: update hepxai"
    ):
        load_card(path, card_class)


def test_a_version_is_a_positive_number(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("version: 0\nkind: dense\n")
    with pytest.raises(CardError, match="version: found 0; should be greater than or equal to 1"):
        load_card(path, ModelCard)
