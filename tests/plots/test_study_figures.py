"""Figures of the study: they show the numbers that they were given, nothing is clipped."""

from __future__ import annotations

import functools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepxai import metrics, plots
from hepxai.attribution.trainings import stack_trainings
from hepxai.core.binning import equal_bins
from hepxai.studies.dependence import figures as dependence_figures
from hepxai.studies.dependence import sculpting

EDGES = np.linspace(-2, 2, 9)


def make_cuts(n=600, seed=0):
    rng = np.random.default_rng(seed)
    mass, weight = rng.normal(size=n), np.ones(n)
    score = 0.5 * mass + rng.normal(size=n)
    cuts = [
        sculpting.sculpting(score, mass, weight, sculpting.threshold_at(score, weight, e), EDGES)
        for e in (0.5, 0.2)
    ]
    return cuts, sculpting.shape(mass, weight, EDGES)


def make_profiles(seed=0):
    rng = np.random.default_rng(seed)
    mass, score = rng.standard_t(2, size=400), rng.normal(size=400)
    edges = equal_bins(mass, 6)
    return {n: metrics.profile(score + i, mass, np.ones(400), edges) for i, n in enumerate(("bkg", "sig"))}


def make_maps(events, pair_map, node_map, attention):
    maps = {"attention": attention(events), "edge_ig": pair_map(events), "surrogate": pair_map(events, 1)}
    return maps | {"node_ig": node_map(events)}


def findings(maps):
    return {k: metrics.find_truth(m, "fromA") for k, m in maps.items()}


def slices(maps, events):
    edges = np.array([2.5, 5.5, 7.5, 9.5])
    return {k: metrics.find_truth_in_slices(m, "fromA", events.counts, edges) for k, m in maps.items()}


def figures(maps, events):
    pairs = {k: m for k, m in maps.items() if m.axes[0] == "pair"}
    cuts, before = make_cuts()
    return [
        plots.score_profile(make_profiles(), xlabel="m(μμ) [GeV]").figure,
        dependence_figures.mass_shapes(cuts, before, xlabel="m(μμ) [GeV]"),
        plots.method_agreement(metrics.agreement_matrix(pairs)).figure,
        plots.truth_finding(findings(maps)).figure,
        plots.truth_finding(findings(maps), measure="average_precision").figure,
        plots.truth_slices(slices(maps, events), xlabel="particles").figure,
        plots.truth_slices(slices(maps, events), xlabel="particles", measure="average_precision").figure,
    ]


def test_nothing_is_clipped(toy, pair_map, node_map, attention):
    events = toy(300)
    for figure in figures(make_maps(events, pair_map, node_map, attention), events):
        figure.draw_without_rendering()
        inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 > -2
        assert inside.y0 > -2
        assert inside.x1 < figure.bbox.x1 + 2
        assert inside.y1 < figure.bbox.y1 + 2
        for ax in figure.axes:
            legend = ax.get_legend()
            assert legend is None or legend.get_window_extent().y0 >= ax.bbox.y1 - 1


def test_figures_use_the_given_axes_and_leave_settings_alone(toy, pair_map):
    before = dict(mpl.rcParams)
    cuts, whole = make_cuts()
    found = {"edge_ig": pair_map(toy(50))}
    for draw in (
        functools.partial(plots.score_profile, make_profiles(), xlabel="m"),
        functools.partial(dependence_figures.shapes, cuts, whole),
        functools.partial(dependence_figures.shape_ratios, cuts),
        functools.partial(plots.method_agreement, metrics.agreement_matrix(found)),
        functools.partial(plots.truth_finding, findings(found)),
        functools.partial(plots.truth_slices, slices(found, toy(50)), xlabel="particles"),
    ):
        _, ax = plt.subplots()
        assert draw(ax=ax) is ax
    assert dict(mpl.rcParams) == before


def test_profile_shows_its_numbers_and_all_points():
    profiles = make_profiles()
    ax = plots.score_profile(profiles, xlabel="m")
    for container, found in zip(ax.containers, profiles.values(), strict=True):
        np.testing.assert_array_equal(container.lines[0].get_ydata(), found.mean.value)
        low, high = ax.get_xlim()
        assert low < found.middle[0]
        assert high > found.middle[-1]
    assert np.ptp(ax.get_xlim()) < 0.8 * np.ptp(found.edges)  # the tails are not the figure


def test_shapes_show_their_numbers():
    cuts, before = make_cuts()
    top, bottom = dependence_figures.mass_shapes(cuts, before, xlabel="m(μμ) [GeV]").axes
    drawn = [p.get_data().values for p in top.patches]
    np.testing.assert_array_equal(drawn[0], before.density().value)
    np.testing.assert_array_equal(drawn[1], cuts[0].passing.density().value)
    np.testing.assert_array_equal(bottom.patches[0].get_data().values, cuts[0].relative_efficiency.value)
    labels = [t.get_text() for t in top.get_legend().get_texts()]
    assert labels[0] == "no cut"
    assert labels[1].startswith("50 %, ")
    assert f"chance {cuts[1].chance_divergence:.2g}" in labels[2]


def test_matrix_shows_its_numbers_and_what_to_doubt(toy, pair_map, attention):
    events = toy(100)
    doubtful = pair_map(events).replace(concerns=("surrogate below stated fidelity",))
    found = metrics.agreement_matrix({"attention": attention(events), "surrogate": doubtful})
    ax = plots.method_agreement(found, title="rank correlation")
    np.testing.assert_array_equal(ax.images[0].get_array(), found.mean.value)
    assert [t.get_text() for t in ax.texts].count("1") == 2
    assert "chance 0" in ax.get_title(loc="left")
    assert ax.figure.get_supxlabel() == "surrogate below stated fidelity"


@pytest.mark.parametrize("measure", ["auroc", "average_precision"])
def test_truth_points_and_their_chance(toy, pair_map, node_map, attention, measure):
    events = toy(200)
    maps = make_maps(events, pair_map, node_map, attention)
    maps["surrogate"] = maps["surrogate"].replace(concerns=("surrogate below stated fidelity",))
    found = findings(maps)
    ax = plots.truth_finding(found, measure=measure)
    first = ax.containers[0].lines[0].get_xdata()
    np.testing.assert_array_equal(first, [float(getattr(f, measure).value) for f in found.values()])
    chance = [line.get_xdata() for line in ax.lines if line.get_marker() == "|"]
    names = ("chance_pooled_auroc", "chance_pooled_precision")
    expected = [getattr(f, names[measure != "auroc"]) for f in found.values()]
    np.testing.assert_array_equal(chance[1], expected)
    assert ax.figure.get_supxlabel() == "surrogate below stated fidelity"
    sliced = plots.truth_slices(slices(maps, events), xlabel="particles", measure=measure)
    assert len(sliced.patches) == 4  # each method its own chance
    assert sliced.figure.get_supxlabel() == "surrogate below stated fidelity"


def test_slices_show_the_spread_of_trainings(toy, pair_map):
    """The thin error is that of all errors, the wide one statistical; one training has no thin one."""
    events = toy(200)
    whole = stack_trainings([pair_map(events, seed=s) for s in range(3)])
    for one, errors in ((whole.select(training="1"), 1), (whole, 2)):
        points = slices({"edge_ig": one}, events)["edge_ig"].found
        ax = plots.truth_slices(slices({"edge_ig": one}, events), xlabel="particles")
        bars = [c for c in ax.containers if c.has_yerr]
        assert len(bars) == errors
    ends = np.array([np.ptp(line[:, 1]) / 2 for line in bars[1].lines[2][-1].get_segments()])
    np.testing.assert_allclose(ends, [np.hypot(f.auroc.error, f.auroc.spread["training"]) for f in points])


def test_nothing_to_draw(toy, pair_map):
    nothing = pair_map(toy(0))
    found = {"edge_ig": nothing}
    empty = metrics.profile(*(np.zeros(0),) * 3, EDGES)
    cuts, before = make_cuts()
    for ax in (
        plots.score_profile({}, xlabel="m"),
        plots.score_profile({"signal": empty}, xlabel="m"),
        dependence_figures.shapes([], before),
        dependence_figures.shape_ratios([]),
        plots.method_agreement(metrics.agreement_matrix(found | {"other": nothing})),
        plots.truth_finding({}),
        plots.truth_finding(findings(found)),
        plots.truth_slices({}, xlabel="particles"),
        plots.truth_slices(slices(found, toy(0)), xlabel="particles"),
    ):
        ax.figure.canvas.draw()
    high = sculpting.sculpting(np.zeros(50), np.zeros(50), np.ones(50), 1.0, EDGES)  # nothing passes
    dependence_figures.mass_shapes([high, *cuts], before, xlabel="m").canvas.draw()
