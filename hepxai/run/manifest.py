"""Manifest of a run: its files with their hashes, and a lock for one process at a time."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hepxai.core.files import locked, refuse_links, remove_leftovers, sha256, write_json
from hepxai.explainers import EXPLAINERS

NAME = "manifest.json"
EXPLAINED, POPULATION = "explanations", "population"
"""Folder of the explanations, and its file with the rows of the explained events."""
VARIATIONS = "variations"
"""Folder of the runs under the variations of the card."""
MISSING = "is missing"


class RunError(RuntimeError):
    """Unusable run folder; the message gives the reason and the remedy."""


class Manifest:
    """Files of a folder that its owner relies on.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """True if the folder has a manifest."""
        return (self.folder / NAME).is_file()

    def names(self) -> dict[str, str]:
        """``file → hash``; empty without a manifest.

        Raises
        ------
        RunError
            If the manifest is damaged.
        """
        if not self.exists():
            return {}
        try:
            listed: Any = json.loads((self.folder / NAME).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        if not (isinstance(listed, dict) and all(isinstance(digest, str) for digest in listed.values())):
            raise self._damaged("not a list of files and hashes")
        return listed

    def _damaged(self, why: str) -> RunError:
        text = f"{self.folder / NAME} is damaged ({why}), so no file of the run can be checked"
        return RunError(f"{text}; put back a copy of it, or {self._afresh(())}")

    def record(self, *names: str) -> None:
        """Enter files that are complete."""
        write_json(self.folder / NAME, self.names() | {n: sha256(self.folder / n) for n in names})

    def forget(self, *names: str) -> None:
        """Remove files from the list, not from the folder."""
        write_json(self.folder / NAME, {n: h for n, h in self.names().items() if n not in names})

    def verify(self) -> None:
        """Check that every file is inside the folder, exists, and is unchanged.

        An explanation may be missing, which is a warning: nothing else relies on it.

        Raises
        ------
        RunError
            The message says how to mend it, or how to start afresh.
        ValueError
            If something in the folder is a link that leads out of it.
        """
        refuse_links(self.folder, "**/*")
        listed = self.names()
        problems = {name: what for name, digest in listed.items() if (what := self._problem(name, digest))}
        for name, what in problems.items():
            if PurePosixPath(name).parent.name != EXPLAINED:
                text = f"{self.folder / name} {what}, and the rest of the run relies on it"
                raise RunError(f"{text}; {self._afresh(problems)}")
        self._verify_explanations(problems, others=listed.keys() - problems.keys())

    def _problem(self, name: str, digest: str) -> str | None:
        path = self.folder / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RunError(f"{self.folder / NAME} lists {name!r}, which is not inside the run folder")
        if not path.is_file():
            return MISSING
        return None if sha256(path) == digest else "was changed after the run wrote it"

    def _afresh(self, problems: Collection[str]) -> str:
        cards = ("dataset.yaml", "model.yaml")
        other = f"{self.folder}-again"
        if set(cards) & set(problems):
            return f"start afresh with the command that made it and another folder, such as --out {other}"
        dataset, model = (self.folder / card for card in cards)
        words = ["hepxai", "run", str(dataset), *self._model_argument(model), "--out", other]
        return f"to start afresh: `{shlex.join(words)}`"

    @staticmethod
    def _model_argument(card: Path) -> list[str]:
        """Model card, or the option that names the Python of the user."""
        content = yaml.safe_load(card.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "file" in content and "function" in content:
            return ["--model", f"{content['file']}:{content['function']}"]
        return [str(card)]

    def _verify_explanations(self, problems: Mapping[str, str], others: Collection[str]) -> None:
        again = f"`hepxai explain {shlex.quote(str(self.folder))}"
        for name, what in problems.items():
            path, key = self.folder / name, PurePosixPath(name).stem
            method = max((m for m in EXPLAINERS if key == m or key.startswith(f"{m}_")), key=len, default=key)
            alone = not any(PurePosixPath(n).parent.name == EXPLAINED for n in others)
            if key == POPULATION and not (alone and what == MISSING):
                text = f"{path} {what}, and the explanations beside it rely on it"
                raise RunError(f"{text}; remove the folder {path.parent}, and {again}` works them out again")
            if what != MISSING:
                text = f"{path} {what}; its results cannot be trusted"
                raise RunError(f"{text}: remove it, and {again} --method {method}` works it out again")
            if key != POPULATION:
                warnings.warn(f"{path} {what}; {again} --method {method}` works it out again", stacklevel=4)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes, and remove incomplete files of killed ones.

        Raises
        ------
        RunError
            If another process works on it.
        """
        with locked(self.folder, RunError):
            remove_leftovers(self.folder, "**/*")
            yield
