"""Figures of the methods for tables: what they show, and that nothing is clipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepxai import plots
from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.metrics.agreement import agreement_matrix
from hepxai.metrics.columns import Ranking, column_agreement
from hepxai.plots.values import _beside, _level, _stacked

NAMES = ("ht", "n_jets", "b_tag", "a_rather_long_name_of_a_column_in_the_table")


@pytest.fixture
def columns(toy: Callable[..., Events]) -> Attribution:
    """Attribution to a column grows with its value."""
    events, rng = toy(400, seed=2, largest=1), np.random.default_rng(3)
    table = np.column_stack(
        [rng.exponential(300, 400), rng.integers(4, 9, 400), rng.random(400), rng.normal(size=400)]
    )
    schema = dataclasses.replace(events.schema, globals=NAMES, global_units=("GeV", "", "", ""))
    events = events.replace(schema=schema, globals=table.astype(np.float32))
    values = (table - table.mean(0)) / table.std(0) * np.array([1, 0.5, 2, 0.01])
    labels = {"feature": NAMES}
    return Attribution(
        values, ("event", "feature"), events, "tree_shap", "signal", labels=labels, short_title="TreeSHAP"
    )


@pytest.fixture
def neurons(columns: Attribution) -> Attribution:
    values = np.random.default_rng(4).normal(np.linspace(-1, 1, 50), 1.0, size=(400, 50))
    names = tuple(f"{1 + i % 2}:{i}" for i in range(50))
    return columns.replace(
        values=values, axes=("event", "neuron"), labels={"neuron": names}, method="conductance"
    )


def rankings(found: Attribution) -> dict[str, Ranking]:
    gini = Ranking(NAMES[::-1], np.array([0.5, 0.3, 0.2, 0.0]), np.full(4, np.nan), "importance [gini]")
    return {"tree_shap": Ranking.of(found), "gini": gini}


def every_figure(columns: Attribution, neurons: Attribution) -> Iterator[Any]:
    both = rankings(columns)
    yield plots.importance_bars(both).figure
    yield plots.importance_bars({"gini": both["gini"]}).figure
    yield plots.beeswarm(columns).figure
    yield plots.value_scatter(columns, "b_tag").figure
    yield plots.value_distribution(columns, "n_jets").figure
    yield plots.value_figure(columns, "ht")
    yield plots.value_figure(columns, "n_jets")
    yield plots.correlation_dendrogram(columns.events.globals, NAMES).figure
    yield plots.method_correlation(both).figure
    yield plots.method_correlation(agreement_matrix({"a": columns, "b": columns}, column_agreement)).figure
    yield plots.neuron_bars(neurons).figure


def test_nothing_is_clipped(columns: Attribution, neurons: Attribution) -> None:
    for figure in every_figure(columns, neurons):
        figure.draw_without_rendering()
        inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 > -2
        assert inside.y0 > -2
        assert inside.x1 < figure.bbox.x1 + 2
        assert inside.y1 < figure.bbox.y1 + 2


def row_names(ax: Any) -> list[str]:
    """From the top to the bottom."""
    ticks = sorted(zip(ax.get_yticks(), ax.get_yticklabels(), strict=True), key=lambda t: -t[0])
    return [text.get_text() for _, text in ticks]


def test_bars_are_in_order(columns: Attribution) -> None:
    found = rankings(columns)["tree_shap"]
    ax = plots.importance_bars({"tree_shap": found}, top=3)
    assert row_names(ax) == ["b_tag", "ht", "n_jets"]
    widths = sorted((p.get_width() for p in ax.patches), reverse=True)
    np.testing.assert_allclose(widths, np.sort(found.value)[::-1][:3])
    (bars,) = (c for c in ax.containers if hasattr(c, "lines"))
    low, high = bars.lines[2][0].get_segments()[0][:, 0]
    assert high - low == pytest.approx(2 * found.error[found.order()[0]])
    assert ax.get_xlabel() == "mean |attribution| to signal [logit]"


def test_several_methods_are_relative_to_their_largest(columns: Attribution) -> None:
    ax = plots.importance_bars(rankings(columns))
    assert max(p.get_width() for p in ax.patches) == pytest.approx(1)
    assert sum(p.get_width() == pytest.approx(1) for p in ax.patches) == 2
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["TreeSHAP", "gini"]
    assert "relative to the largest" in ax.get_xlabel()
    with pytest.raises(ValueError, match="there is no ranking to draw"):
        plots.importance_bars({})


def test_a_column_without_a_rank_has_no_bar(columns: Attribution) -> None:
    both = rankings(columns)
    both["groups"] = Ranking(("ht + b_tag",), np.array([0.3]), np.array([0.1]), "importance [auc]")
    ax = plots.importance_bars(both)
    assert "ht + b_tag" in row_names(ax)
    assert len(ax.patches) == 9


def test_a_swarm_shows_every_event_where_its_value_is(columns: Attribution) -> None:
    ax = plots.beeswarm(columns, top=2)
    assert row_names(ax) == ["b_tag", "ht"]
    first = ax.collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(first[:, 0]), np.sort(columns.values[:, 2]))
    assert (np.abs(first[:, 1] - 1) < 0.5).all()
    level = ax.collections[0].get_array()
    assert np.corrcoef(level, columns.events.globals[:, 2])[0, 1] > 0.95
    few = plots.beeswarm(columns, points=50)
    assert len(few.collections[0].get_offsets()) == 50


def test_points_of_a_swarm_do_not_share_a_place() -> None:
    x = np.array([0.1, 0.1, 0.1, 0.1, 0.9])
    height = _stacked(x, np.linspace(0, 1, 11))
    assert len(np.unique(height[:4])) == 4
    assert height[4] == 0
    assert abs(height[:4].sum()) < 0.3


def test_levels() -> None:
    assert (_level(np.full(5, 3.0)) == 0.5).all()
    assert (_level(np.full(5, np.nan)) == 0.5).all()
    np.testing.assert_allclose(_level(np.array([0.0] * 99 + [1.0]))[[0, -1]], [0, 1])
    level = _level(np.append(np.arange(100.0), np.nan))
    assert (level[0], level[99], level[100]) == (0, 1, 0.5)
    assert np.ptp(_beside(1000)) < 0.71


def test_means_against_the_value(columns: Attribution) -> None:
    ax = plots.value_scatter(columns, "n_jets")
    events = columns.events
    for c, bars in enumerate(c for c in ax.containers if hasattr(c, "lines")):
        x, y = bars.lines[0].get_data()
        np.testing.assert_allclose(x, [4, 5, 6, 7, 8])
        own = (events.label == c) & (events.globals[:, 1] == 6)
        expected = np.average(columns.values[own, 1], weights=events.weight[own])
        assert y[2] == pytest.approx(expected)
    assert ax.get_xlim() == (3.5, 8.5)
    assert plots.value_scatter(columns, "ht").get_xlabel() == "ht [GeV]"


def test_a_distribution_has_unit_area(columns: Attribution) -> None:
    ax = plots.value_distribution(columns, "ht", bins=10)
    for stairs in ax.patches[::2]:
        values, edges, _ = stairs.get_data()
        assert (values * np.diff(edges)).sum() == pytest.approx(1)


def test_branches_of_a_group_have_a_colour(columns: Attribution) -> None:
    table = np.column_stack([columns.events.globals, columns.events.globals[:, 0] ** 2])
    ax = plots.correlation_dendrogram(table, (*NAMES, "ht2"), threshold=0.8)
    colours = [line.get_color() for line in ax.lines[:-1]]
    assert colours.count("#9c9ca1") == 3  # grey: what joins groups
    joined = next(line for line in ax.lines[:-1] if line.get_color() != "#9c9ca1")
    assert min(joined.get_xdata()) == pytest.approx(1)  # a function of the other
    assert ax.lines[-1].get_xdata()[0] == 0.8
    with pytest.raises(ValueError, match="a tree needs at least two columns; there is ht"):
        plots.correlation_dendrogram(table[:, :1], ("ht",))


def test_neurons_from_both_ends(neurons: Attribution) -> None:
    where = neurons.events.label == 1
    ax = plots.neuron_bars(neurons, where=where, top=4)
    mean = neurons.population(where).value
    order = np.argsort(-mean)
    shown = [neurons.labels["neuron"][i] for i in (*order[:4], *order[-4:])]
    assert row_names(ax) == shown
    assert any(t.get_text() == "42 neurons between" for t in ax.texts)
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"layer 1", "layer 2"}
    assert not plots.neuron_bars(neurons, top=25).texts


def test_axes_that_are_given_are_used(columns: Attribution) -> None:
    _, ax = plt.subplots()
    assert plots.beeswarm(columns, ax=ax) is ax
    assert plots.method_correlation(rankings(columns), ax=plt.subplots()[1]).get_title(loc="left")


def test_unknown_column(columns: Attribution) -> None:
    with pytest.raises(KeyError, match="feature"):
        plots.value_scatter(columns, "mass")
    with pytest.raises(KeyError, match="the table has no column 'mass'; it has ht, n_jets"):
        plots.value_distribution(columns, "mass")


def test_one_class_and_no_event(columns: Attribution) -> None:
    for part in (columns[columns.events.label == 1], columns[:0]):
        plots.value_figure(part, "n_jets")
        plots.beeswarm(part)
