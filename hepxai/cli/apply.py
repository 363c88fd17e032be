"""Command on a run and any number of files: ``apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hepxai.cli.options import RunFolder
from hepxai.cli.program import NetworkCommand, app, console, plain_errors


@app.command(cls=NetworkCommand)
def apply(
    folder: RunFolder,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="ROOT files: paths, patterns or URLs, with :tree where it is not that of the card."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the results; an interrupted command resumes there.")
    ] = Path("applied"),
    sample: Annotated[
        str | None,
        typer.Option(
            help="Sample of the run's card whose class and weight the events have. Default: unlabelled data."
        ),
    ] = None,
    card: Annotated[
        str | None, typer.Option(help="Data-set card that lists the files, with their classes and weights.")
    ] = None,
    explanation: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", help="Explanation of the run to repeat; may be repeated. Default: all."
        ),
    ] = None,
    scores_only: Annotated[
        bool, typer.Option("--scores-only", help="Score the events, explain none.")
    ] = False,
    entries: Annotated[int, typer.Option(min=1, help="Entries of a partition.")] = 50_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    engine: Annotated[str, typer.Option(help="processes, or dask.")] = "processes",
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler.")] = None,
) -> None:
    """Score and explain any number of files with a trained run: friend trees, and merged numbers."""
    with plain_errors(out):
        from hepxai.datasets import DatasetCard
        from hepxai.engine import apply_run
        from hepxai.run import Run

        if (card is None) == (not files):
            raise ValueError("give one of the two: ROOT files, or --card with a card that lists them")
        result = apply_run(
            Run.open(folder),
            (files or ()) if card is None else DatasetCard.find(card),
            out,
            sample=sample,
            explanations=() if scores_only else explanation,
            entries=entries,
            workers=workers,
            engine=engine,
            scheduler=scheduler,
        )
        console.print(result.cutflow)
        console.print(f"{result.population.events:,} events; friend trees and numbers in {escape(str(out))}")
        for what, reason in result.failed.items():
            console.print(
                f"[bold red]failed:[/] {escape(what)}: {escape(reason)}", highlight=False, soft_wrap=True
            )
    if result.failed:
        console.print(f"{len(result.failed)} failed, all others are done; the same command tries them again")
        raise typer.Exit(1)
