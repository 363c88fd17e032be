"""Components of momenta: formulas between them, and how branch names spell them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepxai.cards import nearest

Array = NDArray[Any]

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

# --- branch names ---------------------------------------------------------------------------------

#: Spellings of the components in the branch names of ntuples.
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
#: Members of ROOT's vector classes (TLorentzVector, TVector2, ROOT::Math::LorentzVector) ...
_MEMBERS = {
    "pt": "fPt",
    "eta": "fEta",
    "phi": "fPhi",
    "mass": "fM",
    "energy": "fE fT",
    "px": "fX",
    "py": "fY",
    "pz": "fZ",
}
#: ... and the members that contain them.
_HOLDERS = ("", "fP.", "fCoordinates.")


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


def patterns(names: Iterable[str]) -> Mapping[str, set[str]]:
    """Patterns such as ``Muon_{}``, and the components that branches of these names have under each."""
    components: dict[str, set[str]] = {}
    for name in (n for n in names if not {*n} & {*"{}"}):  # no pattern can stand for those
        for component, spellings in SPELLINGS.items():
            for spelled in spellings:
                if name.endswith(spelled):
                    components.setdefault(f"{name[: -len(spelled)]}{{}}", set()).add(component)
                if name.startswith(spelled):
                    components.setdefault(f"{{}}{name[len(spelled) :]}", set()).add(component)
                for inside in re.finditer(rf"(?<=[_.]){spelled}(?=[_.])", name):  # jet_pt_0
                    pattern = f"{name[: inside.start()]}{{}}{name[inside.end() :]}"
                    components.setdefault(pattern, set()).add(component)
    return {pattern: have for pattern, have in components.items() if convention(have)}


def spellings(pattern: str, name: str) -> list[str]:
    """Possible names of a quantity: ``Muon_pt`` under ``Muon_{}``, ``lep.fP.fX`` in an object ``lep``."""
    spelled = SPELLINGS.get(name, (name,))
    if "{}" in pattern:
        return [pattern.replace("{}", s) for s in spelled]
    inside = (*spelled, *_MEMBERS.get(name, "").split())
    return [f"{pattern.rstrip('.')}.{holder}{s}" for holder in _HOLDERS for s in inside]


def objects(names: Collection[str]) -> Mapping[str, set[str]]:
    """Momentum components of each ROOT vector object among the columns of a tree."""
    suffixes = {f".{h}{s}": c for c, texts in _MEMBERS.items() for s in texts.split() for h in _HOLDERS}
    ends = {suffix.lstrip("."): suffix for suffix in suffixes}
    vectors: dict[str, set[str]] = defaultdict(set)
    for name in names:
        parts = name.split(".")
        for n in (2, 1):
            if (suffix := ends.get(".".join(parts[-n:]))) and len(parts) > n:
                vectors[name.removesuffix(suffix)].add(suffixes[suffix])
                break
    return vectors


class BranchMap(dict[str, str | None]):
    """Branch or expression of each quantity of a particle type, or None; resolved once per file.

    Parameters
    ----------
    pattern : str or mapping of str to str
        A pattern with ``{}`` has the quantity in that place; one without is an object such as a
        TLorentzVector. A mapping gives branches or expressions.
    names : collection of str
        Names of all branches.
    """

    def __init__(self, pattern: str | Mapping[str, str], names: Collection[str]) -> None:
        super().__init__()
        self.pattern, self.names = pattern, names

    def __missing__(self, name: str) -> str | None:
        if isinstance(self.pattern, str):
            source = next((s for s in spellings(self.pattern, name) if s in self.names), None)
        else:
            source = self.pattern.get(name) or (self.pattern.get("E") if name == "energy" else None)
        self[name] = source
        return source

    @cached_property
    def have(self) -> list[str]:
        """Components of momentum that the file has."""
        return [n for n in SPELLINGS if self[n]]

    @cached_property
    def components(self) -> tuple[str, ...] | None:
        """Components of momentum to read; None where they are incomplete."""
        return convention(self.have)

    @property
    def hint(self) -> str:
        """Similar pattern or object of the file, for messages."""
        if not isinstance(self.pattern, str):
            return ""
        return nearest(self.pattern, [*patterns(self.names), *objects(self.names)])

    @property
    def quantities(self) -> list[str]:
        """Names that can be asked for, for messages."""
        if not isinstance(self.pattern, str):
            return [*self.pattern]
        before, after = self.pattern.split("{}") if "{}" in self.pattern else (f"{self.pattern}.", "")
        branches = [b for b in self.names if b.startswith(before) and b.endswith(after)]
        return [b[len(before) : len(b) - len(after)] for b in branches]
