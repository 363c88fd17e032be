"""The command that starts the page."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from app_files import run_folder
from command_line import typed

pytest.importorskip("streamlit")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would be executed in place of this process."""
    commands: list[list[str]] = []
    monkeypatch.setattr(
        os, "execve", lambda _, words, env: commands.append([*words, env.get("HEPXAI_APP_TARGET")])
    )
    return commands


def test_it_listens_here_and_tells_nobody(started: list[list[str]]) -> None:
    folder = run_folder("table")
    result = typed("app", folder, "--port", "8765")
    assert result.exit_code == 0
    (words,) = started
    assert words[-1] == str(folder.resolve())
    for setting in (
        "--server.address=127.0.0.1",
        "--server.port=8765",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--server.enableXsrfProtection=true",
    ):
        assert setting in words
    assert Path(words[4]).is_file()
    assert "http://127.0.0.1:8765" in result.stdout


def test_other_addresses_warn(started: list[list[str]]) -> None:
    assert "everybody who reaches this address" in typed("app", "--address", "0.0.0.0").stdout
    assert "--server.address=0.0.0.0" in started[0]


@pytest.mark.parametrize(
    ("address", "url"),
    [("::1", "http://[::1]:8765"), ("0.0.0.0", f"http://{socket.gethostname()}:8765")],
)
def test_the_address_to_open(started: list[list[str]], address: str, url: str) -> None:
    assert url in typed("app", "--address", address, "--port", "8765").stdout


def test_a_mistyped_address_names_another_address(started: list[list[str]]) -> None:
    assert "as in --address 127.0.0.1" in typed("app", "--address", "192.0.2.1").stderr
    assert not started


def test_refusals(started: list[list[str]], tmp_path: Path) -> None:
    result = typed("app", tmp_path)
    assert result.exit_code == 2
    assert "holds no run and no scan" in result.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"try another, as in --port {port + 1}" in typed("app", "--port", port).stderr
    assert not started


def test_without_streamlit(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    assert 'pip install "hepxai[app]"' in typed("app").stderr
