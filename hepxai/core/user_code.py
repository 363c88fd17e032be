"""Python files of users, executed only where the user names them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from hepxai.core.files import sha256

PATHS = ("stdlib", "platstdlib", "purelib", "platlib")
LIBRARIES = (
    *(Path(sysconfig.get_path(kind)).resolve() for kind in PATHS),
    Path(__file__).resolve().parents[1],
)
"""Folders whose modules belong to no user."""
BEGINNINGS = tuple(f"{folder}{os.sep}" for folder in {*map(sysconfig.get_path, PATHS), *map(str, LIBRARIES)})
"""Their names as a module has them, links included: thousands of modules are not resolved one by one."""


class UserCodeError(ValueError):
    """A file of the user fails; the message has its line."""


def run_user_file(path: str | Path) -> ModuleType:
    """Execute a Python file as a module; its folder stays importable.

    Modules of the folder are imported anew, and modules of other folders under the same names are forgotten:
    the file gets its own.

    Raises
    ------
    UserCodeError
        If the file fails, or is no Python file.
    """
    file = Path(path).resolve()
    folder = str(file.parent)
    name = f"hepxai_user_{file.stem}_{hash(file) & 0xFFFFFFFF:x}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} is no Python file; its name ends in .py")
    _forget_modules(file.parent)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    importlib.invalidate_caches()
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    with user_errors(path, "import"):
        spec.loader.exec_module(module)
    return module


@contextmanager
def user_errors(path: str | Path, what: str) -> Iterator[None]:
    """Raise errors of user code as a UserCodeError with file and line."""
    try:
        yield
    except Exception as problem:  # a user's file may raise anything
        file = Path(path).resolve()
        frames = traceback.extract_tb(problem.__traceback__)
        lines: list[int | None] = [f.lineno for f in frames if Path(f.filename).resolve() == file]
        if isinstance(problem, SyntaxError) and problem.filename and Path(problem.filename).resolve() == file:
            lines.append(problem.lineno)
        where = f"{path}:{lines[-1]}" if lines else str(path)
        text = f"{where}: {what} failed with {type(problem).__name__}: {problem}"
        raise UserCodeError(text) from problem


def modules_beside(path: str | Path) -> dict[str, str]:
    """SHA-256 of the modules that a user's file has loaded from its folder, by relative path."""
    file = Path(path).resolve()
    files = {source for name, module in sys.modules.items() if (source := _source(name, module))}
    beside = sorted(f for f in files if f.is_relative_to(file.parent) and f != file and f.is_file())
    return {f.relative_to(file.parent).as_posix(): sha256(f) for f in beside}


def _forget_modules(folder: Path) -> None:
    names = {p.stem if p.suffix == ".py" else p.name for p in folder.iterdir()}
    for name, module in list(sys.modules.items()):
        source = _source(name, module)
        if source and (source.is_relative_to(folder) or name.partition(".")[0] in names):
            del sys.modules[name]


def _source(name: str, module: object) -> Path | None:
    """File of a module of the user, or folder of a package without one; None for libraries."""
    content = getattr(module, "__dict__", {})  # not getattr: some modules of torch raise
    origin = content.get("__file__") or next(iter(content.get("__path__") or ()), None)
    if not isinstance(origin, str) or origin.startswith(BEGINNINGS) or name == "__main__":
        return None
    if not Path(origin).is_absolute():
        return None
    source = Path(origin).resolve()
    return None if any(source.is_relative_to(library) for library in LIBRARIES) else source
