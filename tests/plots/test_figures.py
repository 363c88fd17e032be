"""Every figure: what it shows, that nothing is clipped, that legends keep off the data."""

from __future__ import annotations

import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepxai import plots
from hepxai.attribution.means import pair_means
from hepxai.attribution.reductions import reduced, relative_to_uniform
from hepxai.attribution.residuals import residual_checks
from hepxai.core.formatting import common_power, measured, observer_name, percentage, scaled
from hepxai.plots.scores import overtraining, p_text, score_histograms
from hepxai.plots.style import escape_label

HISTORY = [
    {"epoch": i, "train_loss": 1 / (i + 1), "valid_loss": 1.1 / (i + 1), "learning_rate": 0.1}
    for i in range(4)
]
FIDELITY = {
    s: {"agreement": {"value": 0.9, "error": 0.01}, "auc": {"value": 0.95, "error": 0.02}}
    for s in ("train", "test")
}


def every_figure(events, pair_map, node_map, attention):
    rng = np.random.default_rng(0)
    scores = rng.normal(events.label, 1.0)
    pair, node = pair_map(events), node_map(events)
    row = int(np.flatnonzero(events.counts > 2)[0])
    yield plots.training_curve(HISTORY)
    yield plots.training_curve(HISTORY, quantity="learning_rate")
    yield plots.score_distributions(events, scores)
    yield plots.score_ratio(events, scores)
    yield plots.roc_curve(events, scores, metrics={"test": {"auc": {"value": 0.7, "error": 0.01}}})
    yield plots.particle_types(node)
    yield plots.feature_matrix(node, "signal")
    yield plots.pair_types(pair, "signal")
    yield plots.pair_types(relative_to_uniform(attention(events)), "background")
    yield plots.focus_distribution(pair, ("muon", "jet"))
    yield plots.focus_profile(pair, ("muon", "jet"), "mass_mumu")
    yield plots.residuals({"node_ig": node})
    yield plots.fidelity_points(FIDELITY)
    yield plots.event_display(
        pair, row, score=1.5, observer="mass_mumu", truth="fromA", focus=("jet", "muon")
    )


def test_nothing_is_clipped_and_no_legend_is_on_the_data(toy, pair_map, node_map, attention):
    for ax in every_figure(toy(300), pair_map, node_map, attention):
        figure = ax.figure
        figure.draw_without_rendering()
        inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 > -2, ax.get_xlabel()
        assert inside.y0 > -2, ax.get_xlabel()
        assert inside.x1 < figure.bbox.x1 + 2, ax.get_xlabel()
        assert inside.y1 < figure.bbox.y1 + 2, ax.get_xlabel()
        legend = ax.get_legend()
        assert legend is None or legend.get_window_extent().y0 >= ax.bbox.y1 - 1
        assert ax.get_xlabel()
        assert ax.get_ylabel() or ax.get_yticklabels()


def test_figures_use_the_given_axes_and_leave_settings_alone(toy):
    before = dict(mpl.rcParams)
    _, ax = plt.subplots()
    assert plots.score_distributions(toy(50), np.zeros(50), ax=ax) is ax
    assert plots.training_curve(HISTORY).figure is not ax.figure
    assert dict(mpl.rcParams) == before


def test_matrix_shows_the_population_means(toy, pair_map):
    found = pair_map(toy(200))
    ax = plots.pair_types(found, "signal")
    means = pair_means(found)
    np.testing.assert_array_equal(ax.images[0].get_array(), means.value[1])
    best = np.unravel_index(np.nanargmax(np.abs(means.value[1])), means.value[1].shape)
    text = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in ax.texts}[best]
    shown = float(text.split("\n")[0].replace("−", "-"))
    np.testing.assert_allclose(shown, means.value[1][best], rtol=0.02)


def test_signed_matrix_is_centred_at_zero_and_attention_is_sequential(toy, pair_map, attention):
    signed = plots.pair_types(pair_map(toy(60)), "signal").images[0].norm
    assert signed.vmin == -signed.vmax
    assert plots.pair_types(attention(toy(60)), "signal").images[0].norm.vmin == 0


def test_particle_types_are_the_means_of_feature_sums(toy, node_map):
    found = node_map(toy(100))
    ax = plots.particle_types(found)
    slow = reduced(found).select(particle="electron").population(found.events.label == 1)
    points = ax.containers[1].lines[0]  # the bars come first
    np.testing.assert_allclose(points.get_xdata()[0], slow.value)


def test_one_class_and_negative_weights(toy, pair_map):
    events = toy(60)
    one = events.replace(label=np.zeros(60, dtype=np.int64), weight=np.where(np.arange(60) % 3, 1.0, -0.9))
    scores = np.random.default_rng(0).normal(size=60)
    assert len(plots.roc_curve(one, scores).lines) == 1  # only "no separation"
    plots.score_distributions(one, scores)
    ax = plots.focus_distribution(pair_map(one), ("muon", "jet"))
    ax.figure.canvas.draw()


def test_empty_population_draws_empty_frames(toy, pair_map, node_map):
    events = toy(0)
    pair = pair_map(events)
    for ax in (
        plots.pair_types(pair, "signal"),
        plots.focus_distribution(pair, ("muon", "jet")),
        plots.focus_profile(pair, ("muon", "jet"), "mass_mumu"),
        plots.particle_types(node_map(events)),
        plots.residuals({"node_ig": node_map(events)}),
        plots.score_distributions(events, np.empty(0)),
        plots.fidelity_points({}),
        plots.training_curve([]),
    ):
        ax.figure.canvas.draw()


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.91234, 0.0105, "0.912 ± 0.011"),
        (2121.4, 54.0, "2121 ± 54"),
        (42240.0, 240.0, "42240 ± 240"),
        (-0.00001, 0.001, "0.0000 ± 0.0010"),
        (-1.5, 0.25, "−1.50 ± 0.25"),
        (1.5e-7, 2e-8, "(1.50 ± 0.20)×10⁻⁷"),
        (1.0, 1e-8, "1 ± 1×10⁻⁸"),
        (0.99999999, 2.1e-9, "1 ± 2.1×10⁻⁹"),
        (1e9, 1e-3, "1×10⁹ ± 0.001"),
        (-1e-12, 1e-20, "−1×10⁻¹² ± 1×10⁻²⁰"),
        (np.nan, 1.0, "–"),
        (0.5, np.nan, "0.5"),
        (np.inf, np.inf, "∞"),
        (-np.inf, 1.0, "−∞"),
        (None, None, "–"),
        (0.5, None, "0.5"),
    ],
)
def test_two_digits_of_the_error(value, error, text):
    assert measured(value, error) == text


@pytest.mark.parametrize(
    ("share", "error", "text"),
    [
        (0.00595, None, "0.60 %"),
        (0.05363, None, "5.4 %"),
        (0.43, np.nan, "43 %"),
        (1.4e-16, None, "1.4×10⁻¹⁴ %"),
        (-2e-9, None, "−2×10⁻⁷ %"),
        (0.0, 0.0, "0 %"),
        (np.inf, None, "∞ %"),
        (np.nan, None, "–"),
        (0.8831, 0.0042, "(88.31 ± 0.42) %"),
        (1.0, 7.3e-12, "(100 ± 7.3×10⁻¹⁰) %"),
    ],
)
def test_percentages(share, error, text):
    assert percentage(share, error) == text


def test_powers_join_the_unit():
    assert scaled("mean attribution to signal [logit] per pair", -3) == (
        "mean attribution to signal [10⁻³ logit] per pair"
    )
    assert scaled("attention", 6) == "attention [10⁶]"
    assert scaled("attention", 0) == "attention"


def test_powers_and_names():
    assert [common_power(v) for v in (0.0, 1.0, 3e-5, 2e5, np.nan)] == [0, 0, -6, 3, 0]
    assert observer_name("mass_mumu") == "m(μμ) [GeV]"
    assert observer_name("njet") == "njet"


def test_names_from_cards_are_drawn_as_they_are():
    assert escape_label("a$b$") == r"a\$b\$"
    assert escape_label("中") == "?"
    _, ax = plt.subplots()
    ax.set_title(escape_label(r"$\frac{$ 中"))
    ax.figure.canvas.draw()


def test_every_residual_has_a_line_of_its_own(toy, node_map):
    found = node_map(toy(40))
    ax = plots.residuals({f"method {i}": found for i in range(12)})
    looks = {(p.get_edgecolor(), p.get_linestyle()) for p in ax.patches}
    assert len(looks) == len(ax.patches) == 12


def test_a_power_of_ten_stands_beside_its_numbers(toy, pair_map, node_map):
    small = pair_map(toy(40)).replace(values=pair_map(toy(40)).values * 1e-5)
    assert "[10⁻⁶ logit]" in plots.pair_types(small, "signal").get_title(loc="left")
    node = node_map(toy(40))
    ax = plots.feature_matrix(node.replace(values=node.values * 1e6), "signal")
    assert "[10⁶ logit]" in ax.get_title(loc="left") or "[10³ logit]" in ax.get_title(loc="left")
    assert plots.feature_matrix(node, "signal").get_title(loc="left") == "signal"


def test_residuals_of_any_size(toy, node_map):
    found = node_map(toy(40))
    for scale in (1e-2, 1e5, np.nan, 0.0):
        ax = plots.residuals({"node_ig": found.replace(residual=np.full(40, scale))})
        shown = sum(p.get_data().values.sum() for p in ax.patches)
        assert shown == 40


def test_there_is_one_relative_residual(toy, node_map):
    found = node_map(toy(5)).replace(
        residual=np.array([0.0, 0.0, 0.1, 0.2, 1.0]), output_change=np.array([0, 0, 1, 1, 0])
    )
    ax = plots.residuals({"node_ig": found})
    assert sum(p.get_data().values.sum() for p in ax.patches) == 3  # infinite in, undefined out
    assert [line.get_xdata()[0] for line in ax.lines] == [residual_checks(found)["median_residual"]]
    none = found.replace(residual=np.ones(5), output_change=np.zeros(5))
    assert not plots.residuals({"node_ig": none}).lines  # an infinite median has no place on the axis


# --- figures that do not exist ---------------------------------------------------------------


def test_figures_of_merit_that_are_missing_or_infinite():
    for value in (None, np.nan, np.inf):
        missing = {"value": value, "error": value}
        known = {"value": 0.9, "error": 0.01}
        plots.fidelity_points({"test": {"auc": missing, "agreement": known}}).figure.canvas.draw()
        history = [{"epoch": 0, "valid_loss": value}, {"epoch": None, "valid_loss": 0.5}]
        ax = plots.training_curve(history)
        ax.figure.canvas.draw()
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), [np.nan, 0.5])
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1])


def test_a_separable_score_has_its_figures(toy):
    events = toy(200)
    scores = np.where(events.label == 1, 5.0, -5.0)
    for value in (None, np.inf):
        area = {"test": {"auc": {"value": 1.0, "error": value}}}
        plots.roc_curve(events, scores, metrics=area).figure.canvas.draw()
    plots.score_distributions(events, scores).figure.canvas.draw()


# --- caveats ---------------------------------------------------------------------------------

POOR = "surrogate below stated fidelity"


def attribution_figures(pair, node, row):
    yield plots.particle_types(node)
    yield plots.feature_matrix(node, "signal")
    yield plots.pair_types(pair, "signal")
    yield plots.focus_distribution(pair, ("muon", "jet"))
    yield plots.focus_profile(pair, ("muon", "jet"), "mass_mumu")
    yield plots.event_display(pair, row)
    yield plots.residuals({"surrogate": node})


@pytest.mark.parametrize(("concerns", "text"), [((POOR,), POOR), ((), "")])
def test_every_figure_of_a_poor_surrogate_says_so(toy, pair_map, node_map, concerns, text):
    events = toy(60)
    pair, node = (m(events).replace(concerns=concerns) for m in (pair_map, node_map))
    assert pair.caveat == (text or None)
    for ax in attribution_figures(pair, node, int(np.argmax(events.counts))):
        ax.figure.draw_without_rendering()
        assert ax.figure.get_supxlabel() == text
        if text:
            foot = ax.figure._supxlabel.get_window_extent()
            assert foot.y1 <= ax.xaxis.label.get_window_extent().y0 + 1
            assert 0 <= foot.x0 < foot.x1 <= ax.figure.bbox.x1


def test_a_caveat_is_written_once_and_leaves_the_text_of_others(toy, pair_map):
    poor = pair_map(toy(60)).replace(concerns=("surrogate below stated fidelity",))
    figure, axes = plt.subplots(1, 2, layout="constrained")
    figure.supxlabel("mine")
    for ax, name in zip(axes, ("signal", "background"), strict=True):
        plots.pair_types(poor, name, ax=ax)
    assert figure.get_supxlabel() == f"mine\n{POOR}"


# --- scores and training ---------------------------------------------------------------------


def test_the_ratio_is_test_over_training(toy):
    events = toy(4000, smallest=1, largest=1)
    scores = np.random.default_rng(0).normal(events.label, 1.0)
    ax = plots.score_ratio(events, scores, bins=5)
    filled = score_histograms(events, scores, 5)
    for container, name in zip(ax.containers, ("signal", "background"), strict=True):
        test, train = (filled[name, s] for s in ("test", "train"))
        a, b = (h.values() / h.values().sum() for h in (test, train))
        relative = np.hypot(*(np.sqrt(h.variances()) / h.values() for h in (test, train)))
        np.testing.assert_allclose(container.lines[0].get_ydata(), a / b)
        ends = np.array([s[1] for s in container.lines[2][0].get_segments()])[:, 1]
        np.testing.assert_allclose(ends, a / b * (1 + relative))


def test_overtraining_holds_its_size_where_weights_depend_on_the_score(toy):
    events, p_values = toy(1200, smallest=1), []
    test = np.arange(len(events)) % 3 == 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        score = rng.normal(size=len(events))
        thinned = test & (score > 0) & (rng.random(len(events)) < 0.75)  # the rest of them weighs four times
        weight = np.where(test & (score > 0), 4.0, 1.0) * ~thinned
        used = events.replace(split=2 * test, label=np.zeros_like(events.label), weight=weight)[weight > 0]
        p_values.append(overtraining(used, score[weight > 0])["background"])
    assert 0.35 < np.mean(p_values) < 0.65
    shifted = overtraining(used, score[weight > 0] + 0.5 * (used.split == 2))
    assert shifted["background"] == 0.001


def test_overtraining_is_not_judged_without_events_or_weight(toy):
    events = toy(200, smallest=1)
    score = np.random.default_rng(0).normal(size=len(events))
    assert overtraining(events.replace(split=np.zeros_like(events.split)), score) == {}
    assert overtraining(events.replace(weight=-events.weight), score) == {}
    few = events.replace(split=np.where(np.arange(len(events)) < 10, 2, 0))
    assert overtraining(few, score) == {}


@pytest.mark.parametrize(("p", "text"), [(0.1, "p = 0.10"), (0.0123, "p = 0.012"), (0.001, "p ≤ 0.001")])
def test_p_values_say_what_the_draws_can(p, text):
    assert p_text(p) == text


def test_the_kept_epoch_is_marked():
    (line,) = (ln for ln in plots.training_curve(HISTORY, best=2.0).lines if "kept" in str(ln.get_label()))
    assert list(line.get_xdata()) == [2.0, 2.0]


def test_axes_are_named_after_the_classes(toy):
    events = toy(200)
    events = events.replace(schema=dataclasses.replace(events.schema, classes=("ttZ", "charged")))
    scores = np.random.default_rng(0).normal(events.label, 1.0)
    ax = plots.roc_curve(events, scores)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("charged efficiency", "ttZ rejection (1 / efficiency)")
    assert plots.score_distributions(events, scores).get_xlabel() == "logit of charged"
