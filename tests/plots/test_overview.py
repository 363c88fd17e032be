"""The figure that fits the axes: which one is drawn, and what is refused."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepxai import plots
from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.plots import overview


@pytest.fixture
def maps(toy, pair_map, attention, node_map) -> dict[str, Attribution]:
    events, rng = toy(30, smallest=4), np.random.default_rng(0)
    images = rng.normal(size=(6, 1, 5, 7)).astype(np.float32)
    pictures, columns = Events.from_images(images, label=[0, 1] * 3), events.schema.globals
    table, neurons = rng.normal(size=(30, 2)), rng.normal(size=(30, 4))
    names = {"neuron": tuple(f"0:{i}" for i in range(4))}
    return {
        "pair": pair_map(events),
        "attention": attention(events),
        "particle": node_map(events),
        "table": Attribution(
            table, ("event", "feature"), events, "ig", "signal", labels={"feature": columns}
        ),
        "neuron": Attribution(neurons, ("event", "neuron"), events, "conductance", "signal", labels=names),
        "image": Attribution(images[:, 0], ("event", "row", "column"), pictures, "image_ig", "signal"),
    }


@pytest.mark.parametrize(
    ("which", "options", "function"),
    [
        ("pair", {}, "pair_types"),
        ("pair", {"event": 3, "number": 2}, "event_display"),
        ("attention", {"class_name": "background"}, "pair_types"),
        ("particle", {}, "particle_types"),
        ("particle", {"kind": "matrix"}, "feature_matrix"),
        ("particle", {"event": 3, "top": 3}, "entry_bars"),
        ("table", {}, "beeswarm"),
        ("table", {"kind": "bars"}, "importance_bars"),
        ("table", {"event": 0}, "entry_bars"),
        ("neuron", {}, "neuron_bars"),
        ("neuron", {"event": 2}, "entry_bars"),
        ("image", {}, "mean_map"),
        ("image", {"class_name": "signal"}, "mean_map"),
        ("image", {"event": 5}, "attribution_image"),
    ],
)
def test_the_figure_fits(which: str, options, function: str, maps, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, original = [], getattr(overview, function)
    monkeypatch.setattr(overview, function, lambda *a, **k: drawn.append(function) or original(*a, **k))
    _, ax = plt.subplots()
    assert maps[which].plot(ax=ax, **options) is ax
    assert drawn == [function]
    assert isinstance(plots.plot(maps[which], **options), plt.Axes)
    ax.figure.canvas.draw()


def test_values_are_those_of_the_event(maps) -> None:
    ax = maps["table"].plot(event=4)
    expected = maps["table"].values[4]
    order = np.argsort(-abs(expected))
    names = [maps["table"].labels["feature"][i] for i in order]
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], expected[order])
    total = maps["particle"].sum("feature")[np.array([3])].values
    bars = [bar.get_width() for bar in maps["particle"].plot(event=3).patches]
    np.testing.assert_allclose(bars, total[np.argsort(-abs(total))])
    mesh = maps["image"].plot(class_name="signal").collections[0].get_array()
    np.testing.assert_allclose(np.ravel(mesh), maps["image"].values[1::2].mean(axis=0).ravel(), rtol=1e-6)


def test_dense_images_have_no_frames(maps) -> None:
    assert not maps["image"].plot(event=0).patches


@pytest.mark.parametrize(
    ("which", "options", "message"),
    [
        ("pair", {"event": 30}, "no event 30; positions are 0 to 29"),
        ("pair", {"class_name": "ttbar"}, "no class 'ttbar'; there are background, signal"),
        ("pair", {"kind": "bars"}, "no figure of the kind 'bars' for the axes pair; leave it out"),
        ("table", {"kind": "matrix"}, "write bars or beeswarm"),
    ],
)
def test_what_cannot_be_drawn_is_refused(which: str, options, message: str, maps) -> None:
    with pytest.raises(ValueError, match=message):
        maps[which].plot(**options)


def test_one_number_per_event_has_no_figure(maps) -> None:
    total = maps["pair"].sum("pair")
    with pytest.raises(ValueError, match=r"no figure fits the axes event; .*np.asarray"):
        total.plot()
    assert np.asarray(total).shape == (30,)  # the remedy
