"""Components of momenta in the branch names and vector objects of ntuples."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from hepxai.cards import nearest
from hepxai.events.momenta import SPELLINGS, convention

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
