"""Runs and scans in the folder that the command was folder."""

from __future__ import annotations

import os
from pathlib import Path

from hepxai.app.limits import RefusedError

TARGET = "HEPXAI_APP_TARGET"
"""Environment variable with that folder."""
MOST = 300
"""Largest number of runs and scans in the list."""


def target() -> Path | None:
    """Folder that the command was folder; None without one."""
    folder = os.environ.get(TARGET)
    return Path(folder) if folder else None


def runs_in(folder: Path) -> dict[str, Path]:
    """Runs and scans by name: the folder itself, or those in it and one level below.

    Raises
    ------
    RefusedError
        If there is none.
    """
    if is_scan(folder) or is_run(folder):
        return {folder.resolve().name: folder}
    inside = [p for pattern in ("*", "*/*") for p in sorted(folder.glob(pattern)) if p.is_dir()]
    folders = {p.relative_to(folder).as_posix(): p for p in inside if is_scan(p) or is_run(p)}
    if not folders:
        raise RefusedError(
            f"{folder} holds no run and no scan; make one with `hepxai run`, or give the folder above yours"
        )
    return dict(list(folders.items())[:MOST])


def is_run(folder: Path) -> bool:
    """True for the folder of a run with a trained model."""
    return (folder / "manifest.json").is_file() and (folder / "metrics.json").is_file()


def is_scan(folder: Path) -> bool:
    """True for the folder of a scan."""
    return (folder / "scan.json").is_file()
