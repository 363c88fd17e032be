"""Mean maps of many classes: which mean stands where, on which scale."""

from __future__ import annotations

import numpy as np
import pytest

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.plots import class_mean_maps

NAMES = tuple(f"class {i}" for i in range(11))


@pytest.fixture(scope="module")
def maps() -> dict[str, Attribution]:
    """One map of each class's own output."""
    rng = np.random.default_rng(0)
    images = (rng.random((44, 1, 4, 20)) < 0.2).astype(np.float32)
    events = Events.from_images(images, label=np.arange(44) % 11, classes=NAMES)
    axes = ("event", "row", "column")
    return {
        name: Attribution((k + 1) * images[:, 0], axes, events, "saliency", f"{name}-rest")
        for k, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("scale", ["common", "own"])
def test_each_panel_shows_its_class(maps: dict[str, Attribution], scale: str) -> None:
    figure = class_mean_maps(maps, scale=scale)  # type: ignore[arg-type]
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == [f"{name} (4)" for name in NAMES]
    for k, (ax, name) in enumerate(zip(panels, NAMES, strict=True)):
        mesh, own = ax.collections[0], maps[name]
        mean = own.values[own.events.label == k].mean(0)
        np.testing.assert_allclose(mesh.get_array(), mean)
        top = mean.max() if scale == "own" else max(c.collections[0].get_array().max() for c in panels)
        assert mesh.norm.vmax == pytest.approx(top)
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert len(bars) == (1 if scale == "common" else 11)


def test_one_map_for_all_classes(maps: dict[str, Attribution]) -> None:
    figure = class_mean_maps(maps["class 3"])
    assert figure.get_suptitle() == "mean saliency of class 3-rest"
    assert sum(bool(ax.get_title(loc="left")) for ax in figure.axes) == 11


def test_a_class_without_events(maps: dict[str, Attribution]) -> None:
    few = maps["class 0"][np.flatnonzero(maps["class 0"].events.label < 10)]
    titles = [ax.get_title(loc="left") for ax in class_mean_maps(few).axes]
    assert "class 10 (0)" in titles


def test_what_is_refused(maps: dict[str, Attribution]) -> None:
    one = maps["class 0"]
    for arguments, error, message in (
        (({},), ValueError, "no maps to draw"),
        (({"tau": one},), KeyError, "no class 'tau'; the events have class 0"),
        ((one.sum("row"),), ValueError, "needs maps over pixels"),
    ):
        with pytest.raises(error, match=message):
            class_mean_maps(*arguments)
    with pytest.raises(ValueError, match="scale='log'; one of common, own"):
        class_mean_maps(one, scale="log")  # type: ignore[arg-type]
