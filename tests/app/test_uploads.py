"""Uploads of every kind: opened, explained, and made again by the lines of Python beside a figure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from app_files import (
    onnx_file,
    png_file,
    root_files,
    run_folder,
    sample,
    skops_file,
    trees,
    xgboost_file,
    zipped,
)

from hepxai.app import recipes, uploads, work
from hepxai.app.limits import RefusedError
from hepxai.app.sources import EventFiles, ModelFile, UploadSource
from hepxai.app.uploads import model_file, root_events
from hepxai.cards import CardError, find_card
from hepxai.datasets import ReadError
from hepxai.explainers.methods import explain
from hepxai.models.wrappers.table import SklearnModel
from hepxai.run import Run

pytest.importorskip("onnxruntime")
CARD = find_card("datasets", "charged_higgs").read_text(encoding="utf-8")


def root_upload(folder: Path, *, both: bool = True) -> EventFiles:
    folder.mkdir(exist_ok=True)
    files = root_files() if both else root_files()[1:]
    for path in files:
        shutil.copy(path, folder)
    return root_events(folder, CARD, {p.name: p.stem for p in files})


def images(folder: Path) -> EventFiles:
    folder.mkdir()
    np.savez(folder / "jets.npz", images=np.random.default_rng(0).random((12, 2, 25, 25)).astype(np.float32))
    return EventFiles("images", (folder / "jets.npz",))


def saved(folder: Path) -> EventFiles:
    folder.mkdir()
    sample().save(folder / "events.parquet")
    return EventFiles("saved", (folder / "events.parquet",))


def padded(folder: Path) -> EventFiles:
    folder.mkdir()
    x, mask = sample().padded()
    np.savez(folder / "p.npz", x=x, mask=mask, label=sample().label)
    features = list(sample().schema.features)
    options = {"features": features, "x": "x", "mask": "mask", "label": "label", "p4": "none"}
    return EventFiles("padded", (folder / "p.npz",), options)


def run_zip(kind: str) -> Callable[[Path], ModelFile]:
    return lambda folder: model_file(zipped(run_folder(kind), folder / "run.zip"), "run")


def onnx(view: str, size: int) -> Callable[[Path], ModelFile]:
    def make(folder: Path) -> ModelFile:
        path = onnx_file(folder / "m.onnx", (size,) if view == "table" else (0, size))
        options = {"outputs": ("signal",), "view": view}
        return ModelFile("onnx", path, options | ({"features_first": False} if view == "padded" else {}))

    return make


CASES: dict[str, tuple[Callable[[Path], EventFiles], Callable[[Path], ModelFile], str, dict[str, Any]]] = {
    "run and ROOT": (root_upload, run_zip("graph"), "edge_ig", {"steps": 4}),
    "trees and Parquet": (saved, run_zip("table"), "tree_shap", {}),
    "images": (images, run_zip("image"), "saliency", {}),
    "ONNX table": (root_upload, onnx("table", 10), "kernel_shap", {"samples": 200}),
    "ONNX particles": (root_upload, onnx("padded", 10), "surrogate", {"epochs": 1, "steps": 2}),
    "ONNX arrays": (padded, onnx("padded", 10), "surrogate", {"epochs": 1, "steps": 2}),
    "skops": (saved, lambda f: ModelFile("skops", skops_file(f / "m.skops")), "tree_shap", {}),
    "XGBoost": (saved, lambda f: ModelFile("xgboost", xgboost_file(f / "m.json")), "tree_shap", {}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_every_kind_and_its_python(name: str, tmp_path: Path) -> None:
    make_events, make_model, method, settings = CASES[name]
    source = UploadSource(make_events(tmp_path / "files"), make_model(tmp_path))
    if name == "run and ROOT":
        trained = work.trained_schema(source.file)
        assert trained is not None
        assert trained.features == source.events.read(None).schema.features
    study = work.open_study(source)
    assert method in study.methods
    assert np.isfinite(study.scores).all()
    target, rows = study.targets[0], study.events[[3]]
    expected = work.explain_events(source, study.events, rows, method, target, settings)
    for path in (*source.events.paths[0].parent.iterdir(), source.file.path):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        if not (tmp_path / path.name).exists():
            copy(path, tmp_path / path.name)
    values = executed(recipes.one_event(study, 3, method, target, settings), tmp_path)
    np.testing.assert_array_equal(values, expected.values)


def executed(lines: list[str], folder: Path) -> Any:
    """Values of the attribution that the lines make, in the folder of the files."""
    before, names = Path.cwd(), dict[str, Any]()
    os.chdir(folder)
    try:
        exec("\n".join(lines), names)
    finally:
        os.chdir(before)
    return names["attribution"].values


def test_explain_on_a_population() -> None:
    """A baseline is that of the population, not of the few events explained."""
    events = sample()
    network = Run.open(run_folder("graph")).model
    whole = explain(network, events, "node_ig", steps=4)
    few = explain(network, events[[2, 5]], "node_ig", population=events, steps=4)
    np.testing.assert_allclose(few.values, whole[np.array([2, 5])].values, atol=1e-5)
    alone = explain(network, events[events.label == 0][:2], "node_ig", steps=4)
    assert few.settings["baseline_values"] != alone.settings["baseline_values"]


def test_card_reads_the_uploaded_files_only(tmp_path: Path) -> None:
    """A card may name any file of the machine; it is not read."""
    text = CARD.replace("signal.root", "/etc/passwd").replace("tree: Events", "tree: Events\nfolder: /etc")
    for path in root_files():
        shutil.copy(path, tmp_path)
    root_events(tmp_path, text, {"signal.root": "signal"})
    card = yaml.safe_load((tmp_path / "card.yaml").read_text())
    assert [s["files"] for s in card["samples"]] == [["signal.root"]]
    assert card["labels"] == ["signal"]
    assert "passwd" not in (tmp_path / "card.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "no YAML"),
        ("- a", "should be a mapping"),
        ("x" * 200_000, "characters, more than"),
        ("nonsense: 1", "unknown key"),
        ("a: !!python/object/apply:os.system ['true']", "no YAML|tag|unknown|constructor"),
    ],
)
def test_bad_cards(tmp_path: Path, text: str, sentence: str) -> None:
    shutil.copy(root_files()[0], tmp_path)
    with pytest.raises((CardError, RefusedError), match=sentence):
        root_events(tmp_path, text, {"background.root": None})


def test_names_of_branches_that_are_markup(tmp_path: Path) -> None:
    import uproot

    with uproot.recreate(tmp_path / "x.root") as file:
        file.mktree("Events", {"<script>alert(1)</script>": "float32"})
        file["Events"].extend({"<script>alert(1)</script>": np.zeros(3, dtype=np.float32)})
    text, problem = uploads.draft_text([tmp_path / "x.root"])
    assert problem.startswith("x.root:Events has no branches that look like")
    assert "# Branches of Events: <script>alert(1)<" in text
    with pytest.raises(CardError, match="particles"):
        root_events(tmp_path, text, {"x.root": "x"})


def test_draft_has_the_classes_of_the_file_names(tmp_path: Path) -> None:
    names = {"signal_1.root": "signal", "zz-4l.root": "zz-4l", "signal_2.root": "signal"}
    for name in names:
        shutil.copy(root_files()[1], tmp_path / name)
    text, problem = uploads.draft_text([tmp_path / name for name in names])
    assert not problem
    assert str(tmp_path) not in text
    assert uploads.classes_of(text) == ("zz-4l", "signal")
    events = root_events(tmp_path, text, names).read(None)
    assert np.bincount(events.label)[1] == 2 * np.bincount(events.label)[0]


def test_truncated_root(tmp_path: Path) -> None:
    (tmp_path / "signal.root").write_bytes(root_files()[1].read_bytes()[:5000])
    files = root_events(tmp_path, CARD, {"signal.root": "signal"})
    with pytest.raises(ReadError, match=r"truncated|damaged"):
        files.read(None)


def test_png(tmp_path: Path) -> None:
    files = [png_file(tmp_path / f"{i}.png", (9, 11)) for i in range(2)]
    events = EventFiles("images", tuple(files)).read(None)
    assert events.image().shape == (2, 4, 9, 11)
    png_file(tmp_path / "2.png", (9, 12))
    with pytest.raises(ReadError, match="give images of one size"):
        EventFiles("images", (*files, tmp_path / "2.png")).read(None)
    files[0].write_bytes(files[0].read_bytes()[:60])
    with pytest.raises(ReadError, match="damaged"):
        EventFiles("images", (files[0],)).read(None)
    head = bytearray(files[1].read_bytes())
    head[16:20] = (2**21).to_bytes(4, "big")
    files[1].write_bytes(head)
    with pytest.raises(ReadError, match=r"more than 16,777,216; give a smaller image"):
        EventFiles("images", (files[1],)).read(None)


def test_image_of_another_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 2, 9, 9), dtype=np.float32))
    source = UploadSource(EventFiles("images", (tmp_path / "a.npz",)), run_zip("image")(tmp_path))
    with pytest.raises(ReadError, match=r"2 x 9 x 9.*takes 2 x 25 x 25.*resize them"):
        source.open()


def test_trees_of_skops_only(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from skops.io import dump

    dump(LogisticRegression().fit(sample().globals[:, :2] / 1e3, sample().label), tmp_path / "m.skops")
    with pytest.raises(ValueError, match=r"LogisticRegression.*export others to ONNX"):
        ModelFile("skops", tmp_path / "m.skops").load(sample().schema)
    dump(trees(sample()[:50]), tmp_path / "m.skops")
    data = (tmp_path / "m.skops").read_bytes()
    (tmp_path / "m.skops").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        ModelFile("skops", tmp_path / "m.skops").load(sample().schema)


def test_run_of_own_python_is_refused(tmp_path: Path) -> None:
    dataset = Run.open(run_folder("table")).dataset
    Run.start(tmp_path / "own", dataset, model=SklearnModel(trees(sample()), ("signal",), sample().schema))
    with pytest.raises(RefusedError, match=r"own Python, which the page never executes.*ONNX"):
        model_file(zipped(tmp_path / "own", tmp_path / "own.zip"), "run").load(None)


def test_changed_run_is_refused(tmp_path: Path) -> None:
    shutil.copytree(run_folder("graph"), tmp_path / "run")
    with (tmp_path / "run" / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"evil")
    with pytest.raises(RuntimeError, match="was changed after the run wrote it"):
        model_file(zipped(tmp_path / "run", tmp_path / "a.zip"), "run").load(None)


class _Upload:
    """Stands for an upload of streamlit."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data, self.size, self.file_id, self.reads = name, data, len(data), name, 0

    def getvalue(self) -> bytes:
        self.reads += 1
        return self.data


def test_refused_upload_is_read_once_and_leaves_nothing():
    session, upload = uploads.Session(), _Upload("a.root", b"plain text")
    for _ in range(3):
        with pytest.raises(RefusedError, match="no kind that the page reads"):
            session.once("events", [upload], uploads.store_events)
    assert upload.reads == 1
    assert not list(session.path.iterdir())


def test_upload_is_written_once():
    session, upload = uploads.Session(), _Upload("a.png", b"\x89PNG\r\n\x1a\n")
    first = session.once("events", [upload], uploads.store_events)
    assert session.once("events", [upload], uploads.store_events) is first
    assert (upload.reads, first[2]) == (1, "png")


def test_superseded_uploads_are_deleted():
    session = uploads.Session()

    def store(name: str) -> Path:
        return session.once("events", [_Upload(name, b"\x89PNG\r\n\x1a\n")], uploads.store_events)[0]

    first = store("a.png")
    session.use_latest()  # on the page
    second = store("b.png")
    third = store("c.png")
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    session.use_latest()
    assert (first.exists(), third.exists()) == (False, True)


def test_inputs_of_an_onnx_model(tmp_path: Path) -> None:
    events = padded(tmp_path / "files")
    inputs = work.model_inputs(UploadSource(events, onnx("padded", 10)(tmp_path)))
    assert inputs == ("features", sample().schema.features, {"x": "float [event, particle, 10]"}, "")
    problem = work.model_inputs(UploadSource(events, onnx("padded", 9)(tmp_path))).problem
    assert "particles have 10 features" in problem
    assert problem.endswith("give the events the features of the training, in their order")


def test_uploads_of_a_session_are_limited(monkeypatch):
    monkeypatch.setattr(uploads, "SESSION_BYTES", 20)
    session = uploads.Session()
    session.once("events", [_Upload("a.png", b"\x89PNG\r\n\x1a\n1234")], uploads.store_events)
    with pytest.raises(RefusedError, match="reload the page"):
        session.once("events", [_Upload("b.png", b"\x89PNG\r\n\x1a\n1234")], uploads.store_events)


def test_number_of_event_files_is_limited(monkeypatch, tmp_path):
    monkeypatch.setattr(uploads, "FILES", 1)
    files = [_Upload(f"{n}.png", b"\x89PNG\r\n\x1a\n") for n in "ab"]
    with pytest.raises(RefusedError, match="upload fewer"):
        uploads.store_events(tmp_path, files)
