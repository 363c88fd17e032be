"""Figures of training influence and of soft trees: what they show, and that nothing is clipped."""

from __future__ import annotations

import dataclasses

import matplotlib as mpl
import numpy as np
import pytest

from hepxai.events.images import ImageAxis, ImageLayout
from hepxai.explainers.image.soft_tree import TreePaths
from hepxai.influence.figures import event_name, influence_captions, influence_images, pixel_bars
from hepxai.influence.result import Influence
from hepxai.studies.soft_tree.figures import tree_and_masks, tree_diagram

SIZE = (9, 384)
SIDES = (("proponent", "+0.1", "+0.05"), ("opponent", "-0.2", "-0.1"))


def pictures(k: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((k, *SIZE)) < 0.01).astype(np.float32)


def regression(events):
    layout = ImageLayout(ImageAxis("charge", 9), ImageAxis("btag", 384), ("muon",))
    schema = dataclasses.replace(events.schema, targets=("pt", "eta"), target_units=("GeV", ""), image=layout)
    values = np.random.default_rng(0).normal(size=(len(events), 2)).astype(np.float32)
    particles = events.particles.copy()
    particles[:, 3:] = np.random.default_rng(1).integers(0, SIZE, (len(particles), 2))
    return events.replace(schema=schema, targets=values, particles=particles)


@pytest.fixture
def paths(toy):
    """A tree of depth 5 that sends event e to the leaf e for certain, but for event 0."""
    events, rng = regression(toy(4)), np.random.default_rng(2)
    right = rng.random((4, 31))
    for e in range(1, 4):
        right[e], node = 0, 0
        for bit in f"{e:05b}":
            right[e, node] = float(bit)
            node = 2 * node + 1 + int(bit)
    reached, ends = np.ones((4, 1)), []
    for level in range(5):
        ends.append(reached)
        own = right[:, 2**level - 1 : 2 ** (level + 1) - 1]
        reached = np.stack([reached * (1 - own), reached * own], 2).reshape(4, -1)
    masks = rng.normal(size=(4, 31, 1, 48)).astype(np.float32)
    leaves = np.arange(64.0).reshape(32, 2)
    return TreePaths(events, right, np.concatenate(ends, 1), reached, leaves, masks, ("pt", "eta"), SIZE)


def inside(figure):
    """Nothing reaches beyond the paper."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 > -2
    assert box.y0 > -2
    assert box.x1 < figure.bbox.x1 + 2
    assert box.y1 < figure.bbox.y1 + 2


def test_every_lit_pixel_is_drawn():
    image = pictures(1)[0]
    ax = pixel_bars(image, ax=mpl.figure.Figure().subplots(), labels=("layer", "strip"))
    (bars,) = ax.collections
    drawn = {(round(float(y.mean())), round(float(x[0]))) for x, y in (s.T for s in bars.get_segments())}
    assert drawn == set(zip(*np.nonzero(image), strict=True))
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("layer", "strip")
    pixel_bars(np.zeros(SIZE), ax=ax)


def test_proponents_and_opponents():
    before = dict(mpl.rcParams)
    captions = [["pt 5 GeV"], ["+0.1", "+0.05"], ["-0.2", "-0.1"]]
    figure = influence_images(pictures(1)[0], pictures(2, 1), pictures(2, 2), captions=captions)
    inside(figure)
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    parts = [{f"{side} 1: {a}", f"{side} 2: {b}"} for side, a, b in SIDES]
    assert titles == {"the event: pt 5 GeV"}.union(*parts)
    assert dict(mpl.rcParams) == before
    inside(influence_images(pictures(1)[0], pictures(3, 1), pictures(1, 2)))


def test_captions(toy):
    events = toy(6)
    rows = np.array([[[1, 2], [3, 4]]])
    values = np.array([[[0.5, 0.25], [-0.5, -0.125]]])
    found = Influence(rows, values, events[:1], events)
    whole, mine, theirs = influence_captions(found, 0)
    classes = [events.schema.classes[label] for label in events.label]
    assert whole == [classes[0]]
    assert mine == [f"+0.5,  {classes[1]}", f"+0.25,  {classes[2]}"]
    assert theirs == [f"−0.5,  {classes[3]}", f"−0.125,  {classes[4]}"]
    sure = influence_captions(dataclasses.replace(found, error=np.full((1, 2, 2), 0.1)), 0)
    assert sure[1][0].startswith("+0.5 ± 0.1,")
    targets = np.array([[5.25, np.nan], [np.nan, np.nan]], dtype=np.float32)
    known = regression(events[:2]).replace(targets=targets)
    assert [event_name(known, e) for e in (0, 1)] == ["pt 5.25 GeV", "no target"]


def test_tree_diagram(paths):
    ax = tree_diagram(paths, 3, output="eta", unit="rad")
    inside(ax.figure)
    widths = np.concatenate([c.get_linewidths() for c in ax.collections[:2]])
    assert len(widths) == 62
    certain, never = (np.isclose(widths, w).sum() for w in (14.0, 0.6))
    assert (certain, never) == (5, 57)
    red = [t.get_text() for t in ax.texts if t.get_fontweight() == "bold"]
    assert red == ["7"]  # leaf 3 says 7 for eta
    assert [t.get_text() for t in ax.texts].count("100 %") == 5
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert legend == ["most probable path: 100 %, its leaf says 7 rad", "all paths together: eta 7 rad"]


def test_soft_tree_with_its_masks(paths):
    before = dict(mpl.rcParams)
    figure = tree_and_masks(paths, 0, labels=("layer", "strip"))
    inside(figure)
    nodes, _ = paths.route(0)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [t.split(":")[0] for t in titles[2:7]] == [f"node {n}" for n in nodes]
    for ax, node in zip(figure.axes[2:7], nodes, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), paths.mask(0, int(node)))
    assert dict(mpl.rcParams) == before


def test_hits_in_the_colour_of_what_they_said(paths):
    nodes, _ = paths.route(0)
    image = paths.events[[0]].image()[0].max(0)
    masks = np.where(image > 0, 1.0, 0.0) * np.arange(1, len(nodes) + 1)[:, None, None]
    figure = tree_and_masks(paths, 0, masks=masks)
    inside(figure)
    for ax in figure.axes[2 : 2 + len(nodes)]:
        assert not ax.images
        bars = [p for p in ax.patches if isinstance(p, mpl.patches.Rectangle)]
        assert len(bars) == np.count_nonzero(image)
        assert len({bar.get_facecolor() for bar in bars}) == 1
        low, high = ax.get_xlim()
        assert low < np.nonzero(image)[1].min() <= np.nonzero(image)[1].max() < high
