"""Commands on cards and files: ``inspect``, ``check``, ``cards``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hepxai.cli.options import Dataset, Set
from hepxai.cli.program import app, console, plain_errors


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="ROOT file, path or URL.")],
    draft: Annotated[Path | None, typer.Option(help="Write a first data-set card here.")] = None,
    match: Annotated[
        str | None, typer.Option(help="Show only branches of such names, e.g. 'Muon_*'; a draft uses all.")
    ] = None,
) -> None:
    """Show the trees and branches of a ROOT file, and draft a card for it."""
    with plain_errors():
        from hepxai.core.files import write_text
        from hepxai.datasets import draft_card, inspect_file

        if draft is not None:
            _require_new(draft)
        report = inspect_file(file, match=match)
        # Output into a pipe is searched: one line for each branch.
        page = console if console.is_terminal else Console(width=1000)
        page.print(report)
        if draft is not None:
            write_text(draft, draft_card(report if match is None else inspect_file(file)))
            text = f"card written to {draft}; look through it, then `hepxai check {draft}`"
            console.print(text, markup=False, soft_wrap=True)


def _require_new(path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder; make it first, or choose another place")


@app.command()
def check(
    dataset: Dataset,
    overrides: Set = None,
    entries: Annotated[int, typer.Option(min=1, help="Entries to read from each sample.")] = 1000,
) -> None:
    """Read a slice of every sample of a data-set card and report the result."""
    with plain_errors():
        from hepxai.datasets import DatasetCard, check_card

        card = DatasetCard.find(dataset, [o.removeprefix("dataset.") for o in overrides or ()])
        console.print(check_card(card, entries=entries))


@app.command()
def cards(
    name: Annotated[str | None, typer.Argument(help="Print this card in full.")] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write JSON Schemas of all kinds of cards, for editors."),
    ] = None,
) -> None:
    """List the data-set and model cards, or print one."""
    with plain_errors():
        if schema:
            from hepxai.cards import write_schemas
            from hepxai.datasets import DatasetCard
            from hepxai.models.card import model_card_classes

            for path in write_schemas(schema, {"dataset": DatasetCard, **model_card_classes()}):
                console.print(str(path), markup=False, soft_wrap=True)
        elif name:
            typer.echo(_card_text(name))  # a console would fold lines, and break the YAML
        else:
            console.print(_card_table())


def _card_text(name: str) -> str:
    from hepxai.cards import dump_card, find_card, list_cards
    from hepxai.models.card import ModelCard

    if name in list_cards("models"):
        return dump_card(ModelCard.find(name))
    return find_card("datasets", name).read_text(encoding="utf-8")


def _card_table() -> Table:
    from hepxai.cards import list_cards, load_card
    from hepxai.datasets import DatasetCard
    from hepxai.models.card import ModelCard

    table = Table("kind", "name", "what it is")
    for card_class in (DatasetCard, ModelCard):
        for name, path in list_cards(card_class.shelf).items():
            table.add_row(card_class.shelf, name, load_card(path, card_class).description)  # type: ignore[attr-defined]
    return table
