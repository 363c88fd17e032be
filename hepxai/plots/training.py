"""Curves of the training history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hepxai.core.formatting import real
from hepxai.plots.style import INK, SPLIT_COLOURS, VIOLET, axes_or_new, escape_label, legend_above, styled

History = Sequence[Mapping[str, float | None]]
SAMPLES = {"train": "training", "valid": "validation"}
NAMES = {"auc": "AUC", "learning_rate": "learning rate", "seconds": "time per epoch [s]"}
TIMES = ("epoch", "trees")
"""Units of progress: epochs of a network, trees of a forest."""
STYLES = {"train": {"ls": "--", "marker": "s"}, "valid": {"ls": "-", "marker": "o"}}


def quantities(history: History) -> list[str]:
    """Recorded quantities: "loss" for ``train_loss`` or ``valid_loss``, the loss first."""
    keys = dict.fromkeys(k for row in history for k in row if k not in TIMES)
    names = dict.fromkeys(_quantity(k) for k in keys)
    return sorted(names, key=lambda n: (n != "loss", n in ("learning_rate", "seconds")))


def _quantity(key: str) -> str:
    sample, _, rest = key.partition("_")
    return rest if sample in SAMPLES and rest else key


def quantity_name(quantity: str) -> str:
    """Axis label of a recorded quantity."""
    return NAMES.get(quantity, quantity.replace("_", " "))


def time_name(history: History) -> str:
    """Unit of progress of a history: "epoch" or "trees"."""
    return "trees" if any("trees" in row for row in history) else "epoch"


def counted(time: str, number: float) -> str:
    """``epoch 7`` or ``70 trees``."""
    return f"{number:g} trees" if time == "trees" else f"epoch {number:g}"


@styled
def training_curve(
    *histories: History, quantity: str = "loss", best: float | None = None, ax: Axes | None = None
) -> Axes:
    """A quantity against the epoch, for the training and the validation sample where recorded.

    Parameters
    ----------
    *histories : sequence of mapping
        One row per epoch with "epoch" (or "trees") and columns such as "train_loss", "valid_auc",
        "learning_rate"; None and numbers that are not finite leave a gap. Of several trainings, one each.
    quantity : str
        "loss", "auc", "learning_rate", …
    best : float, optional
        Epoch, or number of trees, that was kept: a vertical line, for a single history.
    """
    ax, time = axes_or_new(ax), time_name(histories[0])
    for number, history in enumerate(histories):
        epochs = [float(i if row.get(time) is None else real(row[time])) for i, row in enumerate(history)]
        size = 4 if len(history) < 60 and len(histories) == 1 else 0
        for sample, name in SAMPLES.items():
            label = name if number == 0 else ""
            _curve(ax, epochs, _column(history, f"{sample}_{quantity}"), sample, label, size)
        alone = _column(history, quantity)
        if np.isfinite(alone).any():
            ax.plot(epochs, alone, color=VIOLET, marker="o", ms=size)
    if best is not None and len(histories) == 1:
        ax.axvline(best, color=INK, lw=1, ls=":", label=f"{counted(time, best)}, kept")
    ax.set(xlabel=time, ylabel=escape_label(quantity_name(quantity)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.03, y=0.08)
    legend_above(ax, columns=3)
    return ax


def _column(history: History, key: str) -> np.ndarray:
    values = np.array([real(row.get(key)) for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _curve(ax: Axes, epochs: list[float], values: np.ndarray, sample: str, name: str, size: int) -> None:
    if np.isfinite(values).any():
        look = STYLES[sample]
        ax.plot(epochs, values, color=SPLIT_COLOURS[sample], label=name, ms=size, **look)  # type: ignore[arg-type]
