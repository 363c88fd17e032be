"""Likelihood ratio of one quantity, from histograms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepxai.core.binning import bin_of
from hepxai.core.estimate import Array


def log_likelihood_ratio(
    observer: Array, signal: NDArray[np.bool_], weight: Array, edges: Array, at: Array
) -> Array:
    """Logarithm of the ratio of signal and background densities of a quantity, at some values of it.

    By the lemma of Neyman and Pearson no function of the quantity alone separates better. Added to the logit
    of a network it shows the information that the network does not use, as far as the two are independent.

    Parameters
    ----------
    observer, weight : ndarray, shape [E]
        Events that fill the histograms; not those that are judged. Weights are signed.
    signal : ndarray of bool, shape [E]
    edges : ndarray, shape [B+1]
        Values outside count to the nearest bin.
    at : ndarray, shape [K]

    Returns
    -------
    ndarray, shape [K]
        0 for NaN. Bins get half an event of each class, of the mean |weight|, more than they have, and none
        is negative.

    Raises
    ------
    ValueError
        If the weights of a class have no positive sum.
    """
    inside = np.clip(observer, edges[0], edges[-1])
    density = []
    for name, in_class in (("signal", signal), ("background", ~signal)):
        w = weight[in_class & (bin_of(inside, edges) >= 0)]
        if not w.sum() > 0:
            raise ValueError(f"the weights of the {name} sum to {w.sum():g}; a density needs a positive sum")
        half = 0.5 * np.abs(w[w != 0]).mean()
        filled = np.histogram(inside[in_class], edges, weights=weight[in_class])[0].clip(min=0) + half
        density.append(filled / filled.sum())
    ratio = np.log(density[0] / density[1])
    position = bin_of(np.clip(at, edges[0], edges[-1]), edges)
    return np.where(position < 0, 0.0, ratio[position])
