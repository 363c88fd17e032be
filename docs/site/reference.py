"""Hook of the site: reference pages made from the package itself: functions, commands, cards, expressions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
import yaml
from mkdocs.structure.files import File
from pydantic.fields import FieldInfo

import hepxai
from hepxai.cards import Card
from hepxai.cli import app
from hepxai.datasets.card import DatasetCard
from hepxai.datasets.vocabulary import FUNCTIONS
from hepxai.models.card import model_card_classes

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hepxai"
NOT_CALLED = {"cli", "__main__", "__init__"}
"""Rooms without functions for users of Python."""


def on_config(config: Any) -> Any:
    """Add the pages of the rooms to the navigation."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    reference.append({"Modules": [f"api/{room}.md" for room in rooms()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    pages: dict[str, Callable[[], str]] = {
        "reference_api.md": front_page,
        "reference_cli.md": commands_page,
        "reference_cards.md": cards_page,
    }
    for name, write in pages.items():
        files.append(File.generated(config, name, content=write()))
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=room_page(room)))
    return files


# --- functions and classes ---------------------------------------------------------------------------


def rooms() -> list[str]:
    """Rooms of the package, by name."""
    inside = (p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists())
    return sorted(set(inside) - NOT_CALLED)


def front_page() -> str:
    """Every name of ``hepxai.__all__`` with its docstring."""
    head = (
        "# Python interface\n\nEverything that `import hepxai` gives; behind it, room by room, the modules.\n"
    )
    return head + "".join(f"\n::: hepxai.{name}\n" for name in hepxai.__all__)


def room_page(room: str) -> str:
    """Docstrings of all modules of a room; what is on the front page is left out."""
    elsewhere: dict[str, list[str]] = {}
    for name in hepxai.__all__:
        elsewhere.setdefault(getattr(hepxai, name).__module__, []).append(name)
    return f"# {room}\n" + "".join(_module(m, elsewhere.get(m, ())) for m in modules(room))


def _module(name: str, elsewhere: Any) -> str:
    filters = ["!^_", *(f"!^{n}$" for n in elsewhere)]
    package = (PACKAGE.parent / name.replace(".", "/")).is_dir()
    options: dict[str, Any] = {"members": False} if package else {"filters": filters}
    links = ", ".join(f"[`{n}`][hepxai.{n}]" for n in elsewhere)
    note = f"\nOn the front page: {links}.\n" if links else ""
    return f"\n::: {name}\n    options: {yaml.safe_dump(options, default_flow_style=True)}{note}"


def modules(room: str) -> Iterator[str]:
    """Names of the modules of a room."""
    base = PACKAGE / room
    files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_module = (path.parent / "__init__.py").is_file()  # not a script
        if is_module and not any(p.startswith("_") and p != "__init__" for p in parts):
            yield ".".join(parts).removesuffix(".__init__")


# --- commands ------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Usage, arguments and options of every command."""
    program: Any = typer.main.get_command(app)
    text = f"# Command line\n\n{_command('hepxai', program)}"
    for name, command in program.commands.items():
        text += f"\n## hepxai {name}\n\n{_command(f'hepxai {name}', command)}"
    return text


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    with redirect_stdout(StringIO()):  # fills in the names of methods, and prints
        command.format_help(context, context.make_formatter())
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    records = (p.get_help_record(context) for p in command.params)
    rows = [(f"`{r[0].strip('*').strip()}`", _prose(r[1])) for r in records if r]
    return f"{_prose(command.help)}\n\n```console\n$ {usage}\n```\n\n" + _table(("", "meaning"), rows)


def _prose(text: str | None) -> str:
    """Help as Markdown, on one line."""
    return re.sub(
        r"([<>\[\]*_])(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\\1", " ".join(inspect.cleandoc(text or "").split())
    )


# --- cards ---------------------------------------------------------------------------------------------


def cards_page() -> str:
    """Tables of the keys of all cards, and the functions of their expressions."""
    text = (
        "# Keys of the cards\n\nMade from the classes that check a card; editors get the same as JSON Schema "
        "from `hepxai cards --schema FOLDER`. [Data-set cards](dataset_card.md) and "
        "[model cards](add_a_model.md#a-new-card) have examples.\n"
    )
    described = _described(ROOT / "docs" / "dataset_card.md")
    text += "\n## Data set\n\n" + _keys(DatasetCard, described)
    parts = list(_parts(DatasetCard))
    text += "".join(f"\n### {p.__name__}\n\n{_summary(p)}\n\n{_keys(p, described)}" for p in parts)
    text += "\n## Functions of expressions\n\n" + _functions()
    seen = {DatasetCard, *parts}
    for kind, card in model_card_classes().items():
        text += f"\n## Model: {kind}\n\n{_summary(card)}\n\n" + _keys(card, {})
        for part in _parts(card):
            if part not in seen:
                text += f"\n### {part.__name__}\n\n{_summary(part)}\n\n{_keys(part, {})}"
            seen.add(part)
    return text


def _summary(card: type[Card]) -> str:
    return inspect.cleandoc(card.__doc__ or "").split("\n\nAttributes")[0].split(" See `docs")[0]


def _keys(card: type[Card], described: dict[str, dict[str, str]]) -> str:
    meaning = described.get(card.__name__, {})
    for base in reversed(card.__mro__):
        meaning = meaning | _attributes(base.__doc__ or "")
    rows = [
        (f"`{f.alias or n}`", _kind(f.annotation), _default(f), meaning.get(n) or f.description or "")
        for n, f in card.model_fields.items()
    ]
    return _table(("key", "type", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Card):
        return "its own"
    return "" if default is None or default in ((), {}, "") else f"`{_plain(default)}`"


def _plain(value: Any) -> str:
    parts = [_plain(v) for v in value] if isinstance(value, tuple) else []
    return (
        "[" + ", ".join(parts) + "]"
        if parts
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _kind(kind: Any) -> str:
    """A type in words: ``text``, ``list of Convolution``."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(inside[0])
    if origin is Literal:
        return " or ".join(f"`{v}`" for v in inside)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(k) for k in inside if k is not type(None)))
    if origin is tuple:
        return "list of " + " or ".join(dict.fromkeys(_kind(k) for k in inside if k is not ...))
    if origin is dict:
        return f"{{name: {_kind(inside[1])}}}"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _parts(card: type[Card]) -> Iterator[type[Card]]:
    """Cards inside a card, each once."""
    seen: dict[type[Card], None] = {}

    def look(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, Card) and kind not in seen:
            seen[kind] = None
            for field in kind.model_fields.values():
                look(field.annotation)
        for inside in get_args(kind):
            look(inside)

    look(card)
    return (p for p in seen if p is not card)


def _attributes(doc: str) -> dict[str, str]:
    """Attributes of a numpydoc docstring."""
    section = inspect.cleandoc(doc).partition("Attributes\n----------\n")[2]
    entries = re.findall(
        r"^(\w[\w, ]*?)(?: : [^\n]*)?\n((?:    [^\n]*\n?|\n(?=    ))*)", section + "\n", flags=re.MULTILINE
    )
    return {n.strip(): " ".join(text.split()) for names, text in entries for n in names.split(",")}


def _described(page: Path) -> dict[str, dict[str, str]]:
    """Meaning of the keys, from the tables of the page on data-set cards."""
    text = page.read_text(encoding="utf-8").partition("## Keys")[2]
    titles = {"DatasetCard": "", "Sample": "### `samples`", "Particle": "### `particles`"}
    return {name: _rows(text.partition(title)[2] if title else text) for name, title in titles.items()}


def _rows(text: str) -> dict[str, str]:
    table = re.search(r"^\|.*?(?=^$)", text, flags=re.MULTILINE | re.DOTALL)
    meaning = {}
    for line in (table[0] if table else "").splitlines()[2:]:
        keys, what, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
        anchors = re.sub(r"\]\(#", "](dataset_card.md#", what)
        meaning |= dict.fromkeys(re.findall(r"`(\w+)`", keys), anchors)
    return meaning


def _functions() -> str:
    head = (
        "What they do, and which names they can be called on: [expressions](dataset_card.md#expressions).\n\n"
    )
    rows = [(f"`{name}`", _arity(f.arity)) for name, f in FUNCTIONS.items()]
    return head + _table(("function", "arguments"), rows)


def _arity(arity: tuple[int, int | None]) -> str:
    least, most = arity
    return str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown table; a bar inside a cell is escaped."""
    lines = [head, ("---",) * len(head), *(tuple(c.replace("|", "\\|") for c in row) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
