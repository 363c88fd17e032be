"""Names of methods in figures and tables."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hepxai.attribution.reductions import short_name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (None, "TreeSHAP"),
        ("tree_shap", "TreeSHAP"),
        ("tree_shap_pt", "TreeSHAP pt"),
        ("tree_shap, trees", "TreeSHAP, trees"),
        ("tree_shapley", "tree shapley"),
        ("my_own_map", "my own map"),
    ],
)
def test_the_title_replaces_the_method_and_keeps_the_rest(key: str | None, name: str) -> None:
    assert short_name(SimpleNamespace(method="tree_shap", short_title="TreeSHAP"), key) == name


def test_without_a_title_the_key_stays() -> None:
    assert short_name(SimpleNamespace(method="", short_title=""), "some_map") == "some map"
