"""Numbers and names in texts and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
GREEK = {"mumu": "μμ", "tautau": "ττ", "mu": "μ", "tau": "τ", "gamma": "γ", "gammagamma": "γγ"}
SYMBOLS = {
    "muon": "μ",
    "electron": "e",
    "tau": "τ",
    "photon": "γ",
    "jet": "j",
    "bjet": "b",
    "met": "MET",
    "puppimet": "MET",
}


def symbol(particle: str) -> str:
    """Short name of a particle type for a figure: ``muon`` becomes μ; unknown names stay as they are."""
    return SYMBOLS.get(particle.lower(), particle)


def observer_name(name: str) -> str:
    """Axis label of an observer: ``mass_mumu`` becomes m(μμ) [GeV]; unknown names stay as they are."""
    kind, _, what = name.partition("_")
    if kind not in ("mass", "pt") or not what:
        return name
    symbol = "m" if kind == "mass" else "pT"
    return f"{symbol}({GREEK.get(what, what)}) [GeV]"


def decimals(error: float) -> int:
    """Decimals that show two significant digits of an error."""
    return 1 - math.floor(math.log10(error))


def real(value: float | None) -> float:
    """Return a number as read from JSON, which writes NaN and infinity as null: NaN for None."""
    return math.nan if value is None else float(value)


def general(value: float | None, digits: int = 4) -> str:
    """Write a number with some significant digits; an en dash for None and NaN, ∞ for infinity."""
    value = real(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return mantissa.replace("-", "−") + (f"×{_ten(int(exponent))}" if exponent else "")


def _ten(power: int) -> str:
    return f"10{str(power).translate(SUPERSCRIPT)}"


def percentage(share: float | None, error: float | None = None, *, least: int = 0) -> str:
    """Write a share as a percentage: two significant digits of its error, or of itself without one.

    Parameters
    ----------
    share, error : float, optional
        0.5 is 50 %. None and NaN are an en dash.
    least : int
        Decimals that are always written where there is no error.
    """
    value, spread = 100 * real(share), 100 * real(error)
    if math.isfinite(value) and math.isfinite(spread) and spread > 0:
        return f"({measured(value, spread)}) %"
    if math.isnan(value):
        return general(value)
    if value == 0 or math.isinf(value) or (places := decimals(abs(value))) > 4:
        return f"{general(value, 2)} %"
    return f"{fixed(value, max(places, least, 0))} %"


def measured(
    value: float | None, error: float | None = None, *spreads: float | None, between: str = " ± "
) -> str:
    """Write a value with its error, two significant digits of the error; see `general` for the others.

    Further errors follow with the same decimals. None is left out; NaN is "unknown".
    """
    value, error = real(value), real(error)
    more = [float(s) for s in spreads if s is not None]
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return between.join(general(v) for v in ((value, error, *more) if more else (value,)))
    places = decimals(error)
    extreme, rounding = places > 5 or abs(value) >= 1e7, error < 1e-6 * abs(value)
    if extreme and (rounding or 1e-3 <= abs(value) < 1e7):
        return between.join([general(value, 6), *(general(e, 2) for e in (error, *more))])
    if extreme:
        power = math.floor(math.log10(max(abs(value), error)))
        inside = measured(*(v / 10**power for v in (value, error, *more)), between=between)
        return f"({inside})×{_ten(power)}"
    return between.join([fixed(value, places), fixed(error, places), *(_error(e, places) for e in more)])


def _error(error: float, places: int) -> str:
    if math.isfinite(error):
        return fixed(error, places)
    return "unknown" if math.isnan(error) else "∞"


def with_errors(value: float, errors: Mapping[str, float]) -> str:
    """Write a value with several errors, each with its name: two significant digits of the largest.

    Errors that are not finite are left out; one that rounds to zero is given by its upper bound.
    """
    finite = {name: error for name, error in errors.items() if math.isfinite(error)}
    largest = max(finite.values(), default=0.0)
    if not (math.isfinite(value) and largest > 0 and -3 <= (places := decimals(largest)) <= 5):
        texts = {name: general(error, 2) for name, error in finite.items()}
        return general(value, 6) + "".join(f" ± {error} ({name})" for name, error in texts.items())
    least = 10.0**-places
    parts = {
        n: fixed(e, places) if e >= least / 2 or e == 0 else f"<{fixed(least, places)}"
        for n, e in finite.items()
    }
    return fixed(value, places) + "".join(f" ± {error} ({name})" for name, error in parts.items())


def fixed(value: float, places: int) -> str:
    """Round to a number of decimals, tens and hundreds for negative ones; never a negative zero."""
    return f"{round(value, places) + 0.0:.{max(places, 0)}f}".replace("-", "−")


def common_power(largest: float) -> int:
    """Power of ten, a multiple of three, to take out of a set of numbers; 0 where they read well."""
    if not (math.isfinite(largest) and largest > 0) or 0.05 <= largest < 1e4:
        return 0
    return 3 * math.floor(math.log10(largest) / 3)


def scaled(label: str, power: int) -> str:
    """Axis label with the power of ten taken out of the numbers, as part of the unit: ``[10⁻³ logit]``."""
    if power == 0:
        return label
    before, bracket, unit = label.rpartition("[")
    return f"{before}[{_ten(power)} {unit}" if bracket else f"{label} [{_ten(power)}]"
