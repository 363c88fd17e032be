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
from safetensors.numpy import load_file

from hepxai.core.files import (
    DiskFullError,
    locked,
    read_json,
    read_tensors,
    refuse_links,
    remove_leftovers,
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
from hepxai.core.files import write_text
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
from hepxai.core.files import replacing
with replacing({str(target)!r}) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(target, "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x.txt": "new"}


def test_only_what_the_dead_left_is_removed(tmp_path: Path):
    script = f"""
import os, signal, sys
from hepxai.core.files import replacing
with replacing({str(tmp_path)!r} + "/" + sys.argv[1]) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "dead" else print("written", flush=True)
    sys.stdin.read()
"""
    subprocess.run([sys.executable, "-c", script, "dead"], check=False)
    (tmp_path / "inside").mkdir()
    for name in ("inside/x.4711.part", "thesis.part", "thesis.1.part2"):
        (tmp_path / name).write_text("")
    living = subprocess.Popen(
        [sys.executable, "-c", script, "living"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert living.stdout is not None
    assert living.stdout.readline() == "written\n"
    remove_leftovers(tmp_path, "**/*")
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"thesis.part", "thesis.1.part2", f"living.{living.pid}.part"}
    living.communicate()
    assert (tmp_path / "living").read_text() == "half"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_every_file_has_the_mode_of_the_umask(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "x.txt", "x")
        write_tensors(tmp_path / "x.safetensors", TENSORS, {})
        with locked(tmp_path, RuntimeError):
            pass
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o666 & ~umask}


def test_one_process_at_a_time(tmp_path: Path):
    with (
        locked(tmp_path, ArithmeticError),
        pytest.raises(ArithmeticError, match=r"another process works on .*; wait for it, or use another"),
        locked(tmp_path, ArithmeticError),
    ):
        pass


@pytest.mark.parametrize("link", ["figures", "deep/er", "file", "nowhere"])
def test_links_that_lead_out_are_refused(tmp_path: Path, link: str):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    (folder / "inside").symlink_to("deep")
    refuse_links(folder, "**/*")
    outside.mkdir()
    (outside / "file").write_text("do not lose me")
    (folder / link).symlink_to(outside / link if link in ("file", "nowhere") else outside)
    with pytest.raises(ValueError, match=rf"{link} is a link to .*outside.* `cp -rL (\S+) (\S+)`") as error:
        refuse_links(folder, "**/*")
    if link != "nowhere":
        subprocess.run(str(error.value).split("`")[1].split(), check=True)
        refuse_links(tmp_path / "folder-copy", "**/*")
    (folder / link).unlink()
    refuse_links(folder, "**/*")


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


def test_equal_tensors_give_equal_bytes_that_the_library_reads(tmp_path: Path):
    """As wide types first, so that each is aligned; the order of what is given does not matter."""
    tensors = {k: np.arange(3).astype(k) for k in ("bool", "int8", "uint16", "float16", "int64", ">f4", "f8")}
    metadata = {name: name * 2 for name in "abcdefgh"}
    write_tensors(tmp_path / "x", tensors, metadata)
    write_tensors(tmp_path / "y", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert sha256(tmp_path / "x") == sha256(tmp_path / "y")
    for name, values in load_file(tmp_path / "x").items():
        np.testing.assert_array_equal(values, tensors[name])


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
