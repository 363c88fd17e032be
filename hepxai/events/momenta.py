"""Components of momenta: their spellings, formulas between them, and the features that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NODE_FEATURES = ("energy", "px", "py", "pz", "pt", "log_pt", "eta", "phi", "sin_phi", "cos_phi", "mass")
#: Units of the node features that have one; momenta are in GeV whatever the file holds.
FEATURE_UNITS = dict.fromkeys(("energy", "px", "py", "pz", "pt", "mass"), "GeV") | {"phi": "rad"}
#: Spellings of the components in ntuples and arrays.
SPELLINGS = {
    "pt": ("pt", "Pt", "PT", "pT"),
    "eta": ("eta", "Eta"),
    "phi": ("phi", "Phi"),
    "mass": ("mass", "Mass", "m", "M"),
    "energy": ("energy", "Energy", "E", "e"),
    "px": ("px", "Px", "PX"),
    "py": ("py", "Py", "PY"),
    "pz": ("pz", "Pz", "PZ"),
}
#: Particles without momenta, such as detector hits; as on the cards.
NO_MOMENTA = "none"
#: Components in units of momentum.
MOMENTA = ("pt", "mass", "energy", "px", "py", "pz")


class Formula(NamedTuple):
    """A quantity that follows from others of the same particles."""

    inputs: tuple[str, ...]
    compute: Callable[..., Array]


def _mass(energy: Array, momentum2: Array) -> Array:
    """√(E² - p²), and -√(p² - E²) where E < p, as in ROOT; in double precision, for it is a difference."""
    square = np.asarray(energy, dtype=np.float64) ** 2 - momentum2
    mass: Array = np.copysign(np.sqrt(np.abs(square)), square)
    return mass.astype(np.float32)


def _mass_of_cartesian(energy: Array, *momentum: Array) -> Array:
    x, y, z = (np.square(p, dtype=np.float64) for p in momentum)
    return _mass(energy, x + y + z)


def _energy(pt: Array, eta: Array, mass: Array) -> Array:
    """√(p² + m²), and √max(p² - m², 0) for a mass below 0, as in ROOT."""
    momentum, mass = pt * np.cosh(eta), np.asarray(mass)
    energy = np.asarray(np.hypot(momentum, mass))
    below = mass < 0
    if below.any():
        p, m = momentum[below], mass[below]
        energy[below] = np.sqrt(np.maximum((p - m) * (p + m), 0))
    return energy


ENERGY_FROM_MASS = Formula(("pt", "eta", "mass"), _energy)
#: Mass of particles that are stored as pt, eta, phi, and as px, py, pz.
MASS_FROM_ENERGY = {
    "pt": Formula(
        ("energy", "pt", "eta"), lambda e, pt, eta: _mass(e, np.square(pt * np.cosh(eta, dtype=np.float64)))
    ),
    "px": Formula(("energy", "px", "py", "pz"), _mass_of_cartesian),
}
#: Quantities of particles that are stored as pt, eta, phi ...
FROM_POLAR = {
    "px": Formula(("pt", "phi"), lambda pt, phi: pt * np.cos(phi)),
    "py": Formula(("pt", "phi"), lambda pt, phi: pt * np.sin(phi)),
    "pz": Formula(("pt", "eta"), lambda pt, eta: pt * np.sinh(eta)),
}
#: ... and of those stored as px, py, pz.
FROM_CARTESIAN = {
    "pt": Formula(("px", "py"), np.hypot),
    "eta": Formula(("pz", "pt"), lambda pz, pt: np.arcsinh(pz / pt)),
    "phi": Formula(("py", "px"), np.arctan2),
}
#: Features that follow from the momenta.
DERIVED = {
    "log_pt": Formula(("pt",), np.log),
    "sin_phi": Formula(("phi",), np.sin),
    "cos_phi": Formula(("phi",), np.cos),
}


def convention(have: Collection[str]) -> tuple[str, ...] | None:
    """Components to read: pt, eta, phi or px, py, pz, without eta or pz for transverse momentum.

    If a file has both, the complete set: energy goes with px, py, pz; mass with pt, eta, phi.
    """
    polar, cartesian = ("pt", "eta", "phi"), ("px", "py", "pz")
    by_energy = "energy" in have and "mass" not in have
    for components in (cartesian, polar) if by_energy else (polar, cartesian):
        if set(components) <= set(have):
            return components
    return next((c for c in (("pt", "phi"), ("px", "py")) if set(c) <= set(have)), None)


def component_columns(
    names: Collection[str], pattern: str = "{}", spellings: Mapping[str, Sequence[str]] = SPELLINGS
) -> dict[str, str]:
    """Column of each component, with one of its spellings in the place of ``{}``."""
    columns = {c: [pattern.replace("{}", s) for s in spelled] for c, spelled in spellings.items()}
    return {c: next(n for n in found if n in names) for c, found in columns.items() if {*found} & {*names}}


class Momenta:
    """Components of the momenta of particles, and the features that follow; computed from what is given.

    Parameters
    ----------
    given : mapping of str to ndarray, shape [N]
        Components by the keys of ``SPELLINGS``, in GeV.
    what : str
        Name of the particles, for messages.

    Raises
    ------
    ValueError
        If the components are incomplete, or there is neither a mass nor an energy.
    """

    def __init__(self, given: Mapping[str, Array], what: str) -> None:
        self.given, components = dict(given), convention(given)
        if components is None:
            raise ValueError(
                f"{what} has {', '.join(given) or 'no momenta'}; give pt, eta, phi, mass or px, py, pz, "
                "energy (pt, phi for missing momentum)"
            )
        self.polar, self.transverse = components[0] == "pt", len(components) == 2
        if not self.transverse and not {"mass", "energy"} & {*given}:
            raise ValueError(f"{what} has neither mass nor energy; give a mass in GeV, 0 where it is small")
        energy = np.asarray(given["energy"] if "mass" not in given and "energy" in given else ())
        if negative := int(np.count_nonzero(energy < 0)):
            raise ValueError(
                f"{what}: {negative} of {len(energy)} energies are negative; are the columns in the order of "
                "their names?"
            )

    @classmethod
    def by_pattern(
        cls, names: Collection[str], column: Callable[[str], Array], pattern: str, what: str
    ) -> Momenta:
        """Momenta from the columns among ``names`` that are spelled by a pattern, such as ``part_{}``."""
        if pattern.count("{}") != 1:
            raise ValueError(f"expected one {{}} in p4={pattern!r}")
        columns = component_columns(names, pattern)
        return cls({c: column(n).astype(np.float64) for c, n in columns.items()}, what)

    def __getitem__(self, name: str) -> Array:
        """Values of a component or feature, ``[N]``."""
        if name not in self.given or (name == "energy" and self.polar and "mass" in self.given):
            with np.errstate(all="ignore"):  # values that are not finite are refused later
                return self._computed(name)
        return self.given[name]

    def _computed(self, name: str) -> Array:
        if self.transverse and name in ("eta", "mass", "pz"):
            return np.zeros(len(self["phi"]), dtype=np.float32)
        if name == "mass":
            formula = MASS_FROM_ENERGY["pt" if self.polar else "px"]
        else:
            kinematic = FROM_POLAR if self.polar else FROM_CARTESIAN
            formula = (kinematic | DERIVED | {"energy": ENERGY_FROM_MASS})[name]
        return formula.compute(*(self.given.get(n, self[n]) for n in formula.inputs))
