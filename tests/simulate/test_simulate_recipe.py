"""Recipes: what makes two simulations the same."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
import simulate_helpers as helpers

from hepxai.simulate import MissingExtraError, recipe

pytest.importorskip("pythia8mc", reason="recipes name the version of the generator")
pytest.importorskip("fastjet", reason="recipes name the version of the jet finder")

FOLDER = Path(recipe.__file__).parent


def imported(module, seen):
    """Modules of the simulation that ``module`` imports, directly or not."""
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hepxai.simulate."):
            name = node.module.rpartition(".")[2]
            if name not in seen:
                seen.add(name)
                imported(name, seen)
    return seen


def test_every_module_that_makes_events_is_hashed():
    # Settings are hashed by their values.
    assert imported("chunk", {"chunk"}) - {"config"} == set(recipe._SOURCES)


def test_each_part_changes_the_key():
    config = helpers.shipped_config()
    original = recipe.recipe_of(config, "signal")
    assert recipe.recipe_of(config, "signal").key == original.key
    changes = {
        "settings": {**original.settings, "seed": 1},
        "versions": {**original.versions, "pythia8mc": "8.0"},
        "code": "other",
    }
    keys = {dataclasses.replace(original, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {original.key}) == 4


def test_missing_extra_is_said_at_once(monkeypatch):
    def missing(name):
        raise MissingExtraError(f"simulating events needs {name}")

    monkeypatch.setattr(recipe, "require", missing)
    with pytest.raises(MissingExtraError, match="pythia8mc"):
        recipe.recipe_of(helpers.shipped_config(), "signal")
