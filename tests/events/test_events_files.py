"""Saved events: nothing is lost, nothing is executed, and bad files are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events
from hepxai.events.storage import KEY

KINDS = ["events.safetensors", "events.parquet"]


def populations(toy) -> dict[str, Events]:
    plain = toy(30, smallest=0)
    images = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    target = {"pt": [1.0, np.nan, 3.0, -0.0]}
    return {
        "toy": plain.replace(observers={"n": np.arange(30), "m": np.linspace(0, 1, 30)}),
        "one event": plain[:1].replace(samples=("dy", "tt")),
        "none": plain[:0],
        "images": Events.from_images(images, targets=target, split="test"),
        "table": Events.from_awkward({}, globals={"a": [1.0, 2.0]}),
    }


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("which", ["toy", "one event", "none", "images", "table"])
def test_nothing_is_lost(which: str, name: str, toy, tmp_path: Path) -> None:
    events = populations(toy)[which]
    events.save(tmp_path / name)
    again = Events.load(tmp_path / name)
    for about in ("schema", "files", "file_entries", "samples"):
        assert getattr(again, about) == getattr(events, about)
    for column, values in (
        events._event_columns() | events._particle_columns() | {"offsets": events.offsets}
    ).items():
        group, _, key = column.partition(".")
        stored = getattr(again, group)[key] if key else getattr(again, group)
        assert stored.dtype == values.dtype, column
        assert stored.tobytes() == np.ascontiguousarray(values).tobytes(), column


def test_a_file_that_names_no_samples(toy, tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    toy(5).save(tmp_path / "events.safetensors")
    tensors, metadata = read_tensors(tmp_path / "events.safetensors")
    head = json.loads(metadata[KEY])
    del head["samples"]
    write_tensors(tmp_path / "events.safetensors", tensors, {KEY: json.dumps(head)})
    assert Events.load(tmp_path / "events.safetensors").samples == ()


def test_parquet_has_the_documented_columns(toy, tmp_path: Path) -> None:
    events = toy(10)
    events.save(tmp_path / "events.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "events.parquet")
    assert table.num_rows == 10
    pt = table["particles.pt"].to_pylist()
    assert [len(row) for row in pt] == events.counts.tolist()
    assert {"label", "weight", "globals.ht", "p4.eta", "observers.mass_mumu", "truth.fromA"} <= {
        *table.column_names
    }


@pytest.mark.parametrize("name", KINDS)
def test_truncated_files_are_refused(name: str, toy, tmp_path: Path) -> None:
    path = tmp_path / name
    toy(10).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is truncated or no"):
        Events.load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="is truncated or no"):
        Events.load(path)
    with pytest.raises(FileNotFoundError):
        Events.load(tmp_path / f"no_{name}")


def edited(path: Path, out: Path, change, head=lambda text: text) -> Path:
    tensors, metadata = read_tensors(path)
    change(tensors)
    write_tensors(out, tensors, {k: head(v) for k, v in metadata.items()})
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("weight"), "has no column 'weight'"),
        (lambda t: t.update(surprise=np.ones(3)), "has a column 'surprise'"),
        (lambda t: t.update({"observers.x": np.ones(3)}), "observers.x has 3 rows for 10 events"),
        (lambda t: t.update(weight=t["weight"].astype(np.float32)), "weight holds float32, not float64"),
        (lambda t: t.update(offsets=t["offsets"][:0]), "offsets have shape"),
        (lambda t: t.update(label=t["label"] + 9), "label holds"),
        (lambda t: t.update(particles=t["particles"][:, :2]), "particles has shape"),
    ],
)
def test_foreign_keys_are_refused(change, message: str, toy, tmp_path: Path) -> None:
    toy(10).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        Events.load(edited(tmp_path / "a.safetensors", tmp_path / "b.safetensors", change))


def test_damaged_headers_are_refused(toy, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    toy(10).save(path)
    for head in (lambda t: t[:-5], lambda t: "[]", lambda t: json.dumps({"schema": "{}"})):
        with pytest.raises(ValueError, match="the schema is damaged"):
            Events.load(edited(path, tmp_path / "b.safetensors", lambda t: None, head))
    write_tensors(tmp_path / "c.safetensors", {"x": np.ones(2)}, {"format": "pt"})
    with pytest.raises(ValueError, match=r"holds no events; Events.save"):
        Events.load(tmp_path / "c.safetensors")


def test_other_parquet_files_are_refused(toy, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="read_parquet reads other files"):
        Events.load(tmp_path / "a.parquet")
    toy(10).save(tmp_path / "b.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "b.parquet")
    assert KEY.encode() in table.schema.metadata
    for column in ("type", "particles.pt", "weight"):
        pyarrow.parquet.write_table(table.drop_columns([column]), tmp_path / "c.parquet")
        with pytest.raises(ValueError, match=f"has no column '{column}'"):
            Events.load(tmp_path / "c.parquet")


def test_another_ending_is_refused(toy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"events\.csv: events are kept in .*\.safetensors or \.parquet"):
        toy(3).save(tmp_path / "events.csv")
