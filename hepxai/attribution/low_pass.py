"""Low-pass filter of maps over pixels: waves that are shorter than a limit are removed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from hepxai.attribution.result import CHANNEL_PIXELS, PIXELS, Attribution

USUAL = 15 / 224
"""Shortest wave in the published settings: 224/15 pixels of an image of 224."""


class Filtered(NamedTuple):
    """Maps with their long waves only.

    Attributes
    ----------
    values : ndarray, shape [..., R, C]
        Of the same type as before.
    power_removed : ndarray of float64, shape [...]
        Share of Σ_p a_p² that is gone; 0 for a map of zeros.
    """

    values: NDArray[Any]
    power_removed: NDArray[np.float64]


def usual_sigma(rows: int, columns: int) -> float:
    """Default of ``sigma``: 15/224 of the longer side, and enough for one wave along the shorter one."""
    longer = max(rows, columns)
    return max(USUAL * longer, longer / min(rows, columns))


def kept_waves(rows: int, columns: int, sigma: float) -> NDArray[np.bool_]:
    """Mask ``[R, C/2 + 1]`` of the Fourier components, as in `scipy.fft.rfft2`, that stay.

    A wave has ``f_r`` periods a pixel along a column and ``f_c`` along a row. It stays if
    ``sqrt(f_r² + f_c²) <= sigma / max(R, C)``; with ``sigma = 0`` none does, not even the mean (f = 0).
    """
    squared = np.add.outer(np.fft.fftfreq(rows) ** 2, np.fft.rfftfreq(columns) ** 2)
    limit = sigma / max(rows, columns)
    keep: NDArray[np.bool_] = (squared <= limit**2 * (1 + 1e-9)) & (sigma > 0)
    return keep


def filtered(values: NDArray[Any], sigma: float) -> Filtered:
    """Maps ``[..., R, C]`` without the waves that `kept_waves` leaves out.

    Raises
    ------
    ValueError
        If ``sigma`` is negative or above the longer side, which keeps everything.
    """
    rows, columns = values.shape[-2:]
    if not 0 <= sigma <= max(rows, columns):
        raise ValueError(
            f"sigma={sigma:g}; it goes from 0 (nothing stays) to the longer side of the map, "
            f"{max(rows, columns)} (everything stays)"
        )
    keep = kept_waves(rows, columns, sigma)
    if keep.all() or not values.size:
        return Filtered(values, np.zeros(values.shape[:-2]))
    waves = scipy.fft.rfft2(values) * keep
    smooth = scipy.fft.irfft2(waves, s=(rows, columns)).astype(values.dtype, copy=False)
    before, after = (np.square(v, dtype=np.float64).sum((-2, -1)) for v in (values, smooth))
    return Filtered(smooth, np.where(before > 0, 1 - after / np.where(before > 0, before, 1), 0).clip(0, 1))


def low_pass(attribution: Attribution, sigma: float | None = None) -> Attribution:
    """Any map over pixels, without its short waves [FORGrad, Muzellec et al., arXiv:2307.09591].

    The image is continued periodically, as in every Fourier transform: what is cut out at one edge may show
    up at the opposite one.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "row", "column"), or with channels, each of which is filtered.
    sigma : float, optional
        Waves with at most this many periods along the longer side stay, in any direction: those of at least
        ``max(R, C) / sigma`` pixels. 0: nothing stays, not even the mean; the longer side: everything. By
        default `usual_sigma`.

    Returns
    -------
    Attribution
        ``checks["power_removed"]`` is the mean share of Σ a² that is gone, also in the settings, beside
        ``sigma``. With ``sigma > 0`` the sum of a map, and hence its residual, stays; with 0 the residual
        is minus the change of the output. Errors are dropped.

    Raises
    ------
    ValueError
        If it is no map over pixels, or ``sigma`` is out of range.
    """
    if attribution.axes not in (PIXELS, CHANNEL_PIXELS):
        axes = ", ".join(attribution.axes)
        raise ValueError(f"a low-pass filter needs a map over pixels; {attribution.method} has {axes}")
    rows, columns = attribution.values.shape[-2:]
    width = usual_sigma(rows, columns) if sigma is None else float(sigma)
    values, removed = filtered(attribution.values, width)
    share = {"power_removed": float(removed.mean()) if removed.size else 0.0}
    change = attribution.output_change
    residual = None if change is None else values.sum(tuple(range(1, values.ndim)), dtype=np.float64) - change
    return attribution.replace(
        values=values,
        residual=residual,
        settings={**attribution.settings, "low_pass": {"sigma": width, **share}},
        checks={**attribution.checks, **share},
    )
