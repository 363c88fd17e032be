"""Geometry of an event display: visible part of the η–φ plane, places of particles and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hepxai.core.estimate import Array
from hepxai.events import Events
from hepxai.plots.style import INK

Place = tuple[float, float]
SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)], dtype=np.float64)
GAP = 2.0
MARGIN = 1.16  # where particles without η stand, in units of the half width
SEAM = 0.42  # what is shown beyond φ = ±π, so that no marker is on the frame
CLOSE = 1.2  # particles that are all within this of their centre, in η and φ, are shown enlarged


def without_eta(events: Events) -> NDArray[np.bool_]:
    """Particles that have a φ but no η, such as missing momentum, ``[N]``."""
    named = np.array([t.lower().startswith(("met", "missing", "puppimet")) for t in events.schema.types])
    return np.asarray((events.index < 0) | named[events.type])


def eta_limit(events: Events) -> float:
    """Half width of a display that holds all particles, in steps of a half, at least 2.5."""
    eta = abs(events.p4[~without_eta(events), 1])
    return max(2.5, float(np.ceil(2 * (eta.max(initial=0.0) + 0.2)) / 2))


@dataclass(frozen=True)
class View:
    """Part of the η–φ plane: all φ, and η up to ``half``; or a square around ``centre``."""

    half: float
    centre: Place | None = None

    @staticmethod
    def of(event: Events, limit: float | None = None) -> View:
        """Whole plane; close-up of particles that are all near each other, such as those of a jet."""
        eta, phi = event.p4[:, 1], event.p4[:, 2]
        whole = View(eta_limit(event) if limit is None else limit)
        if event.n_particles < 5 or without_eta(event).any():
            return whole
        middle = (float(np.ptp(eta) / 2 + eta.min()), float(np.angle(np.exp(1j * phi).sum())))
        reach = max(np.ptp(eta) / 2, abs(_turned(phi, middle[1]) - middle[1]).max())
        return View(1.15 * float(reach) + 0.02, middle) if reach < CLOSE else whole

    def places(self, event: Events) -> Array:
        """Position of each particle in the view, ``[N, 2]``."""
        eta = np.where(without_eta(event), self.half * MARGIN, event.p4[:, 1])
        phi = event.p4[:, 2] if self.centre is None else _turned(event.p4[:, 2], self.centre[1])
        return np.stack([eta, phi], axis=1).astype(np.float64)

    def frame(self, ax: Axes, event: Events) -> None:
        """Axes of the view."""
        (_whole_plane if self.centre is None else _close_up)(ax, event, self)


def _turned(phi: NDArray[np.floating], middle: float) -> NDArray[np.floating]:
    """Angles within π of a middle."""
    return np.asarray(middle + (phi - middle + np.pi) % (2 * np.pi) - np.pi)


def _close_up(ax: Axes, event: Events, view: View) -> None:
    eta, phi = view.centre or (0.0, 0.0)
    ax.set(xlabel="η", ylabel="φ [rad]", xlim=(eta - view.half, eta + view.half))
    ax.set_ylim(phi - view.half, phi + view.half)
    ax.minorticks_off()
    ax.set_autoscale_on(False)


def _whole_plane(ax: Axes, event: Events, view: View) -> None:
    half = view.half
    for phi in event.p4[without_eta(event), 2]:
        ax.axhline(float(phi), color=INK, lw=0.8, ls=(0, (4, 4)), alpha=0.4, zorder=1)
    for seam in (-np.pi, np.pi):
        ax.axhline(seam, color=INK, lw=0.6, alpha=0.5, zorder=1)
    ax.axvline(half, color=INK, lw=0.6, alpha=0.5, zorder=1)
    reach = np.pi + SEAM
    ax.set(xlabel="η", ylabel="φ [rad]", xlim=(-1.08 * half, 1.5 * half), ylim=(-reach, reach))
    ax.set_yticks(np.pi * np.array([-1, -0.5, 0, 0.5, 1]), ["−π", "−π/2", "0", "π/2", "π"])
    ticks = np.arange(-np.floor(half), np.floor(half) + 1, 1 if half < 4 else 2)
    margin = {MARGIN * half: "no η"} if without_eta(event).any() else {}
    ax.set_xticks([*ticks, *margin], [*(f"{t:g}".replace("-", "−") for t in ticks), *margin.values()])
    ax.minorticks_off()
    ax.set_autoscale_on(False)


# --- labels ----------------------------------------------------------------------------------


def label_centres(points: Array, radius: Array, size: Array, frame: tuple[float, float]) -> Array:
    """Centres of labels beside markers, one after the other, each on the side that hides the least.

    Parameters
    ----------
    points : ndarray, shape [N, 2]
        Centres of the markers, in points from the lower left corner of the frame.
    radius : ndarray, shape [N]
        Of the markers.
    size : ndarray, shape [N, 2]
        Width and height of the labels.
    frame : tuple of float
        Width and height of the frame, which labels should not leave.

    Returns
    -------
    ndarray, shape [N, 2]
    """
    markers = np.concatenate([points - radius[:, None], points + radius[:, None]], axis=1)
    centres = np.empty_like(points)
    boxes = np.empty((0, 4))
    for i in range(len(points)):
        candidates = points[i] + _offsets(radius[i], size[i])
        candidate_boxes = np.concatenate([candidates - size[i] / 2, candidates + size[i] / 2], axis=1)
        hidden = 3 * (size[i].prod() - _overlap(candidate_boxes, np.array([[0.0, 0.0, *frame]]))[:, 0])
        hidden += _overlap(candidate_boxes, np.delete(markers, i, axis=0)).sum(axis=1) + 2 * _overlap(
            candidate_boxes, boxes
        ).sum(axis=1)
        best = int(np.argmin(hidden + 0.02 * size[i].prod() * np.arange(len(SIDES))))
        centres[i], boxes = candidates[best], np.append(boxes, candidate_boxes[best : best + 1], axis=0)
    return centres


def _offsets(radius: float, size: Array) -> Array:
    """Offsets from the marker to the label on every side, smaller on the diagonals."""
    away = np.where(np.all(SIDES != 0, axis=1, keepdims=True), 0.7 * radius, radius + GAP)
    return np.asarray(SIDES * (away + size / 2))


def _overlap(a: Array, b: Array) -> Array:
    """Common area of boxes (left, bottom, right, top), ``[A, B]``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))
