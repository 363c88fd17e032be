"""Uploads are known by their content: what could execute anything is refused, whatever it is called."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from app_files import onnx_file, png_file, root_files, skops_file, zipped

from hepxai.app import contents
from hepxai.app.contents import EVENT_KINDS, MODEL_KINDS, kind_of
from hepxai.app.limits import MB, RefusedError
from hepxai.app.uploads import Session, arrays_in, plain_name, save

PICKLE = pickle.dumps({"a": [1, 2, 3]})


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def test_kinds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)))
    assert kind_of(root_files()[0]) == "root"
    assert kind_of(tmp_path / "a.npz") == "npz"
    assert kind_of(png_file(tmp_path / "a.png", (5, 6))) == "png"
    assert kind_of(onnx_file(tmp_path / "m.onnx", (3,))) == "onnx"
    assert kind_of(skops_file(tmp_path / "m.skops")) == "skops"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    assert kind_of(zipped(tmp_path / "run", tmp_path / "run.zip")) == "run"


@pytest.mark.parametrize("name", ["model.onnx", "events.root", "model.json", "model.pkl"])
@pytest.mark.parametrize(
    "content",
    [
        PICKLE,
        pickle.dumps([1.0], protocol=0),
        pickle.dumps({1: 2}, protocol=1),
        pickle.dumps(np.zeros(3), protocol=2),
        gzip.compress(PICKLE, mtime=0),
        zlib.compress(PICKLE),
        archive(archive__data_dot_pkl=PICKLE),  # torch.save
    ],
    ids=["4", "0", "1", "2", "gzip", "zlib", "torch"],
)
def test_pickles_are_refused_under_any_name(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(RefusedError, match=r"pickle.*save the model as ONNX"):
        save(tmp_path, name, content, MODEL_KINDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"import os\nos.system('x')\n", "never executes.*--model"),
        (b"#!/usr/bin/env python3\nprint(1)\n", "never executes"),
        (b"# model\nfrom torch import nn\n", "never executes"),
        (b"\x7fELF" + bytes(100), "is a program"),
        (b"", "is empty; choose the file again"),
        (b"hello world, " * 30, "of no kind that the page reads; events: ROOT"),
        (gzip.compress(b"root and more", mtime=0), "is compressed; unpack it"),
        (b"\x1f\x8b broken", "damaged"),
        (b"PK\x03\x04 broken", "truncated or damaged"),
        (archive(readme=b"x"), "an archive without a run"),
        ((8).to_bytes(8, "little") + b"{}      ", "zip the whole folder of the run"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        save(tmp_path, "model.onnx", content, MODEL_KINDS)


def test_wrong_field(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="holds events; this field is for a model; use the other field"):
        save(tmp_path, "m.onnx", root_files()[0].read_bytes(), MODEL_KINDS)


@pytest.mark.parametrize(
    ("kinds", "remedy"), [(EVENT_KINDS, "give fewer events"), (MODEL_KINDS, "give a smaller model")]
)
def test_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], remedy: str) -> None:
    monkeypatch.setattr(contents, "EVENT_BYTES", MB)
    monkeypatch.setattr(contents, "MODEL_BYTES", MB)
    with pytest.raises(RefusedError, match=f"3 MB, more than 1 MB; {remedy}"):
        save(tmp_path, "big.root", b"root" + bytes(3 * MB), kinds)


def test_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", bytes(50 * MB))
    with pytest.raises(RefusedError, match="would become 50 MB"):
        kind_of(path)


def test_python_objects_in_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{1: 2}], dtype=object))
    with pytest.raises(RefusedError, match="Python objects, which are pickles"):
        arrays_in(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 3), dtype=np.float32))
    assert arrays_in(tmp_path / "b.npz") == {"x": (2, 3)}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x.root", "x.root"),
        ("<script>alert(1)</script>.root", "script_.root"),
        ("...", "file"),
        ("[a](javascript:x).root", "_a_javascript_x_.root"),
        ("a" * 200 + ".root", "a" * 75 + ".root"),
    ],
)
def test_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_sessions_have_folders_of_their_own() -> None:
    one, other = Session(), Session()
    (folder := one.new_folder()).joinpath("a").write_text("secret")
    assert one.path != other.path
    assert one.path.stat().st_mode & 0o077 == 0
    assert not list(other.path.iterdir())
    path = one.path
    del one
    assert not path.exists()
    assert not folder.exists()
