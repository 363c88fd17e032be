"""Archives of runs: nothing leaves the folder, nothing grows without end."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hepxai.app import unpack
from hepxai.app.limits import RefusedError
from hepxai.app.unpack import unpack_run
from hepxai.app.uploads import arrays_in

MANIFEST = ("run/manifest.json", b"{}")


def zip_of(path: Path, *files: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def test_run_in_a_folder(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", MANIFEST, ("run/model.safetensors", b"x"), ("run/report.html", b"<p>"))
    folder = unpack_run(path, tmp_path / "out")
    assert folder == tmp_path / "out" / "run"
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model.safetensors"]


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/etc/evil.json", "run/../../evil.json", "c:\\evil.json", "..\\evil.json", "a\n.json"],
)
def test_slip(tmp_path: Path, name: str) -> None:
    path = zip_of(tmp_path / "a.zip", MANIFEST, (name, b"x"))
    with pytest.raises(RefusedError, match="leads out of its folder"):
        unpack_run(path, tmp_path / "out")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links(tmp_path: Path, kind: int) -> None:
    path = zip_of(tmp_path / "a.zip", ("run/manifest.json", b"/etc/passwd"), mode=kind | 0o777)
    with pytest.raises(RefusedError, match="has a link; zip the folder without links"):
        unpack_run(path, tmp_path / "out")


def test_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zip_of(tmp_path / "a.zip", MANIFEST, MANIFEST)
    with pytest.raises(RefusedError, match="two files of one name"):
        unpack_run(path, tmp_path / "out")


def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "FILES", 3)
    path = zip_of(tmp_path / "a.zip", *((f"run/{i}.json", b"") for i in range(4)))
    with pytest.raises(RefusedError, match=r"4 files, more than 3; leave figures/ out"):
        unpack_run(path, tmp_path / "out")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="holds no run"):
        unpack_run(zip_of(tmp_path / "a.zip", ("a.json", b"{}")), tmp_path / "out")


def test_encrypted(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", MANIFEST)
    data = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="encrypted"):
        unpack_run(path, tmp_path / "out")


def test_size_that_lies(tmp_path: Path) -> None:
    """The directory says ten bytes, the content is a megabyte."""
    path, buffer = tmp_path / "a.zip", io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("run/manifest.json", bytes(2**20))
    data = bytearray(buffer.getvalue())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)
    path.write_bytes(data)
    with pytest.raises(RefusedError, match=r"larger than it says|truncated or damaged"):
        unpack_run(path, tmp_path / "out")
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 10


@pytest.mark.parametrize("cut", [10, 60])
def test_truncated(tmp_path: Path, cut: int) -> None:
    path = zip_of(tmp_path / "a.zip", MANIFEST, ("run/model.safetensors", bytes(300)))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(RefusedError, match="truncated or damaged"):
        unpack_run(path, tmp_path / "out")


def damaged(path: Path, name: str, content: bytes) -> Path:
    """Compressed archive of one file, with other bytes where its packed content begins."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data, start = bytearray(path.read_bytes()), 30 + len(name)
    data[start : start + 12] = b"\xff" * 12
    path.write_bytes(data)
    return path


def test_damaged_content(tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.zip", "run/manifest.json", b"{}" * 500)
    with pytest.raises(RefusedError, match=r"truncated or damaged .*; make the archive again"):
        unpack_run(path, tmp_path / "out")
    array = io.BytesIO()
    np.save(array, np.zeros(1000))
    with pytest.raises(RefusedError, match=r"is damaged .*; save it again"):
        arrays_in(damaged(tmp_path / "a.npz", "x.npy", array.getvalue()))
