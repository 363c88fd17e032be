"""YAML text of cards: plain data with the line of every entry, and back."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]


class CardError(ValueError):
    """Invalid card; the message names the line, the value and the expected form."""


_DEEPEST = 40  # levels of a card
_LARGEST = 2**19  # bytes of a card
_MOST = 20_000  # entries of a card, and those that its aliases repeat


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-3` is a number; `on`, `no`, `1:30` and dates are text.

    Levels without end, and aliases of aliases, are refused: they take memory and time out of proportion.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[int, int] = {}  # entries below each node, aliases written out
        self._depth = self._repeated = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        where = f"{self.name}:{event.start_mark.line + 1 if event.start_mark else 1}"
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CardError(f"{where}: more than {_DEEPEST} levels; put text with brackets in quotes")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            self._sizes[id(node)] = sum((self._sizes[id(n)] for n in _below(node)), 1)
        elif id(node) not in self._sizes:
            raise CardError(f"{where}: an anchor refers to itself; write the value out")
        else:
            self._repeated += self._sizes[id(node)]
        if len(self._sizes) + self._repeated > _MOST:
            raise CardError(
                f"{where}: more than {_MOST:,} entries, with what aliases repeat; write fewer, as with a "
                "pattern for files (dy_*.root)"
            )
        return node


def _below(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [n for pair in node.value for n in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


class CardDumper(yaml.SafeDumper):
    """YAML that `CardReader` reads back: no aliases, and text that looks like a number in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal values out wherever they are."""
        return True

    def _represent(self, data: str) -> yaml.ScalarNode:
        # Only in double quotes do the rarer line breaks survive.
        style = '"' if any(c in data for c in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9]*\.[0-9]+|[0-9]+\.)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": (r"<<", "<"),
}
CardDumper.add_representer(str, CardDumper._represent)
for _dialect in (_Loader, CardDumper):
    _dialect.yaml_implicit_resolvers = {}
    for _tag, (_pattern, _first) in _SCALARS.items():
        _dialect.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class CardReader:
    """Builds plain data from YAML nodes and remembers the line of every entry."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.loader = name, _Loader(text)
        self.loader.name = name
        self.lines: dict[Place, str] = {}

    def read(self) -> Any:
        """Data of the whole text."""
        node = self.loader.get_single_node()
        return {} if node is None else self._build(node, ())

    def _build(self, node: yaml.Node, place: Place) -> Any:
        self.lines.setdefault(place, self._line(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(n, place, i) for i, n in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self.loader.construct_object(node)
        except ValueError:  # !!int text, or more digits than Python converts
            value = math.inf
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        too_long = isinstance(value, int) and not -(2**63) <= value < 2**64
        if is_number and (too_long or (math.isinf(value) and "inf" not in node.value.lower())):
            raise CardError(
                f"{self._line(node)}: found {shorten(node.value)}; whole numbers have 64 bits, others are "
                "below 1.8e308; write for example 1e20, or put text in quotes"
            )
        return value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        seen: dict[str, str] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise CardError(f"{self._line(key)}: a key is text, not a list or mapping; put it in quotes")
            name = str(key.value)
            if name in seen:
                raise CardError(f"{self._line(key)}: {name}: written twice, first at {seen[name]}; keep one")
            seen[name] = self._line(key)
        self.loader.flatten_mapping(node)  # `<<: *anchor`
        built = {}
        for key, value in node.value:
            name = str(key.value)
            self.lines[(*place, name)] = self._line(key)
            built[name] = self._build(value, (*place, name))
        return built

    def _item(self, node: yaml.Node, place: Place, number: int) -> Any:
        value = self._build(node, (*place, number))
        if isinstance(value, str):  # lists of expressions become mappings: text -> text
            self.lines.setdefault((*place, value), self._line(node))
        return value

    def _line(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def read_card(path: Path) -> tuple[Any, dict[Place, str]]:
    """Data of a card, and the line of every entry.

    Raises
    ------
    CardError
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CardError(f"{path}: larger than {_LARGEST:,} bytes; give the path of a YAML card")
        reader = CardReader(str(path), path.read_text(encoding="utf-8"))
        data = reader.read()
    except OSError as problem:
        raise CardError(f"{path}: cannot be read: {problem.strerror}; give the path of a YAML card") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise _not_yaml(path, problem) from None
    if not isinstance(data, dict):
        raise CardError(f"{path}:1: found {shorten(data)}; a card is a mapping of `key: value` lines")
    return data, reader.lines


def _not_yaml(path: Path, problem: Exception) -> CardError:
    mark = getattr(problem, "problem_mark", None)
    place = f"{path}:{mark.line + 1}" if mark else str(path)
    what = getattr(problem, "problem", None) or str(problem)
    return CardError(f"{place}: not valid YAML: {what}; check indentation, colons and quotes")


def shorten(value: Any) -> str:
    """Value for a message, cut where it is long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
