"""DatasetCard: branches of ROOT files as particles, features, labels, weights, observers and splits."""

from __future__ import annotations

import keyword
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hepxai.cards import VERSION, Card, Version, entry_error, nearest
from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.expressions import Expression, names_in
from hepxai.datasets.presentation import ExperimentLabel, Focus, Yields
from hepxai.datasets.samples import DataSample, Sample, check_data
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
from hepxai.events.images import LIT, ImageAxis, ImageLayout
from hepxai.events.momenta import NODE_FEATURES
from hepxai.events.schema import DATA
from hepxai.events.splits import Split

KINEMATICS = ("pt", "eta", "phi", "mass", "energy", "px", "py", "pz")
#: As in `hepxai.events.pair_features`, which imports torch: that takes seconds.
PAIR_FEATURES = ("delta_eta", "delta_phi", "delta_r", "mass", "log_mass")


#: Pattern or object, or the branch or expression of each quantity.
Source = str | dict[str, Expression]
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


class Resolutions(Card):
    """Detector resolution: σ(pt) [GeV], σ(η), σ(φ) as numbers or expressions of the particle; acceptance."""

    pt: Expression
    eta: Expression
    phi: Expression
    max_eta: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Particle(Card):
    """One particle type: branches, cuts, order, further features and truth."""

    branches: Annotated[tuple[Source, ...], BeforeValidator(listed, Source | list[Source])]
    momenta: Literal["none"] | None = None
    mass: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cuts: Steps = Field(default_factory=dict)
    order_by: Expression = "-pt"
    max: int | None = Field(default=None, ge=1)
    features: dict[str, Feature] = Field(default_factory=dict)
    truth: dict[str, Expression] = Field(default_factory=dict)
    resolutions: Resolutions | None = None

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the features that the particles have."""
        return (*self.features, *(NODE_FEATURES if self.momenta is None else ()))

    def collection(self, name: str) -> str:
        """Prefix of the branches; the name of the type where they share none."""
        if len(self.branches) > 1:
            return name
        one = self.branches[0]
        text = one.partition("{}")[0] if isinstance(one, str) else next(iter(one.values())).rpartition("_")[0]
        prefix = text.rstrip("_.")
        return prefix if prefix.isidentifier() else name  # an expression has no prefix

    @model_validator(mode="before")
    @classmethod
    def _order_of_the_file(cls, data: Any) -> Any:
        """Without momenta there is no pt to order by."""
        without = isinstance(data, Mapping) and data.get("momenta") == "none"
        return {"order_by": "index", **data} if without else data

    @field_validator("branches")
    @classmethod
    def _patterns(cls, sets: tuple[str | dict[str, str], ...]) -> tuple[str | dict[str, str], ...]:
        if not sets:
            raise ValueError("no branches; write a pattern such as Muon_{}")
        for one in (s for s in sets if isinstance(s, str)):
            braces = one.count("{"), one.count("}"), one.count("{}")
            if braces != (1, 1, 1) and (any(braces) or one[-1:] in ("", "_")):
                raise ValueError(
                    f"found {one!r}; a pattern has one {{}} for pt, eta ..., such as Muon_{{}}, "
                    "and no other braces; an object such as a TLorentzVector is given by its name"
                )
        return sets

    @field_validator("features", "truth")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if name in (*KINEMATICS, *NODE_FEATURES, "type", "index"):
                raise entry_error(f"{name!r} is computed from the momenta; choose another name", name)
            _identifier(name)
        return named


class Axis(Card):
    """Rows or columns of the image: a feature, and the number of bins that it counts from 0, or edges."""

    feature: str
    bins: Annotated[int | tuple[float, ...], Field(union_mode="left_to_right")]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.bins, int) and self.bins > 10_000:
            raise entry_error(f"found {self.bins}; an axis of an image has at most 10,000 bins", "bins")
        try:
            ImageAxis(self.feature, self.bins)
        except ValueError as problem:
            raise entry_error(str(problem), "bins") from None
        return self


class Image(Card):
    """Image of the particles that have the features of both axes and the value."""

    rows: Axis
    columns: Axis
    value: str | None = None
    outside: Literal["error", "drop"] = "error"


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
        return bool(self.labels) and not any(self.labels.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a single one where the card has none."""
        return tuple(self.labels) or ("events",)

    @property
    def image_layout(self) -> ImageLayout | None:
        """Rows, columns and drawn types of the image."""
        if self.image is None:
            return None
        rows, columns = (ImageAxis(a.feature, a.bins) for a in (self.image.rows, self.image.columns))
        needed = (rows.feature, columns.feature, *((self.image.value,) if self.image.value else ()))
        types = tuple(t for t, p in self.particles.items() if all(f in (LIT, *p.quantities) for f in needed))
        return ImageLayout(rows, columns, types, self.image.value)

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
            _identifier(name)
            if name in FUNCTIONS:
                raise entry_error(f"{name!r} is a function of expressions; choose another name", name)
        return named

    @field_validator("pair_features")
    @classmethod
    def _known_pair_features(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for i, name in enumerate(names):
            _require("pair feature", name, PAIR_FEATURES, i)
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.labels and not self.targets:
            raise entry_error(
                "no classes; write for example [background, signal], or targets: for a regression", "labels"
            )
        self._check_samples()
        check_data(self.samples, self.data)
        self._check_features()
        self._check_image()
        self._check_focus()
        self._check_yields()
        self._check_resolutions()
        moving = {n: p.momenta is None for n, p in self.particles.items()}
        names = CardNames(moving, self.new_variables, self.globals)
        check_variations(self.variations, self.variation, names)
        for name in sorted(set(self.particles) & set(self.new_variables)):
            raise entry_error(f"{name!r} is also a particle type; choose another name", "new_variables", name)
        return self

    def _check_samples(self) -> None:
        names = [s.name for s in self.samples]
        for i, sample in enumerate(self.samples):
            if sample.name in names[:i]:
                raise entry_error(f"two samples are called {sample.name!r}; rename one", "samples", i, "name")
            if self.by_sample and sample.class_ is None:
                text = f"no class; write class: and one of {', '.join(self.labels)}, or list data under data:"
                raise entry_error(text, "samples", i)
            if not self.by_sample and sample.class_ is not None:
                why = "labels are conditions" if self.labels else "the card has no labels"
                raise entry_error(f"{why}, so samples have no class; leave it out", "samples", i, "class")
            if self.by_sample:
                _require("class", str(sample.class_), self.labels, "samples", i, "class")
        for name in self.labels if self.by_sample else ():
            if name not in {s.class_ for s in self.samples}:
                text = f"no sample has the class {name!r}; add one, or take the class out"
                raise entry_error(text, "labels", name)

    def _check_focus(self) -> None:
        for i, name in enumerate(self.simulation_only):
            _require("observer", name, self.observers, "simulation_only", i)
        if self.focus is None:
            return
        for i, name in enumerate(self.focus.pair):
            _require("particle type", name, self.particles, "focus", "pair", i)
        if self.focus.observer is not None:
            _require("observer", self.focus.observer, self.observers, "focus", "observer")

    def _check_yields(self) -> None:
        if self.yields is None:
            return
        if len(self.classes) < 2:
            raise entry_error("there is no background without a second class; leave it out", "yields")
        if self.yields.unit != "events" and self.luminosity is None:
            text = "cross sections need a luminosity in fb⁻¹; write lumi: here, or under label:"
            raise entry_error(text, "yields", "unit")

    def _check_resolutions(self) -> None:
        for name, particle in self.particles.items():
            if particle.resolutions is None:
                continue
            if particle.momenta == "none":
                raise entry_error("without momenta; leave it out", "particles", name, "resolutions")
            names = dict.fromkeys((*NODE_FEATURES, *self.node_features))
            for quantity, text in particle.resolutions.model_dump(include={"pt", "eta", "phi"}).items():
                place = ("particles", name, "resolutions", quantity)
                for variable in names_in(text):
                    _require("quantity of a particle", variable, names, *place)
                if text.startswith("-"):
                    raise entry_error(f"found {text}; a resolution is not below 0", *place)

    def _check_image(self) -> None:
        layout = self.image_layout
        if self.image is None or layout is None:
            return
        features = tuple(dict.fromkeys((*self.node_features, "pt", "eta", "phi", "mass")))
        _require("feature", layout.rows.feature, features, "image", "rows", "feature")
        _require("feature", layout.columns.feature, features, "image", "columns", "feature")
        if self.image.value is not None:
            _require("feature", self.image.value, (LIT, *features), "image", "value")
        if not layout.types:
            raise entry_error(
                f"no particle type has both {layout.rows.feature} and {layout.columns.feature}; declare them "
                "under features: of a type",
                "image",
            )
        if layout.value is None:
            self._need_value(layout)

    def _need_value(self, layout: ImageLayout) -> None:
        """Refuse an image of 0 and 1 where the particles have more to draw than a place."""
        axes = (layout.rows.feature, layout.columns.feature)
        for name in layout.types:
            momenta = ("pt",) if self.particles[name].momenta is None else ()
            more = [f for f in (*momenta, *self.particles[name].features) if f not in axes]
            if more:
                is_feature = more[0] in (*momenta, *self.node_features)
                advice = "" if is_feature else " (and list it under features:)"
                raise entry_error(
                    f"a {name} has {', '.join(more)} beside its place: write value: {more[0]}{advice} for "
                    f"its sum in each pixel, or value: {LIT} for pixels of 0 and 1",
                    "image",
                )

    def _check_features(self) -> None:
        extra = {f for p in self.particles.values() for f in p.features}
        features = [*NODE_FEATURES, *sorted(extra), "type", *(f"is_{t}" for t in self.particles)]
        for i, name in enumerate(self.features):
            _require("feature", name, features, "features", i)
        for name in self.node_features:
            if self.node_features.count(name) > 1:
                raise entry_error(f"{name!r} is listed twice; list it once", "features", name)


def _require(kind: str, name: str, names: Collection[str], *place: str | int) -> None:
    if name not in names:
        raise entry_error(f"no {kind} {name!r}{nearest(name, names)}; there are {', '.join(names)}", *place)


def _identifier(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise entry_error(f"{name!r} is not a name; use letters, digits and _", name)
