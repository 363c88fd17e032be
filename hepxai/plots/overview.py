"""Figure that fits the axes of an attribution."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from hepxai.attribution import Attribution
from hepxai.attribution.means import pair_means, type_means
from hepxai.attribution.reductions import features_only, reduced, relative_to_uniform, sums_to_one
from hepxai.attribution.result import CHANNEL_PIXELS, PIXELS
from hepxai.metrics.columns import Ranking
from hepxai.plots.bars import entry_bars, importance_bars, neuron_bars, particle_types
from hepxai.plots.display import event_display
from hepxai.plots.images import attribution_image, mean_map
from hepxai.plots.matrices import feature_matrix, matrix_bar, pair_types
from hepxai.plots.style import styled
from hepxai.plots.values import beeswarm


@styled
def plot(
    attribution: Attribution,
    event: int | None = None,
    *,
    class_name: str | None = None,
    kind: str | None = None,
    layer: str | None = None,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Figure of a population, or of one event, that fits the axes of an attribution.

    ==================  ==========================================  ==================
    axes                population                                  one event
    ==================  ==========================================  ==================
    pair                `pair_types` of a class                     `event_display`
    particle            `particle_types`; `feature_matrix` with     `entry_bars`
                        ``kind="matrix"``
    event, feature      `beeswarm`; `importance_bars` with          `entry_bars`
                        ``kind="bars"``
    event, neuron       `neuron_bars`                               `entry_bars`
    event, row, column  `mean_map`                                  `attribution_image`
    ==================  ==========================================  ==================

    Channels of a map are added up, and named at the colour bar; ``attribution.select(channel=…)`` is one.

    Parameters
    ----------
    attribution : Attribution
        Attention is drawn relative to uniform attention.
    event : int, optional
        Position of one event.
    class_name : str, optional
        Class of a matrix or mean map; by default the last class for a matrix, all events for a map.
    kind : str, optional
        "bars" or "matrix"; see the table.
    layer : str, optional
        Layer, needed if there are several.
    ax : Axes, optional
    **options
        Further options of the function in the table.

    Raises
    ------
    ValueError
        If there is no figure for the axes, or no such event, class or kind.
    """
    _check(attribution, event, class_name, kind)
    first, rest = attribution.axes[0], attribution.axes[1:]
    if attribution.axes in (PIXELS, CHANNEL_PIXELS):
        if event is not None:
            return attribution_image(attribution, event, ax=ax, **options)
        return mean_map(attribution, class_name, ax=ax, **options)
    if first == "event" and event is not None:
        return entry_bars(attribution, event, ax=ax, **options)
    if first == "pair":
        return _pairs(attribution, event, class_name, layer, ax, options)
    if first == "particle" and kind == "matrix":
        return _matrix(features_only(attribution), class_name, ax, options)
    if first == "particle":
        single = reduced(attribution, layer=layer)
        if event is not None:
            return entry_bars(single, event, ax=ax, **options)
        return particle_types(single, ax=ax, **options)
    if rest == ("neuron",):
        return neuron_bars(attribution, ax=ax, **options)
    if kind == "bars":
        return importance_bars({attribution.method: Ranking.of(attribution)}, ax=ax, **options)
    return beeswarm(attribution, ax=ax, **options)


def _check(attribution: Attribution, event: int | None, class_name: str | None, kind: str | None) -> None:
    axes, events, classes = attribution.axes, attribution.events, attribution.events.schema.classes
    columns = axes in (("event", "feature"), ("event", "neuron"))
    if axes[0] not in ("pair", "particle") and not columns and axes not in (PIXELS, CHANNEL_PIXELS):
        raise ValueError(
            f"no figure fits the axes {', '.join(axes)}; draw the values yourself, as in "
            "plt.hist(np.asarray(attribution))"
        )
    if event is not None and not 0 <= event < len(events):
        raise ValueError(f"no event {event}; positions are 0 to {len(events) - 1}")
    if class_name is not None and class_name not in classes:
        raise ValueError(f"no class {class_name!r}; there are {', '.join(classes)}")
    kinds = {"matrix"} if axes == ("particle", "feature") else {"bars", "beeswarm"} if columns else set()
    if kind is not None and kind not in kinds:
        remedy = f"write {' or '.join(sorted(kinds))}" if kinds else "leave it out"
        raise ValueError(f"no figure of the kind {kind!r} for the axes {', '.join(axes)}; {remedy}")


def _pairs(
    attribution: Attribution,
    event: int | None,
    class_name: str | None,
    layer: str | None,
    ax: Axes | None,
    options: dict[str, Any],
) -> Axes:
    relative = sums_to_one(attribution)
    single = reduced(relative_to_uniform(attribution) if relative else attribution, layer=layer)
    if event is not None:
        return event_display(single, event, ax=ax, **options)
    means = pair_means(single)
    ax = pair_types(single, class_name or means.labels[0][-1], means=means, ax=ax, **options)
    matrix_bar(ax, single, means, [ax])
    return ax


def _matrix(
    attribution: Attribution, class_name: str | None, ax: Axes | None, options: dict[str, Any]
) -> Axes:
    means = type_means(attribution)
    ax = feature_matrix(attribution, class_name or means.labels[0][-1], means=means, ax=ax, **options)
    matrix_bar(ax, attribution, means, [ax])
    return ax
