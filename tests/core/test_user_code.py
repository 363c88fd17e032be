"""Python files of users: modules beside them, and the line of an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hepxai.core.user_code import UserCodeError, modules_beside, run_user_file, user_errors


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(folder: Path, value: int) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "parts.py").write_text(f"VALUE = {value}\n")
    (folder / "inner" / "later.py").write_text(f"VALUE = {10 * value}\n")
    path = folder / "my.py"
    path.write_text(
        "from parts import VALUE\ndef late():\n    import inner.later\n    return inner.later.VALUE\n"
    )
    return path


def test_each_file_has_the_modules_of_its_folder(tmp_path: Path) -> None:
    first = run_user_file(write(tmp_path / "a", 1))
    assert (first.VALUE, first.late()) == (1, 10)  # imports inside functions work as well
    assert sorted(modules_beside(tmp_path / "a" / "my.py")) == ["inner/later.py", "parts.py"]
    second = run_user_file(write(tmp_path / "b", 2))
    assert (second.VALUE, second.late()) == (2, 20)
    assert first.VALUE == 1
    (tmp_path / "b" / "parts.py").write_text("VALUE = 2 + 1\n")
    assert run_user_file(tmp_path / "b" / "my.py").VALUE == 3
    assert first.__name__ != second.__name__


def test_libraries_stay(tmp_path: Path) -> None:
    import json

    import hepxai.core.files

    for name in ("json", "hepxai"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError\n")
    path = tmp_path / "my.py"
    path.write_text("import json, hepxai.core.files as files\n")
    module = run_user_file(path)
    assert (module.json, module.files) == (json, hepxai.core.files)
    assert modules_beside(path) == {}


@pytest.mark.parametrize("relative", [False, True])
def test_errors_have_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("my.py") if relative else tmp_path / "my.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n@dataclass\n"
        "class Sizes:\n    _: KW_ONLY\n    width: int = 3\ndef fail():\n    1 / 0\n"
    )
    module = run_user_file(path)
    assert module.Sizes(width=4).width == 4  # dataclasses look their module up
    with (
        pytest.raises(UserCodeError, match=r"my.py:8: fail\(\) failed with ZeroDivisionError"),
        user_errors(path, "fail()"),
    ):
        module.fail()
    path.write_text("x = 1\nx +\n")
    with pytest.raises(UserCodeError, match=r"my.py:2: import failed with SyntaxError"):
        run_user_file(path)
    path.rename("my.txt")
    with pytest.raises(UserCodeError, match=r"my.txt is no Python file; its name ends in .py"):
        run_user_file("my.txt")


def test_libraries_are_told_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of modules: to resolve the path of each takes a second."""
    resolved: list[Path] = []

    def resolve(self: Path, strict: bool = False, plain: Any = Path.resolve) -> Path:
        resolved.append(self)
        return plain(self, strict)

    monkeypatch.setattr(Path, "resolve", resolve)
    run_user_file(write(tmp_path / "a", 1))
    assert len(resolved) < len(sys.modules) / 4
