"""DatasetCard: branches of ROOT files as particles, features, labels, weights, observers and splits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hepxai.cards import VERSION, Card, Version, entry_error
from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.expressions import Expression
from hepxai.datasets.image_card import Image, check_image
from hepxai.datasets.names import check_name, require
from hepxai.datasets.particle_card import Particle, check_resolutions
from hepxai.datasets.presentation import ExperimentLabel, Focus, Yields
from hepxai.datasets.samples import DataSample, Sample, check_data, check_samples, gives_classes
from hepxai.datasets.short_forms import Feature, Labels, Steps, listed
from hepxai.datasets.variations import (
    CardNames,
    Shift,
    Variation,
    check_variations,
    shifts_of,
    unknown_variation,
)
from hepxai.datasets.vocabulary import FUNCTIONS
from hepxai.events.images import ImageLayout
from hepxai.events.momenta import NODE_FEATURES
from hepxai.events.schema import DATA
from hepxai.events.splits import Split

#: As in `hepxai.events.pair_features`, which imports torch: that takes seconds.
PAIR_FEATURES = ("delta_eta", "delta_phi", "delta_r", "mass", "log_mass")


NANOAOD = {"run": "run", "luminosity_block": "luminosityBlock", "event": "event"}


class Identity(Card):
    """Branches that number events; none given: NanoAOD's names where the file has them."""

    run: str | None = None
    luminosity_block: str | None = None
    event: str | None = None

    @property
    def branches(self) -> dict[str, str]:
        """Branches of run, luminosity block and event number; NanoAOD's by default."""
        return self.model_dump(exclude_none=True) or dict(NANOAOD)


class Missing(Card):
    """Values of a branch that mean "missing", and their replacement."""

    values: Annotated[tuple[int | float, ...], BeforeValidator(listed, float | list[float])]
    replace: int | float = 0.0

    @field_validator("values")
    @classmethod
    def _one_nan(cls, values: tuple[int | float, ...]) -> tuple[int | float, ...]:
        return tuple(math.nan if math.isnan(v) else v for v in values)  # one object: equal cards are equal


class DatasetCard(Card):
    """Content of ROOT files and its meaning. See `docs/dataset_card.md` for every key."""

    shelf: ClassVar[Literal["datasets"]] = "datasets"
    version: Version = VERSION
    name: str
    description: str = ""
    folder: str = "."
    tree: str = "Events"
    units: Literal["GeV", "MeV"] = "GeV"
    samples: Annotated[tuple[Sample, ...], Field(min_length=1)]
    data: tuple[DataSample, ...] = ()
    simulation_only: tuple[str, ...] = ()
    labels: Labels = Field(default_factory=dict)
    targets: dict[str, Feature] = Field(default_factory=dict)
    weights: Expression = "1"
    identity: Identity = Identity()
    duplicates: Literal["refuse", "allow"] = "refuse"
    missing: dict[str, Missing] = Field(default_factory=dict)
    new_variables: dict[str, Expression] = Field(default_factory=dict)
    particles: Annotated[dict[str, Particle], Field(min_length=1)]
    selection: Steps = Field(default_factory=dict)
    features: Annotated[tuple[str, ...], Field(min_length=1)]
    pair_features: tuple[str, ...] = ()
    globals: dict[str, Feature] = Field(default_factory=dict)
    observers: dict[str, Expression] = Field(default_factory=dict)
    image: Image | None = None
    focus: Focus | None = None
    label: ExperimentLabel | None = None
    yields: Yields | None = None
    split: Split = Split()
    variations: dict[str, Variation] = Field(default_factory=dict)
    variation: str | None = None

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Errors of expressions inside are about this entry of the card."""
        try:
            yield
        except (ExpressionError, TypeError) as problem:
            raise self.error(place, str(problem)) from problem

    def located(self, folder: Path) -> Self:
        """Card with an absolute folder."""
        return self.model_copy(update={"folder": str((folder / self.folder).resolve())})

    @property
    def variation_names(self) -> tuple[str, ...]:
        """Names for `varied`: NAME_up and NAME_down, or NAME of a single alternative."""
        return tuple(shifts_of(self.variations))

    @property
    def variation_sources(self) -> dict[str, tuple[str, ...]]:
        """Sources of uncertainty, and the `variation_names` of each."""
        return {source: tuple(v.alternatives(source)) for source, v in self.variations.items()}

    def varied(self, name: str | None) -> Self:
        """Card that reads the events under a variation.

        Parameters
        ----------
        name : str or None
            One of `variation_names`; None for the nominal card.

        Raises
        ------
        CardError
            If no variation has the name.
        """
        if problem := unknown_variation(name, self.variation_names):
            raise self.error(("variations",), problem)
        return self.model_copy(update={"variation": name})

    @property
    def shift(self) -> Shift:
        """Changes of the variation that this card applies; none for the nominal card."""
        return Shift() if self.variation is None else shifts_of(self.variations)[self.variation]

    @property
    def luminosity(self) -> float | None:
        """Integrated luminosity in fb⁻¹ that cross sections are multiplied by; None without one."""
        given = None if self.yields is None else self.yields.lumi
        return given if given is not None or self.label is None else self.label.lumi

    @property
    def yield_scale(self) -> float:
        """Factor from weights to expected events; 1 without ``yields``."""
        cross_section = {"fb": 1.0, "pb": 1000.0}
        if self.yields is None or self.yields.unit == "events":
            return 1.0
        return cross_section[self.yields.unit] * float(self.luminosity or 0.0)

    @property
    def by_sample(self) -> bool:
        """True if samples give the class of an event."""
        return gives_classes(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a single one where the card has none."""
        return tuple(self.labels) or ("events",)

    @property
    def image_layout(self) -> ImageLayout | None:
        """Rows, columns and drawn types of the image."""
        return None if self.image is None else self.image.layout(self.particles)

    @property
    def node_features(self) -> tuple[str, ...]:
        """Features, with one ``is_<type>`` per particle type for `type`."""
        one_hot = tuple(f"is_{t}" for t in self.particles)
        return tuple(n for f in self.features for n in (one_hot if f == "type" else (f,)))

    @field_validator("labels")
    @classmethod
    def _one_way_of_labels(cls, labels: dict[str, str | None]) -> dict[str, str | None]:
        for name, condition in labels.items():
            if name == DATA and len(labels) > 1:
                text = "'data' is the class of unlabelled data, listed under data:; rename the class"
                raise entry_error(text, name)
            if condition is None and any(labels.values()):
                text = "no condition, but other classes have one; give all a condition, or none"
                raise entry_error(text, name)
        return labels

    @field_validator("particles", "new_variables")
    @classmethod
    def _particle_names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            check_name(name, name)
            if name in FUNCTIONS:
                raise entry_error(f"{name!r} is a function of expressions; choose another name", name)
        return named

    @field_validator("pair_features")
    @classmethod
    def _known_pair_features(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for i, name in enumerate(names):
            require("pair feature", name, PAIR_FEATURES, i)
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.labels and not self.targets:
            raise entry_error(
                "no classes; write for example [background, signal], or targets: for a regression", "labels"
            )
        check_samples(self.samples, self.labels)
        check_data(self.samples, self.data)
        self._check_features()
        if self.image is not None:
            check_image(self.image, self.particles, self.node_features)
        self._check_focus()
        self._check_yields()
        check_resolutions(self.particles, self.node_features)
        moving = {n: p.momenta is None for n, p in self.particles.items()}
        names = CardNames(moving, self.new_variables, self.globals)
        check_variations(self.variations, self.variation, names)
        for name in sorted(set(self.particles) & set(self.new_variables)):
            raise entry_error(f"{name!r} is also a particle type; choose another name", "new_variables", name)
        return self

    def _check_focus(self) -> None:
        for i, name in enumerate(self.simulation_only):
            require("observer", name, self.observers, "simulation_only", i)
        if self.focus is None:
            return
        for i, name in enumerate(self.focus.pair):
            require("particle type", name, self.particles, "focus", "pair", i)
        if self.focus.observer is not None:
            require("observer", self.focus.observer, self.observers, "focus", "observer")

    def _check_yields(self) -> None:
        if self.yields is None:
            return
        if len(self.classes) < 2:
            raise entry_error("there is no background without a second class; leave it out", "yields")
        if self.yields.unit != "events" and self.luminosity is None:
            text = "cross sections need a luminosity in fb⁻¹; write lumi: here, or under label:"
            raise entry_error(text, "yields", "unit")

    def _check_features(self) -> None:
        extra = {f for p in self.particles.values() for f in p.features}
        features = [*NODE_FEATURES, *sorted(extra), "type", *(f"is_{t}" for t in self.particles)]
        for i, name in enumerate(self.features):
            require("feature", name, features, "features", i)
        for name in self.node_features:
            if self.node_features.count(name) > 1:
                raise entry_error(f"{name!r} is listed twice; list it once", "features", name)
