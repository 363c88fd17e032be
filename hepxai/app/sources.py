"""Events and model behind a page: a run folder, or uploaded files. Opened in a process of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepxai.app.limits import RefusedError
from hepxai.core.files import sha256
from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard, read, read_images, read_padded, read_parquet
from hepxai.events import Events, Schema
from hepxai.models.wrappers.onnx import load_onnx
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.models.wrappers.tree_files import load_trees
from hepxai.run import Run

READERS: Mapping[str, Any] = {
    "saved": Events.load,
    "lists": read_parquet,
    "padded": read_padded,
    "images": read_images,
}


@dataclass(frozen=True)
class EventFiles:
    """Uploaded events.

    Attributes
    ----------
    kind : str
        "card" (ROOT files and the card that reads them), or a key of `READERS`.
    paths : tuple of Path
        Of a card, the card alone.
    options : mapping
        Of the reader.
    """

    kind: str
    paths: tuple[Path, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def stamp(self) -> str:
        """Hash of a card, which may be edited; other files are written once, each set into its folder."""
        return sha256(self.paths[0]) if self.kind == "card" else ""

    def read(self, like: Schema | None) -> Events:
        """Events, checked by the readers of the package."""
        if self.kind == "card":
            return read(DatasetCard.find(str(self.paths[0]))).events
        options = dict(self.options) | ({"like": like} if self.kind == "images" else {})
        return READERS[self.kind](self._argument(self.paths), **options)  # type: ignore[no-any-return]

    def _argument(self, paths: tuple[Any, ...]) -> Any:
        return list(paths) if self.kind == "images" and len(paths) > 1 else paths[0]

    def lines(self, *, with_run: bool) -> list[str]:
        """Python that reads the same events in the folder of the files."""
        names = tuple(p.name for p in self.paths)
        if self.kind == "card":
            return [f"events = hepxai.read(hepxai.DatasetCard.find({names[0]!r})).events"]
        options = "".join(f", {k}={v!r}" for k, v in self.options.items())
        if self.kind == "saved":
            return [f"events = hepxai.Events.load({names[0]!r})"]
        like = ", like=model.schema" if self.kind == "images" and with_run else ""
        reader = READERS[self.kind].__name__
        return [
            f"from hepxai.datasets import {reader}",
            f"events = {reader}({self._argument(names)!r}{options}{like})",
        ]


@dataclass(frozen=True)
class ModelFile:
    """Uploaded model.

    Attributes
    ----------
    kind : str
        Of `hepxai.app.contents.MODEL_KINDS`.
    path : Path
        Of a run, its unpacked folder.
    options : mapping
        Of `load_onnx` or `load_trees`.
    """

    kind: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, schema: Schema | None) -> Any:
        """Model for events of a schema; nothing in the file is executed."""
        if self.kind == "run":
            return model_of(Run.open(self.path))
        assert schema is not None
        load = load_onnx if self.kind == "onnx" else load_trees
        return load(self.path, schema, **self.options)

    def hash(self) -> str:
        """Hash of the content."""
        return hash_of_run(self.path) if self.kind == "run" else sha256(self.path)

    def lines(self) -> list[str]:
        """Python that loads the same model in the folder of the file."""
        if self.kind == "run":
            return [f"model = hepxai.Run.open({self.path.name!r}).model"]
        load = "load_onnx" if self.kind == "onnx" else "load_trees"
        options = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return [f"model = hepxai.{load}({self.path.name!r}, events.schema{options})"]


@dataclass(frozen=True)
class RunSource:
    """A run on this machine, with the events that its card reads.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def stamp(self) -> str:
        """Hash of the state of the run."""
        return sha256(self.folder / "manifest.json")

    def open(self) -> tuple[Any, Events]:
        """Model and events."""
        run = Run.open(self.folder)
        return model_of(run), run.events

    def model(self, schema: Schema) -> Any:
        """Model alone."""
        return model_of(Run.open(self.folder))

    def key(self) -> str:
        """Hash of the model."""
        return hash_of_run(self.folder)

    def lines(self) -> list[str]:
        """Python that opens the same model and events."""
        return [f"run = hepxai.Run.open({str(self.folder)!r})", "model, events = run.model, run.events"]


@dataclass(frozen=True)
class UploadSource:
    """Uploaded events and an uploaded model.

    Attributes
    ----------
    events : EventFiles
    file : ModelFile
    """

    events: EventFiles
    file: ModelFile

    def stamp(self) -> str:
        """Hash of what may change while the source stays."""
        return self.events.stamp()

    def open(self) -> tuple[Any, Events]:
        """Model and events."""
        if self.file.kind == "run":
            model = self.file.load(None)
            return model, self.events.read(schema_of(model))
        events = self.events.read(None)
        return self.file.load(events.schema), events

    def model(self, schema: Schema) -> Any:
        """Model alone."""
        return self.file.load(schema)

    def key(self) -> str:
        """Hash of the model and the options it is read with."""
        return fingerprint(self.file.hash(), {k: str(v) for k, v in self.file.options.items()})

    def lines(self) -> list[str]:
        """Python that opens the same model and events, in the folder of the files."""
        is_run = self.file.kind == "run"
        parts = [self.file.lines(), self.events.lines(with_run=is_run)]
        return [line for part in (parts if is_run else parts[::-1]) for line in part]


Source = RunSource | UploadSource


def model_of(run: Run) -> Any:
    """Model of a run; own Python is refused."""
    if isinstance(run.card, PythonCard):
        raise RefusedError(
            f"{run.folder.name} was made with your own Python, which the page never executes; read its "
            f"report.html, or save the model as ONNX and open that"
        )
    return run.model


def schema_of(model: Any) -> Schema | None:
    """Schema of the training events; of several trainings that of the first."""
    first = model.models[0] if hasattr(model, "models") else model
    schema = getattr(first, "schema", None)
    return schema if isinstance(schema, Schema) else None


def hash_of_run(folder: Path) -> str:
    """Hash of the trained models in a folder."""
    files = sorted(folder.rglob("model.safetensors"))
    return fingerprint([[str(f.relative_to(folder)), sha256(f)] for f in files])
