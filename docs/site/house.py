"""Draw docs/img/house.svg, the rooms and the way of the data: ``python docs/site/house.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

DOCS = Path(__file__).parents[1]
FLOORS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("core", "arrays, estimates, files,\nresume, workers"),),
    (("cards", "validated YAML"),),
    (("events", "the one data structure"),),
    (("attribution", "the one result,\nwith named axes"), ("metrics", "figures of merit")),
    (("datasets", "ROOT and arrays\nto events"), ("models", "networks, trees,\nyour own")),
    (("training", "fit, checkpoint"),),
    (("explainers", "graph, table, image:\none file a method"), ("plots", "numbers and an ax")),
    (("importance", "permutation"), ("influence", "TracIn"), ("concepts", "ICE, TCAV")),
    (("export", "friend trees, HDF5"), ("studies", "one folder\na concept")),
    (("run", "one folder from ROOT\nto explanations"),),
    (("report", "the page of a run"), ("engine", "any number of files")),
    (("scan", "many runs, one table"), ("simulate", "the shipped samples")),
    (("app", "the page in the browser"),),
    (("cli", "commands"),),
)
"""Rooms from the ground up; a room imports from its own floor and from those below."""
FLOW = (
    ("ROOT files, arrays", "datasets"),
    ("Events", "events"),
    ("Model", "models"),
    ("Explainer", "explainers"),
    ("Attribution", "attribution"),
    ("report, friend trees", "report, export"),
)
INK, PAPER, WAY = "#22303c", "#eef3f8", "#c2410c"
HEIGHT, WIDTH, GAP = 0.82, 7.6, 0.12


def draw(ax: Axes) -> None:
    """All floors on the left, the way of the data on the right."""
    for level, rooms in enumerate(FLOORS):
        size = (WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
        for i, (name, what) in enumerate(rooms):
            _room(ax, i * (size + GAP), level, size, name, what)
    ax.plot([-0.35, WIDTH / 2, WIDTH + 0.35], [len(FLOORS) + 0.02, len(FLOORS) + 1.0, len(FLOORS) + 0.02],
            color=INK, lw=2.5, solid_joinstyle="round")  # fmt: skip
    ax.text(WIDTH / 2, len(FLOORS) + 0.33, "hepxai", ha="center", size=17, weight="bold", color=INK)
    ax.annotate(
        "", (-0.45, 0), (-0.45, len(FLOORS) - 0.2), arrowprops={"arrowstyle": "->", "color": INK, "lw": 1.4}
    )
    ax.text(-0.62, len(FLOORS) / 2, "a room imports from its own floor and below", rotation=90, ha="right",
            va="center", size=9, color=INK)  # fmt: skip
    _way(ax)


def _room(ax: Axes, x: float, level: int, size: float, name: str, what: str) -> None:
    box = FancyBboxPatch(
        (x, level), size, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", fc=PAPER, ec=INK, lw=1.2
    )
    ax.add_patch(box)
    ax.text(x + 0.14, level + HEIGHT / 2, name, va="center", size=11, weight="bold", color=INK)
    ax.text(
        x + size - 0.14,
        level + HEIGHT / 2,
        what,
        va="center",
        ha="right",
        size=7.6,
        color=INK,
        linespacing=1.1,
    )


def _way(ax: Axes) -> None:
    """Stations of the data, from the top down, each with the room that does it."""
    x, step = WIDTH + 2.3, (len(FLOORS) - 1.2) / (len(FLOW) - 1)
    for i, (station, room) in enumerate(FLOW):
        y = len(FLOORS) - 0.6 - i * step
        ax.text(x, y, station, ha="center", va="center", size=12, weight="bold", color="white",
                bbox={"boxstyle": "round,pad=0.45", "fc": WAY, "ec": "none"})  # fmt: skip
        ax.text(x, y - 0.58, f"in {room}", ha="center", va="center", size=8, color=INK)
        if i:
            ax.add_patch(
                FancyArrowPatch(
                    (x, y + step - 0.78), (x, y + 0.36), arrowstyle="-|>", mutation_scale=14, color=WAY
                )
            )


def main(target: Path) -> None:
    """Write the drawing."""
    plt.rcParams |= {"svg.fonttype": "path", "svg.hashsalt": "house", "font.family": "DejaVu Sans"}
    figure, ax = plt.subplots(figsize=(10.2, 8.6), layout="constrained")
    draw(ax)
    ax.set(xlim=(-1.1, WIDTH + 4.1), ylim=(-0.15, len(FLOORS) + 1.1))
    ax.set_axis_off()
    figure.savefig(
        target, metadata={"Date": None} if target.suffix == ".svg" else None, facecolor="white", dpi=110
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else DOCS / "img" / "house.svg")
