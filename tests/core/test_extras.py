"""Optional packages: a missing one is named with the command that installs it."""

from __future__ import annotations

import json

import pytest

from hepxai.core.extras import MissingExtraError, import_extra
from hepxai.core.html import html_table


def test_a_missing_package_is_named() -> None:
    assert import_extra("json", "a test", "files") is json
    with pytest.raises(
        MissingExtraError, match=r'an HDF5 file needs no_such .*pip install "hepxai\[files\]"'
    ):
        import_extra("no_such.part", "an HDF5 file", "files")


def test_tables_escape_all_texts() -> None:
    text = html_table("<t>", ["<h>"], [["<v>"], [1.5]], "<n>")
    assert all(f"&lt;{letter}&gt;" in text for letter in "thvn")
    assert text.count("<tr>") == 3
    assert "<table>" not in html_table("t", [], [])
