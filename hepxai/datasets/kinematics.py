"""Momenta from whichever of their components an ntuple holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: Value of another quantity of the same particles.
Quantities = Callable[[str], Array]

#: How ntuples spell the components in branch names.
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
#: Components in units of momentum.
MOMENTA = ("pt", "mass", "energy", "px", "py", "pz")


def convention(have: Collection[str]) -> tuple[str, ...] | None:
    """Components to read: pt, eta, phi or px, py, pz, without eta or pz for transverse momentum.

    Where a file has both, the complete one: energy goes with px, py, pz; mass with pt, eta, phi.
    """
    polar, cartesian = ("pt", "eta", "phi"), ("px", "py", "pz")
    by_energy = "energy" in have and "mass" not in have
    for components in (cartesian, polar) if by_energy else (polar, cartesian):
        if set(components) <= set(have):
            return components
    return next((c for c in (("pt", "phi"), ("px", "py")) if set(c) <= set(have)), None)


def patterns(names: Iterable[str]) -> Mapping[str, set[str]]:
    """Patterns such as ``Muon_{}``, and the components that branches of these names have under each."""
    found: dict[str, set[str]] = {}
    for name in (n for n in names if not {*n} & {*"{}"}):  # no pattern can stand for those
        for component, spellings in SPELLINGS.items():
            for spelled in spellings:
                if name.endswith(spelled):
                    found.setdefault(f"{name[: -len(spelled)]}{{}}", set()).add(component)
                if name.startswith(spelled):
                    found.setdefault(f"{{}}{name[len(spelled) :]}", set()).add(component)
                for inside in re.finditer(rf"(?<=[_.]){spelled}(?=[_.])", name):  # jet_pt_0
                    pattern = f"{name[: inside.start()]}{{}}{name[inside.end() :]}"
                    found.setdefault(pattern, set()).add(component)
    return {pattern: have for pattern, have in found.items() if convention(have)}


def _momentum2(q: Quantities, *, polar: bool) -> Array:
    """Squared momentum in double precision: it is about to be subtracted from E²."""
    if polar:
        return np.asarray(np.square(q("pt") * np.cosh(q("eta"), dtype=np.float64)))
    squares = [np.square(q(n), dtype=np.float64) for n in ("px", "py", "pz")]
    return np.asarray(squares[0] + squares[1] + squares[2])


def mass_from_energy(q: Quantities, *, polar: bool) -> Array:
    """√(E² - p²), and -√(p² - E²) where E < p, as in ROOT."""
    energy = np.asarray(q("energy"), dtype=np.float64)
    square = energy**2 - _momentum2(q, polar=polar)
    mass: Array = np.copysign(np.sqrt(np.abs(square)), square)
    return mass.astype(np.float32)


def energy_from_mass(q: Quantities) -> Array:
    """√(p² + m²), and √max(p² - m², 0) for a mass below 0, as in ROOT."""
    momentum, mass = q("pt") * np.cosh(q("eta")), np.asarray(q("mass"))
    energy = np.asarray(np.hypot(momentum, mass))
    below = mass < 0
    if below.any():
        p, m = momentum[below], mass[below]
        energy[below] = np.sqrt(np.maximum((p - m) * (p + m), 0))
    return energy


#: Quantities that follow from others, for particles stored as pt, eta, phi ...
FROM_POLAR: dict[str, Callable[[Quantities], Array]] = {
    "px": lambda q: q("pt") * np.cos(q("phi")),
    "py": lambda q: q("pt") * np.sin(q("phi")),
    "pz": lambda q: q("pt") * np.sinh(q("eta")),
}
#: ... and for those stored as px, py, pz.
FROM_CARTESIAN: dict[str, Callable[[Quantities], Array]] = {
    "pt": lambda q: np.hypot(q("px"), q("py")),
    "eta": lambda q: np.arcsinh(q("pz") / q("pt")),
    "phi": lambda q: np.arctan2(q("py"), q("px")),
}
#: Features that follow from the momenta.
DERIVED: dict[str, Callable[[Quantities], Array]] = {
    "log_pt": lambda q: np.log(q("pt")),
    "sin_phi": lambda q: np.sin(q("phi")),
    "cos_phi": lambda q: np.cos(q("phi")),
}
