"""Do methods agree: a matrix with numbers."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes

from hepxai.core.formatting import short_method
from hepxai.metrics.agreement import AgreementMatrix
from hepxai.plots.style import add_footnote, axes_or_new, colours, escape_label, styled
from hepxai.plots.types import cell, cell_text

PLACES = 3


@styled
def method_agreement(
    found: AgreementMatrix, *, title: str = "rank correlation per event", ax: Axes | None = None
) -> Axes:
    """Mean agreement of every two methods, as a matrix with errors.

    Parameters
    ----------
    found : AgreementMatrix
    title : str
        What was compared, and how.
    """
    size = len(found.methods)
    ax = axes_or_new(ax, (2.4 + 1.4 * size, 1.6 + 0.9 * size))
    values, errors = found.mean.value, found.mean.error
    scale, norm = colours(np.append(values, 1.0))
    ax.imshow(np.ma.masked_invalid(values), cmap=scale, norm=norm, aspect="auto")
    for at in np.ndindex(*values.shape):
        if np.isfinite(values[at]):
            text = "1" if at[0] == at[1] else cell_text(float(values[at]), float(errors[at]), PLACES)
            cell(ax, at, text, scale(norm(values[at])))
    names = [textwrap.fill(escape_label(short_method(m), 40), 14) for m in found.methods]
    ax.set_xticks(range(size), names)
    ax.set_yticks(range(size), names)
    ax.tick_params(which="both", length=0)
    ax.set_title(escape_label(f"{title}{_by_chance(found)}"), loc="left", fontsize="small")
    add_footnote(ax, found.caveat)
    return ax


def _by_chance(found: AgreementMatrix) -> str:
    """What unrelated methods have, if that is one number for all."""
    off = found.chance.value[~np.eye(len(found.methods), dtype=bool)]
    known = off[np.isfinite(off)]
    return f" (chance {known.mean():.3g})" if len(known) and np.ptp(known) < 5e-4 else ""
