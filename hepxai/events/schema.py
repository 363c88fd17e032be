"""Schema: names, units and types of the columns of events."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hepxai.events.images import ImageLayout

SPLITS = ("train", "valid", "test")
P4 = ("pt", "eta", "phi", "mass")
DATA = "data"
"""The only class of unlabelled data."""
NOT_OF_DATA = ("classes", "targets", "target_units", "collections", "identity")
"""What a schema of data may have otherwise than that of the simulation."""


class Resolution(NamedTuple):
    """Detector resolution of a particle type: standard deviations, as expressions of a particle.

    Attributes
    ----------
    type : str
    pt, eta, phi : str
        σ(pT) [GeV], σ(η), σ(φ) [rad], such as ``0.05 * pt + 1``; "0" for a quantity that does not move. See
        `hepxai.datasets.resolutions`.
    max_eta : float, optional
        Acceptance: the largest |η|.
    """

    type: str
    pt: str
    eta: str
    phi: str
    max_eta: float | None = None


def as_resolutions(given: Mapping[str, Mapping[str, str | float]]) -> tuple[Resolution, ...]:
    """Resolutions from a mapping of types to ``pt``, ``eta``, ``phi`` and, optionally, ``max_eta``.

    Raises
    ------
    ValueError
        If a quantity is missing or unknown.
    """
    needed = ("pt", "eta", "phi")
    for name, entries in given.items():
        if missing := [n for n in needed if n not in entries]:
            raise ValueError(
                f"resolutions of {name}: no {', '.join(missing)}; give pt, eta and phi, 0 for a quantity "
                "that does not move"
            )
        if unknown := [n for n in entries if n not in Resolution._fields[1:]]:
            raise ValueError(f"resolutions of {name}: no {unknown[0]!r}; there are pt, eta, phi, max_eta")
    limits = {t: float(e["max_eta"]) if "max_eta" in e else None for t, e in given.items()}
    return tuple(
        Resolution(t, str(e["pt"]), str(e["eta"]), str(e["phi"]), limits[t]) for t, e in given.items()
    )


@dataclass(frozen=True)
class Schema:
    """Names, units and types of the columns of :class:`Events`.

    Attributes
    ----------
    features, units : tuple of str, length F
        Particle features that the model sees, and their units ("" for none).
    types : tuple of str
        Particle types; ``Events.type`` indexes this.
    classes : tuple of str
        Class names; ``Events.label`` indexes this.
    globals, global_units : tuple of str, length G
        Event-level features.
    pair_features : tuple of str
        Features of ordered pairs, computed from the four-momenta (see `hepxai.events.pair_features`).
    collections : tuple of str
        For each type, the branch prefix it was read from; friend trees point back to it.
    targets, target_units : tuple of str, length T
        Targets of a regression.
    image : ImageLayout, optional
        Features that give the rows and columns of the image.
    identity : tuple of str
        Input branches of run, luminosity block and event number, "" for none; empty if none are known.
        The macro beside friend trees compares them.
    resolutions : tuple of Resolution
        Of the types for which they are known.
    """

    features: tuple[str, ...]
    units: tuple[str, ...]
    types: tuple[str, ...]
    classes: tuple[str, ...]
    globals: tuple[str, ...] = ()
    global_units: tuple[str, ...] = ()
    pair_features: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    target_units: tuple[str, ...] = ()
    image: ImageLayout | None = None
    identity: tuple[str, ...] = ()
    resolutions: tuple[Resolution, ...] = ()

    def __post_init__(self) -> None:
        units = {"features": self.units, "globals": self.global_units, "targets": self.target_units}
        for name in ("features", "types", "classes", "globals", "targets"):
            names = getattr(self, name)
            if twice := [n for n in dict.fromkeys(names) if names.count(n) > 1]:
                raise ValueError(f"{name} has {twice[0]!r} twice; give each its own name")
        if len(self.classes) > 2 and "rest" in self.classes:
            raise ValueError("no class may be called 'rest': targets such as 'signal-rest' mean all others")
        for name in (r.type for r in self.resolutions if r.type not in self.types):
            raise ValueError(f"resolutions of {name!r}; the particle types are {', '.join(self.types)}")
        for name, of_columns in units.items():
            if len(getattr(self, name)) != len(of_columns):
                raise ValueError(f"{len(getattr(self, name))} {name} but {len(of_columns)} units")

    def to_json(self) -> str:
        """Text for the header of a file; see `from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Schema:
        """Schema that `to_json` wrote."""
        content = json.loads(text)
        image = content.pop("image", None)
        content["resolutions"] = (Resolution(*r) for r in content.get("resolutions", ()))
        names = {name: tuple(value) for name, value in content.items()}
        return Schema(**names, image=None if image is None else ImageLayout.from_json(image))

    def need_equal(self, other: Schema) -> None:
        """Refuse baseline events with another schema than the explained ones."""
        free = NOT_OF_DATA if (DATA,) in (self.classes, other.classes) else ()
        for name in (f.name for f in dataclasses.fields(self) if f.name not in ("resolutions", *free)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"the explained events have {name} {mine}, those of the baseline {theirs}; read both "
                    "with one data-set card"
                )

    def code(self, particle: str) -> int:
        """Number of a particle type, with the known names in the error."""
        if particle not in self.types:
            raise KeyError(f"no particle type {particle!r}; the card has {', '.join(self.types)}")
        return self.types.index(particle)

    def column(self, feature: str) -> int:
        """Column of a particle feature, with the known names in the error."""
        if feature not in self.features:
            raise KeyError(f"no particle feature {feature!r}; the card has {', '.join(self.features)}")
        return self.features.index(feature)
