"""Means over weighted populations, with statistical errors and intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from hepxai.core.html import html_table
from hepxai.core.sums import RatioSums

ONE_SIGMA = 0.682689
"""Coverage of an interval of one standard error."""
ROUNDING = 1e-9
LONGEST = 20
"""Values of an estimate that are listed in a notebook."""
FEWEST = 4.0
"""Minimum of effective entries for a mean that is used without its error."""
Array = NDArray[np.float64]


class OutOfRangeWarning(UserWarning):
    """Value outside its range, because weights of both signs leave too few effective events."""


@dataclass(frozen=True)
class Estimate:
    """Values with statistical errors of the same shape; 0-dimensional for a single number.

    Attributes
    ----------
    value, error : ndarray of float64
    n_eff : float
        Effective number of events, (Σw)² / Σw².
    interval : tuple of two ndarray, optional
        Ends of a central 68.3 % interval; by default value - error and value + error.
    spread : mapping of str to ndarray
        One standard deviation of what else varies, by its source: "training" is that of single trainings.
    """

    value: Array
    error: Array
    n_eff: float
    interval: tuple[Array, Array] | None = None
    spread: Mapping[str, Array] = field(default_factory=dict)

    @staticmethod
    def of(values: NDArray[np.floating], weight: Array) -> Estimate:
        """Weighted mean of independent values over the first axis; see `ratio_mean`."""
        return ratio_mean(np.asarray(values, dtype=np.float64), np.ones(len(values)), weight)

    def to_json(self) -> dict[str, float]:
        """``value``, ``error`` and spreads of a single number, ends of its interval, and ``n_eff``."""
        ends = {} if self.interval is None else {"low": float(self.low), "high": float(self.high)}
        spread = {source: float(s) for source, s in self.spread.items()}
        return {"value": float(self.value), "error": float(self.error), **spread, **ends, "n_eff": self.n_eff}

    @staticmethod
    def from_json(entry: Mapping[str, float | None]) -> Estimate:
        """Estimate from the entries of `to_json`; None, which a file has in place of NaN, is NaN."""
        number = {k: np.asarray(math.nan if v is None else v, dtype=float) for k, v in entry.items()}
        interval = (number.pop("low"), number.pop("high")) if "low" in number else None
        value, error, n_eff = (number.pop(name) for name in ("value", "error", "n_eff"))
        return Estimate(value, error, float(n_eff), interval, number)

    @property
    def text(self) -> str:
        """Value and error with two significant digits of the error."""
        return str(self)

    def __repr__(self) -> str:
        return f"<Estimate: {self}, n_eff {self.n_eff:.4g}>"

    def _repr_html_(self) -> str:
        """Text, or a table of the first values, for notebooks."""
        n_eff = f"{self.n_eff:.4g} effective events"
        if np.ndim(self.value) == 0:
            return html_table(str(self), (), (), n_eff)
        places = list(np.ndindex(np.shape(self.value)))
        rows = [(", ".join(map(str, p)), self.at(p)) for p in places[:LONGEST]]
        more = f"; {len(places) - LONGEST} more values" if len(places) > LONGEST else ""
        return html_table("Estimate", ("place", "value"), rows, n_eff + more)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Values, without their errors."""
        return np.array(self.value, dtype=dtype, copy=copy)

    def at(self, place: tuple[int, ...]) -> Estimate:
        """One of several values, as an estimate of its own."""
        ends = None if self.interval is None else (self.low[place], self.high[place])
        spread = {source: s[place] for source, s in self.spread.items()}
        return Estimate(self.value[place], self.error[place], self.n_eff, ends, spread)

    @property
    def low(self) -> Array:
        """Lower end of the interval."""
        return np.asarray(self.value - self.error) if self.interval is None else self.interval[0]

    @property
    def high(self) -> Array:
        """Upper end of the interval."""
        return np.asarray(self.value + self.error) if self.interval is None else self.interval[1]

    def bounded(
        self, what: str, least: float = 0.0, most: float = 1.0, *, size: float | Array | None = None
    ) -> Estimate:
        """Estimate of a quantity with a limited range, with an interval inside this range.

        The interval is that of Clopper and Pearson for a binomial share p of n events. With the variance V
        of the share, ``n = (p (1 - p) + 1/n₀) / (V + 1/n₀²)``. This is p (1 - p) / V away from the ends of
        the range, for any weights of the events that pass, and n₀ at the ends, where V vanishes. A perfect
        score therefore has an error too: half of its interval. In toys of 30 to 2,000 events the coverage is
        at least .68, and higher if few events pass or fail.

        Parameters
        ----------
        what : str
            Name of the quantity, for the warning.
        least, most : float
            Ends of the range.
        size : float or ndarray, optional
            Number of events n₀; ``n_eff`` by default.

        Warns
        -----
        OutOfRangeWarning
            If a value is outside the range, because weights of both signs nearly cancel.
        """
        n = np.asarray(self.n_eff if size is None else size, dtype=np.float64)
        share, spread = (self.value - least) / (most - least), self.error / (most - least)
        inside = np.nan_to_num(np.clip(share, 0, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            count = (inside * (1 - inside) + 1 / n) / (np.nan_to_num(spread) ** 2 + 1 / n**2)
        none = np.isnan(share) | ~(n > 0)
        low, high = clopper_pearson(inside, np.where(none, 0.0, count))
        low, high = (least + (most - least) * np.where(none, v, e) for v, e in ((0, low), (1, high)))
        vanishes = ~(spread > ROUNDING) & ~np.isnan(share)
        error = np.where(vanishes, (high - low) / 2, self.error)
        estimate = Estimate(self.value, error, self.n_eff, (np.asarray(low), np.asarray(high)), self.spread)
        return estimate.within(what, least, most)

    def within(self, what: str, least: float, most: float) -> Self:
        """Same estimate, with an `OutOfRangeWarning` if a value is outside a range; see `bounded`."""
        outside = np.atleast_1d((self.value < least - ROUNDING) | (self.value > most + ROUNDING))
        if outside.any():
            text = f"{self}" if np.ndim(self.value) == 0 else f"{self.value[outside]}"
            warnings.warn(
                f"{what} is {text}, not between {least:g} and {most:g}: {cancellation(self.n_eff)}",
                OutOfRangeWarning,
                stacklevel=3,
            )
        return self

    @property
    def outside(self) -> NDArray[np.bool_]:
        """True for values outside their interval, and so outside the range of a `bounded` quantity."""
        return np.asarray((self.value < self.low - ROUNDING) | (self.value > self.high + ROUNDING))

    def __format__(self, spec: str) -> str:
        return self._formatted(lambda v: format(v, spec)) if spec else str(self)

    def __str__(self) -> str:
        """Text with two significant digits of the smallest statistical error, and what else varies."""
        if np.ndim(self.value):
            return " ± ".join(map(str, (self.value, self.error, *self.spread.values())))
        if not np.isfinite(self.value):
            return f"{self:.3g}"
        ends = (float(self.value - self.low), float(self.high - self.value), float(self.error))
        if not (errors := [e for e in ends if 0 < e < math.inf]):
            return f"{self:.4g}"
        places = 1 - math.floor(math.log10(min(errors)))
        if places > 6 or abs(self.value) >= 1e7:
            return self._formatted(lambda v: f"{v:.{6 if v == self.value else 2}g}")
        return self._formatted(
            lambda v: f"{round(v, places):.{max(places, 0)}f}" if math.isfinite(v) else "∞"
        )

    def _formatted(self, number: Callable[[float], str]) -> str:
        value, low, high = (float(v) for v in (self.value, self.low, self.high))
        if math.isnan(value):
            return "unknown"
        if math.isinf(value):
            return f"> {number(low)}" if math.isfinite(low) else "∞"
        up, down = number(high - value), number(value - low)
        more = "".join(f" ± {number(float(s))} ({source})" for source, s in self.spread.items())
        if self.outside or nearly_equal(high - value, value - low) or math.isnan(high):
            note = " (outside its range)" if self.outside else ""
            return f"{number(value)} ± {number(float(self.error))}{more}{note}"
        return f"{number(value)} +{up} -{down}{more}"


def nearly_equal(up: float, down: float) -> bool:
    """True for two ends of an interval that differ by less than a tenth: one error says the same."""
    return abs(up - down) <= 0.1 * max(up, down)


class Spread(Protocol):
    """Numbers with an error, and what else varies."""

    @property
    def error(self) -> Array:
        """Statistical error."""

    @property
    def spread(self) -> Mapping[str, Array]:
        """One standard deviation of what else varies, by its source."""


def total_error(numbers: Spread) -> Array:
    """Statistical error and all spreads in quadrature; the error alone where there is no spread."""
    parts = [np.asarray(numbers.error), *map(np.asarray, numbers.spread.values())]
    return np.asarray(np.sqrt(np.sum(np.square(np.broadcast_arrays(*parts)), axis=0)))


def cancellation(n_eff: float) -> str:
    """Reason for a value outside its range, and the remedy."""
    return (
        f"weights of both signs leave only {n_eff:.2g} effective events; take more events, or those whose "
        "weights do not cancel"
    )


def clopper_pearson(value: Array, n_eff: Array, *, level: float = ONE_SIGMA) -> tuple[Array, Array]:
    """Central interval of a share [Clopper & Pearson, Biometrika 26 (1934) 404].

    The coverage is at least ``level``, also if no event passes or all do. For weighted events the effective
    number of events is used, which is an approximation; see `Estimate.bounded`.
    """
    passed = np.clip(value, 0, 1) * n_eff
    failed, tail = n_eff - passed, (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = betaincinv(passed, failed + 1, tail)
        high = betaincinv(passed + 1, failed, 1 - tail)
    return np.where(passed <= 0, 0.0, low), np.where(failed <= 0, 1.0, high)


def share(flags: NDArray[np.generic], weight: Array, what: str) -> Estimate:
    """Weighted fraction of events, with the interval of `Estimate.bounded`.

    Parameters
    ----------
    flags : ndarray, shape [E]
        True, or a number from 0 to 1.
    weight : ndarray, shape [E]
    what : str
        Name of the quantity, for the warning.
    """
    return Estimate.of(np.asarray(flags, dtype=np.float64), weight).bounded(what)


def effective(weight: Array) -> float:
    """Effective number of events, (Σw)² / Σw²; 0 if all weights are 0."""
    return float(weight.sum() ** 2 / np.sum(weight**2)) if weight.any() else 0.0


def weighted_mean(values: NDArray[np.floating], weight: Array, what: str, remedy: str) -> Array:
    """Mean over the first axis, for use as a reference value without its error.

    Raises
    ------
    ValueError
        If weights of both signs leave fewer than `FEWEST` effective events. The error of the mean then
        exceeds half of the spread of the values, and the mean may be outside their range.
    """
    if (n := effective(weight)) < FEWEST and (n == 0 or (weight.min() < 0 < weight.max())):
        raise ValueError(
            f"there is no mean of {what}: the weights of {len(weight)} entries nearly cancel, leaving "
            f"{n:.2g} effective ones, at least {FEWEST:g} are needed; {remedy}"
        )
    return np.asarray(np.average(values.astype(np.float64), axis=0, weights=weight))


def as_json(figures: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Figures of merit for JSON; see `Estimate.to_json`."""
    return {name: estimate.to_json() for name, estimate in figures.items()}


def ratio_mean(total: NDArray[np.float64], size: NDArray[np.number], weight: NDArray[np.float64]) -> Estimate:
    """Weighted mean per entry of a clustered population, events being the independent units.

    The mean is Σ_e w_e t_e / Σ_e w_e n_e for event totals ``t`` over ``n`` entries; its variance is the
    linearised (sandwich) one, Σ_e w_e² (t_e - mean n_e)² / (Σ_e w_e n_e)², times E/(E-1) [Cochran,
    Sampling Techniques, ch. 6]. Signed weights stay signed.

    Parameters
    ----------
    total : ndarray, shape [E, ...]
    size : ndarray, shape [E]
    weight : ndarray, shape [E]

    Returns
    -------
    Estimate
        NaN where no event contributes or the weights sum to zero.
    """
    sums = RatioSums.of(total, size, weight)
    return Estimate(sums.mean, sums.error, sums.n_eff)


def as_arrays(estimates: Sequence[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and errors of a sequence of estimates."""
    return np.array([e.value for e in estimates]), np.array([e.error for e in estimates])
