"""Response functions of the detector: efficiency, resolution, b-tag score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import erf, expit, logit, ndtri

from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import FloatArray
from hepxai.simulate.settings import Btag, Efficiency, Resolution, TagShape


def efficiency(pt: FloatArray, curve: Efficiency) -> FloatArray:
    """Probability that a particle of ``pt`` [GeV] is identified."""
    return np.asarray(0.5 * curve.plateau * (1 + erf((pt - curve.half_point) / curve.width)))


def relative_resolution(pt: FloatArray, eta: FloatArray, bins: Sequence[Resolution]) -> FloatArray:
    """Relative resolution of ``pt`` [GeV]; beyond the last bin its values hold."""
    edges = [b.abs_eta_max for b in bins]
    number = np.minimum(np.searchsorted(edges, np.abs(eta)), len(bins) - 1)
    c, s, n, linear = np.array([(b.constant, b.stochastic, b.noise, b.linear) for b in bins]).T[:, number]
    return np.asarray(np.sqrt(c**2 + s**2 / pt + (n / pt) ** 2 + (linear * pt) ** 2))


def smearing(rng: np.random.Generator, relative: FloatArray) -> FloatArray:
    """Random factors of mean one and relative width ``relative``.

    Log-normal: a Gaussian while the resolution is good, and never negative where it is bad.
    """
    sigma = np.sqrt(np.log1p(relative**2))
    return np.exp(sigma * rng.standard_normal(len(relative)) - 0.5 * sigma**2)


def tag_efficiency(pt: FloatArray, shape: TagShape) -> FloatArray:
    """Probability that a jet of one flavour passes the working point."""
    value = shape.plateau * np.tanh(pt / shape.turn_on) * (1 + shape.slope * pt)
    return np.clip(value, 1e-4, 1 - 1e-4)


def tag_score(rng: np.random.Generator, pt: FloatArray, flavour: IntArray, btag: Btag) -> FloatArray:
    """Scores in (0, 1): a logistic function of a Gaussian whose mean gives the efficiency at the threshold.

    Parameters
    ----------
    pt : ndarray, shape [N]
        GeV.
    flavour : ndarray, shape [N]
        5 for b, 4 for c, 0 for light.
    """
    per_flavour = {5: btag.b, 4: btag.c, 0: btag.light}
    conditions = [flavour == f for f in per_flavour]
    passing = np.select(conditions, [tag_efficiency(pt, s) for s in per_flavour.values()])
    spread = np.select(conditions, [s.spread for s in per_flavour.values()])
    return np.asarray(expit(logit(btag.threshold) + spread * (ndtri(passing) + rng.standard_normal(len(pt)))))
