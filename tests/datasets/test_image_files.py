"""Images from PNG files and NumPy archives: values, and bad files one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image as mpl_image
import numpy as np
import pytest

from hepxai.datasets import image_files, read_images
from hepxai.datasets.columns import ReadError

PIXELS = np.random.default_rng(0).uniform(0.1, 1, (4, 1, 5, 7)).astype(np.float32)


def png(path: Path, shape: tuple[int, ...] = (5, 7, 3)) -> Path:
    values = np.random.default_rng(1).integers(1, 256, shape).astype(np.uint8)
    mpl_image.imsave(path, values)
    return path


def archive(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_archive_gives_its_pixels_and_labels(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", images=PIXELS, kind=np.array([0, 1, 1, 0]))
    events = read_images(path, labels="kind", classes=("quark", "gluon"))
    np.testing.assert_allclose(events.image(), PIXELS)
    assert events.label.tolist() == [0, 1, 1, 0]


def test_png_files_give_numbers_from_0_to_1(tmp_path: Path) -> None:
    paths = [png(tmp_path / f"{i}.png") for i in range(3)]
    image = read_images(paths).image()
    assert image.shape == (3, 4, 5, 7)  # red, green, blue, opacity
    expected = np.random.default_rng(1).integers(1, 256, (5, 7, 3)) / 255
    np.testing.assert_allclose(np.moveaxis(image[0, :3], 0, -1), expected, atol=1e-6)


def without_header(path: Path) -> Path:
    png(path)
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\0\0\0\0tEXt" + data[16:])
    return path


def corrupt(path: Path) -> Path:
    np.savez_compressed(path, images=np.zeros((4, 50, 50)))
    data = bytearray(path.read_bytes())
    data[50:90] = b"\xff" * 40
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda p: [], {}, "no image; give at least one PNG file"),
        (lambda p: [archive(p / "a.npz", images=PIXELS)] * 2, {}, "one of 2 files; give one archive"),
        (lambda p: png(p / "a.png"), {"labels": "kind"}, "names an array of an .npz archive; give label="),
        (lambda p: archive(p / "a.npz", image=PIXELS), {}, "no array 'images'.*did you mean 'image'"),
        (lambda p: corrupt(p / "a.npz"), {}, "is damaged, or no NumPy archive"),
        (lambda p: without_header(p / "a.png"), {}, "is no PNG image; save it as PNG"),
        (lambda p: [png(p / "a.png"), png(p / "b.png", (6, 7, 3))], {}, "give images of one size"),
    ],
)
def test_bad_files(tmp_path: Path, make: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ReadError, match=sentence):
        read_images(make(tmp_path), **options)


@pytest.mark.parametrize(("limit", "sentence"), [("LARGEST", "smaller image"), ("TOTAL", "give fewer")])
def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, sentence: str) -> None:
    monkeypatch.setattr(image_files, limit, 34)
    with pytest.raises(ReadError, match=sentence):
        read_images([png(tmp_path / "a.png")])
