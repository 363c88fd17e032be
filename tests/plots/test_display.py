"""Event displays: which pairs are drawn, how particles are named, where labels stand."""

from __future__ import annotations

import numpy as np

from hepxai import plots
from hepxai.events import SPLITS
from hepxai.plots.display import HARDEST, _wrapped, particle_labels, strongest_pairs
from hepxai.plots.plane import eta_limit, label_centres, without_eta

# --- event displays --------------------------------------------------------------------------


def test_strongest_pairs_are_per_event_and_signed(toy, pair_map):
    found = pair_map(toy(20))
    row = int(np.flatnonzero(found.events.counts > 3)[0])
    own = found.values[found.pairs.offsets[row] : found.pairs.offsets[row + 1]]
    best = strongest_pairs(found, row, 5)
    np.testing.assert_array_equal(abs(best.value), np.sort(abs(own))[::-1][:5])
    assert best.src.max() < found.events.counts[row]


def test_edges_take_the_short_way_around():
    assert _wrapped((0.0, 1.0), (1.0, -1.0)) == [((0.0, 1.0), (1.0, -1.0))]
    (a, b), (c, d) = _wrapped((0.0, 3.0), (1.0, -3.0))
    assert a == (0.0, 3.0)
    assert d == (1.0, -3.0)
    np.testing.assert_allclose([b[1], c[1]], [-3 + 2 * np.pi, 3 - 2 * np.pi])


def test_events_with_no_or_one_particle(toy, pair_map):
    events = toy(30, smallest=0, largest=1)
    for row in (int(np.argmin(events.counts)), int(np.argmax(events.counts))):
        plots.event_display(pair_map(events), row).figure.canvas.draw()


def test_missing_momentum_stands_in_the_margin(toy):
    events = toy(20)
    lost = without_eta(events)
    assert lost.any()
    assert (events.schema.code("met") == events.type[lost]).all()
    assert eta_limit(events) >= abs(events.p4[~lost, 1]).max()


def test_display_title_names_the_event(toy, pair_map):
    events = toy(20)
    row = int(np.argmax(events.counts))
    title = plots.event_display(pair_map(events), row, score=-2.5, observer="mass_mumu").get_title(loc="left")
    assert title.split("\n")[0].endswith(f"1:1:{row}, {SPLITS[events.split[row]]}")
    assert "logit −2.50" in title
    assert f"m(µµ) = {events.observers['mass_mumu'][row]:.1f} GeV" in title


def test_pairs_in_focus_have_their_values_and_ranks_in_the_title(toy, pair_map):
    found = pair_map(toy(30, smallest=6))
    row = int(np.argmax(np.bincount(found.events.parent[found.events.is_type("muon")], minlength=30)))
    own = slice(*found.pairs.offsets[row : row + 2])
    muon = found.events.is_type("muon")
    mine = muon[found.pairs.src[own]] & muon[found.pairs.dst[own]]
    sizes = abs(found.values[own])
    best = sizes[mine].max()
    rank = 1 + int((sizes > best).sum())
    title = plots.event_display(found, row, focus=("muon", "muon")).get_title(loc="left")
    first, line = title.split("\n")  # no logit and no observer: no line for them
    assert first.endswith((", train", ", valid", ", test"))
    assert line.startswith("µ–µ: ")
    assert f"(rank {rank})" in line
    assert line.endswith(f"of {len(sizes)} pairs")
    nobody = pair_map(toy(5, smallest=2, largest=2, seed=3))
    lonely = int(np.flatnonzero(np.bincount(nobody.events.parent, nobody.events.is_type("muon"), 5) < 2)[0])
    title = plots.event_display(nobody, lonely, focus=("muon", "muon")).get_title(loc="left")
    assert title.endswith("no µ–µ pair")


def test_pairs_in_focus_are_drawn_however_weak(toy, pair_map):
    found = pair_map(toy(30, smallest=6))
    row = int(np.argmax(np.bincount(found.events.parent[found.events.is_type("muon")], minlength=30)))
    muon = found.events.is_type("muon")
    mine = muon[found.pairs.src] & muon[found.pairs.dst]
    weak = found.replace(values=np.where(mine, 1e-9, found.values))
    plain_ones = plots.event_display(weak, row, number=3).patches
    with_focus = plots.event_display(weak, row, number=3, focus=("muon", "muon")).patches
    assert len(with_focus) > len(plain_ones) >= 3
    assert sum(bool(p.get_path_effects()) for p in with_focus) == len(with_focus) - len(plain_ones)


def test_a_crowded_jet_is_enlarged_and_shows_its_strongest_pairs_only(toy, pair_map):
    """90 constituents around φ = π: few arrows and labels, no hairlines, all markers inside the frame."""
    events = toy(2, smallest=90, largest=90)
    rng = np.random.default_rng(0)
    p4 = events.p4.copy()
    p4[:, 1], p4[:, 2] = 1.5 + rng.normal(0, 0.1, 180), np.pi + rng.normal(0, 0.1, 180)
    p4[:, 2] = (p4[:, 2] + np.pi) % (2 * np.pi) - np.pi
    found = pair_map(events.replace(p4=p4, type=np.full(180, 2)))
    ax = plots.event_display(found, 0, number=8, focus=("jet", "jet"))
    assert not ax.collections, "no hairlines"
    assert len(ax.patches) == 8
    assert len(ax.texts) <= 16 + HARDEST
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert high - low < 1.2
    x, y = np.array([line.get_xydata()[0] for line in ax.lines]).T
    assert len(x) >= 90
    assert ((low < x) & (x < high)).all()
    assert np.isin(np.round(y, 4), np.round(y[(bottom < y) & (y < top)], 4)).sum() >= 90


def test_particles_are_labelled_with_symbol_number_and_pt(toy):
    events = toy(40)
    row = int(np.argmax(events.counts))
    one = events[np.array([row])]
    labels = list(particle_labels(one))
    for name, label, pt, btag in zip(
        one.labels_of_particles(), labels, one.p4[:, 0], one.values_of("btag"), strict=True
    ):
        kind, number = name.split()
        several = np.count_nonzero(one.is_type(kind)) > 1
        first = {"muon": "µ", "electron": "e", "jet": "j", "met": "MET"}[kind] + number * bool(several)
        assert label == f"{first} {pt:.0f}" + (f" (b {btag:.2f})" if btag > 0.5 else "")


def test_labels_keep_off_markers_each_other_and_the_frame():
    rng = np.random.default_rng(1)
    points = rng.uniform(40, 360, (8, 2))
    points[1] = points[0] + [12, 3]  # two particles close by
    radius, size = np.full(8, 5.0), np.tile([40.0, 12.0], (8, 1))
    centres = label_centres(points, radius, size, (400.0, 400.0))
    low, high = centres - size / 2, centres + size / 2
    assert (low > 0).all()
    assert (high < 400).all()
    for i in range(8):
        for j in range(8):
            apart = (low[i] >= high[j]) | (high[i] <= low[j])
            assert i == j or apart.any(), (i, j)
            off_marker = (low[i] >= points[j] + radius[j]) | (high[i] <= points[j] - radius[j])
            assert off_marker.any(), (i, j)
    assert label_centres(np.empty((0, 2)), np.empty(0), np.empty((0, 2)), (1.0, 1.0)).shape == (0, 2)
