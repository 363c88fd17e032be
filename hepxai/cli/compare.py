"""Command on the maps of one run: ``compare``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hepxai.cli.options import Method, Python, RunFolder, With, method_settings
from hepxai.cli.program import ExplainingCommand, app, console, plain_errors

Target = Annotated[
    str | None, typer.Option("--target", "-t", help="Explained output; default: of the first stored map.")
]
Split = Annotated[str | None, typer.Option(help="Events: train, valid or test; default: the explained ones.")]
Most = Annotated[int, typer.Option("--max-events", "-n", min=1, help="At most so many, evenly spread.")]
Entry = Annotated[
    int | None, typer.Option(help="One image: its entry number in the input file, as in the report.")
]
File = Annotated[str, typer.Option(help="Part of the name of that file, if several have this entry.")]
Again = Annotated[
    int, typer.Option(min=0, help="Events explained twice more, for time and randomisation; 0: neither.")
]


@app.command(cls=ExplainingCommand)
def compare(
    folder: RunFolder,
    method: Method = None,
    options: With = None,
    target: Target = None,
    split: Split = None,
    max_events: Most = 64,
    entry: Entry = None,
    file: File = "",
    again: Again = 8,
    python: Python = None,
) -> None:
    """Compare maps over pixels by their faithfulness to the model, with the values by chance."""
    with plain_errors():
        from hepxai.report.displays import telling_truth
        from hepxai.report.view import RunView
        from hepxai.run import Run
        from hepxai.run.comparison import compare_run
        from hepxai.studies.comparison.cells import table_cells

        run = Run.open(folder, model=python).single()
        table, path = compare_run(
            run,
            method,
            target=target,
            split=split,
            maximum=max_events,
            entry=entry,
            file=file,
            truth=telling_truth(run.events, RunView(run).focus),
            settings=method_settings(options),
            again=again,
        )
        header, rows = table_cells(table.to_json())
        sheet = Table(*map(escape, header), title=f"{table.target}, {table.events:,} events")
        for row in rows:
            sheet.add_row(*map(escape, row))
        Console(width=250).print(sheet)  # as wide as its numbers: none is cut
        for note in table.notes:
            console.print(escape(note), highlight=False)
        console.print(f"numbers: {path} and .csv; curves: {path.with_suffix('.png')}", highlight=False)
