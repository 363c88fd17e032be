"""What a recurrent network looked at, step by step."""

from __future__ import annotations

from matplotlib.axes import Axes

from hepxai.attribution import Attribution
from hepxai.plots.means import Means, step_means
from hepxai.plots.style import axes_or_new, styled
from hepxai.plots.types import feature_matrix


@styled
def step_matrix(
    attribution: Attribution,
    class_name: str,
    *,
    steps: int = 8,
    means: Means | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean attribution at each time step and of each feature of one class, as a matrix with errors.

    Parameters
    ----------
    attribution : Attribution
        With the axes ("particle", "feature").
    class_name : str
    steps : int
        As many are shown, where events have them; the first is the particle of highest pT.
    means : Means, optional
        Result of `hepxai.plots.means.step_means`, if at hand.
    """
    means = step_means(attribution, steps) if means is None else means
    ax = axes_or_new(ax, (2.2 + 1.1 * len(means.labels[2]), 1.6 + 0.6 * len(means.labels[1])))
    feature_matrix(attribution, class_name, means=means, ax=ax)
    ax.set(ylabel="time step, by falling pT")
    return ax
