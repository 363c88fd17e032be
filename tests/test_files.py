"""Files are complete or absent, whatever stops the writer."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from hepxai import files
from hepxai.files import (
    DiskFullError,
    read_json,
    read_tensors,
    replacing,
    sha256,
    write_json,
    write_tensors,
    write_text,
)

TENSORS = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 4), dtype=np.float32)}


def test_a_finished_file_takes_its_name_and_leaves_nothing_else(tmp_path: Path):
    with replacing(tmp_path / "new" / "x.txt") as part:
        part.write_text("done")
        assert not (tmp_path / "new" / "x.txt").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.txt"]
    assert (tmp_path / "new" / "x.txt").read_text() == "done"


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, "old"])
def test_an_exception_leaves_what_was_there(tmp_path: Path, stop, before):
    target = tmp_path / "x.txt"
    if before is not None:
        target.write_text(before)

    def interrupted():
        with replacing(target) as part:
            part.write_text("half")
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_file(tmp_path: Path, number):
    def full():
        with replacing(tmp_path / "x.txt") as part:
            part.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match=r"disk full, nothing was written: '.*x\.txt'"):
        full()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_recognised_in_the_words_of_safetensors(tmp_path: Path, monkeypatch):
    def full(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(DiskFullError):
        write_tensors(tmp_path / "x.safetensors", TENSORS, {})
    assert not list(tmp_path.iterdir())


def test_the_innermost_file_is_blamed(tmp_path: Path):
    def nested():
        with replacing(tmp_path / "outer"), replacing(tmp_path / "inner"):
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(DiskFullError, match="inner"):
        nested()


def test_other_errors_of_the_system_pass_unchanged(tmp_path: Path):
    def refused():
        with replacing(tmp_path / "x.txt"):
            raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        refused()


def test_a_limit_of_the_system_leaves_nothing(tmp_path: Path):
    """A real failure in the middle of a write: the kernel refuses more than 4 kB."""
    script = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from hepxai.files import write_text
write_text({str(tmp_path / "x.txt")!r}, "x" * 100_000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    script = f"""
import os, signal
from hepxai.files import replacing
with replacing({str(target)!r}) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    write_text(target, "new")
    assert target.read_text() == "new"


def test_json_keeps_numbers_and_has_no_nan(tmp_path: Path):
    value = {
        "a": np.float32(0.5),
        "b": np.array([1.0, np.nan, -np.inf]),
        "c": np.array(2.5),
        3: (np.int64(2), True, None, "é"),
    }
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": 0.5, "b": [1.0, None, None], "c": 2.5, "3": [2, True, None, "é"]}


def test_null_is_read_as_nan(tmp_path: Path):
    value = {"a": [{"value": 0.25, "error": np.inf}], "b": np.nan, "c": "é", "d": True}
    write_json(tmp_path / "x.json", value)
    found = read_json(tmp_path / "x.json")
    assert (found["a"][0]["value"], found["c"], found["d"]) == (0.25, "é", True)
    assert np.isnan([found["a"][0]["error"], found["b"]]).all()


def test_a_value_that_json_cannot_hold_leaves_no_file(tmp_path: Path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_tensors_come_back(tmp_path: Path):
    strided = TENSORS | {"t": np.arange(12).reshape(3, 4).T[::2]}
    write_tensors(tmp_path / "x.safetensors", strided, {"made": "by a test"})
    found, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"made": "by a test"}
    assert found.keys() == strided.keys()
    for name, values in strided.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


@pytest.mark.parametrize("damage", [lambda b: b[:-8], lambda b: b[:5], lambda _: b"", lambda _: b"root" * 50])
def test_damaged_tensors_are_refused_by_name(tmp_path: Path, damage):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"x\.safetensors is truncated or no safetensors file"):
        read_tensors(path)


def test_hash(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
