"""Cards: validated YAML files. Errors name the line, the value and the expected form."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from hepxai.cards.text import CardDumper, CardError, CardReader, Place, read_card, shorten

Kind = Literal["datasets", "models"]
#: Version of the keys of cards; a card of a newer version is refused.
VERSION = 1
Version = Annotated[int, Field(ge=1, description="Version of the keys of this card.")]


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the most similar of the other names, or nothing."""
    lower = {k.lower(): k for k in names if k != name}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if not close:
        return ""
    same = close[0] == name.lower()
    return f" (did you mean {lower[close[0]]!r}?{' Names are case-sensitive' if same else ''})"


@dataclass(frozen=True)
class Source:
    """File and lines of the entries of a card. All sources compare equal: the origin is not content."""

    path: str = field(default="card", compare=False)
    lines: Mapping[Place, str] = field(default_factory=dict, compare=False)

    def where(self, place: Place) -> str:
        """``file:line`` of an entry, or of the nearest one above it that is written out."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, self.path)

    def error(self, place: Place, message: str) -> CardError:
        """Error about the entry at ``place``."""
        key = f"{'.'.join(map(str, place))}: " if place else ""
        return CardError(f"{self.where(place)}: {key}{message}")


def entry_error(text: str, *place: str | int) -> PydanticCustomError:
    """Error that a validator raises about the entry at ``place`` below the validated part."""
    return PydanticCustomError("entry", "{text}", {"place": place, "text": text})


def refuse_newer(data: Any) -> None:
    """Refuse the data of a card whose version this package does not know, before any other check.

    Raises
    ------
    PydanticCustomError
    """
    version = data.get("version") if isinstance(data, Mapping) else None
    if isinstance(version, int) and version > VERSION:
        raise entry_error(
            f"found {version}; this hepxai reads cards up to version {VERSION}: update hepxai, or write the "
            f"card with the keys of version {VERSION}",
            "version",
        )


class Card(BaseModel):
    """Base of all cards and of their parts: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    shelf: ClassVar[Kind | None] = None
    _source: Source = PrivateAttr(default_factory=Source)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping | Card):
            raise entry_error(cls._no_mapping(data))
        if "version" in cls.model_fields:
            refuse_newer(data)
        keys = [f.alias or n for n, f in cls.model_fields.items()]
        for key in data if isinstance(data, Mapping) else ():
            if key not in keys and key not in cls.model_fields:
                comma = "" if str(key).isidentifier() else " (inside { } text with a comma needs quotes)"
                hint = nearest(str(key), keys) or cls._deeper(str(key))
                text = f"unknown key{hint}{comma}; the keys here are {', '.join(keys)}"
                raise entry_error(text, str(key))
        return data

    @classmethod
    def _no_mapping(cls, value: Any) -> str:
        """Error about a value where the keys of this part belong; it names the key that was meant, if any."""
        fields = {f.alias or n: f.annotation for n, f in cls.model_fields.items()}
        choices = {n: get_args(kind) for n, kind in fields.items() if get_origin(kind) is Literal}
        key = next((n for n, values in choices.items() if value in values), None)
        such = f", as in `{key}: {value}`" if key else ""
        keys = f"; the keys here are {', '.join(fields)}"
        return f"found {shorten(value)}; should be a mapping, `key: value`{such}{keys}"

    @classmethod
    def _deeper(cls, key: str) -> str:
        """`` (did you mean part.key?)`` for a key that is one of a part of the card."""
        parts = {n: f.annotation for n, f in cls.model_fields.items() if isinstance(f.annotation, type)}
        owners = [n for n, part in parts.items() if issubclass(part, Card) and key in part.model_fields]
        return f" (did you mean {owners[0]}.{key}?)" if owners else ""

    @classmethod
    def find(cls, name_or_path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Load a card by the name of a packaged one, or by path; see `find_card` and `load_card`."""
        if cls.shelf is None:
            raise TypeError(f"{cls.__name__} is a part of a card")
        return load_card(find_card(cls.shelf, name_or_path), cls, overrides)

    def located(self, folder: Path) -> Self:
        """Card with its relative paths resolved; ``folder`` is that of its file."""
        return self

    def error(self, place: Place, message: str) -> CardError:
        """Error about the entry at ``place``, with the file and line it was read from."""
        return self._source.error(place, message)


CardT = TypeVar("CardT", bound=Card)


def load_card(path: str | Path, card_class: type[CardT], overrides: Sequence[str] = ()) -> CardT:
    """Read and validate a card.

    Parameters
    ----------
    path : path
        YAML file.
    card_class : type
        Kind of the card.
    overrides : sequence of str
        ``"dotted.key=value"`` entries that replace those of the file; the value is YAML, list items
        go by number (``samples.0.weight=2``).

    Raises
    ------
    CardError
        One line per problem: ``file.yaml:LINE: key: the value; the expected form``.
    """
    if isinstance(overrides, str):
        raise TypeError(f"overrides={overrides!r}: a list is needed, as in [{overrides!r}]")
    path = Path(path)
    data, lines = read_card(path)
    for override in overrides:
        _apply(override, data, lines)
    source = Source(str(path), lines)
    try:
        card = card_class.model_validate(data).located(path.resolve().parent)
    except ValidationError as problem:
        raise CardError("\n".join(_explain(e, data, source) for e in problem.errors())) from None
    card._source = source
    return card


def dump_card(card: Card) -> str:
    """YAML that loads to an equal card; defaults are written out, so that later defaults do not change it."""
    data = card.model_dump(mode="python", by_alias=True, exclude_none=True)
    return yaml.dump(_plain(data), Dumper=CardDumper, sort_keys=False, allow_unicode=True, width=110)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


# --- where cards live ------------------------------------------------------------------------


def list_cards(kind: Kind) -> dict[str, Path]:
    """Names and paths of the cards that come with the package."""
    paths: dict[str, Path] = {}
    for root in _roots(kind):
        files = root.glob("*/card.yaml") if kind == "datasets" else root.glob("*.yaml")
        for path in files:
            paths.setdefault(path.parent.name if kind == "datasets" else path.stem, path)
    return dict(sorted(paths.items()))


def find_card(kind: Kind, name_or_path: str | Path) -> Path:
    """Path of a card: a file, or a folder with a ``card.yaml``, wins over the name of a packaged one.

    If a bare name (no ``/``, no ``.yaml``) is also that of a packaged card, only a folder with a card wins,
    with a warning.

    Raises
    ------
    CardError
        If there is none.
    """
    if kind not in get_args(Kind):
        raise CardError(f"no kind of card {kind!r}; there are {', '.join(get_args(Kind))}")
    name, cards = str(name_or_path), list_cards(kind)
    candidates = (Path(name, "card.yaml"),) if name in cards else (Path(name), Path(name, "card.yaml"))
    path = next((c for c in candidates if c.is_file()), cards.get(name))
    if path is None:
        raise _no_card(kind, name, cards)
    if name in cards and not path.samefile(cards[name]):
        warnings.warn(
            f"{path} in the working folder is used, not the card {name!r} that comes with hepxai; "
            f"give ./{name} to mean it, or rename the folder",
            stacklevel=2,
        )
    return path


def _no_card(kind: Kind, name: str, cards: Iterable[str]) -> CardError:
    have = ", ".join(cards) or "none"
    if Path(name).suffix in (".yaml", ".yml") or len(Path(name).parts) > 1:
        return CardError(f"{name}: no such file; give the path of a card, or one of {have}")
    return CardError(f"no card {name!r} in {kind}{nearest(name, cards)}; there are {have}")


def _roots(kind: Kind) -> list[Path]:
    package = Path(str(importlib.resources.files("hepxai")))
    checkout = package.parent
    # Beside an installed package, a folder `datasets` belongs to somebody else.
    ours = [checkout / kind] if (checkout / "pyproject.toml").is_file() else []
    return [package / "_cards" / kind, *ours]


# --- overrides ---------------------------------------------------------------------------------


def _apply(override: str, data: dict[str, Any], lines: dict[Place, str]) -> None:
    key, equals, text = override.partition("=")
    where = f"override {override!r}"
    if not equals or not all(parts := key.strip().split(".")):
        raise CardError(f"{where}: not of the form dotted.key=value; write for example split.seed=3")
    value = parse_value(text, where)
    holder: Any = data
    place: list[str | int] = []
    for part in parts:
        parent, index = holder, _index(holder, part, where, place)
        place.append(index)
        if isinstance(parent, dict) and parent.get(part) is None:
            parent[part] = {}
            lines[tuple(place)] = where
        holder = parent[index]
    parent[index] = value
    for old in [p for p in lines if p[: len(place)] == tuple(place)]:
        del lines[old]
    lines[tuple(place)] = where


def parse_value(text: str, where: str) -> Any:
    """Value that a user typed, by the rules of cards (YAML 1.2: 1e-3 is a number)."""
    try:
        return CardReader(where, text).read() if text.strip() else None
    except yaml.YAMLError:
        raise CardError(f"{where}: {text!r} is not valid YAML; quote it") from None


def _index(holder: Any, part: str, where: str, above: Sequence[str | int]) -> str | int:
    if isinstance(holder, dict):
        return part
    name = ".".join(map(str, above))
    if not isinstance(holder, list):
        raise CardError(f"{where}: {name} is {shorten(holder)}; it has no entry {part!r}")
    if not part.isdigit() or int(part) >= len(holder):
        raise CardError(f"{where}: {name} has no item {part!r}; items are numbered 0 to {len(holder) - 1}")
    return int(part)


# --- validation errors in the card's words -------------------------------------------------------


def _explain(error: ErrorDetails, data: Any, source: Source) -> str:
    place: list[str | int] = []
    here = data
    context = error.get("ctx", {})
    for part in error["loc"]:
        if _has(here, part):  # pydantic adds names of union members, which are not in the file
            place.append(part)
            here = here[part]
    place += context.get("place", ())
    if error["type"] == "missing":
        place.append(error["loc"][-1])
        return str(source.error(tuple(place), f"missing; add this key{_misspelt(data, place, source)}"))
    return str(source.error(tuple(place), wording(error, here, context)))


def _misspelt(data: Any, place: Sequence[str | int], source: Source) -> str:
    """Hint at the entry that an override may have meant, if it created an incomplete one."""
    if len(place) < 2 or not source.where(tuple(place)).startswith("override '"):
        return ""
    *above, name, _ = place
    for part in above:
        data = data[part]
    return nearest(str(name), map(str, data)) if isinstance(data, dict) else ""


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def wording(error: ErrorDetails, value: Any, context: Mapping[str, Any]) -> str:
    """Message of a validation error: the value; the expected form."""
    if error["type"] == "entry":
        return str(context["text"])
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"found {shorten(value)}{nearest(str(value), choices)}; should be {context['expected']}"
    message = error["msg"].removeprefix("Input ").replace("Input should", "should").partition(", unable")[0]
    if error["type"] == "dict_type":
        message = "should be a mapping, `key: value`"
    return f"found {shorten(value)}; {message}"
