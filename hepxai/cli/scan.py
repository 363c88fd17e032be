"""Command ``scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hepxai.cli.options import Dataset, Device, Model, Set, read_cards
from hepxai.cli.program import NetworkCommand, app, console, plain_errors


@app.command(cls=NetworkCommand)
def scan(
    dataset: Dataset,
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; an interrupted scan resumes there.")],
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE,VALUE,… or, for random and tpe, KEY=LOW..HIGH or KEY=LOW..HIGH:log; KEY is an "
            "entry of the model card, or dataset.KEY. May be repeated. Without it, --seeds trains the cards "
            "as they are."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of every point, with seeds 1, 2, …")] = 1,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="What is best: valid_auc (default), pair_attention, …, NAME:min. May be repeated."),
    ] = None,
    sampler: Annotated[str, typer.Option(help="grid, random or tpe.")] = "grid",
    trials: Annotated[int | None, typer.Option(help="Points to try, for random and tpe.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; more may join from other machines.")] = 1,
    prune: Annotated[bool, typer.Option("--prune", help="Stop trainings that are below the median.")] = False,
    overrides: Set = None,
    events: Annotated[
        int, typer.Option("--events", "-n", help="Explain this many validation events.")
    ] = 5000,
    device: Device = "cpu",
) -> None:
    """Train over values of card entries; say which is best, and how sure that is (extra `scan`)."""
    with plain_errors(out):
        from hepxai.scan import Scan

        Scan.start(
            out,
            *read_cards(dataset, model, overrides),
            over or (),
            seeds=seeds,
            objectives=objective or ("valid_auc",),
            sampler=sampler,
            trials=trials,
            explain=events,
            prune=prune,
        ).run(workers=workers, device=device)
        write_scan_page(out)


def write_scan_page(folder: Path) -> None:
    """Write the page of a scan, and print its advice."""
    from hepxai.scan import Scan, advice, write_scan

    scan = Scan.open(folder)
    page = write_scan(scan, progress=True)
    for about, sentences in advice(scan.table(), scan.dataset).items():
        console.print(f"[bold]{escape(about)}[/]")
        for sentence in sentences:
            console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"[bold green]scan:[/] {escape(str(page.resolve()))}")
