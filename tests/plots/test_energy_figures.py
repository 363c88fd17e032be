"""Figures of images with real values: energies, their scale, channels, maps beside them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.patches import Rectangle

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.metrics.hits import occupancy
from hepxai.plots import attribution_image, energy_image, hit_display, hit_occupancy, mean_energy
from hepxai.plots.class_maps import class_mean_maps
from hepxai.plots.energies import summed_channels
from hepxai.studies.comparison.figures import convergence_figure


def jets(shape=(4, 2, 6, 8), seed=0, negative=False):
    rng = np.random.default_rng(seed)
    images = np.exp(rng.uniform(-2, 5, shape)) * (rng.random(shape) < 0.3)
    if negative:
        images[0, 0, 0, 0] = -1.0
    events = Events.from_images(
        images, label=[0, 1] * (shape[0] // 2), classes=["a", "b"], channels=["em", "had"]
    )
    truth = {"fromB": events.particles[:, 2] > 50}
    return events.replace(truth=truth), images.astype(np.float32)


def drawn(ax):
    return next(m for m in ax.collections).get_array().reshape(6, -1)


@pytest.mark.parametrize("channels", [None, ["had"]])
def test_energies_of_one_event(channels):
    events, images = jets()
    expected = images[2].sum(0) if channels is None else images[2, 1]
    ax = energy_image(events, 2, channels=channels)
    np.testing.assert_allclose(drawn(ax).filled(0), expected, rtol=1e-6)
    assert drawn(ax).mask.sum() == (expected == 0).sum()  # dark pixels stay white
    norm = ax.collections[0].norm
    assert isinstance(norm, LogNorm)
    assert norm.vmin == pytest.approx(expected[expected > 0].min())
    assert ax.figure.axes[-1].get_ylabel() == "value"


def test_negative_energies_have_another_colour():
    events, _ = jets(negative=True)
    assert isinstance(energy_image(events, 0).collections[0].norm, TwoSlopeNorm)


def test_the_mean_is_that_of_a_loop():
    events, images = jets()
    events = events.replace(weight=np.array([1.0, 2.0, -0.5, 3.0]))
    expected = np.tensordot([2.0, 3.0], images[[1, 3], 0], 1) / 5
    np.testing.assert_allclose(
        drawn(mean_energy(events, "b", channels=["em"])).filled(0), expected, rtol=1e-6
    )


def test_an_unknown_channel_is_named():
    with pytest.raises(ValueError, match="no channel 'hcal'; the image has em, had"):
        summed_channels(jets()[0], ["hcal"])


def test_the_display_frames_the_truth():
    events, _ = jets()
    ax = hit_display(events, 1, truth="fromB")
    true = events[[1]].truth["fromB"]
    places = np.unique(events[[1]].particles[true][:, :2], axis=0)
    frames = {p.get_xy() for p in ax.patches if isinstance(p, Rectangle)}
    assert frames == {(c, r) for r, c in places}
    alone = hit_display(events, 1, truth="fromB", noise=False)
    assert drawn(alone).count() == len(places)


def test_occupancy_counts_an_event_once():
    events, images = jets()
    share = (images.sum(1) > 0).mean(0)
    np.testing.assert_allclose(occupancy(events, together=True), share)
    np.testing.assert_allclose(occupancy(events), (images > 0).mean(0))
    np.testing.assert_allclose(drawn(hit_occupancy(events)), 100 * share)


@pytest.mark.parametrize(("columns", "panels"), [(8, (1, 2)), (40, (2, 1))])
def test_a_map_stands_beside_its_energies(columns, panels):
    events, images = jets((4, 2, 6, columns))
    values = np.random.default_rng(1).normal(size=(4, 6, columns))
    attribution = Attribution(values, ("event", "row", "column"), events, "image_ig", "b")
    ax = attribution_image(attribution, 2, truth="fromB", zoom=None)
    first, second = ax.figure.axes[:2]
    assert second is ax
    np.testing.assert_allclose(drawn(first).filled(0), images[2].sum(0), rtol=1e-6)
    np.testing.assert_allclose(drawn(ax), values[2])
    assert ax.get_subplotspec().get_gridspec().get_geometry() == panels
    figure = convergence_figure({"one": attribution, "two": attribution}, 2, truth="fromB")
    assert len([a for a in figure.axes if a.get_label() != "<colorbar>"]) == 3


def test_a_map_of_one_channel_stands_beside_that_channel():
    events, images = jets()
    values = np.random.default_rng(1).normal(size=(4, 2, 6, 8))
    labels = {"channel": ("em", "had")}
    attribution = Attribution(
        values, ("event", "channel", "row", "column"), events, "image_ig", "b", labels=labels
    )
    ax = attribution_image(attribution, 2, channel="had")
    np.testing.assert_allclose(drawn(ax.figure.axes[0]).filled(0), images[2, 1], rtol=1e-6)
    np.testing.assert_allclose(drawn(ax), values[2, 1])


def test_added_channels_are_named_at_the_scale():
    """Of a map with a channel axis, in both figures of `plot`; a chosen channel is not a sum."""
    events, _ = jets()
    values = np.random.default_rng(1).normal(size=(4, 2, 6, 8))
    attribution = Attribution(
        values,
        ("event", "channel", "row", "column"),
        events,
        "image_ig",
        "b",
        labels={"channel": ("em", "had")},
    )
    labels = [
        {ax.get_ylabel() for ax in drawn.figure.axes}
        for drawn in (
            attribution.plot(),
            attribution.plot(1),
            attribution.plot(1, channel="had"),
            attribution.select(channel="em").plot(),
        )
    ]
    assert ["sum of em + had" in found for found in labels] == [True, True, False, False]
    assert "sum of em + had" in class_mean_maps(attribution).get_suptitle()
