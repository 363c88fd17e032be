"""Data configs of weaver, read by whitelist: inputs and their standardisation, and the data-set card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import md5
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hepxai.cards import Card, Place, entry_error, load_card, nearest
from hepxai.datasets import DatasetCard, ReadError
from hepxai.datasets.branches import Names
from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.evaluation import UnknownNameError, evaluate
from hepxai.datasets.particle_card import KINEMATICS
from hepxai.datasets.sources import find_files, open_root, opened, trees_of
from hepxai.events.momenta import NODE_FEATURES
from hepxai.models.wrappers.weaver_expressions import translate

PARTICLE, MOMENTA = "particle", ("px", "py", "pz", "energy")
RESERVED = (*KINEMATICS, *NODE_FEATURES, "type", "index")
STANDARDISATION = ("center", "scale", "min", "max", "pad_value")
ONES_LIKE = re.compile(r"\s*\w+\.ones_like\(\s*\w+\s*\)\s*")


@dataclass(frozen=True)
class Variable:
    """A variable of an input: ``clip((x - center) * scale, min, max)``, or x where there is no center.

    Attributes
    ----------
    name : str
    center : float, optional
    scale, min, max : float
    pad_value : float
        Value of the padding.
    """

    name: str
    center: float | None = None
    scale: float = 1.0
    min: float = -5.0
    max: float = 5.0
    pad_value: float = 0.0


@dataclass(frozen=True)
class InputGroup:
    """An input of the network, ``[B, len(variables), length]``.

    Attributes
    ----------
    name : str
    variables : tuple of Variable
    wraps : bool
        Padding repeats the particles (``pad_mode: wrap``).
    is_mask : bool
        1 for particles, 0 for padding.
    """

    name: str
    variables: tuple[Variable, ...]
    wraps: bool
    is_mask: bool


@dataclass(frozen=True)
class DataConfig:
    """Argument of ``get_model``, with the attributes of weaver's DataConfig."""

    input_names: tuple[str, ...]
    input_dicts: Mapping[str, Sequence[str]]
    input_shapes: Mapping[str, tuple[int, int, int]]
    label_type: str
    label_names: tuple[str, ...]
    label_value: Any
    observer_names: tuple[str, ...]


def _or_empty(kind: type) -> BeforeValidator:
    return BeforeValidator(lambda value: kind() if value is None else value)


Expressions = Annotated[dict[str, str | int | float], _or_empty(dict)]


class Preprocess(Card):
    """Standardisation of the variables."""

    method: str = "manual"
    data_fraction: float | None = None
    params: dict[str, dict[str, Any]] | None = None


class Inputs(Card):
    """Variables of an input."""

    length: int | None
    pad_mode: str = "constant"
    vars: Annotated[list[Any], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_padding(self) -> Self:
        if self.pad_mode.lower() not in ("constant", "wrap"):
            raise entry_error(f"found {self.pad_mode!r}; choose constant or wrap", "pad_mode")
        if self.length is None:
            raise entry_error("found nothing; inputs of particles need a length, as in length: 128", "length")
        return self


class Labels(Card):
    """Classes, or targets of a regression (custom)."""

    type: Literal["simple", "custom"]
    value: list[str] | dict[str, str]

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if isinstance(self.value, list) != (self.type == "simple"):
            form = "a list of branches" if self.type == "simple" else "a mapping, `name: expression`"
            raise entry_error(f"type: {self.type} needs {form}", "value")
        return self


class WeaverConfig(Card):
    """Data config of weaver. ``weights`` and ``bucketing`` concern its training, and are ignored."""

    treename: str | None = None
    branch_magic: Any = None
    file_magic: Any = None
    selection: str | None = None
    test_time_selection: str | None = None
    preprocess: Annotated[Preprocess, _or_empty(dict)] = Preprocess()
    new_variables: Expressions = Field(default_factory=dict)
    inputs: Annotated[dict[str, Inputs], Field(min_length=1)]
    labels: Labels
    observers: Annotated[list[str], _or_empty(list)] = Field(default_factory=list)
    monitor_variables: Any = None
    weights: Any = None
    bucketing: Any = None

    @model_validator(mode="after")
    def _check_support(self) -> Self:
        for key in ("branch_magic", "file_magic"):
            if getattr(self, key) is not None:
                raise entry_error("is not supported; rename the branches in the files", key)
        lengths = {name: group.length for name, group in self.inputs.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise entry_error(
                f"inputs differ in length ({listed}); one collection of particles is read", "inputs"
            )
        return self

    @staticmethod
    def load(path: str | Path) -> WeaverConfig:
        """Read a config, or the one with automatic standardisation that weaver wrote beside it."""
        file = Path(path)
        if file.is_file():
            digest = md5(file.read_bytes(), usedforsecurity=False).hexdigest()
            beside = Path(str(file).replace(".yaml", f".{digest}.auto.yaml"))
            file = beside if beside.is_file() else file
        return load_card(file, WeaverConfig)

    # --- inputs ------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Slots for particles."""
        return int(next(iter(self.inputs.values())).length or 0)

    @cached_property
    def groups(self) -> tuple[InputGroup, ...]:
        """Inputs in the order of the network's arguments.

        Raises
        ------
        CardError
            If a variable has another form, or no standardisation, or a mask is not 1 for every particle.
        """
        return tuple(self._group(name, inputs) for name, inputs in self.inputs.items())

    @property
    def variables(self) -> dict[str, Place]:
        """Variables of all inputs but masks, each once, and their places in the config."""
        places: dict[str, Place] = {}
        for group in (g for g in self.groups if not g.is_mask):
            for i, variable in enumerate(group.variables):
                places.setdefault(variable.name, ("inputs", group.name, "vars", i))
        return places

    def data_config(self) -> DataConfig:
        """Argument of ``get_model``."""
        names = {g.name: [v.name for v in g.variables] for g in self.groups}
        simple = self.labels.type == "simple"
        return DataConfig(
            input_names=tuple(names),
            input_dicts=names,
            input_shapes={name: (-1, len(listed), self.length) for name, listed in names.items()},
            label_type=self.labels.type,
            label_names=("_label_",) if simple else tuple(self.labels.value),
            label_value=self.labels.value,
            observer_names=tuple(self.observers),
        )

    def _group(self, name: str, inputs: Inputs) -> InputGroup:
        is_mask, wraps = name.endswith("_mask"), inputs.pad_mode.lower() == "wrap"
        place: Place = ("inputs", name, "vars")
        variables = tuple(self._variable(value, (*place, i)) for i, value in enumerate(inputs.vars))
        if is_mask:
            text = str(self.new_variables.get(variables[0].name, variables[0].name))
            if len(variables) > 1 or not ONES_LIKE.fullmatch(text) or wraps:
                raise self.error(
                    (*place, 0),
                    f"the mask is {text}; it has to be 1 for every particle and 0 for the padding, as in "
                    "ak.ones_like(part_energy) with pad_mode: constant",
                )
        return InputGroup(name, variables, wraps, is_mask)

    def _variable(self, value: Any, place: Place) -> Variable:
        name, *settings = value if isinstance(value, list | tuple) and value else [value]
        form = (
            f"found {value!r}; write a name, or [name, subtract_by, multiply_by, clip_min, clip_max, "
            "pad_value] with numbers, and null for the first only"
        )
        if not isinstance(name, str) or len(settings) > len(STANDARDISATION):
            raise self.error(place, form)
        if not settings and self.preprocess.method.lower().startswith("auto"):
            settings = ["auto"]
        named = dict(zip(STANDARDISATION, settings, strict=False))
        if (parameters := self.preprocess.params) is not None:
            if name not in parameters:
                text = f"no standardisation of {name!r}{nearest(name, parameters)}"
                raise self.error(("preprocess", "params"), text)
            named = {key: value for key, value in parameters[name].items() if key in STANDARDISATION}
            place = ("preprocess", "params", name)
            form = f"found {named!r}; numbers are needed, and null for center only"
        if named.get("center") == "auto":
            raise self.error(
                place,
                f"the automatic standardisation of {name!r} is not in this file; give the "
                f"{Path(self.where).stem}.HASH.auto.yaml that weaver wrote beside it in the training",
            )
        are_numbers = all(type(n) in (int, float) for k, n in named.items() if (k, n) != ("center", None))
        if not are_numbers:
            raise self.error(place, form)
        return Variable(name, **named)

    @property
    def where(self) -> str:
        """Path of the config."""
        return self._source.path

    # --- data-set card -----------------------------------------------------------------------

    def dataset(self, files: Sequence[str | Path]) -> DatasetCard:
        """Data-set card that reads the same particles, labels, observers and selection from ROOT files.

        Weights of the training are left out: every event counts 1.

        Raises
        ------
        CardError
            If an expression is free Python, or a name cannot be used; it names the line.
        """
        paths = [str(Path(f).resolve()) if "://" not in str(f) else str(f) for f in files]
        if not paths:
            raise ValueError("no ROOT file is given; add one or more behind the weights")
        features = {name: self._feature(name, place) for name, place in self.variables.items()}
        selection, place = self.selection, "selection"
        if self.test_time_selection:
            selection, place = self.test_time_selection, "test_time_selection"
        card = DatasetCard.model_validate(
            {
                "name": Path(self.where).stem.partition(".")[0],
                "description": f"Made from {Path(self.where).name}",
                "folder": str(Path(self.where).resolve().parent),
                "tree": self.treename or _only_tree(paths[0]),
                "samples": [{"name": "weaver", "files": paths}],
                **self._labels(),
                "particles": {
                    PARTICLE: {
                        **self._momenta(features),
                        "order_by": "index",
                        "max": self.length,
                        "features": features,
                    }
                },
                "selection": {place: self._translate(selection, (place,))} if selection else {},
                "features": list(features),
                "observers": {name: self._translate(name, ("observers", name)) for name in self.observers},
            }
        )
        self._check_per_particle(card, features)
        return card

    def _check_per_particle(self, card: DatasetCard, features: Mapping[str, str]) -> None:
        """Refuse variables with one value per event: weaver pads them as inputs of one particle."""
        listed = find_files(card)[0]
        with opened(listed.path, listed.tree) as tree:
            columns = _EmptyColumns(Names(tree, listed.path), tree)
            for name, text in features.items():
                try:
                    per_particle = getattr(evaluate(text, columns), "ndim", 0) > 1
                except ExpressionError as problem:
                    raise self.error(self.variables[name], str(problem)) from None
                if not per_particle:
                    raise self.error(
                        self.variables[name],
                        f"{name!r} has one value per event, which weaver pads as one particle; multiply it "
                        "by ak.ones_like of a variable of the particles, and train again",
                    )

    def _feature(self, name: str, place: Place) -> str:
        if name in RESERVED:
            raise self.error(place, f"{name!r} is computed from the momenta; rename it, as in part_{name}")
        return self._translate(name, place)

    def _labels(self) -> dict[str, Any]:
        values = self.labels.value
        if isinstance(values, dict):
            targets = {n: self._translate(t, ("labels", "value", n)) for n, t in values.items()}
            return {"targets": targets}
        places = {v: ("labels", "value", i) for i, v in enumerate(values)}
        return {"labels": {class_name(v): f"({self._translate(v, p)}) == 1" for v, p in places.items()}}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the classes, or of the targets of a regression."""
        values = self.labels.value
        return tuple(values) if isinstance(values, dict) else tuple(map(class_name, values))

    def _momenta(self, features: Mapping[str, str]) -> dict[str, Any]:
        """Momenta from the input of four-vectors px, py, pz, energy; none without one."""
        for group in self.groups:
            names = [v.name for v in group.variables]
            if "vector" in group.name and len(names) == len(MOMENTA):
                return {"branches": {c: features[n] for c, n in zip(MOMENTA, names, strict=True)}}
        branch = next((text for text in features.values() if text.isidentifier()), None)
        if branch is None:
            raise self.error(
                ("inputs",), "no variable is a branch; add an input pf_vectors of px, py, pz, energy"
            )
        return {"branches": {branch: branch}, "momenta": "none"}

    def _translate(self, text: str, place: Place) -> str:
        variables = {name: str(value) for name, value in self.new_variables.items()}
        try:
            return translate(text, variables)
        except ExpressionError as problem:
            origin = ("new_variables", text) if text in variables else place
            raise self.error(origin, str(problem)) from None


class _EmptyColumns:
    """Values of names in an expression: columns of a tree without entries."""

    def __init__(self, names: Names, tree: Any) -> None:
        self.names, self.tree = names, tree

    def place(self, row: int) -> str:
        """File of an event."""
        return self.names.where

    def __call__(self, name: str) -> Any:
        """Empty column."""
        if name not in self.names.all_names:
            raise UnknownNameError(name, self.names.where, self.names.all_names)
        return self.names.empty(name, self.tree)

    in_file = __call__


def class_name(label: str) -> str:
    """Name of a class: ``QCD`` for ``label_QCD``."""
    return label.removeprefix("label_") or label


def _only_tree(path: str) -> str:
    with open_root(path) as file:
        trees = list(trees_of(file))
    if len(trees) != 1:
        raise ReadError(f"{path} has the trees {', '.join(trees) or '(none)'}; write treename: in the config")
    return trees[0]
