"""Overview of an attribution for notebooks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general
from hepxai.core.html import html_table


def overview(
    title: str,
    target: str,
    unit: str,
    sizes: Mapping[str, int],
    means: Mapping[str, Estimate],
    checks: Mapping[str, float],
    caveat: str | None,
) -> str:
    """HTML of the sizes of the axes, the checks and the mean of each class.

    Parameters
    ----------
    title, target, unit : str
        Method and output in words, and the unit of the values.
    sizes : mapping of str to int
        Length of each axis.
    means : mapping of str to Estimate
        Mean over the population of each class; of several values the smallest and the largest are given.
    checks : mapping of str to float
    caveat : str, optional
        Concerns of failed checks.
    """
    rows = [("axes", " × ".join(f"{axis} {size:,}" for axis, size in sizes.items()))]
    rows += [(f"mean of {name}", f"{_mean_text(mean)} {unit}".rstrip()) for name, mean in means.items()]
    rows += [(name, general(value)) for name, value in checks.items()]
    return html_table(f"{title} of {target}", (), rows, f"Caution: {caveat}" if caveat else "")


def _mean_text(mean: Estimate) -> str:
    if np.ndim(mean.value) == 0:
        return mean.text
    if not np.isfinite(mean.value).any():
        return "–"
    ends = (np.nanargmin(mean.value), np.nanargmax(mean.value))
    low, high = (mean.at(tuple(map(int, np.unravel_index(e, mean.value.shape)))).text for e in ends)
    return f"from {low} to {high}"
