"""Command on a run and unlabelled data: ``data``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hepxai.cli.options import Method, Python, RunFolder, With, method_settings
from hepxai.cli.program import ExplainingCommand, app, console, plain_errors


@app.command(cls=ExplainingCommand)
def data(
    folder: RunFolder,
    card: Annotated[
        str | None,
        typer.Option(help="Data-set card that lists the data under `data:`; default: that of the run."),
    ] = None,
    method: Method = None,
    options: With = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Simulated class to compare with; may be repeated. Default: all."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Output to explain, if there are several.")
    ] = None,
    max_events: Annotated[
        int | None, typer.Option("--max-events", "-n", min=1, help="At most so many of each, evenly spread.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the tests.")] = 0,
    python: Python = None,
) -> None:
    """Compare unlabelled data with simulation: which attribution, particle or pair differs."""
    with plain_errors():
        from hepxai.datasets import DatasetCard
        from hepxai.run import Run
        from hepxai.run.with_data import compare_run_with_data

        comparison, path = compare_run_with_data(
            Run.open(folder, model=python),
            method,
            card=None if card is None else DatasetCard.find(card),
            classes=classes,
            target=target,
            maximum=max_events,
            settings=method_settings(options),
            seed=seed,
        )
        header, rows = comparison.table()
        sheet = Table(*header, title=f"data and simulation, {comparison.target}")
        for row in rows:
            sheet.add_row(*map(escape, row))
        Console(width=200).print(sheet)  # as wide as its numbers: none is cut
        for verdict in comparison.verdicts():
            console.print(escape(verdict), highlight=False)
        console.print(f"numbers: {path} and .csv; figures beside it", highlight=False)
